"""Entries as they are read: in order, their bytes side by side. Pure."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from itertools import accumulate


@dataclass(frozen=True, slots=True)
class Page:
    """Entries in order. `ends[i]`: where in `data` entry i ends; it starts where the one before ends."""

    ids: Sequence[int] = ()
    ends: Sequence[int] = ()
    data: bytes = b""

    @property
    def starts(self) -> list[int]:
        """Where in `data` each entry starts."""
        return [0, *self.ends[:-1]] if self.ends else []

    def entries(self) -> Iterator[tuple[int, bytes]]:
        """Ids and bytes."""
        for id_ns, start, end in zip(self.ids, self.starts, self.ends, strict=True):
            yield id_ns, self.data[start:end]


EMPTY = Page()


def most(lengths: Sequence[int], first: int, last: int, most_bytes: int) -> int:
    """The end of the longest run from `first` up to `last` within so many bytes, of one entry at least."""
    total, end = 0, first
    while end < last and (end == first or total + lengths[end] <= most_bytes):
        total += lengths[end]
        end += 1
    return end


def runs(starts: Sequence[int], lengths: Sequence[int], first: int, last: int) -> Iterator[tuple[int, int]]:
    """Start and size of stretches of bytes that hold the entries from `first` up to `last` and nothing
    else."""
    begin = end = starts[first] if first < last else 0
    for place in range(first, last):
        if starts[place] != end:
            yield begin, end - begin
            begin = starts[place]
        end = starts[place] + lengths[place]
    if end > begin:
        yield begin, end - begin


def page(
    ids: Sequence[int],
    starts: Sequence[int],
    lengths: Sequence[int],
    span: tuple[int, int],
    read: Callable[[int, int], bytes],
) -> Page:
    """The entries of a span of places, read by start and size."""
    first, last = span
    pieces = [read(start, size) for start, size in runs(starts, lengths, first, last)]
    data = pieces[0] if len(pieces) == 1 else b"".join(pieces)
    return Page(list(ids[first:last]), list(accumulate(lengths[first:last])), data)


def joined(pages: Sequence[Page]) -> Page:
    """Pages of one stream, one behind the other."""
    found = [each for each in pages if each.ids]
    if len(found) < 2:
        return found[0] if found else EMPTY
    ids = [id_ns for each in found for id_ns in each.ids]
    lengths = [len(data) for each in found for _, data in each.entries()]
    return Page(ids, list(accumulate(lengths)), b"".join(each.data for each in found))
