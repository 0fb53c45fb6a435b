"""From an object to its users: whether a user holds a relation to an object.

Three-valued (Kleene): a union is true over errors, an intersection false over errors, so an error only
shows where the answer hangs on it. A node, (object, relation), met again on its own path is false, and that
cycle is remembered: an exclusion whose subtracted side ran into one is false. That is OpenFGA's rule, where
it may lose a race to another false; here it never does.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from enum import IntEnum

from proxy.policy.embedded.conditions import Conditions
from proxy.policy.embedded.errors import ConditionFailed, PolicyError, TooDeep
from proxy.policy.embedded.model import (
    Computed,
    Exclusion,
    Intersection,
    Model,
    Rewrite,
    This,
    TupleToUserset,
    Union,
)
from proxy.policy.embedded.tuples import Tuple, View, type_of

MAX_HOPS = 25
"""A userset or tuple-to-userset hop as far out as this is too deep (OpenFGA's resolve-node-limit)."""

_NO_LOW = 1 << 30


class Truth(IntEnum):
    """Ordered, so that a union is the maximum and an intersection the minimum."""

    NO = 0
    UNKNOWN = 1
    YES = 2


@dataclass(frozen=True, slots=True)
class Outcome:
    """What evaluating a node or an expression gave.

    `hops`: how far it looked (for YES: how long the proof is). `cycle`: NO, and a cycle was met. `low`: the
    position on the path of the earliest node that it ran back into; beyond all positions if none. `deep`:
    the limit was hit, so the outcome holds for this depth and beyond only.
    """

    truth: Truth
    hops: int = 0
    cycle: bool = False
    low: int = _NO_LOW
    deep: bool = False


_NO = Outcome(Truth.NO)
_YES = Outcome(Truth.YES)


class Query:
    """What stays the same while one question is answered: tuples, user, context; and the first failure."""

    def __init__(
        self, model: Model, conditions: Conditions, view: View, user: str, context: Mapping[str, object]
    ) -> None:
        self.model = model
        self.view = view
        self.user = user
        self.wildcard = None if "#" in user or user.endswith(":*") else f"{type_of(user)}:*"
        self.failure: PolicyError | None = None
        self._conditions = conditions
        self._context = context
        self._held: dict[Tuple, Truth] = {}

    def holds(self, tuple_: Tuple) -> Truth:
        """The truth of the tuple's condition; a failure is kept and gives UNKNOWN."""
        if tuple_.condition is None:
            return Truth.YES
        known = self._held.get(tuple_)
        if known is None:
            try:
                held = self._conditions.holds(tuple_.condition, self._context)
                known = Truth.YES if held else Truth.NO
            except ConditionFailed as failed:
                known = self.fail(ConditionFailed(f"{tuple_}: {failed.summary}"))
            self._held[tuple_] = known
        return known

    def fail(self, failure: PolicyError) -> Truth:
        """Keep the first failure; whoever finds the answer to hang on it raises it."""
        self.failure = self.failure or failure
        return Truth.UNKNOWN


class Forward:
    """Evaluates nodes for one query; what is known of a node serves all later ones."""

    def __init__(self, query: Query) -> None:
        self._query = query
        self._path: dict[tuple[str, str], int] = {}
        self._known: dict[tuple[str, str], Outcome] = {}
        self._too_deep: dict[tuple[str, str], int] = {}
        # NO or UNKNOWN under the assumption that nodes still on the path are NO; in the order of finding.
        self._assumed: dict[tuple[str, str], Outcome] = {}

    def node(self, object_: str, relation: str, depth: int = 0) -> Outcome:
        """Whether the query's user holds the relation to the object, `depth` hops from the question."""
        if self._query.user == f"{object_}#{relation}":
            return _YES
        node = (object_, relation)
        known = self._recall(node, depth)
        if known is not None:
            return known
        declared = self._query.model.relation(type_of(object_), relation)
        if declared is None:
            return _NO
        position = self._path[node] = len(self._path)
        mark = len(self._assumed)
        outcome = self.expression(declared.rewrite, object_, relation, depth)
        del self._path[node]
        return self._remember(node, outcome, position, mark, depth)

    def _recall(self, node: tuple[str, str], depth: int) -> Outcome | None:
        if node in self._path:
            return Outcome(Truth.NO, cycle=True, low=self._path[node])
        known = self._known.get(node)
        if known is not None and depth + known.hops < MAX_HOPS:
            return known
        if depth >= self._too_deep.get(node, _NO_LOW):
            return Outcome(self._query.fail(_too_deep(*node)), deep=True)
        assumed = self._assumed.get(node)
        if assumed is not None and depth + assumed.hops < MAX_HOPS:
            return assumed
        return None

    def _remember(
        self, node: tuple[str, str], outcome: Outcome, position: int, mark: int, depth: int
    ) -> Outcome:
        """Keep an outcome for as long as it is true whatever the path; assumptions until they are proven."""
        if outcome.deep and outcome.truth is Truth.UNKNOWN:
            self._too_deep[node] = min(depth, self._too_deep.get(node, _NO_LOW))
            self._forget(mark)
            return outcome
        if outcome.truth is not Truth.YES and outcome.low < position:
            self._assumed[node] = outcome
            return outcome
        if outcome.truth is Truth.NO:
            for each, assumed in list(self._assumed.items())[mark:]:
                self._known[each] = Outcome(assumed.truth, assumed.hops, assumed.cycle)
        self._forget(mark)
        settled = Outcome(outcome.truth, outcome.hops, outcome.cycle)
        self._known[node] = settled
        return settled

    def _forget(self, mark: int) -> None:
        while len(self._assumed) > mark:
            self._assumed.popitem()

    # Expressions

    def expression(self, rewrite: Rewrite, object_: str, relation: str, depth: int = 0) -> Outcome:
        """Whether the user is among those that a rewrite of the object's relation stands for."""
        match rewrite:
            case This():
                return self._this(object_, relation, depth)
            case Computed(other):
                return self.node(object_, other, depth)
            case TupleToUserset(tupleset, other):
                return self._tuple_to_userset(object_, tupleset, other, depth)
            case Union(children):
                return self._union(children, object_, relation, depth)
            case Intersection(children):
                return self._intersection(children, object_, relation, depth)
            case Exclusion(base, subtract):
                return self._exclusion(base, subtract, object_, relation, depth)

    def _this(self, object_: str, relation: str, depth: int) -> Outcome:
        best = _NO
        for user in (self._query.user, self._query.wildcard):
            found = self._query.view.get(object_, relation, user) if user else None
            truth = Truth.NO if found is None else self._query.holds(found)
            if truth is Truth.YES:
                return _YES
            best = _either(best, Outcome(truth))
        for each in self._query.view.usersets(object_, relation):
            userset, _, held = each.user.partition("#")
            best = _either(best, self._hop(each, userset, held, depth))
            if best.truth is Truth.YES:
                break
        return best

    def _tuple_to_userset(self, object_: str, tupleset: str, relation: str, depth: int) -> Outcome:
        best = _NO
        for each in self._query.view.users(object_, tupleset):
            if self._query.model.relation(type_of(each.user), relation) is not None:
                best = _either(best, self._hop(each, each.user, relation, depth))
                if best.truth is Truth.YES:
                    break
        return best

    def _hop(self, tuple_: Tuple, object_: str, relation: str, depth: int) -> Outcome:
        """One hop further, as true as the tuple's condition at most."""
        truth = self._query.holds(tuple_)
        if truth is Truth.NO:
            return _NO
        if depth + 1 >= MAX_HOPS:
            return Outcome(self._query.fail(_too_deep(object_, relation)), deep=True)
        beyond = self.node(object_, relation, depth + 1)
        return Outcome(min(truth, beyond.truth), beyond.hops + 1, beyond.cycle, beyond.low, beyond.deep)

    def _union(self, children: tuple[Rewrite, ...], object_: str, relation: str, depth: int) -> Outcome:
        best = _NO
        for child in children:
            best = _either(best, self.expression(child, object_, relation, depth))
            if best.truth is Truth.YES:
                break
        return best

    def _intersection(
        self, children: tuple[Rewrite, ...], object_: str, relation: str, depth: int
    ) -> Outcome:
        # All children are looked at, a NO or not: whether one meets a cycle must not hang on their order.
        worst = _YES
        for child in children:
            worst = _both(worst, self.expression(child, object_, relation, depth))
        return worst

    def _exclusion(
        self, base: Rewrite, subtract: Rewrite, object_: str, relation: str, depth: int
    ) -> Outcome:
        kept = self.expression(base, object_, relation, depth)
        taken = self.expression(subtract, object_, relation, depth)
        if taken.cycle:
            return Outcome(Truth.NO, max(kept.hops, taken.hops), True, min(kept.low, taken.low))
        inverse = Outcome(Truth(Truth.YES - taken.truth), taken.hops, low=taken.low, deep=taken.deep)
        return _both(kept, inverse)


def _too_deep(object_: str, relation: str) -> TooDeep:
    return TooDeep(f"{object_}#{relation} lies {MAX_HOPS} hops or more away")


def _either(one: Outcome, other: Outcome) -> Outcome:
    """Of a union so far and its next child."""
    if other.truth is Truth.YES:
        return Outcome(Truth.YES, other.hops)
    if other == _NO:
        return one
    return Outcome(
        max(one.truth, other.truth),
        max(one.hops, other.hops),
        one.cycle or other.cycle,
        min(one.low, other.low),
        one.deep or other.deep,
    )


def _both(one: Outcome, other: Outcome) -> Outcome:
    """Of an intersection so far and its next child."""
    truth = min(one.truth, other.truth)
    return Outcome(
        truth,
        max(one.hops, other.hops),
        truth is Truth.NO and (one.cycle or other.cycle),
        min(one.low, other.low),
        truth is Truth.UNKNOWN and (one.deep or other.deep),
    )
