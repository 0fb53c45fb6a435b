"""The sealed past of a stream: media objects of entries, found by the segments of its flow."""

from __future__ import annotations

import asyncio
import contextlib
from bisect import bisect_right
from collections.abc import AsyncGenerator, Mapping

from cachetools import LRUCache

from store.errors import NotFound, Unavailable
from store.media.protocol import Media
from store.metadata.protocol import Metadata
from store.metadata.query import SegmentQuery
from store.metadata.rows import Instance, ObjectRow, SegmentPage, SegmentRow
from store.streams.page import EMPTY, Page, most, page
from store.streams.records import (
    ENTRY_BYTES,
    SEALED_HEADER_BYTES,
    TAIL_ENTRY_BYTES,
    Broken,
    Head,
    Index,
    hot_tail_bytes,
    is_hot,
    read_hot_tail,
    read_sealed_head,
    sealed_head_bytes,
)
from store.timerange import TimeRange

SEGMENTS = 16
KEPT = 64
"""Indexes in memory."""
_FIRST_BYTES = SEALED_HEADER_BYTES + 1024 * ENTRY_BYTES
_LAST_BYTES = SEALED_HEADER_BYTES + 1024 * TAIL_ENTRY_BYTES
_REMOVED = "An object of entries has just been removed."


class Sealed:
    """Reads sealed entries. Objects of a flow that hold no entries are passed over."""

    def __init__(self, metadata: Metadata, backends: Mapping[str, Media]) -> None:
        self._metadata = metadata
        self._backends = backends
        self._indexes: LRUCache[str, Index | None] = LRUCache(KEPT)

    async def read(self, flow_id: str, after: int, limit: int, most_bytes: int, floor: int = 0) -> Page:
        """Entries after an id, one at least where there is any; see `HotLog.read`."""
        async with contextlib.aclosing(self.ascending(flow_id, after)) as found:
            async for row, index in found:
                first = max(bisect_right(index.ids, after), floor - index.head.ordinal)
                last = min(len(index.ids), first + limit)
                if first < last:
                    last = most(index.lengths, first, last, most_bytes)
                    return await self._page(row, index, first, last)
        return EMPTY

    async def ascending(self, flow_id: str, after: int) -> AsyncGenerator[tuple[ObjectRow, Index], None]:
        """The objects that have entries after an id, and perhaps some before."""
        async for row in self._segments(flow_id, after):
            index = await self.index(row.object)
            if index is not None and index.ids and index.ids[-1] > after:
                yield row.object, index

    async def _found(self, query: SegmentQuery) -> SegmentPage:
        # That a hot file is gone, which leads here, a thread may have learnt in this very turn of the loop,
        # while the turn's reads of metadata are all of the state that the first of them met.
        await asyncio.sleep(0)
        return await self._metadata.segments(query)

    async def _segments(self, flow_id: str, after: int) -> AsyncGenerator[SegmentRow, None]:
        behind: int | None = None
        while True:
            query = SegmentQuery(flow_id, SEGMENTS, TimeRange(after + 1, None), after_ns=behind)
            found = await self._found(query)
            if found.flow is None:
                raise NotFound("No such stream.")
            for row in found.rows:
                yield row
            if not found.more:
                return
            behind = found.rows[-1].start_ns

    async def before_newest(self, flow_id: str, count: int, before: int) -> int:
        """The id behind which the newest `count` entries up to and with `before` come; 0 for all."""
        behind: int | None = None
        while True:
            within = TimeRange(None, before, True, True)
            query = SegmentQuery(flow_id, SEGMENTS, within, reverse=True, after_ns=behind)
            found = await self._found(query)
            for row in found.rows:
                index = await self.index(row.object)
                if index is None:
                    continue
                there = bisect_right(index.ids, before)
                if there >= count:
                    return index.ids[there - count] - 1
                count -= there
            if not found.more:
                return 0
            behind = found.rows[-1].start_ns

    async def last_head(self, flow_id: str) -> Head | None:
        """Where a stream goes on behind its last segment; None without one."""
        found = await self._found(SegmentQuery(flow_id, 1, reverse=True))
        for row in found.rows:
            index = await self.index(row.object)
            if index is None:
                return Head(row.stop_ns - 1, 0, 0)
            size_bytes = sum(index.lengths) + ENTRY_BYTES * len(index.ids)
            return Head(
                max(row.stop_ns - 1, index.ids[-1] if index.ids else 0),
                index.head.ordinal + len(index.ids),
                index.head.size_before + size_bytes,
            )
        return None

    async def index(self, row: ObjectRow) -> Index | None:
        """What an object of entries holds; None for one of anything else. Raises `errors.Unavailable`."""
        if row.id in self._indexes:
            return self._indexes[row.id]
        if not row.instances:
            return None
        try:
            index: Index | None = await self._read_index(row)
        except Broken:
            index = None
        self._indexes[row.id] = index
        return index

    async def _read_index(self, row: ObjectRow) -> Index:
        head = await self._bytes(row, 0, _FIRST_BYTES)
        if is_hot(head):
            end = len(head) if len(head) < _FIRST_BYTES else await self._size_bytes(row)
            tail = head if len(head) == end else await self._bytes(row, max(0, end - _LAST_BYTES), end)
            size_bytes = hot_tail_bytes(tail)
            if size_bytes > len(tail):
                tail = await self._bytes(row, max(0, end - size_bytes), end)
            return read_hot_tail(tail)
        size_bytes = sealed_head_bytes(head)
        if size_bytes > len(head):
            head = await self._bytes(row, 0, size_bytes)
        return read_sealed_head(head)

    async def _size_bytes(self, row: ObjectRow) -> int:
        if row.size_bytes is not None:
            return row.size_bytes
        media, instance = self._place(row)
        found = await media.stat(instance.key, version=instance.version)
        if found is None:
            raise Unavailable(_REMOVED)
        return found.size_bytes

    async def _page(self, row: ObjectRow, index: Index, first: int, last: int) -> Page:
        begin, end = index.starts[first], index.starts[last - 1] + index.lengths[last - 1]
        data = await self._bytes(row, begin, end) if end > begin else b""
        if len(data) < end - begin:
            raise Unavailable("An object of entries is shorter than it was.")
        span = (first, last)
        return page(index.ids, index.starts, index.lengths, span, lambda at, n: data[at - begin :][:n])

    async def _bytes(self, row: ObjectRow, start: int, end: int) -> bytes:
        media, instance = self._place(row)
        try:
            async with contextlib.aclosing(
                media.read(instance.key, version=instance.version, start=start, end=end)
            ) as chunks:
                return b"".join([chunk async for chunk in chunks])
        except NotFound as exc:
            # Deleted since its segment was listed: whoever asks again will not find it any more.
            raise Unavailable(_REMOVED) from exc

    def _place(self, row: ObjectRow) -> tuple[Media, Instance]:
        for instance in row.instances:
            if instance.complete and instance.backend_id in self._backends:
                return self._backends[instance.backend_id], instance
        raise Unavailable("The storage backend of an object of entries is not available.")
