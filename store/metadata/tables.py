"""A document as a database sees it: the columns that listings filter and sort by. Pure."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Any, Final

import orjson

from store.metadata.query import tag_values
from store.metadata.rows import Document, Event, Instance, Kind, ObjectRow, Put, Role, UncontrolledUrl

_ROLES: Final = {str(role): role for role in Role}


@dataclass(frozen=True, slots=True)
class Columns:
    """Index columns of one document; None where it has no such property.

    `sort_text` is what an alphabetical listing sorts by (label, or url for webhooks); `updated_ns` is a
    deletion request's expiry. `related`: ids of the same kind that the document names.
    """

    kind: Kind
    id: str
    created_ns: int
    updated_ns: int
    sort_text: str | None
    label: str | None
    format: str | None
    codec: str | None
    source_id: str | None
    profile_id: str | None
    status: str | None
    frame_width: int | None
    frame_height: int | None
    init_segments: bool
    classes: tuple[str, ...]
    related: tuple[str, ...]
    tags: tuple[tuple[str, str], ...]
    empty_tags: tuple[str, ...]
    members: tuple[tuple[str, str | None], ...]
    collected_by: tuple[str, ...]


def columns_of(put: Put) -> Columns:
    """The columns of a document that is to be written."""
    document = put.document
    tags = document.get("tags") or {}
    technical = document.get("flow_metadata", document)
    essence = technical.get("essence_parameters") or {}
    members = tuple((item["id"], item.get("role")) for item in collection_of(put.kind, document))
    collected_by = tuple(document.get("collected_by") or ())
    pairs = tuple((name, value) for name in tags for value in sorted(tag_values(tags, name)))
    return Columns(
        kind=put.kind,
        id=put.id,
        created_ns=put.created_ns,
        updated_ns=put.updated_ns,
        sort_text=document.get("url" if put.kind is Kind.WEBHOOK else "label"),
        label=document.get("label"),
        format=technical.get("format"),
        codec=technical.get("codec"),
        source_id=document.get("source_id"),
        profile_id=document.get("profile_id"),
        status=document.get("status"),
        frame_width=essence.get("frame_width"),
        frame_height=essence.get("frame_height"),
        init_segments=bool(essence.get("init_segments", False)),
        classes=tuple(sorted(tag_values(tags, "auth_classes"))),
        related=tuple(dict.fromkeys((*(member for member, _ in members), *collected_by))),
        tags=pairs,
        empty_tags=tuple(name for name in tags if not tag_values(tags, name)),
        members=members,
        collected_by=collected_by,
    )


def collection_of(kind: Kind, document: Document) -> Iterable[dict[str, Any]]:
    """The document's collection items, in order."""
    if kind is Kind.FLOW:
        return document.get("flow_collection") or ()
    return document.get("source_collection") or () if kind is Kind.SOURCE else ()


def event_document(event: Event) -> Document:
    """An event as it lies in the outbox."""
    return {
        "type": event.type,
        "time_ns": event.time_ns,
        "body": event.body,
        "classes": sorted(event.classes),
        "flow_id": event.flow_id,
        "source_id": event.source_id,
        "flow_collected_by": event.flow_collected_by,
        "source_collected_by": event.source_collected_by,
    }


def event_of(document: Document) -> Event:
    """The event that `event_document` wrote down."""
    return Event(
        **{
            **document,
            "classes": frozenset(document["classes"]),
            "flow_collected_by": tuple(document["flow_collected_by"]),
            "source_collected_by": tuple(document["source_collected_by"]),
        }
    )


def object_document(row: ObjectRow) -> bytes:
    """What of an object no query asks for."""
    return orjson.dumps(
        (
            # Plain tuples of their fields, in order, as `objects_of` reads them.
            [instance[:] for instance in row.instances],
            [url[:] for url in row.urls],
            row.timerange,
            row.key_frame_count,
            row.size_bytes,
        )
    )


def objects_of(records: Iterable[Sequence[Any]]) -> list[ObjectRow]:
    """The objects of records that begin with id, version, role, flow id, when it was made, init object's id,
    and the document that `object_document` wrote."""
    # Requests read these by the thousand, and a named tuple's own constructor takes as long as the rest.
    made, roles, loads = tuple.__new__, _ROLES, orjson.loads
    found = []
    for record in records:
        id, version, role, flow_id, created_ns, init_object_id, document = record[:7]
        instances, urls, timerange, key_frame_count, size_bytes = loads(document)
        columns = (
            id,
            roles[role],
            flow_id,
            created_ns,
            # As most have.
            (made(Instance, instances[0]),)
            if len(instances) == 1
            else tuple([made(Instance, instance) for instance in instances]),
            tuple([made(UncontrolledUrl, url) for url in urls]) if urls else (),
            timerange,
            key_frame_count,
            init_object_id,
            size_bytes,
            version,
        )
        found.append(made(ObjectRow, columns))
    return found


def backends_of(document: bytes) -> tuple[tuple[str, ...], int | None]:
    """Of what `object_document` wrote, the backends that have the bytes, each once, and the size."""
    instances, *_, size_bytes = orjson.loads(document)
    return tuple(sorted({instance[0] for instance in instances})), size_bytes
