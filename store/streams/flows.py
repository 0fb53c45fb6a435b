"""Which flows are streams. Pure.

A stream is a data flow: its id is in a tag, and the flow's id follows from it, so that nobody else's flow can
pass for it; a stream whose id is a UUID is the flow of that id.
"""

from __future__ import annotations

import re
import uuid
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import orjson

from store.errors import BadRequest
from store.metadata.rows import Document, Row
from store.params import is_uuid

STREAM_TAG, META_TAG, MAX_LEN_TAG = "stream_id", "stream_metadata", "stream_max_len"
MAX_AGE_TAG, MAX_BYTES_TAG = "stream_max_age_s", "stream_max_bytes"
FORMAT = "urn:x-nmos:format:data"
CONTAINER = "application/x-tams-entries"
CODEC = "application/octet-stream"
_NAMESPACE = uuid.UUID("6d6f2a4e-0f0b-5d0e-9a57-3f0c1e7f6b11")
_SID = re.compile(r"[^\s/+,?#\x00-\x1f\x7f*$]{1,128}")


@dataclass(frozen=True, slots=True)
class Retention:
    """What of a stream is kept: so many entries, so long, so many bytes; None is without bound."""

    entries: int | None = None
    age_s: int | None = None
    size_bytes: int | None = None


@dataclass(frozen=True, slots=True)
class Stream:
    """A stream as its flow's row tells of it. `created_ns` tells it from an earlier one of the same id."""

    id: str
    flow_id: str
    created_ns: int
    retention: Retention
    read_only: bool = False

    @property
    def key(self) -> tuple[str, int]:
        """What names this very stream."""
        return self.flow_id, self.created_ns


def check_sid(sid: str) -> str:
    """A stream's id, if it can be one. Raises `BadRequest`."""
    if _SID.fullmatch(sid) is None or len(sid.encode()) > 256:
        raise BadRequest(
            "A stream's id has 1 to 128 characters, without white space and any of / + , ? # * $."
        )
    return sid


def flow_id_of(sid: str) -> str:
    """The id of a stream's flow."""
    return sid if is_uuid(sid) else str(uuid.uuid5(_NAMESPACE, f"flow {sid}"))


def source_id_of(sid: str) -> str:
    """The id of the source that a new stream gets."""
    return str(uuid.uuid5(_NAMESPACE, f"source {sid}"))


def object_id_of(flow_id: str, created_ns: int, first_ns: int) -> str:
    """The id of the object that entries from `first_ns` on are sealed into: always the same, so that sealing
    can be repeated."""
    return str(uuid.uuid5(_NAMESPACE, f"object {flow_id} {created_ns} {first_ns}"))


def document_of(sid: str, description: str | None, meta: Mapping[str, Any], max_len: int | None) -> Document:
    """The flow of a stream, as it is put."""
    tags: Document = {STREAM_TAG: sid}
    if meta:
        tags[META_TAG] = orjson.dumps(meta).decode()
    if max_len is not None:
        tags[MAX_LEN_TAG] = str(max_len)
    document: Document = {
        "id": flow_id_of(sid),
        "source_id": source_id_of(sid),
        "format": FORMAT,
        "codec": CODEC,
        "container": CONTAINER,
        "essence_parameters": {},
        "label": sid,
        "tags": tags,
    }
    return document if description is None else {**document, "description": description}


def sid_of(document: Mapping[str, Any]) -> str | None:
    """The id of the stream that a flow is, None when it is none."""
    if document.get("format") != FORMAT or document.get("container") != CONTAINER:
        return None
    tag = (document.get("tags") or {}).get(STREAM_TAG)
    if isinstance(tag, str) and _SID.fullmatch(tag) and flow_id_of(tag) == document["id"]:
        return tag
    return str(document["id"]) if tag is None else None


def stream_of(row: Row | None, retention: Retention) -> Stream | None:
    """The stream that a flow's row is, None when it is none. `retention`: for what its tags leave open."""
    if row is None:
        return None
    document = orjson.loads(row.document)
    sid = sid_of(document)
    if sid is None:
        return None
    tags = document.get("tags") or {}
    kept = Retention(
        _number(tags.get(MAX_LEN_TAG), retention.entries),
        _number(tags.get(MAX_AGE_TAG), retention.age_s),
        _number(tags.get(MAX_BYTES_TAG), retention.size_bytes),
    )
    return Stream(sid, row.id, row.created_ns, kept, bool(document.get("read_only")))


def described(document: Mapping[str, Any]) -> dict[str, Any]:
    """A stream as clients are told of it."""
    tags = document.get("tags") or {}
    meta = tags.get(META_TAG)
    return {
        "id": sid_of(document),
        "description": document.get("description"),
        "metadata": _meta(meta) if isinstance(meta, str) else {},
        "max_len": _number(tags.get(MAX_LEN_TAG), None),
    }


def _meta(text: str) -> Any:
    try:
        return orjson.loads(text)
    except orjson.JSONDecodeError:
        return {}


def _number(value: object, otherwise: int | None) -> int | None:
    if isinstance(value, str) and re.fullmatch(r"[1-9][0-9]{0,17}", value):
        return int(value)
    return otherwise
