"""Local media over HTTP: signed URLs by themselves, unsigned ones after the caller was authorised elsewhere.

Pure ASGI and streaming. CORS and OPTIONS are the outer application's.
"""

from __future__ import annotations

import contextlib
import logging
from collections.abc import AsyncGenerator, Callable, Mapping
from datetime import UTC, datetime
from typing import Any

import orjson

from store import errors
from store.asgi import Receive, Send
from store.media.conditions import wanted
from store.media.digests import Promised, promised
from store.media.files import Files
from store.media.signing import Signer, key_of
from store.media.stream import (
    GUARDS,
    Abandoned,
    RawHeaders,
    answer_head,
    body_of,
    fields_of,
    in_time,
    length_of,
    send_all,
)

_METHODS = ("GET", "HEAD", "PUT")
MOST_BYTES = 5 << 40
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
            fields = fields_of(headers)
            if method == "PUT":
                await self._upload(media, key, fields, content_type, receive, send)
            else:
                await self._serve(media, key, method, fields, content_type, receive, send)
        except Abandoned:
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
            status, headers, start, end = answer_head(answer, opened, content_type)
            await send({"type": "http.response.start", "status": status, "headers": headers})
            if method == "GET" and start < end:
                try:
                    chunks = media.chunks(opened, start, end)
                    await send_all(chunks, end - start, receive, in_time(send, self._idle_s))
                except errors.Error as exc:
                    # The status is out. An unfinished response makes the server cut the connection, so
                    # that the client cannot take what it has for the whole.
                    _log.error("reading media failed: backend %s, key %s: %s", media.backend.id, key, exc)
                    raise Abandoned from exc
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
        size_bytes = length_of(fields, self._most_bytes)
        body = body_of(receive, size_bytes, self._most_bytes, self._idle_s)
        sums = promised(fields)
        async with contextlib.aclosing(_summed(media, body, sums) if sums else body) as chunks:
            stat = await media.write(key, chunks, content_type=said, size_bytes=size_bytes)
        headers = [(b"etag", stat.etag.encode()), (b"content-length", b"0"), *GUARDS]
        await send({"type": "http.response.start", "status": 200, "headers": headers})
        await send({"type": "http.response.body", "body": b""})

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
            *GUARDS,
        ]
        if isinstance(exc, errors.RangeNotSatisfiable):
            headers.append((b"content-range", f"bytes */{exc.size_bytes}".encode()))
        if isinstance(exc, errors.MethodNotAllowed):
            headers.append((b"allow", ", ".join(exc.allow).encode()))
        await send({"type": "http.response.start", "status": errors.STATUS[type(exc)], "headers": headers})
        await send({"type": "http.response.body", "body": b"" if head else body})


def _refuse_other(method: str) -> None:
    if method not in _METHODS:
        raise errors.MethodNotAllowed("media are read and uploaded", allow=_METHODS)


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
