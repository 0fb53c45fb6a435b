"""The store's own reading of requests, media and keys, as the proxy knows them; with the proxy's errors.

A part of the composition root: these and `app` alone know the store.
"""

from __future__ import annotations

import store.errors
from proxy.asgi import Receive, Scope, Send
from proxy.errors import BadRequest, NotFound, TooLarge, TooSlow, UnsupportedEncoding
from proxy.keyvalue import KeyAsked, RawHeaders
from proxy.objects import NO_MEDIA
from proxy.rules import RULES, Methods, Rule
from store.asgi import Disconnected, read_body
from store.http import utc_now
from store.media.serve import LocalMedia
from store.media.signing import key_of
from store.media.stream import fields_of
from store.models.parsing import load
from store.routes import keys as key_routes
from store.routing import Router, decode_query


class Plumbing:
    """The store's strict reading of requests, with the proxy's errors."""

    def __init__(self, max_body_bytes: int) -> None:
        self._router: Router[Rule] = Router(RULES)
        self._max_body_bytes = max_body_bytes

    def match(self, raw_path: bytes) -> tuple[Methods, dict[str, str]] | None:
        """The rows of a path. Raises `BadRequest`."""
        try:
            return self._router.match(raw_path)
        except store.errors.BadRequest as exc:
            raise BadRequest(exc.summary) from exc

    def query(self, raw_query: bytes) -> list[tuple[str, str]]:
        """The query's pairs. Raises `BadRequest`."""
        try:
            return decode_query(raw_query)
        except store.errors.BadRequest as exc:
            raise BadRequest(exc.summary) from exc

    async def body(self, scope: Scope, receive: Receive) -> bytes:
        """The whole body. Raises `UnsupportedEncoding`, `TooLarge`, `TooSlow`, and `ConnectionError` when the
        client is gone."""
        try:
            return await read_body(scope, receive, self._max_body_bytes)
        except store.errors.UnsupportedEncoding as exc:
            raise UnsupportedEncoding(exc.summary) from exc
        except store.errors.TooLarge as exc:
            raise TooLarge(exc.summary) from exc
        except store.errors.TooSlow as exc:
            raise TooSlow(exc.summary) from exc
        except Disconnected as exc:
            raise ConnectionError from exc

    def load(self, body: bytes) -> object:
        """A body's JSON, strictly. Raises `BadRequest`."""
        try:
            return load(body)
        except store.errors.BadRequest as exc:
            raise BadRequest(exc.summary) from exc

    def stamp(self) -> str:
        """The time of an error."""
        return utc_now()


class LocalFiles:
    """The store's local media, for callers that the gate has admitted."""

    def __init__(self, media: LocalMedia) -> None:
        self.respond = media.respond

    def key(self, token: str) -> str:
        """As `asgi.Files.key`."""
        try:
            return key_of(token)
        except store.errors.NotFound as exc:
            raise NotFound(NO_MEDIA) from exc


class LocalKeys:
    """The embedded store's key-value API, with the proxy's errors."""

    def __init__(self, routes: key_routes.KeyRoutes) -> None:
        self._routes = routes

    def find(self, raw_path: bytes) -> tuple[str, str] | None:
        """The template of a path, and the key in it. Raises `BadRequest`."""
        try:
            return key_routes.find(raw_path)
        except store.errors.BadRequest as exc:
            raise BadRequest(exc.summary) from exc

    async def answer(self, asked: KeyAsked, scope: Scope, receive: Receive, send: Send) -> None:
        """Answer a call that was allowed. Raises `ConnectionError` when the client is gone."""
        call = key_routes.KeyCall(
            asked.operation,
            asked.name,
            scope["method"],
            fields_of(scope["headers"]),
            scope["query_string"],
            asked.marks,
            asked.actor,
        )
        try:
            await self._routes.answer(call, receive, send)
        except Disconnected as exc:
            raise ConnectionError from exc

    async def refuse(self, send: Send, status: int, message: str, headers: RawHeaders, head: bool) -> None:
        """Send an error."""
        await key_routes.refuse(send, status, message, headers, head=head)
