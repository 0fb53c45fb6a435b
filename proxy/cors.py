"""Cross-origin calls from browsers: preflights are answered here, from an allow-list (WHATWG Fetch 3.2), and
what needs none does not write with credentials that browsers add by themselves."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Iterable, MutableMapping
from typing import Any

from proxy.asgi import Refusals, request_id, send_answer
from proxy.errors import Forbidden

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
_OURS = (b"same-origin", b"none")


class Cors:
    """Lets web pages of the listed origins call `app`; `*` lists all. No cookies: credentials are not
    allowed to travel by themselves. `headers`: names that requests may carry beside the usual ones; `own`:
    the origin of our own pages."""

    def __init__(
        self, app: App, origins: Iterable[str], own: str, refusals: Refusals, headers: Iterable[str] = ()
    ) -> None:
        headers = tuple(headers)
        self._app = app
        self._own = own.encode()
        self._refusals = refusals
        self._keys = frozenset(name.lower().encode() for name in headers)
        self._origins = frozenset(origin.encode() for origin in origins)
        self._any = ANY.encode() in self._origins
        self._taken = ", ".join((_TAKEN, *headers)).encode()

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Answer a preflight, or let the request pass and mark its answer."""
        if scope["type"] == "http" and scope["method"] == "POST" and self._is_forged(scope["headers"]):
            status, answer, body = self._refusals(Forbidden("Web pages of this origin may not write."))
            await send_answer(send, "POST", status, answer, body, request_id(scope))
            return
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

    def _is_forged(self, headers: RawHeaders) -> bool:
        """Whether a page of another origin may have had this sent without a preflight: a form, with the name
        and secret or the certificate that the browser keeps. A token or a key is there by leave of one."""
        said = {name: value for name, value in headers}
        origin, site = said.get(b"origin"), said.get(b"sec-fetch-site")
        if origin is None and site is None:
            return False
        if said.get(b"authorization", b"")[:7].lower() == b"bearer " or not self._keys.isdisjoint(said):
            return False
        if self._any or origin in self._origins or origin == self._own:
            return False
        if site is not None:
            return site not in _OURS
        return origin is not None and origin.partition(b"://")[2] != said.get(b"host")

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
