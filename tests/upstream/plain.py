"""A deliberately plain upstream: TAMS as 7.0 has it, and no more than a server may get away with.

Pages of its own size with absolute Links that name another host, answers in gzip, cookies, tag filters that
compare one plain value, no paging headers, no object instances. It can be told to be slow, to break off, to
refuse, to redirect. `calls` is what it was asked, headers and all.
"""

from __future__ import annotations

import asyncio
import gzip
import threading
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

import orjson
from starlette.applications import Starlette
from starlette.requests import ClientDisconnect, Request
from starlette.responses import Response, StreamingResponse
from starlette.routing import Route

PAGE = 7
BACKENDS = [
    {"id": "11111111-1111-4111-8111-111111111111", "label": "open", "default_storage": True},
    {
        "id": "22222222-2222-4222-8222-222222222222",
        "label": "hidden",
        "tags": {"auth_classes": ["v"]},
    },
]


@dataclass(frozen=True)
class Call:
    """One request as it came."""

    method: str
    target: str
    headers: dict[str, str]
    body: bytes


@dataclass
class Plain:
    """What the upstream holds, and how it behaves. `trouble` answers in its stead, where it answers."""

    url: str = ""
    version: str = "7.0"
    flows: dict[str, dict[str, Any]] = field(default_factory=dict)
    segments: dict[str, list[dict[str, Any]]] = field(default_factory=dict)
    objects: dict[str, dict[str, Any]] = field(default_factory=dict)
    media: dict[str, bytes] = field(default_factory=dict)
    calls: list[Call] = field(default_factory=list)
    trouble: Callable[[Call], Response | None] = lambda call: None
    left: threading.Event = field(default_factory=threading.Event)

    def application(self, url: str) -> Starlette:
        """The server."""
        self.url = url
        routes = [
            Route("/service", self._service),
            Route("/service/storage-backends", self._backends),
            Route("/flows", self._list),
            Route("/flows/{id}", self._flow, methods=["GET", "PUT", "DELETE"]),
            Route("/flows/{id}/label", self._label, methods=["PUT"]),
            Route("/flows/{id}/segments", self._segments, methods=["GET", "POST"]),
            Route("/flows/{id}/storage", self._storage, methods=["POST"]),
            Route("/objects/{id}", self._object),
            Route("/media/{key}", self._media, methods=["GET", "PUT"]),
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
            found: Response = answer if answer is not None else await endpoint(request)
            return found

        return noted

    def _json(self, document: Any, status: int = 200, **headers: str) -> Response:
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
        return self._json({"type": "urn:x-tams:service:plain", "api_version": self.version})

    async def _backends(self, request: Request) -> Response:
        return self._json(BACKENDS)

    async def _list(self, request: Request) -> Response:
        query = dict(request.query_params)
        start = int(query.get("offset", "0"))
        wanted = {name[4:]: value for name, value in query.items() if name.startswith("tag.")}
        found = [
            flow
            for flow in self.flows.values()
            if all(flow.get("tags", {}).get(name) == value for name, value in wanted.items())
        ]
        headers = {}
        if start + PAGE < len(found):
            query["offset"] = str(start + PAGE)
            link = "&".join(f"{name}={value}" for name, value in query.items())
            headers["Link"] = (
                f'<http://internal.example:8080/tams/flows?{link}>; foo="a,b"; rel="next", </x>; rel=up'
            )
        return self._json(found[start : start + PAGE], **headers)

    async def _flow(self, request: Request) -> Response:
        name = request.path_params["id"]
        if request.method == "PUT":
            created = name not in self.flows
            self.flows[name] = orjson.loads(await request.body())
            return self._json(self.flows[name], 201) if created else Response(status_code=204)
        if name not in self.flows:
            return self._error(404)
        if request.method == "DELETE":
            del self.flows[name]
            return self._json(
                {"id": name, "flow_id": name},
                202,
                Location=f"{self.url}/flow-delete-requests/{name}",
            )
        return self._json(self.flows[name])

    async def _label(self, request: Request) -> Response:
        self.flows[request.path_params["id"]]["label"] = orjson.loads(await request.body())
        return Response(status_code=204)

    async def _segments(self, request: Request) -> Response:
        name = request.path_params["id"]
        if request.method == "POST":
            self.segments.setdefault(name, []).append(orjson.loads(await request.body()))
            return Response(status_code=201)
        return self._json(self.segments.get(name, []))

    async def _storage(self, request: Request) -> Response:
        key = f"new-{len(self.calls)}"
        url = {"url": f"{self.url}/media/{key}?sig=1", "content-type": "video/mp2t"}
        return self._json({"media_objects": [{"object_id": key, "put_url": url}]}, 201)

    async def _object(self, request: Request) -> Response:
        name = request.path_params["id"]
        return self._json(self.objects[name]) if name in self.objects else self._error(404)

    async def _media(self, request: Request) -> Response:
        key = request.path_params["key"]
        if request.method == "PUT":
            pieces = []
            try:
                async for piece in request.stream():
                    pieces.append(piece)
            except ClientDisconnect:
                self.left.set()
                raise
            self.media[key] = b"".join(pieces)
            return Response(status_code=200, headers={"ETag": '"1"', "Set-Cookie": "a=b"})
        if key == "endless":
            return StreamingResponse(self._endless(), media_type="text/html")
        if key not in self.media:
            return self._error(404)
        given = {"ETag": '"1"', "Set-Cookie": "a=b", "X-Internal": "secret", "Content-Type": "text/html"}
        return Response(self.media[key], headers=given)

    async def _endless(self) -> Any:
        try:
            while True:
                yield b"x" * 65536
                await asyncio.sleep(0)
        finally:
            self.left.set()
