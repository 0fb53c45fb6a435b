"""More than a server can take: connections, slow peers, floods, bombs. Others go on being served, rightly."""

from __future__ import annotations

import asyncio
import base64
import gzip
import json
import resource
import socket
import tempfile
from collections.abc import AsyncIterator, Callable, Coroutine, Iterator
from contextlib import asynccontextmanager, contextmanager
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

from proxy.demo.client import path
from proxy.demo.ingest import Programme, allocate
from tests.bench.servers import token
from tests.end_to_end.server import Server
from tests.torture.bystander import Bystander
from tests.torture.report import Broken, Report

MOST_MB = 120
OBJECT_BYTES = 40 << 20
HELD_S = 4.0
WIDTH = 200
SLOW_READERS = 100

Streams = tuple[asyncio.StreamReader, asyncio.StreamWriter]


@dataclass(frozen=True)
class Target:
    """The server, a token for it, what others may and may not read, and a large object."""

    server: Server
    token: str
    seen: str
    hidden: str
    media: str

    @property
    def authorization(self) -> bytes:
        return f"Authorization: Bearer {self.token}\r\n".encode()

    def bystander(self) -> Bystander:
        """Someone else, for the time of an attack."""
        expected = {self.seen: 200, self.hidden: 404, "/flows?limit=5": 200}
        return Bystander(self.server.url, self.server.pid, self.token, expected)

    async def connect(self, limit: int = 1 << 16) -> Streams:
        parts = urlsplit(self.server.url)
        return await asyncio.open_connection(parts.hostname, parts.port, limit=limit)


def run(report: Report, *, quick: bool, seed: int) -> None:
    """Each attack in turn, on one server."""
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (hard, hard))
    connections = min(2000 if quick else 10_000, hard - 1000)
    requests = 2000 if quick else 20_000
    attacks: dict[str, Callable[[Target], Coroutine[Any, Any, str]]] = {
        f"{connections:,} idle connections": lambda target: idle(target, connections),
        f"{connections // 4:,} half requests, a byte at a time": lambda target: slow(
            target, connections // 4
        ),
        f"{SLOW_READERS} readers that do not read": readers,
        f"{requests:,} bad tokens": lambda target: tokens(target, requests),
        "bodies without end": endless,
        "bodies that say they are huge, or are compressed": bombs,
        "JSON 100,000 deep, and wide": deep,
        "headers without end": headers,
    }
    with tempfile.TemporaryDirectory(prefix="tams-torture-") as folder, _target(Path(folder)) as target:
        for what, attack in attacks.items():
            report.attempt("load", what, partial(_attacked, attack, target))
    resource.setrlimit(resource.RLIMIT_NOFILE, (soft, hard))


def _attacked(attack: Callable[[Target], Coroutine[Any, Any, str]], target: Target) -> str:
    return asyncio.run(attack(target))


@contextmanager
def _target(folder: Path) -> Iterator[Target]:
    server = Server(folder)
    server.start()
    try:
        with server.client("newsroom") as news, server.client("sportdesk") as sport:
            mine, theirs = Programme.new("Load", 0), Programme.new("Load", 0)
            for body in mine.flows(["news"]):
                news.expect(201, "PUT", path("flows", body["id"]), body)
            for body in theirs.flows(["sport"]):
                sport.expect(201, "PUT", path("flows", body["id"]), body)
            (place,) = allocate(news, mine, 1)
            news.upload(place, bytes(OBJECT_BYTES), OBJECT_BYTES)
            flow = path("flows", mine.multi.flow_id)
            news.expect(201, "POST", f"{flow}/segments", mine.segment(0, place["object_id"]))
            (segment,) = news.listing(f"{flow}/segments", {"presigned": "true"})
            media = segment["get_urls"][0]["url"]
        access = token(server.url, server.data, "newsroom")
        yield Target(server, access, flow, path("flows", theirs.multi.flow_id), media)
    finally:
        server.stop()


async def idle(target: Target, count: int) -> str:
    """Connections that say nothing."""
    with target.bystander() as bystander:
        async with _many(target, count) as opened:
            await asyncio.sleep(HELD_S)
    await _served(target)
    return f"{len(opened):,} opened; {bystander.figure(MOST_MB)}"


async def slow(target: Target, count: int) -> str:
    """Requests that are never complete."""
    request = b"GET /flows HTTP/1.1\r\nHost: load\r\n" + target.authorization + b"X-Slow: "
    with target.bystander() as bystander:
        async with _many(target, count) as opened:
            for start in range(10):
                for _, writer in opened:
                    if not writer.is_closing():
                        writer.write(request if start == 0 else b"x")
                await asyncio.sleep(HELD_S / 10)
    await _served(target)
    return f"{len(opened):,} held; {bystander.figure(MOST_MB)}"


async def readers(target: Target) -> str:
    """Readers of large media that take nothing of it."""
    parts = urlsplit(target.media)
    request = f"GET {parts.path}?{parts.query} HTTP/1.1\r\nHost: {parts.netloc}\r\n\r\n".encode()
    with target.bystander() as bystander:
        opened = []
        for _ in range(SLOW_READERS):
            sock = socket.socket()
            sock.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4096)
            sock.setblocking(False)
            await asyncio.get_running_loop().sock_connect(sock, (parts.hostname, parts.port))
            await asyncio.get_running_loop().sock_sendall(sock, request)
            opened.append(sock)
        await asyncio.sleep(HELD_S)
        for sock in opened:
            sock.close()
    return f"{SLOW_READERS} of {OBJECT_BYTES >> 20} MB each; {bystander.figure(MOST_MB)}"


async def tokens(target: Target, count: int) -> str:
    """Tokens that no one issued, each another."""
    refused = 0

    async def flood(part: int) -> None:
        nonlocal refused
        reader, writer = await target.connect()
        for number in range(part, count, 8):
            writer.write(
                b"GET /flows HTTP/1.1\r\nHost: load\r\nAuthorization: Bearer " + _bad(number) + b"\r\n\r\n"
            )
            status = await _status(reader)
            if status != 401:
                raise Broken(f"a bad token is answered {status}")
            refused += 1
        writer.close()

    with target.bystander() as bystander:
        await asyncio.gather(*(flood(part) for part in range(8)))
    return f"{refused:,} answered 401; {bystander.figure(MOST_MB)}"


async def endless(target: Target) -> str:
    """Chunked bodies that go on until they are cut off."""
    head = (
        b"Host: load\r\nContent-Type: application/json\r\nTransfer-Encoding: chunked\r\n"
        + target.authorization
    )
    chunk = b"100000\r\n" + b" " * (1 << 20) + b"\r\n"

    async def pour(line: bytes) -> int:
        reader, writer = await target.connect()
        writer.write(line + b" HTTP/1.1\r\n" + head + b"\r\n")
        try:
            for _ in range(2000):
                writer.write(chunk)
                await writer.drain()
        except ConnectionError:
            return 413
        return await _status(reader)

    with target.bystander() as bystander:
        flow = target.seen.encode()
        lines = (b"PUT " + flow, b"POST " + flow + b"/segments", b"PUT " + flow + b"/tags/a", b"POST /token")
        statuses = await asyncio.gather(*map(pour, lines))
    if set(statuses) != {413}:
        raise Broken(f"answered {statuses}")
    return f"{len(statuses)} cut off; {bystander.figure(MOST_MB)}"


async def bombs(target: Target) -> str:
    """A length that nobody means, and a gigabyte in a megabyte."""
    bomb = gzip.compress(bytes(64 << 20))
    flow = target.seen.encode()
    huge = b"PUT " + flow + b" HTTP/1.1\r\nHost: load\r\nContent-Length: 99999999999\r\n"
    packed = b"PUT " + flow + b" HTTP/1.1\r\nHost: load\r\nContent-Encoding: gzip\r\n"
    packed += b"Content-Length: %d\r\n" % len(bomb)
    with target.bystander() as bystander:
        seen = [
            await _answered(target, huge + target.authorization + b"\r\n"),
            await _answered(target, packed + target.authorization + b"\r\n" + bomb),
        ]
    if seen != [413, 415]:
        raise Broken(f"answered {seen}")
    return f"413, 415; {bystander.figure(MOST_MB)}"


async def deep(target: Target) -> str:
    """JSON that breaks parsers."""
    bodies = (
        b"[" * 100_000,
        b'{"a":' * 100_000,
        b"[" + b"{}," * 300_000 + b"{}]",
        b'"' + b"\\ud800" * 1000 + b'"',
    )
    with target.bystander() as bystander:
        for body in bodies:
            head = b"PUT " + target.seen.encode() + b" HTTP/1.1\r\nHost: load\r\n" + target.authorization
            head += b"Content-Type: application/json\r\nContent-Length: %d\r\n\r\n" % len(body)
            status = await _answered(target, head + body)
            if status not in (400, 413):
                raise Broken(f"{body[:10]!r} is answered {status}")
    return f"{len(bodies)} refused; {bystander.figure(MOST_MB)}"


async def headers(target: Target) -> str:
    """Headers of megabytes, thousands of headers, thousands of ranges."""
    many = b"".join(b"X-%d: y\r\n" % number for number in range(20_000))
    long = b"X-Long: " + b"y" * (4 << 20) + b"\r\n"
    parts = urlsplit(target.media)
    line = f"GET {parts.path}?{parts.query} HTTP/1.1\r\nHost: {parts.netloc}\r\n".encode()
    ranges = b"Range: bytes=" + b",".join(b"%d-%d" % (2 * n, 2 * n) for n in range(1000)) + b"\r\n"
    with target.bystander() as bystander:
        start = b"GET /flows HTTP/1.1\r\nHost: load\r\n" + target.authorization
        seen = [
            await _answered(target, start + many + b"\r\n"),
            await _answered(target, start + long + b"\r\n"),
            await _answered(target, line + ranges + b"\r\n"),
        ]
    if any(status in (200, 206) or status >= 500 for status in seen[:2]) or seen[2] not in (
        200,
        416,
        400,
        431,
    ):
        raise Broken(f"answered {seen}")
    return f"answered {seen}; {bystander.figure(MOST_MB)}"


@asynccontextmanager
async def _many(target: Target, count: int) -> AsyncIterator[list[Streams]]:
    """Connections, as many of them as the server takes."""
    opened: list[Streams] = []
    for start in range(0, count, WIDTH):
        wave = [target.connect() for _ in range(min(WIDTH, count - start))]
        came = await asyncio.gather(*wave, return_exceptions=True)
        opened += [streams for streams in came if not isinstance(streams, BaseException)]
    try:
        yield opened
    finally:
        for _, writer in opened:
            writer.transport.abort()


async def _served(target: Target) -> None:
    """Raises `Broken` unless a new client is served now."""
    request = f"GET {target.seen} HTTP/1.1\r\nHost: load\r\n".encode() + target.authorization + b"\r\n"
    async with asyncio.timeout(30):
        while True:
            status = await _answered(target, request)
            if status == 200:
                return
            if status not in (0, 503):
                raise Broken(f"a new client is answered {status} after the attack")
            await asyncio.sleep(0.2)


async def _answered(target: Target, request: bytes) -> int:
    """The status of a request on a connection of its own; 0 when it was closed without a word."""
    reader, writer = await target.connect()
    try:
        writer.write(request)
        await writer.drain()
        async with asyncio.timeout(30):
            return await _status(reader)
    except ConnectionError:
        # Refused before it was read to its end; what was said may still be there to read.
        return await _status(reader)
    finally:
        writer.transport.abort()


async def _status(reader: asyncio.StreamReader) -> int:
    """The status of the next answer, its body read; 0 when there is none."""
    try:
        head = await reader.readuntil(b"\r\n\r\n")
    except (asyncio.IncompleteReadError, ConnectionError):
        return 0
    for line in head.lower().split(b"\r\n"):
        if line.startswith(b"content-length:") and int(line[15:]) < 1 << 16:
            await reader.readexactly(int(line[15:]))
    return int(head.split(b" ", 2)[1])


def _bad(number: int) -> bytes:
    """A token of the right shape, signed by nobody, or no token at all."""

    def part(document: object) -> bytes:
        return base64.urlsafe_b64encode(json.dumps(document).encode()).rstrip(b"=")

    if number % 3 == 0:
        return b"garbage-%d" % number
    head = {"alg": "RS256", "kid": f"unknown-{number}"}
    return b".".join([part(head), part({"sub": "admin", "exp": 1 << 40}), b"c2ln"])
