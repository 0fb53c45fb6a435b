"""All streams of this process: opened when used, sealed and trimmed in the background."""

from __future__ import annotations

import asyncio
import contextlib
import logging
from collections.abc import AsyncIterator, Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path

from store.core import Store
from store.domain.collections import flow_ref
from store.errors import Error, NotFound
from store.metadata.protocol import Stale
from store.metadata.rows import Document, Row
from store.streams import retention
from store.streams.commits import Log
from store.streams.entries import Entries
from store.streams.flows import Retention, Stream, flow_id_of, sid_of, stream_of
from store.streams.hot import HotFolder, Sizes
from store.streams.log import HotLog
from store.streams.page import EMPTY, Page
from store.streams.records import HOT_HEADER_BYTES, Head
from store.streams.sealed import Sealed
from store.streams.sealing import Sealer
from store.streams.shared import SharedLog
from store.threads import Crew

THREADS = 8
POLL_S = 0.02
"""How late the entries of another process are seen."""
TURN_S = 0.25
SEAL_NS = 1_000_000_000
SCAN_S = 5.0
TRIM_S = 5.0
HURRY = 32
"""Full files of a stream that do not wait for the next turn: sealing many costs little more than one."""
TURNS = 4
"""Streams that are sealed at once."""
SWEPT = 100
"""Hot logs of which it is asked at once whether their flow is still there."""
MOST_PAUSE_S = 30.0
IDLE = 256
"""Logs that are kept open though nobody uses them."""
_log = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True)
class Options:
    """How streams are kept. `retention`: for what a stream leaves open. `shared`: other machines use the same
    metadata, so that nothing may be hot on this one."""

    folder: Path
    backend_id: str | None = None
    retention: Retention = Retention()
    sizes: Sizes = Sizes()
    seal_ns: int = SEAL_NS
    shared: bool = False


@dataclass(slots=True, eq=False)
class _Open:
    stream: Stream
    log: Log
    trimmed_s: float = 0.0
    again_s: float = 0.0
    pause_s: float = 0.0
    turn: asyncio.Lock = field(default_factory=asyncio.Lock)


class Streams:
    """Appends to streams and reads them, the hot tail and the sealed past as one."""

    def __init__(self, store: Store, options: Options) -> None:
        self._store = store
        self._options = options
        self._sealed = Sealed(store.metadata, store.backends)
        self._threads = Crew(THREADS, "streams")
        self._sealer = Sealer(
            store.metadata,
            store.backends,
            options.backend_id,
            store.now_ns,
            store.new_id,
            self._threads,
        )
        self._open: dict[tuple[str, int], _Open] = {}
        self._opening: dict[tuple[str, int], asyncio.Task[Log]] = {}
        self._tasks: list[asyncio.Task[None]] = []
        self._work = asyncio.Event()
        self._swept = 0
        self._turns = asyncio.Semaphore(TURNS)

    def start(self) -> None:
        """Begin with the background work, on the running loop."""
        loops = {"poll": self._poll, "seal": self._seal, "scan": self._scan}
        self._tasks = [asyncio.create_task(run(), name=f"streams {name}") for name, run in loops.items()]
        self._store.claims.add(self.claimed)

    async def stop(self) -> None:
        """Finish what is being written. What is not sealed yet is found again by the next start."""
        if self._tasks:
            self._store.claims.remove(self.claimed)
        for task in self._tasks:
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)
        while self._open:
            _, each = self._open.popitem()
            await each.log.close()
        await self._threads.close()

    def backlog(self) -> tuple[int, int]:
        """How many logs are open here, and how many files wait to be sealed of the one with the most."""
        logs = [each.log for each in self._open.values()]
        return len(logs), max((len(log.files) for log in logs if isinstance(log, HotLog)), default=0)

    def now_ns(self) -> int:
        """Unix nanoseconds."""
        return self._store.now_ns()

    def new_id(self) -> str:
        """A fresh UUID."""
        return self._store.new_id()

    async def find(self, sid: str) -> Stream:
        """A stream as it is now. Raises `errors.NotFound`."""
        ref = flow_ref(flow_id_of(sid))
        found = stream_of((await self._store.metadata.rows([ref])).get(ref), self._options.retention)
        if found is None or found.id != sid:
            raise NotFound("No such stream.")
        return found

    async def append(self, stream: Stream, entries: Entries) -> list[int]:
        """The ids of entries, all durable when it returns, or none is there. Raises as `HotLog.submit`."""
        return await (await self.submit(stream, entries))

    async def submit(self, stream: Stream, entries: Entries) -> asyncio.Future[list[int]]:
        """As `append`, once there is room for it: entries are in the order in which this was called."""
        log = await self._log_of(stream)
        await log.room()
        if isinstance(log, HotLog) and len(log.files) > HURRY:
            self._work.set()
        return log.submit(entries)

    async def last(self, stream: Stream) -> int:
        """The id of the newest entry, of whatever process; of an empty stream that of none."""
        log = await self._log_of(stream)
        await log.refresh()
        return log.extent.last

    async def read(self, stream: Stream, after: int, limit: int, most_bytes: int) -> Page:
        """Entries after an id in order, of those that are kept: at most `limit`, at most `most_bytes` unless
        the first alone is longer, one at least where there is any."""
        log = await self._log_of(stream)
        floor = retention.floor_of(stream.retention, log.extent)
        after = max(after, retention.oldest_ns(stream.retention, self._store.now_ns()) - 1)
        while True:
            base = log.base
            page = log.read(after, limit, most_bytes, floor)
            if page is not None:
                return page
            page = await self._sealed.read(stream.flow_id, after, limit, most_bytes, floor)
            if page.ids:
                return page
            # Nothing is left between here and what was hot before looking.
            after = max(after, base)

    async def before_newest(self, stream: Stream, count: int, until: int | None = None) -> int:
        """The id behind which the newest `count` entries come, of those up to `until` where it is given."""
        log = await self._log_of(stream)
        await log.refresh()
        found = log.newest(count, until)
        if isinstance(found, int):
            return found
        return await self._sealed.before_newest(stream.flow_id, *found)

    async def newest_until(self, stream: Stream, after: int, until: int) -> Page:
        """The newest entry up to `until`, if it comes after an id."""
        place = max(after, await self.before_newest(stream, 1, until))
        page = await self.read(stream, place, 1, 1)
        return page if page.ids and page.ids[0] <= until else EMPTY

    @contextlib.asynccontextmanager
    async def waiting(self, streams: Sequence[Stream]) -> AsyncIterator[asyncio.Event]:
        """An event that is set whenever one of the streams may have something new."""
        woken = asyncio.Event()
        with contextlib.ExitStack() as stack:
            for stream in streams:
                stack.enter_context((await self._log_of(stream)).waiters.waiting(woken))
            yield woken

    async def claimed(self, row: Row, document: Document) -> int | None:
        """As `domain.claims.Claimed`: behind what is sealed of a stream that has a log."""
        stream = stream_of(row, self._options.retention) if sid_of(document) is not None else None
        if stream is None or not await self._has_log(stream):
            return None
        log = await self._log_of(stream)
        await log.refresh()
        return log.base + 1

    async def _has_log(self, stream: Stream) -> bool:
        if self._options.shared or stream.key in self._open:
            return True
        return await self._threads.run((self._options.folder / folder_name(stream)).exists)

    def is_gone(self, stream: Stream) -> bool:
        """Whether a stream is known to have been deleted."""
        found = self._open.get(stream.key)
        return found is not None and found.log.is_gone

    async def forget(self, stream: Stream) -> None:
        """Remove what is hot of a stream whose flow has gone."""
        log = await self._log_of(stream)
        await log.remove()

    async def _log_of(self, stream: Stream) -> Log:
        found = self._open.get(stream.key)
        if found is not None:
            if found.stream is not stream:
                found.stream = stream
            return found.log
        opening = self._opening.get(stream.key)
        if opening is None:
            opening = self._opening[stream.key] = asyncio.create_task(self._opened(stream))
            opening.add_done_callback(lambda _: self._opening.pop(stream.key, None))
        # Whoever else waits for it goes on waiting when one gives up.
        log = await asyncio.shield(opening)
        return self._open.setdefault(stream.key, _Open(stream, log)).log

    async def _opened(self, stream: Stream) -> Log:
        if self._options.shared:
            shared = SharedLog(stream, self._sealed, self._sealer)
            await shared.refresh()
            return shared
        folder = HotFolder(self._options.folder / folder_name(stream), self._options.sizes)
        log = HotLog(folder, self._threads.tell, self._store.now_ns)

        async def first() -> Head:
            return await self._sealed.last_head(stream.flow_id) or Head(0, 0, 0)

        await log.open(first)
        return log

    async def _poll(self) -> None:
        """Look for what other processes append, where somebody waits for it."""
        while True:
            await asyncio.sleep(POLL_S)
            behind = [each.log for each in self._open.values() if each.log.waiters and each.log.is_behind()]
            await asyncio.gather(*map(_refresh, behind))

    async def _seal(self) -> None:
        while True:
            with contextlib.suppress(TimeoutError):
                async with asyncio.timeout(TURN_S):
                    await self._work.wait()
            self._work.clear()
            due = [each for each in self._open.values() if _has_work(each)]
            await asyncio.gather(*map(self._try_turn, due))
            await self._close_idle()

    async def _try_turn(self, each: _Open) -> None:
        """A turn, unless one failed a moment ago: then it is tried again later and later."""
        loop = asyncio.get_running_loop()
        if loop.time() < each.again_s:
            return
        each.pause_s = min(MOST_PAUSE_S, max(1.0, 2 * each.pause_s))
        each.again_s = loop.time() + each.pause_s
        with _logged("sealing"):
            async with self._turns, each.turn:
                await self._turn(each, self._options.seal_ns)
            each.pause_s = each.again_s = 0.0

    async def _turn(self, each: _Open, older_ns: int) -> None:
        """Seal what is due of one stream, and trim it."""
        log = each.log
        if log.is_gone:
            self._open.pop(each.stream.key, None)
            await log.close()
            return
        if isinstance(log, HotLog):
            await self._seal_some(each, log, older_ns)
        await self._trim(each)

    async def _seal_some(self, each: _Open, log: HotLog, older_ns: int) -> None:
        newest = log.files[-1]
        if newest.count and (not older_ns or self._is_due(newest.head.begun_ns, older_ns)):
            await log.rotate(older_ns)
        if len(log.files) < 2:
            return
        stream = await self._current(each)
        if stream is None:
            await log.remove()
            return
        while await self._sealer.seal(stream, log):
            continue

    def _is_due(self, begun_ns: int, older_ns: int) -> bool:
        return self._store.now_ns() - begun_ns >= older_ns

    async def _current(self, each: _Open) -> Stream | None:
        """The stream as it is now, None when its flow has gone."""
        ref = flow_ref(each.stream.flow_id)
        row = (await self._store.metadata.rows([ref])).get(ref)
        if row is None or row.created_ns != each.stream.created_ns:
            return None
        found = stream_of(row, self._options.retention)
        if found is not None:
            each.stream = found
        return each.stream

    async def _trim(self, each: _Open) -> None:
        now_s = asyncio.get_running_loop().time()
        if each.log.is_gone or each.stream.retention == Retention() or now_s - each.trimmed_s < TRIM_S:
            return
        each.trimmed_s = now_s
        store = self._store
        await retention.trim(
            store.metadata, self._sealed, each.stream, each.log.extent, store.now_ns(), store.new_id
        )

    async def _close_idle(self) -> None:
        idle = [key for key, each in self._open.items() if not each.log.is_used]
        for key in idle[: max(0, len(self._open) - IDLE)]:
            # Closing one takes a while, in which another may have come into use.
            if key in self._open and not self._open[key].log.is_used:
                await self._open.pop(key).log.close()

    async def _scan(self) -> None:
        """Take care of what dead processes left, and of streams whose flow has gone."""
        while True:
            with _logged("looking for hot logs"):
                found = await self._threads.run(self._folders)
                for key, is_hot in found.items():
                    if is_hot and key not in self._open:
                        await self._adopt(*key)
                await self._sweep([key for key in found if key not in self._open])
            await asyncio.sleep(SCAN_S)

    def _folders(self) -> dict[tuple[str, int], bool]:
        """The streams that have a hot log here, and whether anything is in it."""
        found = {}
        for path in self._options.folder.glob("*.*"):
            flow_id, _, created = path.name.partition(".")
            if created.isdigit():
                sizes = [each.stat().st_size for each in path.glob("*.log")]
                found[flow_id, int(created)] = any(size > HOT_HEADER_BYTES for size in sizes)
        return found

    async def _adopt(self, flow_id: str, created_ns: int) -> None:
        await self._log_of(Stream(flow_id, flow_id, created_ns, self._options.retention))
        self._work.set()

    async def _sweep(self, keys: Sequence[tuple[str, int]]) -> None:
        """Remove the hot logs of flows that have gone, some at a time."""
        some = keys[self._swept : self._swept + SWEPT]
        self._swept = self._swept + SWEPT if len(some) == SWEPT else 0
        rows = await self._store.metadata.rows([flow_ref(flow_id) for flow_id, _ in some])
        for flow_id, created_ns in some:
            row = rows.get(flow_ref(flow_id))
            if (row is None or row.created_ns != created_ns) and (flow_id, created_ns) not in self._open:
                stream = Stream(flow_id, flow_id, created_ns, self._options.retention)
                await self._threads.run(
                    HotFolder(self._options.folder / folder_name(stream), self._options.sizes).remove
                )


async def _refresh(log: Log) -> None:
    with _logged("reading on"):
        await log.refresh()


def _has_work(each: _Open) -> bool:
    """Whether there may be something to seal or to trim of a stream."""
    log = each.log
    if log.is_gone or each.stream.retention != Retention():
        return True
    return isinstance(log, HotLog) and any(file.count for file in log.files)


def folder_name(stream: Stream) -> str:
    """The folder of a stream's hot log; one that is made anew under the same id has another."""
    return f"{stream.flow_id}.{stream.created_ns}"


@contextlib.contextmanager
def _logged(what: str) -> Iterator[None]:
    """Keep a background loop going: what fails now is tried again at the next turn."""
    try:
        yield
    except (Error, Stale) as exc:
        _log.warning("streams: %s: %s", what, exc)
    # A fault with one stream must not end the work for all others: nobody would notice.
    except Exception:
        _log.exception("streams: %s", what)
