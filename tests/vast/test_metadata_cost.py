"""What calls cost on VAST: round trips and rows looked at, which do not grow with what there is."""

from __future__ import annotations

import time
from collections.abc import AsyncIterator, Awaitable, Callable
from dataclasses import replace
from typing import Any

import pytest

from store.metadata.keys import KeyQuery, prefixed
from store.metadata.query import Position, Query, SegmentQuery, Sort
from store.metadata.rows import Change, Instance, Kind, Ref
from store.metadata.vast import Vast
from store.timerange import ETERNITY, TimeRange
from store.view import View
from tests.contract.metadata_support import (
    adding,
    deleting,
    event,
    flow,
    get,
    media_object,
    new_flow,
    put,
    put_all,
    segment,
    view,
)
from tests.vast.metadata_support import Watch, opened, path

NOW_NS = time.time_ns()


@pytest.fixture
async def vast(emulator: Any) -> AsyncIterator[Vast]:
    async with opened(emulator) as metadata:
        yield metadata


@pytest.fixture
def watch(vast: Vast, emulator: Any) -> Watch:
    return Watch(emulator)


async def _flow_of(vast: Vast, count: int, *, init: bool = False) -> None:
    row = await new_flow(vast)
    named: dict[str, Any] = {}
    if init:
        await vast.allocate([media_object("init")], row.ref, row.version, None)
        named["init_object_id"] = "init"
    for first in range(0, count, 1_000):
        batch = [
            segment(f"o{n}", 10 * n, 10 * n + 10, **named) for n in range(first, min(count, first + 1_000))
        ]
        assert set(await vast.add_segments(adding(row, *batch))) == {None}


async def test_getting_a_flow_takes_two_queries_at_most(vast: Vast, watch: Watch) -> None:
    await put_all(vast, [put(flow("child")), put(flow("parent", flow_collection=[{"id": "child"}]))])
    watch.begin()
    await get(vast, "child")
    assert (watch.queries, watch.tally.total_requests) == (1, 3)
    watch.begin()
    await get(vast, "parent")
    assert watch.queries == 2


async def test_posting_a_segment_is_one_transaction(vast: Vast, watch: Watch) -> None:
    row = await new_flow(vast)
    await vast.allocate([media_object("o")], row.ref, row.version, None)
    watch.begin()
    announce = [event(1)]
    await vast.add_segments(adding(row, segment("o", 0, 10), announce=lambda *_: announce))
    requests = watch.tally.requests
    assert (requests["begin"], requests["commit"]) == (1, 1)
    assert watch.queries <= 4
    assert watch.tally.total_requests <= 13


@pytest.mark.parametrize("init", [False, True])
@pytest.mark.parametrize("reverse", [False, True])
async def test_a_page_of_segments_takes_three_queries(
    vast: Vast, watch: Watch, reverse: bool, init: bool
) -> None:
    await _flow_of(vast, 1_500, init=init)
    for within in (None, ETERNITY, TimeRange(3_005, 14_000)):
        after_ns: int | None = None
        for _ in range(3):
            watch.begin()
            query = SegmentQuery("flow", 100, within, reverse=reverse, after_ns=after_ns)
            page = await vast.segments(query)
            assert len(page.rows) == 100
            assert watch.queries == 3
            after_ns = page.rows[-1].start_ns


async def test_segments_of_a_flow_that_is_not_seen_cost_what_those_of_an_absent_one_do(
    vast: Vast, watch: Watch
) -> None:
    await vast.add_segments(adding(await new_flow(vast, "flow", "a"), segment("o", 0, 10)))
    costs = []
    for flow_id in ("flow", "absent"):
        watch.begin()
        assert (await vast.segments(SegmentQuery(flow_id, 100, view=view("b")))).rows == []
        costs.append((watch.queries, watch.tally.total_requests))
    assert costs[0] == costs[1]


async def test_pages_of_an_uneven_flow_take_few_windows_more(vast: Vast, watch: Watch) -> None:
    row = await new_flow(vast)
    starts = [10 * n for n in range(300)] + [10**15 + 10 * n for n in range(300)] + [2**62]
    await vast.add_segments(adding(row, *(segment(f"o{at}", at, at + 10) for at in starts)))
    found: list[int] = []
    query = SegmentQuery("flow", 50)
    more = True
    while more:
        watch.begin()
        page = await vast.segments(query)
        assert watch.queries <= 20
        assert watch.tally.rows_read[path("segments")] <= 1_000
        found += [each.start_ns for each in page.rows]
        more = page.more
        query = replace(query, after_ns=found[-1])
    assert found == starts


Call = Callable[[Vast], Awaitable[object]]

READS: dict[str, Call] = {
    "rows": lambda vast: vast.rows([Ref(Kind.FLOW, "f000010"), Ref(Kind.FLOW, "absent")]),
    "page": lambda vast: vast.page(Query(Kind.FLOW, None, 20)),
    "a later page": lambda vast: vast.page(
        Query(Kind.FLOW, None, 20, after=Position(NOW_NS - 300 * 10**9, "f"))
    ),
    "from the end": lambda vast: vast.page(Query(Kind.FLOW, None, 20, reverse=True)),
    "an administrator's page": lambda vast: vast.page(
        Query(Kind.FLOW, View(True, frozenset(), frozenset()), 20)
    ),
    "seen by few": lambda vast: vast.page(Query(Kind.FLOW, view("sparse"), 20)),
    "most is denied": lambda vast: vast.page(Query(Kind.FLOW, view("sparse", "hidden", deny=["hidden"]), 20)),
    "a rare tag": lambda vast: vast.page(Query(Kind.FLOW, None, 20, tags=(("few", frozenset(("t3",))),))),
    "a rare tag, seen": lambda vast: vast.page(
        Query(Kind.FLOW, view("hidden"), 20, tags=(("few", frozenset(("t3",))),))
    ),
    "one label": lambda vast: vast.page(Query(Kind.FLOW, None, 20, label="l000012")),
    "ids": lambda vast: vast.page(Query(Kind.FLOW, view("hidden"), 20, ids=frozenset(("f000001",)))),
    "seen by few, by label": lambda vast: vast.page(Query(Kind.FLOW, view("sparse"), 20, sort=Sort.LABEL)),
    "segments": lambda vast: vast.segments(SegmentQuery("flow", 20)),
    "segments from the end": lambda vast: vast.segments(SegmentQuery("flow", 20, reverse=True)),
    "segments within": lambda vast: vast.segments(SegmentQuery("flow", 20, TimeRange(1_005, 1_500))),
    "segments of an object": lambda vast: vast.segments(SegmentQuery("flow", 20, object_id="o5")),
    "timerange": lambda vast: vast.timerange("flow", ETERNITY),
    "timerange within": lambda vast: vast.timerange("flow", TimeRange(1_005, 1_500)),
    "objects": lambda vast: vast.objects(["o1", "o2"]),
    "object page": lambda vast: vast.object_page("o1", Query(Kind.FLOW, None, 5), None),
    "object facts": lambda vast: vast.object_facts(["o1", "o2", "absent"], view("hidden")),
    "object at": lambda vast: vast.object_at("backend", "key/o1"),
    "keys": lambda vast: vast.keys(KeyQuery((prefixed("a"),), 10)),
    "events": lambda vast: vast.events(3, 10),
}


def _stopped() -> int:
    """A clock: how far back the newest rows lie tells how many ranges are tried before they are found."""
    return NOW_NS


async def _library(vast: Vast, count: int) -> None:
    """Flows of which ten are seen by few, and one flow with as many segments."""
    for first in range(0, count, 500):
        await put_all(
            vast,
            [
                put(
                    flow(
                        f"f{n:06}",
                        "sparse" if n % (count // 10) == 0 else "hidden",
                        label=f"l{n:06}",
                        tags={"few": f"t{n // 7}"},
                    ),
                    at_ns=NOW_NS - (count - n) * 10**9,
                )
                for n in range(first, first + 500)
            ],
        )
    await _flow_of(vast, count)
    await vast.write(Change(events=tuple(event(n) for n in range(count))))
    await vast.events(0, 1)


@pytest.mark.slow
async def test_reads_look_at_no_more_rows_when_there_are_more(start: Any) -> None:
    costs: dict[str, list[tuple[int, int]]] = {name: [] for name in READS}
    for count in (500, 5_000):
        emulator = start()
        async with opened(emulator, _stopped) as vast:
            await _library(vast, count)
            watch = Watch(emulator)
            for name, read in READS.items():
                watch.begin()
                await read(vast)
                costs[name].append((watch.queries, watch.scanned))
    # Ranges are cut where rows that come in no order say: about once more for each doubling, and there are
    # three and a bit.
    grown = {
        name: (few, many)
        for name, (few, many) in costs.items()
        if many[1] > 1.5 * few[1] + 500 or many[0] > few[0] + 5
    }
    assert grown == {}


@pytest.mark.slow
async def test_writes_look_at_no_more_rows_when_there_are_more(start: Any) -> None:
    costs: list[list[int]] = []
    for count in (500, 5_000):
        emulator = start()
        async with opened(emulator, _stopped) as vast:
            await _library(vast, count)
            watch, found = Watch(emulator), []
            row = await get(vast, "flow")
            writes: list[Callable[[], Awaitable[object]]] = [
                lambda row=row: put_all(vast, [put(flow("flow", "a", "b"), row.version)]),
                lambda: put_all(vast, [put(flow("another", "sparse"))]),
                lambda: _rewritten(vast),
                lambda: vast.delete_segments(deleting("flow", TimeRange(100, 200))),
                lambda: vast.delete_segments(deleting("flow", ETERNITY, object_id="o30")),
                lambda: vast.hold(["o40"], "key", "me", True),
                lambda: vast.lease("work", "me", 1, 2),
            ]
            for write in writes:
                watch.begin()
                await write()
                found.append(watch.scanned)
            costs.append(found)
    # Guard rows are always as many.
    assert [(few, many) for few, many in zip(*costs, strict=True) if many > 1.5 * few + 300] == []


async def _rewritten(vast: Vast) -> None:
    row = await get(vast, "flow")
    await vast.allocate(
        [media_object("new")._replace(instances=(Instance("b", "k", "x/y"),))], row.ref, row.version, None
    )
    await vast.add_segments(adding(row, segment("new", -20, -10)))
