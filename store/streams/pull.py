"""WS `/data/{id}/pull`: entries go out as they come, from wherever the client has come to."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence

from store.asgi import Receive, Send
from store.streams.asked import NEWEST, NEXT, Pull
from store.streams.flows import Stream
from store.streams.frames import named, offsets
from store.streams.ids import id_of
from store.streams.page import Page
from store.streams.sockets import NORMAL, Closed, Held, received, served
from store.streams.streams import Streams
from store.streams.visiting import Visitor

MESSAGE_BYTES = 1 << 20
"""How long a message gets at most, unless its only entry is longer."""
Pages = list[tuple[str, Page]]


async def positions(streams: Streams, found: Sequence[Stream], asked: Pull, newest: int) -> list[int]:
    """Behind which id to begin, for each stream. `newest`: how many entries `*` begins before the end."""
    places = []
    for stream, after in zip(found, asked.after, strict=True):
        if after == NEXT:
            places.append(await streams.last(stream))
        elif after == NEWEST:
            places.append(await streams.before_newest(stream, newest))
        else:
            places.append(id_of(after))
    return places


async def pull(
    streams: Streams,
    visitor: Visitor,
    asked: Pull,
    found: Sequence[Stream],
    wire_named: bool,
    receive: Receive,
    send: Send,
) -> None:
    """Serve a pull that was allowed, until either side ends it."""
    held = Held(streams, visitor, found, write=False)
    places = await positions(streams, found, asked, 1)
    puller = _Puller(streams, held, asked, dict(zip(asked.sids, places, strict=True)), wire_named)
    await served(send, puller.give_out(send), puller.listen(receive), held.watch())


class _Puller:
    """One socket, and how far it has come in each stream."""

    def __init__(
        self, streams: Streams, held: Held, asked: Pull, positions: dict[str, int], wire_named: bool
    ) -> None:
        self._streams = streams
        self._held = held
        self._asked = asked
        self._positions = positions
        self._named = wire_named
        self._taken = asyncio.Event()

    async def listen(self, receive: Receive) -> None:
        """Notice when the other side goes; any frame of it means that it wants more."""
        while True:
            await received(receive)
            self._taken.set()

    async def give_out(self, send: Send) -> None:
        """Send entries as they come. Raises `Closed` when none came for too long."""
        loop, asked = asyncio.get_running_loop(), self._asked
        sent_s = loop.time()
        async with self._streams.waiting(list(self._held.streams.values())) as woken:
            while True:
                woken.clear()
                pages = await self._pages()
                if not pages:
                    await self._wait(woken, sent_s)
                    continue
                self._taken.clear()
                for message in self._messages(pages):
                    await send(message)
                for sid, page in pages:
                    self._positions[sid] = page.ids[-1]
                # Frames that are sent together go out when others had their turn: before looking for more.
                await asyncio.sleep(0)
                if asked.ack:
                    await self._taken.wait()
                if asked.rate is not None:
                    await asyncio.sleep(max(0.0, sent_s + 1 / asked.rate - loop.time()))
                sent_s = loop.time()

    async def _wait(self, woken: asyncio.Event, since_s: float) -> None:
        if self._asked.timeout_s is None:
            await woken.wait()
            return
        left_s = since_s + self._asked.timeout_s - asyncio.get_running_loop().time()
        try:
            async with asyncio.timeout(left_s):
                await woken.wait()
        except TimeoutError:
            raise Closed(NORMAL, "No entry came in time.") from None

    async def _pages(self) -> Pages:
        """What is new, at most so many entries of each stream."""
        if self._asked.latest:
            await self._skip()
        if self._asked.sync is not None:
            return await synchronised(self._streams, self._held.streams, self._positions, self._asked.sync)
        share = max(1, MESSAGE_BYTES // len(self._positions))
        pages = []
        for sid, after in self._positions.items():
            page = await self._streams.read(self._held.streams[sid], after, self._asked.count, share)
            if page.ids:
                pages.append((sid, page))
        return pages

    async def _skip(self) -> None:
        """Leave out all but the newest."""
        for sid, after in self._positions.items():
            newest = await self._streams.before_newest(self._held.streams[sid], self._asked.count)
            self._positions[sid] = max(after, newest)

    def _messages(self, pages: Pages) -> list[dict[str, object]]:
        if self._named:
            header, data = named(pages)
        else:
            header, data = offsets(pages[0][1]), pages[0][1].data
        return [
            {"type": "websocket.send", "text": header.decode()},
            {"type": "websocket.send", "bytes": data},
        ]


async def synchronised(
    streams: Streams, found: dict[str, Stream], positions: dict[str, int], sync: str
) -> Pages:
    """The next entry of the stream that sets the pace, and of each other the newest one that is not later,
    unless the client has it."""
    lead = await streams.read(found[sync], positions[sync], 1, 1)
    if not lead.ids:
        return []
    pages = []
    for sid, stream in found.items():
        if sid == sync:
            pages.append((sid, lead))
            continue
        page = await streams.newest_until(stream, positions[sid], lead.ids[0])
        if page.ids:
            pages.append((sid, page))
    return pages
