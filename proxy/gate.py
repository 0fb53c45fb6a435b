"""The request path, one way: who -> what -> rule -> decide -> forward -> redact."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Mapping
from dataclasses import dataclass, field
from typing import Any, Protocol

import orjson

from proxy.audit import Decision
from proxy.body import AUTH_CLASSES, Use
from proxy.decide import Caller, judge, passes_scope
from proxy.errors import (
    BadRequest,
    BadUpstream,
    InsufficientScope,
    MethodNotAllowed,
    NotFound,
    Unavailable,
)
from proxy.identity.principal import Principal
from proxy.policy.protocol import Decisions
from proxy.redact import redacted
from proxy.rules import Action, Check, Methods, Rule, Target
from proxy.upstream.protocol import Known, ObjectFact, Pairs, Ref, Request, Response, Upstream, View
from proxy.writes import (
    UNKNOWN_OBJECT,
    Asked,
    Authorised,
    Ground,
    authorise,
    enforce,
    later_refs,
    refs_of,
)

TRIES = 3
NO_PATH = "There is nothing at this path."


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
    """A principal's snapshot, ready for use: the caller that decides and the view that filters."""

    caller: Caller
    view: View


@dataclass(frozen=True, slots=True)
class Gathered:
    """Facts of several look-ups in one."""

    classes: Mapping[Ref, frozenset[str]]
    source_ids: Mapping[str, str]
    collections: Mapping[str, list[dict[str, Any]]]
    objects: Mapping[str, ObjectFact] = field(default_factory=dict)


class Sights(Protocol):
    """What a principal may do, as a Sight."""

    async def sight(self, principal: Principal, *, fresh: bool = False) -> Sight: ...


class Gate:
    """Decides and forwards. `load` parses a body strictly and raises `errors.BadRequest`; `stamp` is the
    time of an error that the gate writes into a body."""

    def __init__(
        self,
        sights: Sights,
        decisions: Decisions,
        upstream: Upstream,
        load: Callable[[bytes], object],
        stamp: Callable[[], str],
    ) -> None:
        self._sights = sights
        self._decisions = decisions
        self._upstream = upstream
        self._load = load
        self._stamp = stamp

    async def pass_through(self, call: Call, principal: Principal) -> Response:
        """The answer to a call of an authenticated principal. Raises `errors.Error` for every refusal."""
        rule = call.rule
        if not passes_scope(principal.scopes, rule.scopes):
            raise InsufficientScope("The token's scopes do not reach this.", scope=_least(rule.scopes))
        sight = await self._sights.sight(principal, fresh=_is_weighty(call))
        call.decision.policy = sight.caller.permissions.policy
        if call.method in ("GET", "HEAD"):
            return await self._read(call, principal, sight)
        return await self._write(call, principal, sight)

    async def _read(self, call: Call, principal: Principal, sight: Sight) -> Response:
        rule, caller = call.rule, sight.caller
        if rule.target is Target.ADMIN and not caller.admin:
            raise NotFound(NO_PATH)
        request = Request(
            rule.operation, call.path, call.params, call.query, view=sight.view, actor=principal.name
        )
        response = await self._upstream.call(request)
        facts = response.facts
        if facts is None:
            if response.status == 404 and rule.param:
                raise NotFound(f"No such {rule.target.value}.")
            if response.status < 400:
                raise BadUpstream("The store's answer came without what deciding on it needs.")
            return response
        if rule.param:
            call.decision.classes = facts.classes
            self._check_read(rule, caller, facts.classes, facts.readable)
        if rule.target is Target.ADMIN or caller.admin:
            return response
        related = facts.related
        if related or rule.target is Target.OBJECT:
            response.body = redacted(
                response.body, rule.body, related, lambda classes: caller.may(Action.READ, classes)
            )
        return response

    @staticmethod
    def _check_read(rule: Rule, caller: Caller, classes: frozenset[str] | None, readable: bool) -> None:
        if rule.target is Target.OBJECT:
            if not (readable or caller.admin):
                raise NotFound("No such object.")
        elif (
            rule.target is Target.PROFILE
            and not classes
            or classes is None
            and caller.admin
            and rule.operation == "GET_flows-flowId-segments"
        ):
            return
        else:
            enforce(judge(caller, rule.action, classes), rule.target)

    async def _write(self, call: Call, principal: Principal, sight: Sight) -> Response:
        body = await call.body()
        asked = Asked(call.rule, call.params, dict(call.query), body, self._parsed(call.rule, body))
        for _ in range(TRIES):
            allowed = await self._authorised(call, asked, sight)
            if allowed.refused and len(allowed.refused) == _count(asked.document):
                return self._all_refused(asked, allowed)
            response = await self._upstream.call(
                Request(
                    call.rule.operation,
                    call.path,
                    call.params,
                    call.query,
                    allowed.body,
                    sight.view,
                    allowed.expect,
                    principal.name,
                )
            )
            if response.status != 409:
                return self._with_refused(response, asked, allowed) if allowed.refused else response
            sight = await self._sights.sight(principal, fresh=True)
        raise Unavailable("Others keep changing what this request rests on. Try again.", retry_after_s=1)

    def _parsed(self, rule: Rule, body: bytes) -> object:
        """The body of a write whose rule looks into it, or what is wrong with it."""
        if rule.check is Check.NOTHING or rule.operation.startswith("DELETE"):
            return None
        try:
            return self._load(body)
        except BadRequest as exc:
            return exc

    async def _authorised(self, call: Call, asked: Asked, sight: Sight) -> Authorised:
        refs, objects = refs_of(asked)
        known: Known = await self._upstream.look_up(refs, objects, sight.view)
        more = later_refs(asked, known)
        if more:
            known = _both(known, await self._upstream.look_up(more, (), sight.view))
        if call.rule.param and call.rule.target is not Target.OBJECT:
            call.decision.classes = known.classes.get(asked.target)
        changes_classes = call.rule.check in (Check.TAG, Check.PUT_FLOW)
        denying = await self._decisions.denying() if changes_classes else frozenset[str]()
        backends = (
            await self._upstream.backends() if call.rule.check in (Check.STORAGE, Check.INSTANCE) else ()
        )
        return authorise(asked, Ground(sight.caller, known, denying, backends))

    def _all_refused(self, asked: Asked, allowed: Authorised) -> Response:
        if not isinstance(asked.document, list) or len(asked.document) == 1:
            raise BadRequest(UNKNOWN_OBJECT)
        failed = [self._failure(use, UNKNOWN_OBJECT) for use in allowed.refused.values()]
        return Answer.of(200, {"failed_segments": failed})

    def _with_refused(self, response: Response, asked: Asked, allowed: Authorised) -> Response:
        """The answer to the segments that were forwarded, together with those that were not."""
        failed = [self._failure(use, UNKNOWN_OBJECT) for use in allowed.refused.values()]
        if response.status == 200:
            return Answer.of(
                200, {"failed_segments": failed + orjson.loads(response.body)["failed_segments"]}
            )
        if response.status == 201:
            return Answer.of(200, {"failed_segments": failed})
        forwarded = orjson.loads(allowed.body)
        if response.status != 400 or len(forwarded) != 1:
            return response
        entry = {"object_id": forwarded[0]["object_id"], "error": orjson.loads(response.body)}
        return Answer.of(200, {"failed_segments": [*failed, entry]})

    def _failure(self, use: Use, summary: str) -> dict[str, Any]:
        """One entry of flow-segment-bulk-failure.json, as the store itself would write it."""
        error = {"type": "BadRequest", "summary": summary, "message": summary, "time": self._stamp()}
        timerange = {} if use.timerange is None else {"timerange": use.timerange}
        return {"object_id": use.object_id, **timerange, "error": error}


@dataclass(slots=True)
class Answer:
    """An answer that the proxy makes itself."""

    status: int
    headers: list[tuple[str, str]]
    body: bytes
    facts: None = None

    @classmethod
    def of(cls, status: int, document: object) -> Answer:
        """With a JSON body."""
        return cls(status, [("content-type", "application/json")], orjson.dumps(document))


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


def _is_weighty(call: Call) -> bool:
    """Whether the decision must not rest on a snapshot some seconds old."""
    rule = call.rule
    return (
        rule.action is Action.DELETE
        or rule.target is Target.ADMIN
        or (rule.check is Check.TAG and call.params.get("name") == AUTH_CLASSES)
    )


def _least(scopes: frozenset[str]) -> str:
    """The scope to ask for: not the administrator's where another one will do."""
    return min(scopes, key=lambda scope: (scope.endswith("/admin"), scope))


def _count(document: object) -> int:
    return len(document) if isinstance(document, list) else 1


def _both(one: Known, other: Known) -> Gathered:
    return Gathered(
        {**one.classes, **other.classes},
        {**one.source_ids, **other.source_ids},
        {**one.collections, **other.collections},
        {**one.objects, **other.objects},
    )
