"""An authorization model as values: types, relations, rewrites, type restrictions, conditions.

Shapes and names are OpenFGA's (configuration language, schema 1.1 and 1.2). Spans tell where a value stood
in its text; they take no part in equality.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, field
from functools import cached_property
from typing import TypeAlias

from proxy.policy.embedded.errors import Span


@dataclass(frozen=True, slots=True)
class This:
    """Whoever a tuple names directly."""

    span: Span | None = field(default=None, compare=False)


@dataclass(frozen=True, slots=True)
class Computed:
    """Whoever holds `relation` on the same object."""

    relation: str
    span: Span | None = field(default=None, compare=False)

    def __str__(self) -> str:
        return self.relation


@dataclass(frozen=True, slots=True)
class TupleToUserset:
    """Whoever holds `relation` on an object that `tupleset` leads to: `relation from tupleset`."""

    tupleset: str
    relation: str
    span: Span | None = field(default=None, compare=False)
    tupleset_span: Span | None = field(default=None, compare=False)

    def __str__(self) -> str:
        return f"{self.relation} from {self.tupleset}"


@dataclass(frozen=True, slots=True)
class Union:
    """Any of the children."""

    children: tuple[Rewrite, ...]


@dataclass(frozen=True, slots=True)
class Intersection:
    """All of the children."""

    children: tuple[Rewrite, ...]


@dataclass(frozen=True, slots=True)
class Exclusion:
    """The base, but not the subtracted."""

    base: Rewrite
    subtract: Rewrite


Rewrite: TypeAlias = This | Computed | TupleToUserset | Union | Intersection | Exclusion


@dataclass(frozen=True, slots=True)
class TypeRestriction:
    """Who a tuple may name: `type`, `type:*` or `type#relation`, perhaps `with condition`."""

    type: str
    relation: str | None = None
    wildcard: bool = False
    condition: str | None = None
    span: Span | None = field(default=None, compare=False)
    condition_span: Span | None = field(default=None, compare=False)

    @property
    def target(self) -> str:
        """The restriction without its condition, as the language writes it."""
        if self.wildcard:
            return f"{self.type}:*"
        return f"{self.type}#{self.relation}" if self.relation else self.type

    def __str__(self) -> str:
        return f"{self.target} with {self.condition}" if self.condition else self.target


@dataclass(frozen=True, slots=True)
class Relation:
    """A relation of a type. `module` and `file` are set where another module's `extend` brought it."""

    name: str
    rewrite: Rewrite
    restrictions: tuple[TypeRestriction, ...] = ()
    module: str | None = None
    file: str | None = None
    span: Span | None = field(default=None, compare=False)


@dataclass(frozen=True, slots=True)
class TypeDefinition:
    """A type and its relations by name, in the order of the text. `extends`: it adds to a type elsewhere."""

    name: str
    relations: dict[str, Relation]
    module: str | None = None
    file: str | None = None
    extends: bool = False
    span: Span | None = field(default=None, compare=False)


@dataclass(frozen=True, slots=True)
class ParameterType:
    """A type of the condition language: `string`, `int` ... ; `of` is the element type of a list or map."""

    name: str
    of: str | None = None

    def __str__(self) -> str:
        return f"{self.name}<{self.of}>" if self.of else self.name


@dataclass(frozen=True, slots=True)
class Condition:
    """A named CEL expression over declared parameters. `key`: its key in a JSON model."""

    name: str
    parameters: dict[str, ParameterType]
    expression: str
    module: str | None = None
    file: str | None = None
    key: str | None = None
    span: Span | None = field(default=None, compare=False)


@dataclass(frozen=True)
class Model:
    """An authorization model. `schema` is "" for a module's text, which states none."""

    schema: str
    types: tuple[TypeDefinition, ...]
    conditions: dict[str, Condition]
    schema_span: Span | None = field(default=None, compare=False)

    @cached_property
    def modules(self) -> tuple[str, ...]:
        """The modules that the model was combined from, sorted; none for a model of one text."""
        sources = [definition.module for definition in self.types]
        sources += [each.module for definition in self.types for each in definition.relations.values()]
        sources += [condition.module for condition in self.conditions.values()]
        return tuple(sorted({module for module in sources if module}))

    @cached_property
    def by_name(self) -> dict[str, TypeDefinition]:
        """The types by their names."""
        return {definition.name: definition for definition in self.types}

    def relation(self, type_name: str, relation: str) -> Relation | None:
        """The relation of the type, or None when either is unknown."""
        definition = self.by_name.get(type_name)
        return None if definition is None else definition.relations.get(relation)


def leaves(rewrite: Rewrite) -> Iterator[This | Computed | TupleToUserset]:
    """The parts of a rewrite that are no set operation, from left to right."""
    match rewrite:
        case Union(children) | Intersection(children):
            for child in children:
                yield from leaves(child)
        case Exclusion(base, subtract):
            yield from leaves(base)
            yield from leaves(subtract)
        case _:
            yield rewrite


PARAMETER_TYPES = frozenset(
    {"bool", "string", "int", "uint", "double", "duration", "timestamp", "ipaddress", "any", "list", "map"}
)
GENERIC_TYPES = frozenset({"list", "map"})
