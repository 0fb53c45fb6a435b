"""Live streams through the proxy: a table of their own, and what a caller that was let in may do.

A stream is a flow, and a visitor changes it by the same calls through the same gate as anybody; pushing and
pulling are decided on the flow's classes, at the handshake and again while the socket lives.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterable, Mapping, MutableMapping, Sequence
from dataclasses import dataclass
from typing import Any, Protocol

import orjson

from proxy.asgi import (
    Limiter,
    Receive,
    Scope,
    Send,
    caller_address,
    check_rate,
    error_retry_s,
    request_id,
    who,
)
from proxy.audit import Decision, Journal
from proxy.cookies import presented
from proxy.decide import Verdict, judge, passes_scope
from proxy.errors import (
    STATUS,
    Error,
    InsufficientScope,
    MethodNotAllowed,
    Unauthenticated,
)
from proxy.gate import Call, Gate, Sights
from proxy.identity.authenticate import Authenticator
from proxy.identity.challenge import www_authenticate
from proxy.identity.principal import ADMIN, DELETE, READ, WRITE, Principal
from proxy.live import same_rights
from proxy.rules import RULES, Action, Rule, Target
from proxy.upstream.protocol import Upstream

_R, _W, _D = (frozenset((scope, ADMIN)) for scope in (READ, WRITE, DELETE))
SOCKET = "WEBSOCKET"
Pairs = Sequence[tuple[str, str]]


def _flow(operation: str, scopes: frozenset[str], action: Action) -> Rule:
    return Rule(operation, scopes, Target.FLOW, action, "sid")


STREAM_RULES: dict[str, Rule] = {
    rule.operation: rule
    for rule in (
        Rule("GET_ping", frozenset(), Target.NOTHING),
        Rule("GET_streams", _R, Target.LIST),
        Rule("PUT_streams", _W, Target.NOTHING, Action.WRITE),
        _flow("GET_streams-id", _R, Action.READ),
        _flow("PUT_streams-id", _W, Action.WRITE),
        _flow("DELETE_streams-id", _D, Action.DELETE),
        _flow("GET_data-id", _R, Action.READ),
        _flow("POST_data-id", _W, Action.WRITE),
        _flow("push", _W, Action.WRITE),
        _flow("pull", _R, Action.READ),
        Rule("GET_recordings", _R, Target.LIST),
        Rule("GET_recordings-current", _R, Target.LIST),
        Rule("GET_recordings-id", _R, Target.FLOW, Action.READ, "rid"),
        Rule("PUT_recordings-start", _W, Target.NOTHING, Action.WRITE),
        Rule("PUT_recordings-stop", _W, Target.NOTHING, Action.WRITE),
        Rule("PUT_recordings-id-rename", _W, Target.FLOW, Action.WRITE, "rid"),
        Rule("DELETE_recordings-id", _D, Target.FLOW, Action.DELETE, "rid"),
        _flow("replay", _R, Action.READ),
    )
}
"""THE TABLE of streams, by operation: each is at one path of either wire. Making a stream is a PUT of a flow,
and is decided as one."""
_API: dict[str, Rule] = {rule.operation: rule for methods in RULES.values() for rule in methods.values()}


class Asking(Protocol):
    """A call of an operation of the API, as the store's side asks for it."""

    @property
    def operation(self) -> str: ...
    @property
    def method(self) -> str: ...
    @property
    def path(self) -> str: ...
    @property
    def params(self) -> Mapping[str, str]: ...
    @property
    def query(self) -> Pairs: ...
    @property
    def body(self) -> bytes: ...


class Found(Protocol):
    """What a path asks for. `refusal`: why there is no operation."""

    @property
    def operation(self) -> str: ...
    @property
    def refusal(self) -> Any: ...


@dataclass(frozen=True, slots=True)
class Reply:
    """What the gate answered."""

    status: int
    headers: list[tuple[str, str]]
    body: bytes


Refusal = Callable[[int, str, Pairs], Exception]
"""Makes the exception by which the store's side is told that a visitor may not: status, why, headers."""


class Doors(Protocol):
    """The store's side: paths taken apart, requests and sockets served, errors in the form of the wires."""

    def refused(self, status: int, detail: str, headers: Pairs) -> Any:
        """As `Refusal`."""

    def find(self, raw_path: bytes, method: str) -> Any:
        """What is asked for, a `Found`."""

    async def answer(self, found: Any, visitor: Any, scope: Scope, receive: Receive, send: Send) -> None:
        """Answer, failures too."""

    async def refuse(self, scope: Scope, receive: Receive, send: Send, why: Any) -> None:
        """Refuse by what `refused` made."""


class Served(Protocol):
    """The streams of a store."""

    @property
    def doors(self) -> Doors: ...


class Engine(Protocol):
    """Who calls, and where what was decided is written down."""

    @property
    def authenticator(self) -> Authenticator: ...
    @property
    def journal(self) -> Journal: ...


@dataclass(frozen=True, slots=True)
class Parts:
    """What streams are authorised with. `origins`: of web pages that may open sockets, and use cookies.
    `limiter` None: callers ask as often as they like."""

    gate: Gate
    sights: Sights
    upstream: Upstream
    authenticator: Authenticator
    journal: Journal
    origins: frozenset[str]
    seen: Callable[[Principal], None]
    limiter: Limiter | None


class StreamDoors:
    """The ASGI application of both wires."""

    def __init__(
        self,
        served: Served,
        gate: Gate,
        sights: Sights,
        upstream: Upstream,
        engine: Engine,
        origins: Iterable[str],
        seen: Callable[[Principal], None],
        limiter: Limiter | None = None,
    ) -> None:
        self._doors = served.doors
        self._parts = Parts(
            gate, sights, upstream, engine.authenticator, engine.journal, frozenset(origins), seen, limiter
        )

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Answer one HTTP request, or one WebSocket."""
        path: bytes = scope["raw_path"]
        method = SOCKET if scope["type"] == "websocket" else scope["method"]
        decision = Decision(request_id(scope), method, path.decode("ascii", "replace"), time.time())
        decision.peer = caller_address(self._parts.authenticator, scope)
        noted = _noting(self._parts.journal, decision, send)
        try:
            scope = presented(scope, self._parts.origins)
            found: Found = self._doors.find(path, method)
            visitor = await self._admitted(found, scope, decision)
        except Error as exc:
            decision.reason = exc.told
            why = self._doors.refused(STATUS[type(exc)], exc.summary, self._headers(exc))
            await self._doors.refuse(scope, receive, noted, why)
            return
        if found.refusal is not None:
            await self._doors.refuse(scope, receive, noted, found.refusal)
            return
        await self._doors.answer(found, visitor, scope, receive, noted)

    async def _admitted(self, found: Found, scope: Scope, decision: Decision) -> Visitor:
        """The visitor, once its credential reaches so far. Raises `errors.Error`."""
        rule = decision.rule = None if found.refusal is not None else STREAM_RULES[found.operation]
        if rule is not None and not rule.scopes:
            return Visitor(self._parts, self._doors.refused, None, scope, decision)
        principal = await who(self._parts.authenticator, scope, decision)
        check_rate(self._parts.limiter, principal, decision)
        self._parts.seen(principal)
        if rule is not None and not passes_scope(principal.scopes, rule.scopes):
            least = min(rule.scopes - {ADMIN})
            raise InsufficientScope("The token's scopes do not reach this.", scope=least)
        return Visitor(self._parts, self._doors.refused, principal, scope, decision)

    def _headers(self, error: Error) -> list[tuple[str, str]]:
        basic = self._parts.authenticator.config.allow_basic
        found = [
            ("www-authenticate", each) for each in www_authenticate(error, metadata_url=None, basic=basic)
        ]
        if isinstance(error, MethodNotAllowed):
            found.append(("allow", ", ".join(error.allow)))
        retry_s = error_retry_s(error)
        return found if retry_s is None else [*found, ("retry-after", str(retry_s))]


class Visitor:
    """A caller of streams that was let in. `principal` None: nobody, for what anybody may have."""

    def __init__(
        self,
        parts: Parts,
        refused: Refusal,
        principal: Principal | None,
        scope: Scope,
        decision: Decision,
    ) -> None:
        self._parts = parts
        self._refused = refused
        self._principal = principal
        self._scope = scope
        self._decision = decision

    async def call(self, asking: Asking) -> Reply:
        """Perform an operation of the API with every check that it has; refusals are answers."""
        rule = _API[asking.operation]
        decision = Decision(
            self._decision.request_id, asking.method, asking.path, time.time(), rule, self._known.name
        )
        decision.client = self._known.client

        async def body() -> bytes:
            return asking.body

        call = Call(asking.method, asking.path, rule, asking.params, asking.query, body, decision)
        try:
            response = await self._parts.gate.pass_through(call, self._known)
            reply = Reply(response.status, response.headers, response.body)
        except Error as exc:
            decision.reason = exc.told
            reply = Reply(STATUS[type(exc)], _retry(exc), orjson.dumps({"summary": exc.summary}))
        decision.status = reply.status
        if asking.method != "GET":
            self._parts.journal.add(decision)
        return reply

    async def check(self, flow_id: str, *, write: bool) -> None:
        """Raises the store's refusal unless the caller may now read, or write, a flow."""
        action = Action.WRITE if write else Action.READ
        try:
            sight = await self._parts.sights.sight(self._known)
            ref = ("flow", flow_id)
            known = await self._parts.upstream.look_up([ref], (), sight.view)
        except Error as exc:
            raise self._refused(STATUS[type(exc)], exc.summary, _retry(exc)) from exc
        self._decision.caller = sight.caller
        classes = self._decision.classes = known.classes.get(ref)
        verdict = judge(sight.caller, action, classes)
        if verdict is Verdict.HIDE:
            raise self._refused(404, "No such stream.", ())
        if verdict is Verdict.FORBID:
            raise self._refused(403, f"You may not {action.value} this stream.", ())

    async def still_known(self) -> None:
        """Raises the store's refusal when the credential does not count any more, or for other rights."""
        again = Decision("", SOCKET, "", time.time())
        try:
            principal = await who(self._parts.authenticator, self._scope, again)
        except Unauthenticated as exc:
            raise self._refused(401, "The credential does not count any more.", ()) from exc
        except Error as exc:
            raise self._refused(STATUS[type(exc)], exc.summary, _retry(exc)) from exc
        if not same_rights(principal, self._known) or time.time() >= self._known.expires_s:
            raise self._refused(401, "The credential does not count any more.", ())

    @property
    def _known(self) -> Principal:
        if self._principal is None:
            raise self._refused(401, "Not authenticated", ())
        return self._principal


def _retry(error: Error) -> list[tuple[str, str]]:
    retry_s = error_retry_s(error)
    return [] if retry_s is None else [("retry-after", str(retry_s))]


def _noting(journal: Journal, decision: Decision, send: Send) -> Send:
    """`send` that writes down what came of a request or a handshake."""
    identifier = (b"x-request-id", decision.request_id.encode())
    noted = False

    async def sent(message: MutableMapping[str, Any]) -> None:
        nonlocal noted
        if not noted:
            noted = True
            decision.status = 101 if message["type"] == "websocket.accept" else message.get("status", 403)
            if message["type"] != "websocket.close":
                message = {**message, "headers": [*message.get("headers", ()), identifier]}
            journal.add(decision)
        await send(message)

    return sent
