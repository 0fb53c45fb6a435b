"""The doors of streams: the wire at the root and the later wire under `/ptg`, HTTP and WebSockets."""

from __future__ import annotations

import logging
from collections.abc import Awaitable, Callable, Mapping, Sequence
from typing import Any

import orjson

from store.asgi import Disconnected, Receive, Scope, Send, read_body, send_response
from store.errors import BadRequest, Error, NotFound
from store.models.parsing import load
from store.params import Params
from store.routing import Router, decode_query
from store.streams import catalogue, recordings
from store.streams.asked import LATER, NEWEST, NEXT, ROOT, pull_of, push_of
from store.streams.entries import entries_of
from store.streams.flows import Stream, check_sid
from store.streams.frames import named
from store.streams.ids import texts_of
from store.streams.multipart import parts_of
from store.streams.page import EMPTY, Page, joined
from store.streams.pull import positions, pull
from store.streams.push import push
from store.streams.replay import replay, wish_of
from store.streams.replies import Asked, Found, Reply, refusal, reply
from store.streams.streams import Streams
from store.streams.visiting import Refused, Visitor

SOCKET = "WEBSOCKET"
"""What stands for the method of a WebSocket."""
ANSWER_BYTES = 16 << 20
HEADER_BYTES = 32 << 10
"""How long the header with the places of entries gets at most: common clients take no more than 64 KiB."""
_log = logging.getLogger(__name__)


Table = Mapping[str, Mapping[str, str]]
_STREAMS: Table = {
    "/ping": {"GET": "GET_ping"},
    "/streams": {"GET": "GET_streams"},
    "/streams/{sid}": {"GET": "GET_streams-id", "PUT": "PUT_streams-id", "DELETE": "DELETE_streams-id"},
    "/data/{sid}": {"GET": "GET_data-id", "POST": "POST_data-id"},
    "/data/{sid}/push": {SOCKET: "push"},
    "/data/{sid}/pull": {SOCKET: "pull"},
}
PATHS: Table = {
    **_STREAMS,
    **{f"/ptg{path}": methods for path, methods in _STREAMS.items()},
    "/ptg/streams": {"GET": "GET_streams", "PUT": "PUT_streams"},
    "/ptg/recordings": {"GET": "GET_recordings"},
    "/ptg/recordings/current": {"GET": "GET_recordings-current"},
    "/ptg/recordings/start": {"PUT": "PUT_recordings-start"},
    "/ptg/recordings/stop": {"PUT": "PUT_recordings-stop"},
    "/ptg/recordings/replay": {SOCKET: "replay"},
    "/ptg/recordings/{rid}": {"GET": "GET_recordings-id", "DELETE": "DELETE_recordings-id"},
    "/ptg/recordings/{rid}/rename/{new}": {"PUT": "PUT_recordings-id-rename"},
}
"""Every path of the doors: by method, the operation."""
PREFIXES = (b"/streams", b"/data/", b"/ping", b"/ptg/")
_ROUTER: Router[str] = Router(PATHS)


def is_ours(path: bytes) -> bool:
    """Whether a raw path is one of the doors', or looks so."""
    return path.startswith(PREFIXES) and (not path.startswith(b"/streams") or path[8:9] in (b"", b"/"))


def find(raw_path: bytes, method: str) -> Found:
    """What is asked for."""
    wire = LATER if raw_path.startswith(b"/ptg/") else ROOT
    try:
        found = _ROUTER.match(raw_path[:-1] if raw_path.endswith(b"/streams/") else raw_path)
    except BadRequest as exc:
        return Found("", wire, {}, Refused(400, exc.summary))
    if found is None:
        return Found("", wire, {}, Refused(404, "There is nothing at this path."))
    methods, params = found
    operation = methods.get("GET" if method == "HEAD" else method)
    if operation is None:
        allowed = ", ".join(name for name in methods if name != SOCKET)
        return Found(
            "", wire, params, Refused(405, "This path does not take this method.", [("allow", allowed)])
        )
    return Found(operation, wire, params)


class Doors:
    """Answers for visitors that were let in. `max_body_bytes`: of a request over HTTP."""

    def __init__(self, streams: Streams, max_body_bytes: int) -> None:
        self._streams = streams
        self._max_body_bytes = max_body_bytes

    def find(self, raw_path: bytes, method: str) -> Found:
        """What is asked for."""
        return find(raw_path, method)

    def refused(self, status: int, detail: str, headers: Sequence[tuple[str, str]]) -> Refused:
        """By what a visitor says that it may not."""
        return Refused(status, detail, headers)

    async def refuse(self, scope: Scope, receive: Receive, send: Send, why: Refused) -> None:
        """Refuse a request or a WebSocket."""
        answer = refusal(why)
        if scope["type"] == "websocket":
            await receive()
            await refuse_socket(scope, send, answer)
        else:
            head = scope["method"] == "HEAD"
            await send_response(send, answer.status, answer.headers, answer.body, head=head)

    async def answer(
        self, found: Found, visitor: Visitor, scope: Scope, receive: Receive, send: Send
    ) -> None:
        """Answer a request or a WebSocket, failures too."""
        if scope["type"] == "websocket":
            await self._socket(found, visitor, scope, receive, send)
            return
        try:
            reply = await self._reply(found, visitor, scope, receive)
        except Disconnected:
            return
        except (Refused, Error) as exc:
            reply = refusal(exc)
        head = scope["method"] == "HEAD"
        await send_response(send, reply.status, reply.headers, reply.body, head=head)

    async def _socket(
        self, found: Found, visitor: Visitor, scope: Scope, receive: Receive, send: Send
    ) -> None:
        await receive()
        try:
            query = Params(decode_query(scope["query_string"]))
            handler = _SOCKETS[found.operation]
            await handler(self._streams, found, visitor, query, receive, send)
        except (Refused, Error) as exc:
            await refuse_socket(scope, send, refusal(exc))

    async def _reply(self, found: Found, visitor: Visitor, scope: Scope, receive: Receive) -> Reply:
        query = Params(decode_query(scope["query_string"]))
        body = b""
        if scope["method"] in ("PUT", "POST"):
            body = await read_body(scope, receive, self._max_body_bytes)
        content_type = next((value for name, value in scope["headers"] if name == b"content-type"), b"")
        asked = Asked(found, visitor, query, body, content_type)
        return await _HANDLERS[found.operation](self._streams, asked)


async def refuse_socket(scope: Scope, send: Send, answer: Reply) -> None:
    """Refuse a WebSocket that is not accepted yet, its `websocket.connect` taken."""
    if "websocket.http.response" not in (scope.get("extensions") or {}):
        await send({"type": "websocket.close", "code": 1008})
        return
    headers = [(name.encode("latin-1"), value.encode("latin-1")) for name, value in answer.headers]
    await send({"type": "websocket.http.response.start", "status": answer.status, "headers": headers})
    await send({"type": "websocket.http.response.body", "body": answer.body})


async def _ping(streams: Streams, asked: Asked) -> Reply:
    return reply(True)


async def _list(streams: Streams, asked: Asked) -> Reply:
    return reply(await catalogue.ids(asked.visitor))


async def _get(streams: Streams, asked: Asked) -> Reply:
    found = await catalogue.describe(asked.visitor, asked.sid)
    if found is None and asked.query.flag("report_error") is not False:
        raise NotFound(catalogue.ABSENT)
    return reply(found)


async def _put(streams: Streams, asked: Asked) -> Reply:
    merge = asked.found.wire.named
    wish = _wish(_said(asked.body)) if merge else _wish_of_query(asked.query)
    return reply(await catalogue.put(asked.visitor, asked.sid, wish, merge=merge))


async def _put_named(streams: Streams, asked: Asked) -> Reply:
    """The same, of the stream that the body names."""
    said = _said(asked.body)
    sid = next((said[name] for name in ("id", "sid", "stream_id") if name in said), None)
    if not isinstance(sid, str):
        raise BadRequest("The body must name the stream by `id`.")
    return reply(await catalogue.put(asked.visitor, check_sid(sid), _wish(said), merge=True))


def _wish_of_query(query: Params) -> catalogue.Wish:
    text = query.text("meta")
    meta = None if text is None else load(text.encode())
    document = {
        "description": query.text("desc"),
        "metadata": meta,
        "max_len": query.integer("max_len"),
        "override": query.flag("override") or False,
    }
    return _wish(document)


def _said(body: bytes) -> dict[str, Any]:
    document = load(body) if body.strip() else {}
    if not isinstance(document, dict):
        raise BadRequest("The body must be a JSON object.")
    both = {"desc": "description", "meta": "metadata"}
    return {both.get(str(name), str(name)): value for name, value in document.items()}


def _wish(document: Mapping[str, Any]) -> catalogue.Wish:
    description, meta = document.get("description"), document.get("metadata")
    max_len, override = document.get("max_len"), document.get("override", False)
    if description is not None and not isinstance(description, str):
        raise BadRequest("The description must be a string.")
    if meta is not None and not isinstance(meta, dict):
        raise BadRequest("The metadata must be a JSON object.")
    if max_len is not None and (type(max_len) is not int or not 0 < max_len < 10**15):
        raise BadRequest("`max_len` must be a positive integer.")
    if not isinstance(override, bool):
        raise BadRequest("`override` must be true or false.")
    return catalogue.Wish(description, meta, max_len, override)


async def _delete(streams: Streams, asked: Asked) -> Reply:
    try:
        await catalogue.delete(streams, asked.visitor, asked.sid)
    except NotFound:
        if not asked.query.flag("force"):
            raise
    return reply(True)


async def _post_data(streams: Streams, asked: Asked) -> Reply:
    fields = parts_of(asked.content_type, asked.body)
    if not fields:
        raise BadRequest("The form has no field.")
    stream = await catalogue.ensure(streams, asked.visitor, asked.sid)
    return reply(texts_of(await streams.append(stream, entries_of(fields))))


async def _get_data(streams: Streams, asked: Asked) -> Reply:
    wire = asked.found.wire
    wish = pull_of(asked.found.params["sid"], asked.query, wire, NEWEST)
    found = [await catalogue.readable(streams, asked.visitor, sid) for sid in wish.sids]
    behind = await positions(streams, found, wish, wish.count)
    pages: list[tuple[str, Page]] = []
    most = HEADER_BYTES // (len(found) * (24 + max(map(len, wish.sids)) * 6 * wire.named))
    for stream, after in zip(found, behind, strict=True):
        limit = min(wish.count, max(1, most))
        page = await _all(streams, stream, after, limit, ANSWER_BYTES // len(found))
        pages.append((stream.id, page))
    header, data = named(pages)
    if not wire.named:
        header = orjson.dumps([item[1:] for item in orjson.loads(header)])
    headers = [("content-type", "application/octet-stream"), ("entry-offset", header.decode("ascii"))]
    return Reply(200, headers, data)


async def _all(streams: Streams, stream: Stream, after: int, limit: int, most_bytes: int) -> Page:
    """What a request without a socket gets: as much as there is, within bounds."""
    pages: list[Page] = []
    while limit > 0 and most_bytes > 0:
        page = await streams.read(stream, after, limit, most_bytes)
        if not page.ids or (pages and len(page.data) > most_bytes):
            break
        pages.append(page)
        after = page.ids[-1]
        limit -= len(page.ids)
        most_bytes -= len(page.data)
    return joined(pages) if pages else EMPTY


async def _push(
    streams: Streams, found: Found, visitor: Visitor, query: Params, receive: Receive, send: Send
) -> None:
    asked = push_of(found.params["sid"], query, found.wire)
    there = [await catalogue.ensure(streams, visitor, sid) for sid in asked.sids]
    await push(streams, visitor, asked, there, receive, send)


async def _pull(
    streams: Streams, found: Found, visitor: Visitor, query: Params, receive: Receive, send: Send
) -> None:
    asked = pull_of(found.params["sid"], query, found.wire, NEXT)
    there = [await catalogue.readable(streams, visitor, sid) for sid in asked.sids]
    await pull(streams, visitor, asked, there, found.wire.named, receive, send)


async def _replay(
    streams: Streams, found: Found, visitor: Visitor, query: Params, receive: Receive, send: Send
) -> None:
    asked = await wish_of(visitor, query)
    there = [await catalogue.readable(streams, visitor, sid) for sid in asked.sids]
    await replay(streams, visitor, asked, there, receive, send)


_Handler = Callable[[Streams, Asked], Awaitable[Reply]]
_SocketHandler = Callable[[Streams, Found, Visitor, Params, Receive, Send], Awaitable[None]]
_HANDLERS: Mapping[str, _Handler] = {
    "GET_ping": _ping,
    "GET_streams": _list,
    "GET_streams-id": _get,
    "PUT_streams": _put_named,
    "PUT_streams-id": _put,
    "DELETE_streams-id": _delete,
    "GET_data-id": _get_data,
    "POST_data-id": _post_data,
    "GET_recordings": recordings.get_all,
    "GET_recordings-current": recordings.get_current,
    "GET_recordings-id": recordings.get_one,
    "PUT_recordings-start": recordings.start,
    "PUT_recordings-stop": recordings.stop,
    "PUT_recordings-id-rename": recordings.rename,
    "DELETE_recordings-id": recordings.delete,
}
_SOCKETS: Mapping[str, _SocketHandler] = {"push": _push, "pull": _pull, "replay": _replay}
