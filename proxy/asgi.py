"""The proxy as an ASGI application: what is answered without the gate, and the way to it."""

from __future__ import annotations

import logging
import random
import time
from collections.abc import Awaitable, Callable, Iterable, Mapping, MutableMapping
from dataclasses import dataclass
from typing import Any, Protocol

import orjson

from proxy.audit import Decision, Journal
from proxy.errors import (
    STATUS,
    BadRequest,
    Error,
    MethodNotAllowed,
    NotFound,
    TooManyRequests,
    Unauthenticated,
)
from proxy.gate import NO_PATH, Call, Gate, find_rule
from proxy.identity.authenticate import Authenticator
from proxy.identity.challenge import www_authenticate
from proxy.identity.credentials import URL_PARAMETER
from proxy.identity.principal import Principal
from proxy.playlists import with_token
from proxy.rules import Body, Methods, Rule, Target

Scope = MutableMapping[str, Any]
Receive = Callable[[], Awaitable[MutableMapping[str, Any]]]
Send = Callable[[MutableMapping[str, Any]], Awaitable[None]]
App = Callable[[Scope, Receive, Send], Awaitable[None]]
Headers = list[tuple[str, str]]
EVENTS_PATH = b"/events"
TOKEN_PATH = b"/token"
SIGNED = Rule("media-signed", frozenset(), Target.MEDIA)
TOKEN = Rule("POST_token", frozenset(), Target.NOTHING)
"""Rows of what nobody decides on: a signature authorises the one, and the other is for anyone."""
TRACE_PARENT = "tams.trace_parent"
"""In the scope, where traces are made: what the caller says that the request is part of."""
STREAM_PREFIXES = (b"/streams", b"/data/", b"/ping", b"/ptg/")
_log = logging.getLogger(__name__)
_REQUEST_ID = frozenset(b"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789-_.")


class Plumbing(Protocol):
    """What the server side of the house lends: the raw request taken apart, strictly.

    `match` and `query` raise `errors.BadRequest`; `body` raises that or `errors.TooLarge`, and
    `ConnectionError` when the client is gone.
    """

    def match(self, raw_path: bytes) -> tuple[Methods, dict[str, str]] | None: ...

    def query(self, raw_query: bytes) -> list[tuple[str, str]]: ...

    async def body(self, scope: Scope, receive: Receive) -> bytes: ...

    def stamp(self) -> str: ...


class Files(Protocol):
    """Media on local files, served to callers that are authorised already."""

    def key(self, token: str) -> str:
        """What a path's last segment stands for. Raises `errors.NotFound`."""

    async def respond(
        self,
        method: str,
        backend_id: str,
        key: str,
        headers: Iterable[tuple[bytes, bytes]],
        receive: Receive,
        send: Send,
        *,
        content_type: str | None = None,
    ) -> None:
        """Send the bytes, or take them in; streaming. Answers its own failures."""


class OlderSurface(Protocol):
    """Requests of older clients, answered by those of an application that it makes of them."""

    def takes(self, scope: Scope) -> bool: ...

    async def __call__(self, app: App, scope: Scope, receive: Receive, send: Send) -> None: ...


@dataclass(frozen=True, slots=True)
class Doors:
    """Paths that do not pass the gate. `open`: by exact path, for anyone. `media`: signed media, whose
    signature authorises. `files`: media behind unsigned URLs, which the gate admits to. `keys`: the
    key-value API, which has a table and a gate of its own, as has `streams`. `live`: live events, and all
    other WebSockets. `older`: requests that come in again as others."""

    open: Mapping[bytes, App]
    media: App | None = None
    files: Files | None = None
    keys: App | None = None
    live: App | None = None
    streams: App | None = None
    older: OlderSurface | None = None


class Limiter(Protocol):
    """How often a caller may ask: None when it may now, else in how many seconds."""

    def wait_s(self, who: str, now_s: float) -> int | None: ...


class ProxyApp:
    """One HTTP request in, one answer out. `seen` is told who calls. `limiter` None: they call as often as
    they like."""

    def __init__(
        self,
        gate: Gate,
        authenticator: Authenticator,
        plumbing: Plumbing,
        doors: Doors,
        metadata_url: str | None,
        journal: Journal,
        seen: Callable[[Principal], None] | None = None,
        limiter: Limiter | None = None,
    ) -> None:
        self._gate = gate
        self._seen = seen
        self._limiter = limiter
        self._journal = journal
        self._authenticator = authenticator
        self._plumbing = plumbing
        self._doors = doors
        self._refusal = Refusals(authenticator, metadata_url, plumbing.stamp)

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Answer one HTTP request, or one WebSocket."""
        older = self._doors.older
        if older is not None and older.takes(scope):
            await older(self, scope, receive, send)
            return
        path: bytes = scope["raw_path"]
        if self._doors.streams and path.startswith(STREAM_PREFIXES) and path not in self._doors.open:
            await self._doors.streams(scope, receive, send)
            return
        if path == EVENTS_PATH or scope["type"] == "websocket":
            await (self._doors.live or self._without_events)(scope, receive, send)
            return
        await self._http(path, scope, receive, send)

    async def _without_events(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] == "websocket":
            await send({"type": "websocket.close", "code": 1008})
        else:
            await self._http(scope["raw_path"], scope, receive, send)

    async def _http(self, path: bytes, scope: Scope, receive: Receive, send: Send) -> None:
        app = self._doors.open.get(path)
        if app is None and path.startswith(b"/media/") and scope["query_string"].find(b"signature=") >= 0:
            app = self._doors.media
            send = self._noted(SIGNED, scope, send)
        elif path == TOKEN_PATH:
            send = self._noted(TOKEN, scope, send)
        if app is None and path.startswith(b"/store/"):
            app = self._doors.keys
        if app is not None:
            await app(scope, receive, send)
            return
        shown = path.decode("ascii", "replace")
        decision = Decision(request_id(scope), scope["method"], shown, time.time())
        decision.peer = caller_address(self._authenticator, scope)
        try:
            call, principal = await self._understood(scope, receive, decision)
            if call.rule.target is Target.MEDIA:
                await self._media(call, principal, scope, receive, send)
                return
            response = await self._gate.pass_through(call, principal)
            status, headers, body = response.status, response.headers, response.body
            if call.rule.body is Body.PLAYLIST and self._authenticator.config.allow_url_token:
                body = with_token(body, scope["query_string"])
        except Error as exc:
            decision.reason = exc.told
            status, headers, body = self._refusal(exc)
        except ConnectionError:
            return
        decision.status = status
        self._journal.add(decision)
        await send_answer(send, scope["method"], status, headers, body, decision.request_id)

    def _noted(self, rule: Rule, scope: Scope, send: Send) -> Send:
        """`send` for what is answered without a decision, and is written down all the same."""
        decision = Decision(
            request_id(scope),
            scope["method"],
            scope["raw_path"].decode("ascii", "replace"),
            time.time(),
            rule,
        )
        decision.peer = caller_address(self._authenticator, scope)
        return noting(self._journal, decision, send)

    async def _understood(self, scope: Scope, receive: Receive, decision: Decision) -> tuple[Call, Principal]:
        """What is asked, and by whom."""
        found = self._plumbing.match(scope["raw_path"])
        query = self._plumbing.query(scope["query_string"])
        principal = await who(self._authenticator, scope, decision)
        check_rate(self._limiter, principal, decision)
        if self._seen is not None:
            self._seen(principal)
        rule, params = find_rule(found, scope["method"])
        decision.rule = rule
        if self._authenticator.config.allow_url_token:
            query = [pair for pair in query if pair[0] != URL_PARAMETER.decode()]
        call = Call(
            scope["method"],
            decision.path,
            rule,
            params,
            query,
            lambda: self._plumbing.body(scope, receive),
            decision,
        )
        return call, principal

    async def _media(
        self, call: Call, principal: Principal, scope: Scope, receive: Receive, send: Send
    ) -> None:
        """Serve an unsigned media URL. Raises `errors.Error` for every refusal of the gate."""
        files, decision = self._doors.files, call.decision
        if files is None:
            raise NotFound(NO_PATH)
        key = files.key(call.params["token"])
        found = await self._gate.admit_media(call, principal, key)

        await files.respond(
            call.method,
            call.params["backend"],
            key,
            scope["headers"],
            receive,
            noting(self._journal, decision, send),
            content_type=found.content_type,
        )


class Refusals:
    """What each error is answered with."""

    def __init__(
        self, authenticator: Authenticator, metadata_url: str | None, stamp: Callable[[], str]
    ) -> None:
        self._authenticator = authenticator
        self._metadata_url = metadata_url
        self._stamp = stamp

    def __call__(self, error: Error) -> tuple[int, Headers, bytes]:
        """Status, headers and body."""
        headers: Headers = [("content-type", "application/json")]
        basic = self._authenticator.config.allow_basic
        headers += [
            ("www-authenticate", challenge)
            for challenge in www_authenticate(error, metadata_url=self._metadata_url, basic=basic)
        ]
        if isinstance(error, MethodNotAllowed):
            headers.append(("allow", ", ".join(error.allow)))
        if error_retry_s(error) is not None:
            headers.append(("retry-after", str(error_retry_s(error))))
        return STATUS[type(error)], headers, error_body(error, self._stamp())


async def who(authenticator: Authenticator, scope: Scope, decision: Decision) -> Principal:
    """The caller. Raises as `Authenticator.credential` and `authenticate` do."""
    connection = scope["client"][0] if scope.get("client") else ""
    peer = decision.peer = decision.peer or caller_address(authenticator, scope)
    decision.trace_parent = scope.get(TRACE_PARENT)
    tls = (scope.get("extensions") or {}).get("tls")
    now_s = int(decision.time_s)
    credential = authenticator.credential(scope["headers"], scope["query_string"], connection, tls)
    principal = authenticator.cached(credential, now_s) if credential is not None else None
    if credential is not None:
        decision.is_known = principal is not None
    if principal is None:
        principal = await authenticator.authenticate(credential, peer, now_s)
    decision.principal, decision.client = principal.name, principal.client
    return principal


def caller_address(authenticator: Authenticator, scope: Scope) -> str:
    """Where a request comes from: its connection's address, or whom a trusted front speaks for."""
    connection = scope["client"][0] if scope.get("client") else ""
    return authenticator.client_address(scope["headers"], connection)


def check_rate(limiter: Limiter | None, principal: Principal, decision: Decision) -> None:
    """Count a request of a caller. Raises `TooManyRequests`."""
    wait_s = None if limiter is None else limiter.wait_s(principal.name, decision.time_s)
    if wait_s is not None:
        raise TooManyRequests("There are too many requests of this caller.", retry_after_s=wait_s)


def noting(journal: Journal, decision: Decision, send: Send) -> Send:
    """`send` for an answer that streams: its status goes into the decision, which goes into the journal."""
    identifier = (b"x-request-id", decision.request_id.encode())

    async def noted(message: MutableMapping[str, Any]) -> None:
        if message["type"] == "http.response.start":
            decision.status = message["status"]
            journal.add(decision)
            message = {**message, "headers": [*message["headers"], identifier]}
        await send(message)

    return noted


def error_retry_s(error: Error) -> int | None:
    """When to come again, in seconds; None where that would not help."""
    if isinstance(error, BadRequest | Unauthenticated):
        return None
    if isinstance(error, TooManyRequests) and error.retry_after_s is None:
        return 1
    return error.retry_after_s if error.retry_after_s is not None or STATUS[type(error)] != 503 else 1


def error_body(error: Error, time_: str) -> bytes:
    """An error in the schema of TAMS 8.2 error.json."""
    document = {
        "type": type(error).__name__,
        "summary": error.summary,
        "message": error.summary,
        "time": time_,
    }
    return orjson.dumps(document)


def request_id(scope: Scope) -> str:
    """The client's request id where it is a decent one, else a new one."""
    for name, value in scope["headers"]:
        if name == b"x-request-id" and 0 < len(value) <= 64 and _REQUEST_ID.issuperset(value):
            return str(value.decode("ascii"))
    # No secret: guessing one gains nothing.
    return f"{random.getrandbits(64):016x}"


async def send_answer(
    send: Send, method: str, status: int, headers: Headers, body: bytes, identifier: str
) -> None:
    """Send a whole answer; for HEAD without its body."""
    raw = [(name.encode("latin-1"), value.encode("latin-1")) for name, value in headers]
    raw.append((b"x-request-id", identifier.encode()))
    if status not in (204, 304):
        raw.append((b"content-length", b"%d" % len(body)))
    await send({"type": "http.response.start", "status": status, "headers": raw})
    await send({"type": "http.response.body", "body": b"" if method == "HEAD" else body})
