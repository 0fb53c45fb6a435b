"""Events as they happen, for those who hold a connection open: the same events, filters and permissions as
those of a webhook. Nothing is queued for a listener: whoever reads slowly falls behind in the outbox."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import NamedTuple

from store.errors import BadRequest, Error, Gone, Unavailable
from store.events.admission import Admit, Lapsed
from store.events.bodies import Options, Renderer
from store.events.matching import Filters, names, wants
from store.events.retention import KEPT_NS
from store.events.sealing import Seal, Unreadable
from store.events.tail import Tail
from store.metadata.protocol import Metadata
from store.metadata.rows import StoredEvent

READ = 100
BEAT_S = 5.0
PATIENCE = 20
"""How often in a row it may fail to find out who may see an event."""
END_S = 1.0
"""How long the listeners get to be told that the server stops."""
BUSY = "There are too many listeners. Try again later."
STOPS = "The server stops."


class Message(NamedTuple):
    """One event. `mark` names it to whoever goes on from here; None in all three: none came for a while."""

    mark: str | None = None
    type: str | None = None
    body: bytes | None = None


@dataclass(frozen=True, slots=True)
class Listener:
    """Who listens, and to what. `owner` as `Admit` takes it; `name` is what marks are bound to. `is_known`:
    whether the caller's credential still counts."""

    name: str
    owner: bytes | None
    admit: Admit
    filters: Filters
    options: Options
    after: str | None
    is_known: Callable[[], Awaitable[bool]]


@dataclass(frozen=True, slots=True)
class LiveParts:
    """What streams are made of. `most`: how many there may be at once."""

    metadata: Metadata
    tail: Tail
    renderer: Renderer
    seal: Seal
    now_ns: Callable[[], int]
    most: int
    beat_s: float = BEAT_S


class Live:
    """The live streams of this process."""

    def __init__(self, parts: LiveParts) -> None:
        self._parts = parts
        self._count = 0
        self.is_ending = False
        """Whether no more is told, since the server stops."""

    async def start(self, listener: Listener) -> int:
        """Where a listener begins: behind its mark, or with what happens from now on.

        Raises `BadRequest` for a mark that is none of its own, `Gone` for one too old to go on from.
        """
        metadata = self._parts.metadata
        if listener.after is None:
            return await metadata.last_event()
        try:
            sequence, time_ns = map(int, self._parts.seal.open(listener.after, _bound(listener)).split())
        except Unreadable:
            raise BadRequest("`after` is not the id of an event that you were told of.") from None
        if self._parts.now_ns() - time_ns >= KEPT_NS:
            found = await metadata.events(sequence, 1)
            following = found[0].sequence if found else await metadata.last_event() + 1
            if following > sequence + 1:
                raise Gone("What happened behind `after` is forgotten. Read what there is, and listen anew.")
        return sequence

    @contextmanager
    def place(self) -> Iterator[None]:
        """A place among the listeners. Raises `Unavailable` when all are taken."""
        if self.is_ending:
            raise Unavailable(STOPS)
        if self._count >= self._parts.most:
            raise Unavailable(BUSY)
        self._count += 1
        try:
            yield
        finally:
            self._count -= 1

    async def end(self) -> None:
        """The server stops: end all streams, and return when they have been told, or have had their time."""
        self.is_ending = True
        self._parts.tail.wake()
        deadline_s = asyncio.get_running_loop().time() + END_S
        while self._count and asyncio.get_running_loop().time() < deadline_s:
            await asyncio.sleep(0.01)

    async def messages(
        self, listener: Listener, position: int, gone: asyncio.Future[None]
    ) -> AsyncIterator[Message]:
        """Events behind a position as they come, and an empty message when there was none for `beat_s`.

        Ends when `gone` is done, when the server stops, when the credential no longer counts, and when it
        cannot be found out for long who may see an event: whoever goes on from the last mark misses nothing.
        """
        parts, loop = self._parts, asyncio.get_running_loop()
        checked_s = loop.time()
        with parts.tail.waiting() as woken:
            gone.add_done_callback(lambda _: woken.set())
            while not gone.done():
                if loop.time() - checked_s >= parts.beat_s:
                    if not await listener.is_known():
                        return
                    checked_s = loop.time()
                woken.clear()
                if self.is_ending:
                    return
                found = await parts.tail.after(position, READ)
                for stored in found:
                    try:
                        message = await self._message(listener, stored)
                    except (Lapsed, Unavailable):
                        return
                    position = stored.sequence
                    if message is not None:
                        yield message
                    if gone.done() or self.is_ending or loop.time() - checked_s >= parts.beat_s:
                        break
                if not found and not await _woken(woken, parts.beat_s):
                    yield Message()

    async def _message(self, listener: Listener, stored: StoredEvent) -> Message | None:
        """What a listener is told of an event. While that cannot be decided, it waits."""
        if not names(listener.filters, stored.event):
            return None
        for attempt in range(PATIENCE):
            try:
                admitted = await listener.admit(listener.owner, stored.event)
                if admitted is None or not wants(listener.filters, admitted.event):
                    return None
                body = await self._parts.renderer.message(admitted.event, listener.options, admitted.view)
                break
            except Error as exc:
                if attempt == PATIENCE - 1:
                    raise Unavailable("It cannot be decided who may see an event.") from exc
                await asyncio.sleep(1)
        mark = self._parts.seal.close(f"{stored.sequence} {stored.event.time_ns}", _bound(listener))
        return Message(mark, stored.event.type, body)


def _bound(listener: Listener) -> str:
    return f"events {listener.name}"


async def _woken(woken: asyncio.Event, within_s: float) -> bool:
    try:
        async with asyncio.timeout(within_s):
            await woken.wait()
    except TimeoutError:
        return False
    return True
