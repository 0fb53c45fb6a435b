"""One commit for all that waits, and what a log tells of itself."""

from __future__ import annotations

import asyncio
import contextlib
import logging
from collections import deque
from collections.abc import Callable, Coroutine, Iterator, Sequence
from dataclasses import dataclass
from functools import partial
from typing import Any, Protocol

from store.errors import BadRequest, Error, Unavailable
from store.streams.entries import Entries
from store.streams.page import Page
from store.streams.records import record_bytes
from store.threads import Closed, Told

COMMIT_BYTES = 4 << 20
PENDING_BYTES = 32 << 20
"""How much may wait for its commit before who pushes has to wait."""
Write = Callable[[Sequence[Entries], Told], None]
"""Begins to write the entries of several calls at once; tells as `hot.HotFolder.append` returns or raises."""
_log = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True)
class Extent:
    """Where a stream ends: the id of its last entry, and how many entries and bytes there ever were."""

    last: int
    count: int
    size_bytes: int


class Waiters:
    """Those who wait for something new."""

    def __init__(self) -> None:
        self._events: set[asyncio.Event] = set()

    def __len__(self) -> int:
        return len(self._events)

    @contextlib.contextmanager
    def waiting(self, event: asyncio.Event | None = None) -> Iterator[asyncio.Event]:
        """An event that is set whenever there may be something new; clear it before looking."""
        event = event or asyncio.Event()
        self._events.add(event)
        try:
            yield event
        finally:
            self._events.discard(event)

    def wake(self) -> None:
        """Tell them."""
        for event in self._events:
            event.set()


class Commits:
    """Entries on their way, in the order in which they came."""

    def __init__(self, write: Write) -> None:
        self._write = write
        self._waiting: deque[tuple[Entries, asyncio.Future[list[int]], int]] = deque()
        self._bytes = 0
        self._room = asyncio.Event()
        self._idle = asyncio.Event()
        self._idle.set()

    @property
    def pending(self) -> bool:
        """Whether anything is on its way."""
        return not self._idle.is_set()

    async def room(self) -> None:
        """Wait while too much is on its way."""
        while self._bytes > PENDING_BYTES:
            self._room.clear()
            await self._room.wait()

    def submit(self, entries: Entries) -> asyncio.Future[list[int]]:
        """The ids of entries, once all are durable; else none is there."""
        future: asyncio.Future[list[int]] = asyncio.get_running_loop().create_future()
        # Whoever pushed may be gone by then.
        future.add_done_callback(lambda done: done.cancelled() or done.exception())
        if not entries.lengths:
            future.set_result([])
            return future
        size_bytes = record_bytes(entries)
        self._waiting.append((entries, future, size_bytes))
        self._bytes += size_bytes
        if self._idle.is_set():
            self._idle.clear()
            self._begin()
        return future

    async def close(self) -> None:
        """Finish what is on its way."""
        await self._idle.wait()

    def _begin(self) -> None:
        calls, futures, size_bytes = list[Entries](), list[asyncio.Future[list[int]]](), 0
        while self._waiting and size_bytes < COMMIT_BYTES:
            entries, future, each_bytes = self._waiting.popleft()
            calls.append(entries)
            futures.append(future)
            size_bytes += each_bytes
        self._write(calls, partial(self._ended, futures, size_bytes))

    def _ended(
        self,
        futures: Sequence[asyncio.Future[list[int]]],
        size_bytes: int,
        outcomes: Sequence[list[int] | BadRequest],
        error: BaseException | None,
    ) -> None:
        if error is not None and not isinstance(error, Error):
            # Whoever waits is told, whatever it was that came in between.
            if not isinstance(error, Closed | asyncio.CancelledError):
                _log.error("entries could not be written", exc_info=error)
            error = Unavailable("The entries could not be written.")
        try:
            _settle(futures, outcomes if error is None else [error] * len(futures))
        finally:
            self._bytes -= size_bytes
            self._room.set()
            if self._waiting:
                self._begin()
            else:
                self._idle.set()


def by_task(write: Callable[[Sequence[Entries]], Coroutine[Any, Any, list[list[int] | BadRequest]]]) -> Write:
    """A `Write` for what is written by awaiting."""
    # The loop keeps no task alive.
    writing = set[asyncio.Task[list[list[int] | BadRequest]]]()

    def begin(calls: Sequence[Entries], told: Told) -> None:
        task = asyncio.create_task(write(calls))
        writing.add(task)
        task.add_done_callback(partial(ended, told))

    def ended(told: Told, task: asyncio.Task[list[list[int] | BadRequest]]) -> None:
        writing.discard(task)
        error = asyncio.CancelledError() if task.cancelled() else task.exception()
        told([] if error is not None else task.result(), error)

    return begin


def _settle(futures: Sequence[asyncio.Future[list[int]]], outcomes: Sequence[list[int] | Error]) -> None:
    for future, outcome in zip(futures, outcomes, strict=True):
        if future.done():
            continue
        if isinstance(outcome, Error):
            future.set_exception(outcome)
        else:
            future.set_result(outcome)


class Log(Protocol):
    """What is not sealed of a stream, or all of it where nothing waits to be sealed."""

    waiters: Waiters

    @property
    def is_gone(self) -> bool:
        """Whether the stream has been deleted."""

    @property
    def is_used(self) -> bool:
        """Whether anything goes on here."""

    @property
    def base(self) -> int:
        """The id of the last entry that is sealed. Raises `errors.NotFound`."""

    @property
    def extent(self) -> Extent:
        """Where the stream ends, as far as this process knows. Raises `errors.NotFound`."""

    async def room(self) -> None:
        """Wait while too much is on its way."""

    def submit(self, entries: Entries) -> asyncio.Future[list[int]]:
        """The ids of entries, once all are durable; else none is there. In the order of the calls."""

    def read(self, after: int, limit: int, most_bytes: int, floor: int = 0) -> Page | None:
        """Entries after an id, of those that are not sealed; None when that is further back."""

    def newest(self, count: int, until: int | None) -> int | tuple[int, int]:
        """Behind which id the newest entries come, of those up to `until`; or how many are missing, and up
        to which sealed one."""

    def is_behind(self) -> bool:
        """Whether another process may have done something."""

    async def refresh(self) -> None:
        """Take in what other processes did."""

    async def remove(self) -> None:
        """The stream is gone."""

    async def close(self) -> None:
        """Finish what is being written, and let go."""
