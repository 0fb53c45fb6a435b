"""What only SQLite's implementation promises: cost that does not grow, one commit for many, recovery."""

from __future__ import annotations

import asyncio
import sqlite3
import threading
from collections.abc import AsyncIterator, Callable, Sequence
from dataclasses import replace
from pathlib import Path

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from store import errors
from store.metadata import (
    sqlite_objects,
    sqlite_page,
    sqlite_reader,
    sqlite_rows,
    sqlite_scan,
    sqlite_segments,
    sqlite_writer,
)
from store.metadata.query import Position, Query, SegmentQuery, Sort
from store.metadata.rows import Change, Event, Kind, Ref, Row
from store.metadata.sqlite import Sqlite, open_sqlite
from store.metadata.sqlite_insert import insert_rows
from store.metadata.sqlite_objects import Cache
from store.metadata.sqlite_schema import VERSION, connect
from store.metadata.survey import Subject
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


@pytest.fixture
async def database(folder: Path) -> AsyncIterator[Database]:
    opened = Database("sqlite", folder)
    yield opened
    await opened.close()


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


async def _on_writer(store: Sqlite, work: Callable[[sqlite3.Connection], object]) -> object:
    return await store._writer.run(work)


async def test_writes_that_wait_share_a_commit_and_fail_alone(database: Database) -> None:
    store = await database.fresh()
    statements: list[str] = []
    await _on_writer(store, lambda c: c.set_trace_callback(statements.append))
    queued = threading.Event()
    first = asyncio.ensure_future(_on_writer(store, lambda c: queued.wait(60)))
    writes = [
        asyncio.ensure_future(
            store.write(Change(puts=(put(flow(f"f{n}")),), unchanged={Ref(Kind.FLOW, "x"): n % 4 == 3}))
        )
        for n in range(64)
    ]
    await asyncio.sleep(0)
    queued.set()
    await first
    results = await asyncio.gather(*writes, return_exceptions=True)
    await _on_writer(store, lambda c: c.set_trace_callback(None))
    assert [result is None for result in results] == [n % 4 != 3 for n in range(64)]
    assert len(await store.rows([Ref(Kind.FLOW, f"f{n}") for n in range(64)])) == 48
    assert 1 <= statements.count("COMMIT") <= 3


async def test_a_write_that_fails_alone_leaves_nothing(database: Database) -> None:
    store = await database.fresh()

    def work(connection: sqlite3.Connection) -> None:
        insert_rows(connection, "leases", [("first", "me", 1), ("second", "me", 1)])
        insert_rows(
            connection, "leases", [*((f"lease {n}", "me", n) for n in range(100)), ("second", "me", 1)]
        )

    with pytest.raises(errors.Unavailable):
        await _on_writer(store, work)
    assert await _on_writer(store, lambda c: c.execute("SELECT * FROM leases").fetchall()) == []
    assert (await new_flow(store)).id == "flow"


@pytest.mark.parametrize(("count", "most"), [(1, 11), (1_000, 90)])
async def test_segments_are_written_with_few_statements(database: Database, count: int, most: int) -> None:
    store = await database.fresh()
    row = await new_flow(store)
    statements: list[str] = []
    await _on_writer(store, lambda c: c.set_trace_callback(statements.append))
    results = await store.add_segments(adding(row, *(segment(f"o{n}", n, n + 1) for n in range(count))))
    await _on_writer(store, lambda c: c.set_trace_callback(None))
    assert results == [None] * count
    written = statements[statements.index("BEGIN IMMEDIATE") : statements.index("COMMIT", 1) + 1]
    assert len(written) <= most, written
    page = await store.segments(SegmentQuery("flow", count))
    assert [each.object.id for each in page.rows] == [f"o{n}" for n in range(count)]


async def test_without_space_reads_go_on_and_small_writes_recover(
    database: Database, monkeypatch: pytest.MonkeyPatch
) -> None:
    def narrow(path: Path, *, busy_s: float) -> sqlite3.Connection:
        connection = connect(path, busy_s=busy_s)
        connection.execute("PRAGMA max_page_count = 100")
        return connection

    monkeypatch.setattr(sqlite_writer, "connect", narrow)
    store = await database.fresh()
    await new_flow(store)
    large = store.write(Change(puts=(put(flow("large", description="x" * 1_000_000)),)))
    results = await asyncio.gather(
        put_all(store, [put(flow("before"))]),
        large,
        put_all(store, [put(flow("after"))]),
        return_exceptions=True,
    )
    assert [type(result) for result in results] == [type(None), errors.Full, type(None)]
    found = await store.rows([Ref(Kind.FLOW, id) for id in ("flow", "before", "large", "after")])
    assert {ref.id for ref in found} == {"flow", "before", "after"}


async def test_a_database_locked_by_another_process_is_unavailable_until_it_is_free(
    database: Database, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(sqlite_writer, "BUSY_S", 0.01)
    store = await database.fresh()
    other = connect(Path(database.place.partition(":")[2]), busy_s=0)
    other.execute("BEGIN IMMEDIATE")
    with pytest.raises(errors.Unavailable):
        await new_flow(store)
    assert await store.rows([Ref(Kind.FLOW, "flow")]) == {}
    other.execute("ROLLBACK")
    other.close()
    assert (await new_flow(store)).id == "flow"


async def test_a_writer_whose_connection_breaks_gets_another(database: Database) -> None:
    store = await database.fresh()
    with pytest.raises(errors.Unavailable):
        await _on_writer(store, lambda c: c.close())
    assert (await new_flow(store)).id == "flow"


async def test_reads_of_one_turn_of_the_loop_are_of_one_state(database: Database) -> None:
    store = await database.fresh()
    first, second = await new_flow(store, "first"), await new_flow(store, "second")
    await asyncio.sleep(0)
    assert await get(store, "first") == first
    elsewhere = sqlite3.connect(database.place.removeprefix("sqlite:"), isolation_level=None)
    elsewhere.execute("DELETE FROM resources WHERE id IN ('first', 'second')")
    elsewhere.close()

    assert (await store.rows([first.ref, second.ref])).keys() == {first.ref, second.ref}
    await asyncio.sleep(0)
    assert await store.rows([first.ref, second.ref]) == {}


async def test_a_log_that_readers_kept_long_is_shortened_when_they_leave(
    database: Database, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(sqlite_writer, "LOG_BYTES", 64 << 10)
    monkeypatch.setattr(sqlite_writer, "PATIENCE_MS", 1)
    monkeypatch.setattr(sqlite_writer, "PAUSE_S", 0.0)
    store = await database.fresh()
    path = Path(database.place.removeprefix("sqlite:"))
    log = path.with_name(f"{path.name}-wal")
    reader = sqlite3.connect(path, isolation_level=None)
    reader.execute("BEGIN")
    reader.execute("SELECT count(*) FROM resources").fetchone()
    for number in range(40):
        await new_flow(store, f"{number}")
    long_bytes = log.stat().st_size
    assert long_bytes > 4 * sqlite_writer.LOG_BYTES

    reader.close()
    monkeypatch.setattr(sqlite_writer, "PATIENCE_MS", 10_000)
    # After the second, the log has no more than the second wrote.
    for name in ("one", "another"):
        await new_flow(store, name)
    assert log.stat().st_size < long_bytes / 2
    assert len((await store.page(Query(Kind.FLOW, None, 100)))[0]) == 42


@pytest.fixture
def asked(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """The ids of the rows that the database was asked for, one by one, from now on."""
    found: list[str] = []
    plain = sqlite_rows.get

    def noted(connection: sqlite3.Connection, ref: Ref) -> Row | None:
        found.append(ref.id)
        return plain(connection, ref)

    monkeypatch.setattr(sqlite_rows, "get", noted)
    return found


async def test_what_is_asked_again_is_read_again_only_after_a_commit(
    database: Database, asked: list[str]
) -> None:
    store = await database.fresh()
    await new_flow(store, "one")
    asked.clear()
    elsewhere = sqlite3.connect(database.place.removeprefix("sqlite:"), isolation_level=None)
    for _ in range(3):
        for _ in range(4):
            await asyncio.sleep(0)
            found = await store.row(Ref(Kind.FLOW, "one"), None)
            assert found is not None
            assert elsewhere.execute("SELECT document FROM resources").fetchall() == [(found.document,)]
            assert await store.row(Ref(Kind.FLOW, "none"), None) is None
        elsewhere.execute("UPDATE resources SET document = CAST(document || ' ' AS BLOB)")
    elsewhere.close()
    assert asked == ["one", "none"] * 3

    await put_all(store, [put(flow("none"))])
    assert await store.row(Ref(Kind.FLOW, "none"), None) is not None


async def test_what_was_kept_costs_one_statement_a_turn(database: Database) -> None:
    store = await database.fresh()
    one = await new_flow(store, "one")
    assert await store.row(one.ref, None) == one
    await asyncio.sleep(0)
    statements: list[str] = []
    reader = store._readers._mine(sqlite_reader.BUDGET)  # type: ignore[attr-defined]
    reader.connection.set_trace_callback(statements.append)
    for _ in range(2):
        for _ in range(3):
            assert await store.row(one.ref, None) == one
        await asyncio.sleep(0)
    assert statements == ["PRAGMA data_version"] * 2


async def test_within_a_turn_what_was_kept_is_no_older_than_what_was_read(
    database: Database, asked: list[str]
) -> None:
    store = await database.fresh()
    one, other = await new_flow(store, "one"), await new_flow(store, "other")
    assert await store.row(one.ref, None) == one
    await asyncio.sleep(0)
    asked.clear()

    assert await store.row(one.ref, None) == one
    assert asked == []
    elsewhere = sqlite3.connect(database.place.removeprefix("sqlite:"), isolation_level=None)
    elsewhere.execute("DELETE FROM resources WHERE id IN ('one', 'other')")
    elsewhere.close()
    assert await store.row(other.ref, None) is None
    assert await store.row(one.ref, None) is None
    assert asked == ["other", "one"]


async def test_what_one_view_has_read_is_no_quicker_for_another(database: Database, asked: list[str]) -> None:
    store = await database.fresh()
    await new_flow(store, "one", "a")
    for asking in (view("a"), view("b")):
        for expected in (["one"], []):
            asked.clear()
            assert await store.row(Ref(Kind.FLOW, "one"), asking) is not None
            assert asked == expected


async def test_results_that_are_kept_are_bounded(database: Database, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sqlite_reader, "KEPT", 4)
    store = await database.fresh()
    await put_all(store, [put(flow("long", description="x" * 5_000)), *(put(flow(f"{n}")) for n in range(9))])
    reader = store._readers._mine(sqlite_reader.BUDGET)  # type: ignore[attr-defined]
    await store.row(Ref(Kind.FLOW, "0"), None)
    assert (Ref(Kind.FLOW, "0"), None) in reader._kept
    for number in range(9):
        for name in (f"{number}", "long"):
            await store.row(Ref(Kind.FLOW, name), None)
        assert len(reader._kept) <= 4
        assert (Ref(Kind.FLOW, "long"), None) not in reader._kept


async def test_a_write_is_seen_by_reads_that_come_after_it(database: Database) -> None:
    store = await database.fresh()

    async def write_and_read(name: str) -> bool:
        assert await store.rows([Ref(Kind.FLOW, name)]) == {}
        return (await new_flow(store, name)).id == name

    for turn in range(20):
        names = [f"{turn}-{number}" for number in range(8)]
        assert all(await asyncio.gather(*(write_and_read(name) for name in names)))


async def test_a_read_over_budget_is_answered_by_a_thread(
    database: Database, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(sqlite_reader, "BUDGET", 0)
    store = await database.fresh()
    await put_all(store, [put(flow(f"f{n:04}", "a")) for n in range(1_000)])
    threads: list[object] = []
    long = sqlite_reader.Readers.long

    async def counted(self: sqlite_reader.Readers, work: Callable[[sqlite3.Connection], object]) -> object:
        threads.append(work)
        return await long(self, work)

    monkeypatch.setattr(sqlite_reader.Readers, "long", counted)
    rows, more = await store.page(Query(Kind.FLOW, view("a"), 900))
    assert (len(rows), more, len(threads)) == (900, True, 1)
    assert (await get(store, "f0001")).id == "f0001"
    assert len(threads) == 1


async def test_concurrent_long_reads_do_not_mix(database: Database, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sqlite_reader, "BUDGET", 0)
    store = await database.fresh()
    await put_all(store, [put(flow(f"f{n:04}", f"c{n % 4}")) for n in range(1_000)])
    pages = await asyncio.gather(*(store.page(Query(Kind.FLOW, view(f"c{n % 4}"), 200)) for n in range(16)))
    for number, (rows, _) in enumerate(pages):
        assert [row.id for row in rows] == [f"f{n:04}" for n in range(number % 4, 800, 4)]


async def test_a_value_beyond_what_is_stored_is_the_clients_fault_and_a_mistake_of_ours_is_not(
    database: Database,
) -> None:
    store = await database.fresh()

    def announce(body: object) -> Callable[..., Sequence[object]]:
        return lambda flow, added: [Event("t", 0, {"value": body}, frozenset())]

    row = await new_flow(store)
    for value in (2**70, "\ud800"):
        with pytest.raises(errors.BadRequest):
            request = replace(adding(row, segment("o", 0, 1)), announce=announce(value))  # type: ignore[arg-type]
            await store.add_segments(request)
    with pytest.raises(TypeError):
        await store.add_segments(replace(adding(row, segment("o", 0, 1)), announce=announce(object())))  # type: ignore[arg-type]
    with pytest.raises(TypeError):
        await store.survey(Subject.USES, lambda found: len(None))  # type: ignore[arg-type]
