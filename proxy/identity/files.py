"""Small files that hold identity: private ones are written whole or not at all, and changes are noticed."""

from __future__ import annotations

import contextlib
import fcntl
import logging
import os
import secrets
import stat
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Generic, TypeVar

T = TypeVar("T")

log = logging.getLogger(__name__)


def read_private(path: Path) -> bytes:
    """The file's bytes. ValueError when others than its owner can read or write it."""
    with path.open("rb") as file:
        mode = stat.S_IMODE(os.fstat(file.fileno()).st_mode)
        if mode & 0o077:
            raise ValueError(f"{path} has mode {mode:03o}: others can read it; chmod 600 it")
        return file.read()


def write_private(path: Path, data: bytes, *, replace: bool) -> None:
    """Put the data there with mode 600, whole and durable (fsync of file and folder) or not at all.

    FileExistsError when the file is there and `replace` is false: two first starts cannot both win.
    """
    _write(path, data, mode=0o600, replace=replace)


def write_shared(path: Path, data: bytes) -> None:
    """Replace a file that others may read, whole and durable or not at all. Keeps the mode it has."""
    mode = stat.S_IMODE(path.stat().st_mode) if path.exists() else 0o644
    _write(path, data, mode=mode, replace=True)


def _write(path: Path, data: bytes, *, mode: int, replace: bool) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    temporary = path.with_name(f".{path.name}.{secrets.token_hex(8)}")
    descriptor = os.open(temporary, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
    try:
        with open(descriptor, "wb") as file:
            os.fchmod(descriptor, mode)
            file.write(data)
            file.flush()
            os.fsync(file.fileno())
        if replace:
            os.replace(temporary, path)
        else:
            os.link(temporary, path)
    finally:
        temporary.unlink(missing_ok=True)
    folder = os.open(path.parent, os.O_RDONLY | os.O_DIRECTORY)
    try:
        os.fsync(folder)
    finally:
        os.close(folder)


@contextlib.contextmanager
def locked(path: Path) -> Iterator[None]:
    """Hold the file's lock: read, change and write are then one step, between processes too."""
    path.parent.mkdir(parents=True, exist_ok=True)
    descriptor = os.open(path.with_name(f".{path.name}.lock"), os.O_RDWR | os.O_CREAT, 0o600)
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX)
        yield
    finally:
        os.close(descriptor)


class Watched(Generic[T]):
    """What a file says, read again when it changes, looked at no more than once a second.

    A file that has become invalid keeps the last good value and says so in `problem` and in the log; one
    that is gone counts as `absent` (deleting it revokes what was in it), or with `kept` as invalid, where it
    was there before. The first reading raises ValueError instead. `generation` grows with every change of
    the value.
    """

    def __init__(
        self, path: Path, parse: Callable[[bytes], T], *, absent: T, private: bool, kept: bool = False
    ) -> None:
        self.path = path
        self.problem: str | None = None
        self.generation = 0
        self._parse = parse
        self._absent = absent
        self._private = private
        self._kept = kept
        self._was_there = False
        self._checked_s = 0
        self._seen = self._signature()
        self._value = self._read()

    def current(self, now_s: int) -> T:
        """The value of now, at most one second old."""
        if now_s != self._checked_s:
            self._checked_s = now_s
            self._check()
        return self._value

    def _check(self) -> None:
        seen = self._signature()
        if seen == self._seen:
            return
        self._seen = seen
        try:
            self._value = self._read()
        except (ValueError, OSError) as exc:
            self.problem = f"{self.path}: {exc}"
            log.error("keeping the last good version of a changed file: %s", self.problem)
            return
        self.problem = None
        self.generation += 1

    def _read(self) -> T:
        try:
            data = read_private(self.path) if self._private else self.path.read_bytes()
        except FileNotFoundError:
            if self._kept and self._was_there:
                raise
            return self._absent
        value = self._parse(data)
        self._was_there = True
        return value

    def _signature(self) -> tuple[int, int, int, int] | None:
        try:
            found = self.path.stat()
        except OSError:
            return None
        return found.st_mtime_ns, found.st_size, found.st_ino, found.st_mode
