"""The service and its storage backends (TAMS 8.2 service.json, service-post.json, storage-backend.json)."""

from __future__ import annotations

from typing import Annotated, Any, Final, Literal

from pydantic import StringConstraints, TypeAdapter

from store.models.common import Description, Label, Model, Opt, Tags, TimestampText, Uuid


class ServicePost(Model):
    """What an administrator may change."""

    name: Opt[Label] = None
    description: Opt[Description] = None


class EventStreamMechanism(Model):
    """A way to be told of events (TAMS 8.2 event-stream-common.json)."""

    name: str
    docs: Opt[str] = None
    config: Opt[dict[str, Any]] = None


class Service(ServicePost):
    """What the service says of itself. The timeouts are timestamps, in seconds and nanoseconds."""

    type: str
    api_version: Annotated[str, StringConstraints(pattern=r"^(0|[1-9]\d*)\.(0|[1-9]\d*)$")]
    min_object_timeout: TimestampText
    min_presigned_url_timeout: Opt[TimestampText] = None
    service_version: Opt[str] = None
    event_stream_mechanisms: Opt[list[EventStreamMechanism]] = None


class StorageBackend(Model):
    """A place for objects that the store controls."""

    id: Uuid
    store_type: Literal["http_object_store"]
    provider: str
    store_product: str
    label: Opt[str] = None
    region: Opt[str] = None
    availability_zone: Opt[str] = None
    default_storage: Opt[bool] = None
    tags: Opt[Tags] = None


STORAGE_BACKENDS: Final[TypeAdapter[list[StorageBackend]]] = TypeAdapter(list[StorageBackend])
