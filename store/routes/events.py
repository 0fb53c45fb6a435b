"""`GET /events`: a live stream of changes, as server-sent events or as a WebSocket. Ours, not of TAMS 8.2."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import AsyncIterator, Awaitable, Callable
from dataclasses import dataclass
from typing import Protocol

from store.asgi import Message, Receive, Scope, Send, send_response
from store.errors import Error, MethodNotAllowed
from store.events.admission import Admit
from store.events.bodies import Options
from store.events.live import STOPS, Listener, Live
from store.events.live import Message as Told
from store.events.matching import Filters
from store.http import Response, failure, utc_now
from store.params import Params
from store.routing import decode_query

PATH = b"/events"
SEND_S = 30.0
"""A listener that takes nothing for so long is given up."""
TRY_AGAIN, GOING_AWAY = 1013, 1001
GO_ON = "Go on from the last id."
_FAREWELL = f": {STOPS} {GO_ON}\nretry: 1000\n\n".encode()
_HEADERS = [
    (b"content-type", b"text/event-stream; charset=utf-8"),
    (b"cache-control", b"no-store"),
    (b"x-accel-buffering", b"no"),
]


async def _always() -> bool:
    return True


class Caller(Protocol):
    """On whose behalf somebody listens. `owner` as `Admit` takes it."""

    @property
    def name(self) -> str:
        """What the ids of events are bound to."""

    @property
    def owner(self) -> bytes | None:
        """Opaque."""

    @property
    def is_known(self) -> Callable[[], Awaitable[bool]]:
        """Whether the caller's credential still counts."""


@dataclass(frozen=True, slots=True)
class Anybody:
    """The caller of the store alone, which asks nobody who they are."""

    name: str = ""
    owner: bytes | None = None
    is_known: Callable[[], Awaitable[bool]] = _always


class EventRoutes:
    """Answers GET /events for a caller that may. `admit` decides what each hears."""

    def __init__(self, live: Live, admit: Admit) -> None:
        self._live = live
        self._admit = admit

    async def __call__(self, caller: Caller, scope: Scope, receive: Receive, send: Send) -> None:
        """Answer an HTTP request or a WebSocket."""
        socket = scope["type"] == "websocket"
        if socket:
            await receive()
        try:
            listener = _listener(caller, self._admit, scope)
            with self._live.place():
                position = await self._live.start(listener)
                if socket:
                    await self._socket(listener, position, receive, send)
                else:
                    await self._events(listener, position, scope, receive, send)
        except Error as exc:
            response = failure(exc, utc_now())
            if socket:
                await refuse_socket(scope, send, response)
            else:
                head = scope["method"] == "HEAD"
                await send_response(send, response.status, response.headers, response.body, head=head)

    async def _events(
        self, listener: Listener, position: int, scope: Scope, receive: Receive, send: Send
    ) -> None:
        """The stream of WHATWG HTML 9.2: each event with its id, its type and one line of JSON."""
        await send({"type": "http.response.start", "status": 200, "headers": _HEADERS})
        if scope["method"] == "HEAD":
            await send({"type": "http.response.body", "body": b""})
            return
        # Something must follow the head, so that whoever stands between lets it through.
        await send({"type": "http.response.body", "body": b": listening\n\n", "more_body": True})
        async with _until_gone(receive, "http.disconnect") as gone:
            # Also one that is cut off, as by a reload, ends as an answer should.
            reads = True
            try:
                async for told in self._live.messages(listener, position, gone):
                    if not await _sent(
                        send, {"type": "http.response.body", "body": _lines(told), "more_body": True}
                    ):
                        reads = False
                        return
            finally:
                if reads and not gone.done():
                    # Browsers come back by themselves, with the last id; others read why.
                    last = _FAREWELL if self._live.is_ending else b""
                    await _sent(send, {"type": "http.response.body", "body": last})

    async def _socket(self, listener: Listener, position: int, receive: Receive, send: Send) -> None:
        """One text per event, with its id beside the members of a webhook's body. The server's pings are the
        heartbeats; what the client sends is ignored."""
        await send({"type": "websocket.accept"})
        async with _until_gone(receive, "websocket.disconnect") as gone:
            reads = True
            try:
                async for told in self._live.messages(listener, position, gone):
                    if told.mark is not None and not await _sent(send, _text(told)):
                        reads = False
                        return
            finally:
                if reads and not gone.done():
                    code, reason = (
                        (GOING_AWAY, f"{STOPS} {GO_ON}") if self._live.is_ending else (TRY_AGAIN, GO_ON)
                    )
                    await _sent(send, {"type": "websocket.close", "code": code, "reason": reason})


def _listener(caller: Caller, admit: Admit, scope: Scope) -> Listener:
    if scope["type"] == "http" and scope["method"] not in ("GET", "HEAD"):
        raise MethodNotAllowed("This path does not take this method.", allow=("GET", "HEAD"))
    query = Params(decode_query(scope["query_string"]))
    after = query.text("after")
    # A browser that connects anew says by the header how far it has come, and repeats the query of old.
    for name, value in scope["headers"]:
        if name == b"last-event-id" and value:
            after = value.decode("latin-1")
    return Listener(
        caller.name,
        caller.owner,
        admit,
        Filters.of_query(query),
        Options.of_query(query),
        after,
        caller.is_known,
    )


def _lines(told: Told) -> bytes:
    if told.mark is None or told.type is None or told.body is None:
        return b": \n\n"
    return b"id: %b\nevent: %b\ndata: %b\n\n" % (told.mark.encode(), told.type.encode(), told.body)


def _text(told: Told) -> Message:
    assert told.mark is not None and told.body is not None
    return {"type": "websocket.send", "text": f'{{"id":"{told.mark}",{told.body[1:].decode()}'}


async def _sent(send: Send, message: Message) -> bool:
    """Whether the listener took a message in time."""
    try:
        async with asyncio.timeout(SEND_S):
            await send(message)
    # Servers tell in ways of their own that the other side is gone; they all are OSErrors or time out.
    except (TimeoutError, OSError):
        return False
    return True


@contextlib.asynccontextmanager
async def _until_gone(receive: Receive, kind: str) -> AsyncIterator[asyncio.Future[None]]:
    """A future that is done when the other side has gone."""

    async def watch() -> None:
        while (await receive())["type"] != kind:
            continue

    gone = asyncio.ensure_future(watch())
    try:
        yield gone
    finally:
        gone.cancel()


async def refuse_socket(scope: Scope, send: Send, response: Response) -> None:
    """Refuse a WebSocket that is not accepted yet: by an answer of HTTP where the server can, else by 403."""
    if "websocket.http.response" not in scope.get("extensions", {}):
        await send({"type": "websocket.close", "code": 1008})
        return
    headers = [(name.encode("latin-1"), value.encode("latin-1")) for name, value in response.headers]
    await send({"type": "websocket.http.response.start", "status": response.status, "headers": headers})
    await send({"type": "websocket.http.response.body", "body": response.body})
