"""WS `/recordings/replay`: the entries of a recording again, in their own time or faster."""

from __future__ import annotations

import asyncio
import heapq
from collections.abc import AsyncGenerator, Sequence
from contextlib import aclosing
from dataclasses import dataclass
from itertools import accumulate

from store.asgi import Receive, Send
from store.errors import BadRequest
from store.metadata.rows import Document
from store.params import Params
from store.streams import recordings
from store.streams.asked import LATER, sids_of
from store.streams.flows import Stream
from store.streams.frames import named
from store.streams.page import Page
from store.streams.sockets import NORMAL, Closed, Held, received, served
from store.streams.streams import Streams
from store.streams.visiting import Visitor
from store.timerange import NS_PER_S

READ = 64
"""Entries that are read at once, and sent at once at full speed."""
MESSAGE_BYTES = 1 << 20
MOST_INTERVAL_MS = 3_600_000
Entry = tuple[int, str, bytes]


@dataclass(frozen=True, slots=True)
class Replay:
    """A wish to see a recording again. `interval_s`: between two entries, None for their own time; 0 for as
    fast as they are taken."""

    sids: tuple[str, ...]
    start_ns: int
    stop_ns: int | None
    interval_s: float | None


async def wish_of(visitor: Visitor, query: Params) -> Replay:
    """What the query asks for. Raises `errors.BadRequest`, `errors.NotFound`."""
    rid, text = query.text("rec_id"), query.text("sid")
    if rid is None:
        raise BadRequest("`rec_id` is missing.")
    full, interval_ms = query.flag("fullspeed") or False, query.integer("interval")
    if interval_ms is not None and not 0 <= interval_ms <= MOST_INTERVAL_MS:
        raise BadRequest(f"`interval` must be from 0 to {MOST_INTERVAL_MS} milliseconds.")
    document = await recordings.named(visitor, rid)
    # A plus in a query is a space once it is decoded.
    sids = _all_of(document) if text is None else sids_of(text.replace(" ", "+"), LATER)
    start_ns, stop_ns = recordings.span(document)
    pace = 0.0 if full else None if interval_ms is None else interval_ms / 1000
    return Replay(sids, start_ns, stop_ns, pace)


def _all_of(document: Document) -> tuple[str, ...]:
    """The recorded streams, each once: who makes a recording's flow says what it names, and how often."""
    return tuple(dict.fromkeys(recordings.members(document)))


async def replay(
    streams: Streams,
    visitor: Visitor,
    asked: Replay,
    found: Sequence[Stream],
    receive: Receive,
    send: Send,
) -> None:
    """Serve a replay that was allowed; the socket is closed behind the last entry."""
    held = Held(streams, visitor, found, write=False)
    await served(send, _give_out(streams, asked, found, send), _listen(receive), held.watch())


async def _listen(receive: Receive) -> None:
    while True:
        await received(receive)


async def _give_out(streams: Streams, asked: Replay, found: Sequence[Stream], send: Send) -> None:
    loop = asyncio.get_running_loop()
    began_s = loop.time()
    first: int | None = None
    number = 0
    async with aclosing(_merged(streams, asked, found)) as entries:
        group: list[Entry] = []
        async for entry in entries:
            group.append(entry)
            if asked.interval_s == 0 and len(group) < READ and _bytes(group) < MESSAGE_BYTES:
                continue
            first = entry[0] if first is None else first
            due_s = (entry[0] - first) / NS_PER_S if asked.interval_s is None else number * asked.interval_s
            if asked.interval_s != 0:
                await asyncio.sleep(max(0.0, began_s + due_s - loop.time()))
            await _send(send, group)
            group, number = [], number + 1
        await _send(send, group)
    raise Closed(NORMAL, "The recording ends here.")


async def _merged(streams: Streams, asked: Replay, found: Sequence[Stream]) -> AsyncGenerator[Entry, None]:
    """The entries of all streams in the order of their ids."""
    # What is read ahead of all streams together is bounded, however many they are.
    share = max(1, MESSAGE_BYTES // max(1, len(found)))
    feeds = [_entries(streams, asked, stream, share) for stream in found]
    heap: list[tuple[int, int, bytes]] = []
    try:
        for place, feed in enumerate(feeds):
            first = await anext(feed, None)
            if first is not None:
                heapq.heappush(heap, (first[0], place, first[1]))
        while heap:
            id_ns, place, data = heapq.heappop(heap)
            yield id_ns, found[place].id, data
            following = await anext(feeds[place], None)
            if following is not None:
                heapq.heappush(heap, (following[0], place, following[1]))
    finally:
        for feed in feeds:
            await feed.aclose()


async def _entries(
    streams: Streams, asked: Replay, stream: Stream, most_bytes: int
) -> AsyncGenerator[tuple[int, bytes], None]:
    after = asked.start_ns - 1
    while True:
        page = await streams.read(stream, after, READ, most_bytes)
        for id_ns, data in page.entries():
            if asked.stop_ns is not None and id_ns > asked.stop_ns:
                return
            yield id_ns, data
        if not page.ids:
            return
        after = page.ids[-1]


async def _send(send: Send, group: Sequence[Entry]) -> None:
    if not group:
        return
    pages = []
    for sid in dict.fromkeys(sid for _, sid, _ in group):
        mine = [(id_ns, data) for id_ns, name, data in group if name == sid]
        data = b"".join(data for _, data in mine)
        ends = list(accumulate(len(data) for _, data in mine))
        pages.append((sid, Page([id_ns for id_ns, _ in mine], ends, data)))
    header, blob = named(pages)
    await send({"type": "websocket.send", "text": header.decode()})
    await send({"type": "websocket.send", "bytes": blob})


def _bytes(group: Sequence[Entry]) -> int:
    return sum(len(data) for _, _, data in group)
