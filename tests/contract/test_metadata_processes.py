"""Writers that meet: many in one process, two processes, and one that is killed."""

from __future__ import annotations

import asyncio
import json
import sys
from collections.abc import AsyncIterator, Callable, Coroutine, Sequence
from itertools import pairwise
from pathlib import Path

import pytest

from store.metadata.protocol import Metadata, Stale
from store.metadata.query import Query, SegmentQuery
from store.metadata.rows import Change, Kind, Ref
from tests.contract.metadata_support import Database, adding, flow, get, new_flow, put, put_all, segment, walk

ROOT = Path(__file__).parents[2]
Start = Callable[..., Coroutine[None, None, asyncio.subprocess.Process]]

SPANS = [(at, at + length) for at in range(0, 60, 5) for length in (5, 7)]


@pytest.fixture
async def start(metadata: Database) -> AsyncIterator[Start]:
    """Starts another process on the metadata; what still runs at the end is killed."""
    running: list[asyncio.subprocess.Process] = []

    async def run(*arguments: str) -> asyncio.subprocess.Process:
        process = await asyncio.create_subprocess_exec(
            sys.executable,
            "-m",
            "tests.contract.metadata_process",
            metadata.place,
            *arguments,
            cwd=ROOT,
            stdin=asyncio.subprocess.PIPE,
            stdout=asyncio.subprocess.PIPE,
        )
        running.append(process)
        return process

    yield run
    for process in running:
        if process.returncode is None:
            process.kill()
        await process.communicate()


async def told(process: asyncio.subprocess.Process) -> object:
    """The next value that a process tells."""
    assert process.stdout is not None
    return json.loads(await process.stdout.readline())


async def go(*processes: asyncio.subprocess.Process) -> None:
    """Once all are ready, let them begin."""
    for process in processes:
        assert await told(process) == "ready"
    for process in processes:
        assert process.stdin is not None
        process.stdin.write(b"go\n")


async def _is_exactly(store: Metadata, won: Sequence[Sequence[int]]) -> None:
    """The flow has just the segments that writers were told of, none overlaps, and nothing more fits."""
    page = await store.segments(SegmentQuery("flow", 10_000))
    held = [(each.start_ns, each.stop_ns) for each in page.rows]
    assert held == sorted((start, stop) for start, stop in won)
    assert all(a[1] <= b[0] for a, b in pairwise(held))
    for start, stop in SPANS:
        assert any(start < e and s < stop for s, e in held)


async def test_of_overlapping_segments_of_concurrent_writers_one_wins(metadata: Database) -> None:
    store = await metadata.fresh()
    row = await new_flow(store)
    won: list[tuple[int, int]] = []

    async def write(number: int) -> None:
        for start, stop in SPANS[number:] + SPANS[:number]:
            (error,) = await store.add_segments(adding(row, segment(f"{number} {start}", start, stop)))
            if error is None:
                won.append((start, stop))

    await asyncio.gather(*(write(number) for number in range(16)))
    await _is_exactly(store, won)


async def test_of_overlapping_segments_of_two_processes_one_wins(metadata: Database, start: Start) -> None:
    store = await metadata.fresh()
    await new_flow(store)
    processes = [await start("overlapping", name, "8", json.dumps(SPANS)) for name in ("one", "two")]
    await go(*processes)
    won = [await told(process) for process in processes]
    await _is_exactly(store, [span for each in won for span in each])  # type: ignore[attr-defined]


async def test_compare_and_set_loses_no_update_of_concurrent_writers(metadata: Database) -> None:
    store = await metadata.fresh()
    await put_all(store, [put(flow("counter", number=0))])

    async def count() -> None:
        for _ in range(5):
            while True:
                row = await get(store, "counter")
                number = json.loads(row.document)["number"]
                try:
                    await store.write(Change(puts=(put(flow("counter", number=number + 1), row.version),)))
                    break
                except Stale:
                    await asyncio.sleep(0)

    await asyncio.gather(*(count() for _ in range(8)))
    assert json.loads((await get(store, "counter")).document)["number"] == 40


async def test_compare_and_set_loses_no_update_of_two_processes(metadata: Database, start: Start) -> None:
    store = await metadata.fresh()
    await put_all(store, [put(flow("counter", number=0))])
    processes = [await start("counting", "40"), await start("counting", "40")]
    await go(*processes)
    assert [await told(process) for process in processes] == ["done", "done"]
    assert json.loads((await get(store, "counter")).document)["number"] == 80


async def test_what_was_acknowledged_outlives_a_killed_writer(metadata: Database, start: Start) -> None:
    store = await metadata.fresh()
    await metadata.close()
    writer = await start("endless", "killed")
    acknowledged: list[str] = []
    for _ in range(20):
        acknowledged += await told(writer)  # type: ignore[arg-type]
    writer.kill()
    rest, _ = await writer.communicate()
    for line in rest.splitlines(keepends=True):
        if line.endswith(b"\n"):
            acknowledged += json.loads(line)
    store = await metadata.again()
    rows = await store.rows([Ref(Kind.FLOW, id) for id in acknowledged])
    assert len(rows) == len(acknowledged) >= 160
    # Every document that is there, acknowledged or not, is there whole, with its event and in the listing.
    listed = await walk(store, Query(Kind.FLOW, None, 1_000))
    assert len(await store.events(0, 100_000)) == len(listed) >= len(acknowledged)
    await new_flow(store)


async def test_a_reader_sees_whole_changes_only(metadata: Database) -> None:
    store, reader = await metadata.fresh(), await metadata.again()
    refs = [Ref(Kind.FLOW, "one"), Ref(Kind.FLOW, "two")]
    await put_all(store, [put(flow("one", number=0)), put(flow("two", number=0))])
    done = asyncio.Event()

    async def write() -> None:
        for number in range(1, 40):
            found = await store.rows(refs)
            puts = [put(flow(ref.id, number=number), found[ref].version) for ref in refs]
            await store.write(Change(puts=tuple(puts)))
        done.set()

    async def read() -> None:
        while not done.is_set():
            found = await reader.rows(refs)
            listed, _ = await reader.page(Query(Kind.FLOW, None, 10))
            for rows in (list(found.values()), listed):
                assert len({json.loads(row.document)["number"] for row in rows}) == 1
            await asyncio.sleep(0)

    await asyncio.gather(write(), read())
