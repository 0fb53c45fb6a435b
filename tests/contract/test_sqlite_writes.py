"""What only SQLite's implementation promises of writes: few statements, one commit for many, recovery."""

from __future__ import annotations

import asyncio
import sqlite3
import threading
from collections.abc import Callable
from pathlib import Path

import pytest

from store import errors
from store.metadata import (
    sqlite_objects,
    sqlite_writer,
)
from store.metadata.protocol import Registration
from store.metadata.query import Query, SegmentQuery
from store.metadata.rows import Change, Kind, NewSegment, ObjectRow, Ref
from store.metadata.sqlite import Sqlite
from store.metadata.sqlite_insert import insert_rows
from store.metadata.sqlite_objects import Cache
from store.metadata.sqlite_schema import connect
from tests.contract.metadata_support import (
    Database,
    accept,
    adding,
    flow,
    media_object,
    new_flow,
    put,
    put_all,
    segment,
)


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


async def test_objects_that_were_read_are_not_read_again_to_register_them(database: Database) -> None:
    store = await database.fresh()
    row = await new_flow(store)
    await store.allocate([media_object(id) for id in "abc"], row.ref, row.version, None)
    before = await store.objects("ab")
    # Changed meanwhile, in another process.
    now = before["a"]._replace(key_frame_count=7)
    await (await database.again()).replace_object(now, None)
    judged: dict[str, ObjectRow | None] = {}

    def judge(new: NewSegment, obj: ObjectRow | None, init: ObjectRow | None) -> Registration | errors.Error:
        judged[new.object_id] = obj
        return accept(new, obj, init)

    new = [segment(id, n, n + 1) for n, id in enumerate("abc")]
    statements: list[str] = []
    await _on_writer(store, lambda c: c.set_trace_callback(statements.append))
    assert await store.add_segments(adding(row, *new, judge=judge)) == [None] * 3
    await _on_writer(store, lambda c: c.set_trace_callback(None))

    a, b, c = (judged[id] for id in "abc")
    assert a is not None and a._replace(version=0) == now._replace(version=0)
    assert b is before["b"]
    assert c is not None and c.id == "c"
    whole = [each for each in statements if each.startswith("SELECT") and "o.document" in each]
    assert len(whole) == 1 and '["a","c"]' in whole[0]
    assert {id: found.key_frame_count for id, found in (await store.objects("abc")).items()} == {
        "a": 7,
        "b": None,
        "c": None,
    }


async def test_an_object_is_never_taken_for_another_of_its_version(database: Database) -> None:
    store = await database.fresh()
    row = await new_flow(store)
    await store.allocate([media_object(id) for id in "ab"], row.ref, row.version, None)
    await _on_writer(store, lambda c: c.execute("UPDATE objects SET version = 9"))
    await store.objects("a")
    judged: list[ObjectRow | None] = []

    def judge(new: NewSegment, obj: ObjectRow | None, init: ObjectRow | None) -> Registration | errors.Error:
        judged.append(obj)
        return accept(new, obj, init)

    assert await store.add_segments(adding(row, segment("b", 0, 1), judge=judge)) == [None]
    assert [obj and obj.id for obj in judged] == ["b"]


def test_what_is_kept_of_objects_is_bounded(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sqlite_objects, "CACHED", 4)
    cache = Cache()
    rows = [media_object(f"{version}", version=version) for version in range(9)]
    for version in range(9):
        cache.keep(rows[version : version + 1])
        assert cache.get(version) is rows[version]
        assert sum(cache.get(each.version) is not None for each in rows) <= 4
    cache.keep(rows[:3])
    for _ in range(2):
        cache.keep(rows[8:])
    cache.keep(rows[4:])
    assert [each.version for each in rows if cache.get(each.version)] == [0, 1, 2, 8]


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
