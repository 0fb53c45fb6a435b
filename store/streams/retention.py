"""Trimming: what a stream keeps no longer goes, whole segments at a time. What may be read ends exactly."""

from __future__ import annotations

from collections.abc import Callable

from store.domain.collections import flow_ref, source_ref
from store.domain.deletions import Deletion, delete_chunk, load_document
from store.domain.flows import Edit
from store.metadata.protocol import Metadata
from store.streams.commits import Extent
from store.streams.flows import Retention, Stream
from store.streams.records import Index
from store.streams.sealed import Sealed
from store.timerange import NS_PER_S, TimeRange

MOST = 1000
"""Segments that go in one turn."""
ACTOR = "retention"


def floor_of(retention: Retention, extent: Extent) -> int:
    """How many entries of a stream there are before the first that may be read."""
    return 0 if retention.entries is None else max(0, extent.count - retention.entries)


def oldest_ns(retention: Retention, now_ns: int) -> int:
    """Entries with an id before this may not be read any more."""
    return 0 if retention.age_s is None else max(0, now_ns - retention.age_s * NS_PER_S)


def is_over(retention: Retention, extent: Extent, index: Index, now_ns: int) -> bool:
    """Whether nothing of an object is kept: by number, by age, by the size of all that is as new."""
    last = index.ids[-1]
    before = index.head.ordinal + len(index.ids)
    size_bytes = extent.size_bytes - index.head.size_before
    return (
        before <= floor_of(retention, extent)
        or last < oldest_ns(retention, now_ns)
        or (retention.size_bytes is not None and size_bytes > retention.size_bytes)
    )


async def trim(
    metadata: Metadata,
    sealed: Sealed,
    stream: Stream,
    extent: Extent,
    now_ns: int,
    new_id: Callable[[], str],
) -> int | None:
    """Delete the segments of which nothing is kept, oldest first; the id of the last entry that went.

    The newest segment stays: it says where the stream goes on.
    """
    end: int | None = None
    kept: int | None = None
    number = 0
    async for _, index in sealed.ascending(stream.flow_id, 0):
        if kept is not None:
            end = kept
            number += 1
        if number >= MOST or not is_over(stream.retention, extent, index, now_ns):
            break
        kept = index.ids[-1]
    if end is None:
        return None
    return await _delete(metadata, stream, end, now_ns, new_id)


async def _delete(
    metadata: Metadata, stream: Stream, end: int, now_ns: int, new_id: Callable[[], str]
) -> int | None:
    ref = flow_ref(stream.flow_id)
    flow = await load_document(metadata, ref)
    if flow is None:
        return None
    source = await load_document(metadata, source_ref(flow["source_id"]))
    edit = Edit(ACTOR, now_ns, new_id())
    within = TimeRange(None, end, True, True)
    asked = Deletion(stream.flow_id, within, None, False, MOST, edit, new_id)
    while (await delete_chunk(metadata, asked, MOST, source)).more:
        continue
    return end
