"""The frames of a push, taken apart; and of a pull, put together. Pure."""

from __future__ import annotations

import re
from collections.abc import Sequence
from itertools import accumulate
from operator import sub

import orjson

from store.errors import BadRequest
from store.streams.asked import MOST_ENTRIES
from store.streams.entries import Entries, Wanted, entries_of, wanted_of
from store.streams.flows import check_sid
from store.streams.ids import text_of, texts_of
from store.streams.page import Page

_OFFSETS = re.compile(r" *[0-9]+ *(?:, *[0-9]+ *)*")
Batch = tuple[list[str] | None, Entries]
"""Entries, and for each the stream it is for; None where they all are for the one of the path."""


def batch(header: str, blob: bytes) -> Batch:
    """The entries of a batch: what its header says of its bytes. Raises `BadRequest`.

    `0,3,8`: where each starts. As JSON `[3, 8]`, where each ends, or else where each starts; or
    `[[stream, end], ...]`, or `[[stream, id, end], ...]`.
    """
    if header.lstrip().startswith("["):
        return _json(header, blob)
    pieces = header.split(",")
    if _OFFSETS.fullmatch(header) is None:
        raise BadRequest("The offsets of a batch are numbers with commas between.")
    if len(max(pieces, key=len)) > 12:
        raise BadRequest("An offset lies behind the end of the batch.")
    return None, Entries(blob, _by_starts(list(map(int, pieces)), blob))


def _json(header: str, blob: bytes) -> Batch:
    try:
        items = orjson.loads(header)
    except orjson.JSONDecodeError as exc:
        raise BadRequest("The header of a batch is no JSON.") from exc
    if not items:
        raise BadRequest("A batch has an entry at least.")
    if all(type(item) is int for item in items):
        return None, Entries(
            blob, _by_ends(items, blob) if items[-1] == len(blob) else _by_starts(items, blob)
        )
    if not all(isinstance(item, list) and len(item) in (2, 3) for item in items):
        raise BadRequest(
            "The header of a batch has numbers, or lists of a stream, perhaps an id, and an end."
        )
    if not all(type(item[-1]) is int and all(isinstance(text, str) for text in item[:-1]) for item in items):
        raise BadRequest("In the header of a batch streams and ids are strings, ends are numbers.")
    if items[-1][-1] != len(blob):
        raise BadRequest("The last entry must end where the batch does.")
    lengths = _by_ends([item[-1] for item in items], blob)
    names = [check_sid(item[0]) for item in items]
    if all(len(item) == 2 for item in items):
        return names, Entries(blob, lengths)
    return names, Entries(blob, lengths, [wanted_of(item[1]) if item[2:] else Wanted() for item in items])


def _by_ends(ends: Sequence[int], blob: bytes) -> list[int]:
    return _lengths([0, *ends[:-1]], ends, blob)


def _by_starts(starts: Sequence[int], blob: bytes) -> list[int]:
    if starts[0] != 0:
        raise BadRequest("The first entry must start where the batch does.")
    return _lengths(starts, [*starts[1:], len(blob)], blob)


def _lengths(starts: Sequence[int], ends: Sequence[int], blob: bytes) -> list[int]:
    if len(starts) > MOST_ENTRIES:
        raise BadRequest(f"A batch has at most {MOST_ENTRIES} entries.")
    lengths = list(map(sub, ends, starts))
    if min(lengths) < 0:
        raise BadRequest("The offsets of a batch must not decrease, nor lie behind its end.")
    return lengths


def by_stream(names: Sequence[str], entries: Entries) -> dict[str, Entries]:
    """The entries of each stream."""
    places: dict[str, list[int]] = {}
    for place, name in enumerate(names):
        places.setdefault(name, []).append(place)
    if len(places) == 1:
        return {names[0]: entries}
    starts, wanted = list(accumulate(entries.lengths, initial=0)), entries.wanted
    return {
        name: entries_of(
            [entries.data[starts[place] : starts[place + 1]] for place in chosen],
            None if wanted is None else [wanted[place] for place in chosen],
        )
        for name, chosen in places.items()
    }


def offsets(page: Page) -> bytes:
    """`[[id, start], ...]`"""
    return orjson.dumps(list(zip(texts_of(page.ids), page.starts, strict=True)))


def named(pages: Sequence[tuple[str, Page]]) -> tuple[bytes, bytes]:
    """`[[stream, id, start], ...]` and the bytes, of several streams in the order of the ids."""
    found = sorted(
        (
            (id_ns, place, sid, data)
            for place, (sid, page) in enumerate(pages)
            for id_ns, data in page.entries()
        ),
        key=lambda entry: entry[:2],
    )
    items, at = [], 0
    for id_ns, _, sid, data in found:
        items.append((sid, text_of(id_ns), at))
        at += len(data)
    return orjson.dumps(items), b"".join(data for *_, data in found)
