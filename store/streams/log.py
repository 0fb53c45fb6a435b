"""The hot log of one stream as this process uses it: one writer that groups commits, readers that wait."""

from __future__ import annotations

import asyncio
import contextlib
import logging
from collections import deque
from collections.abc import Awaitable, Callable, Iterator, Sequence
from dataclasses import dataclass
from typing import ParamSpec, Protocol, TypeVar

from store.errors import Error, NotFound, Unavailable
from store.streams.hot import DELETED, HotFile, HotFolder, record_bytes
from store.streams.ids import Wanted
from store.streams.page import Page, joined, most, page
from store.streams.records import Head

P = ParamSpec("P")
T = TypeVar("T")
COMMIT_BYTES = 4 << 20
PENDING_BYTES = 32 << 20
"""How much may wait for its commit before who pushes has to wait."""
_log = logging.getLogger(__name__)


class Run(Protocol):
    """Runs a blocking call elsewhere."""

    def __call__(self, call: Callable[P, T], *args: P.args, **kwargs: P.kwargs) -> Awaitable[T]: ...


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


class HotLog:
    """Appends entries durably and reads those that are not sealed yet. Use it on one loop."""

    def __init__(self, folder: HotFolder, run: Run, now_ns: Callable[[], int]) -> None:
        self.waiters = Waiters()
        self._folder = folder
        self._run = run
        self._now_ns = now_ns
        self._busy = asyncio.Lock()
        self._pending: deque[tuple[Sequence[Wanted], asyncio.Future[list[int]]]] = deque()
        self._pending_bytes = 0
        self._room = asyncio.Event()
        self._committing: asyncio.Task[None] | None = None
        self._pinned = 0
        self._gone = False

    async def open(self, first: Callable[[], Awaitable[Head]]) -> None:
        """Find what there is. `first` tells where a stream without a log goes on."""
        async with self._busy:
            await self._run(self._folder.open)
            if not self._folder.files:
                await self._run(self._folder.begin, await first(), self._now_ns())

    @property
    def files(self) -> tuple[HotFile, ...]:
        """What is not sealed, oldest first."""
        return self._folder.files

    @property
    def is_gone(self) -> bool:
        """Whether the stream has been deleted."""
        return self._gone

    @property
    def is_used(self) -> bool:
        """Whether anything goes on here."""
        return bool(self.waiters or self._pending or self._pinned or self._busy.locked())

    @property
    def extent(self) -> Extent:
        """Where the stream ends, as far as this process knows. Raises `NotFound`."""
        files = self._folder.files
        if not files:
            raise NotFound(DELETED)
        following = files[-1].following
        return Extent(following.base, following.ordinal, following.size_before)

    async def room(self) -> None:
        """Wait while too much is on its way to the disk."""
        while self._pending_bytes > PENDING_BYTES:
            self._room.clear()
            await self._room.wait()

    def submit(self, wanted: Sequence[Wanted]) -> asyncio.Future[list[int]]:
        """The ids of entries, once all are durable; else none is there. In the order of the calls.

        The future raises as `HotFolder.append`, and `errors.BadRequest` for ids that cannot be.
        """
        future: asyncio.Future[list[int]] = asyncio.get_running_loop().create_future()
        # Whoever pushed may be gone by then.
        future.add_done_callback(lambda done: done.cancelled() or done.exception())
        if not wanted:
            future.set_result([])
            return future
        self._pending.append((wanted, future))
        self._pending_bytes += record_bytes(wanted)
        if self._committing is None:
            self._committing = asyncio.create_task(self._commit())
        return future

    async def _commit(self) -> None:
        try:
            while self._pending:
                async with self._busy:
                    await self._commit_some()
        finally:
            self._committing = None

    async def _commit_some(self) -> None:
        """One write and one sync for all that waits, within bounds."""
        batch, size_bytes = [], 0
        while self._pending and size_bytes < COMMIT_BYTES:
            wanted, future = self._pending.popleft()
            batch.append((wanted, future))
            size_bytes += record_bytes(wanted)
        futures = [future for _, future in batch]
        try:
            outcomes = await self._run(self._folder.append, [wanted for wanted, _ in batch], self._now_ns())
        except Error as exc:
            self._gone = self._gone or isinstance(exc, NotFound)
            _settle(futures, [exc] * len(futures))
        # Whoever waits must be told, whatever it was; the task's own failure is then logged by the loop.
        except BaseException:
            _settle(futures, [Unavailable("The entries could not be written.")] * len(futures))
            raise
        else:
            _settle(futures, outcomes)
        finally:
            self._pending_bytes -= size_bytes
            self._room.set()
        self._tidy()
        self.waiters.wake()

    def read(self, after: int, limit: int, most_bytes: int, floor: int = 0) -> Page | None:
        """Entries after an id, of those that are not sealed yet; None when that is further back.

        `floor`: how many entries of the stream there are before the first that may be read.
        """
        files = self._folder.files
        if not files:
            raise NotFound(DELETED)
        if after < files[0].head.base:
            return None
        pages: list[Page] = []
        for file in files:
            if limit <= 0 or most_bytes <= 0:
                break
            first = max(file.behind(after), floor - file.head.ordinal)
            last = min(file.count, first + limit)
            if first >= last:
                continue
            last = (
                most(file.lengths, first, last, most_bytes)
                if not pages
                else _within(file.lengths, first, last, most_bytes)
            )
            if first >= last:
                break
            found = page(file.ids, file.starts, file.lengths, (first, last), file.read)
            pages.append(found)
            limit -= len(found.ids)
            most_bytes -= len(found.data)
            if last < file.count:
                break
        return joined(pages)

    async def refresh(self) -> None:
        """Take in what other processes did."""
        if not self._folder.is_behind():
            return
        async with self._busy:
            if not self._folder.is_behind():
                return
            await self._run(self._folder.refresh)
            self._gone = self._gone or not self._folder.files
        self._tidy()
        self.waiters.wake()

    def is_behind(self) -> bool:
        """Whether another process has appended or sealed; a few microseconds."""
        try:
            return not self._busy.locked() and self._folder.is_behind()
        except OSError as exc:
            _log.warning("a hot log cannot be looked at: %s", exc)
            return False

    async def rotate(self, older_ns: int) -> bool:
        """Begin a new file when the last one is that old; whether it did."""
        async with self._busy:
            return await self._run(self._folder.rotate, self._now_ns(), older_ns)

    @contextlib.contextmanager
    def sealing(self) -> Iterator[bool]:
        """Whether nobody else is sealing. Meanwhile no file is closed."""
        self._pinned += 1
        try:
            with self._folder.sealing() as alone:
                yield alone
        finally:
            self._pinned -= 1
            self._tidy()

    async def drop(self, file: HotFile) -> None:
        """Remove a sealed file."""
        async with self._busy:
            await self._run(self._folder.drop, file)

    async def remove(self) -> None:
        """Remove the log: the stream is gone."""
        async with self._busy:
            await self._run(self._folder.remove)
            self._gone = True
        self._tidy()
        self.waiters.wake()

    async def close(self) -> None:
        """Finish what is being written, and let go of the files."""
        if self._committing is not None:
            await asyncio.wait([self._committing])
        async with self._busy:
            self._folder.close()

    def _tidy(self) -> None:
        if not self._pinned:
            self._folder.close_retired()


def _within(lengths: Sequence[int], first: int, last: int, most_bytes: int) -> int:
    """As `most`, of no entry if the first is too long."""
    return first if lengths[first] > most_bytes else most(lengths, first, last, most_bytes)


def _settle(futures: Sequence[asyncio.Future[list[int]]], outcomes: Sequence[list[int] | Error]) -> None:
    for future, outcome in zip(futures, outcomes, strict=True):
        if future.done():
            continue
        if isinstance(outcome, Error):
            future.set_exception(outcome)
        else:
            future.set_result(outcome)
