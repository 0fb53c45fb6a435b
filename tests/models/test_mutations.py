"""Published bodies, spoilt at random: our verdict against that of the published schema.

Where the two differ, the difference is one of those that `STRICTER` and `LAXER` name.
"""

from __future__ import annotations

import copy
from collections.abc import Callable, Iterator
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from jsonschema import Draft202012Validator

from store import errors
from store.models.collection import FLOW_COLLECTION
from store.models.flow import FLOW_PUT
from store.models.object import INSTANCES_POST
from store.models.parsing import validate
from store.models.profile import ProfilePost
from store.models.segment import SegmentPost
from store.models.service import ServicePost
from store.models.storage import StoragePost
from store.models.technical import TECHNICAL_PROPERTIES
from store.models.webhook import WebhookPost, WebhookPut

# example -> (model, schema)
BODIES: dict[str, tuple[Any, str]] = {
    "flow-collection-put": (FLOW_COLLECTION, "flow-collection"),
    "flow-put": (FLOW_PUT, "flow-put"),
    "flow-put-multi": (FLOW_PUT, "flow-put"),
    "flow-put-profile": (FLOW_PUT, "flow-put"),
    "flow-get-200-video-raw": (FLOW_PUT, "flow-put"),
    "flow-get-200-video-h264-vfr": (FLOW_PUT, "flow-put"),
    "flow-get-200-audio-wav": (FLOW_PUT, "flow-put"),
    "flow-get-200-multi-container-map": (FLOW_PUT, "flow-put"),
    "flow-segment-post": (SegmentPost, "flow-segment-post"),
    "flow-storage-post": (StoragePost, "flow-storage-post"),
    "flow-storage-post-object_ids": (StoragePost, "flow-storage-post"),
    "objects-instances-controlled-post": (INSTANCES_POST, "objects-instances-post"),
    "objects-instances-uncontrolled-post": (INSTANCES_POST, "objects-instances-post"),
    "profile-put": (ProfilePost, "profile"),
    "service-post": (ServicePost, "service-post"),
    "webhook-post": (WebhookPost, "webhook-post"),
    "webhook-put": (WebhookPut, "webhook-put"),
}
ADDED = [
    "tags",
    "vfr",
    "read_only",
    "generation",
    "status",
    "flow_collection",
    "created",
    "timerange",
    "collected_by",
    "profile_id",
    "segment_duration",
    "sample_offset",
    "ts_offset",
    "last_duration",
    "object_timerange",
    "get_urls",
    "flow_ids",
    "presigned",
    "init_segments",
    "anything",
]
# A value there may be refused although the schema takes it: the rules in words ask more.
STRICTER = {
    *["url", "timerange", "object_timerange", "limit", "object_id", "object_ids", "label", "last_duration"],
    *["api_key_name", "api_key_value", "codec", "unc_parameters", "unc_type", "bit_depth", "profile_id"],
    *["horiz_chroma_subs", "vert_chroma_subs", "storage_id"],
}
# A value there may be taken although the schema refuses it: it is dropped, or an older client's way.
LAXER = {"created", "created_by", "metadata_updated", "segments_updated", "timerange"} | {
    *["collected_by", "profile_id", "get_urls"]
}

VALUES = st.sampled_from(
    [None, True, False, 0, 1, -1, 2.0, 1.5, "", "x", "1:0", "[0:0_1:0)", [], ["x"], [1], [None], {}]
    + [{"numerator": 1}, {"a": "b"}, {"a": ["b", 1]}, {"numerator": 1, "denominator": 0}]
)


def places(document: Any, above: tuple[str | int, ...] = ()) -> Iterator[tuple[str | int, ...]]:
    """The path of every value below the root, and of properties that could be added."""
    items = document.items() if isinstance(document, dict) else enumerate(document)
    for key, value in items:
        yield (*above, key)
        if isinstance(value, dict | list):
            yield from places(value, (*above, key))
    if isinstance(document, dict):
        yield from ((*above, name) for name in ADDED if name not in document)


def spoil(document: Any, path: tuple[str | int, ...], value: Any, *, remove: bool) -> Any:
    spoilt = copy.deepcopy(document)
    inner = spoilt
    for step in path[:-1]:
        inner = inner[step]
    if not remove:
        inner[path[-1]] = value
    elif not isinstance(inner, dict) or path[-1] in inner:
        del inner[path[-1]]
    return spoilt


@pytest.mark.parametrize("name", sorted(BODIES))
@settings(max_examples=60, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(data=st.data())
def test_the_verdict_is_that_of_the_published_schema(
    name: str,
    data: st.DataObject,
    example: Callable[[str], Any],
    oracle: Callable[[str], Draft202012Validator],
) -> None:
    model, schema = BODIES[name]
    original = example(name)
    path = data.draw(st.sampled_from(list(places(original))))
    document = spoil(original, path, data.draw(VALUES), remove=data.draw(st.booleans()))
    allowed = oracle(schema).is_valid(document)
    try:
        read = validate(model, document)
    except errors.BadRequest as refusal:
        linked = isinstance(document, dict) and "profile_id" in document
        stricter = STRICTER | set(TECHNICAL_PROPERTIES) if linked else STRICTER
        assert not allowed or stricter & set(path), refusal.summary
    else:
        assert allowed or LAXER & set(path)
        again = read if isinstance(read, list) else validate(model, read.document())
        assert again == read
