"""The public surface of older deployments, said again in the API's own words: what is decided, stored and
refused is the same, for each such request becomes one or several of the API, of the same caller.

Everything is also below `/api/v1`. `POST /flows`, `POST /objects`, `POST /flow-delete-requests` and segments
that bring their media as a form are there besides what the specification has.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Mapping
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
from store.streams.multipart import fields_of

PREFIX: Final = b"/api/v1"
MEDIA: Final = "/media/"
ETERNITY: Final = "_"
UPLOAD_S: Final = 60
_FORM: Final = b"multipart/form-data"
_NOT_PASSED: Final = frozenset((b"content-length", b"content-type", b"transfer-encoding", b"expect"))
Put = Callable[[str, Mapping[str, str], bytes], Awaitable[int]]
"""PUT bytes to a URL with these headers: the status of the answer. Raises `errors.Unavailable`."""


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
        body: bytes = b"",
        content_type: str = JSON[1],
        query: bytes | None = None,
    ) -> Answer:
        """One call; `query` None keeps that of the older one."""
        raw = path.encode()
        headers = [pair for pair in self.scope["headers"] if pair[0].lower() not in _NOT_PASSED]
        if body:
            headers += [(b"content-type", content_type.encode()), (b"content-length", b"%d" % len(body))]
        asked = {
            **self.scope,
            "method": method,
            "raw_path": raw,
            "path": path,
            "query_string": self.scope["query_string"] if query is None else query,
            "headers": headers,
        }
        pending = [{"type": "http.request", "body": body, "more_body": False}]

        async def receive() -> Message:
            return pending.pop() if pending else {"type": "http.disconnect"}

        gathered = _Gathered()
        await self.app(asked, receive, gathered.send)
        return gathered.answer()


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


Handler = Callable[["Older", Caller, bytes], Awaitable[Answer]]


class Older:
    """Answers older requests by those of `app`. `public_url` is where signed URLs of local media begin."""

    def __init__(self, public_url: str, new_id: Callable[[], str], put: Put, max_body_bytes: int) -> None:
        self._media = public_url + MEDIA
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
        body = await read_body(caller.scope, receive, self._max_body_bytes)
        return await handler(self, caller, body)

    async def new_flow(self, caller: Caller, body: bytes) -> Answer:
        """POST /flows: a flow with the id in the body, or a new one."""
        flow = flow_of(_object(body), self._new_id)
        path = f"/flows/{_segment(flow['id'])}"
        if (await caller.ask("GET", path)).status == 200:
            raise BadRequest("`id` is that of a flow already.")
        return await caller.ask("PUT", path, orjson.dumps(flow))

    async def put_flow(self, caller: Caller, body: bytes) -> Answer:
        """PUT /api/v1/flows/{id}, with flat properties."""
        path: str = caller.scope["raw_path"].decode("ascii", "replace")
        return await caller.ask("PUT", path, orjson.dumps(flow_of(_object(body))))

    async def new_source(self, caller: Caller, body: bytes) -> Answer:
        """POST /api/v1/sources: with `name`, `type` and `location` too."""
        return await caller.ask("POST", "/sources", orjson.dumps(source_of(_object(body))))

    async def new_object(self, caller: Caller, body: bytes) -> Answer:
        """POST /objects: room for an object of a flow."""
        said = _object(body)
        flow_id, object_id = said.get("flow_id"), said.get("object_id", said.get("id"))
        if not isinstance(flow_id, str):
            raise BadRequest("`flow_id` must say whose object it is to be.")
        more: dict[str, Any] = {name: said[name] for name in ("storage_id", "content_type") if name in said}
        answer = await self._allocated(caller, f"/flows/{_segment(flow_id)}", object_id, more)
        if answer.status != 201:
            return answer
        (made,) = answer.document()["media_objects"]
        return Answer(201, [JSON], orjson.dumps({"id": made["object_id"], "flow_id": flow_id, **made}))

    async def delete_flow(self, caller: Caller, body: bytes) -> Answer:
        """POST /flow-delete-requests: the flow goes; or its segments, of a timerange where one is given."""
        said = _object(body)
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

    async def new_segment(self, caller: Caller, body: bytes) -> Answer:
        """POST /flows/{id}/segments as a form: `segment` says what it is, `file` has the media."""
        segment, media = _form(caller.scope, body)
        path: str = caller.scope["raw_path"].decode("ascii", "replace").removesuffix("/segments")
        answer = await self._allocated(caller, path, segment.get("object_id"), {})
        if answer.status != 201:
            return answer
        (made,) = answer.document()["media_objects"]
        await self._upload(caller, made["put_url"], media)
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

    async def _upload(self, caller: Caller, place: Mapping[str, Any], media: bytes) -> None:
        """PUT media where the store said. Raises `Unavailable`."""
        url: str = place["url"]
        if url.startswith(self._media):
            path, _, query = url.removeprefix(self._public_url).partition("?")
            kind = place["content-type"]
            status = (await caller.ask("PUT", path, media, kind, query.encode())).status
        else:
            status = await self._put(url, {"Content-Type": place["content-type"]}, media)
        if not 200 <= status < 300:
            raise Unavailable("The media could not be stored.")


def surface(public_url: str, max_body_bytes: int) -> Older:
    """What answers older requests of a service at `public_url`."""
    return Older(public_url, lambda: str(uuid4()), _put, max_body_bytes)


async def _put(url: str, headers: Mapping[str, str], body: bytes) -> int:
    try:
        async with httpx.AsyncClient(timeout=UPLOAD_S, trust_env=False) as client:
            return (await client.put(url, content=body, headers=dict(headers))).status_code
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


def _form(scope: Scope, body: bytes) -> tuple[dict[str, Any], bytes]:
    fields = dict(fields_of(_kind(scope), body))
    if "segment" not in fields or "file" not in fields:
        raise BadRequest("The form must have the fields `segment` and `file`.")
    return _object(fields["segment"]), fields["file"]


def _object(body: bytes) -> dict[str, Any]:
    document = load(body)
    if not isinstance(document, dict):
        raise BadRequest("A JSON object was expected.")
    return document


def _segment(text: object) -> str:
    """An id as a segment of a path."""
    return quote(str(text), safe="")
