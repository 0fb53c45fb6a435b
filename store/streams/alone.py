"""Streams on the store alone: no authorization at all, for trusted use."""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Protocol

from store.asgi import Receive, Scope, Send, send_response
from store.core import Store
from store.errors import Error
from store.streams.doors import SOCKET, Doors, find, refusal, refuse_socket
from store.streams.streams import Options, Streams
from store.streams.visiting import Anyone


@asynccontextmanager
async def run_streams(store: Store, options: Options) -> AsyncIterator[Streams]:
    """The streams of a store, for as long as the context lasts."""
    streams = Streams(store, options)
    streams.start()
    try:
        yield streams
    finally:
        await streams.stop()


class WithStreams(Protocol):
    """What of a running store is needed."""

    @property
    def store(self) -> Store: ...

    @property
    def streams(self) -> Streams: ...


class StreamApp:
    """The ASGI application at the doors of streams."""

    def __init__(self, running: WithStreams, max_body_bytes: int) -> None:
        self._doors = Doors(running.streams, max_body_bytes)
        self._visitor = Anyone(running.store)

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Answer one HTTP request, or one WebSocket."""
        socket = scope["type"] == "websocket"
        try:
            found = find(scope["raw_path"], SOCKET if socket else scope["method"])
        except Error as exc:
            answer = refusal(exc)
            if socket:
                await receive()
                await refuse_socket(scope, send, answer)
            else:
                head = scope["method"] == "HEAD"
                await send_response(send, answer.status, answer.headers, answer.body, head=head)
            return
        await self._doors.answer(found, self._visitor, scope, receive, send)
