"""How the relations of a model lean on each other, and in what order their sets can be built."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from typing import TypeAlias

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

Node: TypeAlias = tuple[str, str]
"""A type and one of its relations."""


@dataclass(frozen=True, slots=True)
class Component:
    """Relations that lean on each other in a circle, or a single one.

    `recursive`: there is a circle. `stratified`: no circle leads through the subtracted side of an
    exclusion, so that sets grow to one least fixpoint.
    """

    nodes: tuple[Node, ...]
    recursive: bool
    stratified: bool


class Shape:
    """The graph of a model's relations, and its components."""

    def __init__(self, model: Model) -> None:
        self._model = model
        self._edges: dict[Node, dict[Node, bool]] = {}
        for definition in model.types:
            for relation in definition.relations.values():
                edges: dict[Node, bool] = {}
                for node, negative in self._leans(relation.rewrite, definition.name, relation.name, False):
                    edges[node] = edges.get(node, False) or negative
                self._edges[definition.name, relation.name] = edges
        self._component: dict[Node, Component] = {}
        for nodes in _components(self._edges):
            self._add(nodes)

    def parents(self, type_name: str, tupleset: str, relation: str) -> list[str]:
        """The types that a tupleset may lead to and that have the relation."""
        declared = self._model.relation(type_name, tupleset)
        if declared is None:
            return []
        names = dict.fromkeys(each.type for each in declared.restrictions if each.relation is None)
        return [name for name in names if self._model.relation(name, relation) is not None]

    def usersets(self, type_name: str, relation: str) -> list[Node]:
        """The usersets that tuples of the relation may name."""
        declared = self._model.relation(type_name, relation)
        restrictions = declared.restrictions if declared is not None else ()
        nodes = dict.fromkeys((each.type, each.relation) for each in restrictions if each.relation)
        return [(name, other) for name, other in nodes if self._model.relation(name, other) is not None]

    def beneath(self, roots: Iterable[Node]) -> list[Component]:
        """The components that the roots lean on, their own included; each after those it leans on."""
        found: dict[Component, None] = {}
        seen: set[Node] = set()
        pending = [(node, False) for node in roots]
        while pending:
            node, done = pending.pop()
            if done:
                found.setdefault(self._component[node])
            elif node not in seen and node in self._component:
                component = self._component[node]
                seen.update(component.nodes)
                pending.append((node, True))
                pending += [(other, False) for each in component.nodes for other in self._edges[each]]
        return list(found)

    def leans_on(self, rewrite: Rewrite, type_name: str, relation: str) -> list[Node]:
        """The nodes that a rewrite of a relation names directly."""
        return [node for node, _ in self._leans(rewrite, type_name, relation, False)]

    def _leans(
        self, rewrite: Rewrite, type_name: str, relation: str, negative: bool
    ) -> list[tuple[Node, bool]]:
        match rewrite:
            case This():
                return [(node, negative) for node in self.usersets(type_name, relation)]
            case Computed(other):
                known = self._model.relation(type_name, other) is not None
                return [((type_name, other), negative)] if known else []
            case TupleToUserset(tupleset, other):
                return [((parent, other), negative) for parent in self.parents(type_name, tupleset, other)]
            case Union(children) | Intersection(children):
                return [
                    each for child in children for each in self._leans(child, type_name, relation, negative)
                ]
            case Exclusion(base, subtract):
                return self._leans(base, type_name, relation, negative) + self._leans(
                    subtract, type_name, relation, True
                )

    def _add(self, nodes: tuple[Node, ...]) -> None:
        inside = set(nodes)
        recursive = len(nodes) > 1 or nodes[0] in self._edges[nodes[0]]
        stratified = not any(
            negative and other in inside for node in nodes for other, negative in self._edges[node].items()
        )
        component = Component(nodes, recursive, stratified)
        for node in nodes:
            self._component[node] = component


def _components(edges: dict[Node, dict[Node, bool]]) -> list[tuple[Node, ...]]:
    """Strongly connected components (Tarjan), without recursion: models may be long chains."""
    index: dict[Node, int] = {}
    low: dict[Node, int] = {}
    stack: list[Node] = []
    on_stack: set[Node] = set()
    found: list[tuple[Node, ...]] = []
    for root in edges:
        if root in index:
            continue
        index[root] = low[root] = len(index)
        stack.append(root)
        on_stack.add(root)
        work = [(root, iter(edges[root]))]
        while work:
            node, following = work[-1]
            for other in following:
                if other not in index:
                    index[other] = low[other] = len(index)
                    stack.append(other)
                    on_stack.add(other)
                    work.append((other, iter(edges[other])))
                    break
                if other in on_stack:
                    low[node] = min(low[node], index[other])
            else:
                work.pop()
                if work:
                    low[work[-1][0]] = min(low[work[-1][0]], low[node])
                if low[node] == index[node]:
                    cut = stack.index(node)
                    found.append(tuple(stack[cut:]))
                    on_stack.difference_update(stack[cut:])
                    del stack[cut:]
    return found
