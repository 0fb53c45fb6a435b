"""Objects, where to read them, and new instances (TAMS 8.2 object.json, objects-instances-post.json)."""

from __future__ import annotations

from typing import Annotated, Final, Literal

from pydantic import BeforeValidator, Discriminator, Tag, TypeAdapter

from store.models.common import (
    ClosedModel,
    Integer,
    Label,
    Model,
    Opt,
    Tags,
    TimeRangeText,
    Url,
    Uuid,
    refusal,
)


class GetUrl(ClosedModel):
    """Where an object can be read; the backend's properties come with `verbose_storage`."""

    url: str
    storage_id: Opt[Uuid] = None
    label: Opt[str] = None
    presigned: Opt[bool] = None
    controlled: Opt[bool] = None
    store_type: Opt[Literal["http_object_store"]] = None
    provider: Opt[str] = None
    region: Opt[str] = None
    availability_zone: Opt[str] = None
    store_product: Opt[str] = None
    tags: Opt[Tags] = None


class InitObject(ClosedModel):
    """The initialisation segment that a media object needs."""

    id: str
    get_urls: Opt[list[GetUrl]] = None


class Object(ClosedModel):
    """A stored object. `timerange` is set for media and absent for initialisation segments."""

    id: str
    referenced_by_flows: list[Uuid]
    first_referenced_by_flow: Opt[Uuid] = None
    timerange: Opt[TimeRangeText] = None
    init_object: Opt[InitObject] = None
    key_frame_count: Opt[Integer] = None
    get_urls: Opt[list[GetUrl]] = None


class ControlledInstance(Model):
    """A copy to be made on another storage backend."""

    storage_id: Uuid


class UncontrolledInstance(Model):
    """A copy that exists already, outside the store's control."""

    url: Url
    label: Annotated[Label, BeforeValidator(lambda value: _named(value))]


def _named(value: object) -> object:
    if value == "":
        raise refusal("must not be empty")
    return value


def _one_kind_of_instance(document: object) -> object:
    if isinstance(document, dict):
        if "storage_id" in document and "url" in document:
            raise refusal("storage_id and url exclude each other")
        if "storage_id" not in document and "url" not in document:
            raise refusal("either storage_id, or url and label, are required")
    return document


def _kind(document: object) -> str:
    return "<controlled>" if isinstance(document, dict) and "storage_id" in document else "<uncontrolled>"


InstancesPost = Annotated[
    Annotated[ControlledInstance, Tag("<controlled>")]
    | Annotated[UncontrolledInstance, Tag("<uncontrolled>")],
    Discriminator(_kind),
    BeforeValidator(_one_kind_of_instance),
]

INSTANCES_POST: Final[TypeAdapter[InstancesPost]] = TypeAdapter(InstancesPost)
