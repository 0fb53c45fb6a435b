"""Controlled instances: copies of an object on another storage backend, made in the background. Rule 54.

A copy is written down as a document before its instance is, so that whatever is under way is found again
after a restart; the instance is not advertised until its bytes are complete.
"""

from __future__ import annotations

from collections.abc import AsyncGenerator, Callable, Mapping
from contextlib import aclosing

import orjson

from store.domain.collections import flow_ref
from store.domain.draft import Draft, settled
from store.domain.objects import registered, remaining
from store.domain.storage import flow_folder, object_key
from store.errors import BadRequest, NotFound, Unavailable
from store.media.protocol import Media, Stat
from store.metadata.protocol import Metadata
from store.metadata.rows import Document, Expect, Instance, Kind, ObjectRow, Ref, Row

Fetch = Callable[[str], AsyncGenerator[bytes, None]]
"""The bytes at a URL. Raises `Unavailable` for what may pass, `NotFound` for what will not."""
FIRST_WAIT_NS, LONGEST_WAIT_NS = 5 * 1_000_000_000, 3600 * 1_000_000_000
MOST_ATTEMPTS = 32
"""How often a URL that cannot be read now is tried: for about a day."""
NO_TYPE = "application/octet-stream"
YOUNG_NS = 60 * 1_000_000_000
"""For so long the instance of a copy that is written down may still be missing."""


async def request_copy(
    metadata: Metadata,
    backends: Mapping[str, Media],
    object_id: str,
    storage_id: str,
    *,
    now_ns: int,
    new_id: Callable[[], str],
    expect: Expect | None,
) -> None:
    """Make room for a copy on a storage backend and have it filled in the background.

    What it is copied from is found then: another controlled instance, else an uncontrolled one. Raises
    `NotFound` for the object, `BadRequest` for a backend that is none or has an instance already, and where
    there is nothing to copy from.
    """
    if storage_id not in backends:
        raise BadRequest("`storage_id` names no storage backend.")

    async def step() -> None:
        row = await registered(metadata, object_id)
        if any(instance.backend_id == storage_id for instance in row.instances):
            raise BadRequest("The object has an instance on this storage backend already.")
        source = next((instance for instance in row.instances if instance.complete), None)
        if source is None and not row.urls:
            raise BadRequest("The object has no instance that could be copied.")
        content_type = source.content_type if source else await _container(metadata, row.flow_id)
        key = object_key(flow_folder(row.flow_id), new_id(), now_ns)
        added = Instance(storage_id, key, content_type, complete=False)
        ref = Ref(Kind.COPY, new_id())
        draft = Draft(metadata)
        await draft.load([ref])
        draft.put(ref, {"id": ref.id, "object_id": object_id, "storage_id": storage_id, "key": key})
        await draft.commit(now_ns)
        await metadata.replace_object(row._replace(instances=(*row.instances, added)), expect)

    await settled(step)


async def _container(metadata: Metadata, flow_id: str) -> str:
    """The type of objects that no storage backend has yet: their flow's."""
    found = (await metadata.rows([flow_ref(flow_id)])).values()
    documents = [orjson.loads(row.document) for row in found]
    return next((str(each["container"]) for each in documents if "container" in each), NO_TYPE)


async def remove_copy(metadata: Metadata, object_id: str, storage_id: str, expect: Expect | None) -> None:
    """Remove an instance on a storage backend; its bytes follow.

    Raises `NotFound` for the object, `BadRequest` where there is no such instance, `Forbidden` for the last.
    """

    async def step() -> None:
        row = await registered(metadata, object_id)
        instances = tuple(i for i in row.instances if i.backend_id != storage_id)
        if len(instances) == len(row.instances):
            raise BadRequest("`storage_id` names no instance of the object.")
        await metadata.replace_object(remaining(row._replace(instances=instances)), expect)

    await settled(step)


async def advance_copy(
    metadata: Metadata, backends: Mapping[str, Media], row: Row, now_ns: int, fetch: Fetch
) -> bool:
    """Carry out one copy that is written down. False when it has to wait.

    Raises `errors.Unavailable` and `errors.Full` when it is to be tried again.
    """
    copy: Document = orjson.loads(row.document)
    obj = (await metadata.objects([copy["object_id"]])).get(copy["object_id"])
    target = _instance(obj, copy)
    if obj is None or target is None:
        if now_ns - row.created_ns < YOUNG_NS:
            return False
        await _forget(metadata, row, now_ns)
        return True
    if target.complete:
        await _forget(metadata, row, now_ns)
        return True
    media = backends.get(target.backend_id)
    if media is None:
        return False
    if copy.get("not_before_ns", 0) > now_ns:
        return False
    stat = await _copied(backends, obj, target, media)
    if stat is None and obj.urls:
        try:
            stat = await _fetched(obj, target, media, fetch)
        except Unavailable:
            if copy.get("attempts", 0) < MOST_ATTEMPTS:
                await _postpone(metadata, row, now_ns)
                return False
    await _complete(metadata, copy, stat)
    # It may have been deleted while it was filled; then its bytes were removed too early.
    present = _instance((await metadata.objects([obj.id])).get(obj.id), copy)
    if present is None and stat is not None:
        await media.delete([target.key])
    await _forget(metadata, row, now_ns)
    return True


def _instance(obj: ObjectRow | None, copy: Document) -> Instance | None:
    if obj is None:
        return None
    place = (copy["storage_id"], copy["key"])
    return next((i for i in obj.instances if (i.backend_id, i.key) == place), None)


async def _copied(
    backends: Mapping[str, Media], obj: ObjectRow, target: Instance, media: Media
) -> Stat | None:
    """What was copied from the first instance that has bytes; None when none has."""
    for source in obj.instances:
        origin = backends.get(source.backend_id)
        if origin is None or not source.complete:
            continue
        try:
            await media.copy(target.key, origin, source.key, version=source.version)
        except NotFound:
            continue
        return (await media.pin([target.key])).get(target.key)
    return None


async def _fetched(obj: ObjectRow, target: Instance, media: Media, fetch: Fetch) -> Stat | None:
    """What was read from the first URL that gives it; None when none ever will. Raises `Unavailable` when
    one may later."""
    failed: Unavailable | None = None
    for url in obj.urls:
        try:
            async with aclosing(fetch(url.url)) as chunks:
                await media.write(target.key, chunks, content_type=target.content_type)
            return (await media.pin([target.key])).get(target.key)
        except NotFound:
            continue
        except Unavailable as exc:
            failed = exc
    if failed is not None:
        raise failed
    return None


async def _postpone(metadata: Metadata, row: Row, now_ns: int) -> None:
    """Try again, ever later."""

    async def step() -> None:
        draft = Draft(metadata)
        await draft.load([row.ref])
        document = draft.get(row.ref)
        if document is None:
            return
        attempts = document.get("attempts", 0)
        wait_ns = min(LONGEST_WAIT_NS, FIRST_WAIT_NS << attempts)
        draft.put(row.ref, {**document, "attempts": attempts + 1, "not_before_ns": now_ns + wait_ns})
        await draft.commit(now_ns)

    await settled(step)


async def _complete(metadata: Metadata, copy: Document, stat: Stat | None) -> None:
    """Advertise the instance; one that nothing could be copied to is taken away again."""

    async def step() -> None:
        obj = (await metadata.objects([copy["object_id"]])).get(copy["object_id"])
        target = _instance(obj, copy)
        if obj is None or target is None:
            return
        filled = () if stat is None else (target._replace(version=stat.version, complete=True),)
        others = tuple(instance for instance in obj.instances if instance != target)
        await metadata.replace_object(obj._replace(instances=(*others, *filled)), None)

    await settled(step)


async def _forget(metadata: Metadata, row: Row, now_ns: int) -> None:
    async def step() -> None:
        draft = Draft(metadata)
        await draft.load([row.ref])
        if draft.get(row.ref) is not None:
            draft.remove(row.ref)
            await draft.commit(now_ns)

    await settled(step)
