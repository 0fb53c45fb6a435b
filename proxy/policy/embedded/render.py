"""Model -> the OpenFGA configuration language, laid out as OpenFGA's own transformer does."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TypeVar

from proxy.policy.embedded.errors import InvalidModel, Problem
from proxy.policy.embedded.model import (
    Computed,
    Condition,
    Exclusion,
    Intersection,
    Model,
    Relation,
    Rewrite,
    This,
    TupleToUserset,
    TypeDefinition,
    Union,
    leaves,
)

_Sourced = TypeVar("_Sourced", TypeDefinition, Relation, Condition)


def to_dsl(model: Model, *, source_info: bool = False) -> str:
    """The model's text. Relations and conditions are sorted by name, in a modular model by module first.

    `source_info` adds comments that tell the module and file of each part. Raises `InvalidModel` for what
    the language cannot say: direct assignment anywhere but once, in the first place.
    """
    types: Sequence[TypeDefinition] = model.types
    if any(definition.module for definition in types):
        types = sorted(types, key=_order)
    blocks = [f"model\n  schema {model.schema}\n"]
    blocks += [_type(definition, source_info) for definition in types]
    blocks += [_condition(each, source_info) for each in sorted(model.conditions.values(), key=_order)]
    return "\n".join(blocks)


def _order(part: _Sourced) -> tuple[str, str, str]:
    return part.module or "", part.file or "", part.name


def _source(part: _Sourced, source_info: bool, lead: str = "") -> str:
    if not source_info or not part.module:
        return ""
    return f" # {lead}module: {part.module}, file: {part.file}"


def _type(definition: TypeDefinition, source_info: bool) -> str:
    lines = [f"type {definition.name}{_source(definition, source_info)}"]
    if definition.relations:
        lines.append("  relations")
    for relation in sorted(definition.relations.values(), key=_order):
        if not _can_be_said(relation.rewrite):
            raise InvalidModel(
                [
                    Problem(
                        f"the '{relation.name}' relation definition under the '{definition.name}' type is "
                        "not supported by the OpenFGA DSL syntax yet",
                        "unsupported-dsl-nesting",
                        relation.span,
                        relation.file or definition.file,
                    )
                ]
            )
        text = _rewrite(relation.rewrite, relation)
        source = _source(relation, source_info, "extended by: ")
        lines.append(f"    define {relation.name}: {text}{source}")
    return "\n".join(lines) + "\n"


def _direct(rewrite: Rewrite) -> int:
    return sum(isinstance(leaf, This) for leaf in leaves(rewrite))


def _can_be_said(rewrite: Rewrite) -> bool:
    """Whether direct assignment occurs once at most, and can be brought to the first place."""
    if _direct(rewrite) > 1:
        return False
    match rewrite:
        case Union(children) | Intersection(children):
            return all(_can_be_said(child) for child in children)
        case Exclusion(base, subtract):
            return _can_be_said(base) and not _direct(subtract)
        case _:
            return True


def _rewrite(rewrite: Rewrite, relation: Relation) -> str:
    match rewrite:
        case This():
            return "[" + ", ".join(str(each) for each in relation.restrictions) + "]"
        case Computed() | TupleToUserset():
            return str(rewrite)
        case Union(children):
            return _joined(" or ", children, relation)
        case Intersection(children):
            return _joined(" and ", children, relation)
        case Exclusion(base, subtract):
            return f"{_part(base, relation)} but not {_part(subtract, relation)}"


def _joined(operator: str, children: Sequence[Rewrite], relation: Relation) -> str:
    direct_first = sorted(children, key=lambda child: not _direct(child))
    return operator.join(_part(child, relation) for child in direct_first)


def _part(rewrite: Rewrite, relation: Relation) -> str:
    text = _rewrite(rewrite, relation)
    return f"({text})" if isinstance(rewrite, Union | Intersection | Exclusion) else text


def _condition(condition: Condition, source_info: bool) -> str:
    parameters = ", ".join(f"{name}: {kind}" for name, kind in sorted(condition.parameters.items()))
    source = _source(condition, source_info)
    return f"condition {condition.name}({parameters}) {{\n  {condition.expression}\n}}{source}\n"
