"""Model <-> the JSON of OpenFGA's API (WriteAuthorizationModel, `fga model transform`)."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from proxy.policy.embedded.errors import InvalidModel, Problem
from proxy.policy.embedded.model import (
    GENERIC_TYPES,
    PARAMETER_TYPES,
    Computed,
    Condition,
    Exclusion,
    Intersection,
    Model,
    ParameterType,
    Relation,
    Rewrite,
    This,
    TupleToUserset,
    TypeDefinition,
    TypeRestriction,
    Union,
)

_MAX_DEPTH = 50
_TYPE_NAME = "TYPE_NAME_"


def to_json(model: Model) -> dict[str, Any]:
    """The model as the API takes it; types and relations in their order."""
    document: dict[str, Any] = {"schema_version": model.schema}
    if model.types:
        document["type_definitions"] = [_type_to_json(definition) for definition in model.types]
    if model.conditions:
        document["conditions"] = {
            condition.name: _condition_to_json(condition) for condition in model.conditions.values()
        }
    return document


def _source(module: str | None, file: str | None) -> dict[str, Any]:
    source: dict[str, Any] = {"module": module} if module else {}
    return source | {"source_info": {"file": file}} if file else source


def _type_to_json(definition: TypeDefinition) -> dict[str, Any]:
    metadata = _source(definition.module, definition.file)
    if definition.relations:
        metadata["relations"] = {
            relation.name: {
                "directly_related_user_types": [
                    _restriction_to_json(restriction) for restriction in relation.restrictions
                ],
                **_source(relation.module, relation.file),
            }
            for relation in definition.relations.values()
        }
    return {
        "type": definition.name,
        "relations": {
            relation.name: rewrite_to_json(relation.rewrite) for relation in definition.relations.values()
        },
        "metadata": metadata or None,
    }


def _restriction_to_json(restriction: TypeRestriction) -> dict[str, Any]:
    value: dict[str, Any] = {"type": restriction.type}
    if restriction.relation:
        value["relation"] = restriction.relation
    if restriction.wildcard:
        value["wildcard"] = {}
    if restriction.condition:
        value["condition"] = restriction.condition
    return value


def rewrite_to_json(rewrite: Rewrite) -> dict[str, Any]:
    """A rewrite as the API's Userset."""
    match rewrite:
        case This():
            return {"this": {}}
        case Computed(relation):
            return {"computedUserset": {"relation": relation}}
        case TupleToUserset(tupleset, relation):
            return {
                "tupleToUserset": {
                    "tupleset": {"relation": tupleset},
                    "computedUserset": {"relation": relation},
                }
            }
        case Union(children):
            return {"union": {"child": [rewrite_to_json(child) for child in children]}}
        case Intersection(children):
            return {"intersection": {"child": [rewrite_to_json(child) for child in children]}}
        case Exclusion(base, subtract):
            return {"difference": {"base": rewrite_to_json(base), "subtract": rewrite_to_json(subtract)}}


def _condition_to_json(condition: Condition) -> dict[str, Any]:
    value: dict[str, Any] = {
        "name": condition.name,
        "expression": condition.expression,
        "parameters": {name: _parameter_to_json(kind) for name, kind in condition.parameters.items()},
    }
    source = _source(condition.module, condition.file)
    return value | {"metadata": source} if source else value


def _parameter_to_json(kind: ParameterType) -> dict[str, Any]:
    value: dict[str, Any] = {"type_name": _TYPE_NAME + kind.name.upper()}
    if kind.of:
        value["generic_types"] = [{"type_name": _TYPE_NAME + kind.of.upper()}]
    return value


def from_json(document: Mapping[str, Any]) -> Model:
    """The model of an API document. Raises `InvalidModel` where the document has no such shape."""
    try:
        types = tuple(_type_from_json(each) for each in document.get("type_definitions") or ())
        conditions = {
            key: _condition_from_json(key, each) for key, each in (document.get("conditions") or {}).items()
        }
        return Model(_text(document.get("schema_version") or ""), types, conditions)
    except (KeyError, TypeError, AttributeError, ValueError, RecursionError) as error:
        raise InvalidModel([Problem(f"not an authorization model: {error}", "syntax")]) from error


def _text(value: object) -> str:
    if not isinstance(value, str):
        raise ValueError(f"expected a string, found {value!r:.80}")
    return value


def _text_or_none(value: object) -> str | None:
    return _text(value) if value else None


def _source_from_json(metadata: Mapping[str, Any]) -> tuple[str | None, str | None]:
    source = metadata.get("source_info") or {}
    return _text_or_none(metadata.get("module")), _text_or_none(source.get("file"))


def _type_from_json(value: Mapping[str, Any]) -> TypeDefinition:
    metadata = value.get("metadata") or {}
    described = metadata.get("relations") or {}
    relations: dict[str, Relation] = {}
    for name, rewrite in (value.get("relations") or {}).items():
        about = described.get(name) or {}
        restrictions = tuple(
            _restriction_from_json(each) for each in about.get("directly_related_user_types") or ()
        )
        relations[name] = Relation(name, rewrite_from_json(rewrite), restrictions, *_source_from_json(about))
    return TypeDefinition(_text(value["type"]), relations, *_source_from_json(metadata))


def _restriction_from_json(value: Mapping[str, Any]) -> TypeRestriction:
    return TypeRestriction(
        _text(value["type"]),
        _text_or_none(value.get("relation")),
        "wildcard" in value,
        _text_or_none(value.get("condition")),
    )


def rewrite_from_json(value: Mapping[str, Any], depth: int = 0) -> Rewrite:
    """The rewrite of an API Userset. Raises ValueError for none that is known, or too many in each other."""
    if depth > _MAX_DEPTH:
        raise ValueError(f"more than {_MAX_DEPTH} rewrites in each other")
    match value:
        case {"computedUserset": {"relation": relation}}:
            return Computed(_text(relation))
        case {
            "tupleToUserset": {"tupleset": {"relation": tupleset}, "computedUserset": {"relation": relation}}
        }:
            return TupleToUserset(_text(tupleset), _text(relation))
        case {"union": {"child": children}}:
            return Union(tuple(rewrite_from_json(child, depth + 1) for child in children))
        case {"intersection": {"child": children}}:
            return Intersection(tuple(rewrite_from_json(child, depth + 1) for child in children))
        case {"difference": {"base": base, "subtract": subtract}}:
            return Exclusion(rewrite_from_json(base, depth + 1), rewrite_from_json(subtract, depth + 1))
        case {"this": _}:
            return This()
    raise ValueError(f"no rewrite: {value!r:.80}")


def _condition_from_json(key: str, value: Mapping[str, Any]) -> Condition:
    parameters = {name: _parameter_from_json(kind) for name, kind in (value.get("parameters") or {}).items()}
    module, file = _source_from_json(value.get("metadata") or {})
    return Condition(_text(value["name"]), parameters, _text(value["expression"]), module, file, key=key)


def _parameter_from_json(value: Mapping[str, Any]) -> ParameterType:
    generic = value.get("generic_types") or ()
    name, of = _type_name(value), _type_name(generic[0]) if generic else None
    if (name in GENERIC_TYPES) is not (of is not None) or of in GENERIC_TYPES:
        raise ValueError(f"not a parameter type: {value!r:.80}")
    return ParameterType(name, of)


def _type_name(value: Mapping[str, Any]) -> str:
    name = _text(value["type_name"]).removeprefix(_TYPE_NAME).lower()
    if name not in PARAMETER_TYPES:
        raise ValueError(f"not a parameter type: {name!r:.80}")
    return name
