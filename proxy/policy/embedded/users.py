"""From an object to its users: everyone of some types who holds a relation to it."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from proxy.policy.embedded.conditions import Conditions
from proxy.policy.embedded.errors import TooDeep
from proxy.policy.embedded.forward import Forward, Query, Truth
from proxy.policy.embedded.model import (
    Computed,
    Exclusion,
    Intersection,
    Model,
    This,
    TupleToUserset,
    Union,
)
from proxy.policy.embedded.tuples import Tuple, View, type_of


def users_of(
    model: Model,
    conditions: Conditions,
    view: View,
    object_: str,
    relation: str,
    user_filters: Sequence[str],
    context: Mapping[str, object],
) -> frozenset[str]:
    """Whoever the tuples on the way from the object name and of whom a check is true.

    Raises `ConditionFailed` when any condition on the way fails, `TooDeep` when a check is.
    """
    walk = _Walk(Query(model, conditions, view, f"{type_of(object_)}:*", context), frozenset(user_filters))
    walk.from_(object_, relation)
    users = []
    for candidate in walk.candidates:
        query = Query(model, conditions, view, candidate, context)
        outcome = Forward(query).node(object_, relation)
        if outcome.truth is Truth.UNKNOWN:
            raise query.failure or TooDeep("no answer")
        if outcome.truth is Truth.YES:
            users.append(candidate)
    return frozenset(users)


class _Walk:
    """Collects candidates: whoever is named anywhere on the way, on either side of an exclusion."""

    def __init__(self, query: Query, filters: frozenset[str]) -> None:
        self._query = query
        self._filters = filters
        self.candidates: set[str] = set()

    def from_(self, object_: str, relation: str) -> None:
        """Visit every node that the object's relation leads to, each once."""
        seen = {(object_, relation)}
        pending = [(object_, relation)]
        while pending:
            node = pending.pop()
            if f"{type_of(node[0])}#{node[1]}" in self._filters:
                self.candidates.add(f"{node[0]}#{node[1]}")
            for other in self._node(*node):
                if other not in seen:
                    seen.add(other)
                    pending.append(other)

    def _node(self, object_: str, relation: str) -> list[tuple[str, str]]:
        declared = self._query.model.relation(type_of(object_), relation)
        following: list[tuple[str, str]] = []
        pending = [declared.rewrite] if declared is not None else []
        while pending:
            match pending.pop():
                case This():
                    for each in self._query.view.users(object_, relation):
                        if type_of(each.user) in self._filters and self._holds(each):
                            self.candidates.add(each.user)
                    for each in self._query.view.usersets(object_, relation):
                        if self._holds(each):
                            name, _, held = each.user.partition("#")
                            following.append((name, held))
                case Computed(other):
                    following.append((object_, other))
                case TupleToUserset(tupleset, other):
                    parents = self._query.view.users(object_, tupleset)
                    following += [(each.user, other) for each in parents if self._holds(each)]
                case Union(children) | Intersection(children):
                    pending += children
                case Exclusion(base, subtract):
                    pending += (base, subtract)
        return following

    def _holds(self, tuple_: Tuple) -> bool:
        truth = self._query.holds(tuple_)
        if truth is Truth.UNKNOWN:
            assert self._query.failure is not None
            raise self._query.failure
        return truth is Truth.YES
