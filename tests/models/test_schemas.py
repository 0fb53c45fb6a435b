"""Our models against the published JSON schemas: the same properties, requirements, enums and types.

Whatever differs stands in `DEVIATIONS`, with its reason; anything else that differs is a failure.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from pydantic import TypeAdapter

from store.models.collection import FlowCollection
from store.models.container_mapping import ContainerMapping
from store.models.deletion import DeletionRequest
from store.models.error import Error
from store.models.flow import (
    AudioFlow,
    AudioFlowPut,
    DataFlow,
    DataFlowPut,
    ImageFlow,
    ImageFlowPut,
    MultiFlow,
    MultiFlowPut,
    ProfileFlowPut,
    VideoFlow,
    VideoFlowPut,
)
from store.models.object import ControlledInstance, Object, UncontrolledInstance
from store.models.profile import Profile, ProfilePost
from store.models.segment import BulkFailure, Segment, SegmentPost
from store.models.service import Service, ServicePost, StorageBackend
from store.models.source import Source
from store.models.storage import HttpRequest, Storage, StoragePost
from store.models.technical import AudioTechnical, DataTechnical, ImageTechnical, VideoTechnical
from store.models.webhook import WebhookGet, WebhookPost, WebhookPut

# model -> (published schema, pointers that choose among its variants or go into it)
PAIRS: list[tuple[Any, list[str]]] = [
    (ContainerMapping, ["container-mapping.json"]),
    (FlowCollection, ["flow-collection.json"]),
    (DeletionRequest, ["deletion-request.json"]),
    (Error, ["error.json"]),
    *[
        (model, ["flow-common.json", f"flow-{kind}.json", "flow-get.json#properties-only"])
        for kind, model in [
            ("video", VideoFlow),
            ("audio", AudioFlow),
            ("image", ImageFlow),
            ("data", DataFlow),
            ("multi", MultiFlow),
        ]
    ],
    *[
        (model, ["flow-common.json", f"flow-{kind}.json"])
        for kind, model in [
            ("video", VideoFlowPut),
            ("audio", AudioFlowPut),
            ("image", ImageFlowPut),
            ("data", DataFlowPut),
            ("multi", MultiFlowPut),
        ]
    ],
    (ProfileFlowPut, ["flow-common.json", "flow-put.json#/allOf/1/oneOf/0"]),
    (VideoTechnical, ["flow-video.json"]),
    (AudioTechnical, ["flow-audio.json"]),
    (ImageTechnical, ["flow-image.json"]),
    (DataTechnical, ["flow-data.json"]),
    (Profile, ["profile.json"]),
    (ProfilePost, ["profile.json"]),
    (Object, ["object.json"]),
    (ControlledInstance, ["objects-instances-post.json#/oneOf/0"]),
    (UncontrolledInstance, ["objects-instances-post.json#/oneOf/1"]),
    (SegmentPost, ["flow-segment-post.json"]),
    (Segment, ["flow-segment.json"]),
    (BulkFailure, ["flow-segment-bulk-failure.json"]),
    (StoragePost, ["flow-storage-post.json"]),
    (Storage, ["flow-storage.json"]),
    (HttpRequest, ["http-request.json"]),
    (Service, ["service.json"]),
    (ServicePost, ["service-post.json"]),
    (StorageBackend, ["storage-backends-list.json#/items"]),
    (Source, ["source.json"]),
    (WebhookPost, ["webhook-post.json"]),
    (WebhookPut, ["webhook-put.json"]),
    (WebhookGet, ["webhook-get.json"]),
]

PUTS = ["VideoFlowPut", "AudioFlowPut", "ImageFlowPut", "DataFlowPut", "MultiFlowPut"]
KEPT_BY_THE_STORE = ["created", "metadata_updated", "segments_updated", "timerange", "collected_by"]
DEVIATIONS: dict[str, str] = {
    **{
        f"{model}/{name} left out": "read-only: accepted in a PUT, whatever its value, and dropped (rule 17)"
        for model in [*PUTS, "ProfileFlowPut"]
        for name in KEPT_BY_THE_STORE
    },
    **{f"{model}/profile_id added": "an empty one unlinks the profile (AppNote 0020)" for model in PUTS},
    "ProfilePost/created left out": "read-only: dropped",
    "SegmentPost/get_urls/*/label not required": "old clients leave it out; the store makes one (rule 42)",
    "Error/message added": "equal to the summary, for clients of other stores (rule 13)",
    "DeletionRequest/error/message added": "as in Error",
    "BulkFailure/failed_segments/*/error/message added": "as in Error",
    "WebhookGet/error/message added": "as in Error",
}


def flatten(schema: dict[str, Any], resolve: Callable[[str], dict[str, Any]]) -> dict[str, Any]:
    """The schema with its references followed and `allOf` merged."""
    flat: dict[str, Any] = {"properties": {}, "required": set(), "closed": False}
    if "$ref" in schema:
        merge(flat, flatten(resolve(schema["$ref"]), resolve))
    for part in schema.get("allOf", []):
        merge(flat, flatten(part, resolve))
    merge(
        flat,
        {
            "properties": schema.get("properties", {}),
            "required": set(schema.get("required", [])),
            "closed": False in (schema.get("additionalProperties"), schema.get("unevaluatedProperties")),
            "enum": set(schema["enum"])
            if "enum" in schema
            else {schema["const"]}
            if "const" in schema
            else None,
            "items": schema.get("items"),
            "type": schema.get("type"),
            "variants": schema.get("oneOf"),
        },
    )
    return flat


def merge(flat: dict[str, Any], part: dict[str, Any]) -> None:
    flat["properties"] |= part["properties"]
    flat["required"] |= part["required"]
    flat["closed"] |= part["closed"]
    for key in ("enum", "items", "type", "variants"):
        if part.get(key) is not None:
            flat[key] = part[key]


def differences(where: str, theirs: dict[str, Any], ours: dict[str, Any]) -> Iterator[str]:
    if theirs.get("variants") and ours.get("variants"):
        return  # each variant is a pair of its own
    for key in ("enum", "type"):
        if theirs.get(key) != ours.get(key):
            yield f"{where} {key}: {theirs.get(key)} published, {ours.get(key)} ours"
    if theirs["closed"] != ours["closed"] and theirs.get("type") != "array":
        yield f"{where} closed: {theirs['closed']} published, {ours['closed']} ours"
    yield from (
        f"{where}/{name} left out" for name in theirs["properties"].keys() - ours["properties"].keys()
    )
    yield from (f"{where}/{name} added" for name in ours["properties"].keys() - theirs["properties"].keys())
    yield from (f"{where}/{name} not required" for name in theirs["required"] - ours["required"])
    yield from (f"{where}/{name} required" for name in ours["required"] - theirs["required"])


def walk(where: str, theirs: Any, ours: Any, left: Any, right: Any) -> Iterator[str]:
    """Differences at `where` and below; `left` and `right` resolve the references of each side."""
    a, b = flatten(theirs, left), flatten(ours, right)
    yield from differences(where, a, b)
    for name in a["properties"].keys() & b["properties"].keys():
        yield from walk(f"{where}/{name}", a["properties"][name], b["properties"][name], left, right)
    if a.get("items") and b.get("items"):
        yield from walk(f"{where}/*", a["items"], b["items"], left, right)


def published(spec: Path, reference: str) -> dict[str, Any]:
    name, _, pointer = reference.partition("#")
    schema = json.loads((spec / "schemas" / name).read_text())
    if pointer == "properties-only":
        return {"properties": schema["properties"]}
    for step in pointer.split("/")[1:]:
        schema = schema[int(step) if isinstance(schema, list) else step]
    return dict(schema)


def compare(spec: Path, model: Any, references: list[str]) -> set[str]:
    ours = TypeAdapter(model).json_schema()
    theirs = {"allOf": [published(spec, reference) for reference in references]}
    return set(
        walk(
            getattr(model, "__name__", "FlowCollection"),
            theirs,
            ours,
            lambda reference: published(spec, reference),
            lambda reference: ours["$defs"][reference.rsplit("/", 1)[1]],
        )
    )


def test_models_differ_from_the_published_schemas_only_where_stated(spec: Path) -> None:
    found = {line for model, references in PAIRS for line in compare(spec, model, references)}
    assert found == set(DEVIATIONS)


@pytest.mark.parametrize(
    "model", [model for model, _ in PAIRS], ids=lambda model: getattr(model, "__name__", "")
)
def test_no_schema_of_ours_offers_null(model: Any) -> None:
    assert "null" not in json.dumps(TypeAdapter(model).json_schema())
