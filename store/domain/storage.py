"""Allocation of places to upload to. Rules 40, 48, 49."""

from __future__ import annotations

import re
import uuid
from collections.abc import Callable, Mapping, Sequence
from datetime import UTC, datetime
from typing import Any

from store.domain.collections import flow_ref
from store.domain.draft import settled
from store.domain.segments import writable_flow
from store.errors import BadRequest
from store.media.protocol import Media
from store.metadata.protocol import Metadata
from store.metadata.rows import Expect, Instance, ObjectRow, Role
from store.models.common import STORAGE_OBJECTS
from store.models.storage import StoragePost
from store.params import UUID

DEFAULT_LIMIT = 10
_FOLDERS = uuid.UUID("6a7f2a0e-3a4f-4a51-9d8b-0d2f6c1f7b55")
"""The namespace of folders of flows."""
_KEY = re.compile(rf"\d{{4}}/\d\d/\d\d/{UUID.pattern}/{UUID.pattern}")


def resolve_backend(backends: Mapping[str, Media], storage_id: str | None) -> Media:
    """The backend to allocate on. Raises `BadRequest` when it does not exist or none is the default."""
    if storage_id is not None:
        if storage_id not in backends:
            raise BadRequest("`storage_id` names no storage backend.")
        return backends[storage_id]
    for media in backends.values():
        if media.backend.default:
            return media
    raise BadRequest("No storage backend is the default: name one by `storage_id`.")


def _ids(post: StoragePost, new_id: Callable[[], str]) -> Sequence[str]:
    """The ids of the objects to make room for; a limit beyond what one answer may hold is lowered."""
    if post.object_ids is not None:
        return post.object_ids
    count = DEFAULT_LIMIT if post.limit is None else post.limit
    return [new_id() for _ in range(min(count, STORAGE_OBJECTS))]


def is_object_key(key: str) -> bool:
    """Whether `object_key` made this."""
    return _KEY.fullmatch(key) is not None


def flow_folder(flow_id: str) -> str:
    """The folder of a flow's objects: a UUID of version 5 of the flow's id. URLs of an object show it to all
    who see one flow with the object, and the flow that it was made for may be hidden from them."""
    return str(uuid.uuid5(_FOLDERS, flow_id))


def object_key(folder: str, name: str, now_ns: int) -> str:
    """Where an object's bytes lie: by day and flow for people and lifecycle rules; never by object id.
    `is_object_key` knows them again."""
    day = datetime.fromtimestamp(now_ns // 1_000_000_000, UTC)
    return f"{day:%Y/%m/%d}/{folder}/{name}"


async def allocate(
    metadata: Metadata,
    backends: Mapping[str, Media],
    flow_id: str,
    post: StoragePost,
    *,
    now_ns: int,
    new_id: Callable[[], str],
    expect: Expect | None,
) -> list[dict[str, Any]]:
    """Allocate objects for a flow; the `media_objects` of the answer, in the order asked for.

    Raises what `writable_flow` and `resolve_backend` raise, and `BadRequest` when an id is taken.
    """

    async def step() -> list[dict[str, Any]]:
        row, flow = await writable_flow(metadata, flow_id)
        media = resolve_backend(backends, post.storage_id)
        content_type = post.content_type or flow["container"]
        folder, ids = flow_folder(flow_id), _ids(post, new_id)
        created_ns = max(now_ns, row.created_ns)
        objects = [
            ObjectRow(
                object_id,
                Role.UNUSED,
                flow_id,
                created_ns,
                (Instance(media.backend.id, object_key(folder, new_id(), now_ns), content_type),),
            )
            for object_id in ids
        ]
        await metadata.allocate(objects, flow_ref(flow_id), row.version, expect)
        presigned = post.presigned is not False
        return [_upload(obj, media, presigned, now_ns // 1_000_000_000) for obj in objects]

    return await settled(step)


def _upload(obj: ObjectRow, media: Media, presigned: bool, now_s: int) -> dict[str, Any]:
    place = obj.instances[0]
    put = media.put_url(place.key, content_type=place.content_type, presigned=presigned, now_s=now_s)
    headers = {"Content-Type": put.content_type}
    return {
        "object_id": obj.id,
        "put_url": {"url": put.url, "content-type": put.content_type, "headers": headers},
        "presigned": presigned,
    }
