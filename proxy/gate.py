"""The request path, one way: who -> what -> rule -> decide -> forward -> redact."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Iterable, Mapping
from dataclasses import dataclass, field
from time import perf_counter_ns
from typing import Any, Protocol, TypeVar

from proxy import bulk
from proxy.asked import Asked, Authorised, Ground, Limits, enforce
from proxy.audit import Decision
from proxy.decide import Caller, Verdict, judge, passes_scope
from proxy.errors import (
    BadRequest,
    BadUpstream,
    InsufficientScope,
    MethodNotAllowed,
    NotFound,
    NotSupported,
    Unavailable,
)
from proxy.facts import is_weighty, later_refs, refs_of
from proxy.identity.principal import Principal
from proxy.objects import NO_MEDIA, backend_named, media_verdict
from proxy.owner import owner_of
from proxy.policy.protocol import Decisions
from proxy.propagate import Propagation
from proxy.redact import redacted
from proxy.rules import Action, Check, Methods, Rule, Target
from proxy.upstream.protocol import (
    Facts,
    Known,
    MediaFact,
    ObjectFact,
    Pairs,
    Ref,
    Request,
    Response,
    Upstream,
    View,
)
from proxy.writes import authorise

T = TypeVar("T")
TRIES = 3
DEFAULTS = Limits()
NO_PATH = "There is nothing at this path."
_CHANGES_CLASSES = (Check.TAG, Check.PUT_FLOW, Check.PUT_WEBHOOK, Check.PUT_SOURCE)
_OWNED = (Check.NEW_WEBHOOK, Check.PUT_WEBHOOK)
_ON_BACKENDS = (Check.STORAGE, Check.INSTANCE)


@dataclass(slots=True)
class Call:
    """A request as it reached the gate. `body` reads the whole body, bounded."""

    method: str
    path: str
    rule: Rule
    params: Mapping[str, str]
    query: Pairs
    body: Callable[[], Awaitable[bytes]]
    decision: Decision


@dataclass(frozen=True, slots=True)
class Sight:
    """A principal's snapshot, ready for use: the caller that decides, and the views that filter.

    `view`: what may be read. `any`: what there is any permission on.
    """

    caller: Caller
    view: View
    any: View


@dataclass(frozen=True, slots=True)
class Gathered:
    """Facts of several look-ups in one."""

    classes: Mapping[Ref, frozenset[str]]
    source_ids: Mapping[str, str]
    profile_ids: Mapping[str, str]
    collections: Mapping[str, list[dict[str, Any]]]
    objects: Mapping[str, ObjectFact] = field(default_factory=dict)


class Sights(Protocol):
    """What a principal may do, as a Sight."""

    async def sight(self, principal: Principal, *, fresh: bool = False) -> Sight: ...


class Gate:
    """Decides and forwards. `load` parses a body strictly and raises `errors.BadRequest`; `stamp` is the
    time of an error that the gate writes into a body. `propagation` None: classes are not passed on."""

    def __init__(
        self,
        sights: Sights,
        decisions: Decisions,
        upstream: Upstream,
        load: Callable[[bytes], object],
        stamp: Callable[[], str],
        *,
        limits: Limits = DEFAULTS,
        propagation: Propagation | None = None,
    ) -> None:
        self._sights = sights
        self._decisions = decisions
        self._upstream = upstream
        self._load = load
        self._stamp = stamp
        self._limits = limits
        self._propagation = propagation

    async def pass_through(self, call: Call, principal: Principal) -> Response:
        """The answer to a call of an authenticated principal. Raises `errors.Error` for every refusal."""
        _check_scope(call.rule, principal)
        if call.method in ("GET", "HEAD"):
            return await self._read(call, principal)
        return await self._write(call, principal)

    async def admit_media(self, call: Call, principal: Principal, key: str) -> MediaFact:
        """What lies at an unsigned media URL, for a caller that may read it or upload it.

        Raises `errors.Error` for every refusal.
        """
        rule = call.rule
        _check_scope(rule, principal)
        backend = backend_named(tuple(await self._upstream.backends()), call.params["backend"])
        sight = await self._sight(call, principal)
        found = await self._timed(call, self._upstream.media_at(backend.id, key))
        if found is None:
            raise NotFound(NO_MEDIA)
        known = await self._look_up(call, [], [found.object_id], sight.view)
        fact, classes = known.objects.get(found.object_id), None
        if fact is not None and fact.flow_ids and rule.action is Action.WRITE:
            ref = ("flow", fact.flow_ids[0])
            classes = (await self._look_up(call, [ref], (), sight.view)).classes.get(ref)
        call.decision.classes = classes
        enforce(media_verdict(sight.caller, rule.action, fact, classes, backend), rule.target)
        return found

    async def _sight(self, call: Call, principal: Principal, *, fresh: bool = False) -> Sight:
        sight = await self._sights.sight(principal, fresh=fresh)
        call.decision.caller = sight.caller
        return sight

    async def _timed(self, call: Call, asking: Awaitable[T], request: Request | None = None) -> T:
        """What the store answers; how often it was asked, and its time, go into the decision."""
        decision, began_ns = call.decision, perf_counter_ns()
        decision.asked_ns = decision.asked_ns or began_ns
        try:
            return await asking
        finally:
            decision.calls += 1 if request is None else 1 + request.more_calls
            decision.store_ns += perf_counter_ns() - began_ns

    def _forward(self, call: Call, request: Request) -> Awaitable[Response]:
        return self._timed(call, self._upstream.call(request), request)

    def _look_up(
        self, call: Call, refs: Iterable[Ref], objects: Iterable[str], view: View | None
    ) -> Awaitable[Known]:
        return self._timed(call, self._upstream.look_up(refs, objects, view))

    async def _read(self, call: Call, principal: Principal) -> Response:
        rule, decision = call.rule, call.decision
        weighty = rule.target is Target.ADMIN or rule.action is Action.DELETE
        sight = await self._sight(call, principal, fresh=weighty)
        caller = sight.caller
        if rule.target is Target.ADMIN and not caller.admin:
            raise NotFound(NO_PATH)
        view = sight.any if rule.target is Target.BACKENDS else sight.view
        request = Request(rule.operation, call.path, call.params, call.query, b"", view, None, principal.name)
        response = await self._forward(call, request)
        facts = response.facts
        if facts is None:
            return _without_facts(response, rule)
        if rule.param:
            decision.classes = facts.classes
            _check_read(rule, caller, facts)
        if not caller.admin and (facts.related or rule.target is Target.OBJECT):
            response.body = redacted(
                response.body, rule.body, facts.related, lambda classes: caller.may(Action.READ, classes)
            )
        return response

    async def _write(self, call: Call, principal: Principal) -> Response:
        rule = call.rule
        body = await call.body()
        lacks = await self._upstream.lacks(rule.operation)
        if lacks is not None:
            raise NotSupported(lacks)
        asked = Asked(rule, call.params, call.query, body, self._parsed(rule, body), self._limits)
        owner = owner_of(principal, int(call.decision.time_s)) if rule.check in _OWNED else None
        # Permissions are those of now, however long the body took to arrive.
        fresh = is_weighty(asked)
        for _ in range(TRIES):
            sight = await self._sight(call, principal, fresh=fresh)
            allowed = await self._authorised(call, asked, sight)
            if len(allowed.refused) == bulk.count(asked.document) and allowed.refused:
                return bulk.all_refused(asked.document, allowed.refused, self._stamp)
            request = Request(
                rule.operation,
                call.path,
                call.params,
                call.query,
                allowed.body,
                sight.view,
                allowed.expect,
                principal.name,
                owner,
            )
            response = await self._forward(call, request)
            if response.status != 409:
                return await self._settled(call, principal, sight, allowed, response)
            fresh = True
        raise Unavailable("Others keep changing what this request rests on. Try again.", retry_after_s=1)

    async def _settled(
        self, call: Call, principal: Principal, sight: Sight, allowed: Authorised, response: Response
    ) -> Response:
        if allowed.refused:
            return bulk.with_refused(response, allowed, self._stamp)
        if self._propagation is not None and allowed.spreads and response.status < 300:
            call.decision.propagated = await self._propagation.run(
                self._upstream,
                sight.caller,
                sight.view,
                await self._decisions.denying(),
                principal.name,
                allowed.spreads,
            )
        return response

    def _parsed(self, rule: Rule, body: bytes) -> object:
        """The body of a write whose rule looks into it, or what is wrong with it."""
        if rule.check is Check.NOTHING or rule.operation.startswith("DELETE"):
            return None
        try:
            return self._load(body)
        except BadRequest as exc:
            return exc

    async def _authorised(self, call: Call, asked: Asked, sight: Sight) -> Authorised:
        """A write as it may be forwarded, decided on what is there now."""
        rule, decision = call.rule, call.decision
        refs, objects = refs_of(asked)
        known: Known = _NOTHING
        if refs or objects:
            known = await self._look_up(call, refs, objects, sight.view)
        more = later_refs(asked, known)
        if more:
            known = _both(known, await self._look_up(call, more, (), sight.view))
        if rule.param and rule.target is not Target.OBJECT:
            decision.classes = known.classes.get(asked.target)
        denying = await self._decisions.denying() if rule.check in _CHANGES_CLASSES else frozenset[str]()
        backends = await self._upstream.backends() if rule.check in _ON_BACKENDS else ()
        return authorise(asked, Ground(sight.caller, known, denying, backends))


def find_rule(found: tuple[Methods, dict[str, str]] | None, method: str) -> tuple[Rule, dict[str, str]]:
    """The row for a method at a path that was matched. Raises `NotFound` and `MethodNotAllowed`."""
    if found is None:
        raise NotFound(NO_PATH)
    methods, params = found
    rule = methods.get("GET" if method == "HEAD" else method)
    if rule is None:
        allow = (*methods, "HEAD") if "GET" in methods else tuple(methods)
        raise MethodNotAllowed("This path does not take this method.", allow=allow)
    return rule, params


def _check_scope(rule: Rule, principal: Principal) -> None:
    if not passes_scope(principal.scopes, rule.scopes):
        # The scope to ask for is not the administrator's where another one will do.
        least = min(rule.scopes, key=lambda scope: (scope.endswith("/admin"), scope))
        raise InsufficientScope("The token's scopes do not reach this.", scope=least)


def _without_facts(response: Response, rule: Rule) -> Response:
    """An answer that says nothing of whom it is for: only a refusal may go out so."""
    if response.status == 404 and rule.param:
        enforce(Verdict.HIDE, rule.target)
    if response.status < 400:
        raise BadUpstream("The store's answer cannot be checked.")
    return response


def _check_read(rule: Rule, caller: Caller, facts: Facts) -> None:
    """Raise what the caller may not read."""
    classes = facts.classes
    if caller.admin and (classes is not None or rule.operation == "GET_flows-flowId-segments"):
        return
    if rule.target is Target.OBJECT:
        enforce(Verdict.ALLOW if facts.readable or caller.admin else Verdict.HIDE, rule.target)
    elif rule.target is not Target.PROFILE or classes != frozenset():
        enforce(judge(caller, rule.action, classes), rule.target)


_NOTHING = Gathered({}, {}, {}, {})


def _both(one: Known, other: Known) -> Gathered:
    return Gathered(
        {**one.classes, **other.classes},
        {**one.source_ids, **other.source_ids},
        {**one.profile_ids, **other.profile_ids},
        {**one.collections, **other.collections},
        {**one.objects, **other.objects},
    )
