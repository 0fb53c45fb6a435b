"""Objects in this process's memory, for tests: nothing outlives the process, or is seen by another."""

from __future__ import annotations

import itertools
import threading
import time
from collections.abc import Iterator
from dataclasses import dataclass, replace
from pathlib import Path

from store import errors
from store.media.disk import relative_path
from store.media.protocol import Stat


@dataclass(frozen=True, slots=True)
class Held:
    """An object. It never changes: what replaces it is another."""

    data: bytes
    etag: str
    modified_s: int
    pinned: bool = False

    @property
    def size_bytes(self) -> int:
        """How long it is."""
        return len(self.data)

    @property
    def stat(self) -> Stat:
        """What is told of it."""
        return Stat(size_bytes=self.size_bytes, etag=self.etag)

    def read(self, start: int, size_bytes: int) -> bytes:
        """Up to `size_bytes` from `start`."""
        return self.data[start : start + size_bytes]

    def close(self) -> None:
        """Nothing is to be let go of."""


class MemoryUpload:
    """As `disk.Upload`."""

    def __init__(self, folder: MemoryFolder) -> None:
        self._folder = folder
        self._pieces: list[bytes] = []
        self.size_bytes = 0

    def write(self, chunks: list[bytes]) -> None:
        """Append the chunks. Raises `errors.Full` as soon as they cannot all be kept."""
        self._pieces += chunks
        self.size_bytes += sum(map(len, chunks))
        self._folder.refuse_over(self.size_bytes)

    def commit(self, key: str) -> Stat:
        """Make the bytes the key's. Raises `errors.PreconditionFailed` when the key is pinned."""
        return self._folder.place(key, b"".join(self._pieces))

    def discard(self) -> None:
        """Forget the bytes."""
        self._pieces.clear()


class MemoryFolder:
    """As `disk.Folder`. `quota_bytes` bounds all objects together."""

    quota = None

    def __init__(self, *, quota_bytes: int | None) -> None:
        self._quota_bytes = quota_bytes
        self._objects: dict[str, Held] = {}
        self._used_bytes = 0
        self._lock = threading.Lock()
        self._versions = itertools.count(1)

    def begin(self) -> MemoryUpload:
        """An upload, unseen until it is committed."""
        return MemoryUpload(self)

    def sweep(self) -> int:
        """Nothing is left of dead processes."""
        return 0

    def refuse_over(self, more_bytes: int) -> None:
        """Raises `errors.Full` when so many more bytes do not fit."""
        if self._quota_bytes is not None and self._used_bytes + more_bytes > self._quota_bytes:
            raise errors.Full("no space left on the storage backend")

    def place(self, key: str, data: bytes) -> Stat:
        """Make bytes the key's."""
        name = relative_path(key)
        with self._lock:
            old = self._objects.get(name)
            if old is not None and old.pinned:
                raise errors.PreconditionFailed("the object is registered and cannot be replaced")
            more_bytes = len(data) - (0 if old is None else old.size_bytes)
            self.refuse_over(more_bytes)
            held = Held(data, f'"{next(self._versions):x}-{time.time_ns():x}"', int(time.time()))
            self._objects[name] = held
            self._used_bytes += more_bytes
        return held.stat

    def adopt(self, path: Path, key: str) -> None:
        """No file is in memory."""

    def stat(self, key: str) -> Stat | None:
        """The key's bytes, None when there are none."""
        held = self.open(key)
        return None if held is None else held.stat

    def is_pinned(self, key: str) -> bool:
        """Whether an upload to the key would be refused."""
        held = self.open(key)
        return held is not None and held.pinned

    def pin(self, key: str) -> Stat | None:
        """Freeze the key's bytes."""
        return self._set_pinned(key, True)

    def unpin(self, key: str) -> None:
        """Let the key's bytes be replaced again."""
        self._set_pinned(key, False)

    def open(self, key: str) -> Held | None:
        """The key's bytes, None when there are none."""
        return self._objects.get(relative_path(key))

    def delete(self, keys: list[str]) -> None:
        """Remove the keys' bytes."""
        for key in keys:
            with self._lock:
                held = self._objects.pop(relative_path(key), None)
                self._used_bytes -= 0 if held is None else held.size_bytes

    def walk(self, prefix: str) -> Iterator[tuple[str, int]]:
        """Every (key, last modified in Unix seconds) that starts with the prefix."""
        with self._lock:
            found = sorted(self._objects.items())
        for key, held in found:
            if key.startswith(prefix):
                yield key, held.modified_s

    def _set_pinned(self, key: str, pinned: bool) -> Stat | None:
        name = relative_path(key)
        with self._lock:
            held = self._objects.get(name)
            if held is None:
                return None
            self._objects[name] = replace(held, pinned=pinned)
            return held.stat
