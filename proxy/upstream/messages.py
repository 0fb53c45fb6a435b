"""What an upstream tells of events, in the form of TAMS 8.2 `webhooks`. Pure."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime
from typing import Any

from proxy.errors import BadRequest
from proxy.upstream.documents import Classes, Document, classes_of, strings
from proxy.upstream.protocol import Ref

EVENTS: Mapping[str, str] = {
    "flows/created": "flow",
    "flows/updated": "flow",
    "flows/deleted": "flow",
    "flows/segments_added": "flow",
    "flows/segments_deleted": "flow",
    "sources/created": "source",
    "sources/updated": "source",
    "sources/deleted": "source",
}
"""The events of TAMS, and what each is about."""
SKEW_NS = 3600 * 1_000_000_000
"""How far an upstream's clock is believed."""


@dataclass(frozen=True, slots=True)
class Message:
    """One message. `document`: the flow or the source where the message holds it, as it is then. `time_ns`:
    when it happened, None where that is not told."""

    type: str
    ref: Ref
    body: Document
    document: Document | None
    time_ns: int | None

    @property
    def is_deletion(self) -> bool:
        """Whether what it is about is gone."""
        return self.type in ("flows/deleted", "sources/deleted")


@dataclass(frozen=True, slots=True)
class Remembered:
    """What must be known of a flow or a source once it is gone."""

    classes: Classes
    source_id: str | None = None
    collected_by: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class Happened:
    """An event of an upstream, with what it is authorised and filtered by; as `store.metadata.rows.Event`."""

    type: str
    time_ns: int
    body: Document
    classes: Classes
    flow_id: str | None = None
    source_id: str | None = None
    flow_collected_by: tuple[str, ...] = ()
    source_collected_by: tuple[str, ...] = ()


def message_in(given: object) -> Message | None:
    """A message; None for an event that TAMS 8.2 does not know. Raises `BadRequest` for what is none."""
    if not isinstance(given, dict) or not isinstance(given.get("event_type"), str):
        raise BadRequest("The body must be an event.")
    kind, body = EVENTS.get(given["event_type"]), given.get("event")
    if kind is None:
        return None
    if not isinstance(body, dict):
        raise BadRequest("`event` must be an object.")
    holds = given["event_type"].endswith(("/created", "/updated"))
    document = body.get(kind) if holds else None
    if holds and not isinstance(document, dict):
        raise BadRequest(f"`event` must hold a `{kind}`.")
    name = document.get("id") if document is not None else body.get(f"{kind}_id")
    if not isinstance(name, str):
        raise BadRequest(f"`event` must say which {kind} it is about.")
    if given["event_type"] == "flows/segments_added" and not _are_segments(body.get("segments")):
        raise BadRequest("`segments` must be a list of segments.")
    return Message(given["event_type"], (kind, name), body, document, _time_ns(given.get("event_timestamp")))


def remembered_of(kind: str, document: Document) -> Remembered:
    """What to remember of a flow or a source."""
    source = document.get("source_id") if kind == "flow" else None
    collected = tuple(strings(document.get("collected_by")))
    return Remembered(classes_of(document), source if isinstance(source, str) else None, collected)


def happened(message: Message, about: Remembered, source: Remembered | None, now_ns: int) -> Happened:
    """The event in a message. `about`: what it is about; `source`: the source of a flow, if it is known."""
    kind, name = message.ref
    told = message.time_ns
    time_ns = told if told is not None and abs(told - now_ns) < SKEW_NS else now_ns
    if kind == "source":
        return Happened(
            message.type, time_ns, message.body, about.classes, None, name, (), about.collected_by
        )
    above = source.collected_by if source is not None else ()
    return Happened(
        message.type,
        time_ns,
        message.body,
        about.classes,
        name,
        about.source_id,
        about.collected_by,
        above,
    )


def _are_segments(items: Any) -> bool:
    return isinstance(items, list) and all(
        isinstance(item, dict) and isinstance(item.get("object_id"), str) for item in items
    )


def _time_ns(text: object) -> int | None:
    try:
        found = datetime.fromisoformat(text) if isinstance(text, str) else None
    except ValueError:
        return None
    if found is None or found.tzinfo is None:
        return None
    return int(found.timestamp()) * 1_000_000_000 + found.microsecond * 1000
