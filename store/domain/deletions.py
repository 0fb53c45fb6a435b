"""Deleting segments and flows: at once when few, else by a request that a worker carries out. Rules 30,
32, 55, 56."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from dataclasses import dataclass

import orjson

from store.domain.collections import flow_ref, source_ref
from store.domain.draft import Draft, settled
from store.domain.flows import Edit, deleting, deletion_of, remove_flow
from store.errors import Forbidden, NotFound
from store.events import values as events
from store.metadata.protocol import DeleteSegments, Metadata
from store.metadata.rows import DeletedSegments, Document, Event, Kind, Ref, Row
from store.models.common import format_time
from store.timerange import TimeRange

CHUNK = 1000
EXPIRY_NS = 7 * 24 * 3600 * 1_000_000_000


@dataclass(frozen=True, slots=True)
class Deletion:
    """What a client asked to have deleted. `inline` segments are deleted before answering."""

    flow_id: str
    timerange: TimeRange
    object_id: str | None
    delete_flow: bool
    inline: int
    edit: Edit
    new_id: Callable[[], str]


async def delete(metadata: Metadata, asked: Deletion) -> Document | None:
    """Delete segments of a flow, and the flow if so asked. None when all is gone, else the deletion
    request that goes on in the background: an earlier one where the flow is going already.

    Raises `NotFound`, and `Forbidden` for a read-only flow.
    """
    row = await _deletable(metadata, asked)
    earlier = deletion_of(row)
    if earlier is not None:
        return await load_document(metadata, Ref(Kind.DELETION, earlier))
    source_id = orjson.loads(row.document)["source_id"]
    source = await load_document(metadata, source_ref(source_id))
    left = asked.inline
    while left > 0:
        done = await delete_chunk(metadata, asked, min(left, CHUNK), source)
        if not done.more:
            if asked.delete_flow:
                await remove_flow(metadata, asked.flow_id, asked.edit)
            return None
        left -= done.count
    return await _request(metadata, asked)


async def _deletable(metadata: Metadata, asked: Deletion) -> Row:
    ref = flow_ref(asked.flow_id)
    row = (await metadata.rows([ref])).get(ref)
    if row is None:
        raise NotFound("No such flow.")
    if orjson.loads(row.document).get("read_only"):
        raise Forbidden("The flow is read-only.")
    return row


async def delete_chunk(
    metadata: Metadata, asked: Deletion, limit: int, source: Document | None
) -> DeletedSegments:
    """Delete up to `limit` of the segments asked for, earliest first. `source` is the flow's, for the
    event."""

    def announce(flow: Row, start_ns: int, stop_ns: int) -> Iterable[Event]:
        timerange = str(TimeRange(start_ns, stop_ns))
        document = orjson.loads(flow.document)
        yield events.segments_deleted(document, source, timerange, asked.edit.now_ns)

    return await settled(
        lambda: metadata.delete_segments(
            DeleteSegments(
                asked.flow_id,
                asked.timerange,
                asked.object_id,
                limit,
                announce,
                asked.edit.now_ns,
                expect=asked.edit.expect,
            )
        )
    )


async def load_document(metadata: Metadata, ref: Ref) -> Document | None:
    """One document, None when it does not exist."""
    row = (await metadata.rows([ref])).get(ref)
    return orjson.loads(row.document) if row else None


async def _request(metadata: Metadata, asked: Deletion) -> Document:
    """Write down a deletion request; a flow that is to go takes no more writes from now on."""
    edit = asked.edit
    ref = Ref(Kind.DELETION, asked.new_id())

    async def step() -> Document:
        draft = Draft(metadata, edit.expect)
        flow = flow_ref(asked.flow_id)
        await draft.load([flow])
        document, row = draft.get(flow), draft.row(flow)
        if document is None or row is None:
            raise NotFound("No such flow.")
        request = {
            "id": ref.id,
            "flow_id": asked.flow_id,
            "timerange_to_delete": str(asked.timerange),
            "timerange_remaining": str(asked.timerange),
            "delete_flow": asked.delete_flow,
            "created": edit.time,
            "created_by": edit.actor or "anonymous",
            "updated": edit.time,
            "expiry": format_time(edit.now_ns + EXPIRY_NS),
            "status": "created",
        }
        private = orjson.dumps({"classes": sorted(row.classes), "object_id": asked.object_id})
        draft.put(ref, request, private)
        if asked.delete_flow:
            draft.put(flow, document, deleting(ref.id))
        await draft.commit(edit.now_ns)
        return request

    return await settled(step)
