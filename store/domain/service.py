"""The service itself: its name and description, and what it tells of itself. Rule 12."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import orjson

from store.domain.draft import Draft, settled
from store.metadata.protocol import Metadata
from store.metadata.rows import Document, Kind, Ref
from store.timerange import format_timestamp

SERVICE = Ref(Kind.SERVICE, "service")
API_VERSION = "8.2"


@dataclass(frozen=True, slots=True)
class ServiceFacts:
    """What the settings say of the service. Times in seconds."""

    name: str
    description: str
    service_version: str
    min_object_timeout_s: int
    min_presigned_url_timeout_s: int
    event_mechanisms: tuple[dict[str, Any], ...] = ()


async def describe_service(metadata: Metadata, facts: ServiceFacts) -> Document:
    """The body of GET /service."""
    row = (await metadata.rows([SERVICE])).get(SERVICE)
    kept: Document = orjson.loads(row.document) if row else {}
    return {
        "name": kept.get("name", facts.name),
        "description": kept.get("description", facts.description),
        "type": "urn:x-tams:service:tams-proxy",
        "api_version": API_VERSION,
        "service_version": facts.service_version,
        "event_stream_mechanisms": list(facts.event_mechanisms),
        "min_object_timeout": format_timestamp(facts.min_object_timeout_s * 1_000_000_000),
        "min_presigned_url_timeout": format_timestamp(facts.min_presigned_url_timeout_s * 1_000_000_000),
    }


async def update_service(metadata: Metadata, said: Document, now_ns: int) -> None:
    """Keep a new name, a new description, or both; other properties of `said` are ignored."""

    async def step() -> None:
        draft = Draft(metadata)
        await draft.load([SERVICE])
        kept = draft.get(SERVICE) or {"id": SERVICE.id}
        draft.put(SERVICE, {**kept, **{n: said[n] for n in ("name", "description") if n in said}})
        await draft.commit(now_ns)

    await settled(step)
