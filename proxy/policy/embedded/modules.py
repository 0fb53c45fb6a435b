"""Modular models (schema 1.2): the `fga.mod` manifest, and modules combined into one model."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace
from pathlib import PurePosixPath
from urllib.parse import unquote

from ruamel.yaml import YAML
from ruamel.yaml.error import YAMLError
from ruamel.yaml.nodes import MappingNode, Node, ScalarNode, SequenceNode

from proxy.policy.embedded.dsl import Document, parse
from proxy.policy.embedded.errors import InvalidModel, Problem, Span
from proxy.policy.embedded.model import Condition, Model, Relation, TypeDefinition
from proxy.policy.embedded.validate import validate

_START = Span(0, 0, 0)
_STRING = "tag:yaml.org,2002:str"
_SCHEMA = "1.2"


@dataclass(frozen=True, slots=True)
class Located:
    """A string of the manifest and where it stands, quotes included."""

    value: str
    span: Span


@dataclass(frozen=True, slots=True)
class Manifest:
    """A parsed `fga.mod`: the schema, and the modules' files, relative to it."""

    schema: Located
    contents: tuple[Located, ...]


def parse_manifest(text: str) -> Manifest:
    """Parse an `fga.mod`. Raises `InvalidModel` with all its problems; no path can leave its folder."""
    try:
        root = YAML(typ="safe", pure=True).compose(text)
    except YAMLError as error:
        raise InvalidModel([Problem(f"not YAML: {error}", "syntax", _START)]) from error
    if not isinstance(root, MappingNode):
        raise InvalidModel([Problem("expected schema and contents", "syntax", _START)])
    fields = {key.value: value for key, value in root.value if isinstance(key, ScalarNode)}
    problems: list[Problem] = []
    schema = _schema(fields.get("schema"), problems)
    contents = _contents(fields.get("contents"), problems)
    if problems or schema is None:
        raise InvalidModel(problems)
    return Manifest(schema, contents)


def _span(node: Node) -> Span:
    return Span(node.start_mark.line, node.start_mark.column, node.end_mark.column)


def _schema(node: Node | None, problems: list[Problem]) -> Located | None:
    message = None
    if node is None:
        problems.append(Problem("missing schema field", "syntax", _START))
        return None
    if not isinstance(node, ScalarNode) or node.tag != _STRING:
        message = f"unexpected schema type, expected string got value {node.value}"
    elif node.value != _SCHEMA:
        message = f"unsupported schema version, fga.mod only supported in version `{_SCHEMA}`"
    if message:
        problems.append(Problem(message, "syntax", _span(node)))
        return None
    return Located(node.value, _span(node))


def _contents(node: Node | None, problems: list[Problem]) -> tuple[Located, ...]:
    if node is None:
        problems.append(Problem("missing contents field", "syntax", _START))
        return ()
    if not isinstance(node, SequenceNode):
        message = f"unexpected contents type, expected list of strings got value {node.value}"
        problems.append(Problem(message, "syntax", _span(node)))
        return ()
    found = []
    for item in node.value:
        fault = _item_fault(item)
        if fault:
            problems.append(Problem(fault, "syntax", _span(item)))
        else:
            found.append(Located(item.value, _span(item)))
    return tuple(found)


def _item_fault(item: Node) -> str | None:
    if not isinstance(item, ScalarNode) or item.tag != _STRING:
        return f"unexpected contents item type, expected string got value {item.value}"
    path = PurePosixPath(unquote(item.value).replace("\\", "/"))
    if path.is_absolute() or ".." in path.parts:
        return f"invalid contents item {item.value}"
    if path.suffix != ".fga":
        return f"contents items should use fga file extension, got {item.value}"
    return None


def combine(texts: Mapping[str, str], schema: str = _SCHEMA) -> Model:
    """One model of modules, given as texts by file name. Raises `InvalidModel` with the problems of all."""
    problems: list[Problem] = []
    documents = _documents(texts, problems)
    types: dict[str, TypeDefinition] = {}
    duplicates: list[TypeDefinition] = []
    conditions: dict[str, Condition] = {}
    for document in documents:
        for definition in document.model.types:
            if not definition.extends and types.setdefault(definition.name, definition) is not definition:
                duplicates.append(definition)
        for condition in document.model.conditions.values():
            if conditions.setdefault(condition.name, condition) is not condition:
                message = f"duplicate condition {condition.name}"
                problems.append(Problem(message, "duplicated-error", condition.span, condition.file))
    for document in documents:
        for definition in document.model.types:
            if definition.extends:
                _extend(types, definition, problems)
    model = Model(schema, (*types.values(), *duplicates), conditions)
    problems += validate(model)
    if problems:
        raise InvalidModel(problems)
    return model


def _documents(texts: Mapping[str, str], problems: list[Problem]) -> list[Document]:
    documents = []
    for file, text in texts.items():
        try:
            document = parse(text, file)
        except InvalidModel as invalid:
            problems += invalid.problems
            continue
        if document.module is None:
            problems.append(Problem("file is not a module", "syntax", _START, file))
        else:
            documents.append(document)
    return documents


def _extend(types: dict[str, TypeDefinition], extension: TypeDefinition, problems: list[Problem]) -> None:
    extended = types.get(extension.name)
    if extended is None:
        message = f"extended type {extension.name} does not exist"
        problems.append(Problem(message, "invalid-type", extension.span, extension.file))
        return
    added: dict[str, Relation] = {}
    for relation in extension.relations.values():
        if relation.name in extended.relations:
            message = f"relation {relation.name} already exists on type {extension.name}"
            problems.append(Problem(message, "duplicated-error", relation.span, extension.file))
        else:
            added[relation.name] = replace(relation, module=extension.module, file=extension.file)
    types[extension.name] = replace(extended, relations=extended.relations | added)
