"""Cross-origin calls from browsers: preflights are answered here, from an allow-list (WHATWG Fetch 3.2)."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Iterable, MutableMapping
from typing import Any

Scope = MutableMapping[str, Any]
Message = MutableMapping[str, Any]
Receive = Callable[[], Awaitable[Message]]
Send = Callable[[Message], Awaitable[None]]
App = Callable[[Scope, Receive, Send], Awaitable[None]]
RawHeaders = list[tuple[bytes, bytes]]

ANY = "*"
MAX_AGE_S = 600
_METHODS = b"GET, HEAD, PUT, POST, DELETE"
_TAKEN = "Authorization, Content-Type, Range, If-Match, If-None-Match, If-Range, X-Request-Id"
_SHOWN = (
    b"Link, Location, ETag, Content-Range, Accept-Ranges, WWW-Authenticate, Retry-After, X-Request-Id, "
    b"X-Paging-Limit, X-Paging-Count, X-Paging-NextKey, X-Paging-Reverse-Order, X-Paging-Timerange"
)
_VARY = (b"vary", b"Origin")


class Cors:
    """Lets web pages of the listed origins call `app`; `*` lists all. No cookies: credentials are not
    allowed to travel by themselves. `headers`: names that requests may carry beside the usual ones."""

    def __init__(self, app: App, origins: Iterable[str], headers: Iterable[str] = ()) -> None:
        self._app = app
        self._origins = frozenset(origin.encode() for origin in origins)
        self._any = ANY.encode() in self._origins
        self._taken = ", ".join((_TAKEN, *headers)).encode()

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Answer a preflight, or let the request pass and mark its answer."""
        if scope["type"] != "http" or not (self._origins or scope["method"] == "OPTIONS"):
            await self._app(scope, receive, send)
            return
        origin, preflight = _asked(scope)
        if origin is None:
            await self._app(scope, receive, send)
            return
        allowed = self._any or origin in self._origins
        if preflight:
            headers = self._preflight(origin) if allowed else [_VARY]
            await send({"type": "http.response.start", "status": 204, "headers": headers})
            await send({"type": "http.response.body", "body": b""})
            return
        marks = [(b"access-control-allow-origin", origin), (b"access-control-expose-headers", _SHOWN), _VARY]
        await self._app(scope, receive, _marked(send, marks if allowed else [_VARY]))

    def _preflight(self, origin: bytes) -> RawHeaders:
        return [
            (b"access-control-allow-origin", origin),
            (b"access-control-allow-methods", _METHODS),
            (b"access-control-allow-headers", self._taken),
            (b"access-control-max-age", b"%d" % MAX_AGE_S),
            _VARY,
        ]


def _asked(scope: Scope) -> tuple[bytes | None, bool]:
    """The origin, and whether this is a preflight; an origin that is given twice is none."""
    origins = [value for name, value in scope["headers"] if name == b"origin"]
    asks = any(name == b"access-control-request-method" for name, _ in scope["headers"])
    return (origins[0] if len(origins) == 1 else None), asks and scope["method"] == "OPTIONS"


def _marked(send: Send, marks: RawHeaders) -> Send:
    async def marking(message: Message) -> None:
        if message["type"] == "http.response.start":
            message = {**message, "headers": [*message["headers"], *marks]}
        await send(message)

    return marking
