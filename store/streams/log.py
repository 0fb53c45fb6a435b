"""The hot log of one stream as this process uses it: one writer that groups commits, readers that wait."""

from __future__ import annotations

import asyncio
import contextlib
import logging
from collections.abc import Awaitable, Callable, Iterator, Sequence
from functools import partial
from typing import Any, ParamSpec, TypeVar

from store.errors import NotFound
from store.streams.commits import Commits, Extent, Waiters
from store.streams.entries import Entries
from store.streams.hot import DELETED, HotFolder
from store.streams.hot_file import HotFile
from store.streams.page import Page, joined, most, page
from store.streams.records import Head
from store.threads import Kept, Lane, Tell, Told, settle, to_its_end

P = ParamSpec("P")
T = TypeVar("T")
_log = logging.getLogger(__name__)


class HotLog:
    """Appends entries durably and reads those that are not sealed yet. Use it on one loop."""

    def __init__(self, folder: HotFolder, tell: Tell, now_ns: Callable[[], int]) -> None:
        self.waiters = Waiters()
        self._folder = folder
        # The folder's lock keeps out other processes, not another thread.
        self._lane = Lane(tell)
        self._now_ns = now_ns
        self._commits = Commits(self._write)
        self._pinned = 0
        self._asking = 0
        self._gone = False
        self._last: int | None = None

    async def open(self, first: Callable[[], Awaitable[Head]]) -> None:
        """Find what there is. `first` tells where a stream without a log goes on."""
        await self._made(self._folder.open)
        if not self._folder.files:
            await self._made(self._folder.begin, await first(), self._now_ns())
        self._gone = False

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
        return bool(self.waiters or self._commits.pending or self._pinned or self._asking)

    @property
    def base(self) -> int:
        """The id of the last entry that is sealed."""
        files = self._folder.files
        if not files:
            raise NotFound(DELETED)
        return files[0].head.base

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
        await self._commits.room()

    def submit(self, entries: Entries) -> asyncio.Future[list[int]]:
        """The ids of entries, once all are durable; else none is there. In the order of the calls.

        The future raises as `HotFolder.append`, and `errors.BadRequest` for ids that cannot be.
        """
        return self._commits.submit(entries)

    def _write(self, calls: Sequence[Entries], told: Told) -> None:
        call = partial(self._folder.append, calls, self._now_ns())
        self._lane.put(call, partial(self._ended, told))

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

    def newest(self, count: int, until: int | None) -> int | tuple[int, int]:
        """Behind which id the newest entries come, of those up to `until`; or how many are missing, and up
        to which sealed one."""
        files = self._folder.files
        for file in reversed(files):
            there = file.count if until is None else file.behind(until)
            if there >= count:
                return file.ids[there - count] - 1
            count -= there
        return count, self.base if until is None else min(self.base, until)

    async def refresh(self) -> None:
        """Take in what other processes did."""
        if self._folder.is_behind():
            await self._made(self._folder.refresh)

    def is_behind(self) -> bool:
        """Whether another process has appended or sealed; a few microseconds."""
        try:
            return not self._lane.busy and self._folder.is_behind()
        except OSError as exc:
            _log.warning("a hot log cannot be looked at: %s", exc)
            return False

    async def rotate(self, older_ns: int) -> bool:
        """Begin a new file when the last one is that old; whether it did."""
        return await self._made(self._folder.rotate, self._now_ns(), older_ns)

    @contextlib.contextmanager
    def sealing(self) -> Iterator[bool]:
        """Whether nobody else is sealing. Meanwhile no file is closed."""
        self._pinned += 1
        try:
            with self._folder.sealing() as alone:
                yield alone
        finally:
            self._pinned -= 1
            if not self._lane.busy:
                self._tidy()

    async def drop(self, files: Sequence[HotFile]) -> None:
        """Remove sealed files."""
        await self._made(self._folder.drop, files)

    async def remove(self) -> None:
        """Remove the log: the stream is gone."""
        await self._made(self._folder.remove)

    async def close(self) -> None:
        """Finish what is being written, and let go of the files."""
        await self._commits.close()
        future = Kept[None](loop=asyncio.get_running_loop())
        self._lane.put(self._folder.close, partial(self._closed, partial(settle, future)))
        await to_its_end(future, _warn)

    async def _made(self, call: Callable[P, T], *args: P.args, **kwargs: P.kwargs) -> T:
        """What a call to the folder returns, once its thread has ended: whoever asked may be cancelled
        meanwhile, as a socket is whose client goes away, and the thread works on all the same."""
        future = Kept[T](loop=asyncio.get_running_loop())
        self._asking += 1
        try:
            self._lane.put(partial(call, *args, **kwargs), partial(self._ended, partial(settle, future)))
            return await to_its_end(future, _warn)
        finally:
            self._asking -= 1

    def _ended(self, told: Told, result: Any, error: BaseException | None) -> None:
        """Make known what a thread has done, also where who asked for it is gone: nobody looks again."""
        try:
            files = self._folder.files
            self._gone = self._gone or isinstance(error, NotFound) or not files
            if self._gone or files[-1].last != self._last:
                self._last = files[-1].last if files else None
                self.waiters.wake()
            self._tidy()
        finally:
            told(result, error)

    def _closed(self, told: Told, result: Any, error: BaseException | None) -> None:
        try:
            self._folder.close_retired()
        finally:
            told(result, error)

    def _tidy(self) -> None:
        """Close what is gone, while no thread is at the folder."""
        if not self._pinned:
            self._folder.close_retired()


def _warn(error: BaseException) -> None:
    _log.warning("a hot log failed after nobody waited for it: %s", error)


def _within(lengths: Sequence[int], first: int, last: int, most_bytes: int) -> int:
    """As `most`, of no entry if the first is too long."""
    return first if lengths[first] > most_bytes else most(lengths, first, last, most_bytes)
