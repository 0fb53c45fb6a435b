"""What only SQLite's implementation promises: costs that do not grow with what there is, what it opens."""

from __future__ import annotations

import sqlite3
from collections.abc import Callable, Sequence
from pathlib import Path

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from store import errors
from store.metadata import (
    sqlite_objects,
    sqlite_page,
    sqlite_scan,
    sqlite_segments,
)
from store.metadata.query import Position, Query, SegmentQuery, Sort
from store.metadata.rows import Change, Kind
from store.metadata.sqlite import open_sqlite
from store.metadata.sqlite_objects import Cache
from store.metadata.sqlite_schema import VERSION, connect
from store.timerange import TimeRange
from store.view import View
from tests.contract.metadata_listings import Stored, check_listing, fill, libraries, queries
from tests.contract.metadata_support import (
    Database,
    adding,
    flow,
    get,
    media_object,
    new_flow,
    put,
    put_all,
    segment,
    view,
    walk,
)

SMALLEST = {
    sqlite_page: {"SMALL": 1, "PATIENCE": 3, "COUNTED": 4, "SETS": 2},
    sqlite_scan: {"FEW": 1, "LARGEST": 2},
}


@settings(
    max_examples=60,
    deadline=None,
    suppress_health_check=[HealthCheck.function_scoped_fixture, HealthCheck.too_slow],
)
@given(library=libraries, asked=st.lists(queries(), min_size=12, max_size=12))
async def test_every_way_to_a_listing_leads_to_the_same(
    database: Database, library: Sequence[Stored], asked: Sequence[Query]
) -> None:
    store = await fill(database, library)
    with pytest.MonkeyPatch.context() as patch:
        for module, values in SMALLEST.items():
            for name, value in values.items():
                patch.setattr(module, name, value)
        for query in asked:
            await check_listing(store, library, query)
    await database.close()


async def test_a_listing_seen_before_shows_what_changed_since(database: Database) -> None:
    store = await database.fresh()
    whole, part = flow("whole", "a", flow_collection=[{"id": "part", "role": "video"}]), flow("part", "a")
    await put_all(store, [put(whole), put(part)])
    query = Query(Kind.FLOW, view("a", "b"), 10)
    before = {row.id: row for row in (await store.page(query))[0]}
    assert before["whole"].related == {"part": frozenset("a")}
    await store.write(Change(puts=(put(flow("part", "b"), before["part"].version),)))
    await store.add_segments(adding(before["whole"], segment("o", 0, 1)))
    after = {row.id: row for row in (await store.page(query))[0]}
    assert after["whole"].related == {"part": frozenset("b")}
    assert after["whole"].segments_updated_ns == 2_000
    assert after["part"].classes == frozenset("b")
    assert after == {id: await get(store, id) for id in after}


async def test_rows_kept_of_listings_are_bounded(database: Database, monkeypatch: pytest.MonkeyPatch) -> None:
    store = await database.fresh()
    await put_all(store, [put(flow(f"f{n:02}", "a"), at_ns=n) for n in range(40)])
    await put_all(store, [put(flow("long", "a", label="x" * sqlite_page.KEPT_BYTES), at_ns=100)])
    monkeypatch.setattr(sqlite_page, "KEPT", 15)
    connection = connect(Path(database.place.partition(":")[2]), busy_s=0)
    seen, sizes, after = sqlite_page.Seen(), [], None
    for _ in range(5):
        rows, _ = sqlite_page.page(connection, Query(Kind.FLOW, view("a"), 9, after=after), seen)
        sizes.append(len(seen))
        after = Position(rows[-1].created_ns, rows[-1].id)
    connection.close()
    # A row more than the page tells whether there are more.
    assert sizes[0] == 9
    assert max(sizes) <= 15


@pytest.mark.parametrize("sort", [Sort.CREATED, Sort.UPDATED, Sort.LABEL])
@pytest.mark.parametrize("deny", ["", "d"])
@pytest.mark.parametrize("sets", [1, 300])
async def test_no_way_to_a_listing_shows_what_is_hidden(
    database: Database, monkeypatch: pytest.MonkeyPatch, sort: Sort, deny: str, sets: int
) -> None:
    for module, name, value in (
        (sqlite_page, "SMALL", 1),
        (sqlite_page, "PATIENCE", 1),
        (sqlite_page, "SETS", sets),
    ):
        monkeypatch.setattr(module, name, value)
    store = await database.fresh()
    kinds = (("a",), ("a", "d"), ("d",), ("z",), (), ("a", "z"))
    await put_all(store, [put(flow(f"f{n:02}", *kinds[n % 6], tags={"t": "x"}), at_ns=n) for n in range(60)])
    shown = {f"f{n:02}" for n in range(60) if n % 6 in ((0, 5) if deny else (0, 1, 5))}
    for tags in ((), (("t", frozenset("x")),)):
        for limit in (3, 100):
            found = await walk(store, Query(Kind.FLOW, view("a", deny=deny), limit, sort=sort, tags=tags))
            assert len(found) == len(shown)
            assert {row.id for row in found} == shown


def steps(path: Path, work: Callable[[sqlite3.Connection], object]) -> int:
    """How many steps SQLite's machine takes for a read, by tens."""
    connection = connect(path, busy_s=0)
    count = 0

    def step() -> int:
        nonlocal count
        count += 1
        return 0

    connection.set_progress_handler(step, 10)
    work(connection)
    connection.close()
    return count


async def _library(database: Database, count: int) -> Path:
    """Flows of which every tenth is dense, ten are sparse, and the other tenths hidden or denied."""
    store = await database.fresh()

    def one(number: int) -> tuple[str, ...]:
        if number % (count // 10) == 0:
            return ("sparse",)
        return ("dense",) if number % 10 == 1 else ("dense", "denied") if number % 10 == 2 else ("hidden",)

    for first in range(0, count, 1_000):
        numbers = range(first, first + 1_000)
        await put_all(
            store,
            [
                put(
                    flow(f"f{n:06}", *one(n), label=f"l{n * 7919 % count:06}", tags={"few": f"t{n // 7}"}),
                    at_ns=n,
                )
                for n in numbers
            ],
        )
    path = Path(database.place.partition(":")[2])
    await database.close()
    return path


MIDDLE = Position(500, "f000500")
MANY = tuple(f"c{n}" for n in range(200))
LISTINGS = {
    "dense": Query(Kind.FLOW, view("dense"), 50),
    "dense, from the end": Query(Kind.FLOW, view("dense"), 50, reverse=True),
    "dense, a later page": Query(Kind.FLOW, view("dense"), 30, after=MIDDLE),
    "sparse": Query(Kind.FLOW, view("sparse"), 50),
    "either": Query(Kind.FLOW, view("sparse", "dense"), 50),
    "two of many classes": Query(Kind.FLOW, view("sparse", "dense", *MANY), 50),
    "most is denied": Query(Kind.FLOW, view("dense", "hidden", deny=["hidden", "denied"]), 50),
    "everything": Query(Kind.FLOW, None, 50),
    "administrator": Query(Kind.FLOW, View(True, frozenset(), frozenset()), 50),
    "everything by label": Query(Kind.FLOW, None, 50, sort=Sort.LABEL),
    "everything by update": Query(Kind.FLOW, None, 50, sort=Sort.UPDATED, reverse=True),
    "sparse by label": Query(Kind.FLOW, view("sparse"), 50, sort=Sort.LABEL),
    "sparse, asked for": Query(
        Kind.FLOW, view("hidden", "sparse"), 50, tags=(("auth_classes", frozenset(("sparse",))),)
    ),
    "a rare tag": Query(Kind.FLOW, view("dense"), 50, tags=(("few", frozenset(("t3",))),)),
    "a rare tag, all see it": Query(Kind.FLOW, None, 50, tags=(("few", frozenset(("t3",))),)),
    "one label": Query(Kind.FLOW, view("dense", "hidden"), 50, label="l000012"),
    "ids": Query(Kind.FLOW, view("dense"), 50, ids=frozenset(("f000001", "f000011", "f000005"))),
}


async def test_the_cost_of_a_listing_does_not_grow_with_what_there_is(database: Database) -> None:
    small, large = await _library(database, 1_000), await _library(database, 20_000)
    costs = {}
    for name, query in LISTINGS.items():
        few, many = (
            steps(path, lambda c, q=query: sqlite_page.page(c, q, sqlite_page.Seen()))
            for path in (small, large)
        )
        costs[name] = (few, many)
    assert {name: cost for name, cost in costs.items() if cost[1] > 1.3 * cost[0] + 20} == {}


async def test_the_cost_of_segments_does_not_grow_with_the_flow(database: Database) -> None:
    paths = []
    for count in (1_000, 100_000):
        store = await database.fresh()
        row = await new_flow(store)
        for first in range(0, count, 10_000):
            numbers = range(first, min(first + 10_000, count))
            await store.add_segments(adding(row, *(segment(f"o{n % 5_000}", n, n + 1) for n in numbers)))
        paths.append(Path(database.place.partition(":")[2]))
        await database.close()

    def read(connection: sqlite3.Connection, query: SegmentQuery) -> object:
        return sqlite_segments.page(connection, query, Cache(), None)

    reads: list[Callable[[sqlite3.Connection], object]] = [
        lambda c: read(c, SegmentQuery("flow", 100)),
        lambda c: read(c, SegmentQuery("flow", 100, reverse=True)),
        lambda c: read(c, SegmentQuery("flow", 100, TimeRange(600, 900))),
        lambda c: read(c, SegmentQuery("flow", 100, TimeRange(0, 900), after_ns=700)),
        lambda c: read(c, SegmentQuery("flow", 1, object_id="o20")),
        lambda c: sqlite_segments.timerange(c, "flow", TimeRange(None, None)),
        lambda c: sqlite_segments.timerange(c, "flow", TimeRange(300, 700)),
    ]
    costs = [tuple(steps(path, each) for path in paths) for each in reads]
    assert [cost for cost in costs if cost[1] > 1.3 * cost[0] + 20] == []


async def test_pages_are_the_same_however_few_objects_are_kept(
    database: Database, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(sqlite_objects, "CACHED", 3)
    store = await database.fresh()
    row = await new_flow(store)
    await store.allocate([media_object("init")], row.ref, row.version, None)
    objects = [(f"o{n % 4}", "init" if n % 4 == 1 else None) for n in range(12)]
    await store.add_segments(
        adding(row, *(segment(id, n, n + 1, init_object_id=init) for n, (id, init) in enumerate(objects)))
    )
    for reverse in (False, True):
        for after_ns in (None, 3, 7, 2, 9, None):
            query = SegmentQuery("flow", 5, reverse=reverse, after_ns=after_ns)
            (found,) = {tuple((await store.segments(query)).rows) for _ in range(2)}
            held = await store.objects(["init", *(id for id, _ in objects)])
            for each in found:
                id, init = objects[each.start_ns]
                assert (each.object, each.init_object) == (held[id], None if init is None else held[init])


async def test_a_newer_schema_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "m.db"
    await (await open_sqlite(path)).close()
    await (await open_sqlite(path)).close()
    with sqlite3.connect(path) as connection:
        assert connection.execute("SELECT version FROM schema_version").fetchall() == [(VERSION,)]
        connection.execute("UPDATE schema_version SET version = ?", (VERSION + 1,))
    connection.close()
    with pytest.raises(errors.Unavailable, match=f"version {VERSION + 1}"):
        await open_sqlite(path)


async def test_what_is_no_database_is_unavailable(tmp_path: Path) -> None:
    path = tmp_path / "m.db"
    path.write_bytes(b"no database at all " * 100)
    with pytest.raises(errors.Unavailable):
        await open_sqlite(path)
    with pytest.raises(errors.Unavailable):
        await open_sqlite(tmp_path / "absent" / "m.db")
