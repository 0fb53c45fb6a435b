"""How many bytes a folder's objects may take: one figure, shared by all processes that use the folder."""

from __future__ import annotations

import contextlib
import fcntl
import os
from collections.abc import Iterator
from pathlib import Path

from store import errors
from store.media.walk import files_below

_FIGURE_BYTES = 8


class Quota:
    """The bytes in use, kept in a file beside the objects; counted by a walk when the figure is missing."""

    def __init__(self, figure: Path, objects: Path, *, limit_bytes: int) -> None:
        self._figure = figure
        self._objects = objects
        self._limit_bytes = limit_bytes

    def used_bytes(self) -> int:
        """Bytes that are accounted for."""
        with self._locked() as fd:
            return self._kept(fd)

    def recount(self) -> int:
        """Count anew: a crash between a rename and its entry leaves the figure wrong."""
        with self._locked() as fd:
            os.ftruncate(fd, 0)
            return self._kept(fd)

    def refuse_over(self, more_bytes: int) -> None:
        """Raises `errors.Full` when so many more bytes would not fit now; takes nothing."""
        if self.used_bytes() + more_bytes > self._limit_bytes:
            raise errors.Full("the storage backend's quota is used up")

    @contextlib.contextmanager
    def taking(self, more_bytes: int) -> Iterator[None]:
        """Take bytes for what the block does, and give them back when it fails. `errors.Full` when over."""
        self._add(more_bytes, within_limit=more_bytes > 0)
        try:
            yield
        except BaseException:
            self._add(-more_bytes, within_limit=False)
            raise

    def give_back(self, freed_bytes: int) -> None:
        """Account for bytes that were removed."""
        self._add(-freed_bytes, within_limit=False)

    def _add(self, more_bytes: int, *, within_limit: bool) -> None:
        with self._locked() as fd:
            used = self._kept(fd) + more_bytes
            if within_limit and used > self._limit_bytes:
                raise errors.Full("the storage backend's quota is used up")
            os.pwrite(fd, max(0, used).to_bytes(_FIGURE_BYTES, "little"), 0)

    @contextlib.contextmanager
    def _locked(self) -> Iterator[int]:
        fd = os.open(self._figure, os.O_CREAT | os.O_RDWR | os.O_CLOEXEC, 0o600)
        try:
            fcntl.flock(fd, fcntl.LOCK_EX)
            yield fd
        finally:
            os.close(fd)

    def _kept(self, fd: int) -> int:
        kept = os.pread(fd, _FIGURE_BYTES, 0)
        if len(kept) == _FIGURE_BYTES:
            return int.from_bytes(kept, "little")
        used = sum(status.st_size for _, status in files_below(self._objects))
        os.pwrite(fd, used.to_bytes(_FIGURE_BYTES, "little"), 0)
        return used
