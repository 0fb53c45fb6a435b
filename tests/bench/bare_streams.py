"""A bare WebSocket handler that appends what it gets to a file, syncs it, and sends it on to who pulls.

Run: port, file."""

from __future__ import annotations

import os
import sys
from typing import Any

import uvicorn


def bare(path: str) -> Any:
    """The application."""
    fd = os.open(path, os.O_CREAT | os.O_WRONLY | os.O_APPEND, 0o600)
    pulls: set[Any] = set()

    async def app(scope: Any, receive: Any, send: Any) -> None:
        if scope["type"] == "lifespan":
            await receive()
            await send({"type": "lifespan.startup.complete"})
            await receive()
            await send({"type": "lifespan.shutdown.complete"})
        elif scope["type"] == "http":
            await send({"type": "http.response.start", "status": 200, "headers": []})
            await send({"type": "http.response.body", "body": b""})
        elif scope["path"].endswith("/pull"):
            await _follow(pulls, receive, send)
        else:
            await _serve(fd, b"ack" in scope["query_string"], pulls, receive, send)

    return app


async def _follow(pulls: set[Any], receive: Any, send: Any) -> None:
    await receive()
    await send({"type": "websocket.accept"})
    pulls.add(send)
    while (await receive())["type"] == "websocket.receive":
        continue
    pulls.discard(send)


async def _serve(fd: int, ack: bool, pulls: set[Any], receive: Any, send: Any) -> None:
    await receive()
    await send({"type": "websocket.accept"})
    while (message := await receive())["type"] == "websocket.receive":
        data = message.get("bytes")
        if data is None:
            continue
        os.write(fd, data)
        os.fdatasync(fd)
        for each in pulls:
            await each({"type": "websocket.send", "text": "[[1, 0]]"})
            await each({"type": "websocket.send", "bytes": data})
        if ack:
            await send({"type": "websocket.send", "text": "1"})


if __name__ == "__main__":
    uvicorn.run(
        bare(sys.argv[2]),
        port=int(sys.argv[1]),
        loop="uvloop",
        http="httptools",
        ws="websockets-sansio",
        ws_max_size=16 << 20,
        ws_per_message_deflate=False,
        access_log=False,
        log_level="error",
    )
