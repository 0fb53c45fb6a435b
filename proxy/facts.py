"""Which facts a write is decided on. Pure: the gate fetches them."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

from proxy.asked import Asked
from proxy.body import AUTH_CLASSES, MOST_IDS, MOST_MEMBERS, WATCHED
from proxy.rules import Action, Check, Target
from proxy.upstream.protocol import Known, Ref


def refs_of(asked: Asked) -> tuple[list[Ref], list[str]]:
    """The resources and the objects to look up before deciding; nothing for what is too much to be let
    through anyway."""
    rule, document = asked.rule, asked.document
    if rule.target is Target.OBJECT:
        return [], [asked.params[rule.param]]
    refs: list[Ref] = [asked.target] if rule.param else []
    if rule.check is Check.SEGMENTS:
        return refs, _object_ids(document, asked.limits.segments)
    if rule.check is Check.COLLECTION:
        return refs + _flow_refs(document), []
    if not isinstance(document, dict):
        return refs, []
    if rule.check is Check.PUT_FLOW:
        refs += _named(document, {"source_id": "source", "profile_id": "profile"})
        refs += _flow_refs(document.get("flow_collection"))
    if rule.check is Check.NEW_SOURCE:
        refs += _named(document, {"id": "source"})
    if rule.check in (Check.NEW_WEBHOOK, Check.PUT_WEBHOOK):
        for name, kind in WATCHED.items():
            refs += [(kind, id) for id in _texts(document.get(name), MOST_IDS)]
    return refs, []


def later_refs(asked: Asked, known: Known) -> list[Ref]:
    """What the first facts show to be needed too: the present members of a collection to be replaced, the
    flows that an object belongs to, the profile that a flow is linked to."""
    if asked.rule.target is Target.OBJECT:
        return [("flow", flow) for fact in known.objects.values() for flow in fact.flow_ids]
    if asked.rule.check not in (Check.PUT_FLOW, Check.COLLECTION):
        return []
    present = _flow_refs(known.collections.get(asked.params[asked.rule.param]))
    return [ref for ref in present if ref not in known.classes]


def is_weighty(asked: Asked) -> bool:
    """Whether a write must not rest on permissions some seconds old: deletions, what administrators do,
    and changes of classes."""
    rule = asked.rule
    if rule.action is Action.DELETE or rule.target is Target.ADMIN:
        return True
    if rule.check is Check.TAG:
        return asked.params["name"] == AUTH_CLASSES
    if rule.check in _NAMING:
        document = asked.document
        tags = document.get("tags") if isinstance(document, dict) else None
        return isinstance(tags, dict) and AUTH_CLASSES in tags
    return False


_NAMING = (
    Check.PUT_FLOW,
    Check.NEW_WEBHOOK,
    Check.PUT_WEBHOOK,
    Check.NEW_PROFILE,
    Check.NEW_SOURCE,
    Check.PUT_SOURCE,
)
"""What may say which classes something is to have."""


def _named(document: dict[str, Any], kinds: dict[str, str]) -> list[Ref]:
    return [(kind, document[name]) for name, kind in kinds.items() if isinstance(document.get(name), str)]


def _object_ids(document: object, most: int) -> list[str]:
    items = document if isinstance(document, list) else [document]
    if len(items) > most:
        return []
    named = (
        item.get(name) for item in items if isinstance(item, dict) for name in ("object_id", "init_object_id")
    )
    return list(dict.fromkeys(name for name in named if isinstance(name, str)))


def _flow_refs(items: object) -> list[Ref]:
    if not isinstance(items, list) or len(items) > MOST_MEMBERS:
        return []
    return [("flow", id) for id in _ids(items)]


def _ids(items: Iterable[object]) -> list[str]:
    return [i["id"] for i in items if isinstance(i, dict) and isinstance(i.get("id"), str)]


def _texts(items: object, most: int) -> list[str]:
    if not isinstance(items, list) or len(items) > most:
        return []
    return [item for item in items if isinstance(item, str)]
