"""The server killed under pushers: what it acknowledged is there, once, in the order of its ids."""

from __future__ import annotations

import asyncio
import random
import signal
import subprocess
import sys
from collections.abc import AsyncIterator, Callable, Mapping
from contextlib import asynccontextmanager
from pathlib import Path
from types import MappingProxyType

import httpx
import pytest
from websockets.exceptions import ConnectionClosed, InvalidHandshake

from store.streams.ids import id_of
from tests.bench.servers import ROOT
from tests.end_to_end.server import environment
from tests.ports import free_port
from tests.streams.support import Wire, taken

PUSHERS = 3
GONE = (ConnectionClosed, InvalidHandshake, OSError, TimeoutError)


@asynccontextmanager
async def process(
    folder: Path, environ: Mapping[str, str]
) -> AsyncIterator[tuple[subprocess.Popen[bytes], Wire]]:
    """A server, and a client of it; killed in the end."""
    port = free_port()
    with (folder / "server.log").open("ab") as log:
        running = subprocess.Popen(
            [sys.executable, "-m", "tests.streams.process", str(folder), str(port)],
            cwd=ROOT,
            env={**environment(), **environ},
            stdout=log,
            stderr=log,
        )
    wire = Wire(f"127.0.0.1:{port}")
    try:
        async with asyncio.timeout(60):
            while True:
                try:
                    await wire.made("GET", "/ping")
                    break
                except httpx.TransportError:
                    assert running.poll() is None, (folder / "server.log").read_text()
                    await asyncio.sleep(0.02)
        yield running, wire
    finally:
        running.kill()
        running.wait()


class Journal:
    """What was pushed, and what of it was acknowledged, by content."""

    def __init__(self) -> None:
        self.sent: set[bytes] = set()
        self.acknowledged: dict[bytes, str] = {}

    async def push(self, wire: Wire, name: str, rng: random.Random) -> None:
        """Push until the server is gone."""
        number = 0
        try:
            async with wire.socket("/data/s/push?batch=true&ack=true") as socket:
                while True:
                    size = rng.choice((1, 1, 3, 40))
                    entries = [f"{name}-{number + place}".encode() for place in range(size)]
                    number += size
                    self.sent.update(entries)
                    starts, at = [], 0
                    for entry in entries:
                        starts.append(str(at))
                        at += len(entry)
                    await socket.send(",".join(starts))
                    await socket.send(b"".join(entries))
                    ids = str(await socket.recv()).split(",")
                    self.acknowledged.update(zip(entries, ids, strict=True))
        except GONE:
            return

    async def pull(self, wire: Wire, found: list[tuple[str, bytes]]) -> None:
        """Follow until the server is gone."""
        after = found[-1][0] if found else "0"
        try:
            async with wire.socket(f"/data/s/pull?count=50&last_entry_id={after}") as socket:
                while True:
                    found += [(each, data) for each, data in await taken(socket)]
        except GONE:
            return


async def everything(wire: Wire, most: int) -> list[tuple[str, bytes]]:
    """All that is there, by one pull that ends when no more comes."""
    found: list[tuple[str, bytes]] = []
    later = Wire(wire.address, prefix="/ptg")
    try:
        async with later.socket("/data/s/pull?last_entry_id=0&count=500&timeout=1000") as socket:
            while len(found) <= most:
                found += [(each, data) for _, each, data in await taken(socket)]
    except ConnectionClosed as exc:
        assert exc.rcvd is not None and exc.rcvd.code == 1000
    return found


def unharmed(data: Path, rng: random.Random) -> None:
    """What a kill does to a folder: nothing."""


async def crash(
    folder: Path,
    seed: int,
    rounds: int,
    environ: Mapping[str, str] = MappingProxyType({}),
    settle: Callable[[Path], None] = lambda _: None,
    lose: Callable[[Path, random.Random], None] = unharmed,
) -> int:
    """Kill the server so many times, and look at what is there in the end: how much was acknowledged.

    `settle` comes before each round, `lose` behind it: what the power takes with it.
    """
    rng, journal = random.Random(seed), Journal()
    followed: list[tuple[str, bytes]] = []
    for number in range(rounds):
        settle(folder)
        async with process(folder, environ) as (running, wire):
            if number == 0:
                await wire.made("PUT", "/streams/s")
            work = [
                asyncio.create_task(journal.push(wire, f"{number}.{place}", random.Random(rng.random())))
                for place in range(PUSHERS)
            ]
            work.append(asyncio.create_task(journal.pull(wire, followed)))
            await asyncio.sleep(rng.uniform(0.05, 0.8))
            if number == rounds - 1:
                await at_work(wire, journal)
            running.send_signal(signal.SIGKILL)
            await asyncio.gather(*work)
        lose(folder, rng)
    async with process(folder, environ) as (_, wire):
        await verify(wire, journal, followed)
    return len(journal.acknowledged)


async def at_work(wire: Wire, journal: Journal) -> None:
    """Return once something was acknowledged and something sealed, however slow the machine."""
    (flow,) = await wire.made("GET", "/flows?tag.stream_id=s")
    async with asyncio.timeout(60):
        while not (journal.acknowledged and await wire.made("GET", f"/flows/{flow['id']}/segments")):
            await asyncio.sleep(0.02)


async def verify(wire: Wire, journal: Journal, followed: list[tuple[str, bytes]]) -> None:
    """The laws of what was acknowledged."""
    found = await everything(wire, len(journal.sent))
    ids = [id_of(each) for each, _ in found]
    assert ids == sorted(set(ids))
    contents = [data for _, data in found]
    assert len(contents) == len(set(contents)) and set(contents) <= journal.sent
    assert {data: each for each, data in found}.items() >= journal.acknowledged.items()
    assert found[: len(followed)] == followed
    more = await wire.pushed("s", b"more")
    assert id_of(more[0]) > ids[-1]


@pytest.mark.parametrize("seed", [1])
async def test_nothing_acknowledged_is_lost_or_doubled(tmp_path: Path, seed: int) -> None:
    await crash(tmp_path, seed, 2)


@pytest.mark.slow
@pytest.mark.parametrize("seed", range(100, 112))
async def test_nothing_acknowledged_is_lost_or_doubled_in_many_crashes(tmp_path: Path, seed: int) -> None:
    await crash(tmp_path, seed, 6)
