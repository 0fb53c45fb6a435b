"""Why an answer is what it is: the tuples that grant, or what is missing."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

from proxy.policy.embedded.errors import PolicyError
from proxy.policy.embedded.forward import Forward, Query, Truth
from proxy.policy.embedded.model import (
    Computed,
    Exclusion,
    Intersection,
    Rewrite,
    This,
    TupleToUserset,
    Union,
)
from proxy.policy.embedded.tuples import Tuple, type_of

_MAX_STEPS = 200


@dataclass(frozen=True, slots=True)
class Reason:
    """One claim, whether it holds (None: cannot be known), and what that rests on.

    `carrier` is the tuple that carries the claim, if one does; `because` the claims it rests on.
    """

    claim: str
    holds: bool | None
    carrier: Tuple | None = None
    because: tuple[Reason, ...] = ()

    def lines(self, indent: int = 0) -> Iterator[str]:
        """The reason as indented text, one claim a line."""
        mark = {True: "yes", False: "no", None: "unknown"}[self.holds]
        yield f"{'  ' * indent}{mark}: {self.claim}"
        for each in self.because:
            yield from each.lines(indent + 1)


@dataclass(frozen=True, slots=True)
class Explanation:
    """The answer to a check (None: it has none, `failure` says why) and the reason for it."""

    allowed: bool | None
    reason: Reason
    failure: PolicyError | None = None

    @property
    def chain(self) -> tuple[Tuple, ...]:
        """The tuples that grant, from the object to the user; empty unless allowed."""
        return tuple(_chain(self.reason)) if self.allowed else ()

    def __str__(self) -> str:
        return "\n".join(self.reason.lines())


def explain(query: Query, object_: str, relation: str) -> Explanation:
    """Explain whether the query's user holds the relation to the object."""
    reason = _Explainer(query).node(object_, relation)
    return Explanation(reason.holds, reason, query.failure if reason.holds is None else None)


def _chain(reason: Reason) -> Iterator[Tuple]:
    if reason.holds:
        if reason.carrier is not None:
            yield reason.carrier
        for each in reason.because:
            yield from _chain(each)


def _held(truth: Truth) -> bool | None:
    return None if truth is Truth.UNKNOWN else truth is Truth.YES


class _Explainer:
    def __init__(self, query: Query) -> None:
        self._query = query
        self._forward = Forward(query)
        self._path: set[tuple[str, str]] = set()
        self._steps = 0

    def _truth(self, object_: str, relation: str) -> bool | None:
        return _held(self._forward.node(object_, relation).truth)

    def node(self, object_: str, relation: str) -> Reason:
        user = self._query.user
        claim = f"{user} is {relation} of {object_}"
        if user == f"{object_}#{relation}":
            return Reason(f"{claim}: it is itself", True)
        node = (object_, relation)
        if node in self._path:
            return Reason(f"{claim}: asked already on this way", False)
        declared = self._query.model.relation(type_of(object_), relation)
        holds = self._truth(object_, relation)
        self._steps += 1
        if declared is None or self._steps > _MAX_STEPS:
            return Reason(claim, holds)
        self._path.add(node)
        because = self._expression(declared.rewrite, object_, relation)
        self._path.remove(node)
        telling = _telling(because, holds)
        if holds and not telling:
            # True, but not because of anything that is new here: another way has to tell why.
            return Reason(f"{claim}: only by what is asked already on this way", False)
        return Reason(claim, holds, because=telling)

    def _expression(self, rewrite: Rewrite, object_: str, relation: str) -> tuple[Reason, ...]:
        match rewrite:
            case This():
                return self._this(object_, relation)
            case Computed(other):
                return (self.node(object_, other),)
            case TupleToUserset(tupleset, other):
                return self._tuple_to_userset(object_, tupleset, other)
            case Union(children):
                return tuple(
                    reason for child in children for reason in self._expression(child, object_, relation)
                )
            case Intersection(children):
                return (self._group("all of", children, object_, relation),)
            case Exclusion(base, subtract):
                kept = self._group("the base", (base,), object_, relation)
                circle = self._forward.expression(subtract, object_, relation).cycle
                title = "the excluded (in a circle of tuples, so it counts)" if circle else "the excluded"
                taken = self._group(title, (subtract,), object_, relation)
                return (self._exclusion(kept, taken, rewrite, object_, relation),)

    def _value(self, rewrite: Rewrite, object_: str, relation: str) -> bool | None:
        return _held(self._forward.expression(rewrite, object_, relation).truth)

    def _group(self, title: str, children: tuple[Rewrite, ...], object_: str, relation: str) -> Reason:
        holds = self._value(Intersection(children), object_, relation)
        told = [
            _telling(self._expression(child, object_, relation), self._value(child, object_, relation))
            for child in children
        ]
        if holds and not all(told):
            holds = False
        because = tuple(reason for reasons in told for reason in reasons)
        return Reason(f"{title} {relation} of {object_}", holds, because=because)

    def _exclusion(
        self, kept: Reason, taken: Reason, rewrite: Rewrite, object_: str, relation: str
    ) -> Reason:
        holds = self._value(rewrite, object_, relation)
        if holds and not kept.holds:
            holds = False
        return Reason(f"{relation} of {object_}, the excluded taken out", holds, because=(kept, taken))

    def _this(self, object_: str, relation: str) -> tuple[Reason, ...]:
        reasons = []
        for user in (self._query.user, self._query.wildcard):
            found = self._query.view.get(object_, relation, user) if user else None
            if found is not None:
                reasons.append(self._tuple(found))
        for each in self._query.view.usersets(object_, relation):
            userset, _, held = each.user.partition("#")
            reasons.append(self._tuple(each, self.node(userset, held)))
        if not reasons:
            reasons.append(Reason(f"no tuple makes {self._query.user} {relation} of {object_}", False))
        return tuple(reasons)

    def _tuple_to_userset(self, object_: str, tupleset: str, relation: str) -> tuple[Reason, ...]:
        parents = [
            each
            for each in self._query.view.users(object_, tupleset)
            if self._query.model.relation(type_of(each.user), relation) is not None
        ]
        if not parents:
            return (Reason(f"no tuple gives {object_} a {tupleset} that has a {relation}", False),)
        return tuple(self._tuple(each, self.node(each.user, relation)) for each in parents)

    def _tuple(self, tuple_: Tuple, beyond: Reason | None = None) -> Reason:
        truth = self._query.holds(tuple_)
        holds = _held(truth)
        condition = tuple_.condition
        said = f"tuple {tuple_}"
        if condition is not None and truth is not Truth.YES:
            said += ": its condition " + ("does not hold" if truth is Truth.NO else "cannot be evaluated")
            if truth is Truth.UNKNOWN and self._query.failure is not None:
                said += f" ({self._query.failure.summary})"
        if beyond is None:
            return Reason(said, holds, tuple_)
        both = {holds, beyond.holds}
        joint = False if False in both else None if None in both else True
        return Reason(said, joint, tuple_, (beyond,))


def _telling(reasons: tuple[Reason, ...], holds: bool | None) -> tuple[Reason, ...]:
    """Those that decide: for a yes the first yes, for an unknown the unknown ones, for a no all."""
    if holds is True:
        return tuple(reason for reason in reasons if reason.holds)[:1]
    if holds is None:
        return tuple(reason for reason in reasons if reason.holds is None) or reasons
    return reasons
