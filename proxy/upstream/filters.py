"""Filters of lists that upstreams before 8.0 do not have, or not as TAMS 8.2 does. Pure."""

from __future__ import annotations

from proxy.upstream.documents import Document, strings
from proxy.upstream.protocol import Pairs

_TAG = "tag."
_PROPERTIES = ("profile_id", "status")
_COLLECTED = "collected_by_ids"


def is_made_up(name: str) -> bool:
    """Whether a parameter of a query is seen to here."""
    return name.startswith(_TAG) or name in _PROPERTIES or name == _COLLECTED


def passes(query: Pairs, document: Document) -> bool:
    """Whether a source or a flow passes the filters of a query, all of which are seen to here."""
    return all(_passes(name, value, document) for name, value in query)


def _passes(name: str, value: str, document: Document) -> bool:
    if name == _COLLECTED:
        parents = strings(document.get("collected_by"))
        return not set(value.split(",")).isdisjoint(parents) if value else not parents
    if name in _PROPERTIES:
        return bool(document.get(name) == value)
    tags = document.get("tags")
    held = tags.get(name.removeprefix(_TAG)) if isinstance(tags, dict) else None
    return not set(value.split(",")).isdisjoint([held] if isinstance(held, str) else strings(held))
