"""Reads: short ones on the event loop, long ones on a few threads, each in one snapshot."""

from __future__ import annotations

import asyncio
import sqlite3
import threading
from collections.abc import Callable, Hashable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any, Final, TypeVar

from store import errors
from store.metadata.sqlite_schema import BUSY_S, connect
from store.metadata.sqlite_writer import UNSTORABLE, is_unstorable, primary, translated, unstorable

T = TypeVar("T")
Work = Callable[[sqlite3.Connection], T]

STRIDE: Final = 1_000
"""How many steps of SQLite's machine pass between two looks at the budget."""
BUDGET: Final = 100
"""Strides that a read on the event loop may take: about 2 ms. What takes longer is moved to a thread."""
THREADS: Final = 4
KEPT: Final = 1_024
"""So many results of a connection are kept at most."""

_STATE: Final = "PRAGMA data_version"
"""A number that changes with each commit of any other connection."""
_UNKNOWN: Final = object()
_MOVES = (sqlite3.SQLITE_INTERRUPT, sqlite3.SQLITE_BUSY, sqlite3.SQLITE_LOCKED)


class _Reader:
    """One connection for one thread. `budget` None never stops a read."""

    def __init__(self, path: Path, budget: int | None) -> None:
        self.connection = connect(path, busy_s=BUSY_S if budget is None else 0)
        self.connection.execute("PRAGMA query_only = ON")
        self._strides = 0
        self._is_closed = False
        self._kept: dict[Hashable, Any] = {}
        self._kept_of = self._state = -1
        if budget is not None:
            limit = budget

            def spent() -> bool:
                self._strides += 1
                return self._strides > limit

            self.connection.set_progress_handler(spent, STRIDE)

    def shared(self, work: Work[T]) -> T:
        """A read on the event loop, in the snapshot that all reads of one turn of the loop have in common:
        SQLite's locks are taken once for them all. What is committed in that turn is seen in the next, and
        whoever waits for a commit learns of it no sooner.
        """
        self._strides = 0
        if not self.connection.in_transaction:
            self._state = -1
            self.connection.execute("BEGIN")
            asyncio.get_running_loop().call_soon(self._turn_over)
        return work(self.connection)

    def known(self, work: Work[T], key: Hashable, is_small: Callable[[T], bool]) -> T:
        """As `shared`, for what is asked again and again: the result is kept while nobody commits anything to
        the database, which SQLite is asked once a turn. `key` names the question."""
        if self._state < 0:
            self.shared(self._ask_state)
        result: T = self._kept.get(key, _UNKNOWN)
        if result is not _UNKNOWN:
            return result
        result = self.shared(work)
        if is_small(result):
            if len(self._kept) >= KEPT:
                self._kept.clear()
            self._kept[key] = result
        return result

    def _ask_state(self, connection: sqlite3.Connection) -> None:
        """Learn which state is read from now on, and forget what was kept of another."""
        (self._state,) = connection.execute(_STATE).fetchone()
        if self._state != self._kept_of:
            self._kept.clear()
            self._kept_of = self._state

    def _turn_over(self) -> None:
        self._strides, self._state = 0, -1
        if not self._is_closed and self.connection.in_transaction:
            self.connection.execute("ROLLBACK")

    def own(self, work: Work[T]) -> T:
        """A read on a thread, in a snapshot of its own."""
        connection = self.connection
        self._strides = 0
        connection.execute("BEGIN")
        try:
            return work(connection)
        finally:
            # An interrupted or failed read may have ended the transaction by itself.
            if connection.in_transaction:
                self._strides = 0
                connection.execute("ROLLBACK")

    def close(self) -> None:
        """End it, with the snapshot that is open."""
        self._is_closed = True
        self.connection.close()


class Readers:
    """The connections that a process reads by: one for each event loop, made when first used, and a few
    for threads."""

    def __init__(self, path: Path) -> None:
        self._path = path
        self._local = threading.local()
        self._lock = threading.Lock()
        self._open: list[_Reader] = []
        self._closed = False
        self._pool = ThreadPoolExecutor(THREADS, thread_name_prefix="sqlite-reader")

    async def short(self, work: Work[T]) -> T:
        """The result of a read in one snapshot, which must be repeatable: on the event loop, and on a thread
        where it takes long or meets a lock. Raises `errors.Unavailable`, `errors.BadRequest`.
        """
        return await self._short(_Reader.shared, work)

    async def known(self, key: Hashable, work: Work[T], is_small: Callable[[T], bool]) -> T:
        """As `short`. A small result is kept, by the name of the question, while nobody writes."""
        return await self._short(_Reader.known, work, key, is_small)

    async def _short(self, read: Callable[..., T], work: Work[T], *rest: object) -> T:
        try:
            return read(self._mine(BUDGET), work, *rest)
        except sqlite3.Error as exc:
            if primary(exc) not in _MOVES:
                raise translated(exc) from exc
        except UNSTORABLE as exc:
            if is_unstorable(exc):
                raise unstorable() from exc
            raise
        return await self.long(work)

    async def long(self, work: Work[T]) -> T:
        """As `short`, for what is known to take long: off the event loop at once."""
        if self._closed:
            raise errors.Unavailable("The metadata database is closed.")
        try:
            return await asyncio.get_running_loop().run_in_executor(self._pool, self._threaded, work)
        except sqlite3.Error as exc:
            raise translated(exc) from exc
        except UNSTORABLE as exc:
            if is_unstorable(exc):
                raise unstorable() from exc
            raise

    def _threaded(self, work: Work[T]) -> T:
        return self._mine(None).own(work)

    def _mine(self, budget: int | None) -> _Reader:
        """This thread's own reader."""
        found: _Reader | None = getattr(self._local, "reader", None)
        return found if found is not None and not self._closed else self._made(budget)

    def _made(self, budget: int | None) -> _Reader:
        with self._lock:
            if self._closed:
                raise errors.Unavailable("The metadata database is closed.")
            reader = _Reader(self._path, budget)
            self._open.append(reader)
        self._local.reader = reader
        return reader

    async def close(self) -> None:
        """Let the reads in hand end, then close all connections."""
        self._closed = True
        await asyncio.to_thread(self._pool.shutdown)
        with self._lock:
            for reader in self._open:
                reader.close()
            self._open.clear()
