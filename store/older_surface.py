"""The public surface of older deployments, said again in the API's own words: what is decided, stored and
refused is the same, for each such request becomes one or several of the API, of the same caller.

Everything is also below `/api/v1`. `POST /flows`, `POST /objects`, `POST /flow-delete-requests` and segments
that bring their media as a form are there besides what the specification has.
"""

from __future__ import annotations

import logging
from collections.abc import Awaitable, Callable, Mapping
from contextlib import aclosing
from dataclasses import dataclass
from typing import Any, Final
from urllib.parse import quote
from uuid import uuid4

import httpx
import orjson

from store.asgi import App, Disconnected, Message, Receive, Scope, Send, read_body, send_response
from store.errors import BadRequest, Error, Unavailable
from store.http import JSON, Headers, failure, utc_now
from store.models.parsing import load
from store.older_documents import flow_of, source_of
from store.older_form import Content, Form, content_of, incoming, sized

PREFIX: Final = b"/api/v1"
MEDIA: Final = "/media/"
ETERNITY: Final = "_"
RELAYED: Final = "/media/relay/"
UPLOAD_S: Final = 60
_FORM: Final = b"multipart/form-data"
_NOT_PASSED: Final = frozenset((b"content-length", b"content-type", b"transfer-encoding", b"expect"))
_log = logging.getLogger(__name__)
Put = Callable[[str, Mapping[str, str], Content], Awaitable[int]]
"""PUT a body of known length to a URL with these headers: the status of the answer. Raises
`errors.Unavailable`."""


@dataclass(frozen=True, slots=True)
class Answer:
    """A whole answer of the API."""

    status: int
    headers: Headers
    body: bytes

    def document(self) -> Any:
        """Its JSON."""
        return orjson.loads(self.body)


@dataclass(frozen=True, slots=True)
class Caller:
    """Makes calls of the API as whoever made the older one."""

    app: App
    scope: Scope

    async def ask(
        self,
        method: str,
        path: str,
        body: bytes | Content | None = None,
        content_type: str = JSON[1],
        query: bytes | None = None,
    ) -> Answer:
        """One call; `query` None keeps that of the older one. Raises what reading the body raises."""
        raw = path.encode()
        headers = [pair for pair in self.scope["headers"] if pair[0].lower() not in _NOT_PASSED]
        content = body if isinstance(body, Content) else content_of(body or b"")
        if body is not None:
            headers += [(b"content-type", content_type.encode()), _length(content)]
        asked = {
            **self.scope,
            "method": method,
            "raw_path": raw,
            "path": path,
            "query_string": self.scope["query_string"] if query is None else query,
            "headers": headers,
        }
        gathered, sent = _Gathered(), _Sent(content)
        async with aclosing(content.pieces):
            await self.app(asked, sent.receive, gathered.send)
        if sent.broken is not None:
            raise sent.broken
        return gathered.answer()


def _length(content: Content) -> tuple[bytes, bytes]:
    if content.size_bytes is None:
        return b"transfer-encoding", b"chunked"
    return b"content-length", b"%d" % content.size_bytes


class _Sent:
    """A body, as it is received. `broken`: why it did not come to its end."""

    def __init__(self, content: Content) -> None:
        self._pieces = content.pieces
        self._has_ended = False
        self.broken: Error | Disconnected | None = None

    async def receive(self) -> Message:
        if self._has_ended:
            return {"type": "http.disconnect"}
        try:
            piece = await anext(self._pieces)
        except StopAsyncIteration:
            self._has_ended = True
            return {"type": "http.request", "body": b"", "more_body": False}
        except (Error, Disconnected) as exc:
            # Whoever takes the body must not take what there is of it for the whole.
            self._has_ended, self.broken = True, exc
            return {"type": "http.disconnect"}
        return {"type": "http.request", "body": piece, "more_body": True}


class _Gathered:
    """An answer, as it is sent."""

    def __init__(self) -> None:
        self._status = 500
        self._headers: list[tuple[bytes, bytes]] = []
        self._pieces: list[bytes] = []

    async def send(self, message: Message) -> None:
        if message["type"] == "http.response.start":
            self._status, self._headers = message["status"], list(message["headers"])
        elif message["type"] == "http.response.body":
            self._pieces.append(message.get("body", b""))

    def answer(self) -> Answer:
        headers = [(name.decode("latin-1").lower(), value.decode("latin-1")) for name, value in self._headers]
        kept = [pair for pair in headers if pair[0] not in ("content-length", "transfer-encoding")]
        return Answer(self._status, kept, b"".join(self._pieces))


Handler = Callable[["Older", Caller, Receive], Awaitable[Answer]]


class Older:
    """Answers older requests by those of `app`. `public_url` is where signed URLs of local media begin."""

    def __init__(self, public_url: str, new_id: Callable[[], str], put: Put, max_body_bytes: int) -> None:
        self._public_url = public_url
        self._new_id = new_id
        self._put = put
        self._max_body_bytes = max_body_bytes

    def takes(self, scope: Scope) -> bool:
        """Whether this is an older request."""
        path: bytes = scope["raw_path"]
        return _is_below(path) or _handler(scope, below=False) is not None

    async def __call__(self, app: App, scope: Scope, receive: Receive, send: Send) -> None:
        """Answer an older request."""
        path: bytes = scope["raw_path"]
        below = _is_below(path)
        if below:
            rest = path[len(PREFIX) :]
            scope = {**scope, "raw_path": rest, "path": rest.decode("latin-1")}
        handler = _handler(scope, below=below)
        if handler is None:
            await app(scope, receive, send)
            return
        try:
            answer = await self._answer(handler, Caller(app, scope), receive)
        except Disconnected:
            return
        except Error as exc:
            refused = failure(exc, utc_now())
            answer = Answer(refused.status, refused.headers, refused.body)
        await send_response(send, answer.status, answer.headers, answer.body, head=False)

    async def _answer(self, handler: Handler, caller: Caller, receive: Receive) -> Answer:
        # Nobody's body is read before it is known who sends it.
        known = await caller.ask("GET", "/service")
        if known.status >= 400:
            return known
        return await handler(self, caller, receive)

    async def _said(self, caller: Caller, receive: Receive) -> dict[str, Any]:
        return _object(await read_body(caller.scope, receive, self._max_body_bytes))

    async def new_flow(self, caller: Caller, receive: Receive) -> Answer:
        """POST /flows: a flow with the id in the body, or a new one."""
        flow = flow_of(await self._said(caller, receive), self._new_id)
        path = f"/flows/{_segment(flow['id'])}"
        if (await caller.ask("GET", path)).status == 200:
            raise BadRequest("`id` is that of a flow already.")
        return await caller.ask("PUT", path, orjson.dumps(flow))

    async def put_flow(self, caller: Caller, receive: Receive) -> Answer:
        """PUT /api/v1/flows/{id}, with flat properties."""
        path: str = caller.scope["raw_path"].decode("ascii", "replace")
        return await caller.ask("PUT", path, orjson.dumps(flow_of(await self._said(caller, receive))))

    async def new_source(self, caller: Caller, receive: Receive) -> Answer:
        """POST /api/v1/sources: with `name`, `type` and `location` too."""
        return await caller.ask(
            "POST", "/sources", orjson.dumps(source_of(await self._said(caller, receive)))
        )

    async def new_object(self, caller: Caller, receive: Receive) -> Answer:
        """POST /objects: room for an object of a flow."""
        said = await self._said(caller, receive)
        flow_id, object_id = said.get("flow_id"), said.get("object_id", said.get("id"))
        if not isinstance(flow_id, str):
            raise BadRequest("`flow_id` must say whose object it is to be.")
        more: dict[str, Any] = {name: said[name] for name in ("storage_id", "content_type") if name in said}
        answer = await self._allocated(caller, f"/flows/{_segment(flow_id)}", object_id, more)
        if answer.status != 201:
            return answer
        (made,) = answer.document()["media_objects"]
        return Answer(201, [JSON], orjson.dumps({"id": made["object_id"], "flow_id": flow_id, **made}))

    async def delete_flow(self, caller: Caller, receive: Receive) -> Answer:
        """POST /flow-delete-requests: the flow goes; or its segments, of a timerange where one is given."""
        said = await self._said(caller, receive)
        flow_id, timerange = said.get("flow_id"), said.get("timerange_to_delete")
        whole = said.get("delete_flow", timerange is None)
        if not isinstance(flow_id, str):
            raise BadRequest("`flow_id` must say which flow is to go.")
        if not isinstance(whole, bool):
            raise BadRequest("`delete_flow` must be true or false.")
        if timerange is not None and not isinstance(timerange, str):
            raise BadRequest("`timerange_to_delete` must be a timerange.")
        if whole and timerange not in (None, ETERNITY):
            raise BadRequest("A flow goes with all its segments: leave out `timerange_to_delete`.")
        path, query = f"/flows/{_segment(flow_id)}", b""
        if not whole:
            timerange = ETERNITY if timerange is None else timerange
            path, query = f"{path}/segments", f"timerange={_segment(timerange)}".encode()
        answer = await caller.ask("DELETE", path, query=query)
        if answer.status != 204:
            return answer
        told = {"flow_id": flow_id, "timerange_to_delete": ETERNITY if whole else timerange}
        return Answer(201, [JSON], orjson.dumps({**told, "delete_flow": whole, "status": "done"}))

    async def new_segment(self, caller: Caller, receive: Receive) -> Answer:
        """POST /flows/{id}/segments as a form: `segment` says what it is, `file` has the media, which pass on
        as they come where they are longer than what may be held."""
        async with aclosing(incoming(caller.scope, receive)) as pieces:
            form = Form(pieces, _kind(caller.scope), self._max_body_bytes)
            segment = _object(await form.segment())
            path: str = caller.scope["raw_path"].decode("ascii", "replace").removesuffix("/segments")
            answer = await self._allocated(caller, path, segment.get("object_id"), {})
            if answer.status != 201:
                return answer
            (made,) = answer.document()["media_objects"]
            refused = await self._upload(caller, made["put_url"], form.content())
        if refused is not None:
            return refused
        registered = {**segment, "object_id": made["object_id"]}
        answer = await caller.ask("POST", f"{path}/segments", orjson.dumps(registered))
        if answer.status != 201:
            return answer
        return Answer(201, [JSON], orjson.dumps(registered))

    async def _allocated(
        self, caller: Caller, flow: str, object_id: object, more: Mapping[str, Any]
    ) -> Answer:
        wanted = {"limit": 1} if object_id is None else {"object_ids": [object_id]}
        return await caller.ask("POST", f"{flow}/storage", orjson.dumps({**wanted, **more}))

    async def _upload(self, caller: Caller, place: Mapping[str, Any], media: Content) -> Answer | None:
        """PUT media where the store said: None, or how that was refused. Raises `Unavailable`, and what
        reading them raises."""
        url: str = place["url"]
        kind: str = place["content-type"]
        if url.startswith(self._public_url + MEDIA) and not url.startswith(self._public_url + RELAYED):
            return await self._upload_here(caller, url, kind, media)
        # A bucket wants to be told how much comes.
        async with sized(media) as whole:
            if url.startswith(self._public_url + RELAYED):
                return await self._upload_here(caller, url, kind, whole)
            status = await self._put(url, {"Content-Type": kind}, whole)
        if not 200 <= status < 300:
            _log.error("media that came as a form were refused by %s: %d", httpx.URL(url).host, status)
            raise Unavailable("The media could not be stored.")
        return None

    async def _upload_here(self, caller: Caller, url: str, kind: str, media: Content) -> Answer | None:
        path, _, query = url.removeprefix(self._public_url).partition("?")
        answer = await caller.ask("PUT", path, media, kind, query.encode())
        return None if 200 <= answer.status < 300 else answer


def surface(public_url: str, max_body_bytes: int) -> Older:
    """What answers older requests of a service at `public_url`."""
    return Older(public_url, lambda: str(uuid4()), _put, max_body_bytes)


async def _put(url: str, headers: Mapping[str, str], content: Content) -> int:
    told = {**headers, "Content-Length": str(content.size_bytes)}
    try:
        async with httpx.AsyncClient(timeout=UPLOAD_S, trust_env=False) as client:
            return (await client.put(url, content=content.pieces, headers=told)).status_code
    except httpx.HTTPError as exc:
        raise Unavailable("The media could not be stored.") from exc


_POSTS: Final[Mapping[bytes, Handler]] = {
    b"/flows": Older.new_flow,
    b"/objects": Older.new_object,
    b"/flow-delete-requests": Older.delete_flow,
}


def _is_below(path: bytes) -> bool:
    """Whether the prefix is to be taken off: once, for what is left comes in again."""
    return path.startswith(PREFIX + b"/") and not path.startswith(PREFIX + PREFIX)


def _handler(scope: Scope, *, below: bool) -> Handler | None:
    """What an older request needs besides another path; None for nothing."""
    if scope["type"] != "http":
        return None
    method, path = scope["method"], scope["raw_path"]
    if method == "POST":
        if path in _POSTS:
            return _POSTS[path]
        if below and path == b"/sources":
            return Older.new_source
        if path.startswith(b"/flows/") and path.endswith(b"/segments") and _kind(scope).startswith(_FORM):
            return Older.new_segment
    if below and method == "PUT" and path.startswith(b"/flows/") and path.count(b"/") == 2:
        return Older.put_flow
    return None


def _kind(scope: Scope) -> bytes:
    found = next((value for name, value in scope["headers"] if name.lower() == b"content-type"), b"")
    return bytes(found).strip()


def _object(body: bytes) -> dict[str, Any]:
    document = load(body)
    if not isinstance(document, dict):
        raise BadRequest("A JSON object was expected.")
    return document


def _segment(text: object) -> str:
    """An id as a segment of a path."""
    return quote(str(text), safe="")
