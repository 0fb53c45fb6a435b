"""The clients of live streams, on real servers: the store alone and the proxy."""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from itertools import islice
from pathlib import Path
from typing import Any

import pytest
from websockets.asyncio.server import ServerConnection, serve

from store.client import AsyncLiveStreams, Entry, LiveStreams, StoreError
from store.client.entries import BATCH_BYTES, BATCH_ENTRIES, LONGEST_BYTES, batches, pull_url
from store.client.protocol import Policy
from tests.proxy.support import running, write_policy
from tests.streams.support import Wire, served, soon
from tests.streams.test_authorization import CLASSES

SID = "a-b%.c"


class Blocking:
    """What tests do, by the client that blocks."""

    def __init__(self, address: str, token: str, sleep: Callable[[float], None] = lambda _: None) -> None:
        self.client = LiveStreams(f"http://{address}/", token, Policy(2, 1.0), 20, sleep)

    async def push(self, sid: str, *entries: bytes) -> list[str]:
        def work() -> list[str]:
            with self.client.push(sid) as push:
                return push.send(*entries)

        return await asyncio.to_thread(work)

    async def pull(
        self, sid: str, number: int, then: Callable[[], Awaitable[object]] | None = None, **said: Any
    ) -> list[Entry]:
        loop = asyncio.get_running_loop()

        def work() -> list[Entry]:
            with self.client.pull(SID, **said) as entries:
                if then is not None:
                    asyncio.run_coroutine_threadsafe(soon(then()), loop).result()
                return list(islice(entries, number))

        return await asyncio.to_thread(work)


class Awaited:
    """The same, by that for asyncio."""

    def __init__(self, address: str, token: str, sleep: Callable[[float], None] = lambda _: None) -> None:
        async def slept(seconds: float) -> None:
            sleep(seconds)

        self.client = AsyncLiveStreams(f"http://{address}/", token, Policy(2, 1.0), 20, slept)

    async def push(self, sid: str, *entries: bytes) -> list[str]:
        async with self.client.push(sid) as push:
            return await push.send(*entries)

    async def pull(
        self, sid: str, number: int, then: Callable[[], Awaitable[object]] | None = None, **said: Any
    ) -> list[Entry]:
        found: list[Entry] = []
        async with self.client.pull(SID, **said) as entries:
            if then is not None:
                await then()
            async for entry in entries:
                found.append(entry)
                if len(found) == number:
                    break
        return found


Kind = type[Blocking] | type[Awaited]
KINDS = pytest.mark.parametrize("kind", [Blocking, Awaited])


@asynccontextmanager
async def behind_the_proxy(folder: Path) -> AsyncIterator[tuple[str, str, str]]:
    """Where a proxy is, a token of who may push to streams of its own, and one of who may not read them."""
    write_policy(folder / "policies", classes=CLASSES)
    async with running(folder) as proxy, served(proxy.app) as address:
        yield address, await proxy.token("owner"), await proxy.token("attacker")


@KINDS
async def test_what_is_pushed_is_pulled_from_the_store_alone(wire: Wire, kind: Kind) -> None:
    await pushed_and_pulled(kind(wire.address, "any"))


@KINDS
async def test_and_through_the_proxy_by_whom_it_lets(tmp_path: Path, kind: Kind) -> None:
    async with behind_the_proxy(tmp_path) as (address, owner, attacker):
        await pushed_and_pulled(kind(address, owner))
        with pytest.raises(KeyError):
            await kind(address, attacker).pull(SID, 1, after="0")
        with pytest.raises(StoreError, match="Not authenticated|token") as refused:
            await kind(address, "nonsense").pull("s", 1)
        assert refused.value.status == 401
        with pytest.raises(StoreError) as refused:
            await kind(address, "nonsense").push("s", b"x")
        assert refused.value.status == 401


async def pushed_and_pulled(client: Blocking | Awaited) -> None:
    with pytest.raises(KeyError):
        await client.pull("none", 1)
    with pytest.raises(KeyError):
        await client.pull("none", 1, after="0")
    first = await client.push(SID, b"one", b"", b"three")
    expected = list(map(Entry, first, [b"one", b"", b"three"]))
    assert await soon(client.pull(SID, 3, after="0")) == expected
    assert await soon(client.pull(SID, 2, after=first[0], count=1)) == expected[1:]
    later: list[str] = []

    async def more() -> None:
        later.extend(await client.push(SID, b"four"))

    assert await soon(client.pull(SID, 1, then=more)) == [Entry(later[0], b"four")]
    many = [b"%d" % number for number in range(BATCH_ENTRIES + 5)]
    ids = await client.push(SID, *many)
    assert await soon(client.pull(SID, len(many), after=later[0])) == list(map(Entry, ids, many))


@KINDS
async def test_a_pull_goes_on_behind_what_it_has_when_the_connection_breaks(kind: Kind) -> None:
    asked: list[str] = []

    async def answer(socket: ServerConnection) -> None:
        assert socket.request is not None
        asked.append(socket.request.path)
        number = len(asked)
        await socket.send(json.dumps([[f"{number}-0", 0], [f"{number}-1", 1]]))
        await socket.send(b"ab")
        if number == 1:
            await socket.close(1012, "The server restarts.")
        else:
            await socket.close(1008, "Not any more.")

    waits: list[float] = []
    async with serve(answer, "127.0.0.1", 0) as server:
        port = next(iter(server.sockets)).getsockname()[1]
        client = kind(f"127.0.0.1:{port}", "any", waits.append)
        with pytest.raises(StoreError, match="Not any more") as ended:
            await client.pull("s", 9, after="0")
        assert ended.value.status == 1008
    assert [path.rpartition("last_entry_id=")[2] for path in asked] == ["0", "1-1"]
    assert waits == [1.0]
    with pytest.raises(StoreError, match="cannot be reached"):
        await client.push("s", b"x")
    assert waits == [1.0, 1.0, 2.0]


@KINDS
async def test_a_push_says_when_it_is_not_known_what_is_there(kind: Kind) -> None:
    async def answer(socket: ServerConnection) -> None:
        await socket.recv()
        await socket.close(1013, "No room.")

    async with serve(answer, "127.0.0.1", 0) as server:
        port = next(iter(server.sockets)).getsockname()[1]
        with pytest.raises(StoreError, match="No room") as failed:
            await kind(f"127.0.0.1:{port}", "any").push("s", b"x")
        assert failed.value.status == 1013


def test_entries_go_in_batches_that_the_server_takes() -> None:
    assert list(batches([])) == []
    assert list(batches([b"ab", b"", b"c"])) == [("0,2,2", b"abc")]
    counted = list(batches([b"x"] * (2 * BATCH_ENTRIES + 1)))
    assert [len(blob) for _, blob in counted] == [BATCH_ENTRIES, BATCH_ENTRIES, 1]
    half = bytes(BATCH_BYTES // 2)
    assert [len(blob) for _, blob in batches([half, half, b"x"])] == [BATCH_BYTES, 1]
    assert [len(blob) for _, blob in batches([b"x", bytes(LONGEST_BYTES)])] == [1, LONGEST_BYTES]
    with pytest.raises(ValueError, match="at most"):
        list(batches([bytes(LONGEST_BYTES + 1)]))


def test_the_name_of_a_stream_never_leads_elsewhere() -> None:
    found = pull_url("https://media.example/", "../x?y", "$", 1)
    assert found == "wss://media.example/data/%2E%2E%2Fx%3Fy/pull?count=1&last_entry_id=%24"
