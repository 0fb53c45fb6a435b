"""What an answer may name: ids that the caller cannot read are taken out. Pure."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

import orjson

from proxy.rules import Body

Sees = Callable[[frozenset[str]], bool]
_LISTS = ("flow_collection", "source_collection", "collected_by")


def redacted(body: bytes, kind: Body, related: Mapping[str, frozenset[str]], sees: Sees) -> bytes:
    """The body without ids of resources that the caller does not see.

    `related`: classes of ids that the body names; an id without an entry is taken out as well. A body in
    which nothing is hidden comes back as it is; so does a playlist, which the store makes of what its view
    sees.
    """
    if kind in (Body.NOTHING, Body.PLAYLIST) or not body:
        return body
    if kind in (Body.DOCUMENT, Body.DOCUMENTS, Body.COLLECTION) and all(map(sees, related.values())):
        return body
    visible = frozenset(name for name, classes in related.items() if sees(classes))
    document = orjson.loads(body)
    if kind is Body.DOCUMENTS:
        return orjson.dumps([visible_part(item, visible) for item in document])
    if kind is Body.COLLECTION:
        return orjson.dumps(_items(document, visible))
    if kind is Body.OBJECT:
        return orjson.dumps(_object(document, visible))
    return orjson.dumps(visible_part(document, visible))


def visible_part(document: dict[str, Any], visible: frozenset[str]) -> dict[str, Any]:
    """A source or a flow; a list that has nothing left is left out, as if it had never been."""
    result = dict(document)
    for name in _LISTS:
        if name in result:
            result[name] = _items(result[name], visible)
            if not result[name]:
                del result[name]
    return result


def _items(items: list[Any], visible: frozenset[str]) -> list[Any]:
    return [item for item in items if (item["id"] if isinstance(item, dict) else item) in visible]


def _object(document: dict[str, Any], visible: frozenset[str]) -> dict[str, Any]:
    """An object: its referring flows, and the first of them."""
    result = dict(document)
    result["referenced_by_flows"] = _items(document["referenced_by_flows"], visible)
    if document.get("first_referenced_by_flow") not in visible:
        result.pop("first_referenced_by_flow", None)
    return result


def merged(
    asked: list[dict[str, Any]], current: list[dict[str, Any]], hidden: frozenset[str]
) -> list[dict[str, Any]]:
    """A new collection with the members that its writer does not see put back.

    Each hidden member stays right behind the nearest member before it that is still there.
    """
    kept = {item["id"] for item in asked}
    behind: dict[str | None, list[dict[str, Any]]] = {}
    anchor = None
    for item in current:
        if item["id"] in hidden:
            behind.setdefault(anchor, []).append(item)
        elif item["id"] in kept:
            anchor = item["id"]
    result = behind.pop(None, [])
    for item in asked:
        result.append(item)
        result += behind.pop(item["id"], [])
    return result
