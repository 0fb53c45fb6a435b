"""One file of a hot log: records behind each other, and in the end an index, by which it is an object."""

from __future__ import annotations

import os
from bisect import bisect_right
from dataclasses import dataclass, field
from pathlib import Path

from store.errors import Unavailable
from store.media.disk import translated
from store.streams.entries import Entries
from store.streams.records import (
    HOT_HEADER_BYTES,
    RECORD_HEADER_BYTES,
    Head,
    Record,
    hot_tail,
    read_record,
    record,
    record_size,
)

_READ_BYTES = 4 << 20


def name_of(number: int) -> str:
    """What a file of a hot log is called."""
    return f"{number:016d}.log"


@dataclass(slots=True, eq=False)
class HotFile:
    """One file. `end`: behind its last good record. `lengths` is extended last: as many entries as it has
    are there. `next_path`: where the file behind it will be, which each commit looks for."""

    number: int
    path: Path
    fd: int
    head: Head
    ids: list[int] = field(default_factory=list)
    starts: list[int] = field(default_factory=list)
    lengths: list[int] = field(default_factory=list)
    end: int = HOT_HEADER_BYTES
    next_path: Path = field(init=False)

    def __post_init__(self) -> None:
        self.next_path = self.path.with_name(name_of(self.number + 1))

    @property
    def count(self) -> int:
        """How many entries there are."""
        return len(self.lengths)

    @property
    def last(self) -> int:
        """The id of the last entry, or of that before the file."""
        count = self.count
        return self.ids[count - 1] if count else self.head.base

    @property
    def entry_bytes(self) -> int:
        """How many bytes the entries have; none of them counts less than it costs."""
        return self.end - HOT_HEADER_BYTES

    @property
    def following(self) -> Head:
        """What the file after this one says, if nothing more comes in here."""
        return Head(self.last, self.head.ordinal + self.count, self.head.size_before + self.entry_bytes)

    def behind(self, id_ns: int) -> int:
        """The place of the first entry after an id."""
        return bisect_right(self.ids, id_ns, 0, self.count)

    def read(self, start: int, size_bytes: int) -> bytes:
        """Bytes that are there. Raises `errors.Unavailable`."""
        try:
            data = os.pread(self.fd, size_bytes, start)
        except OSError as exc:
            raise translated(exc) from exc
        if len(data) < size_bytes:
            raise Unavailable("The hot log is shorter than it was.")
        return data

    def write(self, ids: list[int], entries: Entries) -> None:
        """Append entries, durably. Raises OSError; then nothing was appended."""
        head, found = record(ids, entries, self.end)
        try:
            self._put(head, entries.data)
            os.fdatasync(self.fd)
        except OSError:
            # What was not acknowledged must not turn up later.
            os.ftruncate(self.fd, self.end)
            raise
        self._take(found)

    def has_more(self) -> bool:
        """Whether anything is behind the last good record; a few microseconds."""
        return os.fstat(self.fd).st_size > self.end

    def read_on(self) -> None:
        """Take in records that another process wrote, once they are durable."""
        found, end = list[Record](), self.end
        while size_bytes := record_size(os.pread(self.fd, RECORD_HEADER_BYTES, end)):
            left = max(0, os.fstat(self.fd).st_size - end)
            data = memoryview(os.pread(self.fd, min(left, max(size_bytes, _READ_BYTES)), end))
            begin = end
            while (each := read_record(data, end - begin, end)) is not None:
                found.append(each)
                end = each.end
            if end == begin:
                break
        if found:
            os.fdatasync(self.fd)
        for each in found:
            self._take(each)

    def cut(self) -> None:
        """Cut off what a dead process left half written; with the log's lock held."""
        if self.has_more():
            os.ftruncate(self.fd, self.end)

    def finish(self) -> None:
        """Make a file that nothing is appended to any more an object of entries: not durable yet. It may be
        done again."""
        tail = hot_tail(self.head, self.ids, self.starts, self.lengths)
        # It may have become an object before, that nobody may write to.
        if os.pread(self.fd, len(tail) + 1, self.end) != tail:
            os.ftruncate(self.fd, self.end)
            self._put(tail)

    def _put(self, *pieces: bytes) -> None:
        """Write behind the last good record."""
        done = os.pwritev(self.fd, pieces, self.end)
        if done == sum(map(len, pieces)):
            return
        view, at = memoryview(b"".join(pieces))[done:], self.end + done
        while view:
            done = os.pwrite(self.fd, view, at)
            view, at = view[done:], at + done

    def _take(self, found: Record) -> None:
        """Make the entries of a record known."""
        self.ids.extend(found.ids)
        self.starts.extend(found.starts)
        self.end = found.end
        self.lengths.extend(found.lengths)
