"""What only SQLite's implementation promises of reads: their snapshots, what is kept of them, and threads."""

from __future__ import annotations

import asyncio
import sqlite3
from collections.abc import Callable, Sequence
from dataclasses import replace

import pytest

from store import errors
from store.metadata import (
    sqlite_reader,
    sqlite_rows,
)
from store.metadata.query import Query
from store.metadata.rows import Event, Kind, Ref, Row
from store.metadata.survey import Subject
from tests.contract.metadata_support import (
    Database,
    adding,
    flow,
    get,
    new_flow,
    put,
    put_all,
    segment,
    view,
)


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
