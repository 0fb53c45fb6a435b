"""Every published example is read by the model it belongs to, and comes out as it went in."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from jsonschema import Draft202012Validator
from pydantic import BaseModel, TypeAdapter

from store.models.collection import FLOW_COLLECTION
from store.models.common import TAGS_BODY
from store.models.deletion import DeletionRequest
from store.models.flow import FLOW_GET, FLOW_PUT, FlowGet
from store.models.object import INSTANCES_POST, Object
from store.models.parsing import validate
from store.models.profile import Profile, ProfilePost
from store.models.segment import BulkFailure, Segment, SegmentPost
from store.models.service import STORAGE_BACKENDS, Service, ServicePost
from store.models.source import Source
from store.models.storage import Storage, StoragePost
from store.models.webhook import WebhookGet, WebhookPost, WebhookPut

BODIES: dict[str, Any] = {
    "flow-collection-put": FLOW_COLLECTION,
    "flow-put": FLOW_PUT,
    "flow-put-multi": FLOW_PUT,
    "flow-put-profile": FLOW_PUT,
    "flow-segment-post": SegmentPost,
    "flow-storage-post": StoragePost,
    "flow-storage-post-object_ids": StoragePost,
    "objects-instances-controlled-post": INSTANCES_POST,
    "objects-instances-uncontrolled-post": INSTANCES_POST,
    "profile-put": ProfilePost,
    "service-post": ServicePost,
    "webhook-post": WebhookPost,
    "webhook-put": WebhookPut,
}
FLOWS = [
    "audio-aac",
    "audio-aac-multi",
    "audio-wav",
    "data-ttml",
    "image-jpeg",
    "multi",
    "multi-container-map",
    "video-h264",
    "video-h264-cleanfeed",
    "video-h264-fmp4",
    "video-h264-mxf",
    "video-h264-vfr",
    "video-jpeg-jp2",
    "video-jpeg-mxf",
    "video-raw",
]
ANSWERS: dict[str, Any] = {
    **{f"flow-get-200-{flow}": FLOW_GET for flow in FLOWS},
    "deletion-request-get-200": DeletionRequest,
    "deletion-requests-get-200": TypeAdapter(list[DeletionRequest]),
    "flow-collection-get-200": FLOW_COLLECTION,
    "flow-put-201": FLOW_GET,
    "flow-segment-partial-failure": BulkFailure,
    "flow-segments-get-200": TypeAdapter(list[Segment]),
    "flow-segments-get-200-init": TypeAdapter(list[Segment]),
    "flow-segments-get-200-multiple-urls": TypeAdapter(list[Segment]),
    "flow-segments-get-200-object-timerange": TypeAdapter(list[Segment]),
    "flow-storage-post-201": Storage,
    "flow-storage-post-201-wav": Storage,
    "flow-tags-get-200": TAGS_BODY,
    "flows-get-200": TypeAdapter(list[FlowGet]),
    "objects-get-200": Object,
    "objects-get-200-init": Object,
    "profile-get-200-image": Profile,
    "profile-get-200-video-h264": Profile,
    "profile-get-200-video-h264-mxf": Profile,
    "profile-post-201": Profile,
    "profiles-get-200": TypeAdapter(list[Profile]),
    "service-get-200": Service,
    "source-get-200-basic": Source,
    "source-get-200-multi": Source,
    "source-get-200-tags": Source,
    "sources-get-200": TypeAdapter(list[Source]),
    "storage-backends-get-200": STORAGE_BACKENDS,
    "webhook-get-200": WebhookGet,
    "webhook-get-200-list": TypeAdapter(list[WebhookGet]),
}


def plain(value: Any) -> Any:
    """The JSON-ready form of what `validate` returned."""
    if isinstance(value, BaseModel):
        return value.document()  # type: ignore[attr-defined]
    return [plain(item) for item in value] if isinstance(value, list) else value


@pytest.mark.parametrize("name", sorted(BODIES | ANSWERS))
def test_a_published_example_survives_its_model(name: str, example: Callable[[str], Any]) -> None:
    document = example(name)
    if name == "profiles-get-200":
        del document[1]["urn"]  # which no schema knows
    assert plain(validate((BODIES | ANSWERS)[name], document)) == document


@pytest.mark.parametrize("name", sorted(BODIES | ANSWERS))
def test_the_schema_we_publish_takes_the_published_example(name: str, example: Callable[[str], Any]) -> None:
    model = (BODIES | ANSWERS)[name]
    schema = (model if isinstance(model, TypeAdapter) else TypeAdapter(model)).json_schema(by_alias=True)
    Draft202012Validator.check_schema(schema)
    Draft202012Validator(schema).validate(example(name))


def test_every_published_example_is_tried(spec: Path) -> None:
    published = {path.stem for path in (spec / "examples").glob("*.json")}
    assert published == set(BODIES) | set(ANSWERS)


@pytest.mark.parametrize(
    "name",
    ["flow-get-200-video-h264", "flow-get-200-audio-aac", "flow-get-200-multi", "flow-get-200-data-ttml"],
)
def test_a_flow_may_be_put_as_it_was_got(name: str, example: Callable[[str], Any]) -> None:
    document = example(name)
    put = validate(FLOW_PUT, document | {"timerange": "not even a timerange"}).document()
    kept_by_the_store = {"created", "metadata_updated", "segments_updated"}
    assert put == {
        key: value
        for key, value in document.items()
        if key not in kept_by_the_store | {"timerange", "collected_by"}
    }
