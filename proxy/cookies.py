"""Where the later wire of streams has its credentials: in a cookie, or in the URL of a WebSocket."""

from __future__ import annotations

from collections.abc import Iterable, MutableMapping
from typing import Any
from urllib.parse import parse_qsl

import orjson
from starlette.requests import cookie_parser

from proxy.asgi import App, Receive, Scope, Send
from proxy.errors import BadRequest, Forbidden
from proxy.live import origin_of

LATER = b"/ptg/"
TOKEN_PATH = "/ptg/token"
COOKIE = "authorization"


class CookieToken:
    """The token endpoint as the later wire has it: it sets a cookie too, which is for HTTPS alone where the
    address is. Pages of other origins get none, lest they log their visitors in as somebody else."""

    def __init__(self, endpoint: App, path: str, public_url: str) -> None:
        self._endpoint = endpoint
        self._path = path
        self._secure = public_url.startswith("https:")
        self._origins = frozenset((origin_of(public_url),))

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Answer one HTTP request."""
        begun: list[MutableMapping[str, Any]] = []
        body = bytearray()

        async def held(message: MutableMapping[str, Any]) -> None:
            if message["type"] == "http.response.start":
                begun.append(message)
                return
            body.extend(message.get("body", b""))
            if message.get("more_body"):
                return
            headers = list(begun[0]["headers"])
            if begun[0]["status"] == 200 and _is_ours(scope["headers"], self._origins):
                headers.append((b"set-cookie", cookie_of(bytes(body), secure=self._secure)))
            await send({**begun[0], "headers": headers})
            await send({"type": "http.response.body", "body": bytes(body)})

        at = {**scope, "raw_path": self._path.encode(), "path": self._path}
        await self._endpoint(at, receive, held)


def presented(scope: Scope, origins: frozenset[str]) -> Scope:
    """A request with its credential where all others have theirs: the later wire has it in a cookie, or in
    the URL of a WebSocket. Raises `BadRequest`, and `Forbidden` for web pages of other origins."""
    socket, later = scope["type"] == "websocket", scope["raw_path"].startswith(LATER)
    if (socket or later) and not _is_ours(scope["headers"], origins):
        raise Forbidden("Web pages of this origin may not connect.")
    if not later:
        return scope
    token = _url_token(scope["query_string"]) if socket else None
    names = {name for name, _ in scope["headers"]}
    if token is not None and b"authorization" in names:
        raise BadRequest("The request authenticates in more than one way")
    if token is None and not socket and b"authorization" not in names:
        token = _cookie(scope["headers"])
    if token is None:
        return scope
    header = (b"authorization", token if token[:7].lower() == b"bearer " else b"Bearer " + token)
    query = b"&".join(piece for piece in scope["query_string"].split(b"&") if not piece.startswith(b"token="))
    return {**scope, "headers": [*scope["headers"], header], "query_string": query}


def cookie_of(body: bytes, *, secure: bool) -> bytes:
    """The cookie that goes with a token that was granted."""
    granted = orjson.loads(body)
    cookie = (
        f'{COOKIE}="Bearer {granted["access_token"]}"; Path=/ptg; Max-Age={int(granted["expires_in"])}; '
        "HttpOnly; SameSite=Strict"
    )
    return (f"{cookie}; Secure" if secure else cookie).encode("latin-1")


def _url_token(query: bytes) -> bytes | None:
    if b"token=" not in query:
        return None
    pairs = parse_qsl(query.decode("latin-1"), keep_blank_values=True)
    found = [value for name, value in pairs if name == "token"]
    if len(found) > 1:
        raise BadRequest("`token` is given more than once.")
    return found[0].encode("latin-1", "replace") if found else None


def _cookie(headers: Iterable[tuple[bytes, bytes]]) -> bytes | None:
    for name, value in headers:
        if name == b"cookie":
            found = cookie_parser(value.decode("latin-1")).get(COOKIE)
            if found:
                return found.encode("latin-1", "replace")
    return None


def _is_ours(headers: Iterable[tuple[bytes, bytes]], origins: frozenset[str]) -> bool:
    """Whether no web page asks, or one that may."""
    found = [value.decode("latin-1") for name, value in headers if name == b"origin"]
    return not found or "*" in origins or (len(found) == 1 and found[0] in origins)
