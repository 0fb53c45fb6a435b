"""Segments of the metadata protocol, against a model that is a plain list."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field, replace

import orjson
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from store.errors import BadRequest, Error
from store.metadata.protocol import Metadata, Registration, Stale
from store.metadata.query import SegmentQuery
from store.metadata.rows import (
    Change,
    Delete,
    DeletedSegments,
    Event,
    NewSegment,
    ObjectRow,
    Role,
    Row,
    SegmentPage,
    UncontrolledUrl,
)
from store.timerange import ETERNITY, MAX_NS, MIN_NS, NEVER, TimeRange
from store.view import View
from tests.contract.metadata_support import (
    Database,
    accept,
    adding,
    delete_all,
    deleting,
    flow,
    get,
    media_object,
    new_flow,
    put,
    put_all,
    segment,
    view,
)

QUICK = settings(
    max_examples=40,
    deadline=None,
    suppress_health_check=[HealthCheck.function_scoped_fixture, HealthCheck.too_slow],
)
EDGES = (MIN_NS, MIN_NS + 1, -3, -1, 0, 1, 2, 3, 5, 8, 9, 13, MAX_NS - 1, MAX_NS)
OBJECTS = ("o1", "o2", "o3")

edges = st.sampled_from(EDGES)
given_segments = st.lists(
    st.builds(
        lambda ends, id: (min(ends), max(ends), id), st.tuples(edges, edges), st.sampled_from(OBJECTS)
    ).filter(lambda each: each[0] < each[1]),
    max_size=6,
)
timeranges = st.sampled_from((ETERNITY, NEVER)) | st.builds(
    lambda first, stop: TimeRange(first, stop), st.none() | edges, st.none() | edges
)


@dataclass
class Model:
    """The segments of a flow, in time order."""

    held: list[tuple[int, int, str]] = field(default_factory=list)

    def add(self, start: int, stop: int, id: str) -> bool:
        if any(start < e and s < stop for s, e, _ in self.held):
            return False
        self.held = sorted([*self.held, (start, stop, id)])
        return True

    def overlapping(self, within: TimeRange | None) -> list[tuple[int, int, str]]:
        if within is None:
            return self.held
        return [each for each in self.held if within.overlaps(TimeRange(each[0], each[1]))]

    def inside(self, within: TimeRange, id: str | None) -> list[tuple[int, int, str]]:
        return [
            each
            for each in self.held
            if not within.is_empty and within.contains(TimeRange(each[0], each[1])) and id in (None, each[2])
        ]


Batches = Sequence[Sequence[tuple[int, int, str]]]
Deletions = Sequence[tuple[TimeRange, str | None, int]]
Asked = Sequence[tuple[TimeRange | None, str | None, bool, int]]

objects_or_any = st.none() | st.sampled_from(OBJECTS)
histories = {
    "batches": st.lists(given_segments, max_size=4),
    "deletions": st.lists(st.tuples(timeranges, objects_or_any, st.integers(1, 3)), max_size=2),
    "asked": st.lists(
        st.tuples(st.none() | timeranges, objects_or_any, st.booleans(), st.integers(1, 3)),
        min_size=5,
        max_size=5,
    ),
}


@QUICK
@given(**histories)
async def test_segments_behave_as_a_list_of_spans(
    metadata: Database, batches: Batches, deletions: Deletions, asked: Asked
) -> None:
    await _compare(metadata, batches, deletions, asked)


@pytest.mark.slow
@settings(QUICK, max_examples=800)
@given(**histories)
async def test_many_segments_behave_as_a_list_of_spans(
    metadata: Database, batches: Batches, deletions: Deletions, asked: Asked
) -> None:
    await _compare(metadata, batches, deletions, asked)


async def _compare(metadata: Database, batches: Batches, deletions: Deletions, asked: Asked) -> None:
    store, model = await metadata.fresh(), Model()
    row = await new_flow(store)
    await _decoys(store)
    for batch in batches:
        added = [segment(id, start, stop) for start, stop, id in batch]
        results = await store.add_segments(adding(row, *added))
        assert [result is None for result in results] == [model.add(*each) for each in batch]
        assert all(result is None or isinstance(result, BadRequest) for result in results)
        await _check(store, model, asked)
    for within, id, limit in deletions:
        inside = model.inside(within, id)
        gone = inside[:limit]
        done = await store.delete_segments(deleting("flow", within, object_id=id, limit=limit))
        first, last = (gone[0][0], gone[-1][1]) if gone else (None, None)
        assert done == DeletedSegments(len(gone), first, last, len(inside) > limit)
        model.held = [each for each in model.held if each not in gone]
        await _check(store, model, asked)
    await metadata.close()


async def _decoys(store: Metadata) -> None:
    """Segments of other flows, on both sides of this one in any index, on the same objects."""
    for id in ("flou", "flow2"):
        other = await new_flow(store, id)
        await store.add_segments(adding(other, segment("o1", MIN_NS, 1), segment("o2", 2, MAX_NS)))


async def _check(store: Metadata, model: Model, asked: Asked) -> None:
    for within, id, reverse, limit in asked:
        overlapping = model.overlapping(within)
        wanted = [each for each in overlapping if id in (None, each[2])]
        query = SegmentQuery("flow", limit, within, id, reverse)
        assert await _walk(store, query) == (wanted[::-1] if reverse else wanted)
        texts = [str(TimeRange(start, stop)) for start, stop, _ in overlapping]
        span = (texts[0], texts[-1]) if texts else None
        assert await store.timerange("flow", within or ETERNITY) == span


async def _walk(store: Metadata, query: SegmentQuery) -> list[tuple[int, int, str]]:
    found = []
    while True:
        page = await store.segments(query)
        assert page.flow is not None and page.flow.id == query.flow_id
        assert len(page.rows) == query.limit or not page.more
        for each in page.rows:
            assert orjson.loads(each.document)["object_id"] == each.object.id
        found += [(each.start_ns, each.stop_ns, each.object.id) for each in page.rows]
        if not page.more:
            return found
        query = replace(query, after_ns=page.rows[-1].start_ns)


async def test_an_unknown_flow_has_no_segments(metadata: Database) -> None:
    store = await metadata.fresh()
    assert await store.segments(SegmentQuery("absent", 10)) == SegmentPage(None)
    assert await store.timerange("absent", ETERNITY) is None
    assert await store.delete_segments(deleting("absent")) == DeletedSegments(0, None, None, False)
    with pytest.raises(Stale):
        await store.delete_segments(deleting("absent", flow_version=1))
    with pytest.raises(Stale):
        await store.add_segments(
            replace(adding(await new_flow(store)), flow_id="absent", segments=[segment("o", 0, 1)])
        )


async def test_a_flow_that_is_not_seen_shows_no_segments(metadata: Database) -> None:
    store = await metadata.fresh()
    row = await new_flow(store, "flow", "a")
    await store.add_segments(adding(row, segment("o", 0, 5)))
    row = await get(store, "flow")
    for hiding in (view(), view("b"), view("a", deny=["a"])):
        assert await store.segments(SegmentQuery("flow", 10, view=hiding)) == SegmentPage(row)
    for seeing in (view("a"), View(True, frozenset(), frozenset()), None):
        assert len((await store.segments(SegmentQuery("flow", 10, view=seeing))).rows) == 1


async def test_segments_come_with_their_object_and_init_object(metadata: Database) -> None:
    store = await metadata.fresh()
    row = await new_flow(store)
    await store.allocate([media_object("o"), media_object("init")], row.ref, row.version, None)
    await store.add_segments(adding(row, segment("o", 0, 5, init_object_id="init"), segment("plain", 5, 9)))
    first, second = (await store.segments(SegmentQuery("flow", 10))).rows
    objects = await store.objects(["o", "init", "plain"])
    assert (first.object, first.init_object) == (objects["o"], objects["init"])
    assert (second.object, second.init_object) == (objects["plain"], None)
    assert objects["init"].role is Role.INIT
    assert objects["o"].instances == media_object("o").instances


async def test_a_page_shows_objects_as_they_are_now(metadata: Database) -> None:
    store = await metadata.fresh()
    row = await new_flow(store)
    await store.add_segments(adding(row, segment("o", 0, 5)))
    for number in range(3):
        (shown,) = (await store.segments(SegmentQuery("flow", 10))).rows
        urls = (UncontrolledUrl(f"https://example.com/{number}", "label"),)
        await store.replace_object(shown.object._replace(urls=urls), None)
        (shown,) = (await store.segments(SegmentQuery("flow", 10))).rows
        assert shown.object.urls == urls


async def test_segments_are_judged_in_order_by_the_objects_as_left_before(metadata: Database) -> None:
    store = await metadata.fresh()
    row = await new_flow(store)
    await store.allocate([media_object("init")], row.ref, row.version, None)
    judged: list[tuple[int, Role | None, int | None, Role | None]] = []

    def judge(new: NewSegment, obj: ObjectRow | None, init: ObjectRow | None) -> Registration | Error:
        judged.append(
            (new.start_ns, obj and obj.role, obj and obj.key_frame_count, init and init.role)  # type: ignore[arg-type]
        )
        if new.start_ns == 20:
            return BadRequest("no")
        changed = obj or media_object(new.object_id)
        count = (changed.key_frame_count or 0) + 1
        changed = changed._replace(role=Role.MEDIA, key_frame_count=count, init_object_id="init")
        return Registration(changed, None if init is None else init._replace(role=Role.INIT))

    named = {"init_object_id": "init"}
    batch = [segment("o", 0, 10, **named), segment("o", 10, 20), segment("o", 20, 30), segment("o", 5, 7)]
    results = await store.add_segments(adding(row, *batch, segment("o", 25, 35), judge=judge))
    assert [result is None for result in results] == [True, True, False, False, True]
    assert judged == [
        (0, None, None, Role.UNUSED),
        (10, Role.MEDIA, 1, Role.INIT),
        (20, Role.MEDIA, 2, Role.INIT),
        (25, Role.MEDIA, 2, Role.INIT),
    ]
    obj = (await store.objects(["o"]))["o"]
    assert (obj.key_frame_count, obj.init_object_id) == (3, "init")


async def test_a_refused_segment_changes_nothing(metadata: Database) -> None:
    store = await metadata.fresh()
    row = await new_flow(store)
    refusal = BadRequest("refused")
    batch = [segment("o", 0, 5)]
    announced: list[object] = []
    results = await store.add_segments(
        adding(row, *batch, judge=lambda *_: refusal, announce=lambda *given: announced.append(given) or ())
    )
    assert results == [refusal]
    assert await store.objects(["o"]) == {}
    assert await get(store, "flow") == row
    assert announced == []
    assert await store.add_segments(adding(row)) == []


async def test_adding_touches_the_flow_but_not_its_version(metadata: Database) -> None:
    store = await metadata.fresh()
    row = await new_flow(store, "flow", "news")
    seen: list[tuple[Row, list[int]]] = []

    def announce(flow_row: Row, added: Sequence[NewSegment]) -> list[Event]:
        seen.append((flow_row, [each.start_ns for each in added]))
        return [Event("flows/segments_added", 9, {"count": len(added)}, flow_row.classes)]

    batch = [segment("o", 0, 5), segment("o", 3, 8), segment("o", 8, 9)]
    await store.add_segments(adding(row, *batch, announce=announce, now_ns=77))
    now = await get(store, "flow")
    assert now == row._replace(segments_updated_ns=77)
    assert seen == [(now, [0, 8])]
    (stored,) = await store.events(0, 10)
    assert stored.event == Event("flows/segments_added", 9, {"count": 2}, frozenset(("news",)))
    await put_all(store, [put(flow("flow"), row.version)])
    assert (await get(store, "flow")).segments_updated_ns == 77


async def test_deleting_announces_the_span_that_went(metadata: Database) -> None:
    store = await metadata.fresh()
    row = await new_flow(store)
    await store.add_segments(adding(row, *(segment("o", n, n + 5) for n in (0, 10, 20, 30)), now_ns=5))
    spans: list[tuple[int, int]] = []

    def announce(flow_row: Row, start_ns: int, stop_ns: int) -> list[Event]:
        spans.append((start_ns, stop_ns))
        return [Event("flows/segments_deleted", 9, {}, frozenset())]

    within = TimeRange(5, 40)
    done = await store.delete_segments(deleting("flow", within, limit=2, announce=announce, now_ns=6))
    assert done == DeletedSegments(2, 10, 25, True)
    assert spans == [(10, 25)]
    assert len(await store.events(0, 10)) == 1
    assert (await get(store, "flow")) == row._replace(segments_updated_ns=6)
    none = await store.delete_segments(deleting("flow", NEVER, announce=announce, now_ns=7))
    assert none == DeletedSegments(0, None, None, False)
    assert len(spans) == 1
    assert (await get(store, "flow")).segments_updated_ns == 6


async def test_writes_of_segments_need_the_flow_as_it_was_read(metadata: Database) -> None:
    store = await metadata.fresh()
    row = await new_flow(store)
    await store.add_segments(adding(row, segment("o", 0, 5)))
    await put_all(store, [put(flow("flow", "other"), row.version)])
    with pytest.raises(Stale):
        await store.add_segments(adding(row, segment("p", 5, 9)))
    with pytest.raises(Stale):
        await store.delete_segments(deleting("flow", flow_version=row.version))
    with pytest.raises(Stale):
        await store.allocate([media_object("p")], row.ref, row.version, None)
    assert await store.objects(["p"]) == {}
    assert len((await store.segments(SegmentQuery("flow", 10))).rows) == 1
    assert (await delete_all(store, "flow")).count == 1


async def test_an_announcement_that_fails_leaves_nothing(metadata: Database) -> None:
    store = await metadata.fresh()
    row = await new_flow(store)

    def announce(*_: object) -> list[Event]:
        raise ArithmeticError

    with pytest.raises(ArithmeticError):
        await store.add_segments(adding(row, segment("o", 0, 5), announce=announce))
    assert await store.objects(["o"]) == {}
    assert (await store.segments(SegmentQuery("flow", 10))).rows == []
    assert await store.add_segments(adding(row, segment("o", 0, 5), judge=accept)) == [None]


async def test_a_deleted_flow_takes_its_segments_along(metadata: Database) -> None:
    store = await metadata.fresh()
    row = await new_flow(store)
    other = await new_flow(store, "other")
    await store.add_segments(adding(row, segment("o", 0, 5), segment("shared", 5, 9)))
    await store.add_segments(adding(other, segment("shared", 5, 9)))
    await store.write(Change(deletes=(Delete(row.ref, row.version),)))
    again = await new_flow(store)
    page = await store.segments(SegmentQuery("flow", 10))
    assert (page.flow, page.rows) == (again, [])
    assert len((await store.segments(SegmentQuery("other", 10))).rows) == 1
    assert {doomed.key for doomed in await store.collect(0, 10)} == {"key/o"}


async def test_a_thousand_segments_are_added_at_once(metadata: Database) -> None:
    store = await metadata.fresh()
    row = await new_flow(store)
    batch = [segment(f"o{n}", 10 * n, 10 * n + 10) for n in range(1_000)]
    assert set(await store.add_segments(adding(row, *batch))) == {None}
    page = await store.segments(SegmentQuery("flow", 999, reverse=True))
    assert [each.start_ns for each in page.rows] == [10 * n for n in range(999, 0, -1)]
    assert page.more
    filling = [segment("p", 10 * n + 5, 10 * n + 15) for n in range(1_000)]
    refused = await store.add_segments(adding(row, *filling))
    assert all(isinstance(each, BadRequest) for each in refused)
