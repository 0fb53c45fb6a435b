"""Streams on the wire: a real server in this process, and a plain WebSocket client."""

from __future__ import annotations

import asyncio
import json
import socket
from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from typing import Any

import httpx
from websockets.asyncio.client import ClientConnection, connect
from websockets.exceptions import ConnectionClosed, InvalidStatus

from store.server import server
from store.serving import StopSettings
from store.streams.streams import Streams

SOON_S = 20.0
"""Within which what must happen happens, however busy the machine."""


async def seal_all(streams: Streams) -> None:
    """Seal all that there is, now."""
    for each in list(streams._open.values()):
        # One that is under way may have looked before the last entries came.
        async with each.turn:
            await streams._turn(each, 0)


@asynccontextmanager
async def served(app: Any) -> AsyncIterator[str]:
    """An application on loopback, on this loop; yields its address."""
    with socket.socket() as listener:
        listener.bind(("127.0.0.1", 0))
        made = server(alive(app), "127.0.0.1", 0, stop=StopSettings(drain_s=0))
        running = asyncio.create_task(made._serve([listener]))
        while not made.started:
            await asyncio.sleep(0.005)
        try:
            yield f"127.0.0.1:{listener.getsockname()[1]}"
        finally:
            made.should_exit = True
            await running


def alive(app: Any) -> Any:
    """An application that runs already, as one that is started by its server."""

    async def answered(scope: Any, receive: Any, send: Any) -> None:
        if scope["type"] != "lifespan":
            await app(scope, receive, send)
            return
        for step in ("startup", "shutdown"):
            await receive()
            await send({"type": f"lifespan.{step}.complete"})

    return answered


@dataclass
class Wire:
    """A client of streams at an address, with these headers and below this prefix."""

    address: str
    headers: Mapping[str, str] = field(default_factory=dict)
    prefix: str = ""

    @asynccontextmanager
    async def socket(self, path: str) -> AsyncIterator[ClientConnection]:
        """A WebSocket at a path."""
        url = f"ws://{self.address}{self.prefix}{path}"
        headers = dict(self.headers)
        async with connect(url, additional_headers=headers, max_size=None, open_timeout=SOON_S) as found:
            yield found

    async def refused(self, path: str) -> tuple[int, Any]:
        """Status and body by which a handshake is refused."""
        try:
            async with self.socket(path) as found:
                raise AssertionError(f"the handshake went through: {found.response}")
        except InvalidStatus as exc:
            body = exc.response.body
            return exc.response.status_code, json.loads(body) if body else None

    async def http(self, method: str, path: str, **more: Any) -> httpx.Response:
        """A request."""
        async with httpx.AsyncClient(headers=dict(self.headers), timeout=SOON_S, trust_env=False) as client:
            return await client.request(method, f"http://{self.address}{self.prefix}{path}", **more)

    async def made(self, method: str, path: str, **more: Any) -> Any:
        """What a request gives that must succeed."""
        answer = await self.http(method, path, **more)
        assert answer.is_success, (answer.status_code, answer.text)
        return answer.json()

    async def pushed(self, sid: str, *entries: bytes) -> list[str]:
        """The ids of entries that were pushed in one batch."""
        async with self.socket(f"/data/{sid}/push?batch=true&ack=true") as push:
            return await batch(push, *entries)


async def batch(push: ClientConnection, *entries: bytes) -> list[str]:
    """Push a batch by its starts; the ids that it was acknowledged with."""
    starts, at = [], 0
    for entry in entries:
        starts.append(str(at))
        at += len(entry)
    await push.send(",".join(starts))
    await push.send(b"".join(entries))
    return str(await soon(push.recv())).split(",")


async def taken(pull: ClientConnection) -> list[tuple[Any, ...]]:
    """The next message of a pull: for each entry all but the start of its header, and its bytes."""
    header = json.loads(await soon(pull.recv()))
    data = await soon(pull.recv())
    assert isinstance(data, bytes)
    return cut(header, data)


def cut(header: list[list[Any]], data: bytes) -> list[tuple[Any, ...]]:
    """Entries taken apart by their starts."""
    starts = [item[-1] for item in header]
    ends = [*starts[1:], len(data)][: len(starts)]
    return [(*item[:-1], data[start:end]) for item, start, end in zip(header, starts, ends, strict=True)]


async def taken_all(pull: ClientConnection, count: int) -> list[tuple[Any, ...]]:
    """So many entries, in however many messages they come."""
    found: list[tuple[Any, ...]] = []
    while len(found) < count:
        found += await taken(pull)
    return found


async def closed(connection: ClientConnection) -> tuple[int, str]:
    """Code and reason by which the server closes; what comes before is passed over."""
    try:
        while True:
            await soon(connection.recv())
    except ConnectionClosed as exc:
        assert exc.rcvd is not None
        return exc.rcvd.code, exc.rcvd.reason


async def soon(awaitable: Any) -> Any:
    """What must come in time."""
    async with asyncio.timeout(SOON_S):
        return await awaitable
