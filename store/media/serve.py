"""Local media over HTTP: signed URLs by themselves, unsigned ones after the caller was authorised elsewhere.

Pure ASGI and streaming. CORS and OPTIONS are the outer application's.
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
from collections.abc import AsyncGenerator, Awaitable, Callable, Iterable, Mapping, MutableMapping
from datetime import UTC, datetime
from typing import Any

import orjson

from store import errors
from store.media.conditions import Part, Unchanged, Whole, http_date, wanted
from store.media.digests import Promised, promised
from store.media.disk import Opened
from store.media.files import Files
from store.media.protocol import CHUNK_BYTES
from store.media.signing import Signer, is_header_value, key_of

Message = MutableMapping[str, Any]
Receive = Callable[[], Awaitable[Message]]
Send = Callable[[Message], Awaitable[None]]
RawHeaders = Iterable[tuple[bytes, bytes]]

_METHODS = ("GET", "HEAD", "PUT")
_UNKNOWN_TYPE = "application/octet-stream"
_INLINE_FAMILIES = ("video/", "audio/")
_INLINE_TYPES = frozenset({"application/mp4", "image/jpeg", "image/png", "image/webp", "image/gif"})
# Media are data: a browser must neither guess another type nor run anything in them on our origin.
_GUARDS = [
    (b"x-content-type-options", b"nosniff"),
    (b"content-security-policy", b"default-src 'none'; sandbox"),
    (b"cache-control", b"no-store"),
]
MOST_BYTES = 5 << 40
_WATCHED_BYTES = 4 * CHUNK_BYTES
_log = logging.getLogger(__name__)


class LocalMedia:
    """The ASGI application behind `/media/{backend id}/{token}`: its URLs are those that `Files` signs.

    `now` gives Unix seconds. An upload may be `most_bytes` long; a client that neither sends nor takes a
    byte for `idle_s` seconds is given up.
    """

    def __init__(
        self,
        backends: Mapping[str, Files],
        signer: Signer,
        now: Callable[[], float],
        *,
        most_bytes: int = MOST_BYTES,
        idle_s: float = 60,
    ) -> None:
        self._backends = backends
        self._signer = signer
        self._now = now
        self._most_bytes = most_bytes
        self._idle_s = idle_s

    async def __call__(self, scope: Mapping[str, Any], receive: Receive, send: Send) -> None:
        """Serve a signed URL; whatever other credential the request carries is ignored."""
        method: str = scope["method"]
        try:
            backend_id, key = self._place(scope.get("raw_path") or scope["path"].encode())
            _refuse_other(method)
            query = scope.get("query_string", b"").decode("latin-1")
            content_type = self._signer.verify(method, backend_id, key, query, now_s=int(self._now()))
        except errors.Error as exc:
            await self._refuse(exc, send, head=method == "HEAD")
            return
        await self.respond(
            method, backend_id, key, scope["headers"], receive, send, content_type=content_type
        )

    async def respond(
        self,
        method: str,
        backend_id: str,
        key: str,
        headers: RawHeaders,
        receive: Receive,
        send: Send,
        *,
        content_type: str | None = None,
    ) -> None:
        """Serve a caller that is authorised already.

        `content_type` is the object's: what a reader is told, and what an upload must say; None when it is
        not known (then an upload may say anything).
        """
        try:
            _refuse_other(method)
            media = self._backend(backend_id)
            fields = _fields(headers)
            if method == "PUT":
                await self._upload(media, key, fields, content_type, receive, send)
            else:
                await self._serve(media, key, method, fields, content_type, receive, send)
        except _Abandoned:
            return
        except errors.Error as exc:
            await self._refuse(exc, send, head=method == "HEAD")

    def place(self, path: str) -> tuple[str, str]:
        """The backend id and key that a URL's path names. Raises `errors.NotFound`."""
        return self._place(path.encode())

    def _place(self, path: bytes) -> tuple[str, str]:
        # The last two segments, whatever the application is mounted under.
        parts = path.decode("latin-1").split("?", 1)[0].rsplit("/", 3)
        if len(parts) < 4 or parts[1] != "media" or not parts[3]:
            raise errors.NotFound("no such media")
        self._backend(parts[2])
        return parts[2], key_of(parts[3])

    def _backend(self, backend_id: str) -> Files:
        media = self._backends.get(backend_id)
        if media is None:
            raise errors.NotFound("no such media")
        return media

    async def _serve(
        self,
        media: Files,
        key: str,
        method: str,
        fields: dict[str, str],
        content_type: str | None,
        receive: Receive,
        send: Send,
    ) -> None:
        async with media.opened(key) as opened:
            answer = wanted(
                fields, size_bytes=opened.size_bytes, etag=opened.etag, modified_s=opened.modified_s
            )
            status, headers, start, end = _answer(answer, opened, content_type)
            await send({"type": "http.response.start", "status": status, "headers": headers})
            if method == "GET" and start < end:
                try:
                    chunks = media.chunks(opened, start, end)
                    await _send_all(chunks, end - start, receive, self._in_time(send))
                except errors.Error as exc:
                    # The status is out. An unfinished response makes the server cut the connection, so
                    # that the client cannot take what it has for the whole.
                    _log.error("reading media failed: backend %s, key %s: %s", media.backend.id, key, exc)
                    raise _Abandoned from exc
            else:
                await send({"type": "http.response.body", "body": b""})

    async def _upload(
        self,
        media: Files,
        key: str,
        fields: dict[str, str],
        content_type: str | None,
        receive: Receive,
        send: Send,
    ) -> None:
        said = fields.get("content-type", "")
        if content_type is not None and said.strip().lower() != content_type.strip().lower():
            raise errors.Forbidden(f"the upload's Content-Type is not {content_type}")
        if "content-range" in fields:
            raise errors.BadRequest("an upload is whole: Content-Range is not taken")
        size_bytes = _length(fields, self._most_bytes)
        body = _body(receive, size_bytes, self._most_bytes, self._idle_s)
        sums = promised(fields)
        async with contextlib.aclosing(_summed(media, body, sums) if sums else body) as chunks:
            stat = await media.write(key, chunks, content_type=said, size_bytes=size_bytes)
        headers = [(b"etag", stat.etag.encode()), (b"content-length", b"0"), *_GUARDS]
        await send({"type": "http.response.start", "status": 200, "headers": headers})
        await send({"type": "http.response.body", "body": b""})

    def _in_time(self, send: Send) -> Send:
        async def send_in_time(message: Message) -> None:
            try:
                async with asyncio.timeout(self._idle_s):
                    await send(message)
            except TimeoutError as exc:
                raise _Abandoned from exc

        return send_in_time

    async def _refuse(self, exc: errors.Error, send: Send, *, head: bool) -> None:
        body = orjson.dumps(
            {
                "type": type(exc).__name__,
                "summary": exc.summary,
                "message": exc.summary,
                "time": datetime.fromtimestamp(self._now(), UTC).isoformat().replace("+00:00", "Z"),
            }
        )
        headers = [
            (b"content-type", b"application/json"),
            (b"content-length", str(len(body)).encode()),
            *_GUARDS,
        ]
        if isinstance(exc, errors.RangeNotSatisfiable):
            headers.append((b"content-range", f"bytes */{exc.size_bytes}".encode()))
        if isinstance(exc, errors.MethodNotAllowed):
            headers.append((b"allow", ", ".join(exc.allow).encode()))
        await send({"type": "http.response.start", "status": errors.STATUS[type(exc)], "headers": headers})
        await send({"type": "http.response.body", "body": b"" if head else body})


class _Abandoned(Exception):
    """The client has gone: nobody to answer."""


def _refuse_other(method: str) -> None:
    if method not in _METHODS:
        raise errors.MethodNotAllowed("media are read and uploaded", allow=_METHODS)


def _fields(headers: RawHeaders) -> dict[str, str]:
    """Header fields by lower-case name; several lines of one name are one list (RFC 9110 5.3)."""
    fields: dict[str, str] = {}
    for raw_name, raw_value in headers:
        name, value = raw_name.decode("latin-1").lower(), raw_value.decode("latin-1")
        fields[name] = f"{fields[name]}, {value}" if name in fields else value
    return fields


def _length(fields: dict[str, str], most_bytes: int) -> int | None:
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


async def _body(
    receive: Receive, size_bytes: int | None, most_bytes: int, idle_s: float
) -> AsyncGenerator[bytes, None]:
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
            raise _Abandoned
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


async def _summed(
    media: Files, chunks: AsyncGenerator[bytes, None], sums: list[Promised]
) -> AsyncGenerator[bytes, None]:
    async with contextlib.aclosing(chunks):
        async for chunk in chunks:
            for each in sums:
                await media.run(each.running.update, chunk)
            yield chunk
    for each in sums:
        each.check()


async def _send_all(
    chunks: AsyncGenerator[bytes, None], size_bytes: int, receive: Receive, send: Send
) -> None:
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
                    raise _Abandoned
    finally:
        if gone is not None:
            gone.cancel()


async def _disconnected(receive: Receive) -> None:
    while (await receive())["type"] != "http.disconnect":
        continue


def _answer(
    answer: Whole | Part | Unchanged, opened: Opened, content_type: str | None
) -> tuple[int, list[tuple[bytes, bytes]], int, int]:
    """Status, headers, and the bytes to send (from, up to)."""
    headers = [
        (b"etag", opened.etag.encode()),
        (b"last-modified", http_date(opened.modified_s).encode()),
        (b"accept-ranges", b"bytes"),
        *_GUARDS,
    ]
    if isinstance(answer, Unchanged):
        return 304, headers, 0, 0
    if content_type is None or not is_header_value(content_type):
        content_type = _UNKNOWN_TYPE
    status, start, end = 200, 0, opened.size_bytes
    if isinstance(answer, Part):
        status, start, end = 206, answer.start, answer.end
        headers.append((b"content-range", f"bytes {start}-{end - 1}/{opened.size_bytes}".encode()))
    headers += [
        (b"content-type", content_type.encode("ascii")),
        (b"content-disposition", b"inline" if _is_inline(content_type) else b"attachment"),
        (b"content-length", str(end - start).encode()),
    ]
    return status, headers, start, end


def _is_inline(content_type: str) -> bool:
    essence = content_type.partition(";")[0].strip().lower()
    return essence.startswith(_INLINE_FAMILIES) or essence in _INLINE_TYPES
