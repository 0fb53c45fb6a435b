"""What decides, read from an upstream's JSON. Pure; what cannot be read is `BadUpstream`."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any

import orjson

from proxy.errors import BadUpstream
from proxy.upstream.protocol import Ref, View

Document = dict[str, Any]
Classes = frozenset[str]
PATHS = {
    "source": "/sources/{}",
    "flow": "/flows/{}",
    "profile": "/service/profiles/{}",
    "webhook": "/service/webhooks/{}",
    "deletion": "/flow-delete-requests/{}",
}
_COLLECTED = {"source": "source_collection", "flow": "flow_collection"}
NOBODYS = ""
"""A class that nobody can hold: stands for a class that cannot be read, so that it admits nobody."""


def parsed(body: bytes) -> Any:
    """JSON. Raises `BadUpstream`."""
    try:
        return orjson.loads(body)
    except orjson.JSONDecodeError:
        raise BadUpstream("The upstream's answer is not JSON.") from None


def document_in(body: bytes) -> Document:
    """A JSON object. Raises `BadUpstream`."""
    document = parsed(body)
    if not isinstance(document, dict):
        raise BadUpstream("The upstream's answer is not a JSON object.")
    return document


def list_in(body: bytes) -> list[Any]:
    """A JSON array. Raises `BadUpstream`."""
    items = parsed(body)
    if not isinstance(items, list):
        raise BadUpstream("The upstream's answer is not a JSON array.")
    return items


def resource_in(body: bytes, resource_id: str) -> Document:
    """A resource, which must be the one that was asked for. Raises `BadUpstream`."""
    document = document_in(body)
    if document.get("id") != resource_id:
        raise BadUpstream("The upstream answered with another resource than was asked for.")
    return document


def classes_of(document: Mapping[str, Any]) -> Classes:
    """The classes in a document's tags; a plain string is a list of one, no tag none."""
    tags = document.get("tags")
    value = tags.get("auth_classes") if isinstance(tags, dict) else None
    if value is None:
        return frozenset()
    values = [value] if isinstance(value, str) else value
    if not isinstance(values, list):
        return frozenset((NOBODYS,))
    return frozenset(item if isinstance(item, str) else NOBODYS for item in values)


def related_to(kind: str, document: Mapping[str, Any]) -> list[str]:
    """Ids of the same kind that a source or a flow names."""
    if kind not in _COLLECTED:
        return []
    items = [*_items(document.get(_COLLECTED[kind])), *_items(document.get("collected_by"))]
    ids = [item.get("id") if isinstance(item, dict) else item for item in items]
    return list(dict.fromkeys(name for name in ids if isinstance(name, str)))


def _items(value: object) -> list[Any]:
    return value if isinstance(value, list) else []


def strings(value: object) -> list[str]:
    """The texts of a list; nothing for what is no list."""
    return [item for item in _items(value) if isinstance(item, str)]


def sees(view: View | None, classes: Classes) -> bool:
    """Whether a view sees a resource of these classes."""
    if view is None or view.admin:
        return True
    if not classes:
        if view.default_class is None:
            return False
        classes = frozenset((view.default_class,))
    return not view.allow.isdisjoint(classes) and view.deny.isdisjoint(classes)


def refs(kind: str, ids: Iterable[str]) -> list[Ref]:
    """Refs of one kind."""
    return [(kind, name) for name in ids]
