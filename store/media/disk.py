"""A folder that holds objects: every operation blocks, and is atomic between threads and processes.

    objects/2026/11/21/<flow>/<random>    an object; read-only mode bits mean that it is pinned
    incoming/<random>                     an upload; locked by its writer for as long as it is written
    locks/<00..ff>                        who may change a key's state; see `_locked`
    used                                  bytes in `objects`, kept only where there is a quota

An upload becomes an object by fsync, rename and fsync of the directory, so that it is whole or absent.
"""

from __future__ import annotations

import contextlib
import errno
import fcntl
import os
import secrets
import stat as modes
import threading
import zlib
from collections.abc import Iterator
from pathlib import Path

from store import errors
from store.media.protocol import Stat
from store.media.quota import Quota
from store.media.walk import files_below, status_of

BATCH_BYTES = 512 << 10
"""How much of an upload is written at once."""
# Nobody else on the machine reads what the policy protects.
_PINNED, _OPEN = 0o400, 0o600
_LONGEST_KEY_BYTES = 1024
_LONGEST_NAME_BYTES = 255
_MOST_KNOWN_FOLDERS = 4096
_MOST_VIEWS = 512
_FULL = {errno.ENOSPC, errno.EDQUOT}
_UNLINKABLE = {errno.EXDEV, errno.EPERM, errno.EMLINK, errno.EOPNOTSUPP, errno.ENOSYS}
_NAMES = {errno.ENAMETOOLONG, errno.ENOTDIR, errno.EISDIR, errno.EEXIST}


def translated(exc: OSError) -> errors.Error:
    """The store's error for what the file system said."""
    if exc.errno in _FULL:
        return errors.Full("no space left on the storage backend")
    if exc.errno in _NAMES:
        return errors.BadRequest("the key cannot be a file's name")
    return errors.Unavailable(f"the storage backend failed: {os.strerror(exc.errno or errno.EIO)}")


def relative_path(key: str) -> str:
    """Where a key is below `objects`: the key itself. Raises `errors.BadRequest` for one that could be
    anywhere else, or that the file system would not keep."""
    names = key.split("/")
    try:
        encoded = [name.encode() for name in names]
    except UnicodeEncodeError as exc:
        raise errors.BadRequest("the key is not Unicode") from exc
    plain = all(name and name[0] != "." and "\0" not in name for name in names)
    short = len(key) <= _LONGEST_KEY_BYTES and all(len(name) <= _LONGEST_NAME_BYTES for name in encoded)
    if not plain or not short:
        raise errors.BadRequest("the key cannot be a file's name")
    return key


class Opened:
    """An object that is being read. Replacing or deleting the object meanwhile changes nothing here."""

    def __init__(self, fd: int) -> None:
        self._fd = fd
        self._lock = threading.Lock()
        status = os.fstat(fd)
        self.size_bytes = status.st_size
        self.modified_s = int(status.st_mtime)
        self.etag = _etag(status)

    def read(self, start: int, size_bytes: int) -> bytes:
        """Up to `size_bytes` from `start`."""
        with self._lock:
            if self._fd < 0:
                raise errors.Unavailable("the object was closed")
            return os.pread(self._fd, size_bytes, start)

    def close(self) -> None:
        """Idempotent; waits for a read in another thread."""
        with self._lock:
            fd, self._fd = self._fd, -1
            if fd >= 0:
                os.close(fd)


class Upload:
    """Bytes on their way to becoming an object; nobody sees them before `commit`.

    Made without touching the disk. Its methods may be called from any thread, one after the other.
    """

    def __init__(self, folder: Folder) -> None:
        self._folder = folder
        self._lock = threading.Lock()
        self._file: tuple[Path, int] | None = None
        self._over = False
        self.size_bytes = 0

    def write(self, chunks: list[bytes]) -> None:
        """Append the chunks."""
        with self._lock:
            _, fd = self._begun()
            before_bytes = self.size_bytes
            views = [memoryview(chunk) for chunk in chunks if chunk]
            while views:
                written = os.writev(fd, views[:_MOST_VIEWS])
                self.size_bytes += written
                while views and written >= len(views[0]):
                    written -= len(views.pop(0))
                if written:
                    views[0] = views[0][written:]
            if self.size_bytes - before_bytes >= BATCH_BYTES:
                _begin_sync(fd, before_bytes, self.size_bytes - before_bytes)

    def commit(self, key: str) -> Stat:
        """Make the bytes the key's, durably. Raises `errors.PreconditionFailed` when the key is pinned."""
        with self._lock:
            path, fd = self._begun()
            try:
                os.fsync(fd)
                return self._folder.place(fd, path, key)
            finally:
                self._end()

    def discard(self) -> None:
        """Leave no trace of an upload that was not committed; idempotent."""
        with self._lock:
            self._end()

    def _begun(self) -> tuple[Path, int]:
        if self._over:
            raise errors.Unavailable("the upload was given up")
        if self._file is None:
            self._file = self._folder.open_incoming()
        return self._file

    def _end(self) -> None:
        file, self._file, self._over = self._file, None, True
        if file is not None:
            # Gone already when it was committed.
            with contextlib.suppress(FileNotFoundError):
                os.unlink(file[0])
            os.close(file[1])


class Folder:
    """One storage backend's folder."""

    def __init__(self, root: Path, *, quota_bytes: int | None) -> None:
        self._objects = root / "objects"
        self._incoming = root / "incoming"
        self._locks = root / "locks"
        self.quota: Quota | None = None
        if quota_bytes is not None:
            self.quota = Quota(root / "used", self._objects, limit_bytes=quota_bytes)
        self._durable: set[Path] = set()
        for folder in (root, self._objects, self._incoming, self._locks):
            folder.mkdir(parents=True, exist_ok=True)
        for folder in (root.parent, root):
            _fsync_folder(folder)

    def begin(self) -> Upload:
        """An upload, unseen until it is committed."""
        return Upload(self)

    def open_incoming(self) -> tuple[Path, int]:
        """A new locked file for an upload."""
        while True:
            path = self._incoming / secrets.token_hex(16)
            fd = os.open(path, os.O_CREAT | os.O_EXCL | os.O_WRONLY | os.O_CLOEXEC, _OPEN)
            fcntl.flock(fd, fcntl.LOCK_EX)
            if os.fstat(fd).st_nlink:
                return path, fd
            # A sweep came between creation and lock; the file is nobody's now.
            os.close(fd)

    def sweep(self) -> int:
        """Remove what dead processes left of their uploads; how many there were."""
        swept = 0
        for path in self._incoming.iterdir():
            with contextlib.suppress(FileNotFoundError, BlockingIOError), _opened(path) as fd:
                fcntl.flock(fd, fcntl.LOCK_EX | fcntl.LOCK_NB)
                path.unlink()
                swept += 1
        return swept

    def place(self, fd: int, path: Path, key: str) -> Stat:
        """Rename a finished, synced upload to its object."""
        target = self._path(key)
        with self._locked(key):
            old = status_of(target)
            if old is not None and _is_pinned(old):
                raise errors.PreconditionFailed("the object is registered and cannot be replaced")
            status = os.fstat(fd)
            more_bytes = status.st_size - (old.st_size if old else 0)
            with self.quota.taking(more_bytes) if self.quota else contextlib.nullcontext():
                self._rename(path, target)
        _fsync_folder(target.parent)
        return _described(status)

    def adopt(self, path: Path, key: str) -> Stat | None:
        """Give a file, which nobody changes any more, a second name as the key's object, durably; None where
        that cannot be. Raises as `place`."""
        with _opened(path) as fd:
            # Before it has a name there: a sweep takes away what nobody holds.
            fcntl.flock(fd, fcntl.LOCK_EX)
            incoming = self._incoming / secrets.token_hex(16)
            try:
                os.link(path, incoming)
            except OSError as exc:
                if exc.errno in _UNLINKABLE:
                    return None
                raise
            try:
                os.fsync(fd)
                return self.place(fd, incoming, key)
            finally:
                # Gone already, unless the object was this very file before, or could not be placed.
                with contextlib.suppress(FileNotFoundError):
                    os.unlink(incoming)

    def stat(self, key: str) -> Stat | None:
        """The key's bytes, None when there are none."""
        status = status_of(self._path(key))
        return None if status is None else _described(status)

    def is_pinned(self, key: str) -> bool:
        """Whether an upload to the key would be refused."""
        status = status_of(self._path(key))
        return status is not None and _is_pinned(status)

    def pin(self, key: str) -> Stat | None:
        """Freeze the key's bytes, durably."""
        return self._set_mode(key, _PINNED)

    def unpin(self, key: str) -> None:
        """Let the key's bytes be replaced again."""
        self._set_mode(key, _OPEN)

    def open(self, key: str) -> Opened | None:
        """The key's bytes for reading, None when there are none."""
        try:
            fd = os.open(self._path(key), os.O_RDONLY | os.O_CLOEXEC | os.O_NOFOLLOW)
        except (FileNotFoundError, NotADirectoryError):
            return None
        if not modes.S_ISREG(os.fstat(fd).st_mode):
            os.close(fd)
            return None
        return Opened(fd)

    def delete(self, keys: list[str]) -> None:
        """Remove the keys' bytes, durably, and the folders that this empties."""
        touched: set[Path] = set()
        for key in keys:
            path = self._path(key)
            with self._locked(key):
                old = status_of(path)
                if old is None:
                    continue
                path.unlink(missing_ok=True)
                if self.quota is not None:
                    self.quota.give_back(old.st_size)
            touched.add(path.parent)
        for folder in touched:
            with contextlib.suppress(FileNotFoundError):
                _fsync_folder(folder)
            self._remove_empty(folder)

    def walk(self, prefix: str) -> Iterator[tuple[str, int]]:
        """Every (key, last modified in Unix seconds) that starts with the prefix."""
        folder = prefix.rpartition("/")[0]
        start = self._objects / relative_path(folder) if folder else self._objects
        for path, status in files_below(start):
            key = path.relative_to(self._objects).as_posix()
            if key.startswith(prefix):
                yield key, int(status.st_mtime)

    def _path(self, key: str) -> Path:
        return self._objects / relative_path(key)

    @contextlib.contextmanager
    def _locked(self, key: str) -> Iterator[None]:
        """Nobody else, in any process, changes whether the key exists and is pinned meanwhile.

        A lock file is shared by many keys and never removed, so that taking a lock has no races of its own.
        """
        path = self._locks / f"{zlib.crc32(key.encode()) & 0xFF:02x}"
        fd = os.open(path, os.O_CREAT | os.O_RDWR | os.O_CLOEXEC, _OPEN)
        try:
            fcntl.flock(fd, fcntl.LOCK_EX)
            yield
        finally:
            os.close(fd)

    def _set_mode(self, key: str, mode: int) -> Stat | None:
        path = self._path(key)
        with (
            contextlib.suppress(FileNotFoundError, NotADirectoryError),
            self._locked(key),
            _opened(path) as fd,
        ):
            status = os.fstat(fd)
            if modes.S_IMODE(status.st_mode) != mode:
                os.fchmod(fd, mode)
                os.fsync(fd)
            return _described(status)
        return None

    def _rename(self, path: Path, target: Path) -> None:
        # The folder can be removed between being made and being used: deletes tidy up after themselves.
        for _ in range(16):
            self._make_durable(target.parent)
            with contextlib.suppress(FileNotFoundError):
                os.rename(path, target)
                return
            self._durable.clear()
        raise errors.Unavailable("the storage backend's folders keep vanishing")

    def _make_durable(self, folder: Path) -> None:
        """Make the folder and see to it that it outlives a power cut."""
        if folder in self._durable:
            return
        folder.mkdir(parents=True, exist_ok=True)
        for parent in folder.parents:
            with contextlib.suppress(FileNotFoundError):
                _fsync_folder(parent)
            if parent == self._objects:
                break
        if len(self._durable) >= _MOST_KNOWN_FOLDERS:
            self._durable.clear()
        self._durable.add(folder)

    def _remove_empty(self, folder: Path) -> None:
        while folder != self._objects:
            try:
                folder.rmdir()
            except OSError as exc:
                if exc.errno not in {errno.ENOTEMPTY, errno.ENOENT}:
                    raise
                return
            self._durable.discard(folder)
            folder = folder.parent


@contextlib.contextmanager
def _opened(path: Path) -> Iterator[int]:
    fd = os.open(path, os.O_RDONLY | os.O_CLOEXEC)
    try:
        yield fd
    finally:
        os.close(fd)


def _begin_sync(fd: int, start: int, length_bytes: int) -> None:
    """Have bytes brought to the disk while more arrives, which leaves little for the sync in the end to wait
    for: Linux does so, and forgets no page that is not there yet. A hint, which not every system takes."""
    if hasattr(os, "posix_fadvise"):
        with contextlib.suppress(OSError):
            os.posix_fadvise(fd, start, length_bytes, os.POSIX_FADV_DONTNEED)


def _fsync_folder(folder: Path) -> None:
    with _opened(folder) as fd:
        os.fsync(fd)


def _is_pinned(status: os.stat_result) -> bool:
    return not status.st_mode & modes.S_IWUSR


def _etag(status: os.stat_result) -> str:
    return f'"{status.st_ino:x}-{status.st_mtime_ns:x}-{status.st_size:x}"'


def _described(status: os.stat_result) -> Stat:
    return Stat(size_bytes=status.st_size, etag=_etag(status))
