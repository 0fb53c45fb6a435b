"""The values of the key-value API that cross the metadata protocol, and what its listings mean. Pure."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from functools import lru_cache
from itertools import zip_longest
from typing import Final, NamedTuple

from store.metadata.rows import ObjectRow

INLINE_BYTES: Final = 64 * 1024
"""Bytes up to this many may live in the database itself; more of them are a media object's."""
_LAST: Final = 0x10FFFF
_BEFORE_SURROGATES, _AFTER_SURROGATES = 0xD7FF, 0xE000


class KeyRow(NamedTuple):
    """A key as it was in one snapshot: a name, and the immutable bytes that it points to.

    The bytes are `data`, or those of `object`; one of the two is set. `version` is never used again, not for
    a key that was deleted and made anew either. `created_ns` is when this version was written.
    """

    name: str
    version: int
    created_ns: int
    size_bytes: int
    content_type: str
    data: bytes | None
    object: ObjectRow | None


@dataclass(frozen=True, slots=True)
class PutKey:
    """Point a key at bytes: `data`, or a reserved object's, whose row is `object` from now on.

    `version`: that of the row it replaces, 0 where there must be none, None to replace whatever is there.
    `released_ns`: from when on an object that loses this key counts as allocated (see `Metadata.collect`),
    if it was never registered; so readers have time to finish.
    """

    name: str
    size_bytes: int
    content_type: str
    created_ns: int
    released_ns: int
    data: bytes | None = None
    object: ObjectRow | None = None
    version: int | None = None


@dataclass(frozen=True, slots=True)
class DeleteKey:
    """Remove a key; `version` and `released_ns` as in PutKey."""

    name: str
    released_ns: int
    version: int | None = None


class KeyRange(NamedTuple):
    """Names from `start` on, up to and without `stop` (None: all that follow), by code points."""

    start: str
    stop: str | None

    def holds(self, name: str) -> bool:
        """Whether a name is in it."""
        return self.start <= name and (self.stop is None or name < self.stop)

    @property
    def is_empty(self) -> bool:
        """Whether no name can be in it."""
        return self.stop is not None and self.stop <= self.start


EVERYTHING: Final = (KeyRange("", None),)


@dataclass(frozen=True, slots=True)
class KeyQuery:
    """A listing: the names in any of the ranges (ascending, disjoint), strictly behind `after`."""

    ranges: tuple[KeyRange, ...]
    limit: int
    after: str | None = None


def prefixed(prefix: str) -> KeyRange:
    """The names that begin with a prefix."""
    return KeyRange(prefix, _successor(prefix))


def _successor(prefix: str) -> str | None:
    """The least text greater than all that begin with the prefix; None when there is none."""
    while prefix:
        last = ord(prefix[-1])
        if last < _LAST:
            following = _AFTER_SURROGATES if last == _BEFORE_SURROGATES else last + 1
            return prefix[:-1] + chr(following)
        prefix = prefix[:-1]
    return None


def common(ranges: Iterable[KeyRange], other: KeyRange) -> tuple[KeyRange, ...]:
    """The parts of ranges that lie in another one, in their order."""
    found = []
    for each in ranges:
        stops = [stop for stop in (each.stop, other.stop) if stop is not None]
        part = KeyRange(max(each.start, other.start), min(stops) if stops else None)
        if not part.is_empty:
            found.append(part)
    return tuple(found)


@lru_cache(maxsize=256)
def visible(marks: tuple[tuple[str, bool], ...]) -> tuple[KeyRange, ...]:
    """The names that may be seen. `marks`: by prefix, whether; for each name its longest prefix counts, and
    what has none is not seen."""
    seen = dict(marks)
    ends = {text for prefix in seen for text in prefixed(prefix) if text is not None}
    ranges: list[KeyRange] = []
    starts = sorted(ends)
    for start, stop in zip_longest(starts, starts[1:]):
        # Between two ends the same prefixes hold for every name.
        if not _mark(seen, start):
            continue
        if ranges and ranges[-1].stop == start:
            ranges[-1] = ranges[-1]._replace(stop=stop)
        else:
            ranges.append(KeyRange(start, stop))
    return tuple(ranges)


def _mark(seen: Mapping[str, bool], name: str) -> bool:
    for length in range(len(name), -1, -1):
        if name[:length] in seen:
            return seen[name[:length]]
    return False


def listed(query: KeyQuery, names: Iterable[str]) -> tuple[list[str], bool]:
    """What a listing of these names gives: the oracle of every implementation."""
    found = sorted(
        name
        for name in names
        if any(each.holds(name) for each in query.ranges) and (query.after is None or name > query.after)
    )
    return found[: query.limit], len(found) > query.limit
