"""From a user to its objects: all objects of a type that a user holds a relation to, as sets.

The sets of the relations that the question leans on are built in turn, each from the tuples of the user and
of the usersets found before, so the work grows with what the user has rather than with what there is. The
answers are those of `forward`: the same three truths, the same count of hops.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, field

from proxy.policy.embedded.errors import TooDeep
from proxy.policy.embedded.forward import MAX_HOPS, Forward, Query, Truth
from proxy.policy.embedded.model import (
    Computed,
    Exclusion,
    Intersection,
    Rewrite,
    This,
    TupleToUserset,
    Union,
)
from proxy.policy.embedded.shape import Component, Node, Shape
from proxy.policy.embedded.tuples import Tuple, type_of


@dataclass(slots=True)
class Reach:
    """Objects the user holds a relation to, with the hops of the shortest proof; and those not known."""

    hops: dict[str, int] = field(default_factory=dict)
    unknown: set[str] = field(default_factory=set)

    def offer(self, object_: str, hops: int) -> None:
        """Add a proof for an object."""
        known = self.hops.get(object_)
        if known is None or hops < known:
            self.hops[object_] = hops

    def settled(self) -> Reach:
        """The same, with nothing both held and unknown."""
        self.unknown.difference_update(self.hops)
        return self


class Reverse:
    """Builds the sets of one query."""

    def __init__(self, query: Query, shape: Shape) -> None:
        self._query = query
        self._shape = shape
        self._forward = Forward(query)
        self._sets: dict[Node, Reach] = {}
        name, _, relation = query.user.partition("#")
        self._self = (type_of(name), relation, name) if relation else None

    def objects(self, type_name: str, relation: str) -> Reach:
        """The objects of the type that the user holds the relation to."""
        components = self._shape.beneath([(type_name, relation)])
        if not all(component.stratified for component in components):
            return self._one_by_one(type_name, relation)
        for component in components:
            self._build(component)
        return self._sets[type_name, relation]

    def _one_by_one(self, type_name: str, relation: str) -> Reach:
        """By asking of each object: where an exclusion leans on itself there is no other order."""
        reach = Reach()
        candidates = set(self._query.view.objects(type_name))
        if self._self is not None and self._self[0] == type_name:
            candidates.add(self._self[2])
        for object_ in candidates:
            outcome = Forward(self._query).node(object_, relation)
            if outcome.truth is Truth.YES:
                reach.hops[object_] = outcome.hops
            elif outcome.truth is Truth.UNKNOWN:
                reach.unknown.add(object_)
        return reach

    def _build(self, component: Component) -> None:
        if component.nodes[0] in self._sets:
            return
        for node in component.nodes:
            self._sets[node] = Reach()
        while True:
            built = {node: self._node(node) for node in component.nodes}
            changed = any(built[node] != self._sets[node] for node in component.nodes)
            self._sets.update(built)
            if not component.recursive or not changed:
                return

    def _node(self, node: Node) -> Reach:
        declared = self._query.model.relation(*node)
        reach = Reach() if declared is None else self._expression(declared.rewrite, node)
        if self._self is not None and self._self[:2] == node:
            reach = Reach({**reach.hops, self._self[2]: 0}, set(reach.unknown))
        return reach.settled()

    def _expression(self, rewrite: Rewrite, node: Node) -> Reach:
        match rewrite:
            case This():
                return self._this(node)
            case Computed(other):
                return self._sets.get((node[0], other)) or Reach()
            case TupleToUserset(tupleset, other):
                return self._tuple_to_userset(node[0], tupleset, other)
            case Union(children):
                return _any_of([self._expression(child, node) for child in children])
            case Intersection(children):
                return _all_of([self._expression(child, node) for child in children])
            case Exclusion(base, subtract):
                return self._exclusion(base, subtract, node)

    def _this(self, node: Node) -> Reach:
        type_name, relation = node
        reach = Reach()
        view, query = self._query.view, self._query
        for user in (query.user, query.wildcard):
            if user is not None:
                self._collect(reach, view.grants(user, relation, type_name), 0, Truth.YES)
        for other, held in self._shape.usersets(type_name, relation):
            self._beyond(reach, (other, held), relation, type_name, f"#{held}")
        return reach.settled()

    def _tuple_to_userset(self, type_name: str, tupleset: str, relation: str) -> Reach:
        reach = Reach()
        for parent in self._shape.parents(type_name, tupleset, relation):
            self._beyond(reach, (parent, relation), tupleset, type_name, "")
        return reach.settled()

    def _beyond(self, reach: Reach, node: Node, relation: str, type_name: str, suffix: str) -> None:
        """Add what is one hop from the objects of a set: those whose tuples name them, with the suffix."""
        held = self._sets.get(node)
        if held is None:
            return
        for object_, hops in held.hops.items():
            tuples = self._query.view.grants(object_ + suffix, relation, type_name)
            self._collect(reach, tuples, hops + 1, Truth.YES)
        for object_ in held.unknown:
            tuples = self._query.view.grants(object_ + suffix, relation, type_name)
            self._collect(reach, tuples, 1, Truth.UNKNOWN)

    def _collect(self, reach: Reach, tuples: Iterable[Tuple], hops: int, truth: Truth) -> None:
        for each in tuples:
            held = Truth.YES if each.condition is None else self._query.holds(each)
            if held is Truth.NO:
                continue
            if hops >= MAX_HOPS:
                self._query.fail(TooDeep(f"{each.object}#{each.relation} lies {MAX_HOPS} hops or more away"))
                reach.unknown.add(each.object)
            elif held is Truth.YES and truth is Truth.YES:
                reach.offer(each.object, hops)
            else:
                reach.unknown.add(each.object)

    # Exclusions

    def _exclusion(self, base: Rewrite, subtract: Rewrite, node: Node) -> Reach:
        kept, taken = self._expression(base, node), self._expression(subtract, node)
        if self._may_run_in_circles(subtract, node):
            return self._exclude_one_by_one(kept, subtract, node)
        reach = Reach()
        for object_, hops in kept.hops.items():
            if object_ in taken.unknown:
                reach.unknown.add(object_)
            elif object_ not in taken.hops:
                reach.hops[object_] = hops
        reach.unknown.update(object_ for object_ in kept.unknown if object_ not in taken.hops)
        return reach

    def _exclude_one_by_one(self, kept: Reach, subtract: Rewrite, node: Node) -> Reach:
        reach = Reach()
        for object_ in [*kept.hops, *kept.unknown]:
            taken = self._forward.expression(subtract, object_, node[1])
            if taken.cycle or taken.truth is Truth.YES:
                continue
            if taken.truth is Truth.UNKNOWN or object_ in kept.unknown:
                reach.unknown.add(object_)
            else:
                reach.hops[object_] = max(kept.hops[object_], taken.hops)
        return reach

    def _may_run_in_circles(self, subtract: Rewrite, node: Node) -> bool:
        """Whether going forward along the subtracted side could meet a cycle, or the limit of hops.

        Either shows only on the way forward: it lies with tuples that never reach the user.
        """
        components = self._shape.beneath(self._shape.leans_on(subtract, *node))
        hops = len(components)
        for component in components:
            if component.recursive:
                longest = self._longest_chain(component)
                if longest is None:
                    return True
                hops += longest
        return hops >= MAX_HOPS

    def _longest_chain(self, component: Component) -> int | None:
        """The longest chain of tuples inside a component; None when one runs in a circle."""
        inside = set(component.nodes)
        follows: dict[Node, list[Node]] = {}
        for type_name, relation in component.nodes:
            for object_ in self._query.view.objects(type_name):
                follows[object_, relation] = self._follows(object_, relation, inside)
        return _longest(follows)

    def _follows(self, object_: str, relation: str, inside: set[Node]) -> list[Node]:
        declared = self._query.model.relation(type_of(object_), relation)
        following: list[Node] = []
        pending = [declared.rewrite] if declared is not None else []
        while pending:
            match pending.pop():
                case This():
                    for each in self._query.view.usersets(object_, relation):
                        name, _, held = each.user.partition("#")
                        following.append((name, held))
                case Computed(other):
                    following.append((object_, other))
                case TupleToUserset(tupleset, other):
                    following += [(each.user, other) for each in self._query.view.users(object_, tupleset)]
                case Union(children) | Intersection(children):
                    pending += children
                case Exclusion(base, subtract):
                    pending += (base, subtract)
        return [(name, held) for name, held in following if (type_of(name), held) in inside]


def _any_of(parts: list[Reach]) -> Reach:
    reach = Reach()
    for part in parts:
        for object_, hops in part.hops.items():
            reach.offer(object_, hops)
        reach.unknown |= part.unknown
    return reach.settled()


def _all_of(parts: list[Reach]) -> Reach:
    reach = Reach()
    first, rest = parts[0], parts[1:]
    for object_ in [*first.hops, *first.unknown]:
        if all(object_ in part.hops for part in parts):
            reach.hops[object_] = max(part.hops[object_] for part in parts)
        elif all(object_ in part.hops or object_ in part.unknown for part in rest):
            reach.unknown.add(object_)
    return reach


def _longest(follows: dict[Node, list[Node]]) -> int | None:
    """The longest path of a graph in edges; None when it has a circle."""
    length: dict[Node, int] = {}
    on_path: set[Node] = set()
    for root in follows:
        pending = [(root, False)]
        while pending:
            node, done = pending.pop()
            if done:
                on_path.discard(node)
                after = [length[other] + 1 for other in follows.get(node, ())]
                length[node] = max(after, default=0)
            elif node in on_path:
                return None
            elif node not in length:
                on_path.add(node)
                pending.append((node, True))
                for other in follows.get(node, ()):
                    if other in on_path:
                        return None
                    pending.append((other, False))
    return max(length.values(), default=0)
