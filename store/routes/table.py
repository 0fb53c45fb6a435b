"""Every operation of the store: template, method, operationId, what answers. HEAD is GET without a body."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Mapping
from dataclasses import dataclass
from typing import Any, NamedTuple

from pydantic import TypeAdapter

from store.core import Store
from store.http import Request, Response
from store.metadata.rows import Kind
from store.models.collection import FLOW_COLLECTION
from store.models.common import DESCRIPTION, LABEL
from store.models.flow import BIT_RATE, READ_ONLY
from store.routes import (
    deletions,
    flows,
    hls,
    objects,
    operators,
    profiles,
    segments,
    service,
    sources,
    webhooks,
)
from store.routes.properties import (
    MISSING,
    EditDocument,
    delete_property,
    delete_tag,
    get_property,
    get_tag,
    put_property,
    put_tag,
)

Handler = Callable[[Store, Request], Awaitable[Response]]


class Operation(NamedTuple):
    """One operation: its operationId in the specification, and what answers it."""

    id: str
    handler: Handler


Methods = Mapping[str, Operation]


@dataclass(frozen=True, slots=True)
class _Resource:
    """A kind of resource whose properties have paths of their own."""

    kind: Kind
    template: str
    param: str
    edit: EditDocument

    def path(self, name: str, methods: dict[str, Handler]) -> dict[str, Methods]:
        """A path below the resource, its operation ids as the specification forms them."""
        stem = f"{self.template}{name}".strip("/").replace("{", "").replace("}", "")
        stem = stem.replace("/", "-").replace("_", "-")
        return {
            f"{self.template}{name}": {
                method: Operation(f"{method}_{stem}", handler) for method, handler in methods.items()
            }
        }

    def property(self, name: str, adapter: TypeAdapter[Any], default: Any = MISSING) -> dict[str, Methods]:
        """A property that can be read, set and dropped."""
        return self.path(
            f"/{name}",
            {
                "GET": get_property(self.kind, self.param, name, default),
                "PUT": put_property(self.edit, name, adapter),
                "DELETE": delete_property(self.edit, name),
            },
        )

    def texts(self) -> dict[str, Methods]:
        """The paths that sources and flows have alike."""
        return {
            **self.path("/tags", {"GET": get_property(self.kind, self.param, "tags", {})}),
            **self.path(
                "/tags/{name}",
                {
                    "GET": get_tag(self.kind, self.param),
                    "PUT": put_tag(self.edit),
                    "DELETE": delete_tag(self.edit),
                },
            ),
            **self.property("description", DESCRIPTION),
            **self.property("label", LABEL),
        }


_SOURCE = _Resource(Kind.SOURCE, "/sources/{sourceId}", "sourceId", sources.edit)
_FLOW = _Resource(Kind.FLOW, "/flows/{flowId}", "flowId", flows.edit)

ROUTES: dict[str, Methods] = {
    "/": {"GET": Operation("GET_root", service.get_root)},
    "/service": {
        "GET": Operation("GET_service", service.get_service),
        "POST": Operation("POST_service", service.post_service),
    },
    "/service/storage-backends": {
        "GET": Operation("GET_storage-backends", service.get_storage_backends),
    },
    "/service/profiles": {"GET": Operation("GET_profiles", profiles.get_profiles)},
    "/service/profiles/{profileId}": {
        "GET": Operation("GET_profiles-profileId", profiles.get_profile),
        "POST": Operation("POST_profiles-profileId", profiles.post_profile),
    },
    "/service/webhooks": {
        "GET": Operation("GET_webhooks", webhooks.get_webhooks),
        "POST": Operation("POST_webhooks", webhooks.post_webhook),
    },
    "/service/webhooks/{webhookId}": {
        "GET": Operation("GET_webhooks-webhookId", webhooks.get_webhook),
        "PUT": Operation("PUT_webhooks", webhooks.put_webhook),
        "DELETE": Operation("DELETE_webhooks-webhookId", webhooks.delete_webhook),
    },
    "/analytics/flow-usage": {"GET": Operation("GET_analytics-flow-usage", operators.get_flow_usage)},
    "/analytics/storage-usage": {
        "GET": Operation("GET_analytics-storage-usage", operators.get_storage_usage),
    },
    "/analytics/time-range-analysis": {
        "GET": Operation("GET_analytics-time-range-analysis", operators.get_time_range_analysis),
    },
    "/analytics/catalogue-summary": {
        "GET": Operation("GET_analytics-catalogue-summary", operators.get_catalogue_summary),
    },
    "/vast/status": {"GET": Operation("GET_vast-status", operators.get_vast_status)},
    "/vast/buckets": {"GET": Operation("GET_vast-buckets", operators.get_vast_buckets)},
    "/api/v1/vast/buckets": {"GET": Operation("GET_api-v1-vast-buckets", operators.get_vast_buckets)},
    "/sources": {
        "GET": Operation("GET_sources", sources.get_sources),
        "POST": Operation("POST_sources", sources.post_source),
    },
    **_SOURCE.path(
        "", {"GET": sources.get_source, "PUT": sources.put_source, "DELETE": sources.remove_source}
    ),
    **_SOURCE.texts(),
    "/sources/{sourceId}/hls.m3u8": {"GET": Operation("GET_source-hls", hls.get_source_playlist)},
    "/flows": {"GET": Operation("GET_flows", flows.get_flows)},
    **_FLOW.path("", {"GET": flows.get_flow, "PUT": flows.put, "DELETE": flows.delete_flow}),
    **_FLOW.texts(),
    **_FLOW.path(
        "/read_only",
        {
            "GET": get_property(Kind.FLOW, "flowId", "read_only", False),
            "PUT": put_property(flows.edit_read_only, "read_only", READ_ONLY),
        },
    ),
    **_FLOW.property("flow_collection", FLOW_COLLECTION, []),
    **_FLOW.property("max_bit_rate", BIT_RATE),
    **_FLOW.property("avg_bit_rate", BIT_RATE),
    **_FLOW.path(
        "/segments",
        {
            "GET": segments.get_segments,
            "POST": segments.post_segments,
            "DELETE": segments.delete_segments,
        },
    ),
    "/flows/{flowId}/hls.m3u8": {"GET": Operation("GET_flow-hls", hls.get_flow_playlist)},
    "/flows/{flowId}/hls/{objectId}": {"GET": Operation("GET_flow-hls-media", hls.get_flow_media)},
    **_FLOW.path("/storage", {"POST": segments.post_storage}),
    "/objects/{objectId}": {"GET": Operation("GET_objects", objects.get_object)},
    "/objects/{objectId}/instances": {
        "POST": Operation("POST_objects-instances", objects.post_instance),
        "DELETE": Operation("DELETE_objects-instances", objects.delete_instance),
    },
    "/flow-delete-requests": {
        "GET": Operation("GET_flow-delete-requests", deletions.get_deletions),
    },
    "/flow-delete-requests/{request-id}": {
        "GET": Operation("GET_flow-delete-requests-request-id", deletions.get_deletion),
    },
}

OPERATIONS: dict[str, Handler] = {
    operation.id: operation.handler for methods in ROUTES.values() for operation in methods.values()
}
