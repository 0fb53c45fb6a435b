"""The newest events, read once in a process for all who listen."""

from __future__ import annotations

import asyncio
import contextlib
import logging
from bisect import bisect_right
from collections.abc import Iterator

from store.errors import Error
from store.metadata.protocol import Metadata
from store.metadata.rows import StoredEvent

READ = 500
MOST_COST = 40_000
"""Of the events that are kept in memory: one counts one, and one for each of its segments."""
_log = logging.getLogger(__name__)


class Tail:
    """Follows the outbox while anybody waits. Events of this process are seen at once, those of others after
    `poll_s` at most."""

    def __init__(self, metadata: Metadata, poll_s: float = 1.0) -> None:
        self._metadata = metadata
        self._poll_s = poll_s
        self._heard = asyncio.Event()
        self._waiting: set[asyncio.Event] = set()
        self._events: list[StoredEvent] = []
        self._sequences: list[int] = []
        self._cost = 0
        self._last: int | None = None
        self._task: asyncio.Task[None] | None = None
        metadata.listen(self._heard.set)

    def start(self) -> None:
        """Begin to follow, on the running loop."""
        self._task = asyncio.create_task(self._follow(), name="events")

    async def stop(self) -> None:
        """Follow no more."""
        if self._task is not None:
            self._task.cancel()
            with contextlib.suppress(asyncio.CancelledError):
                await self._task

    @contextlib.contextmanager
    def waiting(self) -> Iterator[asyncio.Event]:
        """An event to wait on, set whenever there may be something new; clear it before looking."""
        woken = asyncio.Event()
        woken.set()
        self._waiting.add(woken)
        self._heard.set()
        try:
            yield woken
        finally:
            self._waiting.discard(woken)

    async def after(self, sequence: int, limit: int) -> list[StoredEvent]:
        """Events behind a sequence number, in order; those at hand, so perhaps none. Raises
        `errors.Unavailable`."""
        if self._sequences and sequence >= self._sequences[0] - 1:
            at = bisect_right(self._sequences, sequence)
            return self._events[at : at + limit]
        if self._last is not None and sequence >= self._last:
            return []
        return await self._metadata.events(sequence, limit)

    async def event(self, sequence: int) -> StoredEvent | None:
        """One event, None when it is forgotten. Raises `errors.Unavailable`."""
        at = bisect_right(self._sequences, sequence) - 1
        if at >= 0 and self._sequences[at] == sequence:
            return self._events[at]
        # Not being at hand does not mean being forgotten: others may have read further than this has.
        found = await self._metadata.events(sequence - 1, 1)
        return found[0] if found and found[0].sequence == sequence else None

    async def _follow(self) -> None:
        while True:
            with contextlib.suppress(TimeoutError):
                async with asyncio.timeout(self._poll_s if self._waiting else None):
                    await self._heard.wait()
            self._heard.clear()
            if not self._waiting:
                continue
            try:
                while await self._read():
                    self.wake()
            except Error as exc:
                _log.warning("the outbox cannot be read: %s", exc)
                await asyncio.sleep(self._poll_s)

    async def _read(self) -> bool:
        """Take in what is new; whether there was anything."""
        if self._last is None:
            self._last = await self._metadata.last_event()
            return True
        found = await self._metadata.events(self._last, READ)
        if not found:
            return False
        self._events += found
        self._sequences += [each.sequence for each in found]
        self._cost += sum(map(cost_of, found))
        self._last = found[-1].sequence
        self._forget()
        return True

    def _forget(self) -> None:
        """Drop the oldest until half of what may be kept is left, so that it is not done for each event."""
        if self._cost <= MOST_COST:
            return
        drop = 0
        while self._cost > MOST_COST // 2 and drop < len(self._events):
            self._cost -= cost_of(self._events[drop])
            drop += 1
        del self._events[:drop], self._sequences[:drop]

    def wake(self) -> None:
        """Let all that wait look again."""
        for woken in self._waiting:
            woken.set()


def cost_of(stored: StoredEvent) -> int:
    """What an event weighs in memory: one, and one for each of its segments."""
    return 1 + len(stored.event.body.get("segments", ()))
