"""Request bodies that decide something: what they say about classes, collections and objects. Pure."""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from proxy.errors import BadRequest

AUTH_CLASSES = "auth_classes"
MOST_MEMBERS = 1000
MOST_IDS = 1000
WATCHED: Mapping[str, str] = {
    "flow_ids": "flow",
    "source_ids": "source",
    "flow_collected_by_ids": "flow",
    "source_collected_by_ids": "source",
}
"""The lists of ids in a webhook, and what they are ids of."""
_CLASS = re.compile(r"[A-Za-z0-9_.-]{1,128}")


def classes_in(value: object) -> frozenset[str]:
    """The classes of a tag value: a string counts as a list of one. Raises `BadRequest`."""
    values = [value] if isinstance(value, str) else value
    if not isinstance(values, list) or not all(isinstance(v, str) and _CLASS.fullmatch(v) for v in values):
        raise BadRequest(
            "`auth_classes` must be a class or a list of classes, each 1 to 128 of A-Z a-z 0-9 _ . -"
        )
    return frozenset(values)


def document_of(body: object) -> dict[str, Any]:
    """A body that must be a JSON object. Raises `BadRequest`."""
    if not isinstance(body, dict):
        raise BadRequest("The body must be a JSON object.")
    return body


def tags_of(document: Mapping[str, Any]) -> dict[str, Any]:
    """The tags of a document, none where it has none. Raises `BadRequest`."""
    tags = document.get("tags", {})
    if not isinstance(tags, dict):
        raise BadRequest("`tags` must be an object.")
    return tags


def given_classes(document: Mapping[str, Any]) -> frozenset[str] | None:
    """The classes that a document names, None where it says nothing of them. Raises `BadRequest`."""
    tags = tags_of(document)
    return classes_in(tags[AUTH_CLASSES]) if AUTH_CLASSES in tags else None


def with_classes(document: Mapping[str, Any], classes: frozenset[str]) -> dict[str, Any]:
    """A copy of the document with these classes."""
    return {**document, "tags": {**tags_of(document), AUTH_CLASSES: sorted(classes)}}


def members_of(items: object) -> list[dict[str, Any]]:
    """Collection items, each with an id. Raises `BadRequest`."""
    if not isinstance(items, list) or not all(
        isinstance(item, dict) and isinstance(item.get("id"), str) for item in items
    ):
        raise BadRequest("A collection must be a list of objects with an `id`.")
    if len(items) > MOST_MEMBERS:
        raise BadRequest(f"A collection must have at most {MOST_MEMBERS} members.")
    return items


def watched_ids(document: Mapping[str, Any]) -> list[tuple[str, str]]:
    """What a webhook asks to be told about, by kind and id. Raises `BadRequest`."""
    found = []
    for name, kind in WATCHED.items():
        ids = document.get(name, [])
        if not isinstance(ids, list) or not all(isinstance(id, str) for id in ids):
            raise BadRequest(f"`{name}` must be a list of ids.")
        if len(ids) > MOST_IDS:
            raise BadRequest(f"`{name}` must have at most {MOST_IDS} ids.")
        found += [(kind, id) for id in ids]
    return found


@dataclass(frozen=True, slots=True)
class Use:
    """The use of objects by one segment of a body. `brings_urls`: it says itself where the bytes are.
    `problem`: why the segment cannot be looked at any further."""

    object_id: str
    init_object_id: str | None
    brings_urls: bool
    timerange: str | None
    problem: str | None = None


_TIMESTAMP = "-?(0|[1-9][0-9]*):(0|[1-9][0-9]{0,8})"
_TIMERANGE = re.compile(rf"[\[(]?({_TIMESTAMP})?(_({_TIMESTAMP})?)?[\])]?")


def uses_of(body: object, most: int) -> list[Use]:
    """What objects the segments of a body use. Raises `BadRequest` for what are no segments, or are more
    than `most`."""
    items = body if isinstance(body, list) else [body]
    if not items:
        raise BadRequest("The list of segments is empty.")
    if len(items) > most:
        raise BadRequest(f"At most {most} segments can be registered at once.")
    return [_use(item) for item in items]


def _use(item: object) -> Use:
    if not isinstance(item, dict) or not isinstance(item.get("object_id"), str):
        raise BadRequest("Every segment must be an object with an `object_id` that is a string.")
    init, timerange = item.get("init_object_id"), item.get("timerange")
    problem = None if init is None or isinstance(init, str) else "`init_object_id` must be a string."
    told = timerange if isinstance(timerange, str) and _TIMERANGE.fullmatch(timerange) else None
    return Use(
        item["object_id"], init if isinstance(init, str) else None, bool(item.get("get_urls")), told, problem
    )
