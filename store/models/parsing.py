"""From a client's bytes to a model, or to one `BadRequest` that tells everything that is wrong."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from math import isinf
from typing import Any, Final, TypeVar, overload

import jiter
from pydantic import BaseModel, TypeAdapter, ValidationError

from store import errors
from store.models.common import FORMS, INT64_MAX, INT64_MIN, TAG_VALUE, TagValue, tag_problem
from store.models.segment import SEGMENT_POSTS, SegmentPost

MAX_DEPTH: Final = 64
MAX_PROPERTIES: Final = 4096
# What a request may cost while nobody else is served; ten thousand segments have half of it.
MAX_VALUES: Final = 500_000
MAX_PROBLEMS: Final = 10
MAX_SUMMARY: Final = 2000
_MAX_PIECE: Final = 64
_MAX_SHOWN: Final = 40
_MAX_REASON: Final = 200

M = TypeVar("M", bound=BaseModel)
T = TypeVar("T")

# Properties that may hold a credential: their values are never repeated to anyone.
_SECRET: Final = frozenset({"api_key_value", "url"})

_MESSAGES: Final[Mapping[str, str]] = {
    "missing": "is required",
    "extra_forbidden": "is not a property of this object",
    "string_too_short": "must not be empty",
    "string_too_long": "must be at most {max_length} characters",
    "too_long": "must have at most {max_length} items",
    "too_short": "must have at least {min_length} items",
    "union_tag_not_found": "is required",
}
# These repeat what was given, since it helps and is short.
_TYPE_MESSAGES: Final[Mapping[str, str]] = {
    "string_type": "must be a string",
    "string_unicode": "must be a string of valid characters",
    "whole": "{message}",
    "bool_type": "must be true or false",
    "list_type": "must be an array",
    "dict_type": "must be an object",
    "model_type": "must be an object",
    "model_attributes_type": "must be an object",
    "literal_error": "must be one of {expected}",
    "union_tag_invalid": "must be one of {expected_tags}",
}


def load(body: bytes) -> object:
    """The JSON document in `body`, strictly (RFC 8259, RFC 7493): UTF-8, each key once, no NaN or infinity,
    no lone surrogates, no NUL, integers of 64 bits, at most `MAX_DEPTH` levels and about `MAX_VALUES` values.
    Raises `BadRequest`."""
    if not body or body.isspace():
        raise errors.BadRequest("the body is empty; JSON was expected")
    # An upper bound that costs next to nothing; only commas within strings are counted in vain.
    if body.count(b",") + body.count(b"[") + body.count(b"{") > MAX_VALUES:
        raise errors.BadRequest(f"the body holds more than {MAX_VALUES} values")
    try:
        document: object = jiter.from_json(
            body, catch_duplicate_keys=True, allow_inf_nan=False, cache_mode="keys"
        )
    except ValueError as exc:
        raise errors.BadRequest(f"the body is not valid JSON: {_cut(str(exc), _MAX_REASON)}") from None
    _refuse_unsafe(document, may_hold_nul=b"\\u0000" in body)
    return document


def _refuse_unsafe(document: object, *, may_hold_nul: bool) -> None:
    """Refuse what is JSON and yet fits no store; level by level, so that depth costs no stack."""
    level: list[object] = [document]
    for depth in range(MAX_DEPTH + 1):
        below: list[object] = []
        for value in level:
            if isinstance(value, str):
                if may_hold_nul and "\0" in value:
                    raise errors.BadRequest("the body holds a NUL character")
            elif isinstance(value, int):
                if not INT64_MIN <= value <= INT64_MAX:
                    raise errors.BadRequest("the body holds an integer beyond 64 bits")
            elif isinstance(value, float):
                if isinf(value):
                    raise errors.BadRequest("the body holds a number that is too large")
            elif isinstance(value, dict | list):
                if depth == MAX_DEPTH:
                    raise errors.BadRequest(f"the body is nested deeper than {MAX_DEPTH} levels")
                below += value if isinstance(value, list) else _members(value, with_keys=may_hold_nul)
        if not below:
            return
        level = below


def _members(value: dict[str, object], *, with_keys: bool) -> list[object]:
    """What an object holds; one with more properties than any noun has is refused before it costs more."""
    if len(value) > MAX_PROPERTIES:
        raise errors.BadRequest(f"the body has an object of more than {MAX_PROPERTIES} properties")
    return [*value.values(), *value] if with_keys else [*value.values()]


@overload
def validate(model: type[M], document: object) -> M: ...
@overload
def validate(model: TypeAdapter[T], document: object) -> T: ...
def validate(model: type[M] | TypeAdapter[T], document: object) -> M | T:
    """The document as that model, without coercion. Raises `BadRequest` with every problem in one summary."""
    try:
        if isinstance(model, TypeAdapter):
            return model.validate_python(document)
        return model.model_validate(document)
    except ValidationError as exc:
        # The cause holds the input, which may hold secrets: it goes no further.
        raise errors.BadRequest(_summary(exc)) from None


def validate_segments(document: object) -> tuple[list[SegmentPost], bool]:
    """The segments of a POST, and whether they came as an array (TAMS 8.2 POST_flows-flowId-segments)."""
    if isinstance(document, list):
        return validate(SEGMENT_POSTS, document), True
    return [validate(SegmentPost, document)], False


def validate_tag(name: str, document: object) -> TagValue:
    """The value to set the tag `name` to, `auth_classes` checked as in a whole body. Raises `BadRequest`."""
    problem = tag_problem(name, document)
    if problem is not None:
        raise errors.BadRequest(problem)
    return validate(TAG_VALUE, document)


def _summary(exc: ValidationError) -> str:
    problems = exc.errors(include_url=False)
    told = [_problem(dict(problem)) for problem in problems[:MAX_PROBLEMS]]
    more = len(problems) - len(told)
    if more > 0:
        told.append(f"and {more} more")
    return _cut("; ".join(told), MAX_SUMMARY)


def _problem(problem: Mapping[str, Any]) -> str:
    kind, context = problem["type"], problem.get("ctx", {})
    path = [piece for piece in problem["loc"] if not _is_union_tag(piece)]
    if kind in ("union_tag_invalid", "union_tag_not_found"):
        path.append("format")
    where = _pointer(path)
    if kind in _MESSAGES:
        return f"{where} {_MESSAGES[kind].format(**context)}"
    if kind == "string_pattern_mismatch":
        message = FORMS.get(context["pattern"], f"must match {context['pattern']}")
    elif kind in _TYPE_MESSAGES:
        message = _TYPE_MESSAGES[kind].format(message=problem["msg"], **context)
    else:
        return f"{where}: {_cut(problem['msg'].removeprefix('Value error, '), _MAX_REASON)}"
    return f"{where} {message}{_given(problem, path)}"


def _is_union_tag(piece: str | int) -> bool:
    """Our unions' tags are in angle brackets, or are the formats; neither is a place in the document."""
    return isinstance(piece, str) and (piece[:1] == "<" or piece.startswith(("urn:x-nmos:", "urn:x-tam:")))


def _pointer(path: Sequence[str | int]) -> str:
    """RFC 6901, each piece bounded."""
    if not path:
        return "the body"
    pieces = (str(piece).replace("~", "~0").replace("/", "~1") for piece in path)
    return "".join(f"/{_cut(piece, _MAX_PIECE)}" for piece in pieces)


def _given(problem: Mapping[str, Any], path: Sequence[str | int]) -> str:
    if path and path[-1] in _SECRET:
        return ""
    value = problem["input"]
    if problem["type"] == "union_tag_invalid":
        value = problem["ctx"]["tag"]
    if isinstance(value, dict):
        return ", not an object"
    if isinstance(value, list):
        return ", not an array"
    if isinstance(value, str):
        value = _cut(value, _MAX_SHOWN)
    return f", not {_cut(json.dumps(value, ensure_ascii=False), _MAX_SHOWN + 5)}"


def _cut(text: str, limit: int) -> str:
    return text if len(text) <= limit else f"{text[: limit - 3]}..."
