"""Streams on the store alone: no authorization at all, for trusted use."""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass

from store.asgi import Receive, Scope, Send
from store.core import Store
from store.streams.doors import SOCKET, Doors, find
from store.streams.streams import Options, Streams
from store.streams.visiting import Anyone


@dataclass(frozen=True, slots=True)
class Served:
    """The streams of a store, and the doors to them."""

    streams: Streams
    doors: Doors


@asynccontextmanager
async def run_streams(store: Store, options: Options, max_body_bytes: int) -> AsyncIterator[Served]:
    """The streams of a store, for as long as the context lasts."""
    streams = Streams(store, options)
    streams.start()
    try:
        yield Served(streams, Doors(streams, max_body_bytes))
    finally:
        await streams.stop()


class StreamApp:
    """The ASGI application at the doors of streams."""

    def __init__(self, doors: Doors, store: Store) -> None:
        self._doors = doors
        self._visitor = Anyone(store)

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Answer one HTTP request, or one WebSocket."""
        found = find(scope["raw_path"], SOCKET if scope["type"] == "websocket" else scope["method"])
        if found.refusal is not None:
            await self._doors.refuse(scope, receive, send, found.refusal)
            return
        await self._doors.answer(found, self._visitor, scope, receive, send)
