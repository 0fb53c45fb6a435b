"""The store's background jobs: deletion requests, collection of garbage, old events."""

from __future__ import annotations

import orjson

from store.core import Store
from store.domain.collections import flow_ref, source_ref
from store.domain.deletions import CHUNK, Deletion, delete_chunk, load_document
from store.domain.draft import Draft, settled
from store.domain.flows import Edit, remove_flow
from store.metadata.query import Query, updated_ns
from store.metadata.rows import Document, Kind, Row
from store.timerange import TimeRange
from store.work.worker import Job

DAY_NS = 24 * 3600 * 1_000_000_000
GRACE_NS = 3600 * 1_000_000_000
EVENTS_KEPT_NS = 3 * DAY_NS
BATCH = 200


async def carry_out_deletions(store: Store) -> bool:
    """One chunk of the oldest deletion request that is not done, and forget those that have expired."""
    rows, _ = await store.metadata.page(Query(Kind.DELETION, None, BATCH, reverse=True))
    for row in rows:
        request: Document = orjson.loads(row.document)
        if request["status"] in ("created", "started"):
            return await _advance(store, row, request)
        if _expired(request, store.now_ns()):
            await _forget(store, row)
    return False


async def _advance(store: Store, row: Row, request: Document) -> bool:
    private = orjson.loads(row.private or b"{}")
    now_ns = store.now_ns()
    asked = Deletion(
        flow_id=request["flow_id"],
        timerange=TimeRange.parse(request["timerange_to_delete"]),
        object_id=private.get("object_id"),
        delete_flow=request["delete_flow"],
        inline=0,
        edit=Edit(request["created_by"], now_ns, store.new_id()),
        new_id=store.new_id,
    )
    flow = await load_document(store.metadata, flow_ref(asked.flow_id))
    if flow is None:
        await _note(store, row, "done", "()")
        return True
    source = await load_document(store.metadata, source_ref(flow["source_id"]))
    done = await delete_chunk(store.metadata, asked, CHUNK, source)
    if done.more:
        await _note(store, row, "started", _remaining(asked.timerange, done.stop_ns))
        return True
    if asked.delete_flow:
        await remove_flow(store.metadata, asked.flow_id, asked.edit)
    await _note(store, row, "done", "()")
    return True


def _remaining(whole: TimeRange, stop_ns: int | None) -> str:
    return str(whole if stop_ns is None else whole.intersection(TimeRange(stop_ns, None)))


async def _note(store: Store, row: Row, status: str, remaining: str) -> None:
    """Write down how far a request has come."""

    async def step() -> None:
        draft = Draft(store.metadata)
        await draft.load([row.ref])
        document = draft.get(row.ref)
        if document is None:
            return
        time = Edit(None, store.now_ns(), "").time
        draft.put(row.ref, {**document, "status": status, "timerange_remaining": remaining, "updated": time})
        await draft.commit(store.now_ns())

    await settled(step)


def _expired(request: Document, now_ns: int) -> bool:
    return updated_ns(Kind.DELETION, request, 0) < now_ns


async def _forget(store: Store, row: Row) -> None:
    draft = Draft(store.metadata)
    await draft.load([row.ref])
    if draft.get(row.ref) is not None:
        draft.remove(row.ref)
        await draft.commit(store.now_ns())


async def collect_garbage(store: Store) -> bool:
    """Remove the bytes of objects that nothing refers to, and of those never registered in time."""
    before_ns = store.now_ns() - store.service.min_object_timeout_s * 1_000_000_000 - GRACE_NS
    doomed = await store.metadata.collect(before_ns, BATCH)
    by_backend: dict[str, list[str]] = {}
    for each in doomed:
        by_backend.setdefault(each.backend_id, []).append(each.key)
    for backend_id, keys in by_backend.items():
        if backend_id in store.backends:
            await store.backends[backend_id].delete(keys)
    await store.metadata.removed([d for d in doomed if d.backend_id in store.backends])
    return len(doomed) == BATCH


async def forget_events(store: Store) -> bool:
    """Drop events that everybody has had time to take."""
    await store.metadata.forget_events(store.now_ns() - EVENTS_KEPT_NS)
    return False


JOBS = (
    Job("deletions", 1.0, carry_out_deletions),
    Job("garbage", 30.0, collect_garbage),
    Job("events", 3600.0, forget_events),
)
