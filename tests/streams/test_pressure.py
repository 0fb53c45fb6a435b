"""Back-pressure both ways, bounded memory, faults of the disk, and stopping."""

from __future__ import annotations

import asyncio
import contextlib
import errno
import os
import threading
from collections.abc import Sequence
from contextlib import AsyncExitStack
from pathlib import Path
from typing import Any

import pytest
from websockets.exceptions import ConnectionClosed

from store.app import StoreApp
from store.streams import commits, hot
from store.streams.commits import Commits, by_task
from store.streams.entries import Entries, entries_of
from store.streams.ids import id_of
from store.streams.log import HotLog
from store.streams.push import WINDOW_BYTES
from tests.store.harness import Tams, running_tams
from tests.streams.support import SOON_S, Wire, closed, seal_all, served, soon, taken_all

ENTRY = bytes(100_000)
BUSY = 4
"""How much slower than its wont a machine may be."""


def log_of(tams: Tams) -> HotLog:
    """The one hot log that is open."""
    (found,) = tams.running.streams.streams._open.values()
    assert isinstance(found.log, HotLog)
    return found.log


async def test_a_puller_that_takes_nothing_slows_no_pusher(wire: Wire) -> None:
    await wire.pushed("s", b"first")
    async with wire.socket("/data/s/pull?last_entry_id=0") as slow:
        async with wire.socket("/data/s/push?ack=true") as push, wire.socket("/data/s/pull") as quick:
            ids = []
            for _ in range(300):
                await push.send(ENTRY)
                ids.append(str(await soon(push.recv())))
            assert [each for each, _ in await taken_all(quick, 300)] == ids
        # 30 MB wait for it, and it gets them all.
        assert [each for each, _ in await taken_all(slow, 301)][1:] == ids


async def test_what_is_on_its_way_is_bounded(wire: Wire, tams: Tams, monkeypatch: pytest.MonkeyPatch) -> None:
    """While the disk takes nothing, a pusher has to wait; then all of it arrives, in order."""
    await wire.pushed("s", b"first")
    log, gate = log_of(tams), threading.Event()
    append = log._folder.append

    def late(calls: Sequence[Entries], now_ns: int) -> Any:
        assert gate.wait(60)
        return append(calls, now_ns)

    monkeypatch.setattr(log._folder, "append", late)
    async with wire.socket("/data/s/push") as push, wire.socket("/data/s/pull") as pull:
        sent = 0

        async def flood() -> None:
            nonlocal sent
            for number in range(400):
                await push.send(b"%05d" % number + ENTRY)
                sent += 1

        flooding = asyncio.create_task(flood())
        async with asyncio.timeout(SOON_S):
            while log._commits._bytes <= WINDOW_BYTES:
                await asyncio.sleep(0.01)
        before = -1
        while sent != before:
            before = sent
            await asyncio.sleep(0.3)
        # 4 MiB in the window, as much again in sockets' buffers on either side.
        assert log._commits._bytes < 6 << 20
        assert not flooding.done()
        gate.set()
        found = await taken_all(pull, 400)
        assert [data[:5] for _, data in found] == [b"%05d" % number for number in range(400)]
        await flooding


async def test_all_pushers_of_a_stream_have_one_bound(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(commits, "PENDING_BYTES", 1000)
    go = asyncio.Event()

    async def write(calls: Sequence[Entries]) -> Any:
        await go.wait()
        return [[1] * len(entries.lengths) for entries in calls]

    found = Commits(by_task(write))
    futures = [found.submit(entries_of([bytes(600)])) for _ in range(2)]
    waiting = asyncio.create_task(found.room())
    await asyncio.sleep(0)
    assert not waiting.done()
    go.set()
    await soon(waiting)
    assert await asyncio.gather(*futures) == [[1], [1]]


@pytest.mark.parametrize("fault", [errno.ENOSPC, errno.EIO])
async def test_a_failing_disk_acknowledges_nothing_and_recovers(
    wire: Wire, monkeypatch: pytest.MonkeyPatch, fault: int
) -> None:
    before = await wire.pushed("s", b"before")

    def failing(fd: int) -> None:
        raise OSError(fault, os.strerror(fault))

    with monkeypatch.context() as patch:
        patch.setattr(hot.os, "fdatasync", failing)
        async with wire.socket("/data/s/push?ack=true") as push:
            await push.send(b"lost")
            code, reason = await closed(push)
            assert code == 1013 and reason
        answer = await wire.http("POST", "/data/s", files=[("a", b"lost")])
        assert answer.status_code == (507 if fault == errno.ENOSPC else 503)
        assert (await wire.http("GET", "/data/s?last_entry_id=0&count=9")).content == b"before"
    after = await wire.pushed("s", b"after")
    assert id_of(after[0]) > id_of(before[0])
    assert (await wire.http("GET", "/data/s?last_entry_id=0&count=9")).content == b"beforeafter"


async def test_a_storage_backend_that_is_down_keeps_entries_hot(
    tams: Tams, wire: Wire, monkeypatch: pytest.MonkeyPatch
) -> None:
    from store.errors import Unavailable

    async def down(*arguments: Any, **said: Any) -> Any:
        raise Unavailable("down")

    streams = tams.running.streams.streams
    ids = await wire.pushed("s", b"a", b"b")
    with monkeypatch.context() as patch:
        for media in tams.running.store.backends.values():
            patch.setattr(media, "write", down)
            patch.setattr(media, "adopt", down)
        with pytest.raises(Unavailable):
            await seal_all(streams)
        ids += await wire.pushed("s", b"c")
        assert (await wire.http("GET", "/data/s?last_entry_id=0&count=9")).content == b"abc"
    await seal_all(streams)
    (flow,) = await wire.made("GET", "/flows?tag.stream_id=s")
    assert sum(each["sample_count"] for each in await tams.get(f"/flows/{flow['id']}/segments")) == 3
    assert (await wire.http("GET", "/data/s?last_entry_id=0&count=9")).content == b"abc"


async def test_sockets_are_told_when_the_server_stops(tmp_path: Path) -> None:
    async with running_tams(tmp_path) as tams, AsyncExitStack() as stack:
        app = StoreApp(tams.running, tams.settings.max_body_bytes)
        async with served(app) as address:
            wire = Wire(address)
            ids = await wire.pushed("s", b"a")
            pull = await stack.enter_async_context(wire.socket("/data/s/pull"))
            push = await stack.enter_async_context(wire.socket("/data/s/push?ack=true"))
            await push.send(b"b")
            ids.append(str(await soon(push.recv())))
            began = asyncio.get_running_loop().time()
        assert asyncio.get_running_loop().time() - began < 5 * BUSY
        for socket in (pull, push):
            assert (await closed(socket))[0] == 1012
    async with (
        running_tams(tmp_path) as tams,
        served(StoreApp(tams.running, tams.settings.max_body_bytes)) as address,
        Wire(address).socket("/data/s/pull?last_entry_id=0&count=2") as again,
    ):
        assert [each for each, _ in await taken_all(again, 2)] == ids


async def test_a_socket_that_is_cut_off_is_told_why(tams: Tams) -> None:
    app = StoreApp(tams.running, tams.settings.max_body_bytes)
    tasks: list[asyncio.Task[Any]] = []

    async def noted(scope: Any, receive: Any, send: Any) -> None:
        task = asyncio.current_task()
        assert task is not None
        if scope["type"] == "websocket":
            tasks.append(task)
        with contextlib.suppress(asyncio.CancelledError):
            await app(scope, receive, send)

    async with served(noted) as address:
        wire = Wire(address)
        await wire.pushed("s", b"a")
        for way in ("push", "pull"):
            async with wire.socket(f"/data/s/{way}") as socket:
                tasks[-1].cancel()
                assert await closed(socket) == (1012, "The server restarts. Come again.")


async def test_a_client_that_breaks_off_leaves_no_half_batch(wire: Wire) -> None:
    async with wire.socket("/data/s/push?batch=true") as push:
        await push.send("0,1")
        push.transport.abort()
        with pytest.raises(ConnectionClosed):
            await soon(push.recv())
    assert (await wire.http("GET", "/data/s?last_entry_id=0&count=9")).content == b""
