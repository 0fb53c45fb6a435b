"""The key-value object API over ASGI, streaming both ways (section 2 of the design's other clients)."""

from __future__ import annotations

import contextlib
import logging
from collections.abc import Callable, Iterable
from dataclasses import dataclass

import orjson

from store import __version__, cursor, errors
from store.asgi import Disconnected, Message, Receive, Scope, Send, check_encoding
from store.domain import keys as domain
from store.domain.keys import Keys, Upload
from store.http import utc_now
from store.media.conditions import wanted, write_allowed
from store.media.stream import Abandoned, answer_head, body_of, fields_of, in_time, length_of, send_all
from store.metadata.keys import EVERYTHING, KeyQuery, KeyRow, common, prefixed, visible
from store.models.common import format_time
from store.params import Params
from store.rate import Rate
from store.routing import decode, decode_query

MOUNT = b"/store/"
HEALTH, OBJECTS, OBJECT = "/store/health", "/store/objects", "/store/objects/{key}"
KEY_ROUTES: dict[str, dict[str, str]] = {
    HEALTH: {"GET": "GET_store-health"},
    OBJECTS: {"GET": "GET_store-objects"},
    OBJECT: {
        "GET": "GET_store-objects-key",
        "PUT": "PUT_store-objects-key",
        "DELETE": "DELETE_store-objects-key",
    },
}
"""Every operation: template, method, name. HEAD is GET without a body."""
_FIXED = {template.encode(): template for template in (HEALTH, OBJECTS)}
_STEM = OBJECTS.encode() + b"/"
JSON = (b"content-type", b"application/json")
PAGE, PAGE_MOST = 100, 1000
IDLE_S = 60.0
_BYTES = "application/octet-stream"
_log = logging.getLogger(__name__)
RawHeader = tuple[bytes, bytes]


@dataclass(frozen=True, slots=True)
class Limits:
    """`most_bytes`: how long an object may be. `redirect_bytes`: objects at least this long are fetched from
    their storage backend by a signed URL; None: never."""

    most_bytes: int
    redirect_bytes: int | None = None


@dataclass(frozen=True, slots=True)
class KeyCall:
    """One call. `marks`: which names its caller sees (`keys.visible`), None for all. `actor`: who calls."""

    operation: str
    name: str
    method: str
    fields: dict[str, str]
    query: bytes
    marks: tuple[tuple[str, bool], ...] | None = None
    actor: str = ""


@dataclass(frozen=True, slots=True)
class _Served:
    """A key as `answer_head` takes it."""

    size_bytes: int
    etag: str
    modified_s: int


def find(raw_path: bytes) -> tuple[str, str] | None:
    """The template of a raw path and the key in it, None for no path of this API. Decoded once; a slash is
    like any other character of a key, and so is `..`. Raises `BadRequest`."""
    path = raw_path.removesuffix(b"/") if raw_path.count(b"/") == 3 else raw_path
    if path in _FIXED:
        return _FIXED[path], ""
    return (OBJECT, decode(raw_path[len(_STEM) :])) if raw_path.startswith(_STEM) else None


def error_body(status: int, message: str) -> bytes:
    """An error as clients of this API take it: the code is text."""
    return orjson.dumps({"error": {"code": str(status), "message": message}})


class KeyRoutes:
    """The API over one store. `cursor_keys`: newest first."""

    def __init__(self, keys: Keys, limits: Limits, cursor_keys: tuple[bytes, ...], idle_s: float = IDLE_S):
        self._keys = keys
        self._limits = limits
        self._cursor_keys = cursor_keys
        self._idle_s = idle_s

    async def answer(self, call: KeyCall, receive: Receive, send: Send) -> int:
        """Answer a call that is authorised; the status. Raises `Disconnected` when the client is gone."""
        try:
            return await self._answer(call, receive, send)
        except Abandoned as exc:
            raise Disconnected from exc
        except errors.Error as exc:
            status = errors.STATUS[type(exc)]
            await refuse(send, status, exc.summary, _headers_of(exc), head=call.method == "HEAD")
            return status
        # A fault of ours must still be an answer that clients can read, and must be found in the log.
        except Exception:
            _log.exception("%s", call.operation)
            message = "Something went wrong here; it was logged."
            await refuse(send, 500, message, head=call.method == "HEAD")
            return 500

    async def _answer(self, call: KeyCall, receive: Receive, send: Send) -> int:
        if call.operation == "PUT_store-objects-key":
            return await self._put(call, receive, send)
        if call.operation == "GET_store-objects-key":
            return await self._get(call, receive, send)
        if call.operation == "DELETE_store-objects-key":
            await domain.delete(self._keys, call.name, call.fields)
            return await _send(send, 204, [], b"")
        if call.operation == "GET_store-objects":
            return await self._list(call, send)
        return await self._health(call, send)

    async def _health(self, call: KeyCall, send: Send) -> int:
        await self._keys.metadata.check()
        document = {"status": "healthy", "version": __version__, "timestamp": utc_now()}
        return await _send(send, 200, [JSON], orjson.dumps(document), head=call.method == "HEAD")

    async def _put(self, call: KeyCall, receive: Receive, send: Send) -> int:
        check_encoding((name.encode(), value.encode("latin-1")) for name, value in call.fields.items())
        if "content-range" in call.fields:
            raise errors.BadRequest("An object is written whole: Content-Range is not taken.")
        size_bytes = length_of(call.fields, self._limits.most_bytes)
        body = body_of(receive, size_bytes, self._limits.most_bytes, self._idle_s)
        content_type = call.fields.get("content-type", "") or _BYTES
        async with contextlib.aclosing(body) as chunks:
            upload = Upload(call.name, chunks, size_bytes, content_type, call.fields)
            row = await domain.put(self._keys, upload)
        document = {"key": row.name, "size": row.size_bytes, "created_at": format_time(row.created_ns)}
        headers = [JSON, (b"etag", domain.etag_of(row).encode())]
        return await _send(send, 200, headers, orjson.dumps(document))

    async def _get(self, call: KeyCall, receive: Receive, send: Send) -> int:
        row = await domain.get(self._keys, call.name)
        served = _Served(row.size_bytes, domain.etag_of(row), domain.modified_s(row))
        if not _reading_allowed(call.fields, served):
            raise errors.PreconditionFailed("The object is not as the request expects it.")
        answer = wanted(
            call.fields, size_bytes=served.size_bytes, etag=served.etag, modified_s=served.modified_s
        )
        status, headers, start, end = answer_head(answer, served, row.content_type)
        if call.method == "GET" and status != 304 and self._is_redirected(row):
            return await self._redirect(row, send)
        if call.method == "HEAD" or start >= end:
            return await _send_head(send, status, headers)
        if row.data is not None:
            data = row.data if end - start == len(row.data) else row.data[start:end]
            await send({"type": "http.response.start", "status": status, "headers": headers})
            await send({"type": "http.response.body", "body": data})
            return status
        return await self._stream(row, (start, end), (status, headers), receive, send)

    async def _stream(
        self,
        row: KeyRow,
        span: tuple[int, int],
        head: tuple[int, list[RawHeader]],
        receive: Receive,
        send: Send,
    ) -> int:
        """Bytes of an object. The head goes out with the first of them, so that an object whose bytes cannot
        be had is still an error to the client."""
        begun = False
        send = in_time(send, self._idle_s)

        async def send_begun(message: Message) -> None:
            nonlocal begun
            if not begun:
                begun = True
                await send({"type": "http.response.start", "status": head[0], "headers": head[1]})
            await send(message)

        try:
            chunks = domain.read(self._keys, row, *span)
            await send_all(chunks, span[1] - span[0], receive, send_begun)
        except errors.Error as exc:
            if isinstance(exc, errors.NotFound):
                raise errors.Unavailable("The object's bytes are missing.") from exc
            if not begun:
                raise
            # An unfinished response makes the server cut the connection: nobody takes it for the whole.
            _log.error("reading a key's object failed: %s", exc)
            raise Abandoned from exc
        return head[0]

    def _is_redirected(self, row: KeyRow) -> bool:
        least = self._limits.redirect_bytes
        return row.object is not None and least is not None and row.size_bytes >= least

    async def _redirect(self, row: KeyRow, send: Send) -> int:
        assert row.object is not None
        media, instance = domain.place_of(self._keys, row.object)
        now_s = self._keys.now_ns() // domain.NS_PER_S
        url = media.get_url(
            instance.key, version=instance.version, now_s=now_s, content_type=row.content_type
        )
        self._keys.accesses.add((row.object.id,))
        headers = [(b"location", url.encode()), (b"cache-control", b"no-store")]
        return await _send(send, 307, headers, b"")

    async def _list(self, call: KeyCall, send: Send) -> int:
        params = Params(decode_query(call.query))
        limit = params.integer("limit")
        limit = PAGE if limit is None else limit
        if not 1 <= limit <= PAGE_MOST:
            raise errors.BadRequest(f"`limit` must be between 1 and {PAGE_MOST}.")
        prefix = params.text("prefix") or ""
        bound_to = cursor.fingerprint("keys", prefix, call.actor)
        ranges = EVERYTHING if call.marks is None else visible(call.marks)
        query = KeyQuery(common(ranges, prefixed(prefix)), limit, self._after(params, bound_to))
        names, more = await self._keys.metadata.keys(query)
        following = cursor.seal(names[-1], bound_to, self._cursor_keys) if more else None
        document = {"keys": names, "next_cursor": following, "has_more": more}
        return await _send(send, 200, [JSON], orjson.dumps(document), head=call.method == "HEAD")

    def _after(self, params: Params, bound_to: bytes) -> str | None:
        token = params.text("cursor")
        if not token:
            return None
        try:
            return str(cursor.unseal(token, bound_to, self._cursor_keys))
        except errors.BadRequest:
            raise errors.BadRequest("`cursor` is not one that this listing gave out.") from None


class KeyValueApp:
    """The API on the store alone: everybody may do everything. `rate` counts by address; None: no limit."""

    def __init__(self, routes: KeyRoutes, rate: Rate | None, now_s: Callable[[], float]) -> None:
        self._routes = routes
        self._rate = rate
        self._now_s = now_s

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Answer one HTTP request."""
        method: str = scope["method"]
        try:
            call = call_of(scope)
            if self._rate is not None:
                peer = scope["client"][0] if scope.get("client") else ""
                wait_s = self._rate.wait_s(peer, self._now_s())
                if wait_s is not None:
                    retry = [(b"retry-after", b"%d" % wait_s)]
                    await refuse(send, 429, "Rate limit exceeded", retry, head=method == "HEAD")
                    return
        except errors.Error as exc:
            status = errors.STATUS[type(exc)]
            await refuse(send, status, exc.summary, _headers_of(exc), head=method == "HEAD")
            return
        with contextlib.suppress(Disconnected):
            await self._routes.answer(call, receive, send)


def call_of(scope: Scope) -> KeyCall:
    """The call that a request makes. Raises `NotFound`, `MethodNotAllowed`, `BadRequest`."""
    found = find(scope["raw_path"])
    if found is None:
        raise errors.NotFound("There is nothing at this path.")
    template, name = found
    method: str = scope["method"]
    methods = KEY_ROUTES[template]
    operation = methods.get("GET" if method == "HEAD" else method)
    if operation is None:
        raise errors.MethodNotAllowed("This path does not take this method.", allow=(*methods, "HEAD"))
    return KeyCall(operation, name, method, fields_of(scope["headers"]), scope["query_string"])


def _reading_allowed(fields: dict[str, str], served: _Served) -> bool:
    """Whether If-Match and If-Unmodified-Since let a read go on; If-None-Match has its own answer there."""
    if "if-match" not in fields and "if-unmodified-since" not in fields:
        return True
    rest = {name: value for name, value in fields.items() if name != "if-none-match"}
    return write_allowed(rest, etag=served.etag, modified_s=served.modified_s)


def _headers_of(error: errors.Error) -> list[RawHeader]:
    if isinstance(error, errors.RangeNotSatisfiable):
        return [(b"content-range", b"bytes */%d" % error.size_bytes)]
    if isinstance(error, errors.MethodNotAllowed):
        return [(b"allow", ", ".join(error.allow).encode())]
    return [(b"retry-after", b"1")] if isinstance(error, errors.Unavailable) else []


async def refuse(
    send: Send, status: int, message: str, headers: Iterable[RawHeader] = (), *, head: bool = False
) -> None:
    """Send an error in this API's shape."""
    await _send(send, status, [JSON, *headers], error_body(status, message), head=head)


async def _send(send: Send, status: int, headers: list[RawHeader], body: bytes, *, head: bool = False) -> int:
    length = [] if status == 204 else [(b"content-length", b"%d" % len(body))]
    await send({"type": "http.response.start", "status": status, "headers": [*headers, *length]})
    await send({"type": "http.response.body", "body": b"" if head else body})
    return status


async def _send_head(send: Send, status: int, headers: list[RawHeader]) -> int:
    """An answer without a body, with the length of what would be one."""
    await send({"type": "http.response.start", "status": status, "headers": headers})
    await send({"type": "http.response.body", "body": b""})
    return status
