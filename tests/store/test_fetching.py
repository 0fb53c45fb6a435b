"""Objects that are elsewhere alone are copied to a storage backend from there (POST objects-instances)."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from dataclasses import dataclass, field
from pathlib import Path

import pytest

from store.errors import NotFound, Unavailable
from store.events.addresses import Addresses
from store.settings import EventSettings
from store.work.fetching import fetched
from tests.store.harness import ARCHIVE, Tams, object_path, running_tams, seconds

BYTES = b"elsewhere" * 200_000
HERE = Addresses.of(["127.0.0.0/8"])


@dataclass
class Elsewhere:
    """A server of one object; `status`, `length` and `location` are what it says next."""

    url: str = ""
    status: int = 200
    length: int = len(BYTES)
    asked: list[bytes] = field(default_factory=list)

    async def answer(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self.asked.append(await reader.readuntil(b"\r\n\r\n"))
        head = f"HTTP/1.1 {self.status} x\r\ncontent-length: {self.length}\r\nlocation: {self.url}/again\r\n"
        writer.write(head.encode() + b"connection: close\r\n\r\n" + BYTES)
        try:
            await writer.drain()
        except ConnectionError:
            self.asked.append(b"hung up")
        writer.close()


@pytest.fixture
async def elsewhere() -> AsyncIterator[Elsewhere]:
    found = Elsewhere()
    server = await asyncio.start_server(found.answer, "127.0.0.1", 0)
    async with server:
        found.url = f"http://127.0.0.1:{server.sockets[0].getsockname()[1]}"
        yield found


async def everything(addresses: Addresses, url: str, most_bytes: int = 1 << 30) -> bytes:
    return b"".join([chunk async for chunk in fetched(addresses, url, most_bytes=most_bytes)])


async def test_the_bytes_come_whole(elsewhere: Elsewhere) -> None:
    assert await everything(HERE, f"{elsewhere.url}/a%2Fb?c=%20") == BYTES
    assert elsewhere.asked[0].startswith(b"GET /a%2Fb?c=%20 ")


@pytest.mark.parametrize(
    ("status", "length", "error"),
    [
        (404, len(BYTES), NotFound),
        (403, len(BYTES), NotFound),
        (302, len(BYTES), NotFound),
        (500, len(BYTES), Unavailable),
        (429, len(BYTES), Unavailable),
        (200, len(BYTES) + 1, Unavailable),
    ],
)
async def test_what_is_no_object_is_told_apart_from_what_may_pass(
    elsewhere: Elsewhere, status: int, length: int, error: type[Exception]
) -> None:
    elsewhere.status, elsewhere.length = status, length
    with pytest.raises(error):
        await everything(HERE, elsewhere.url)
    assert len([each for each in elsewhere.asked if each.startswith(b"GET")]) == 1


async def test_nothing_is_read_from_addresses_that_are_not_public(elsewhere: Elsewhere) -> None:
    port = elsewhere.url.rpartition(":")[2]
    for host in ("127.0.0.1", "localhost", "[::ffff:127.0.0.1]", "2130706433", "0x7f.1"):
        with pytest.raises(NotFound):
            await everything(Addresses(), f"http://{host}:{port}/")
    assert not elsewhere.asked


async def test_an_object_that_is_too_long_is_not_read_on(elsewhere: Elsewhere) -> None:
    with pytest.raises(NotFound):
        await everything(HERE, elsewhere.url, most_bytes=1000)


async def test_a_host_that_is_not_there_may_be_later() -> None:
    with pytest.raises(Unavailable):
        await everything(HERE, "http://127.0.0.1:9/")


@pytest.fixture
async def trusting(tmp_path: Path) -> AsyncIterator[Tams]:
    """A store that may call this machine."""
    events = EventSettings(receivers=("127.0.0.0/8",))
    async with running_tams(tmp_path, events=events) as tams:
        yield tams


async def copied(tams: Tams, elsewhere: Elsewhere) -> tuple[str, str]:
    """An object with a URL alone, of which a copy in the archive was asked for: id and path."""
    flow = await tams.flow()
    urls = [{"url": elsewhere.url, "label": "far"}]
    await tams.segment(flow["id"], seconds(0, 1), "an object", get_urls=urls)
    path = object_path("an object")
    await tams.post(f"{path}/instances", {"storage_id": ARCHIVE})
    await tams.work()
    return "an object", path


async def labels(tams: Tams, path: str) -> set[str]:
    return {entry["label"] for entry in (await tams.get(path))["get_urls"]}


async def test_an_object_that_is_elsewhere_alone_is_copied_from_there(
    trusting: Tams, elsewhere: Elsewhere
) -> None:
    """rule 54"""
    _, path = await copied(trusting, elsewhere)
    assert await labels(trusting, path) == {"archive", "far"}
    for entry in (await trusting.get(path))["get_urls"]:
        if entry["label"] == "archive":
            answer = await trusting.client.get(entry["url"])
            assert (answer.content, answer.headers["content-type"]) == (BYTES, "video/mp2t")
    await trusting.delete(f"{path}/instances?label=far")


async def test_a_copy_is_tried_again_ever_later_and_given_up_in_the_end(
    trusting: Tams, elsewhere: Elsewhere
) -> None:
    """rule 54"""
    elsewhere.status = 503
    _, path = await copied(trusting, elsewhere)
    await trusting.work()
    assert await labels(trusting, path) == {"far"}
    assert len(elsewhere.asked) == 1
    for _ in range(40):
        trusting.later_ns += 3600 * 10**9
        await trusting.work()
    assert len(elsewhere.asked) < 40
    await trusting.post(f"{path}/instances", {"storage_id": ARCHIVE})
    elsewhere.status = 200
    await trusting.work()
    assert await labels(trusting, path) == {"archive", "far"}


async def test_what_is_not_there_is_given_up_at_once(trusting: Tams, elsewhere: Elsewhere) -> None:
    """rule 54"""
    elsewhere.status = 404
    _, path = await copied(trusting, elsewhere)
    assert await labels(trusting, path) == {"far"}
    await trusting.post(f"{path}/instances", {"storage_id": ARCHIVE})
