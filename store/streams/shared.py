"""A stream that several machines append to: each commit is sealed at once, the shared database keeps order.

The segment of a commit begins right behind the last entry before it. Segments of a flow never overlap, so of
two that go on from the same entry one is refused, and reads on: ids increase in the order of the commits, and
no machine has anything that the others have not. There is no owner to reach, nor one to wait for.
"""

from __future__ import annotations

import asyncio
import random
from collections.abc import AsyncIterator, Sequence

from store.errors import BadRequest, NotFound, Unavailable
from store.streams.commits import Commits, Extent, Waiters, by_task
from store.streams.entries import Entries, assigned, joined
from store.streams.flows import Stream
from store.streams.hot import DELETED
from store.streams.page import EMPTY, Page
from store.streams.records import Head, entry_bytes, sealed_head
from store.streams.sealed import Sealed
from store.streams.sealing import Sealer, segment

POLL_S = 0.1
"""How often the database is asked for entries of other machines, while somebody waits for them."""
TRIES = 20


class SharedLog:
    """A `Log` without a hot part."""

    def __init__(self, stream: Stream, sealed: Sealed, sealer: Sealer) -> None:
        self.waiters = Waiters()
        self._stream = stream
        self._sealed = sealed
        self._sealer = sealer
        self._commits = Commits(by_task(self._write))
        self._busy = asyncio.Lock()
        self._asked_s = 0.0
        self._gone = False
        self._head = Head(stream.created_ns, 0, 0)

    @property
    def is_gone(self) -> bool:
        """As `Log.is_gone`."""
        return self._gone

    @property
    def is_used(self) -> bool:
        """As `Log.is_used`."""
        return bool(self.waiters or self._commits.pending)

    @property
    def base(self) -> int:
        """As `Log.base`."""
        return self.extent.last

    @property
    def extent(self) -> Extent:
        """As `Log.extent`."""
        if self._gone:
            raise NotFound(DELETED)
        return Extent(self._head.base, self._head.ordinal, self._head.size_before)

    async def room(self) -> None:
        """As `Log.room`."""
        await self._commits.room()

    def submit(self, entries: Entries) -> asyncio.Future[list[int]]:
        """As `Log.submit`."""
        return self._commits.submit(entries)

    def read(self, after: int, limit: int, most_bytes: int, floor: int = 0) -> Page | None:
        """As `Log.read`: nothing is not sealed."""
        return EMPTY if after >= self.base else None

    def newest(self, count: int, until: int | None) -> int | tuple[int, int]:
        """As `Log.newest`."""
        return count, self.base if until is None else min(self.base, until)

    def is_behind(self) -> bool:
        """As `Log.is_behind`: from time to time it may be."""
        now_s = asyncio.get_running_loop().time()
        if self._busy.locked() or now_s - self._asked_s < POLL_S:
            return False
        self._asked_s = now_s
        return True

    async def refresh(self) -> None:
        """As `Log.refresh`."""
        async with self._busy:
            await self._read_on()

    async def remove(self) -> None:
        """As `Log.remove`."""
        self._gone = True
        self.waiters.wake()

    async def close(self) -> None:
        """As `Log.close`."""
        await self._commits.close()

    async def _read_on(self) -> bool:
        """Whether others have come further."""
        try:
            head = await self._sealed.last_head(self._stream.flow_id)
        except NotFound:
            await self.remove()
            raise
        if head is None or head.base <= self._head.base:
            return False
        self._head = head
        self.waiters.wake()
        return True

    async def _write(self, calls: Sequence[Entries]) -> list[list[int] | BadRequest]:
        async with self._busy:
            for number in range(TRIES):
                outcomes = self._assigned(calls)
                ids = [id_ns for each in outcomes if not isinstance(each, BadRequest) for id_ns in each]
                if not ids or await self._committed(ids, calls, outcomes):
                    return outcomes
                if not await self._read_on() and number:
                    raise Unavailable("The stream's time is taken by segments that are none of its own.")
                await asyncio.sleep(random.random() * 0.005 * number)
        raise Unavailable("Others keep appending to the stream. Try again.")

    def _assigned(self, calls: Sequence[Entries]) -> list[list[int] | BadRequest]:
        last, outcomes = self._head.base, list[list[int] | BadRequest]()
        for entries in calls:
            try:
                found = assigned(entries, last, self._sealer.now_ns())
            except BadRequest as exc:
                outcomes.append(exc)
                continue
            outcomes.append(found)
            last = found[-1]
        return outcomes

    async def _committed(
        self,
        ids: Sequence[int],
        calls: Sequence[Entries],
        outcomes: Sequence[list[int] | BadRequest],
    ) -> bool:
        """Whether nobody else was faster."""
        entries = joined(
            [
                call
                for call, outcome in zip(calls, outcomes, strict=True)
                if not isinstance(outcome, BadRequest)
            ]
        )
        head = self._head
        data = [sealed_head(head, ids, entries.lengths), entries.data]
        name = self._sealer.new_id()
        row = (await self._sealer.place(self._stream, [name]))[name]
        await self._sealer.write(row, _chunks(data), sum(map(len, data)))
        post = segment(name, head.base + 1, ids[-1], len(ids))
        (error,) = await self._sealer.register(self._stream, [post])
        if error is not None:
            return False
        self._head = Head(ids[-1], head.ordinal + len(ids), head.size_before + entry_bytes(entries))
        self.waiters.wake()
        return True


async def _chunks(data: Sequence[bytes]) -> AsyncIterator[bytes]:
    yield b"".join(data)
