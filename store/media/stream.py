"""Bytes over ASGI, both ways, in bounded memory: what serving media and keys have in common."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import AsyncGenerator, Iterable
from functools import lru_cache
from typing import Protocol

from store import errors
from store.asgi import Message, Receive, Send
from store.media.conditions import Part, Unchanged, Whole, http_date
from store.media.protocol import CHUNK_BYTES
from store.media.signing import is_header_value

RawHeaders = Iterable[tuple[bytes, bytes]]

_UNKNOWN_TYPE = "application/octet-stream"
_INLINE_FAMILIES = ("video/", "audio/")
_INLINE_TYPES = frozenset({"application/mp4", "image/jpeg", "image/png", "image/webp", "image/gif"})
_WATCHED_BYTES = 4 * CHUNK_BYTES
# Media are data: a browser must neither guess another type nor run anything in them on our origin.
GUARDS = [
    (b"x-content-type-options", b"nosniff"),
    (b"content-security-policy", b"default-src 'none'; sandbox"),
    (b"cache-control", b"no-store"),
]


class Abandoned(Exception):
    """The client has gone: nobody to answer."""


class Bytes(Protocol):
    """Bytes that can be served; `etag` with its quotes, `modified_s` in Unix seconds."""

    @property
    def size_bytes(self) -> int: ...
    @property
    def etag(self) -> str: ...
    @property
    def modified_s(self) -> int: ...


def fields_of(headers: RawHeaders) -> dict[str, str]:
    """Header fields by lower-case name; several lines of one name are one list (RFC 9110 5.3)."""
    fields: dict[str, str] = {}
    for raw_name, raw_value in headers:
        name, value = raw_name.decode("latin-1").lower(), raw_value.decode("latin-1")
        fields[name] = f"{fields[name]}, {value}" if name in fields else value
    return fields


def length_of(fields: dict[str, str], most_bytes: int) -> int | None:
    """How long an upload says it is, None when it is chunked. Raises `errors.LengthRequired`,
    `errors.BadRequest`, `errors.TooLarge`."""
    length = fields.get("content-length")
    if length is None:
        if "transfer-encoding" not in fields:
            raise errors.LengthRequired("the upload does not say how long it is")
        return None
    if not (length.isascii() and length.isdigit() and len(length) <= 19):
        raise errors.BadRequest("the upload's Content-Length is not a number")
    if int(length) > most_bytes:
        raise errors.TooLarge("the upload is too long")
    return int(length)


async def body_of(
    receive: Receive, size_bytes: int | None, most_bytes: int, idle_s: float
) -> AsyncGenerator[bytes, None]:
    """The pieces of an upload as they come, together exactly as long as was said. Raises `Abandoned`,
    `errors.BadRequest`, `errors.TooLarge`."""
    limit_bytes = most_bytes if size_bytes is None else size_bytes
    so_far = 0
    more = True
    while more:
        try:
            async with asyncio.timeout(idle_s):
                message = await receive()
        except TimeoutError as exc:
            raise errors.BadRequest("the upload stalled") from exc
        if message["type"] == "http.disconnect":
            raise Abandoned
        chunk: bytes = message.get("body", b"")
        more = message.get("more_body", False)
        so_far += len(chunk)
        if so_far > limit_bytes and size_bytes is None:
            raise errors.TooLarge("the upload is too long")
        if so_far > limit_bytes:
            raise errors.BadRequest("the upload is longer than its Content-Length")
        if chunk:
            yield chunk
    if size_bytes is not None and so_far != size_bytes:
        raise errors.BadRequest("the upload is shorter than its Content-Length")


def in_time(send: Send, idle_s: float) -> Send:
    """`send` that raises `Abandoned` when the client takes nothing for so many seconds."""

    async def send_in_time(message: Message) -> None:
        try:
            async with asyncio.timeout(idle_s):
                await send(message)
        except TimeoutError as exc:
            raise Abandoned from exc

    return send_in_time


async def send_all(
    chunks: AsyncGenerator[bytes, None], size_bytes: int, receive: Receive, send: Send
) -> None:
    """Send chunks as they come. Raises `Abandoned` when the client goes away before the end."""
    # Servers drop what is sent to a client that has gone; without a look at the other direction we would
    # read the rest of a long object for nobody.
    gone = asyncio.ensure_future(_disconnected(receive)) if size_bytes > _WATCHED_BYTES else None
    left = size_bytes
    try:
        async with contextlib.aclosing(chunks):
            async for chunk in chunks:
                left -= len(chunk)
                await send({"type": "http.response.body", "body": chunk, "more_body": left > 0})
                if gone is not None and gone.done() and left:
                    raise Abandoned
    finally:
        if gone is not None:
            gone.cancel()


async def _disconnected(receive: Receive) -> None:
    while (await receive())["type"] != "http.disconnect":
        continue


def answer_head(
    answer: Whole | Part | Unchanged, served: Bytes, content_type: str | None
) -> tuple[int, list[tuple[bytes, bytes]], int, int]:
    """Status, headers, and the bytes to send (from, up to)."""
    headers = [
        (b"etag", served.etag.encode()),
        (b"last-modified", http_date(served.modified_s).encode()),
        (b"accept-ranges", b"bytes"),
        *GUARDS,
    ]
    if isinstance(answer, Unchanged):
        return 304, headers, 0, 0
    # What is no header value may be long, and is not remembered.
    if content_type is None or not is_header_value(content_type):
        content_type = _UNKNOWN_TYPE
    status, start, end = 200, 0, served.size_bytes
    if isinstance(answer, Part):
        status, start, end = 206, answer.start, answer.end
        headers.append((b"content-range", f"bytes {start}-{end - 1}/{served.size_bytes}".encode()))
    headers += [*_typed(content_type), (b"content-length", str(end - start).encode())]
    return status, headers, start, end


@lru_cache(maxsize=1024)
def _typed(content_type: str) -> tuple[tuple[bytes, bytes], ...]:
    """What is said of bytes of a type: the type, and whether browsers may show them."""
    essence = content_type.partition(";")[0].strip().lower()
    is_inline = essence.startswith(_INLINE_FAMILIES) or essence in _INLINE_TYPES
    return (
        (b"content-type", content_type.encode("ascii")),
        (b"content-disposition", b"inline" if is_inline else b"attachment"),
    )
