"""Segments in VAST DB: pages of them, registering and deleting them."""

from __future__ import annotations

from bisect import bisect_left
from collections import Counter
from collections.abc import Callable, Sequence
from typing import Any, Final, NamedTuple

from store.errors import BadRequest, Error
from store.metadata import vast_objects
from store.metadata.protocol import AddSegments, DeleteSegments, Stale
from store.metadata.query import SegmentQuery
from store.metadata.registrar import Registrar
from store.metadata.rows import (
    DeletedSegments,
    Expect,
    Kind,
    NewSegment,
    ObjectRow,
    Ref,
    Role,
    SegmentPage,
)
from store.metadata.vast_objects import Uses
from store.metadata.vast_predicates import Condition, above, at_least, at_most, equal
from store.metadata.vast_rows import (
    EMPTY,
    Held,
    Span,
    append_events,
    check,
    completed,
    earliest,
    expected,
    guard_absent,
    load,
    named,
    with_span,
)
from store.metadata.vast_tx import Tx
from store.metadata.vast_walk import Way, ahead
from store.timerange import MAX_NS, MIN_NS, TimeRange
from store.view import visible

COLUMNS: Final = ("start_ns", "object_id", "init_object_id", "document")
DROP_CHUNK: Final = 5_000
SPARE: Final = 1.5
"""By how much more than the mean of its segments a flow's page is thought to reach."""


class Extent(NamedTuple):
    """Where segments of a flow that overlap a timerange start, both inclusive, and what they end behind."""

    first_ns: int
    last_ns: int
    behind_ns: int | None


def extent(span: Span, within: TimeRange | None) -> Extent | None:
    """None when no segment can overlap. Segments of a flow do not overlap, so that only one that starts
    before `within` reaches into it."""
    if span.first_ns is None or span.last_ns is None or not span.segments:
        return None
    low, high, behind = span.first_ns, span.last_ns - 1, None
    if within is not None:
        if within.is_empty:
            return None
        if within.stop_ns is not None:
            high = min(high, within.stop_ns - 1)
        if within.first_ns is not None and within.first_ns > low:
            behind = within.first_ns
            low = max(low, earliest(within.first_ns, span.longest_ns))
    return Extent(low, high, behind) if low <= high else None


def _way(found: Extent, reverse: bool, after_ns: int | None) -> Way | None:
    """The way along the starts; None when it is at its end."""
    low, high = found.first_ns, found.last_ns
    if reverse:
        high = high if after_ns is None else min(high, after_ns - 1)
        return None if high < low else Way("start_ns", 0, True, high + 1 if high < MAX_NS else None, low)
    low = low if after_ns is None else max(low, after_ns + 1)
    return None if high < low else Way("start_ns", 0, False, low - 1 if low > MIN_NS else None, high)


def _step(span: Span, wanted: int) -> int | None:
    """How far so many segments reach, probably; None where all may be read at once."""
    if span.segments <= 4 * wanted or span.first_ns is None or span.last_ns is None:
        return None
    return max(1, int((span.last_ns - span.first_ns) / span.segments * wanted * SPARE))


def page(tx: Tx, query: SegmentQuery) -> SegmentPage:
    """A page of segments with their objects, and the flow's row."""
    found = with_span(tx, query.flow_id)
    if found is None:
        return SegmentPage(None)
    flow, span = found
    if not visible(query.view, flow.classes):
        return SegmentPage(flow)
    wanted = query.limit + 1
    records = _ordered(tx, query, span, wanted)
    shown = records[: query.limit]
    objects = vast_objects.get_many(tx, [id for record in shown for id in record[1:3] if id])
    missing = {row.init_object_id for row in objects.values() if row.init_object_id} - objects.keys()
    # A segment names the init object it was registered with; few objects ever change theirs.
    objects |= vast_objects.get_many(tx, [id for id in missing if id])
    return SegmentPage(
        flow,
        len(records) > query.limit,
        [record[0] for record in shown],
        [record[3] for record in shown],
        [objects[record[1]] for record in shown],
        objects,
    )


def _ordered(tx: Tx, query: SegmentQuery, span: Span, wanted: int) -> list[Any]:
    """The first segments in order, so many at most."""
    found = extent(span, query.timerange)
    way = None if found is None else _way(found, query.reverse, query.after_ns)
    if found is None or way is None:
        return []
    flow = equal("flow_id", query.flow_id)
    behind = () if found.behind_ns is None else (above("stop_ns", found.behind_ns),)
    if query.object_id is None:
        fetch = _fetcher(tx, COLUMNS, flow, *behind)
        return ahead(fetch, way, wanted, _step(span, wanted))[0][:wanted]
    # The starts are found by the object's own order; the rest of the rows is not in it.
    fetch = _fetcher(tx, ("start_ns",), equal("object_id", query.object_id), flow, *behind)
    starts = [start for (start,) in ahead(fetch, way, wanted)[0][:wanted]]
    return way.sorted(tx.select_among("segments", COLUMNS, "start_ns", starts, flow))


def _fetcher(
    tx: Tx, columns: Sequence[str], *conditions: Condition, row_ids: bool = False
) -> Callable[[tuple[Condition, ...], int | None], list[Any]]:
    def fetch(more: tuple[Condition, ...], most: int | None) -> list[Any]:
        return tx.select("segments", columns, *conditions, *more, limit=most, row_ids=row_ids)

    return fetch


def timerange(tx: Tx, flow_id: str, within: TimeRange) -> tuple[str, str] | None:
    """The timeranges of the first and the last segment that overlap `within`."""
    known = with_span(tx, flow_id)
    found = None if known is None else extent(known[1], within)
    if known is None or found is None:
        return None
    behind = () if found.behind_ns is None else (above("stop_ns", found.behind_ns),)
    fetch = _fetcher(tx, ("start_ns", "timerange"), equal("flow_id", flow_id), *behind)
    ends = []
    for reverse in (False, True):
        way = _way(found, reverse, None)
        rows = [] if way is None else ahead(fetch, way, 1, _step(known[1], 50))[0]
        if not rows:
            return None
        ends.append(rows[0][1])
    return ends[0], ends[1]


def add(tx: Tx, request: AddSegments) -> list[Error | None]:
    """Register segments. Raises `Stale`, `errors.Expectation`."""
    flow = _flow(tx, request.flow_id, request.flow_version, request.expect)
    if flow is None:
        raise Stale
    if not request.segments:
        return []
    registrar, known = _registrar(tx, request, flow.span)
    results = [registrar.register(segment) for segment in request.segments]
    accepted = registrar.accepted
    if not accepted:
        return results
    changed = [registrar.objects[id] for id in registrar.changed]
    vast_objects.save(tx, changed, known)
    vast_objects.suspect(tx, [row.id for row in changed if row.role is Role.INIT])
    tx.touch("objects", [each.row_id for id, each in known.items() if id not in registrar.changed])
    tx.insert("segments", [_columns(flow.row.id, each, registrar) for each in accepted])
    uses = registrar.uses()
    vast_objects.count_uses(tx, Counter({(id, flow.row.id): count for id, count in uses.items()}))
    _touch(tx, flow, _grown(flow.span, accepted), request.now_ns)
    row = completed(tx, flow)._replace(segments_updated_ns=request.now_ns)
    append_events(tx, request.announce(row, accepted))
    return results


def _flow(tx: Tx, flow_id: str, version: int | None, expect: Expect | None) -> Held | None:
    """A flow to be written. Raises `Stale` when it has another version, `errors.Expectation`."""
    ref = Ref(Kind.FLOW, flow_id)
    flow = relied(tx, expect or Expect(), ref, version).get(ref)
    # The flow itself is written last; after a conflict first, so that the next one comes early.
    if flow is not None and tx.attempt:
        tx.touch("resources", [flow.row_id])
    return flow


def relied(tx: Tx, expect: Expect, ref: Ref | None = None, version: int | None = None) -> dict[Ref, Held]:
    """What a write relies on, kept from changing meanwhile but for `ref`, which has to have `version`.

    Raises `Stale`, `errors.Expectation`.
    """
    names = expected(expect)
    held = load(tx, names if ref is None else {ref, *names})
    if ref is not None and version is not None and (ref not in held or held[ref].row.version != version):
        raise Stale
    check(tx, expect, held)
    tx.touch("resources", [held[each].row_id for each in sorted(names - {ref}) if each in held])
    guard_absent(tx, (named(each) for each in names if each not in held))
    return held


def allocate(
    tx: Tx, objects: Sequence[ObjectRow], flow_id: str, flow_version: int, expect: Expect | None
) -> None:
    """Create rows of new objects for a flow. Raises `Stale`, `errors.Expectation`, `errors.BadRequest`."""
    flow = _flow(tx, flow_id, flow_version, expect)
    if flow is None:
        raise Stale
    ids = [row.id for row in objects]
    if len(set(ids)) < len(ids) or vast_objects.load(tx, ids):
        raise BadRequest("An object id cannot be used.")
    tx.touch("resources", [flow.row_id])
    vast_objects.save(tx, objects, {})
    vast_objects.suspect(tx, [row.id for row in objects if row.role is not Role.UNUSED])


def _touch(tx: Tx, flow: Held, span: Span, now_ns: int) -> None:
    """A flow whose segments have changed; its version stays."""
    values = {**span._asdict(), "segments_updated_ns": now_ns, "guard": tx.nonce}
    tx.update("resources", [flow.row_id], {name: [value] for name, value in values.items()})


def _grown(span: Span, added: Sequence[NewSegment]) -> Span:
    first, last = min(each.start_ns for each in added), max(each.stop_ns for each in added)
    return Span(
        span.segments + len(added),
        _within(span.media_ns + sum(each.stop_ns - each.start_ns for each in added)),
        first if span.first_ns is None else min(span.first_ns, first),
        last if span.last_ns is None else max(span.last_ns, last),
        _within(max(span.longest_ns, *(each.stop_ns - each.start_ns for each in added))),
    )


def _within(duration_ns: int) -> int:
    """A duration as 64 bits hold it; `earliest` knows that the longest may have been longer."""
    return min(duration_ns, MAX_NS)


def _columns(flow_id: str, segment: NewSegment, registrar: Registrar) -> dict[str, Any]:
    return {
        "flow_id": flow_id,
        "start_ns": segment.start_ns,
        "stop_ns": segment.stop_ns,
        "object_id": segment.object_id,
        "init_object_id": registrar.objects[segment.object_id].init_object_id,
        "timerange": segment.timerange,
        "document": segment.document,
    }


def _registrar(tx: Tx, request: AddSegments, span: Span) -> tuple[Registrar, dict[str, vast_objects.Held]]:
    """What decides about a request, and all the objects that it names, loaded at once."""
    segments = request.segments
    named_ids = {s.object_id for s in segments} | {s.init_object_id for s in segments if s.init_object_id}
    held = vast_objects.load(tx, named_ids)
    inits = {each.row.init_object_id for each in held.values() if each.row.init_object_id} - named_ids
    held |= vast_objects.load(tx, [id for id in inits if id])
    objects = {id: each.row for id, each in held.items()}
    return Registrar(request.judge, objects, _taken(tx, request, span)), held


def _taken(tx: Tx, request: AddSegments, span: Span) -> Callable[[int, int], bool]:
    """Whether a segment that is there overlaps [start, stop): from the few there are around those that are
    added, or, where there are many, one by one."""
    segments = request.segments
    within = TimeRange(min(s.start_ns for s in segments), max(s.stop_ns for s in segments))

    def around(asked: TimeRange, most: int) -> list[Any]:
        found = extent(span, asked)
        if found is None:
            return []
        bounds = [at_least("start_ns", found.first_ns), at_most("start_ns", found.last_ns)]
        if found.behind_ns is not None:
            bounds.append(above("stop_ns", found.behind_ns))
        columns, flow = ("start_ns", "stop_ns"), equal("flow_id", request.flow_id)
        return tx.select("segments", columns, flow, *bounds, limit=most)

    most = 4 * len(segments) + 100
    there = sorted(around(within, most))
    if len(there) == most:
        return lambda start, stop: bool(around(TimeRange(start, stop), 1))

    def taken(start: int, stop: int) -> bool:
        at = bisect_left(there, (stop,))
        return at > 0 and bool(there[at - 1][1] > start)

    return taken


def delete(tx: Tx, request: DeleteSegments) -> DeletedSegments:
    """Delete segments, bounded. Raises `Stale`, `errors.Expectation`."""
    flow = _flow(tx, request.flow_id, request.flow_version, request.expect)
    gone: list[Any] = []
    more = False
    if flow is not None:
        gone, more = _inside(tx, flow, request)
    if flow is None or not gone:
        return DeletedSegments(0, None, None, more)
    remove(tx, request.flow_id, gone)
    _touch(tx, flow, _shrunk(flow.span, gone, request), request.now_ns)
    start, stop = gone[0][0], gone[-1][1]
    row = completed(tx, flow)._replace(segments_updated_ns=request.now_ns)
    append_events(tx, request.announce(row, start, stop))
    return DeletedSegments(len(gone), start, stop, more)


def _inside(tx: Tx, held: Held, request: DeleteSegments) -> tuple[list[Any], bool]:
    """The first segments wholly inside a timerange, with row ids, and whether there are more."""
    found = extent(held.span, request.timerange)
    if found is None:
        return [], False
    within, span, wanted = request.timerange, held.span, request.limit + 1
    first = found.first_ns if within.first_ns is None else max(found.first_ns, within.first_ns)
    way = _way(found._replace(first_ns=first), False, None)
    if way is None:
        return [], False
    conditions = [equal("flow_id", request.flow_id)]
    if within.stop_ns is not None:
        conditions.append(at_most("stop_ns", within.stop_ns))
    columns = ("start_ns", "stop_ns", "object_id")
    if request.object_id is None:
        fetch = _fetcher(tx, columns, *conditions, row_ids=True)
        rows = ahead(fetch, way, wanted, _step(span, wanted))[0]
    else:
        of_object = equal("object_id", request.object_id)
        fetch = _fetcher(tx, ("start_ns",), of_object, *conditions)
        starts = [start for (start,) in ahead(fetch, way, wanted)[0][:wanted]]
        rows = way.sorted(
            tx.select_among("segments", columns, "start_ns", starts, conditions[0], row_ids=True)
        )
    return rows[: request.limit], len(rows) > request.limit


def _shrunk(span: Span, gone: Sequence[Any], request: DeleteSegments) -> Span:
    """What a flow knows once segments went; its bounds move where everything before them went."""
    left = span.segments - len(gone)
    if left <= 0:
        return EMPTY
    media_ns = max(0, span.media_ns - sum(stop - start for start, stop, *_ in gone))
    first = request.timerange.first_ns
    from_start = request.object_id is None and (first is None or first <= (span.first_ns or 0))
    return span._replace(
        segments=left, media_ns=media_ns, first_ns=gone[-1][1] if from_start else span.first_ns
    )


def remove(tx: Tx, flow_id: str, gone: Sequence[Any]) -> None:
    """Remove segments, given as (start, stop, object id, row id), and what they referred to."""
    tx.delete("segments", [row_id for *_, row_id in gone])
    used = Counter(object_id for _, _, object_id, _ in gone)
    uses: Uses = Counter({(id, flow_id): -count for id, count in used.items()})
    for id, row in vast_objects.get_many(tx, used).items():
        if row.init_object_id is not None:
            uses[row.init_object_id, flow_id] -= used[id]
    vast_objects.count_uses(tx, uses)


def drop_flow(tx: Tx, flow_id: str) -> None:
    """Remove all segments of a flow that is going."""
    columns, flow = ("start_ns", "stop_ns", "object_id"), equal("flow_id", flow_id)
    while gone := tx.select("segments", columns, flow, limit=DROP_CHUNK, row_ids=True):
        remove(tx, flow_id, gone)
