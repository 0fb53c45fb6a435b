"""The metadata engine, below HTTP: parts of P2, P3 and P4. Run: python -m tests.bench.metadata [FOLDER].

CPU time of one thread where nothing waits, time on the clock where a disk does.
"""

from __future__ import annotations

import asyncio
import os
import sqlite3
import statistics
import sys
import tempfile
import time
import uuid
from collections.abc import Awaitable, Callable
from functools import partial
from pathlib import Path

from store.domain.segments import Pins, judge
from store.errors import Error
from store.media.protocol import Stat
from store.metadata import sqlite_page, sqlite_rows, sqlite_segments
from store.metadata.protocol import Registration
from store.metadata.query import Query, SegmentQuery
from store.metadata.rows import Kind, NewSegment, ObjectRow, Ref, Row
from store.metadata.sqlite import open_sqlite
from store.metadata.sqlite_objects import Cache
from store.metadata.sqlite_schema import connect
from tests.bench.table import Result, Rounds, show
from tests.contract.metadata_support import adding, flow, media_object, new_flow, put, put_all, view

SIZES = (1_000, 10_000, 100_000)
CLIENTS = 16
BULK_US = 15.0
BEFORE = 200
"""Commits before those that are measured: more than the 1,000 pages that SQLite's log grows to."""
LISTINGS = {
    "dense": Query(Kind.FLOW, view("dense"), 100),
    "sparse": Query(Kind.FLOW, view("sparse"), 100),
    "dense, some denied": Query(Kind.FLOW, view("dense", deny=["sparse"]), 100),
    "dense among 1,000 classes": Query(Kind.FLOW, view("dense", *(f"c{n}" for n in range(1_000))), 100),
}


def cpu_us(work: Callable[[], object], times: int = 50) -> float:
    """Median CPU time of a call, after one that warms up."""
    work()
    found = []
    for _ in range(times):
        start = time.thread_time()
        work()
        found.append(time.thread_time() - start)
    return statistics.median(found) * 1e6


async def clock_us(work: Callable[[], Awaitable[object]], times: int) -> float:
    """Median time of a call."""
    found = []
    for _ in range(times):
        start = time.perf_counter()
        await work()
        found.append(time.perf_counter() - start)
    return statistics.median(found) * 1e6


async def library(path: Path, count: int) -> str:
    """Flows of which a tenth is dense and ten are sparse; the id of one."""
    metadata = await open_sqlite(path)
    ids = [str(uuid.uuid4()) for _ in range(count)]

    def one(n: int) -> dict[str, object]:
        name = "sparse" if n % (count // 10) == 0 else "dense" if n % 10 == 1 else "hidden"
        return flow(ids[n], name, label=f"label {n}", description="d" * 600)

    for first in range(0, count, 1_000):
        await put_all(metadata, [put(one(n), at_ns=n) for n in range(first, min(first + 1_000, count))])
    await metadata.close()
    return ids[7]


async def flows(folder: Path) -> list[Result]:
    """Gets and listings at each size against the smallest."""
    costs: dict[str, dict[int, float]] = {name: {} for name in ("get a flow", *LISTINGS)}
    for count in SIZES:
        path = folder / f"flows {count}"
        ref = Ref(Kind.FLOW, await library(path, count))
        connection = connect(path, busy_s=0)
        costs["get a flow"][count] = cpu_us(partial(sqlite_rows.get, connection, ref), 500)
        for name, query in LISTINGS.items():
            seen = sqlite_page.Seen()
            costs[name][count] = cpu_us(partial(sqlite_page.page, connection, query, seen))
        connection.close()
    return [
        Result("P2", f"{name}, {count:,} flows / {SIZES[0]:,}", by[count], by[SIZES[0]], "us", 1.3, False)
        for name, by in costs.items()
        for count in SIZES[1:]
    ]


def new_segments(ids: list[str], first: int) -> list[NewSegment]:
    """Segments as packagers post them, each on an object of its own."""
    document = b'{"object_id":"%s","timerange":"[0:0_1:0)","sample_offset":0,"sample_count":50}'
    return [
        NewSegment(id, n * 10, n * 10 + 10, document % id.encode(), f"[0:{n * 10}_0:{n * 10 + 10})")
        for n, id in enumerate(ids, first)
    ]


def _judged(
    flow_id: str, pins: Pins, new: NewSegment, obj: ObjectRow | None, init: ObjectRow | None
) -> Registration | Error:
    return judge(flow_id, new, obj, init, pins, 0)


async def fill(path: Path, count: int) -> tuple[Row, Rounds]:
    """A flow of that many segments, and the times per row of posting them by the thousand."""
    metadata = await open_sqlite(path)
    row = await new_flow(metadata, str(uuid.uuid4()))
    costs = []
    for first in range(0, count, 1_000):
        ids = [str(uuid.uuid4()) for _ in range(1_000)]
        await metadata.allocate([media_object(id, row.id) for id in ids], row.ref, row.version, None)
        # As the store does: it reads them to freeze their bytes, and judges by what was frozen.
        await metadata.objects(ids)
        pins = Pins({id: {"backend": Stat(1_000_000, "etag")} for id in ids})
        request = adding(row, *new_segments(ids, first), judge=partial(_judged, row.id, pins))
        start = time.perf_counter()
        await metadata.add_segments(request)
        costs.append((time.perf_counter() - start) * 1e3)
    await metadata.close()
    return row, Rounds(tuple(costs))


async def segments(folder: Path) -> list[Result]:
    """Pages of 1,000 segments at each size against the smallest, and posting them in bulk."""
    results: list[Result] = []
    base: dict[str, float] = {}

    def page(connection: sqlite3.Connection, query: SegmentQuery, cache: Cache | None) -> float:
        return cpu_us(lambda: sqlite_segments.page(connection, query, cache or Cache(), None), 20)

    for count in SIZES:
        path = folder / f"segments {count}"
        row, bulk_us = await fill(path, count)
        connection = connect(path, busy_s=0)
        query = SegmentQuery(row.id, 1_000, after_ns=count * 5 - 5_000)
        for name, cache in (("objects seen before", Cache()), ("objects new to the reader", None)):
            cost = page(connection, query, cache)
            if count == SIZES[0]:
                base[name] = cost
                continue
            work = f"1,000 segments, {name}, of {count:,} / {SIZES[0]:,}"
            results.append(Result("P3", work, cost, base[name], "us", 1.3, False))
        connection.close()
        work = f"bulk of 1,000, judged and durable, in {count:,}, a row to 15 us"
        results.append(Result("P4", work, bulk_us, BULK_US, "us", 1.0, False))
    return results


async def commits(folder: Path, rounds: int = 7) -> list[Result]:
    """One client against a bare fdatasync; 16 clients against one commit per request."""
    descriptor = os.open(folder / "bare", os.O_CREAT | os.O_WRONLY)
    metadata = await open_sqlite(folder / "commits")
    row = await new_flow(metadata)
    starts = iter(range(0, 10**9, 10))

    async def bare() -> None:
        os.write(descriptor, b"x" * 8_192)
        os.fdatasync(descriptor)

    async def post() -> None:
        start = next(starts)
        await metadata.add_segments(
            adding(row, NewSegment(f"object {start}", start, start + 10, b"{}", "[0:0_0:1)"))
        )

    async def client(times: int) -> None:
        for _ in range(times):
            await post()

    # As on any server after its first minute: up to the first checkpoint each commit makes the file longer.
    await client(BEFORE)
    synced, posted, rates = [], [], []
    for _ in range(rounds):
        synced.append(await clock_us(bare, 60))
        posted.append(await clock_us(post, 60))
        start = time.perf_counter()
        await asyncio.gather(*(client(10) for _ in range(CLIENTS)))
        rates.append(CLIENTS * 10 / (time.perf_counter() - start))
    os.close(descriptor)
    await metadata.close()
    alone, floor, rate = (Rounds(tuple(found)) for found in (posted, synced, rates))
    single = Rounds(tuple(1e6 / each_us for each_us in posted))
    return [
        Result("P4", "one segment, durable, to a bare fdatasync", alone, floor, "us", 2.5, False),
        Result("P4", "16 clients, to one commit per request", rate, single, "/s", 1.8, True),
    ]


async def posting(rounds: int = 7, count: int = 50_000) -> list[Result]:
    """P4 on the disk of the temporary folder: alone, at once and in bulk."""
    with tempfile.TemporaryDirectory(prefix="tams-bench-") as name:
        place = Path(name)
        found = await commits(place, rounds)
        _, bulk_us = await fill(place / "bulk", count)
        work = "bulk of 1,000, judged and durable, a row to 15 us"
        return [*found, Result("P4", work, bulk_us, BULK_US, "us", 1.0, higher=False)]


async def metadata(folder: Path) -> list[Result]:
    """Everything measured here, on the disk that `folder` is on."""
    with tempfile.TemporaryDirectory(dir=folder) as name:
        place = Path(name)
        return [*await commits(place), *await flows(place), *await segments(place)]


if __name__ == "__main__":
    show(asyncio.run(metadata(Path(sys.argv[1] if len(sys.argv) > 1 else tempfile.gettempdir()))))
