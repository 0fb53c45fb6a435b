"""A deliberately plain upstream: TAMS as 7.0 has it, and no more than a server may get away with.

Pages of its own size with absolute Links that name another host, answers in gzip, cookies, tag filters that
compare one plain value, no paging headers, no object instances, webhooks without ids. It can be told to be
slow, to break off, to refuse, to redirect. `calls` is what it was asked, headers and all. What it holds:
`plain_store.py`.
"""

from __future__ import annotations

import asyncio
import gzip
import sys
import threading
from collections.abc import Callable, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass, field
from datetime import UTC, datetime
from typing import Any
from uuid import uuid4

import httpx
import orjson
from starlette.applications import Starlette
from starlette.requests import ClientDisconnect, Request
from starlette.responses import Response, StreamingResponse
from starlette.routing import Route

from tests.upstream.plain_store import BACKENDS as BACKENDS
from tests.upstream.plain_store import KINDS, Document, Held, No

PAGE = 7
ENDLESS, LONG, SINK = "endless", "long", "sink"
"""Media that never end, that are long, and that are not kept."""
LONG_BYTES = 64 << 20
NOTHING: Mapping[str, str] = {}
EMPTY = Response(status_code=204)


@dataclass(frozen=True)
class Call:
    """One request as it came."""

    method: str
    target: str
    headers: dict[str, str] = field(hash=False)
    body: bytes


@dataclass
class Plain(Held):
    """What the upstream holds, and how it behaves. `trouble` answers in its stead, where it answers.

    `taken_bytes`: of uploads. `left`: somebody went away before the end of an answer, or of an upload.
    `inline`: so many segments are deleted while one waits, more of them in a request of their own.
    `webhooks`: by URL, None where it has no such thing; `delivers`: whether it calls them.
    """

    version: str = "7.0"
    inline: int = -1
    webhooks: dict[str, Document] | None = None
    delivers: bool = False
    deletions: dict[str, Document] = field(default_factory=dict)
    media: dict[str, bytes] = field(default_factory=dict)
    calls: list[Call] = field(default_factory=list)
    trouble: Callable[[Call], Response | None] = lambda call: None
    taken_bytes: int = 0
    left: threading.Event = field(default_factory=threading.Event)
    deliveries: set[asyncio.Task[None]] = field(default_factory=set)

    def application(self, url: str) -> Starlette:
        """The server."""
        self.url = url
        routes = [
            Route("/service", self._service),
            Route("/service/storage-backends", self._backends),
            Route("/service/webhooks", self._webhooks, methods=["GET", "POST"]),
            Route("/flow-delete-requests", self._deletions),
            Route("/flow-delete-requests/{id}", self._deletion),
            Route("/{kind}", self._list),
            Route("/sources/{id}", self._source),
            Route("/flows/{id}", self._flow, methods=["GET", "PUT", "DELETE"]),
            Route("/flows/{id}/segments", self._segments, methods=["GET", "POST", "DELETE"]),
            Route("/flows/{id}/storage", self._storage, methods=["POST"]),
            Route("/{kind}/{id}/tags/{tag}", self._tag, methods=["PUT", "DELETE"]),
            Route("/{kind}/{id}/{key}", self._property, methods=["PUT", "DELETE"]),
            Route("/objects/{id:path}", self._object),
            Route("/media/{key:path}", self._media, methods=["GET", "PUT"]),
        ]
        return Starlette(routes=[Route(r.path, self._noted(r.endpoint), methods=r.methods) for r in routes])

    def _noted(self, endpoint: Callable[..., Any]) -> Callable[..., Any]:
        async def noted(request: Request) -> Response:
            target = request.scope["raw_path"].decode() + (
                f"?{request.url.query}" if request.url.query else ""
            )
            body = b"" if request.url.path.startswith("/media/") else await request.body()
            call = Call(request.method, target, dict(request.headers), body)
            self.calls.append(call)
            answer = self.trouble(call)
            try:
                found: Response = answer if answer is not None else await endpoint(request)
            except No as exc:
                return self._error(exc.status)
            except (ValueError, KeyError, TypeError, AttributeError):
                return self._error(400)
            return found

        return noted

    def _json(self, document: Any, status: int = 200, headers: Mapping[str, str] = NOTHING) -> Response:
        body = gzip.compress(orjson.dumps(document))
        given = {
            "Content-Type": "application/json; charset=utf-8",
            "Content-Encoding": "gzip",
            "Set-Cookie": "session=of-somebody",
            "Connection": "keep-alive, X-Internal",
            "X-Internal": "secret",
            "Server": "plain/1.0",
            **headers,
        }
        return Response(body, status, headers=given)

    def _error(self, status: int) -> Response:
        return self._json({"message": f"Not at {self.url}: denied by internal.example"}, status)

    async def _service(self, request: Request) -> Response:
        document: Document = {"type": "urn:x-tams:service:plain", "api_version": self.version}
        if self.webhooks is not None:
            document["event_stream_mechanisms"] = [{"name": "webhooks"}]
        return self._json(document)

    async def _backends(self, request: Request) -> Response:
        if self.version < "7":
            raise No(404)
        return self._json(self.backends)

    def _page(self, request: Request, found: Sequence[Any]) -> tuple[list[Any], dict[str, str]]:
        """A page of what was found, and the headers that lead on."""
        query = dict(request.query_params)
        start = int(query.get("offset", "0"))
        headers = {}
        if start + PAGE < len(found):
            query["offset"] = str(start + PAGE)
            link = str(httpx.QueryParams(query))
            url = f"http://internal.example:8080/tams{request.url.path}?{link}"
            headers["Link"] = f'<{url}>; foo="a,b"; rel="next", </x>; rel=up'
        return list(found[start : start + PAGE]), headers

    async def _list(self, request: Request) -> Response:
        kind = _kind(request)
        page, headers = self._page(request, self.listed(kind, dict(request.query_params)))
        one = self.flow if kind == "flows" else self.source
        return self._json([one(name) for name in page], headers=headers)

    async def _source(self, request: Request) -> Response:
        return self._json(self.source(request.path_params["id"]))

    async def _flow(self, request: Request) -> Response:
        name = request.path_params["id"]
        if request.method == "PUT":
            created = self.put_flow(name, orjson.loads(await request.body()))
            return self._json(self.flows[name], 201) if created else EMPTY
        if request.method == "DELETE":
            number = len(self.segments.get(name, ()))
            self.delete_flow(name)
            return self._deleted(name, number)
        return self._json(self.flow(name))

    def _deleted(self, flow_id: str, number: int) -> Response:
        """The answer about so many segments that were deleted."""
        if number <= self.inline:
            return EMPTY
        document = {"id": flow_id, "flow_id": flow_id, "delete_flow": True, "status": "done"}
        self.deletions[flow_id] = document
        return self._json(document, 202, {"Location": f"{self.url}/flow-delete-requests/{flow_id}"})

    async def _deletions(self, request: Request) -> Response:
        page, headers = self._page(request, list(self.deletions.values()))
        return self._json(page, headers=headers)

    async def _deletion(self, request: Request) -> Response:
        return self._json(_found(self.deletions, request.path_params["id"]))

    async def _property(self, request: Request) -> Response:
        kind, name, key = _kind(request), request.path_params["id"], request.path_params["key"]
        if key not in KINDS:
            raise No(404)
        if request.method == "PUT":
            self.put(kind, name, key, orjson.loads(await request.body()))
        else:
            self.drop(kind, name, key)
        return EMPTY

    async def _tag(self, request: Request) -> Response:
        kind, name, tag = _kind(request), request.path_params["id"], request.path_params["tag"]
        value = orjson.loads(await request.body()) if request.method == "PUT" else None
        if request.method == "PUT" and value is None:
            raise No(400)
        self.tag(kind, name, tag, value)
        return EMPTY

    async def _segments(self, request: Request) -> Response:
        name, query = request.path_params["id"], dict(request.query_params)
        if request.method == "GET":
            page, headers = self._page(request, self.segments_of(name, query))
            return self._json(page, headers=headers)
        if request.method == "DELETE":
            number = len(self.segments.get(name, ()))
            self.delete_segments(name, query)
            return self._deleted(name, number)
        body = orjson.loads(await request.body())
        if not isinstance(body, list):
            self.add(name, body)
            return Response(status_code=201)
        failed = [item for item in body if not self._is_added(name, item)]
        error = {"type": "BadRequest", "summary": "no", "time": "2026-01-01T00:00:00Z"}
        told = [{"object_id": f["object_id"], "timerange": f["timerange"], "error": error} for f in failed]
        return self._json({"failed_segments": told}) if failed else Response(status_code=201)

    def _is_added(self, flow_id: str, segment: Document) -> bool:
        try:
            self.add(flow_id, segment)
        except No:
            return False
        return True

    async def _storage(self, request: Request) -> Response:
        _found(self.flows, request.path_params["id"])
        body = await request.body()
        found = self.allocate(orjson.loads(body) if body else {}, lambda: f"new-{uuid4()}")
        return self._json({"media_objects": found}, 201)

    async def _object(self, request: Request) -> Response:
        found, flows = self.object(request.path_params["id"], dict(request.query_params))
        page, headers = self._page(request, flows)
        return self._json({**found, "referenced_by_flows": page}, headers=headers)

    async def _webhooks(self, request: Request) -> Response:
        """Registered by URL; whoever wants no events any more has none."""
        if self.webhooks is None:
            raise No(404)
        if request.method == "GET":
            hidden = "api_key_value"
            kept = [{k: v for k, v in hook.items() if k != hidden} for hook in self.webhooks.values()]
            page, headers = self._page(request, kept)
            return self._json(page, headers=headers)
        hook = orjson.loads(await request.body())
        if hook["events"]:
            self.webhooks[hook["url"]] = hook
        else:
            self.webhooks.pop(hook["url"], None)
        return self._json({k: v for k, v in hook.items() if k != "api_key_value"}, 201)

    def tell(self, kind: str, event: Document) -> None:
        """Deliver an event, once."""
        if not self.delivers:
            return
        message = {"event_timestamp": datetime.now(UTC).isoformat(), "event_type": kind, "event": event}
        for hook in (self.webhooks or {}).values():
            if kind in hook["events"]:
                task = asyncio.create_task(_deliver(hook, orjson.dumps(message)))
                self.deliveries.add(task)
                task.add_done_callback(self.deliveries.discard)

    async def _media(self, request: Request) -> Response:
        key = request.path_params["key"]
        if request.method == "PUT":
            pieces = []
            try:
                async for piece in request.stream():
                    self.taken_bytes += len(piece)
                    if key != SINK:
                        pieces.append(piece)
            except ClientDisconnect:
                self.left.set()
                raise
            self.media[key] = b"".join(pieces)
            return Response(status_code=200, headers={"ETag": '"1"', "Set-Cookie": "a=b"})
        if key == ENDLESS:
            return StreamingResponse(self._endless(), media_type="text/html")
        if key == LONG:
            return StreamingResponse(self._endless(LONG_BYTES), headers={"Content-Length": str(LONG_BYTES)})
        if key not in self.media:
            return self._error(404)
        given = {"ETag": '"1"', "Set-Cookie": "a=b", "X-Internal": "secret", "Content-Type": "text/html"}
        return Response(self.media[key], headers=given)

    async def _endless(self, left_bytes: int = sys.maxsize) -> Any:
        try:
            while left_bytes > 0:
                yield b"x" * 65536
                left_bytes -= 65536
                await asyncio.sleep(0)
        finally:
            self.left.set()


def _kind(request: Request) -> str:
    kind: str = request.path_params["kind"]
    if kind not in ("flows", "sources"):
        raise No(404)
    return kind


def _found(held: dict[str, Document], name: str) -> Document:
    if name not in held:
        raise No(404)
    return held[name]


async def _deliver(hook: Document, body: bytes) -> None:
    headers = {"content-type": "application/json", hook["api_key_name"]: hook["api_key_value"]}
    async with httpx.AsyncClient() as client:
        with suppress(httpx.HTTPError):
            await client.post(hook["url"], content=body, headers=headers)
