"""Live events through the proxy: who may listen. What each listener hears is decided event by event.

A row of its own, like those of `rules.RULES`: reading is all that it takes.
"""

from __future__ import annotations

import time
from collections.abc import Awaitable, Callable, Iterable
from dataclasses import dataclass
from typing import Protocol
from urllib.parse import urlsplit

from proxy.asgi import (
    EVENTS_PATH,
    Headers,
    Receive,
    Refusals,
    Scope,
    Send,
    request_id,
    send_answer,
    who,
)
from proxy.audit import Decision, Journal
from proxy.decide import passes_scope
from proxy.errors import Error, Forbidden, InsufficientScope, NotFound
from proxy.events import SCOPES
from proxy.gate import NO_PATH
from proxy.identity.authenticate import Authenticator
from proxy.identity.principal import READ, Principal
from proxy.owner import owner_of
from proxy.rules import Rule, Target

RULE = Rule("GET_events", SCOPES, Target.LIST)


@dataclass(frozen=True, slots=True)
class Listening:
    """A caller that may listen. `owner` as it is kept of webhooks; `is_known`: whether its credential still
    counts, and for the same rights."""

    name: str
    owner: bytes
    is_known: Callable[[], Awaitable[bool]]


class Streams(Protocol):
    """The store's side: streams for a caller that may listen, failures of its own answered."""

    async def __call__(self, caller: Listening, scope: Scope, receive: Receive, send: Send, /) -> None: ...


class LiveEvents:
    """The ASGI application at `/events`, for HTTP and for WebSockets wherever they are asked for.

    `origins`: of web pages that may open a WebSocket; browsers ask nobody else. `ready` sees to it that
    events come in at all, or raises `errors.Error`.
    """

    def __init__(
        self,
        streams: Streams,
        authenticator: Authenticator,
        refusals: Refusals,
        journal: Journal,
        origins: Iterable[str],
        seen: Callable[[Principal], None],
        ready: Callable[[], Awaitable[None]] | None = None,
    ) -> None:
        self._ready = ready
        self._streams = streams
        self._authenticator = authenticator
        self._refusals = refusals
        self._journal = journal
        self._origins = frozenset(origins)
        self._seen = seen

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Answer one request, or one WebSocket."""
        decision = _decision(scope)
        try:
            listening = await self._admitted(scope, decision)
        except Error as exc:
            decision.reason = exc.told
            status, headers, body = self._refusals(exc)
            decision.status = status
            self._journal.add(decision)
            await _refuse(scope, receive, send, (status, headers, body), decision.request_id)
            return
        decision.status = 101 if scope["type"] == "websocket" else 200
        self._journal.add(decision)
        await self._streams(listening, scope, receive, send)

    async def _admitted(self, scope: Scope, decision: Decision) -> Listening:
        """The caller, once it may listen. Raises `errors.Error` for every refusal."""
        principal = await who(self._authenticator, scope, decision)
        self._seen(principal)
        if scope["raw_path"] != EVENTS_PATH:
            raise NotFound(NO_PATH)
        decision.rule = RULE
        if scope["type"] == "websocket" and not self._is_ours(scope):
            raise Forbidden("Web pages of this origin may not connect.")
        if not passes_scope(principal.scopes, RULE.scopes):
            raise InsufficientScope("The token's scopes do not reach this.", scope=READ)
        if self._ready is not None:
            await self._ready()

        async def is_known() -> bool:
            try:
                again = await who(self._authenticator, scope, _decision(scope))
            except Error:
                return False
            return same_rights(again, principal) and time.time() < principal.expires_s

        return Listening(principal.name, owner_of(principal, int(decision.time_s)), is_known)

    def _is_ours(self, scope: Scope) -> bool:
        """Whether no web page asks, or one that may."""
        found = [value.decode("latin-1") for name, value in scope["headers"] if name == b"origin"]
        return not found or "*" in self._origins or (len(found) == 1 and found[0] in self._origins)


def origin_of(url: str) -> str:
    """The origin of a URL, as browsers spell it."""
    parts = urlsplit(url)
    return f"{parts.scheme}://{parts.netloc}"


def same_rights(one: Principal, other: Principal) -> bool:
    """Whether two credentials are worth the same, however long they last."""
    return _rights(one) == _rights(other)


def _rights(principal: Principal) -> tuple[object, ...]:
    return (principal.user, principal.client, principal.groups, principal.scopes, principal.scope_admin)


def _decision(scope: Scope) -> Decision:
    shown = scope["raw_path"].decode("ascii", "replace")
    return Decision(request_id(scope), scope.get("method", "GET"), shown, time.time())


async def _refuse(
    scope: Scope, receive: Receive, send: Send, answer: tuple[int, Headers, bytes], identifier: str
) -> None:
    """Refuse a request, or a WebSocket before it is accepted: by an answer of HTTP where the server can."""
    status, headers, body = answer
    if scope["type"] != "websocket":
        await send_answer(send, scope["method"], status, headers, body, identifier)
        return
    await receive()
    if "websocket.http.response" not in scope.get("extensions", {}):
        await send({"type": "websocket.close", "code": 1008})
        return
    raw = [(name.encode("latin-1"), value.encode("latin-1")) for name, value in headers]
    raw.append((b"x-request-id", identifier.encode()))
    await send({"type": "websocket.http.response.start", "status": status, "headers": raw})
    await send({"type": "websocket.http.response.body", "body": body})
