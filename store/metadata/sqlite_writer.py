"""The one writer of a process: a thread that makes one commit of all the writes that are waiting."""

from __future__ import annotations

import asyncio
import contextlib
import sqlite3
import threading
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from queue import Empty, SimpleQueue
from typing import Any, Final, TypeVar

import orjson

from store import errors
from store.metadata.sqlite_schema import BUSY_S, connect

T = TypeVar("T")
Work = Callable[[sqlite3.Connection], T]

LOG_BYTES: Final = 16 << 20
"""A log longer than that is brought into the database, which SQLite does by itself while nobody reads."""
PATIENCE_MS: Final = 100
"""So long that waits for readers, each of whom leaves within a turn of its loop."""
PAUSE_S: Final = 1.0
"""And so long until it is tried again, where they did not."""
GROUP: Final = 256
"""How many writes share one commit at most."""


def primary(error: sqlite3.Error) -> int:
    """SQLite's primary result code of an error; 0 where the Python module raised it by itself."""
    return int(getattr(error, "sqlite_errorcode", 0)) & 0xFF


def translated(error: sqlite3.Error) -> errors.Error:
    """What a failure of the database is to the store."""
    if primary(error) == sqlite3.SQLITE_FULL:
        return errors.Full("No space is left for metadata.")
    return errors.Unavailable("The metadata database cannot be used now.")


def unstorable() -> errors.Error:
    """For values that no document, column or parameter holds: integers beyond 64 bits, lone surrogates."""
    return errors.BadRequest("A value cannot be stored: beyond 64 bits, or not valid Unicode.")


# orjson's error for lone surrogates and integers beyond 64 bits is a TypeError, as are most mistakes in code.
UNSTORABLE: Final = (OverflowError, UnicodeError, orjson.JSONEncodeError)
_REFUSED: Final = ("64-bit", "UTF-8")


def is_unstorable(error: Exception) -> bool:
    """Whether an error tells of a value that cannot be stored, and not of a mistake in this software."""
    if isinstance(error, orjson.JSONEncodeError):
        return any(word in str(error) for word in _REFUSED)
    return isinstance(error, UNSTORABLE)


@dataclass(slots=True)
class _Write:
    """One write that waits, and in the end what became of it."""

    work: Work[Any]
    loop: asyncio.AbstractEventLoop
    future: asyncio.Future[Any]
    result: Any = None
    error: Exception | None = None

    def settle(self) -> None:
        if self.future.done():
            return
        if self.error is not None:
            self.future.set_exception(self.error)
        else:
            self.future.set_result(self.result)


class Writer:
    """Runs writes in the order they come, each whole or not at all, durable when its result arrives.

    A failing write leaves no trace and does not touch those it shares a commit with. After a failure of
    the database the next write finds a new connection.
    """

    def __init__(self, path: Path) -> None:
        self._path = path
        self._queue: SimpleQueue[_Write | None] = SimpleQueue()
        self._lock = threading.Lock()
        self._closed = False
        self._connection: sqlite3.Connection | None = None
        self._log = path.with_name(f"{path.name}-wal")
        self._shorten_after_s = 0.0
        self._thread = threading.Thread(target=self._run, name="sqlite-writer", daemon=True)
        self._thread.start()

    async def run(self, work: Work[T]) -> T:
        """The result of `work`, once it is committed; what it raises, once nothing of it is left.

        A caller that is cancelled meanwhile does not undo it. `work` may be run again after a failure of
        the database that others caused, when nothing of the first time is left.
        """
        loop = asyncio.get_running_loop()
        future: asyncio.Future[T] = loop.create_future()
        with self._lock:
            if self._closed:
                raise errors.Unavailable("The metadata database is closed.")
            self._queue.put(_Write(work, loop, future))
        return await future

    async def close(self) -> None:
        """Finish the writes in hand."""
        with self._lock:
            if not self._closed:
                self._closed = True
                self._queue.put(None)
        await asyncio.to_thread(self._thread.join)

    def _run(self) -> None:
        going = True
        while going:
            batch, going = self._batch()
            self._commit(batch)
            for loop in {id(write.loop): write.loop for write in batch}.values():
                settled = [write for write in batch if write.loop is loop]
                # A loop that was closed meanwhile has nobody who waits.
                with contextlib.suppress(RuntimeError):
                    loop.call_soon_threadsafe(_settle, settled)
            self._shorten()
        if self._connection is not None:
            self._connection.close()

    def _batch(self) -> tuple[list[_Write], bool]:
        """The writes that wait, at least one, and whether to go on after them."""
        found: list[_Write] = []
        write = self._queue.get()
        while write is not None:
            found.append(write)
            if len(found) == GROUP:
                return found, True
            try:
                write = self._queue.get_nowait()
            except Empty:
                return found, True
        return found, False

    def _commit(self, batch: list[_Write]) -> None:
        if not batch:
            return
        try:
            self._together(batch)
        except sqlite3.Error as exc:
            self._recover()
            if len(batch) > 1 and primary(exc) == sqlite3.SQLITE_FULL:
                # One large write may have used up the space; the others get their own chance.
                for write in batch:
                    self._commit([write])
                return
            for write in batch:
                write.error = translated(exc)

    def _together(self, batch: list[_Write]) -> None:
        """All of a batch in one transaction. Raises `sqlite3.Error` when the transaction as a whole fails."""
        if self._connection is None:
            self._connection = connect(self._path, busy_s=BUSY_S)
        connection = self._connection
        connection.execute("BEGIN IMMEDIATE")
        if len(batch) == 1:
            # Alone it needs no savepoint, after which SQLite copies each page before it changes.
            if _tried(connection, batch[0], "ROLLBACK"):
                connection.execute("COMMIT")
            return
        for write in batch:
            connection.execute("SAVEPOINT one")
            _tried(connection, write, "ROLLBACK TO one")
            connection.execute("RELEASE one")
        connection.execute("COMMIT")

    def _shorten(self) -> None:
        """Bring a long log into the database: busy loops nearly always read, and so keep SQLite from it."""
        now_s = time.monotonic()
        if self._connection is None or now_s < self._shorten_after_s:
            return
        # What fails here fails no write, and is tried again.
        with contextlib.suppress(OSError, sqlite3.Error):
            if self._log.stat().st_size <= LOG_BYTES:
                return
            self._shorten_after_s = now_s + PAUSE_S
            self._connection.execute(f"PRAGMA busy_timeout = {PATIENCE_MS}")
            try:
                (busy, _, _) = self._connection.execute("PRAGMA wal_checkpoint(TRUNCATE)").fetchone()
            finally:
                self._connection.execute(f"PRAGMA busy_timeout = {round(BUSY_S * 1000)}")
            if not busy:
                self._shorten_after_s = 0.0

    def _recover(self) -> None:
        """Leave no transaction behind: closing rolls it back, and what may be broken is not used again."""
        connection, self._connection = self._connection, None
        if connection is not None:
            # A connection that cannot even be closed is left to the collector; the thread goes on.
            with contextlib.suppress(sqlite3.Error):
                connection.close()


def _tried(connection: sqlite3.Connection, write: _Write, undo: str) -> bool:
    """Do a write, or undo what there is of it and keep the error: whether it was done.

    Raises `sqlite3.Error` when the transaction is gone.
    """
    write.result, write.error = None, None
    try:
        write.result = write.work(connection)
    # The caller's code may raise anything; whatever it is belongs to the caller's future.
    except Exception as exc:
        if not connection.in_transaction:
            raise exc if isinstance(exc, sqlite3.Error) else sqlite3.OperationalError() from exc
        connection.execute(undo)
        write.error = _told(exc)
        return False
    return True


def _told(error: Exception) -> Exception:
    """An error of one write as its caller gets it."""
    if isinstance(error, sqlite3.Error):
        return translated(error)
    return unstorable() if is_unstorable(error) else error


def _settle(writes: list[_Write]) -> None:
    for write in writes:
        write.settle()
