"""Objects as clients see them, and their instances. Rules 51-54."""

from __future__ import annotations

from typing import Any

import orjson

from store.domain.draft import settled
from store.domain.urls import UrlWriter
from store.errors import BadRequest, Forbidden, NotFound
from store.metadata.protocol import Metadata
from store.metadata.rows import Expect, ObjectPage, ObjectRow, Role, UncontrolledUrl

MOST_URLS = 64


def object_body(page: ObjectPage, urls: UrlWriter) -> bytes:
    """An object as GET /objects/{objectId} returns it."""
    row = page.row
    document: dict[str, Any] = {
        "id": row.id,
        "referenced_by_flows": page.flow_ids,
        "first_referenced_by_flow": row.flow_id,
    }
    if row.role is Role.MEDIA:
        document["timerange"] = row.timerange
    if row.key_frame_count is not None:
        document["key_frame_count"] = row.key_frame_count
    parts = [orjson.dumps(document)[:-1], b',"get_urls":', urls.write(row)]
    if page.init_object is not None:
        init = orjson.dumps({"id": page.init_object.id})[:-1]
        parts += [b',"init_object":', init, b',"get_urls":', urls.write(page.init_object), b"}"]
    return b"".join(parts) + b"}"


async def registered(metadata: Metadata, object_id: str) -> ObjectRow:
    """An object that is registered. Raises `NotFound`, for one that is only allocated too (rule 51)."""
    row = (await metadata.objects([object_id])).get(object_id)
    if row is None or row.role is Role.UNUSED:
        raise NotFound("No such object.")
    return row


async def add_url(
    metadata: Metadata,
    object_id: str,
    url: UncontrolledUrl,
    backend_labels: set[str | None],
    expect: Expect | None,
) -> None:
    """Add an uncontrolled instance. Raises `NotFound`, and `BadRequest` for a label that is taken."""
    if url.label in backend_labels:
        raise BadRequest("`label` is that of a storage backend.")

    async def step() -> None:
        row = await registered(metadata, object_id)
        if any(known.label == url.label for known in row.urls):
            raise BadRequest("`label` names an instance of the object already.")
        if len(row.urls) >= MOST_URLS:
            raise BadRequest(f"An object can have at most {MOST_URLS} uncontrolled instances.")
        await metadata.replace_object(row._replace(urls=(*row.urls, url)), expect)

    await settled(step)


def remaining(row: ObjectRow) -> ObjectRow:
    """An object that lost an instance. Raises `Forbidden` when it was the last (rule 54)."""
    if not row.urls and not any(instance.complete for instance in row.instances):
        raise Forbidden("The last instance of an object cannot be deleted.")
    return row


async def remove_url(metadata: Metadata, object_id: str, label: str, expect: Expect | None) -> None:
    """Remove an uncontrolled instance. Raises `NotFound` for the object, `BadRequest` for a label that
    names none, `Forbidden` for the last instance."""

    async def step() -> None:
        row = await registered(metadata, object_id)
        urls = tuple(known for known in row.urls if known.label != label)
        if len(urls) == len(row.urls):
            raise BadRequest("`label` names no uncontrolled instance of the object.")
        await metadata.replace_object(remaining(row._replace(urls=urls)), expect)

    await settled(step)
