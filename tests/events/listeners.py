"""A listener at /events, spoken to as a server would: over ASGI."""

from __future__ import annotations

import asyncio
import contextlib
import json
from collections.abc import Awaitable, Callable, Iterable
from dataclasses import dataclass, field
from typing import Any

from tests.events.support import until

App = Callable[..., Awaitable[None]]


@dataclass
class Listening:
    """One open stream: the status, the events so far, and how often nothing came. While `open` is not set it
    takes nothing."""

    status: int = 0
    events: list[dict[str, Any]] = field(default_factory=list)
    ids: list[str] = field(default_factory=list)
    beats: int = 0
    body: bytes = b""
    ended: bool = False
    task: asyncio.Task[None] | None = None
    open: asyncio.Event = field(default_factory=asyncio.Event)
    inbox: asyncio.Queue[dict[str, Any]] = field(default_factory=asyncio.Queue)
    socket: bool = False

    @property
    def types(self) -> list[str]:
        return [event["event_type"] for event in self.events]

    async def send(self, message: dict[str, Any]) -> None:
        await self.open.wait()
        kind = message["type"]
        if kind.endswith("response.start"):
            self.status = message["status"]
        elif kind == "websocket.accept":
            self.status = 101
        elif kind == "websocket.close":
            self.status = self.status or 403
            self.ended = True
        elif kind == "websocket.send":
            event = json.loads(message["text"])
            self.ids.append(event.pop("id"))
            self.events.append(event)
        else:
            self.take(message.get("body", b""))
            self.ended = not message.get("more_body", False)

    def take(self, body: bytes) -> None:
        self.body += body
        if body.startswith(b"id: "):
            id, event, data = body.decode().removesuffix("\n\n").split("\n")
            self.ids.append(id.removeprefix("id: "))
            self.events.append(json.loads(data.removeprefix("data: ")))
            assert event == f"event: {self.events[-1]['event_type']}"
        elif body == b": \n\n":
            self.beats += 1

    async def came(self, count: int) -> list[dict[str, Any]]:
        await until(lambda: len(self.events) >= count or self.ended)
        return self.events

    async def leave(self) -> None:
        """Go away, and wait until it was noticed."""
        kind = "websocket.disconnect" if self.socket else "http.disconnect"
        await self.inbox.put({"type": kind, "code": 1000})
        assert self.task is not None
        with contextlib.suppress(asyncio.CancelledError):
            async with asyncio.timeout(20):
                await self.task


async def listen(
    app: App,
    query: str = "",
    *,
    socket: bool = False,
    headers: Iterable[tuple[bytes, bytes]] = (),
    method: str = "GET",
    path: str = "/events",
) -> Listening:
    """Open a stream; it is open, or was refused, when this returns."""
    found = Listening(socket=socket)
    found.open.set()
    scope: dict[str, Any] = {
        "path": path,
        "raw_path": path.encode(),
        "query_string": query.encode(),
        "headers": list(headers),
        "client": ("192.0.2.9", 1),
    }
    if socket:
        scope |= {"type": "websocket", "extensions": {"websocket.http.response": {}}}
        await found.inbox.put({"type": "websocket.connect"})
    else:
        scope |= {"type": "http", "method": method}
    found.task = asyncio.ensure_future(app(scope, found.inbox.get, found.send))
    await until(lambda: bool(found.status) or (found.task is not None and found.task.done()))
    return found
