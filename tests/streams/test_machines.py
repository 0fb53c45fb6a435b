"""Streams on several processes and machines: each sees the others' entries, in one order."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack, asynccontextmanager
from pathlib import Path
from typing import Any

from store.app import StoreApp
from store.keeping import VastSettings
from store.streams.ids import id_of
from tests.store.harness import BACKENDS, running_tams
from tests.streams.support import Wire, closed, served, taken_all


@asynccontextmanager
async def two(folders: tuple[Path, Path], **more: Any) -> AsyncIterator[tuple[Wire, Wire]]:
    """Two servers of one store."""
    async with AsyncExitStack() as stack:
        wires = []
        for folder in folders:
            tams = await stack.enter_async_context(running_tams(folder, **more))
            app = StoreApp(tams.running, tams.settings.max_body_bytes)
            wires.append(Wire(await stack.enter_async_context(served(app))))
        yield wires[0], wires[1]


async def pushed_at_once(one: Wire, other: Wire, rounds: int) -> dict[bytes, str]:
    """What both were given at the same time, and its ids."""

    async def push(wire: Wire, name: str) -> dict[bytes, str]:
        found: dict[bytes, str] = {}
        for number in range(rounds):
            entries = [f"{name}{number}.{place}".encode() for place in range(3)]
            found.update(zip(entries, await wire.pushed("s", *entries), strict=True))
        return found

    parts = await asyncio.gather(push(one, "one"), push(other, "other"))
    return {**parts[0], **parts[1]}


async def hold(one: Wire, other: Wire, rounds: int) -> None:
    """Push to both and pull from both: all see the same, in the order of the ids."""
    await one.made("PUT", "/streams/s")
    async with one.socket("/data/s/pull?count=7") as first, other.socket("/data/s/pull?count=7") as second:
        expected = await pushed_at_once(one, other, rounds)
        seen = [await taken_all(pull, len(expected)) for pull in (first, second)]
    in_order = sorted(((each, data) for data, each in expected.items()), key=lambda entry: id_of(entry[0]))
    assert seen[0] == in_order
    assert seen[1] == in_order


async def test_processes_on_one_machine_see_each_others_entries(tmp_path: Path) -> None:
    async with two((tmp_path, tmp_path)) as (one, other):
        await hold(one, other, 20)


async def test_a_stream_deleted_by_another_process_is_gone(tmp_path: Path) -> None:
    async with two((tmp_path, tmp_path)) as (one, other):
        await one.pushed("s", b"x")
        async with other.socket("/data/s/pull?last_entry_id=0") as pull:
            await taken_all(pull, 1)
            await one.made("DELETE", "/streams/s")
            assert (await closed(pull))[0] == 1008


def on(emulator: Any, tmp_path: Path) -> dict[str, Any]:
    """The settings of machines before an emulated cluster, with storage that all of them have."""
    backends = [{**each, "folder": tmp_path / f"shared-{number}"} for number, each in enumerate(BACKENDS)]
    vast = VastSettings(
        endpoints=(emulator.endpoint,),
        bucket=emulator.bucket,
        access_key=emulator.access_key,
        secret_key=emulator.secret_key,
        timeout_s=10,
        deadline_s=20,
    )
    return {"metadata": "vast", "vast": vast, "backends": backends}


async def test_machines_with_metadata_in_vast_see_each_others_entries(emulator: Any, tmp_path: Path) -> None:
    folders = (tmp_path / "one", tmp_path / "other")
    async with two(folders, **on(emulator, tmp_path)) as (one, other):
        await hold(one, other, 3)
