"""What each operation takes and answers, in the models that the code itself validates by."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any, Final

from pydantic import TypeAdapter

from store.docs.parameters import PAGING, TAGS, URLS
from store.models.collection import FLOW_COLLECTION
from store.models.common import DESCRIPTION, LABEL, TAG_VALUE, TAGS_BODY
from store.models.deletion import DeletionRequest
from store.models.flow import BIT_RATE, FLOW_GET, FLOW_PUT, READ_ONLY, FlowGet
from store.models.object import INSTANCES_POST, Object
from store.models.profile import Profile, ProfilePost
from store.models.segment import BulkFailure, Segment, SegmentPost
from store.models.service import STORAGE_BACKENDS, Service, ServicePost
from store.models.source import Source, SourcePut
from store.models.storage import Storage, StoragePost
from store.models.webhook import WebhookGet, WebhookPost, WebhookPut

Adapter = TypeAdapter[Any]


@dataclass(frozen=True, slots=True)
class Spoken:
    """What there is to say of one operation.

    `answers`: what a success returns, by status; None for no body. `paged`: the answer has paging headers.
    `refuses`: the statuses of refusals, besides those of authorization.
    """

    summary: str
    tag: str
    query: tuple[str, ...] = ()
    body: Adapter | None = None
    body_required: bool = True
    answers: dict[int, Adapter | None] = field(default_factory=dict)
    refuses: tuple[int, ...] = ()
    paged: bool = False


def _a(model: Any) -> Adapter:
    return TypeAdapter(model)


def _listing(summary: str, tag: str, item: Any, *query: str) -> Spoken:
    answers: dict[int, Adapter | None] = {200: _a(list[item])}
    return Spoken(summary, tag, (*query, *PAGING), answers=answers, refuses=(400,), paged=True)


def _get(summary: str, tag: str, model: Adapter, *query: str, refuses: tuple[int, ...] = (404,)) -> Spoken:
    answers: dict[int, Adapter | None] = {200: model}
    return Spoken(summary, tag, query, answers=answers, refuses=refuses)


def _put(summary: str, tag: str, model: Adapter) -> Spoken:
    return Spoken(summary, tag, body=model, answers={204: None}, refuses=(400, 403, 404))


def _delete(summary: str, tag: str) -> Spoken:
    return Spoken(summary, tag, answers={204: None}, refuses=(403, 404))


def _property(stem: str, noun: str, tag: str, name: str, model: Adapter) -> dict[str, Spoken]:
    spelt = f"{stem}-{name.replace('_', '-')}"
    words = name.replace("_", " ")
    return {
        f"GET_{spelt}": _get(f"The {words} of a {noun}", tag, model),
        f"PUT_{spelt}": _put(f"Set the {words} of a {noun}", tag, model),
        f"DELETE_{spelt}": _delete(f"Drop the {words} of a {noun}", tag),
    }


def _texts(stem: str, noun: str, tag: str) -> dict[str, Spoken]:
    return {
        f"GET_{stem}-tags": _get(f"All tags of a {noun}", tag, TAGS_BODY),
        f"GET_{stem}-tags-name": _get(f"A tag of a {noun}", tag, TAG_VALUE),
        f"PUT_{stem}-tags-name": _put(f"Set a tag of a {noun}", tag, TAG_VALUE),
        f"DELETE_{stem}-tags-name": _delete(f"Drop a tag of a {noun}", tag),
        **_property(stem, noun, tag, "description", DESCRIPTION),
        **_property(stem, noun, tag, "label", LABEL),
    }


_SERVICE, _SOURCES, _FLOWS, _SEGMENTS = "Service", "Sources", "Flows", "FlowSegments"
_OBJECTS, _PROFILES, _WEBHOOKS, _DELETIONS = "Objects", "Profiles", "Webhooks", "FlowDeleteRequests"
_DELETED: dict[int, Adapter | None] = {202: _a(DeletionRequest), 204: None}

SPOKEN: Final[dict[str, Spoken]] = {
    "GET_root": _get("What there is below", _SERVICE, _a(list[str]), refuses=()),
    "GET_service": _get("What the service says of itself", _SERVICE, _a(Service), refuses=()),
    "POST_service": Spoken(
        "Name and describe the service",
        _SERVICE,
        body=_a(ServicePost),
        answers={200: None},
        refuses=(400, 403),
    ),
    "GET_storage-backends": Spoken(
        "List the storage backends",
        _SERVICE,
        (*TAGS, "reverse_order", *PAGING),
        answers={200: STORAGE_BACKENDS},
        refuses=(400,),
        paged=True,
    ),
    "GET_profiles": _listing("List profiles", _PROFILES, Profile, "format", "codec", "label"),
    "GET_profiles-profileId": _get("A profile", _PROFILES, _a(Profile)),
    "POST_profiles-profileId": Spoken(
        "Create a profile",
        _PROFILES,
        body=_a(ProfilePost),
        answers={201: _a(Profile)},
        refuses=(400, 403, 404),
    ),
    "GET_webhooks": _listing("List webhooks", _WEBHOOKS, WebhookGet, "reverse_order", *TAGS),
    "POST_webhooks": Spoken(
        "Register a webhook",
        _WEBHOOKS,
        body=_a(WebhookPost),
        answers={201: _a(WebhookGet)},
        refuses=(400,),
    ),
    "GET_webhooks-webhookId": _get("A webhook", _WEBHOOKS, _a(WebhookGet)),
    "PUT_webhooks": Spoken(
        "Replace a webhook, and become its owner",
        _WEBHOOKS,
        body=_a(WebhookPut),
        answers={201: _a(WebhookGet)},
        refuses=(400, 403, 404),
    ),
    "DELETE_webhooks-webhookId": _delete("Delete a webhook", _WEBHOOKS),
    "GET_sources": _listing(
        "List sources", _SOURCES, Source, "label", "reverse_order", *TAGS, "format", "collected_by_ids"
    ),
    "POST_sources": Spoken(
        "Create a source that has no flow yet",
        _SOURCES,
        body=_a(SourcePut),
        answers={201: _a(Source)},
        refuses=(400, 403),
    ),
    "PUT_sources-sourceId": _put("Replace what a client may say of a source", _SOURCES, _a(SourcePut)),
    "DELETE_sources-sourceId": _delete("Delete a source that has no flow", _SOURCES),
    "GET_sources-sourceId": _get("A source", _SOURCES, _a(Source)),
    **_texts("sources-sourceId", "source", _SOURCES),
    "GET_source-hls": Spoken(
        "An HLS playlist of a source's flows",
        _SOURCES,
        ("timerange", "live", "redirect", *URLS),
        answers={200: None},
        refuses=(400, 404),
    ),
    "GET_flows": _listing(
        "List flows",
        _FLOWS,
        FlowGet,
        "source_id",
        "timerange",
        "format",
        "codec",
        "profile_id",
        "label",
        "reverse_order",
        "status",
        *TAGS,
        "frame_width",
        "frame_height",
        "init_segments",
        "collected_by_ids",
    ),
    "GET_flows-flowId": _get(
        "A flow", _FLOWS, FLOW_GET, "include_timerange", "timerange", refuses=(400, 404)
    ),
    "PUT_flows-flowId": Spoken(
        "Create or replace a flow",
        _FLOWS,
        body=FLOW_PUT,
        answers={201: FLOW_GET, 204: None},
        refuses=(400, 403, 404),
    ),
    "DELETE_flows-flowId": Spoken(
        "Delete a flow and its segments", _FLOWS, answers=_DELETED, refuses=(403, 404)
    ),
    **_texts("flows-flowId", "flow", _FLOWS),
    "GET_flows-flowId-read-only": _get("Whether a flow is read-only", _FLOWS, READ_ONLY),
    "PUT_flows-flowId-read-only": _put("Make a flow read-only, or writable", _FLOWS, READ_ONLY),
    **_property("flows-flowId", "flow", _FLOWS, "flow_collection", FLOW_COLLECTION),
    **_property("flows-flowId", "flow", _FLOWS, "max_bit_rate", BIT_RATE),
    **_property("flows-flowId", "flow", _FLOWS, "avg_bit_rate", BIT_RATE),
    "GET_flows-flowId-segments": Spoken(
        "List a flow's segments",
        _SEGMENTS,
        ("object_id", "timerange", "reverse_order", *URLS, "include_object_timerange", *PAGING),
        answers={200: _a(list[Segment])},
        refuses=(400, 404),
        paged=True,
    ),
    "POST_flows-flowId-segments": Spoken(
        "Register segments: one, or a list of which some may fail",
        _SEGMENTS,
        body=_a(SegmentPost | list[SegmentPost]),
        answers={200: _a(BulkFailure), 201: None},
        refuses=(400, 403, 404),
    ),
    "DELETE_flows-flowId-segments": Spoken(
        "Delete the segments that a timerange covers wholly",
        _SEGMENTS,
        ("timerange", "object_id"),
        answers=_DELETED,
        refuses=(400, 403, 404),
    ),
    "GET_flow-hls": Spoken(
        "An HLS playlist of a flow's segments, or of the flows that it collects",
        _SEGMENTS,
        ("timerange", "live", "redirect", *URLS),
        answers={200: None},
        refuses=(400, 404),
    ),
    "GET_flow-hls-media": Spoken(
        "To a signed URL of media that a playlist names",
        _SEGMENTS,
        ("of", *URLS),
        answers={307: None},
        refuses=(400, 404),
    ),
    "POST_flows-flowId-storage": Spoken(
        "Make room for objects, and tell where to upload them",
        "MediaStorage",
        body=_a(StoragePost),
        body_required=False,
        answers={201: _a(Storage)},
        refuses=(400, 403, 404),
    ),
    "GET_objects": Spoken(
        "An object, its URLs, and the flows that refer to it",
        _OBJECTS,
        (*URLS, "flow_tag.{name}", "flow_tag_exists.{name}", *PAGING),
        answers={200: _a(Object)},
        refuses=(400, 404),
        paged=True,
    ),
    "POST_objects-instances": Spoken(
        "Copy an object to another storage backend, or tell where else it is",
        _OBJECTS,
        body=INSTANCES_POST,
        answers={201: None},
        refuses=(400, 403, 404),
    ),
    "DELETE_objects-instances": Spoken(
        "Delete an instance of an object",
        _OBJECTS,
        ("storage_id", "label"),
        answers={204: None},
        refuses=(400, 403, 404),
    ),
    "GET_flow-delete-requests": _listing(
        "List deletions that go on in the background", _DELETIONS, DeletionRequest, "reverse_order"
    ),
    "GET_flow-delete-requests-request-id": _get("How far a deletion is", _DELETIONS, _a(DeletionRequest)),
    **{
        f"GET_{name}": _get(summary, "Operators", _a(dict[str, Any]), refuses=())
        for name, summary in (
            ("analytics-flow-usage", "How many flows of which formats there are"),
            ("analytics-storage-usage", "How much is stored where, and how it is used"),
            ("analytics-time-range-analysis", "How long segments are, and which times they cover"),
            ("analytics-catalogue-summary", "How much there is of everything"),
            ("vast-status", "Whether the metadata are in VAST, and whether that answers"),
            ("vast-buckets", "The buckets that metadata are in"),
            ("api-v1-vast-buckets", "The buckets that metadata are in, where older scripts ask for them"),
        )
    },
}
