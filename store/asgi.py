"""Between ASGI and the store's own requests and responses."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Iterable, MutableMapping
from typing import Any, Final

from store.errors import TooLarge, TooSlow, UnsupportedEncoding

BODY_IDLE_S: Final = 30

Scope = MutableMapping[str, Any]
Message = MutableMapping[str, Any]
Receive = Callable[[], Awaitable[Message]]
Send = Callable[[Message], Awaitable[None]]
App = Callable[[Scope, Receive, Send], Awaitable[None]]


class Disconnected(Exception):
    """The client went away before its request was whole."""


async def read_body(scope: Scope, receive: Receive, limit_bytes: int, idle_s: float = BODY_IDLE_S) -> bytes:
    """The whole body, refused before it is read where its headers say enough.

    Raises `UnsupportedEncoding`, `TooLarge` as soon as it is, `TooSlow`, and `Disconnected` when the client
    goes.
    """
    check_encoding(scope["headers"])
    for name, value in scope["headers"]:
        if name == b"content-length" and value.isdigit() and int(value) > limit_bytes:
            raise TooLarge(f"The body is longer than {limit_bytes} bytes.")
    body, more = await piece_of(receive, idle_s)
    if not more and len(body) <= limit_bytes:
        return body
    pieces, size = [body], len(body)
    while more and size <= limit_bytes:
        body, more = await piece_of(receive, idle_s)
        pieces.append(body)
        size += len(body)
    if size > limit_bytes:
        raise TooLarge(f"The body is longer than {limit_bytes} bytes.")
    return b"".join(pieces)


async def piece_of(receive: Receive, idle_s: float) -> tuple[bytes, bool]:
    """The next piece of a body, and whether there are more. Raises `TooSlow`, `Disconnected`."""
    try:
        async with asyncio.timeout(idle_s):
            message = await receive()
    except TimeoutError as exc:
        raise TooSlow("The body did not arrive.") from exc
    if message["type"] == "http.disconnect":
        raise Disconnected
    return message.get("body", b""), message.get("more_body", False)


def check_encoding(headers: Iterable[tuple[bytes, bytes]]) -> None:
    """Refuse compressed bodies: they are not needed, and can be bombs. Raises `UnsupportedEncoding`."""
    for name, value in headers:
        if name == b"content-encoding" and value.strip().lower() not in (b"", b"identity"):
            raise UnsupportedEncoding("Compressed request bodies are not accepted.")


async def send_response(
    send: Send, status: int, headers: Iterable[tuple[str, str]], body: bytes, *, head: bool
) -> None:
    """Send a whole answer; for HEAD the same status and headers, and no body (rule 1)."""
    raw = [(name.encode("latin-1"), value.encode("latin-1")) for name, value in headers]
    if status not in (204, 304):
        raw.append((b"content-length", b"%d" % len(body)))
    await send({"type": "http.response.start", "status": status, "headers": raw})
    await send({"type": "http.response.body", "body": b"" if head else body})
