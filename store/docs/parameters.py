"""What the query and path parameters of the API are called and may be."""

from __future__ import annotations

from typing import Any, Final

from store.models.common import MIME_TYPE_PATTERN, TIMERANGE_PATTERN, UUID_PATTERN
from store.routes.flows import SORTS as FLOW_SORTS
from store.routes.flows import STATUSES
from store.routes.listing import FORMATS

Schema = dict[str, Any]

TEXT: Final[Schema] = {"type": "string"}
FLAG: Final[Schema] = {"type": "boolean"}
NUMBER: Final[Schema] = {"type": "integer"}
UUID: Final[Schema] = {"type": "string", "pattern": UUID_PATTERN}
_UUIDS = f"{UUID_PATTERN[1:-1]}(,{UUID_PATTERN[1:-1]})*"
UUIDS: Final[Schema] = {"type": "string", "pattern": f"^({_UUIDS})?$"}
LIST: Final[Schema] = {"type": "string", "pattern": "^([^,]+(,[^,]+)*)?$"}
TIMERANGE: Final[Schema] = {"type": "string", "pattern": TIMERANGE_PATTERN}

PAGING: Final = ("page", "limit")
TAGS: Final = ("tag.{name}", "tag_exists.{name}")
URLS: Final = (
    "verbose_storage",
    "accept_get_urls",
    "accept_storage_ids",
    "presigned",
    "storage_backend_tag.{name}",
    "storage_backend_tag_exists.{name}",
)

QUERY: Final[dict[str, tuple[str, Schema]]] = {
    "page": ("Where to go on: the `X-Paging-NextKey` of the page before.", TEXT),
    "limit": ("How many items at most; more than the greatest is lowered to that.", {**NUMBER, "minimum": 1}),
    "reverse_order": ("The other way round.", FLAG),
    "label": ("Exactly this label.", TEXT),
    "format": ("Of this format.", {"type": "string", "enum": list(FORMATS)}),
    "codec": ("Of this codec.", {"type": "string", "pattern": MIME_TYPE_PATTERN}),
    "source_id": ("Of this source.", UUID),
    "profile_id": ("Linked to this profile.", UUID),
    "status": ("In this state.", {"type": "string", "enum": list(STATUSES)}),
    "frame_width": ("Of this width in pixels.", NUMBER),
    "frame_height": ("Of this height in pixels.", NUMBER),
    "init_segments": ("With, or without, initialisation segments.", FLAG),
    "collected_by_ids": ("In any of these collections; empty: in none at all.", UUIDS),
    "timerange": ("What overlaps this timerange.", TIMERANGE),
    "live": ("Of what grows: from the end on, and without an end.", FLAG),
    "redirect": ("By addresses that lead to signed URLs: else where it plays longer than those last.", FLAG),
    "of": ("The object whose init object this is.", TEXT),
    "include_timerange": ("Tell the timerange that the flow's segments cover.", FLAG),
    "include_object_timerange": ("Tell the timerange of each segment's object.", FLAG),
    "object_id": ("On this object.", TEXT),
    "storage_id": ("The storage backend of the instance.", UUID),
    "tag.{name}": ("The tag of that name has one of these values.", LIST),
    "tag_exists.{name}": ("There is, or is not, a tag of that name.", FLAG),
    "flow_tag.{name}": ("Only referring flows whose tag has one of these values.", LIST),
    "flow_tag_exists.{name}": ("Only referring flows that have, or have not, this tag.", FLAG),
    "storage_backend_tag.{name}": ("Only URLs on backends whose tag has one of these values.", LIST),
    "storage_backend_tag_exists.{name}": ("Only URLs on backends that have, or have not, this tag.", FLAG),
    "verbose_storage": ("Tell about the storage backend of each URL.", FLAG),
    "accept_get_urls": ("Only URLs with one of these labels; empty: none at all.", LIST),
    "accept_storage_ids": ("Only URLs on one of these storage backends; empty: on any.", UUIDS),
    "presigned": ("Only signed URLs, or only unsigned ones.", FLAG),
}

PATH: Final[dict[str, tuple[str, Schema]]] = {
    "sourceId": ("The source.", UUID),
    "flowId": ("The flow.", UUID),
    "profileId": ("The profile.", UUID),
    "webhookId": ("The webhook.", UUID),
    "request-id": ("The deletion request.", UUID),
    "objectId": ("The object; any text, percent-encoded as one path segment.", TEXT),
    "name": ("The tag's name, percent-encoded.", TEXT),
}


def sorting(*choices: str) -> Schema:
    """The `sort_by` parameter of one listing."""
    return {
        "name": "sort_by",
        "in": "query",
        "description": "What to sort by: times from new to old, texts by alphabet; what has none comes last.",
        "schema": {"type": "string", "enum": list(choices)},
    }


SORTING: Final[dict[str, Schema]] = {
    "GET_flows": sorting(*FLOW_SORTS),
    "GET_sources": sorting("created", "updated", "label"),
    "GET_flow-delete-requests": sorting("created", "expiry"),
}


def query_parameter(name: str) -> Schema:
    """A query parameter as OpenAPI describes it."""
    description, schema = QUERY[name]
    return {"name": name, "in": "query", "description": description, "schema": schema}


def path_parameter(name: str) -> Schema:
    """A path parameter as OpenAPI describes it."""
    description, schema = PATH[name]
    return {"name": name, "in": "path", "required": True, "description": description, "schema": schema}
