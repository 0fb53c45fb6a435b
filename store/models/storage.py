"""Storage asked for and given (TAMS 8.2 flow-storage-post.json, flow-storage.json, http-request.json)."""

from __future__ import annotations

from typing import Annotated, Self

from pydantic import AfterValidator, ConfigDict, Field, model_validator

from store.models.common import (
    STORAGE_OBJECTS,
    ClosedModel,
    MimeType,
    Model,
    ObjectId,
    Opt,
    Positive,
    Uuid,
    refusal,
)


def _unique(ids: list[str]) -> list[str]:
    if len(set(ids)) != len(ids):
        raise refusal("the object ids must differ")
    return ids


class StoragePost(Model):
    """How many objects to make room for, or which; every property may be left out."""

    model_config = ConfigDict(json_schema_extra={"not": {"required": ["limit", "object_ids"]}})

    limit: Opt[Positive] = None
    object_ids: Opt[Annotated[list[ObjectId], Field(max_length=STORAGE_OBJECTS), AfterValidator(_unique)]] = (
        None
    )
    storage_id: Opt[Uuid] = None
    content_type: Opt[MimeType] = None
    presigned: Opt[bool] = None

    @model_validator(mode="after")
    def _limit_or_ids(self) -> Self:
        if self.limit is not None and self.object_ids is not None:
            raise refusal("limit and object_ids exclude each other")
        return self


class HttpRequest(Model):
    """A request for the client to make; the type stands in `content-type` and in `headers` both."""

    model_config = ConfigDict(extra="allow", validate_by_name=True, serialize_by_alias=True)

    url: str
    body: Opt[str] = None
    content_type: Opt[str] = Field(default=None, alias="content-type")
    headers: Opt[dict[str, str]] = None


class StorageObject(Model):
    """Where to upload one object."""

    object_id: str
    put_url: HttpRequest
    presigned: Opt[bool] = None


class Storage(ClosedModel):
    """The storage that was given."""

    media_objects: Opt[list[StorageObject]] = None
