"""Entries on their way in: many side by side, and what ids they get. Pure."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import NamedTuple

from store.errors import BadRequest
from store.streams.ids import NS_PER_MS, instant_of
from store.timerange import MAX_NS

PASSED = "The id of an entry must be greater than that of the one before."


# Made for each entry of some batches: a named tuple is made in a third of the time.
class Wanted(NamedTuple):
    """The id of an entry to be appended. `id_ns`: which it must be. `ms`: the millisecond it must be in. None
    of both: whichever comes."""

    id_ns: int | None = None
    ms: int | None = None


@dataclass(frozen=True, slots=True)
class Entries:
    """Entries to be appended in order, their bytes side by side. `wanted`: of each, the id; None where nobody
    asked for any, so that nothing need be made for each."""

    data: bytes
    lengths: Sequence[int]
    wanted: Sequence[Wanted] | None = None


def entries_of(pieces: Sequence[bytes], wanted: Sequence[Wanted] | None = None) -> Entries:
    """Entries by the bytes of each."""
    return Entries(b"".join(pieces), [len(piece) for piece in pieces], wanted)


def joined(calls: Sequence[Entries]) -> Entries:
    """The entries of several calls behind each other, their ids left out."""
    if len(calls) == 1:
        return calls[0]
    return Entries(b"".join([each.data for each in calls]), [n for each in calls for n in each.lengths])


def wanted_of(text: str) -> Wanted:
    """The id that the sender of an entry chose, `ms-seq` or `ms-*`; `*` leaves all of it to the store. Raises
    `BadRequest`."""
    if text == "*":
        return Wanted()
    ms, seq = instant_of(text)
    return Wanted(ms=ms) if seq == "*" else Wanted(ms * NS_PER_MS + int(seq))


def assigned(entries: Entries, last_ns: int, now_ns: int) -> list[int]:
    """The ids of entries that follow `last_ns`: strictly increasing, and the time where nothing speaks
    against it. Raises `BadRequest` for an id that its sender chose and that is taken or passed."""
    now_ns -= now_ns % NS_PER_MS
    if entries.wanted is None:
        first = max(now_ns, last_ns + 1)
        if first + len(entries.lengths) > MAX_NS:
            raise BadRequest(PASSED)
        return list(range(first, first + len(entries.lengths)))
    ids = []
    for each in entries.wanted:
        last_ns = _following(each, last_ns, now_ns)
        ids.append(last_ns)
    return ids


def _following(wanted: Wanted, last_ns: int, now_ns: int) -> int:
    if wanted.id_ns is not None:
        chosen = wanted.id_ns
    elif wanted.ms is not None:
        chosen = max(wanted.ms * NS_PER_MS, last_ns + 1)
        if chosen >= (wanted.ms + 1) * NS_PER_MS:
            raise BadRequest(PASSED)
    else:
        chosen = max(now_ns, last_ns + 1)
    if not last_ns < chosen < MAX_NS:
        raise BadRequest(PASSED)
    return chosen
