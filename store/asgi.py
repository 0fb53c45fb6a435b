"""Between ASGI and the store's own requests and responses."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Iterable, MutableMapping
from typing import Any

from store.errors import BadRequest, TooLarge

Scope = MutableMapping[str, Any]
Message = MutableMapping[str, Any]
Receive = Callable[[], Awaitable[Message]]
Send = Callable[[Message], Awaitable[None]]
App = Callable[[Scope, Receive, Send], Awaitable[None]]


class Disconnected(Exception):
    """The client went away before its request was whole."""


async def read_body(receive: Receive, limit_bytes: int) -> bytes:
    """The whole body. Raises `TooLarge` as soon as it is, `Disconnected` when the client goes."""
    message = await receive()
    if message["type"] == "http.disconnect":
        raise Disconnected
    body: bytes = message.get("body", b"")
    if not message.get("more_body", False) and len(body) <= limit_bytes:
        return body
    pieces, size = [body], len(body)
    while message.get("more_body", False):
        if size > limit_bytes:
            break
        message = await receive()
        if message["type"] == "http.disconnect":
            raise Disconnected
        piece = message.get("body", b"")
        pieces.append(piece)
        size += len(piece)
    if size > limit_bytes:
        raise TooLarge(f"The body is longer than {limit_bytes} bytes.")
    return b"".join(pieces)


def check_encoding(headers: Iterable[tuple[bytes, bytes]]) -> None:
    """Refuse compressed bodies: they are not needed, and can be bombs. Raises `BadRequest`."""
    for name, value in headers:
        if name == b"content-encoding" and value.strip().lower() not in (b"", b"identity"):
            raise BadRequest("Compressed request bodies are not accepted.")


async def send_response(
    send: Send, status: int, headers: Iterable[tuple[str, str]], body: bytes, *, head: bool
) -> None:
    """Send a whole answer; for HEAD the same status and headers, and no body (rule 1)."""
    raw = [(name.encode("latin-1"), value.encode("latin-1")) for name, value in headers]
    if status not in (204, 304):
        raw.append((b"content-length", b"%d" % len(body)))
    await send({"type": "http.response.start", "status": status, "headers": raw})
    await send({"type": "http.response.body", "body": b"" if head else body})
