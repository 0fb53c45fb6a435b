"""Whether a model makes sense: OpenFGA's semantic rules, in its words (language package, `validateDSL`).

The rules come in stages as there: names and schema; what definitions refer to; duplicates; entry points. A
stage is only reached when those before found nothing.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from typing import TypeAlias

from proxy.policy.embedded.errors import Problem, Span
from proxy.policy.embedded.model import (
    Computed,
    Exclusion,
    Intersection,
    Model,
    Relation,
    Rewrite,
    This,
    TupleToUserset,
    TypeDefinition,
    TypeRestriction,
    Union,
    leaves,
)

SCHEMAS = frozenset({"1.1", "1.2"})

_TYPE_RULE = r"^[^:#@\*\s]{1,254}$"
_RELATION_RULE = r"^[^:#@\*\s]{1,50}$"
_RESERVED = frozenset({"self", "this"})
_START = Span(0, 0, 0)


def validate(model: Model) -> list[Problem]:
    """All problems of the first stage that finds any, and unused conditions; empty for a good model."""
    problems = list(_names(model))
    if not model.schema:
        return [*problems, Problem("schema version required", "schema-version-required", _START)]
    if model.schema not in SCHEMAS:
        return [*problems, Problem(f"invalid schema {model.schema}", "invalid-schema", model.schema_span)]
    problems += _files(model)
    if problems:
        return problems
    try:
        for stage in (_references, _duplicates, _entry_points):
            problems += stage(model)
            if problems:
                break
    except RecursionError:
        problems.append(Problem("definitions lie too deep in each other", "too-complex"))
    return [*problems, *_conditions(model)]


def _relations(model: Model) -> Iterator[tuple[TypeDefinition, Relation]]:
    for definition in model.types:
        for relation in definition.relations.values():
            yield definition, relation


def _file(definition: TypeDefinition, relation: Relation) -> str | None:
    return relation.file or definition.file


# Names


def _names(model: Model) -> Iterator[Problem]:
    for definition in model.types:
        name = definition.name
        place = (definition.span, definition.file)
        if name in _RESERVED:
            yield Problem("a type cannot be named 'self' or 'this'.", "reserved-type-keywords", *place)
        if not re.fullmatch(_TYPE_RULE, name):
            yield Problem(
                f"type '{name}' does not match naming rule: '{_TYPE_RULE}'.", "invalid-name", *place
            )
        for relation in definition.relations.values():
            yield from _relation_name(definition, relation)


def _relation_name(definition: TypeDefinition, relation: Relation) -> Iterator[Problem]:
    place = (relation.span, _file(definition, relation))
    if relation.name in _RESERVED:
        yield Problem("a relation cannot be named 'self' or 'this'.", "reserved-relation-keywords", *place)
    if not re.fullmatch(_RELATION_RULE, relation.name):
        yield Problem(
            f"relation '{relation.name}' of type '{definition.name}' does not match naming rule: "
            f"'{_RELATION_RULE}'.",
            "invalid-name",
            *place,
        )


def _files(model: Model) -> Iterator[Problem]:
    sources = [(definition.file, definition.module) for definition in model.types]
    sources += [(relation.file, relation.module) for _, relation in _relations(model)]
    sources += [(condition.file, condition.module) for condition in model.conditions.values()]
    modules: dict[str, dict[str, None]] = {}
    for file, module in sources:
        if file and module:
            modules.setdefault(file, {})[module] = None
    for file, names in modules.items():
        if len(names) > 1:
            yield Problem(
                f"file {file} would contain multiple module definitions ({', '.join(names)}) when "
                "transforming to DSL. Only one module can be defined per file.",
                "multiple-modules-in-file",
                file=file,
            )


# References


def _references(model: Model) -> Iterator[Problem]:
    for definition, relation in _relations(model):
        file = _file(definition, relation)
        for leaf in leaves(relation.rewrite):
            match leaf:
                case This():
                    yield from _restrictions(model, relation, file)
                case Computed(other):
                    if other not in definition.relations:
                        message = f"the relation `{other}` does not exist."
                        yield Problem(message, "missing-definition", leaf.span, file)
                case TupleToUserset():
                    yield from _tuple_to_userset(model, definition, leaf, file)


def _restrictions(model: Model, relation: Relation, file: str | None) -> Iterator[Problem]:
    if not relation.restrictions:
        message = f"assignable relation '{relation.name}' must have types"
        yield Problem(message, "assignable-relation-must-have-type", relation.span, file)
    for restriction in relation.restrictions:
        yield from _restriction(model, restriction, file)


def _restriction(model: Model, restriction: TypeRestriction, file: str | None) -> Iterator[Problem]:
    name, held = restriction.type, restriction.relation
    if name not in model.by_name:
        yield Problem(f"`{name}` is not a valid type.", "invalid-type", restriction.span, file)
    condition = restriction.condition
    if condition and condition not in model.conditions:
        yield Problem(
            f"`{condition}` is not a defined condition in the model.",
            "condition-not-defined",
            restriction.condition_span,
            file,
        )
    if held and restriction.wildcard:
        message = f"type restriction `{name}` cannot contain both wildcard and relation"
        yield Problem(message, "type-wildcard-relation", restriction.span, file)
    elif held and name in model.by_name and model.relation(name, held) is None:
        message = f"`{held}` is not a valid relation for `{name}`."
        yield Problem(message, "invalid-relation-type", restriction.span, file)


def _tuple_to_userset(
    model: Model, definition: TypeDefinition, leaf: TupleToUserset, file: str | None
) -> Iterator[Problem]:
    tupleset = definition.relations.get(leaf.tupleset)
    if tupleset is None:
        message = f"`{leaf.tupleset}` is not a valid relation for `{definition.name}`."
        yield Problem(message, "invalid-relation-type", leaf.span, file)
        return
    direct = isinstance(tupleset.rewrite, This)
    if not direct or any(each.relation or each.wildcard for each in tupleset.restrictions):
        message = f"`{leaf.tupleset}` relation used inside from allows only direct relation."
        yield Problem(message, "tupleuserset-not-direct", leaf.tupleset_span, file)
        return
    names = [each.type for each in tupleset.restrictions]
    if any(model.relation(name, leaf.relation) is not None for name in names):
        return
    for name in names:
        yield Problem(
            f"the `{leaf.relation}` relation definition on type `{definition.name}` is not valid: "
            f"`{leaf.relation}` does not exist on `{leaf.tupleset}`, which is of type `{name}`.",
            "invalid-relation-on-tupleset",
            leaf.span,
            file,
        )


# Duplicates


def _duplicates(model: Model) -> Iterator[Problem]:
    first: dict[str, TypeDefinition] = {}
    for definition in model.types:
        known = first.setdefault(definition.name, definition)
        if known is not definition:
            message = f"the type `{definition.name}` is a duplicate."
            yield Problem(message, "duplicated-error", known.span, known.file)
    for definition, relation in _relations(model):
        file = _file(definition, relation)
        yield from _duplicate_restrictions(relation, file)
        yield from _duplicate_parts(relation, file)


def _duplicate_restrictions(relation: Relation, file: str | None) -> Iterator[Problem]:
    first: dict[str, TypeRestriction] = {}
    for restriction in relation.restrictions:
        known = first.setdefault(str(restriction), restriction)
        if known is not restriction:
            message = (
                f"the type restriction `{restriction}` is a duplicate in the relation `{relation.name}`."
            )
            yield Problem(message, "duplicated-error", known.span, file)


def _duplicate_parts(relation: Relation, file: str | None) -> Iterator[Problem]:
    match relation.rewrite:
        case Union(children) | Intersection(children):
            parts = children
        case Exclusion(base, subtract):
            parts = (base, subtract)
        case _:
            return
    first: dict[str, Rewrite] = {}
    for part in parts:
        if isinstance(part, Computed | TupleToUserset):
            known = first.setdefault(str(part), part)
            if known is not part and isinstance(known, Computed | TupleToUserset):
                yield Problem(
                    f"the partial relation definition `{part}` is a duplicate in the relation "
                    f"`{relation.name}`.",
                    "duplicated-error",
                    known.span,
                    file,
                )


# Entry points


def _entry_points(model: Model) -> Iterator[Problem]:
    search = _EntryPoints(model)
    for definition, relation in _relations(model):
        entry, loop = (
            (False, True)
            if _computes_itself(definition, relation)
            else search.of(definition.name, relation, frozenset())
        )
        if not entry:
            why = "potential loop" if loop else "no entrypoint"
            yield Problem(
                f"`{relation.name}` is an impossible relation for `{definition.name}` ({why}).",
                "relation-no-entry-point",
                relation.span,
                _file(definition, relation),
            )


def _computes_itself(definition: TypeDefinition, relation: Relation) -> bool:
    """Whether computed relations of one object lead back to this one: OpenFGA's server refuses that."""
    seen: set[str] = set()
    pending = [relation]
    while pending:
        for leaf in leaves(pending.pop().rewrite):
            if isinstance(leaf, Computed) and leaf.relation not in seen:
                seen.add(leaf.relation)
                pending.append(definition.relations[leaf.relation])
    return relation.name in seen


Visited: TypeAlias = frozenset[tuple[str, str]]


class _EntryPoints:
    """Whether anyone could ever hold a relation; if not, whether that is for a loop of definitions."""

    def __init__(self, model: Model) -> None:
        self._model = model
        self._entered: set[tuple[str, str]] = set()

    def of(self, type_name: str, relation: Relation, visited: Visited) -> tuple[bool, bool]:
        node = (type_name, relation.name)
        if node in self._entered:
            return True, False
        entry, loop = self._rewrite(relation.rewrite, type_name, relation, visited | {node})
        if entry:
            self._entered.add(node)
        return entry, loop

    def _rewrite(
        self, rewrite: Rewrite, type_name: str, relation: Relation, visited: Visited
    ) -> tuple[bool, bool]:
        match rewrite:
            case This():
                return self._this(relation, visited), False
            case Computed(other):
                if (type_name, other) in visited:
                    return False, True
                declared = self._model.relation(type_name, other)
                return (False, False) if declared is None else self.of(type_name, declared, visited)
            case TupleToUserset(tupleset, other):
                declared = self._model.relation(type_name, tupleset)
                parents = declared.restrictions if declared is not None else ()
                return any(self._beyond(each.type, other, visited) for each in parents), False
            case Union(children):
                found = [self._rewrite(child, type_name, relation, visited) for child in children]
                entry = any(entry for entry, _ in found)
                return entry, not entry and any(loop for _, loop in found)
            case Intersection(children):
                return self._all(children, type_name, relation, visited)
            case Exclusion(base, subtract):
                return self._all((base, subtract), type_name, relation, visited)

    def _this(self, relation: Relation, visited: Visited) -> bool:
        return any(
            each.relation is None or self._beyond(each.type, each.relation, visited)
            for each in relation.restrictions
        )

    def _beyond(self, type_name: str, relation: str, visited: Visited) -> bool:
        declared = self._model.relation(type_name, relation)
        if declared is None or (type_name, relation) in visited:
            return False
        return self.of(type_name, declared, visited)[0]

    def _all(
        self,
        parts: tuple[Rewrite, ...],
        type_name: str,
        relation: Relation,
        visited: Visited,
    ) -> tuple[bool, bool]:
        for part in parts:
            entry, loop = self._rewrite(part, type_name, relation, visited)
            if not entry:
                return False, loop
        return True, False


# Conditions


def _conditions(model: Model) -> Iterator[Problem]:
    used = {each.condition for _, relation in _relations(model) for each in relation.restrictions}
    for name, condition in model.conditions.items():
        if name != condition.name:
            yield Problem(
                f"condition key is `{name}` but nested name property is {condition.name}",
                "different-nested-condition-name",
                condition.span,
                condition.file,
            )
        elif name not in used:
            message = f"`{name}` condition is not used in the model."
            yield Problem(message, "condition-not-used", condition.span, condition.file)
