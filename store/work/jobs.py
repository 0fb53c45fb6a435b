"""The store's background jobs: deletion requests, collection of garbage, old events."""

from __future__ import annotations

import logging
from collections.abc import AsyncGenerator

import orjson

from store.core import Store
from store.domain.collections import flow_ref, source_ref
from store.domain.copies import advance_copy
from store.domain.deletions import CHUNK, EXPIRY_NS, Deletion, delete_chunk, load_document
from store.domain.draft import Draft, settled
from store.domain.flows import Edit, remove_flow
from store.domain.orphans import GRACE_NS, Seen, before_s, orphans
from store.errors import Error, Full, Unavailable
from store.events.retention import forget_taken
from store.http import error_document, utc_now
from store.metadata.query import Query, Sort, updated_ns
from store.metadata.rows import Document, Kind, Row
from store.models.common import format_time
from store.timerange import NS_PER_S, TimeRange
from store.work.worker import Job

BATCH = 200
PENDING = ("created", "started")
_log = logging.getLogger(__name__)


async def carry_out_deletions(store: Store) -> bool:
    """One chunk of each deletion request that is not done, the oldest first."""
    pending: list[Row] = []
    for status in PENDING:
        rows, _ = await store.metadata.page(Query(Kind.DELETION, None, BATCH, reverse=True, status=status))
        pending += rows
    for row in pending:
        await _advance(store, row)
    return bool(pending)


async def _advance(store: Store, row: Row) -> None:
    request: Document = orjson.loads(row.document)
    try:
        remaining = await _delete_some(store, row, request)
    except (Unavailable, Full):
        raise
    except Error as exc:
        _log.error("deletion request %s: %s", row.id, exc)
        error = error_document(type(exc).__name__, exc.summary, utc_now())
        await _note(store, row, {"status": "error", "error": error})
        return
    if remaining is None:
        await _note(store, row, {"status": "done", "timerange_remaining": "()"})
    else:
        await _note(store, row, {"status": "started", "timerange_remaining": str(remaining)})


async def _delete_some(store: Store, row: Row, request: Document) -> TimeRange | None:
    """Delete a chunk, and the flow behind the last one; what is left, None for nothing."""
    private = orjson.loads(row.private or b"{}")
    asked = Deletion(
        flow_id=request["flow_id"],
        timerange=TimeRange.parse(request["timerange_to_delete"]),
        object_id=private.get("object_id"),
        delete_flow=request["delete_flow"],
        inline=0,
        edit=Edit(request["created_by"], store.now_ns(), store.new_id()),
        new_id=store.new_id,
    )
    flow = await load_document(store.metadata, flow_ref(asked.flow_id))
    if flow is None:
        return None
    source = await load_document(store.metadata, source_ref(flow["source_id"]))
    done = await delete_chunk(store.metadata, asked, CHUNK, source)
    if done.more:
        whole = asked.timerange
        return whole if done.stop_ns is None else whole.intersection(TimeRange(done.stop_ns, None))
    if asked.delete_flow:
        await remove_flow(store.metadata, asked.flow_id, asked.edit)
    return None


async def _note(store: Store, row: Row, change: Document) -> None:
    """Write down how far a request has come; one that has ended is kept for a while."""

    async def step() -> None:
        draft = Draft(store.metadata)
        await draft.load([row.ref])
        document = draft.get(row.ref)
        if document is None:
            return
        now_ns = store.now_ns()
        times = {"updated": format_time(now_ns)}
        if change["status"] not in PENDING:
            times["expiry"] = format_time(now_ns + EXPIRY_NS)
        draft.put(row.ref, {**document, **change, **times})
        await draft.commit(now_ns)

    await settled(step)


async def forget_deletions(store: Store) -> bool:
    """Drop deletion requests that have ended and expired."""
    query = Query(Kind.DELETION, None, BATCH, sort=Sort.EXPIRY, reverse=True)
    rows, more = await store.metadata.page(query)
    forgotten = 0
    for row in rows:
        request: Document = orjson.loads(row.document)
        if updated_ns(Kind.DELETION, request, 0) >= store.now_ns():
            return False
        if request["status"] not in PENDING:
            await _forget(store, row)
            forgotten += 1
    return more and forgotten > 0


async def _forget(store: Store, row: Row) -> None:
    draft = Draft(store.metadata)
    await draft.load([row.ref])
    if draft.get(row.ref) is not None:
        draft.remove(row.ref)
        await draft.commit(store.now_ns())


async def fill_copies(store: Store) -> bool:
    """Fill the instances that clients asked for, the oldest first."""
    rows, _ = await store.metadata.page(Query(Kind.COPY, None, BATCH, reverse=True))
    busy = False

    def fetch(url: str) -> AsyncGenerator[bytes, None]:
        # It takes a while to import, and few servers ever fetch anything.
        from store.work.fetching import fetched

        return fetched(store.addresses, url)

    for row in rows:
        try:
            busy |= await advance_copy(store.metadata, store.backends, row, store.now_ns(), fetch)
        except (Unavailable, Full) as exc:
            _log.warning("copy %s waits: %s", row.id, exc)
    return busy


async def collect_garbage(store: Store) -> bool:
    """Remove the bytes of objects that nothing refers to, and of those never registered in time.

    What a storage backend that is down, or is not configured any more, cannot remove stays listed.
    """
    before_ns = store.now_ns() - store.service.min_object_timeout_s * NS_PER_S - GRACE_NS
    doomed = await store.metadata.collect(before_ns, BATCH)
    by_backend: dict[str, list[str]] = {}
    for each in doomed:
        by_backend.setdefault(each.backend_id, []).append(each.key)
    removed = 0
    for backend_id, keys in by_backend.items():
        media = store.backends.get(backend_id)
        if media is None:
            continue
        try:
            await media.delete(keys)
        except Unavailable as exc:
            _log.warning("storage backend %s: %d objects wait for removal: %s", backend_id, len(keys), exc)
            continue
        await store.metadata.removed([each for each in doomed if each.backend_id == backend_id])
        removed += len(keys)
    return removed >= BATCH


async def collect_orphans(store: Store) -> bool:
    """Remove bytes that no object has: what was uploaded again after its object was collected.

    Only keys that this store makes, and only where nobody else does: a bucket may be shared.
    """
    modified_before_s = before_s(store.now_ns(), store.service.min_object_timeout_s)
    for backend_id in store.own_backends:
        media = store.backends[backend_id]
        found = [key async for key in orphans(store.metadata, media, modified_before_s, Seen())]
        if found:
            _log.info("storage backend %s: removing %d objects that nothing names", backend_id, len(found))
            await media.delete(found)
    return False


async def forget_events(store: Store) -> bool:
    """Drop events that every webhook has taken, and those that are too old."""
    await forget_taken(store.metadata, store.now_ns(), store.events_kept_ns)
    return False


JOBS = (
    Job("deletions", 1.0, carry_out_deletions),
    Job("copies", 1.0, fill_copies),
    Job("expiry", 600.0, forget_deletions),
    Job("garbage", 30.0, collect_garbage),
    Job("orphans", 24 * 3600.0, collect_orphans),
    Job("events", 3600.0, forget_events),
)
