"""The metadata on a VAST cluster that fails: nothing acknowledged is lost or doubled; answers in time."""

from __future__ import annotations

import asyncio
import json
import time
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from store import errors
from store.keeping import VastSettings
from store.metadata.protocol import Stale
from store.metadata.query import Query, SegmentQuery
from store.metadata.rows import Change, Kind, Ref
from store.metadata.vast import open_vast
from store.metadata.vast_api import VastConfig
from store.metadata.vast_probe import Conflicts
from store.metadata.vast_session import LATEST_S
from tests.contract.metadata_support import adding, event, flow, get, new_flow, put, segment, walk
from tests.vast.metadata_support import config, opened
from tests.vast_emulator import Fault

IN_TIME_S = 10.0
"""Within which a caller is answered, whatever the cluster does."""
SHORT_S = 1.5
"""What a request may take where one is never answered: long enough for all others."""


async def _count(vast: Any, name: str) -> int:
    return len([row for row in await walk(vast, Query(Kind.FLOW, None, 500)) if row.id.startswith(name)])


PASSING = [
    Fault("conflict", "update", times=3),
    Fault("conflict", "commit", times=3),
    Fault("slow_down", "begin", times=3),
    Fault("slow_down", "query", times=3),
    Fault("slow_down", "commit", times=3),
    Fault("slow_down", "insert", times=3),
    Fault("status", "insert", times=2, status=500),
    Fault("status", "commit", times=2, status=502),
    Fault("status", "query", times=2, status=429),
    Fault("drop", "begin", times=2),
    Fault("drop", "query", times=2),
    Fault("drop", "insert", times=2),
    Fault("drop_after", "insert", times=2),
    Fault("drop", "commit", times=2),
    Fault("drop_after", "commit", times=2),
    Fault("drop_after", "rollback", times=2),
    Fault("truncate", "query", times=2),
    Fault("fail_stream", "query", times=2),
    Fault("hang", "query", times=1, seconds=60),
    Fault("hang", "commit", times=1, seconds=60),
    Fault("hang_after", "commit", times=1, seconds=60),
]


@pytest.mark.parametrize("fault", PASSING, ids=lambda f: f"{f.kind}-{f.operation}-{f.status}")
@pytest.mark.parametrize("conflicts", ["update", "commit"])
async def test_a_failure_that_passes_is_not_noticed(start: Any, fault: Fault, conflicts: str) -> None:
    emulator = start(conflicts=conflicts)
    given = {"timeout_s": SHORT_S} if fault.kind.startswith("hang") else {}
    async with opened(emulator, **given) as vast:
        row = await new_flow(vast)
        emulator.faults.add(fault)
        announce = [event(1)]
        added = await vast.add_segments(adding(row, segment("o", 0, 10), announce=lambda *_: announce))
        assert added == [None]
        await vast.write(Change(puts=(put(flow("other")),), unchanged={row.ref: row.version}))
        assert set(await vast.rows([row.ref, Ref(Kind.FLOW, "other")])) == {row.ref, Ref(Kind.FLOW, "other")}
        assert [each.start_ns for each in (await vast.segments(SegmentQuery("flow", 10))).rows] == [0]
        assert len(await vast.events(0, 10)) == 1
        assert emulator.faults.hits >= 1
        # What was given up is over, too, but for what the cluster ends by itself.
        assert emulator.open_transactions <= emulator.faults.hits


@pytest.mark.parametrize("kind", ["drop_after", "hang_after"])
async def test_an_unanswered_commit_is_looked_into_and_not_repeated(start: Any, kind: Any) -> None:
    emulator = start()
    async with opened(emulator, timeout_s=SHORT_S) as vast:
        await vast.write(Change(puts=(put(flow("counter", number=0)),)))
        for number in range(1, 4):
            row = await get(vast, "counter")
            emulator.faults.add(Fault(kind, "commit", seconds=60))
            await vast.write(
                Change(puts=(put(flow("counter", number=number), row.version),), events=(event(number),))
            )
        assert json.loads((await get(vast, "counter")).document)["number"] == 3
        assert [each.event.body["number"] for each in await vast.events(0, 10)] == [1, 2, 3]


LASTING = [
    Fault("hang", seconds=60, times=None),
    Fault("drop", times=None),
    Fault("slow_down", times=None),
    Fault("conflict", "commit", times=None),
    Fault("conflict", "update", times=None),
    Fault("hang", "commit", seconds=60, times=None),
    Fault("drop_after", "commit", times=None),
    Fault("status", times=None, status=503),
    Fault("status", times=None, status=504),
    Fault("truncate", "query", times=None),
]


def test_whoever_says_nothing_of_time_gets_answers_in_time() -> None:
    given = {"bucket": "b", "schema": "s", "access_key": "a", "secret_key": "s"}
    assert VastConfig(endpoints=("http://h",), **given).deadline_s + LATEST_S < IN_TIME_S
    assert VastSettings().deadline_s + LATEST_S < IN_TIME_S


@pytest.mark.slow
@pytest.mark.parametrize("fault", LASTING, ids=lambda f: f"{f.kind}-{f.operation}-{f.status}")
async def test_a_failure_that_lasts_is_answered_in_time_and_leaves_nothing_behind(
    start: Any, fault: Fault
) -> None:
    emulator = start(transaction_timeout_s=1.0)
    # A little more than half of what is set where nobody says otherwise: twice the time would be too late.
    async with opened(emulator, timeout_s=2.5, deadline_s=5.0) as vast:
        row = await new_flow(vast)
        emulator.faults.add(fault)
        begun = time.monotonic()
        calls = [vast.add_segments(adding(row, segment(f"o{n}", n, n + 1))) for n in range(20)]
        results = await asyncio.gather(*calls, return_exceptions=True)
        # The clock of this test is the promise itself.
        assert time.monotonic() - begun < IN_TIME_S
        emulator.faults.clear()
        assert {type(result) for result in results} <= {errors.Unavailable, list}
        page = await vast.segments(SegmentQuery("flow", 100))
        there = {each.start_ns for each in page.rows}
        acknowledged = {n for n, result in enumerate(results) if result == [None]}
        assert acknowledged <= there
        assert len(page.rows) == len(there)
        again = await vast.add_segments(adding(row, *(segment(f"o{n}", n, n + 1) for n in range(20))))
        assert [error is None for error in again] == [n not in there for n in range(20)]


async def test_a_storm_of_conflicts_loses_and_doubles_nothing(start: Any) -> None:
    emulator = start(conflicts="commit")
    emulator.faults.add(Fault("conflict", "commit", times=None, probability=0.3))
    async with opened(emulator) as one, opened(emulator) as two:
        row = await new_flow(one)
        stores = (one, two)
        calls = [
            stores[n % 2].add_segments(
                adding(row, segment(f"o{n}", n, n + 1), announce=lambda *_, n=n: [event(n)])
            )
            for n in range(30)
        ]
        assert await asyncio.gather(*calls) == [[None]] * 30
        page = await one.segments(SegmentQuery("flow", 100))
        assert [each.start_ns for each in page.rows] == list(range(30))
        numbers = [each.event.body["number"] for each in await two.events(0, 100)]
        assert sorted(numbers) == list(range(30))


async def test_what_was_acknowledged_outlives_a_restart_of_the_cluster(tmp_path: Path, start: Any) -> None:
    emulator = start(journal=tmp_path / "journal")
    async with opened(emulator) as vast:
        row = await new_flow(vast)
        acknowledged: list[int] = []
        refused: list[int] = []

        async def write(first: int) -> None:
            for n in range(first, 60, 4):
                try:
                    await vast.add_segments(adding(row, segment(f"o{n}", n, n + 1)))
                    acknowledged.append(n)
                except errors.Unavailable:
                    refused.append(n)

        async def restart() -> None:
            while len(acknowledged) < 10:
                await asyncio.sleep(0)
            await asyncio.to_thread(emulator.restart)

        await asyncio.gather(*(write(n) for n in range(4)), restart())
        page = await vast.segments(SegmentQuery("flow", 100))
        there = [each.start_ns for each in page.rows]
        assert set(acknowledged) <= set(there)
        assert len(there) == len(set(there))
        assert len(acknowledged) + len(refused) == 60


async def test_another_endpoint_is_used_when_one_fails(start: Any) -> None:
    emulator = start(endpoints=3)
    async with opened(emulator) as vast:
        row = await new_flow(vast)
        for place in (0, 1):
            emulator.close_endpoint(place)
            assert await get(vast, "flow") == row
            await vast.write(Change(puts=(put(flow(f"behind {place}")),)))
        emulator.open_endpoint(0)
        emulator.close_endpoint(2)
        assert await _count(vast, "behind") == 2


async def test_opening_tries_every_endpoint(start: Any) -> None:
    emulator = start(endpoints=2)
    emulator.close_endpoint(0)
    async with opened(emulator) as vast:
        assert (await new_flow(vast)).id == "flow"


@pytest.mark.parametrize(
    ("given", "told"),
    [
        ({"secret_key": "wrong"}, "refuses the credentials"),
        ({"bucket": "absent"}, "DATABASE"),
        ({"endpoints": ("http://127.0.0.1:9",)}, "cannot be reached"),
    ],
)
async def test_what_keeps_it_from_opening_is_said_in_words(
    emulator: Any, given: dict[str, Any], told: str
) -> None:
    with pytest.raises(errors.Unavailable, match=told):
        await open_vast(config(emulator, **given), now_ns=time.time_ns)


async def test_neither_proxies_nor_authorities_of_the_environment_count(
    certificate: tuple[Path, Path], start: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    emulator = start(tls=certificate)
    for name in ("NO_PROXY", "no_proxy"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("https_proxy", "http://127.0.0.1:9")
    monkeypatch.setenv("REQUESTS_CA_BUNDLE", str(certificate[1]))
    async with opened(emulator, ca_file=certificate[0]) as vast:
        assert (await new_flow(vast)).id == "flow"
    with pytest.raises(errors.Unavailable, match="cannot be reached"):
        await open_vast(config(emulator), now_ns=time.time_ns)


@pytest.mark.parametrize(
    ("conflicts", "verdict"),
    [
        ("update", Conflicts.UPDATE),
        ("commit", Conflicts.COMMIT),
        ("locks", Conflicts.UNSEEN),
        ("none", Conflicts.UNSEEN),
    ],
)
async def test_how_conflicts_show_is_found_out_when_the_tables_are_made(
    start: Any, conflicts: str, verdict: Conflicts
) -> None:
    async with opened(start(conflicts=conflicts)) as vast:
        assert (await vast.check())["conflicts"] == verdict


@pytest.mark.parametrize("conflicts", ["locks", "none"])
async def test_where_conflicts_are_not_seen_one_process_writes_one_thing_at_a_time(
    start: Any, conflicts: str
) -> None:
    emulator = start(conflicts=conflicts)
    async with opened(emulator) as vast:
        with pytest.raises(errors.Unavailable, match="only one process"):
            await open_vast(config(emulator), now_ns=time.time_ns)
        await vast.write(Change(puts=(put(flow("counter", number=0)),)))

        async def count() -> None:
            for _ in range(4):
                while True:
                    row = await get(vast, "counter")
                    number = json.loads(row.document)["number"]
                    try:
                        change = Change(puts=(put(flow("counter", number=number + 1), row.version),))
                        await vast.write(change)
                        break
                    except Stale:
                        continue

        await asyncio.gather(*(count() for _ in range(4)))
        assert json.loads((await get(vast, "counter")).document)["number"] == 16
    async with opened(emulator) as vast:
        assert (await get(vast, "counter")).id == "counter"


async def test_pages_are_in_order_though_the_cluster_returns_rows_backwards(start: Any) -> None:
    async with opened(start(scramble=True)) as vast:
        row = await new_flow(vast)
        await vast.add_segments(adding(row, *(segment(f"o{n}", n, n + 1) for n in range(700))))
        found, query = [], SegmentQuery("flow", 60)
        page = await vast.segments(query)
        while page.more:
            found += [each.start_ns for each in page.rows]
            page = await vast.segments(SegmentQuery("flow", 60, after_ns=found[-1]))
        assert found + [each.start_ns for each in page.rows] == list(range(700))


async def test_a_cluster_that_does_not_sort_gets_projections(start: Any) -> None:
    emulator = start()
    emulator.faults.add(Fault("status", "create_table", times=1, status=501))
    async with opened(emulator) as vast:
        row = await new_flow(vast)
        assert await get(vast, "flow") == row


async def test_a_document_over_a_cell_is_refused(emulator: Any) -> None:
    async with opened(emulator) as vast:
        with pytest.raises(errors.BadRequest, match="larger"):
            await vast.write(Change(puts=(put(flow("large", description="x" * 200_000)),)))
        await vast.write(Change(puts=(put(flow("fits", description="x" * 120_000)),)))


@pytest.mark.parametrize("headers", [{}, {"tabular-txid": ""}, {"tabular-txid": "12x"}])
async def test_a_beginning_that_is_cut_short_is_repeated(start: Any, headers: dict[str, str]) -> None:
    emulator = start()
    async with opened(emulator) as vast:
        api, cut = vast.database.session.api, [SimpleNamespace(headers=headers)] * 2
        begin = api.begin_transaction
        api.begin_transaction = lambda: cut.pop() if cut else begin()
        row = await new_flow(vast)
        assert not cut and row.ref in await vast.rows([row.ref])
