"""The eight events of TAMS 8.2, as values. Pure."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from store.metadata.query import tag_values
from store.metadata.rows import Document, Event

FLOW_CREATED, FLOW_UPDATED, FLOW_DELETED = "flows/created", "flows/updated", "flows/deleted"
SEGMENTS_ADDED, SEGMENTS_DELETED = "flows/segments_added", "flows/segments_deleted"
SOURCE_CREATED, SOURCE_UPDATED, SOURCE_DELETED = "sources/created", "sources/updated", "sources/deleted"
EVENT_TYPES = frozenset(
    (FLOW_CREATED, FLOW_UPDATED, FLOW_DELETED, SEGMENTS_ADDED, SEGMENTS_DELETED)
    + (SOURCE_CREATED, SOURCE_UPDATED, SOURCE_DELETED)
)


def classes_of(document: Document) -> frozenset[str]:
    """The `auth_classes` of a document."""
    return tag_values(document.get("tags") or {}, "auth_classes")


def flow_event(
    event_type: str, flow: Document, source: Document | None, now_ns: int, body: Document
) -> Event:
    """An event about a flow, with the collections that it and its source are in now."""
    return Event(
        type=event_type,
        time_ns=now_ns,
        body=body,
        classes=classes_of(flow),
        flow_id=flow["id"],
        source_id=flow["source_id"],
        flow_collected_by=tuple(flow.get("collected_by") or ()),
        source_collected_by=tuple((source or {}).get("collected_by") or ()),
    )


def source_event(event_type: str, source: Document, now_ns: int) -> Event:
    """An event about a source."""
    body: Document = {"source_id": source["id"]} if event_type == SOURCE_DELETED else {"source": source}
    return Event(
        type=event_type,
        time_ns=now_ns,
        body=body,
        classes=classes_of(source),
        source_id=source["id"],
        source_collected_by=tuple(source.get("collected_by") or ()),
    )


def segments_added(flow: Document, source: Document | None, segments: Sequence[Any], now_ns: int) -> Event:
    """`segments` are as GET returns them, without URLs: those are made when the event is delivered."""
    return flow_event(
        SEGMENTS_ADDED, flow, source, now_ns, {"flow_id": flow["id"], "segments": list(segments)}
    )


def segments_deleted(flow: Document, source: Document | None, timerange: str, now_ns: int) -> Event:
    """`timerange` starts and ends in segments that were deleted."""
    return flow_event(SEGMENTS_DELETED, flow, source, now_ns, {"flow_id": flow["id"], "timerange": timerange})
