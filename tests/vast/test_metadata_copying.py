"""`tams-store migrate`: everything arrives, once, however often it is interrupted."""

from __future__ import annotations

import asyncio
import os
import sqlite3
import time
from collections.abc import AsyncIterator
from contextlib import closing
from pathlib import Path
from typing import Any

import pytest
from typer.testing import CliRunner

from store import errors
from store.__main__ import app
from store.domain import analytics
from store.metadata import copying, copying_back
from store.metadata.copying import NotEqual, copy
from store.metadata.copying_back import copy_back
from store.metadata.keys import EVERYTHING, KeyQuery, PutKey
from store.metadata.protocol import Metadata
from store.metadata.query import Query, SegmentQuery, Sort
from store.metadata.rows import Change, Delete, Kind, Reference
from store.metadata.sqlite import Sqlite, open_sqlite
from store.metadata.vast_predicates import equal
from store.metadata.vast_tx import Tx
from store.timerange import ETERNITY, NEVER, TimeRange
from tests.contract.metadata_support import (
    adding,
    deleting,
    event,
    flow,
    get,
    media_object,
    put,
    put_all,
    segment,
    view,
    walk,
)
from tests.vast.metadata_support import opened
from tests.vast_emulator import Fault

FLOWS = 40


async def _fill(store: Metadata) -> None:
    await put_all(
        store,
        [
            put(
                flow(
                    f"f{n:03}", *([["a"], ["b"], []][n % 3]), label=f"l{n % 7}", tags={"n": str(n % 4)},
                    format="video",
                ),
                at_ns=n,
            )
            for n in range(FLOWS)
        ],
    )  # fmt: skip
    await put_all(
        store, [put({"id": "s"}, kind=Kind.SOURCE), put({"id": "w", "url": "u"}, kind=Kind.WEBHOOK)]
    )
    first = await get(store, "f000")
    made = [media_object(f"o{n}", "f000", size_bytes=n) for n in range(30)]
    await store.allocate([*made, media_object("init", "f000")], first.ref, first.version, None)
    for n in range(0, FLOWS, 4):
        row = await get(store, f"f{n:03}")
        batch = [segment(f"o{k}", 10 * k, 10 * k + 5, init_object_id="init") for k in range(n // 2, 25)]
        announce = [event(n)]
        await store.add_segments(adding(row, *batch, announce=lambda *_, told=announce: told, now_ns=99))
    await store.delete_segments(deleting("f000", TimeRange(0, 60)))
    row = await get(store, "f001")
    await store.write(Change(puts=(put(flow("f001", "b", label="new"), row.version),), events=(event(100),)))
    row = await get(store, "f002")
    await store.write(Change(deletes=(Delete(row.ref, row.version),)))
    await store.hold(["o29"], Reference.STREAM, "holder", True)
    await store.put_key(PutKey("a/key", 3, "x/y", 5, 5, data=b"\x00ab"))
    spare = await store.reserve(media_object("kept", "")._replace(created_ns=400))
    await store.put_key(PutKey("an/object", 3, "x/y", 6, 6, object=spare._replace(size_bytes=9)))
    await store.forget_events(8)


async def _seen(store: Metadata) -> list[Any]:
    """All that a client of the protocol can see."""
    found: list[Any] = [await store.events(0, 1_000), await store.keys(KeyQuery(EVERYTHING, 10))]
    for kind in Kind:
        for sort in (Sort.CREATED, Sort.LABEL):
            found.append(await walk(store, Query(kind, None, 7, sort=sort)))
    for within in (ETERNITY, NEVER, TimeRange(30, 80)):
        found.append(await walk(store, Query(Kind.FLOW, view("a"), 5, timerange=within)))
    found.append(await walk(store, Query(Kind.FLOW, view("b"), 5, tags=(("n", frozenset("1")),))))
    for n in range(FLOWS):
        page = await store.segments(SegmentQuery(f"f{n:03}", 100))
        found.append((page.flow, page.rows, page.more))
        found.append(await store.timerange(f"f{n:03}", ETERNITY))
    for id in ("o1", "o20", "init"):
        found.append(await store.object_page(id, Query(Kind.FLOW, view("a"), 5), None))
    found.append(await store.object_facts([*(f"o{n}" for n in range(30)), "init", "kept"], view("b")))
    found += [
        await store.key("a/key"),
        await store.key("an/object"),
        await store.object_at("backend", "key/o3"),
    ]
    for work in (analytics.flow_usage, analytics.storage_usage, analytics.time_range_analysis):
        found.append(await work(store))
    return found


@pytest.fixture
async def source(tmp_path: Path) -> AsyncIterator[Sqlite]:
    store = await open_sqlite(tmp_path / "metadata.sqlite")
    await _fill(store)
    yield store
    await store.close()


def _silent(*_: object) -> None:
    """No report."""


async def test_everything_arrives_and_goes_on_as_before(
    source: Sqlite, tmp_path: Path, start: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(copying, "BATCH", 7)
    told: list[tuple[str, int, int]] = []
    async with opened(start(scramble=True)) as vast:
        await copy(tmp_path / "metadata.sqlite", vast.database, lambda *said: told.append(said))
        assert await _seen(vast) == await _seen(source)
        assert all(done <= total for _, done, total in told)
        for store in (source, vast):
            row = await get(store, "f004")
            results = await store.add_segments(adding(row, segment("o1", 22, 24), segment("x", 1_000, 1_010)))
            assert [error is None for error in results] == [False, True]
            await store.hold(["o29"], Reference.STREAM, "holder", False)
            await store.write(Change(events=(event(200),)))
        events = [[each.event for each in await store.events(0, 100)] for store in (source, vast)]
        assert events[0] == events[1]
        assert set(await vast.collect(1_000, 50)) == set(await source.collect(1_000, 50))


async def test_an_interrupted_copy_goes_on_where_it_was(
    source: Sqlite, tmp_path: Path, emulator: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(copying, "BATCH", 11)
    monkeypatch.setattr(copying, "BATCH_S", 0.2)
    path = tmp_path / "metadata.sqlite"
    async with opened(emulator) as vast:
        for skip in (3, 9, 21, 40):
            emulator.faults.add(Fault("drop", "insert", skip=skip, times=None))
            with pytest.raises(errors.Unavailable):
                await copy(path, vast.database, _silent)
            emulator.faults.clear()
        monkeypatch.setattr(copying, "BATCH_S", 60.0)
        reports: list[int] = []
        await copy(path, vast.database, lambda name, done, total: reports.append(done))
        assert reports[0] > 0
        assert await _seen(vast) == await _seen(source)
        with pytest.raises(errors.BadRequest, match="something already"):
            await copy(path, vast.database, _silent)


async def test_a_difference_is_found(source: Sqlite, tmp_path: Path, emulator: Any) -> None:
    async with opened(emulator) as vast:
        with pytest.MonkeyPatch.context() as patch:

            async def nothing(*_: object) -> None:
                return None

            patch.setattr(copying, "_verify", nothing)
            patch.setattr(copying, "DONE", f"{copying.PREFIX}else")
            await copy(tmp_path / "metadata.sqlite", vast.database, _silent)

        def tamper(tx: Any) -> None:
            ((row_id,),) = tx.select("objects", (), equal("id", "o7"), row_ids=True)
            tx.update("objects", [row_id], {"flow_id": ["another"]})

        await vast.database.write(tamper)
        with pytest.raises(NotEqual, match="objects"):
            await copy(tmp_path / "metadata.sqlite", vast.database, _silent)


async def test_everything_comes_back_and_goes_on_as_before(
    tmp_path: Path, emulator: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(copying_back, "BATCH", 7)
    told: list[tuple[str, int, int]] = []
    path = tmp_path / "back.sqlite"
    async with opened(emulator) as vast:
        await _fill(vast)
        await vast.database.write(lambda tx: tx.insert("suspects", [{"object_id": "o3", "after_ns": 7}] * 2))
        await copy_back(vast.database, path, lambda *said: told.append(said))
        assert {name for name, done, total in told if done == total} >= {"objects", "verifying suspects"}
        assert sorted(each.name for each in tmp_path.iterdir()) == ["back.sqlite"]
        back = await open_sqlite(path)
        try:
            assert await _seen(back) == await _seen(vast)
            for store in (back, vast):
                row = await get(store, "f004")
                more = [segment("o1", 22, 24), segment("x", 1_000, 1_010)]
                results = await store.add_segments(adding(row, *more))
                assert [error is None for error in results] == [False, True]
                await store.hold(["o29"], Reference.STREAM, "holder", False)
                await store.write(Change(puts=(put(flow("fresh")),), events=(event(200),)))
            fresh = [(await get(store, "fresh")).version for store in (back, vast)]
            assert min(fresh) > max(row.version for row in await walk(back, Query(Kind.SOURCE, None, 9)))
            events = [[each.event for each in await store.events(0, 100)] for store in (back, vast)]
            assert events[0] == events[1]
            assert set(await vast.collect(1_000, 50)) == set(await back.collect(1_000, 50))
        finally:
            await back.close()
        with pytest.raises(errors.BadRequest, match="there already"):
            await copy_back(vast.database, path, _silent)


async def test_what_shares_a_version_there_has_one_of_its_own_here(tmp_path: Path, emulator: Any) -> None:
    path = tmp_path / "back.sqlite"
    async with opened(emulator) as vast:
        await _fill(vast)

        def share(tx: Tx) -> None:
            for table in ("objects", "resources"):
                found = [row_id for (row_id,) in tx.select(table, (), row_ids=True)]
                tx.update(table, found[:3], {"version": [9, 9, 9]})

        await vast.database.write(share)
        await copy_back(vast.database, path, _silent)
        with closing(sqlite3.connect(path)) as file:
            for table in ("objects", "resources"):
                sql = f"SELECT count(*), count(DISTINCT version), min(version) FROM {table}"
                total, apart, least = file.execute(sql).fetchone()
                assert (total, least) == (apart, 9)
            (last,) = file.execute("SELECT value FROM counters WHERE name = 'version'").fetchone()
            assert file.execute("SELECT count(*) FROM objects WHERE version > ?", (last,)).fetchone() == (0,)
        back = await open_sqlite(path)
        for n in range(FLOWS):
            query = SegmentQuery(f"f{n:03}", 100)
            here, there = [(await store.segments(query)).rows for store in (back, vast)]
            assert [row.object.id for row in here] == [row.object.id for row in there]
        await back.close()


async def test_coming_back_goes_on_where_it_was_interrupted(
    tmp_path: Path, emulator: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(copying_back, "BATCH", 5)
    path = tmp_path / "back.sqlite"
    async with opened(emulator) as vast:
        await _fill(vast)
        for stop in ("objects", "resources", "segments", "keys", "verifying objects"):
            begun: list[str] = []

            def interrupt(name: str, done: int, total: int, stop: str = stop, begun: Any = begun) -> None:
                begun.append(name)
                if name == stop and (done or "verifying" in name):
                    raise OSError("interrupted")

            with pytest.raises(errors.Unavailable, match="interrupted"):
                await copy_back(vast.database, path, interrupt)
            assert not path.exists()
        finished: list[str] = []
        await copy_back(vast.database, path, lambda name, *_: finished.append(name))
        assert finished[0] == "verifying objects"
        back = await open_sqlite(path)
        assert await _seen(back) == await _seen(vast)
        await back.close()


async def test_tables_that_a_server_uses_are_left_alone(emulator: Any) -> None:
    async with opened(emulator) as vast, opened(emulator) as server:
        now_ns = time.time_ns()

        async def job() -> None:
            assert await server.lease("deletions", "server", now_ns, now_ns + 1)

        async def nothing() -> None:
            await server.events(0, 1)

        with pytest.raises(errors.BadRequest, match="stop all servers"):
            await copying.refuse_in_use(vast.database, job)
        await copying.refuse_in_use(vast.database, nothing)


async def test_what_comes_back_different_is_found(tmp_path: Path, emulator: Any) -> None:
    path = tmp_path / "back.sqlite"
    async with opened(emulator) as vast:
        await _fill(vast)

        def interrupt(name: str, done: int, total: int) -> None:
            if name == "verifying objects":
                raise OSError("interrupted")

        with pytest.raises(errors.Unavailable, match="interrupted"):
            await copy_back(vast.database, path, interrupt)
        row = await get(vast, "f008")
        await vast.write(Change(puts=(put(flow("f008", label="servers were running"), row.version),)))
        with pytest.raises(NotEqual, match="resources"):
            await copy_back(vast.database, path, _silent)
        assert not path.exists()


def test_the_command_copies_once(tmp_path: Path, emulator: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    async def fill() -> None:
        store = await open_sqlite(tmp_path / "metadata.sqlite")
        await put_all(store, [put(flow("f"))])
        await store.close()

    asyncio.run(fill())
    monkeypatch.setattr(copying, "WATCH_S", 0)
    for name, value in {
        "CONFIG": os.devnull,
        "DATA": str(tmp_path),
        "VAST__ENDPOINTS": f'["{emulator.endpoint}"]',
        "VAST__BUCKET": emulator.bucket,
        "VAST__ACCESS_KEY": emulator.access_key,
        "VAST__SECRET_KEY": emulator.secret_key,
    }.items():
        monkeypatch.setenv(f"TAMS_{name}", value)
    words = ["migrate", "--from", "sqlite", "--to", "vast"]
    first = CliRunner().invoke(app, words)
    assert first.exit_code == 0, first.output
    assert "resources: 1 of 1" in first.output
    second = CliRunner().invoke(app, words)
    assert (second.exit_code, "something already" in second.output) == (1, True)
    assert CliRunner().invoke(app, ["migrate", "--from", "vast", "--to", "vast"]).exit_code == 2
    back = ["migrate", "--from", "vast", "--to", "sqlite"]
    kept = CliRunner().invoke(app, back)
    assert (kept.exit_code, "there already" in kept.output) == (1, True)
    (tmp_path / "metadata.sqlite").rename(tmp_path / "old.sqlite")
    returned = CliRunner().invoke(app, back)
    assert returned.exit_code == 0, returned.output
    assert "verifying resources: 1 of 1" in returned.output
    monkeypatch.setenv("TAMS_VAST__DB_SCHEMA", "absent")
    (tmp_path / "metadata.sqlite").unlink()
    absent = CliRunner().invoke(app, back)
    assert (absent.exit_code, "no schema 'absent'" in absent.output) == (1, True)
