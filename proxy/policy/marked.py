"""YAML whose values know their line, read as fast as libyaml reads."""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import Any

import yaml

_LOADER: Any = getattr(yaml, "CSafeLoader", yaml.SafeLoader)
_MAX_DEPTH = 20
_INTEGER = re.compile(r"[-+]?[0-9]+")
_NUMBER = re.compile(r"[-+]?(\.[0-9]+|[0-9]+(\.[0-9]*)?)([eE][-+]?[0-9]+)?")
_WORDS: dict[str, object] = {"": None, "~": None, "null": None, "Null": None, "NULL": None}
_WORDS |= dict.fromkeys(("true", "True", "TRUE"), True) | dict.fromkeys(("false", "False", "FALSE"), False)


class NotYaml(ValueError):
    """The text is no YAML, or says something twice. `line` counts from 1, 0 where it is not known."""

    def __init__(self, line: int, what: str) -> None:
        super().__init__(what)
        self.line = line


@dataclass(frozen=True, slots=True)
class Marked:
    """A scalar, a list of `Marked` or a dict of texts to `Marked`, and the line (from 1) it begins on; a
    value in a dict has its key's line."""

    value: Any
    line: int

    def plain(self) -> Any:
        """The value without the lines."""
        if isinstance(self.value, list):
            return [each.plain() for each in self.value]
        if isinstance(self.value, dict):
            return {key: each.plain() for key, each in self.value.items()}
        return self.value


def read(text: str) -> Marked:
    """The document of a text; an empty one is None. Raises `NotYaml`.

    Scalars are those of YAML 1.2's core schema: `yes` and a time are texts.
    """
    try:
        node = yaml.compose(text, Loader=_LOADER)
    except yaml.MarkedYAMLError as exc:
        line = exc.problem_mark.line + 1 if exc.problem_mark else 0
        raise NotYaml(line, str(exc.problem)) from exc
    except yaml.YAMLError as exc:
        raise NotYaml(0, " ".join(str(exc).split())) from exc
    return Marked(None, 1) if node is None else _marked(node, 0)


def _marked(node: Any, depth: int, line: int | None = None) -> Marked:
    at = node.start_mark.line + 1 if line is None else line
    if depth > _MAX_DEPTH:
        raise NotYaml(at, f"more than {_MAX_DEPTH} levels")
    if isinstance(node, yaml.SequenceNode):
        return Marked([_marked(each, depth + 1) for each in node.value], at)
    if isinstance(node, yaml.MappingNode):
        return Marked(_mapping(node, depth), at)
    return Marked(node.value if node.style else _scalar(node.value), at)


def _mapping(node: Any, depth: int) -> dict[str, Marked]:
    found: dict[str, Marked] = {}
    for key, value in node.value:
        line = key.start_mark.line + 1
        if not isinstance(key, yaml.ScalarNode):
            raise NotYaml(line, "a key must be a text")
        if key.value in found:
            raise NotYaml(line, f"the key {key.value!r} stands here twice")
        found[key.value] = _marked(value, depth + 1, line)
    return found


def _scalar(text: str) -> object:
    if text in _WORDS:
        return _WORDS[text]
    if _INTEGER.fullmatch(text):
        return int(text)
    return float(text) if _NUMBER.fullmatch(text) else text
