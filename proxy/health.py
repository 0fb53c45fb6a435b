"""What whoever runs the server asks it: does it live, can it work, how does it fare."""

from __future__ import annotations

import time
from collections.abc import Awaitable, Callable, Mapping
from dataclasses import dataclass
from typing import Any, Protocol

import orjson

from proxy.asgi import App, Headers, Receive, Refusals, Scope, Send, request_id, send_answer, who
from proxy.audit import Decision, Journal
from proxy.decide import passes_scope
from proxy.errors import Error, InsufficientScope, MethodNotAllowed, NotFound
from proxy.gate import NO_PATH, Sights
from proxy.identity.authenticate import Authenticator
from proxy.identity.principal import ADMIN
from proxy.policy.folder import FolderPolicy
from proxy.policy.protocol import Decisions
from proxy.rules import Rule, Target

SIDE = "tams.side"
"""In the scope of a request that came by the port that is for operators alone."""
METRICS_RULE = Rule("GET_metrics", frozenset((ADMIN,)), Target.ADMIN)
JSON: Headers = [("content-type", "application/json"), ("cache-control", "no-store")]


class Findings(Protocol):
    """What works, and what does not."""

    @property
    def ready(self) -> bool: ...

    def document(self, version: str, stamp: str, *, reasons: bool) -> dict[str, Any]: ...


class PolicyState(Protocol):
    """The policy in force, and what is wrong with its files as they stand."""

    @property
    def problem(self) -> str | None: ...

    def current(self) -> object: ...


@dataclass(frozen=True, slots=True)
class Operator:
    """Who is an administrator. `may` raises `errors.Error` for whoever is none."""

    authenticator: Authenticator
    sights: Sights

    async def may(self, scope: Scope, decision: Decision) -> None:
        """Pass an administrator. Raises `errors.Error`; to others there is nothing here."""
        principal = await who(self.authenticator, scope, decision)
        decision.rule = METRICS_RULE
        if not passes_scope(principal.scopes, METRICS_RULE.scopes):
            raise InsufficientScope("The token's scopes do not reach this.", scope=ADMIN)
        sight = await self.sights.sight(principal, fresh=True)
        decision.caller = sight.caller
        if not sight.caller.admin:
            raise NotFound(NO_PATH)

    async def is_one(self, scope: Scope) -> bool:
        """Whether the caller says, rightly, that it is an administrator."""
        if scope.get(SIDE):
            return True
        if not any(name == b"authorization" for name, _ in scope["headers"]):
            return False
        try:
            await self.may(scope, _decision(scope))
        except Error:
            return False
        return True


@dataclass(frozen=True, slots=True)
class Engine:
    """What decides, and what is written down of it."""

    policy: FolderPolicy
    decisions: Decisions
    authenticator: Authenticator
    journal: Journal


@dataclass(frozen=True, slots=True)
class Facts:
    """What there is to tell. `system`: figures of the machine; `telemetry`: what is told to whom; `find`:
    what works; `draining`: the server stops soon; `text`: all figures, for Prometheus."""

    version: str
    stamp: Callable[[], str]
    policy: PolicyState
    system: Callable[[], dict[str, Any]]
    telemetry: Mapping[str, bool]
    find: Callable[[], Awaitable[Findings]]
    draining: Callable[[], bool]
    text: Callable[[], Awaitable[bytes]]
    text_type: str


class Operations:
    """`/health`, `/ready` and `/metrics`."""

    def __init__(self, facts: Facts, operator: Operator, refusals: Refusals, journal: Journal) -> None:
        self._facts = facts
        self._operator = operator
        self._refusals = refusals
        self._journal = journal

    def doors(self) -> dict[bytes, App]:
        """The applications by path."""
        return {b"/health": self.health, b"/ready": self.ready, b"/metrics": self.metrics}

    async def health(self, scope: Scope, receive: Receive, send: Send) -> None:
        """GET /health: this process answers. Whether what it depends on does is `/ready`."""
        facts = self._facts
        facts.policy.current()
        document: dict[str, Any] = {
            "status": "healthy",
            "version": facts.version,
            "timestamp": facts.stamp(),
            "policy": "invalid" if facts.policy.problem else "in force",
        }
        if await self._operator.is_one(scope):
            document |= {"system": facts.system(), "telemetry": dict(facts.telemetry)}
        await self._send(scope, send, 200, document)

    async def ready(self, scope: Scope, receive: Receive, send: Send) -> None:
        """GET /ready: 200 when requests can be answered, else 503; the reasons for administrators."""
        facts = self._facts
        found = await facts.find()
        document = found.document(facts.version, facts.stamp(), reasons=await self._operator.is_one(scope))
        ready = found.ready
        if facts.draining():
            ready, document["status"] = False, "stopping"
        await self._send(scope, send, 200 if ready else 503, document)

    async def metrics(self, scope: Scope, receive: Receive, send: Send) -> None:
        """GET /metrics: for administrators, and for whoever reaches the operators' port."""
        decision = _decision(scope)
        try:
            if scope["method"] not in ("GET", "HEAD"):
                raise MethodNotAllowed("This path does not take this method.", allow=("GET", "HEAD"))
            if not scope.get(SIDE):
                await self._operator.may(scope, decision)
            status, body = 200, await self._facts.text()
            headers: Headers = [("content-type", self._facts.text_type), ("cache-control", "no-store")]
        except Error as exc:
            decision.reason = exc.told
            status, headers, body = self._refusals(exc)
        decision.status = status
        if not scope.get(SIDE):
            self._journal.add(decision)
        await send_answer(send, scope["method"], status, headers, body, decision.request_id)

    async def _send(self, scope: Scope, send: Send, status: int, document: dict[str, Any]) -> None:
        await send_answer(send, scope["method"], status, JSON, orjson.dumps(document), request_id(scope))


Ask = Callable[[], Awaitable[str | None]]


def dependencies(check: Callable[[], Awaitable[object]], engine: Engine) -> list[tuple[str, Ask, bool]]:
    """What requests depend on: a name, what tells what is wrong, or raises, and whether all need it."""

    async def database() -> None:
        await check()

    async def decisions() -> None:
        await engine.decisions.denying()

    async def policy() -> str | None:
        engine.policy.current()
        return engine.policy.problem

    async def identity() -> str | None:
        return "; ".join(engine.authenticator.problems()) or None

    return [
        ("store", database, True),
        ("decisions", decisions, True),
        ("policy", policy, False),
        ("identity", identity, False),
    ]


def _decision(scope: Scope) -> Decision:
    shown = scope["raw_path"].decode("ascii", "replace")
    return Decision(request_id(scope), scope["method"], shown, time.time())
