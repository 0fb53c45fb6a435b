"""Webhooks (TAMS 8.2 webhook.json, webhook-post.json, webhook-put.json, webhook-get.json)."""

from __future__ import annotations

from typing import Annotated, Final, Literal

from pydantic import AfterValidator, BeforeValidator, Field, StringConstraints

from store.models.common import (
    FILTER_IDS,
    HEADER_NAME_PATTERN,
    HEADER_VALUE_PATTERN,
    Label,
    Model,
    Opt,
    Tags,
    Url,
    Uuid,
    UuidList,
    refusal,
)
from store.models.error import Error

# The names of the older deployment (its scripts go on working).
EVENT_ALIASES: Final = {
    "flow.created": "flows/created",
    "flow.updated": "flows/updated",
    "flow.deleted": "flows/deleted",
    "segment.added": "flows/segments_added",
    "segment.created": "flows/segments_added",
    "segment.uploaded": "flows/segments_added",
    "segment.deleted": "flows/segments_deleted",
    "source.created": "sources/created",
    "source.updated": "sources/updated",
    "source.deleted": "sources/deleted",
}
FORBIDDEN_HEADERS: Final = frozenset(
    {"connection", "content-length", "content-type", "expect", "host", "keep-alive", "te", "trailer"}
    | {"transfer-encoding", "upgrade", "webhook-id", "webhook-timestamp", "webhook-signature"}
)


def _current_name(event: object) -> object:
    return EVENT_ALIASES.get(event, event) if isinstance(event, str) else event


def _without_repeats(events: list[str]) -> list[str]:
    return list(dict.fromkeys(events))


def _settable_header(name: str) -> str:
    if name.lower() in FORBIDDEN_HEADERS:
        raise refusal("names a header that the delivery itself sets")
    return name


EventName = Literal[
    "flows/created",
    "flows/updated",
    "flows/deleted",
    "flows/segments_added",
    "flows/segments_deleted",
    "sources/created",
    "sources/updated",
    "sources/deleted",
]
Events = Annotated[
    list[Annotated[EventName, BeforeValidator(_current_name)]],
    Field(max_length=100),
    AfterValidator(_without_repeats),
]
HeaderName = Annotated[
    str,
    StringConstraints(pattern=HEADER_NAME_PATTERN),
    AfterValidator(_settable_header),
]
HeaderValue = Annotated[str, StringConstraints(pattern=HEADER_VALUE_PATTERN, max_length=4096)]
ClientStatus = Literal["created", "disabled"]


class _Webhook(Model):
    """What to tell, of what, to whom. An empty list is not the same as no list (rules 59 and 60)."""

    url: Url
    events: Events
    api_key_name: Opt[HeaderName] = None
    flow_ids: Opt[UuidList] = None
    source_ids: Opt[UuidList] = None
    flow_collected_by_ids: Opt[UuidList] = None
    source_collected_by_ids: Opt[UuidList] = None
    accept_get_urls: Opt[Annotated[list[Label], Field(max_length=FILTER_IDS)]] = None
    accept_storage_ids: Opt[UuidList] = None
    presigned: Opt[bool] = None
    verbose_storage: Opt[bool] = None
    include_object_timerange: Opt[bool] = None
    tags: Opt[Tags] = None


class WebhookPost(_Webhook):
    """A webhook to register."""

    api_key_value: Opt[HeaderValue] = Field(default=None, repr=False)
    status: Opt[ClientStatus] = None


class WebhookPut(_Webhook):
    """A webhook to replace."""

    id: Uuid
    status: ClientStatus
    api_key_value: Opt[HeaderValue] = Field(default=None, repr=False)


class WebhookGet(_Webhook):
    """A webhook as it is shown: never with `api_key_value`."""

    id: Uuid
    status: Literal["created", "started", "disabled", "error"]
    error: Opt[Error] = None
