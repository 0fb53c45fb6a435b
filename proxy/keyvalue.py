"""The key-value API through the proxy: its own table, and the way from a request to a decision.

The classes of a key are those of its longest prefix in the policy, so that whether it exists never matters
to a decision, and bytes stream past it both ways.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Protocol

from proxy.asgi import Receive, Scope, Send, caller_address, error_retry_s, noting, request_id, who
from proxy.audit import Decision, Journal
from proxy.decide import Caller, Verdict, judge, passes_scope
from proxy.errors import (
    STATUS,
    Error,
    Forbidden,
    InsufficientScope,
    MethodNotAllowed,
    NotFound,
    TooManyRequests,
    Unauthenticated,
)
from proxy.gate import NO_PATH, Sights, find_rule
from proxy.identity.authenticate import Authenticator
from proxy.identity.challenge import www_authenticate
from proxy.identity.principal import ADMIN, DELETE, READ, WRITE, Principal
from proxy.policy.files import ClassInfo
from proxy.prefixes import Prefixes
from proxy.rules import Action, Methods, Rule, Target

ABSENT = "Object not found"
_WORDS = {READ: "read", WRITE: "write", DELETE: "delete"}
_R, _W, _D = (frozenset((scope, ADMIN)) for scope in (READ, WRITE, DELETE))
Marks = tuple[tuple[str, bool], ...]
RawHeaders = list[tuple[bytes, bytes]]

KEY_RULES: dict[str, Methods] = {
    "/store/health": {"GET": Rule("GET_store-health", frozenset(), Target.NOTHING)},
    "/store/objects": {"GET": Rule("GET_store-objects", _R, Target.LIST)},
    "/store/objects/{key}": {
        "GET": Rule("GET_store-objects-key", _R, Target.OBJECT, Action.READ, "key"),
        "PUT": Rule("PUT_store-objects-key", _W, Target.OBJECT, Action.WRITE, "key"),
        "DELETE": Rule("DELETE_store-objects-key", _D, Target.OBJECT, Action.DELETE, "key"),
    },
}
"""THE TABLE of this API, as `rules.RULES` is that of TAMS. The scopes of API keys are spelt as TAMS's."""


@dataclass(frozen=True, slots=True)
class KeyAsked:
    """A call that was allowed. `marks`: by prefix, whether names are seen; for listings."""

    operation: str
    name: str
    marks: Marks
    actor: str


class Objects(Protocol):
    """What the store's side lends: paths taken apart, calls answered, errors in the API's shape."""

    def find(self, raw_path: bytes) -> tuple[str, str] | None:
        """The template of a path, and the key in it. Raises `errors.BadRequest`."""

    async def answer(self, asked: KeyAsked, scope: Scope, receive: Receive, send: Send) -> None:
        """Answer, failures too, streaming. Raises `ConnectionError` when the client is gone."""

    async def refuse(self, send: Send, status: int, message: str, headers: RawHeaders, head: bool) -> None:
        """Send an error."""


class Limiter(Protocol):
    """How often a caller may ask."""

    def wait_s(self, who: str, now_s: float) -> int | None: ...


class KeyValue:
    """The ASGI application behind `/store`. `limiter` None: callers ask as often as they like."""

    def __init__(
        self,
        objects: Objects,
        authenticator: Authenticator,
        sights: Sights,
        classes: Callable[[], Mapping[str, ClassInfo]],
        limiter: Limiter | None,
        journal: Journal,
    ) -> None:
        self._objects = objects
        self._authenticator = authenticator
        self._sights = sights
        self._classes = classes
        self._limiter = limiter
        self._journal = journal
        self._known: tuple[Mapping[str, ClassInfo], Prefixes] | None = None

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Answer one HTTP request."""
        shown = scope["raw_path"].decode("ascii", "replace")
        decision = Decision(request_id(scope), scope["method"], shown, time.time())
        decision.peer = caller_address(self._authenticator, scope)
        noted = noting(self._journal, decision, send)
        try:
            asked = await self._allowed(scope, decision)
        except Error as exc:
            decision.reason = exc.told
            head = scope["method"] == "HEAD"
            await self._objects.refuse(noted, STATUS[type(exc)], told(exc), self._headers(exc), head)
            return
        try:
            await self._objects.answer(asked, scope, receive, noted)
        except ConnectionError:
            return

    async def _allowed(self, scope: Scope, decision: Decision) -> KeyAsked:
        """What is asked, once it may be. Raises `errors.Error` for every refusal."""
        found = self._objects.find(scope["raw_path"])
        if found is not None and KEY_RULES[found[0]]["GET"].target is Target.NOTHING:
            rule, _ = find_rule((KEY_RULES[found[0]], {}), scope["method"])
            decision.rule = rule
            return KeyAsked(rule.operation, "", (), "")
        principal = await who(self._authenticator, scope, decision)
        if found is None:
            raise NotFound(NO_PATH)
        template, name = found
        rule, _ = find_rule((KEY_RULES[template], {}), scope["method"])
        decision.rule = rule
        self._check_rate(principal, decision)
        if not passes_scope(principal.scopes, rule.scopes):
            least = min(rule.scopes - {ADMIN})
            raise InsufficientScope(f"Missing required scopes: ['{_WORDS[least]}']", scope=least)
        sight = await self._sights.sight(principal, fresh=rule.action is Action.DELETE)
        decision.caller = sight.caller
        prefixes = self._prefixes()
        if rule.target is Target.LIST:
            marks = prefixes.marks(lambda classes: sight.caller.may(Action.READ, classes))
            return KeyAsked(rule.operation, "", marks, principal.name)
        decision.classes = prefixes.classes_of(name)
        enforce(sight.caller, rule, decision.classes)
        return KeyAsked(rule.operation, name, (), principal.name)

    def _check_rate(self, principal: Principal, decision: Decision) -> None:
        if self._limiter is None:
            return
        wait_s = self._limiter.wait_s(principal.name, decision.time_s)
        if wait_s is not None:
            raise TooManyRequests("Rate limit exceeded", retry_after_s=wait_s)

    def _prefixes(self) -> Prefixes:
        """The prefixes of the policy in force."""
        classes = self._classes()
        if self._known is None or self._known[0] is not classes:
            self._known = (classes, Prefixes(classes))
        return self._known[1]

    def _headers(self, error: Error) -> RawHeaders:
        basic = self._authenticator.config.allow_basic
        challenges = www_authenticate(error, metadata_url=None, basic=basic)
        found = [(b"www-authenticate", challenge.encode("latin-1")) for challenge in challenges]
        if isinstance(error, MethodNotAllowed):
            found.append((b"allow", ", ".join(error.allow).encode()))
        retry_s = error_retry_s(error)
        return found if retry_s is None else [*found, (b"retry-after", b"%d" % retry_s)]


def enforce(caller: Caller, rule: Rule, classes: frozenset[str]) -> None:
    """Raises `NotFound` where a key is hidden, `Forbidden` where it is seen and this may not be done to it;
    both whether or not it exists."""
    verdict = judge(caller, rule.action, classes)
    if verdict is Verdict.HIDE:
        raise NotFound(ABSENT)
    if verdict is Verdict.FORBID:
        raise Forbidden(f"You may not {rule.action.value} this object.")


def told(error: Error) -> str:
    """What clients of this API expect to read."""
    if isinstance(error, Unauthenticated):
        if error.code is None:
            return "Not authenticated"
        return "Token expired" if "expired" in error.summary else "Invalid or missing token"
    return error.summary
