"""P10: pushing to streams through the proxy, and from push to pull; beside a bare handler with like syncs.

Run: python -m tests.bench.streams. Entries are 1 KiB. Without acknowledgement the clock stops when the last
entry can be read.
"""

from __future__ import annotations

import asyncio
import os
import statistics
import tempfile
import time
from collections.abc import Awaitable, Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

import websockets

from tests.bench.load import TURNS, interleaved
from tests.bench.servers import process, proxy, token
from tests.bench.table import Result, show
from tests.ports import free_port

ENTRY = os.urandom(1024)
BATCH = 100
HEADER = ",".join(str(place * len(ENTRY)) for place in range(BATCH))
Connect = Callable[[str], websockets.connect]
Work = Callable[[Connect, float], Awaitable[float]]


def streaming(rounds: int = 3, seconds: float = 3) -> list[Result]:
    """The four ways to push, and from push to pull."""
    with tempfile.TemporaryDirectory(dir="/var/tmp") as name:
        folder = Path(name)
        with proxy(folder / "proxy") as (url, _), _bare(folder) as bare:
            bearer = token(url, folder / "proxy", "newsroom")
            ours = _connecting(url, {"Authorization": f"Bearer {bearer}"})
            theirs = _connecting(bare, {})
            # First: the others leave gigabytes that are being sealed and written out for a while.
            for connect in (ours, theirs):
                asyncio.run(push_one(connect, 0.1))
            latency = _latency(ours, theirs, rounds, seconds)
            return [
                _compared("push 1 KiB, no acknowledgement", push_all, ours, theirs, rounds, seconds),
                _compared("push, acknowledged, 1 connection", push_one, ours, theirs, rounds, seconds),
                _compared("push, acknowledged, 8 connections", push_eight, ours, theirs, rounds, seconds),
                _compared("push by 100, acknowledged", push_batches, ours, theirs, rounds, seconds, 0.5),
                *latency,
            ]


def _connecting(url: str, headers: dict[str, str]) -> Connect:
    base = f"ws{url.removeprefix('http')}/data/bench"

    def connect(rest: str) -> websockets.connect:
        return websockets.connect(base + rest, additional_headers=headers, compression=None)

    return connect


@contextmanager
def _bare(folder: Path) -> Iterator[str]:
    port = free_port()
    with process(["-m", "tests.bench.bare_streams", str(port), str(folder / "bare")], {}, port):
        yield f"http://127.0.0.1:{port}"


def _compared(
    work: str,
    run: Work,
    ours: Connect,
    theirs: Connect,
    rounds: int,
    seconds: float,
    target: float | None = None,
) -> Result:
    one, other = interleaved(
        rounds,
        lambda: asyncio.run(_run(run, ours, seconds)),
        lambda: asyncio.run(_run(run, theirs, seconds)),
    )
    return Result("P10", work, one, other, "entries/s", target, higher=True)


async def _run(run: Work, connect: Connect, seconds: float) -> float:
    return await run(connect, seconds)


async def push_all(connect: Connect, seconds: float) -> float:
    """As fast as they are taken; then one that is acknowledged."""
    async with connect("/push") as socket, connect("/push?ack=true") as last:
        began, count = time.perf_counter(), 0
        while time.perf_counter() - began < seconds:
            await socket.send(ENTRY)
            count += 1
        await socket.close()
        await last.send(ENTRY)
        await last.recv()
        return count / (time.perf_counter() - began)


async def push_one(connect: Connect, seconds: float) -> float:
    """One after the other."""
    async with connect("/push?ack=true") as socket:
        began, count = time.perf_counter(), 0
        while time.perf_counter() - began < seconds:
            await socket.send(ENTRY)
            await socket.recv()
            count += 1
        return count / (time.perf_counter() - began)


async def push_eight(connect: Connect, seconds: float) -> float:
    """Eight that do so at once."""
    return sum(await asyncio.gather(*(push_one(connect, seconds) for _ in range(8))))


async def push_batches(connect: Connect, seconds: float) -> float:
    """A hundred at once, one batch after the other."""
    blob = ENTRY * BATCH
    async with connect("/push?ack=true&batch=true") as socket:
        began, count = time.perf_counter(), 0
        while time.perf_counter() - began < seconds:
            await socket.send(HEADER)
            await socket.send(blob)
            await socket.recv()
            count += BATCH
        return count / (time.perf_counter() - began)


def _latency(ours: Connect, theirs: Connect, rounds: int, seconds: float) -> list[Result]:
    """The second row tells how much of it is the disk's and the machine's."""
    found: list[float] = []

    def measured(connect: Connect, kept: list[float]) -> float:
        taken = asyncio.run(_latencies(connect, seconds / TURNS))
        kept += taken
        return statistics.median(taken) * 1000

    half, bare = interleaved(rounds * TURNS, lambda: measured(ours, found), lambda: measured(theirs, []))
    most = statistics.quantiles(found, n=100)[98] * 1000
    return [
        Result("P10", "push to pull at 200/s, p50", half, 1.0, "ms", 1.0, higher=False),
        Result("P10", "  the same, to the bare handler", half, bare, "ms", None, higher=False),
        Result("P10", "  the same, p99, to p50", most, half, "ms", None, higher=False),
    ]


async def _latencies(connect: Connect, seconds: float) -> list[float]:
    found: list[float] = []
    async with connect("/pull") as pull, connect("/push") as push:

        async def follow() -> None:
            while True:
                await pull.recv()
                data = await pull.recv()
                found.append(time.perf_counter() - float(bytes(data)[:20]))  # type: ignore[arg-type]

        following = asyncio.create_task(follow())
        began = time.perf_counter()
        for number in range(int(200 * seconds)):
            await asyncio.sleep(max(0.0, began + number / 200 - time.perf_counter()))
            await push.send(f"{time.perf_counter():020.9f}".encode() + ENTRY)
        await asyncio.sleep(0.2)
        following.cancel()
    return found


if __name__ == "__main__":
    show(streaming())
