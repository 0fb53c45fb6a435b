"""WS `/data/{id}/push`: entries come in, and are acknowledged once they are durable."""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import Sequence

from store.asgi import Receive, Send
from store.errors import BadRequest
from store.streams.asked import MOST_STREAMS, Push
from store.streams.entries import Entries
from store.streams.flows import Stream
from store.streams.frames import Batch, batch, by_stream
from store.streams.ids import texts_of
from store.streams.sockets import MALFORMED, REFUSED, WRONG_TYPE, Closed, Held, received, served
from store.streams.streams import Streams
from store.streams.visiting import Visitor

WINDOW_BYTES = 4 << 20
WINDOW = 1024
"""How much of one socket may be on its way to the disk, in bytes and in messages, before no more is read."""


class _Window:
    """Messages on their way, in order."""

    def __init__(self) -> None:
        self._waiting: deque[tuple[list[asyncio.Future[list[int]]], list[int] | None, int]] = deque()
        self._bytes = 0
        self._came = asyncio.Event()
        self._went = asyncio.Event()

    async def add(
        self, parts: list[asyncio.Future[list[int]]], places: list[int] | None, size_bytes: int
    ) -> None:
        """Take a message in, and wait until there is room for one more. `places`: by entry, the part it is
        in; None where there is but one."""
        self._waiting.append((parts, places, size_bytes))
        self._bytes += size_bytes
        self._came.set()
        while self._bytes > WINDOW_BYTES or len(self._waiting) > WINDOW:
            self._went.clear()
            await self._went.wait()

    async def next(self) -> list[int]:
        """The ids of the entries of the next message, in its order, once they are durable."""
        while not self._waiting:
            self._came.clear()
            await self._came.wait()
        parts, places, size_bytes = self._waiting[0]
        ids = [await part for part in parts]
        self._waiting.popleft()
        self._bytes -= size_bytes
        self._went.set()
        if places is None:
            return ids[0]
        found = list(map(iter, ids))
        return [next(found[place]) for place in places]


async def push(
    streams: Streams,
    visitor: Visitor,
    asked: Push,
    found: Sequence[Stream],
    receive: Receive,
    send: Send,
) -> None:
    """Serve a push that was allowed, until either side ends it."""
    held, window = Held(streams, visitor, found, write=True), _Window()
    pusher = _Pusher(streams, held, asked, window)
    await served(send, pusher.take_in(receive), _acknowledge(window, send, asked.ack), held.watch())


async def _acknowledge(window: _Window, send: Send, ack: bool) -> None:
    while True:
        try:
            ids = await window.next()
        except BadRequest as exc:
            raise Closed(REFUSED, exc.summary) from exc
        if ack:
            await send({"type": "websocket.send", "text": ",".join(texts_of(ids))})


class _Pusher:
    """Reads the frames of one socket."""

    def __init__(self, streams: Streams, held: Held, asked: Push, window: _Window) -> None:
        self._streams = streams
        self._held = held
        self._asked = asked
        self._window = window

    async def take_in(self, receive: Receive) -> None:
        """Read until the other side has gone. Raises `Closed` for frames that cannot be."""
        while True:
            frame = await received(receive)
            if not self._asked.batch:
                if isinstance(frame, str):
                    raise Closed(WRONG_TYPE, "An entry is a binary message.")
                await self._submit((None, Entries(frame, (len(frame),))))
                continue
            if not isinstance(frame, str):
                raise Closed(WRONG_TYPE, "A batch begins with a text that says where its entries start.")
            blob = await received(receive)
            if not isinstance(blob, bytes):
                raise Closed(WRONG_TYPE, "The entries of a batch are one binary message.")
            try:
                entries = batch(frame, blob)
            except BadRequest as exc:
                raise Closed(MALFORMED, exc.summary) from exc
            await self._submit(entries)

    async def _submit(self, batch: Batch) -> None:
        """Send entries on their way, each to its stream."""
        names, entries = batch
        size_bytes = len(entries.data)
        if names is None:
            stream = await self._stream(self._named(None))
            part = await self._streams.submit(stream, entries)
            await self._window.add([part], None, size_bytes)
            return
        calls = by_stream(names, entries)
        found = [await self._stream(self._named(name)) for name in calls]
        parts = [
            await self._streams.submit(stream, call)
            for stream, call in zip(found, calls.values(), strict=True)
        ]
        order = {name: place for place, name in enumerate(calls)}
        await self._window.add(parts, [order[name] for name in names], size_bytes)

    def _named(self, sid: str | None) -> str:
        known = self._asked.sids
        if sid is None:
            if len(known) != 1:
                raise Closed(MALFORMED, "The header must name the stream of each entry.")
            return known[0]
        if known and sid not in known:
            raise Closed(REFUSED, "The header names a stream that the path does not.")
        return sid

    async def _stream(self, sid: str) -> Stream:
        """A stream that may be pushed to; one that the path did not name is asked about once."""
        stream = self._held.streams.get(sid)
        if stream is None:
            if len(self._held.streams) >= MOST_STREAMS:
                raise Closed(REFUSED, f"One socket pushes to at most {MOST_STREAMS} streams.")
            stream = await self._held.admit(sid)
            self._held.streams[sid] = stream
        return stream
