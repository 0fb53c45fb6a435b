"""Ids of entries: `ms-seq` on the wire, nanoseconds inside. Pure.

Entry `ms-seq` is the timestamp `ms * 10^6 + seq` ns, so that its place in the flow is its id.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from typing import NamedTuple

from store.errors import BadRequest
from store.timerange import MAX_NS

NS_PER_MS = 1_000_000
_ID = re.compile(r"(0|[1-9][0-9]{0,13})(?:-(0|[1-9][0-9]{0,5}|\*))?")


# Made for each entry: a named tuple is made in a third of the time.
class Wanted(NamedTuple):
    """An entry to be appended. `id_ns`: the id it must have. `ms`: the millisecond it must be in. None of
    both: whenever it comes."""

    data: bytes
    id_ns: int | None = None
    ms: int | None = None


def text_of(id_ns: int) -> str:
    """An id on the wire."""
    ms, seq = divmod(id_ns, NS_PER_MS)
    return f"{ms}-{seq}"


def id_of(text: str) -> int:
    """The id that a text writes; one without `-seq` is the first of its millisecond. Raises `BadRequest`."""
    ms, seq = _parts(text)
    if seq == "*":
        raise BadRequest("An entry id is `ms-seq`.")
    return ms * NS_PER_MS + int(seq)


def wanted_of(data: bytes, text: str) -> Wanted:
    """An entry with the id that its sender chose, `ms-seq` or `ms-*`; `*` leaves all of it to the store.
    Raises `BadRequest`."""
    if text == "*":
        return Wanted(data)
    ms, seq = _parts(text)
    return Wanted(data, ms=ms) if seq == "*" else Wanted(data, ms * NS_PER_MS + int(seq))


def _parts(text: str) -> tuple[int, str]:
    found = _ID.fullmatch(text)
    if found is None or (int(found[1]) + 1) * NS_PER_MS >= MAX_NS:
        raise BadRequest("An entry id is `ms-seq`.")
    return int(found[1]), found[2] or "0"


def assigned(wanted: Sequence[Wanted], last_ns: int, now_ns: int) -> list[int]:
    """The ids of entries that follow `last_ns`: strictly increasing, and the time where nothing speaks
    against it. Raises `BadRequest` for an id that its sender chose and that is taken or passed."""
    now_ns -= now_ns % NS_PER_MS
    ids = []
    for each in wanted:
        if each.id_ns is not None:
            chosen = each.id_ns
        elif each.ms is not None:
            chosen = max(each.ms * NS_PER_MS, last_ns + 1)
            if chosen >= (each.ms + 1) * NS_PER_MS:
                raise BadRequest("The id of an entry must be greater than that of the one before.")
        else:
            chosen = max(now_ns, last_ns + 1)
        if not last_ns < chosen < MAX_NS:
            raise BadRequest("The id of an entry must be greater than that of the one before.")
        ids.append(chosen)
        last_ns = chosen
    return ids
