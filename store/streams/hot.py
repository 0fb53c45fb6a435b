"""The hot log of one stream: a folder of files that entries are appended to until they are sealed.

    <number>.log     entries in order; appended to while it is the last one, removed once it is sealed: then
                     its bytes are the object's, under another name or copied
    lock             held (flock) while a process appends; removed with the folder when the stream goes

Several processes may append and read. Every method blocks, and one at a time may run; the lists of a
`HotFile` only grow, `lengths` last, so that they may be read meanwhile.
"""

from __future__ import annotations

import contextlib
import fcntl
import os
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

from store.errors import BadRequest, Error, NotFound, Unavailable
from store.media.disk import translated
from store.streams.entries import Entries, assigned, joined
from store.streams.hot_file import HotFile, name_of
from store.streams.records import (
    HOT_HEADER_BYTES,
    Broken,
    Head,
    hot_head,
    read_hot_head,
)

_MODE = 0o600
First = tuple[list[int], Entries]
"""The first entries of a file, with their ids."""
DELETED = "The stream has been deleted."


@dataclass(frozen=True, slots=True)
class Sizes:
    """When a file is full, and how many may wait to be sealed before nothing more is taken."""

    entries: int = 1000
    file_bytes: int = 9_500_000
    backlog: int = 256


class HotFolder:
    """The files of one stream. `files`: oldest first. `retired`: files that are gone, to be closed where
    nobody reads them."""

    def __init__(self, path: Path, sizes: Sizes) -> None:
        self.path = path
        self._sizes = sizes
        self.files: tuple[HotFile, ...] = ()
        self.retired: list[HotFile] = []
        self._lock_fd: int | None = None

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
                    self._begin(1, Head(head.base, head.ordinal, head.size_before, now_ns))

    def append(self, calls: Sequence[Entries], now_ns: int) -> list[list[int] | BadRequest]:
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
            last, ids, taken = file.last, list[int](), list[Entries]()
            outcomes: list[list[int] | BadRequest] = []
            for entries in calls:
                try:
                    found = assigned(entries, last, now_ns)
                except BadRequest as exc:
                    outcomes.append(exc)
                    continue
                outcomes.append(found)
                ids += found
                taken.append(entries)
                last = ids[-1] if ids else last
            if ids:
                if self._is_full(file):
                    self._begin_after(file, now_ns, (ids, joined(taken)))
                else:
                    file.write(ids, joined(taken))
            return outcomes

    def rotate(self, now_ns: int, older_ns: int) -> bool:
        """Begin a new file when the last one was begun `older_ns` ago and has entries; whether it did."""
        with self._translated(), self._locked():
            self._catch_up()
            file = self.files[-1]
            if not file.count or now_ns - file.head.begun_ns < older_ns:
                return False
            self._begin_after(file, now_ns)
            return True

    def refresh(self) -> None:
        """Take in what other processes did, unless that is done already."""
        with self._translated():
            if self.is_behind():
                self._look()

    def is_behind(self) -> bool:
        """Whether another process has done something since; a few microseconds."""
        if not self.files:
            return True
        newest = self.files[-1]
        if newest.has_more() or _is_there(newest.next_path):
            return True
        return not _is_there(self.files[0].path)

    def drop(self, files: Sequence[HotFile]) -> None:
        """Remove files that are sealed, in their order: never the last one."""
        with self._translated():
            for file in files:
                file.path.unlink(missing_ok=True)
                # What another process dropped meanwhile is retired already, and is closed but once.
                if file in self.files:
                    self.files = tuple(each for each in self.files if each is not file)
                    self.retired.append(file)

    def remove(self) -> None:
        """Remove everything, for good: the stream is gone. `close_retired` closes the files."""
        with self._translated(), contextlib.suppress(FileNotFoundError, NotFound), self._locked():
            for path in self.path.iterdir():
                path.unlink(missing_ok=True)
            self.path.rmdir()
        self._retire()
        self._let_go()

    def close_retired(self) -> None:
        """Close the files that are gone; where nobody reads."""
        retired, self.retired = self.retired, []
        for file in retired:
            # Nothing is written through it any more that could be lost.
            with contextlib.suppress(OSError):
                os.close(file.fd)

    def close(self) -> None:
        """Let go of everything; `close_retired` closes the files."""
        self._retire()
        self._let_go()

    def _retire(self) -> None:
        self.retired += self.files
        self.files = ()

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

    def _let_go(self) -> None:
        """Close the lock, which is kept open from one commit to the next."""
        fd, self._lock_fd = self._lock_fd, None
        if fd is not None:
            os.close(fd)

    @contextlib.contextmanager
    def _locked(self) -> Iterator[None]:
        fd = self._lock_fd
        if fd is None:
            try:
                fd = os.open(self.path / "lock", os.O_CREAT | os.O_RDWR | os.O_CLOEXEC, _MODE)
            except FileNotFoundError:
                raise NotFound(DELETED) from None
            self._lock_fd = fd
        fcntl.flock(fd, fcntl.LOCK_EX)
        try:
            if not os.fstat(fd).st_nlink:
                raise NotFound(DELETED)
            yield
        finally:
            fcntl.flock(fd, fcntl.LOCK_UN)

    @contextlib.contextmanager
    def _translated(self) -> Iterator[None]:
        try:
            yield
        except Error:
            raise
        except OSError as exc:
            raise translated(exc) from exc

    def _path(self, number: int) -> Path:
        return self.path / name_of(number)

    def _catch_up(self) -> None:
        """All that is there, with the lock held: what a dead process left half written is cut off."""
        if not self.is_behind():
            return
        self._look()
        if not self.files:
            raise NotFound(DELETED)
        newest = self.files[-1]
        newest.cut()
        if _is_there(newest.next_path):
            self._remove_broken()

    def _look(self) -> None:
        """Read the folder. Files come and go meanwhile, but never out of order."""
        known = {file.number: file for file in self.files}
        opened = ((number, known.get(number) or self._open(number)) for number in self._numbers())
        found = [file for _, file in opened if file is not None]
        if any(file.number not in known for file in found):
            # Whoever made them may not have come to it yet.
            _sync_folder(self.path)
        for file in found:
            file.read_on()
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
            fd = _opened(path)
        except FileNotFoundError:
            return None
        try:
            head = read_hot_head(os.pread(fd, HOT_HEADER_BYTES, 0))
        except Broken:
            os.close(fd)
            return None
        return HotFile(number, path, fd, head)

    def _begin_after(self, file: HotFile, now_ns: int, first: First | None = None) -> None:
        head = file.following
        self._begin(file.number + 1, Head(head.base, head.ordinal, head.size_before, now_ns), first)

    def _begin(self, number: int, head: Head, first: First | None = None) -> None:
        """A new file, with its first entries if there are any, all of it durable."""
        path = self._path(number)
        fd = os.open(path, os.O_CREAT | os.O_EXCL | os.O_RDWR | os.O_CLOEXEC, _MODE)
        file = HotFile(number, path, fd, head)
        try:
            os.pwrite(fd, hot_head(head), 0)
            if first is None:
                os.fdatasync(fd)
            else:
                file.write(*first)
            _sync_folder(self.path)
        except OSError:
            os.close(fd)
            path.unlink(missing_ok=True)
            raise
        self.files = (*self.files, file)

    def _remove_broken(self) -> None:
        """Remove files that a power cut left without their header; nothing in them was acknowledged."""
        known = {file.number for file in self.files}
        for number in self._numbers():
            if number not in known:
                self._path(number).unlink(missing_ok=True)


def _is_there(path: Path) -> bool:
    try:
        os.stat(path)
    except FileNotFoundError:
        return False
    return True


def _opened(path: Path) -> int:
    try:
        return os.open(path, os.O_RDWR | os.O_CLOEXEC)
    except PermissionError:
        # An object already that nobody changes any more.
        return os.open(path, os.O_RDONLY | os.O_CLOEXEC)


def _sync_folder(path: Path) -> None:
    fd = os.open(path, os.O_RDONLY | os.O_CLOEXEC)
    try:
        os.fsync(fd)
    finally:
        os.close(fd)
