"""The hot log of one stream: a folder of files that entries are appended to until they are sealed.

    <number>.log     entries in order; appended to while it is the last one, removed once it is sealed
    lock             held (flock) while a process appends; removed with the folder when the stream goes

Several processes may append and read. Every method blocks, and one at a time may run; the lists of a
`HotFile` only grow, `lengths` last, so that they may be read meanwhile.
"""

from __future__ import annotations

import contextlib
import fcntl
import os
from bisect import bisect_right
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path

from store.errors import BadRequest, Error, NotFound, Unavailable
from store.media.disk import translated
from store.streams.ids import Wanted, assigned
from store.streams.records import (
    ENTRY_BYTES,
    HOT_HEADER_BYTES,
    RECORD_HEADER_BYTES,
    Broken,
    Head,
    Record,
    hot_head,
    read_hot_head,
    read_record,
    record,
)

_READ_BYTES = 32 << 20
_MODE = 0o600
DELETED = "The stream has been deleted."


@dataclass(frozen=True, slots=True)
class Sizes:
    """When a file is full, and how many may wait to be sealed before nothing more is taken."""

    entries: int = 1000
    file_bytes: int = 9_500_000
    backlog: int = 256


@dataclass(slots=True, eq=False)
class HotFile:
    """One file. `end`: behind its last good record. `lengths` is extended last: as many entries as it has
    are there."""

    number: int
    path: Path
    fd: int
    head: Head
    ids: list[int] = field(default_factory=list)
    starts: list[int] = field(default_factory=list)
    lengths: list[int] = field(default_factory=list)
    end: int = HOT_HEADER_BYTES

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

    def take(self, found: Record) -> None:
        """Make the entries of a record known."""
        self.ids.extend(found.ids)
        self.starts.extend(found.starts)
        self.end = found.end
        self.lengths.extend(found.lengths)


class HotFolder:
    """The files of one stream. `files`: oldest first. `retired`: files that are gone, to be closed where
    nobody reads them."""

    def __init__(self, path: Path, sizes: Sizes) -> None:
        self.path = path
        self._sizes = sizes
        self.files: tuple[HotFile, ...] = ()
        self.retired: list[HotFile] = []

    def open(self) -> None:
        """Find what there is."""
        with self._translated():
            self._look()

    def begin(self, head: Head, now_ns: int) -> None:
        """Make the folder and its first file, if nobody has yet. The folder may exist already."""
        with self._translated():
            made = not self.path.exists()
            self.path.mkdir(mode=0o700, parents=True, exist_ok=True)
            if made:
                _sync_folder(self.path.parent)
                _sync_folder(self.path.parent.parent)
            with self._locked():
                self._look()
                if not self.files:
                    self._remove_broken()
                    self._begin(1, Head(head.base, head.ordinal, head.size_before, now_ns), sync=True)

    def append(self, calls: Sequence[Sequence[Wanted]], now_ns: int) -> list[list[int] | BadRequest]:
        """The ids of the entries of each call, durable when it returns; a call whose ids cannot be changes
        nothing and gets its error.

        Raises `errors.Full`, `errors.Unavailable`, `errors.NotFound` when the stream has gone; then nothing
        was appended.
        """
        with self._translated(), self._locked():
            self._catch_up()
            if len(self.files) > self._sizes.backlog:
                raise Unavailable("Too many entries wait to be sealed.")
            file = self.files[-1]
            last, ids, entries = file.last, list[int](), list[bytes]()
            outcomes: list[list[int] | BadRequest] = []
            for wanted in calls:
                try:
                    found = assigned(wanted, last, now_ns)
                except BadRequest as exc:
                    outcomes.append(exc)
                    continue
                outcomes.append(found)
                ids += found
                entries += [each.data for each in wanted]
                last = ids[-1] if ids else last
            if ids:
                if self._is_full(file):
                    file = self._begin_after(file, now_ns, sync=False)
                self._write(file, ids, entries)
            return outcomes

    def rotate(self, now_ns: int, older_ns: int) -> bool:
        """Begin a new file when the last one was begun `older_ns` ago and has entries; whether it did."""
        with self._translated(), self._locked():
            self._catch_up()
            file = self.files[-1]
            if not file.count or now_ns - file.head.begun_ns < older_ns:
                return False
            self._begin_after(file, now_ns, sync=True)
            return True

    def refresh(self) -> None:
        """Take in what other processes did."""
        with self._translated():
            self._look()

    def is_behind(self) -> bool:
        """Whether another process has done something since; a few microseconds."""
        if not self.files:
            return True
        newest = self.files[-1]
        if os.fstat(newest.fd).st_size > newest.end or self._path(newest.number + 1).exists():
            return True
        return not self.files[0].path.exists()

    def drop(self, file: HotFile) -> None:
        """Remove a file that is sealed: never the last one."""
        with self._translated():
            file.path.unlink(missing_ok=True)
            self.files = tuple(each for each in self.files if each is not file)
            self.retired.append(file)

    def remove(self) -> None:
        """Remove everything, for good: the stream is gone."""
        with self._translated(), contextlib.suppress(FileNotFoundError, NotFound), self._locked():
            for path in self.path.iterdir():
                path.unlink(missing_ok=True)
            self.path.rmdir()
            self.retired += self.files
            self.files = ()

    def close_retired(self) -> None:
        """Close the files that are gone; where nobody reads."""
        retired, self.retired = self.retired, []
        for file in retired:
            os.close(file.fd)

    def close(self) -> None:
        """Let go of all files."""
        self.retired += self.files
        self.files = ()
        self.close_retired()

    def _is_full(self, file: HotFile) -> bool:
        return file.count >= self._sizes.entries or file.entry_bytes >= self._sizes.file_bytes

    @contextlib.contextmanager
    def sealing(self) -> Iterator[bool]:
        """Whether no other process is sealing; it is kept from it meanwhile."""
        try:
            fd = os.open(self.path / "sealing", os.O_CREAT | os.O_RDWR | os.O_CLOEXEC, _MODE)
        except FileNotFoundError:
            yield False
            return
        try:
            try:
                fcntl.flock(fd, fcntl.LOCK_EX | fcntl.LOCK_NB)
            except BlockingIOError:
                yield False
                return
            yield True
        finally:
            os.close(fd)

    @contextlib.contextmanager
    def _locked(self) -> Iterator[None]:
        try:
            fd = os.open(self.path / "lock", os.O_CREAT | os.O_RDWR | os.O_CLOEXEC, _MODE)
        except FileNotFoundError:
            raise NotFound(DELETED) from None
        try:
            fcntl.flock(fd, fcntl.LOCK_EX)
            if not os.fstat(fd).st_nlink:
                raise NotFound(DELETED)
            yield
        finally:
            os.close(fd)

    @contextlib.contextmanager
    def _translated(self) -> Iterator[None]:
        try:
            yield
        except Error:
            raise
        except OSError as exc:
            raise translated(exc) from exc

    def _path(self, number: int) -> Path:
        return self.path / f"{number:016d}.log"

    def _catch_up(self) -> None:
        """All that is there, with the lock held: what a dead process left half written is cut off."""
        if self.is_behind():
            self._look()
        if not self.files:
            raise NotFound(DELETED)
        newest = self.files[-1]
        if os.fstat(newest.fd).st_size > newest.end:
            os.ftruncate(newest.fd, newest.end)
        if self._path(newest.number + 1).exists():
            self._remove_broken()

    def _look(self) -> None:
        """Read the folder. Files come and go meanwhile, but never out of order."""
        known = {file.number: file for file in self.files}
        found: list[HotFile] = []
        for number in self._numbers():
            file = known.get(number) or self._open(number)
            if file is not None:
                self._read_on(file)
                found.append(file)
        self.retired += [file for file in self.files if file not in found]
        self.files = tuple(found)

    def _numbers(self) -> list[int]:
        try:
            names = os.listdir(self.path)
        except FileNotFoundError:
            return []
        return sorted(int(name[:-4]) for name in names if name.endswith(".log"))

    def _open(self, number: int) -> HotFile | None:
        path = self._path(number)
        try:
            fd = os.open(path, os.O_RDWR | os.O_CLOEXEC)
        except FileNotFoundError:
            return None
        try:
            head = read_hot_head(os.pread(fd, HOT_HEADER_BYTES, 0))
        except Broken:
            os.close(fd)
            return None
        return HotFile(number, path, fd, head)

    def _read_on(self, file: HotFile) -> None:
        """Take in records that another process wrote, once they are durable."""
        size_bytes = os.fstat(file.fd).st_size
        if size_bytes <= file.end:
            return
        os.fdatasync(file.fd)
        while file.end < size_bytes:
            data = memoryview(os.pread(file.fd, min(_READ_BYTES, size_bytes - file.end), file.end))
            begin, offset = file.end, 0
            while (found := read_record(data, offset, begin + offset)) is not None:
                file.take(found)
                offset = found.end - begin
            if not offset:
                return

    def _begin_after(self, file: HotFile, now_ns: int, *, sync: bool) -> HotFile:
        head = file.following
        return self._begin(
            file.number + 1, Head(head.base, head.ordinal, head.size_before, now_ns), sync=sync
        )

    def _begin(self, number: int, head: Head, *, sync: bool) -> HotFile:
        path = self._path(number)
        fd = os.open(path, os.O_CREAT | os.O_EXCL | os.O_RDWR | os.O_CLOEXEC, _MODE)
        try:
            os.pwrite(fd, hot_head(head), 0)
            if sync:
                os.fdatasync(fd)
            _sync_folder(self.path)
        except OSError:
            os.close(fd)
            path.unlink(missing_ok=True)
            raise
        file = HotFile(number, path, fd, head)
        self.files = (*self.files, file)
        return file

    def _remove_broken(self) -> None:
        """Remove files that a power cut left without their header; nothing in them was acknowledged."""
        known = {file.number for file in self.files}
        for number in self._numbers():
            if number not in known:
                self._path(number).unlink(missing_ok=True)

    def _write(self, file: HotFile, ids: list[int], entries: list[bytes]) -> None:
        written, found = record(ids, entries, file.end)
        view = memoryview(written)
        at = file.end
        try:
            while view:
                done = os.pwrite(file.fd, view, at)
                view, at = view[done:], at + done
            os.fdatasync(file.fd)
        except OSError:
            # What was not acknowledged must not turn up later.
            os.ftruncate(file.fd, file.end)
            raise
        file.take(found)


def record_bytes(entries: Sequence[Wanted]) -> int:
    """What a record of these entries takes."""
    return RECORD_HEADER_BYTES + ENTRY_BYTES * len(entries) + sum([len(each.data) for each in entries])


def _sync_folder(path: Path) -> None:
    fd = os.open(path, os.O_RDONLY | os.O_CLOEXEC)
    try:
        os.fsync(fd)
    finally:
        os.close(fd)
