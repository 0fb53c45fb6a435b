"""Local media on a real server and real connections: reuse, broken clients, memory."""

from __future__ import annotations

import asyncio
import contextlib
import gc
import socket
import tracemalloc
from collections.abc import AsyncIterator, Callable
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import httpx
import pytest
import uvicorn

from store.media.disk import Opened
from store.media.protocol import CHUNK_BYTES
from tests.media.conftest import BACKEND_ID, NOW_S, Place

KEY = "2026/11/21/flow/object"
TYPE = "video/mp2t"
MIB = 1 << 20


@pytest.fixture
async def origin(place: Place) -> AsyncIterator[str]:
    listener = socket.create_server(("127.0.0.1", 0))
    config = uvicorn.Config(place.app, log_level="error", lifespan="off", ws="none")  # type: ignore[arg-type]
    server = uvicorn.Server(config)
    serving = asyncio.create_task(server.serve(sockets=[listener]))
    yield f"http://127.0.0.1:{listener.getsockname()[1]}"
    server.should_exit = True
    await serving
    listener.close()


def target(place: Place, origin: str, method: str, content_type: str = TYPE) -> str:
    if method == "PUT":
        url = place.files.put_url(KEY, content_type=content_type, presigned=True, now_s=NOW_S).url
    else:
        url = place.files.get_url(KEY, version=None, now_s=NOW_S, content_type=content_type)
    split = urlsplit(url)
    return f"{origin}{split.path}?{split.query}"


async def filled(place: Place, size_bytes: int) -> None:
    async def chunks() -> AsyncIterator[bytes]:
        for _ in range(size_bytes // MIB):
            yield bytes(MIB)

    await place.files.write(KEY, chunks(), content_type=TYPE)


async def until(holds: Callable[[], bool]) -> None:
    async with asyncio.timeout(30):
        while not holds():
            await asyncio.sleep(0.001)


async def test_one_connection_serves_uploads_reads_parts_and_refusals(place: Place, origin: str) -> None:
    content = bytes(range(256)) * 4 * 4096
    limits = httpx.Limits(max_connections=1, max_keepalive_connections=1)
    async with httpx.AsyncClient(limits=limits, timeout=30, trust_env=False) as client:
        put, get = target(place, origin, "PUT"), target(place, origin, "GET")
        wrong = await client.put(put, content=content, headers={"content-type": "text/html"})
        assert wrong.status_code == 403
        assert (await client.put(put, content=content, headers={"content-type": TYPE})).status_code == 200
        assert (await client.get(get)).content == content
        part = await client.get(get, headers={"range": "bytes=-10"})
        assert (part.status_code, part.content) == (206, content[-10:])
        head = await client.head(get)
        assert (head.status_code, head.headers["content-length"]) == (200, str(len(content)))
        assert (await client.get(get, headers={"if-none-match": head.headers["etag"]})).status_code == 304


async def test_a_client_that_breaks_off_its_upload_leaves_nothing(place: Place, origin: str) -> None:
    split = urlsplit(target(place, origin, "PUT"))
    _, writer = await asyncio.open_connection(split.hostname, split.port)
    head = f"PUT {split.path}?{split.query} HTTP/1.1\r\nHost: x\r\nContent-Length: 9000000\r\n"
    writer.write(f"{head}Content-Type: {TYPE}\r\n\r\n".encode() + bytes(3 * MIB))
    await writer.drain()
    incoming = place.folder / "incoming"
    await until(lambda: any(incoming.iterdir()))
    writer.close()
    await until(lambda: not any(incoming.iterdir()))
    assert await place.files.stat(KEY) is None


async def test_a_reader_that_goes_away_stops_the_reading(
    place: Place, origin: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    await filled(place, 64 * MIB)
    reads: list[int] = []
    closed = asyncio.Event()
    loop = asyncio.get_running_loop()
    read, close = Opened.read, Opened.close

    def counted(self: Opened, start: int, size_bytes: int) -> bytes:
        reads.append(start)
        return read(self, start, size_bytes)

    def seen(self: Opened) -> None:
        close(self)
        loop.call_soon_threadsafe(closed.set)

    monkeypatch.setattr(Opened, "read", counted)
    monkeypatch.setattr(Opened, "close", seen)
    split = urlsplit(target(place, origin, "GET"))
    reader, writer = await asyncio.open_connection(split.hostname, split.port)
    writer.write(f"GET {split.path}?{split.query} HTTP/1.1\r\nHost: x\r\n\r\n".encode())
    await reader.readexactly(100)
    writer.transport.abort()
    async with asyncio.timeout(30):
        await closed.wait()
    assert len(reads) < 64


async def traced_peak(work: Any) -> int:
    gc.collect()
    tracemalloc.start()
    try:
        await work
        return tracemalloc.get_traced_memory()[1]
    finally:
        tracemalloc.stop()


async def test_an_upload_takes_bounded_memory(place: Place) -> None:
    size_bytes, piece = 24 * MIB, 64 * 1024
    split = urlsplit(target(place, "http://x", "PUT"))
    headers = [(b"content-type", TYPE.encode()), (b"content-length", str(size_bytes).encode())]
    scope = {"method": "PUT", "path": split.path, "query_string": split.query.encode(), "headers": headers}
    left = size_bytes

    async def receive() -> dict[str, Any]:
        nonlocal left
        left -= piece
        return {"type": "http.request", "body": bytes(piece), "more_body": left > 0}

    async def send(message: Any) -> None:
        assert message.get("status", 200) == 200

    peak = await traced_peak(place.app(scope, receive, send))
    assert (await place.files.stat(KEY)) is not None
    assert peak < 8 * CHUNK_BYTES


async def test_a_read_takes_bounded_memory(place: Place) -> None:
    await filled(place, 24 * MIB)
    sent = 0

    async def send(message: Any) -> None:
        nonlocal sent
        sent += len(message.get("body", b""))

    reading = place.app.respond("GET", BACKEND_ID, KEY, [], asyncio.Event().wait, send)  # type: ignore[arg-type]
    peak = await traced_peak(reading)
    assert sent == 24 * MIB
    assert peak < 8 * CHUNK_BYTES


@pytest.mark.skipif(not Path("/proc/self/fd").exists(), reason="needs /proc")
async def test_a_cancelled_reader_leaves_no_file_open(place: Place) -> None:
    await filled(place, 8 * MIB)
    sent = asyncio.Event()

    async def send(_: Any) -> None:
        sent.set()
        await asyncio.Event().wait()

    reading = asyncio.create_task(
        place.app.respond("GET", BACKEND_ID, KEY, [], asyncio.Event().wait, send)  # type: ignore[arg-type]
    )
    await sent.wait()
    reading.cancel()
    with contextlib.suppress(asyncio.CancelledError):
        await reading
    await place.files.close()
    links = [path.readlink() for path in Path("/proc/self/fd").iterdir() if path.is_symlink()]
    assert not [link for link in links if link.is_relative_to(place.folder)]
