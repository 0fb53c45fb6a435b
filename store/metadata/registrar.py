"""Deciding about the segments of one request, in order: what every database does inside its transaction."""

from __future__ import annotations

from bisect import bisect_left
from collections.abc import Callable
from dataclasses import dataclass, field

from store.errors import BadRequest, Error
from store.metadata.protocol import Judge, Registration
from store.metadata.rows import NewSegment, ObjectRow
from store.timerange import MIN_NS


@dataclass(slots=True)
class Registrar:
    """Decides about segments one by one and keeps those that were accepted.

    `objects`: those that the segments name, as they are; they become what they are to be. `taken`: whether
    a segment that is there overlaps [start, stop); None where none does.
    """

    judge: Judge
    objects: dict[str, ObjectRow]
    taken: Callable[[int, int], bool] | None
    changed: dict[str, None] = field(default_factory=dict)
    accepted: list[NewSegment] = field(default_factory=list)
    _spans: list[tuple[int, int]] = field(default_factory=list)

    def register(self, segment: NewSegment) -> Error | None:
        """Accept a segment, or say why not."""
        start, stop, spans, objects = segment.start_ns, segment.stop_ns, self._spans, self.objects
        # Before this lie the spans that begin earlier than the segment ends, none of which overlap. Most
        # come in order.
        at = len(spans)
        if at and spans[-1][0] >= stop:
            at = bisect_left(spans, (stop, MIN_NS))
        if (at and spans[at - 1][1] > start) or (self.taken is not None and self.taken(start, stop)):
            return BadRequest("The segment overlaps another one of the flow.")
        obj = objects.get(segment.object_id)
        init_id = segment.init_object_id or (obj.init_object_id if obj is not None else None)
        init = None if init_id is None else objects.get(init_id)
        found = self.judge(segment, obj, init)
        if not isinstance(found, Registration):
            return found
        if obj is None and found.object is None:
            raise ValueError("a judge accepted a segment without an object")
        for row in found:
            if row is not None:
                objects[row.id] = row
                self.changed[row.id] = None
        spans.insert(at, (start, stop))
        self.accepted.append(segment)
        return None

    def uses(self) -> dict[str, int]:
        """How many of the accepted segments use each object, directly or as the init object of theirs."""
        uses: dict[str, int] = {}
        for segment in self.accepted:
            id = segment.object_id
            uses[id] = uses.get(id, 0) + 1
            init_id = self.objects[id].init_object_id
            if init_id is not None:
                uses[init_id] = uses.get(init_id, 0) + 1
        return uses
