"""The client against servers that do what servers do, and worse."""

from __future__ import annotations

import asyncio
import gzip
import time
import zlib
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from typing import Any

import pytest

from proxy.errors import STATUS, BadUpstream, Unavailable, UpstreamTimeout
from proxy.upstream.breaker import FAILURES, FIRST_PAUSE_S, LONGEST_PAUSE_S, Breaker
from proxy.upstream.client import Client
from proxy.upstream.connection import Limits
from proxy.upstream.credentials import Credential, Fixed, Proof, basic
from proxy.upstream.headers import Base
from tests.ports import free_port
from tests.upstream.raw import CUT, Answer, Raw, ok, raw

SMALL = Limits(connect_s=20, read_s=20, connections=4, body_bytes=100_000)


@asynccontextmanager
async def calling(
    *answers: Answer,
    credential: Credential | None = None,
    limits: Limits = SMALL,
    clock: Callable[[], float] = time.monotonic,
    path: str = "",
) -> AsyncIterator[tuple[Client, Raw]]:
    async with raw(*answers) as server:
        client = Client(Base.of(server.url + path), credential or Fixed(Proof()), limits, clock)
        try:
            yield client, server
        finally:
            await client.close()


async def never(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    """Say nothing until the client goes."""
    await reader.read()


class TestAnswers:
    @pytest.mark.parametrize(
        ("answer", "body"),
        [
            (ok(b"[1]"), b"[1]"),
            (ok(gzip.compress(b"[2]", mtime=0), b"Content-Encoding: gzip"), b"[2]"),
            (ok(zlib.compress(b"[3]"), b"Content-Encoding: deflate"), b"[3]"),
            (ok(b"[4]", b"content-encoding: identity"), b"[4]"),
            (b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n2\r\n[5\r\n1\r\n]\r\n0\r\n\r\n", b"[5]"),
            (b"HTTP/1.1 103 Early Hints\r\nLink: <x>\r\n\r\n" + ok(b"[6]"), b"[6]"),
            (b"HTTP/1.1 204 No Content\r\n\r\n", b""),
        ],
    )
    async def test_come_whole_and_decoded(self, answer: bytes, body: bytes) -> None:
        async with calling(answer) as (client, server):
            for _ in range(3):
                assert (await client.send("GET", "/x")).body == body
            assert server.connections == 1

    async def test_may_end_with_the_connection(self) -> None:
        async def until_closed(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
            writer.write(b"HTTP/1.1 200 OK\r\n\r\n[1,")
            await writer.drain()
            writer.write(b"2]")
            writer.close()

        async with calling(until_closed) as (client, server):
            assert (await client.send("GET", "/x")).body == b"[1,2]"
            assert (await client.send("GET", "/x")).body == b"[1,2]"
            assert server.connections == 2

    async def test_may_take_long_while_they_come(self) -> None:
        asked, looked = [], asyncio.Event()

        def clock() -> float:
            # Stands still: whenever the timer looks, something has just been heard.
            asked.append(1)
            if len(asked) > 10:
                looked.set()
            return 100.0

        async def late(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
            writer.write(b"HTTP/1.1 200 OK\r\nContent-Length: 4\r\n\r\n12")
            await looked.wait()
            writer.write(b"34")

        async with calling(late, clock=clock, limits=Limits(read_s=0.001)) as (client, _):
            assert (await client.send("GET", "/x")).body == b"1234"

    @pytest.mark.parametrize(
        "answer",
        [
            b"nonsense\r\n\r\n",
            b"HTTP/1.1 200 OK\r\nContent-Length: x\r\n\r\n",
            b"HTTP/1.1 200 OK\r\nContent-Length: 1\r\nContent-Length: 2\r\n\r\n12",
            b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n",
            b"HTTP/1.1 101 Switching Protocols\r\nUpgrade: x\r\nConnection: upgrade\r\n\r\n",
            b"HTTP/1.1 200 OK\r\n"
            + b"".join(b"X-%d: %s\r\n" % (n, b"x" * 1000) for n in range(100))
            + b"\r\n",
            ok(b"x" * 100_001),
            ok(gzip.compress(bytes(1_000_000), mtime=0), b"Content-Encoding: gzip"),
            ok(gzip.compress(b"{}", mtime=0)[:-3], b"Content-Encoding: gzip"),
            ok(b"not gzip", b"Content-Encoding: gzip"),
            ok(b"{}", b"Content-Encoding: br"),
            ok(b"{}", b"Content-Encoding: gzip", b"Content-Encoding: gzip"),
            ok(b"", b"Location: /y", status=b"302 Found"),
            ok(b"", status=b"401 Unauthorized"),
        ],
    )
    async def test_that_are_none_are_bad(self, answer: bytes) -> None:
        async with calling(answer) as (client, _):
            with pytest.raises(BadUpstream):
                await client.send("GET", "/x")

    async def test_nobody_asked_for_end_the_connection(self) -> None:
        async with calling(ok(b"[1]") + ok(b"[of somebody else]"), ok(b"[2]")) as (client, server):
            assert (await client.send("GET", "/x")).body == b"[1]"
            assert (await client.send("GET", "/x")).body == b"[2]"
            assert server.connections == 2


class TestRequests:
    async def test_carry_nothing_but_what_they_must(self) -> None:
        answer = ok(b"{}", b"Set-Cookie: a=b")
        async with calling(answer, path="/tams/") as (client, server):
            await client.send("GET", "/flows?tag.a=%2C")
            await client.send("PUT", "/flows/x", b"{}")
            await client.send("DELETE", "/flows/x")
            host = server.url.removeprefix("http://").encode()
            common = b"Host: %s\r\nAccept: application/json\r\nAccept-Encoding: gzip\r\n" % host
            sent = b"Content-Type: application/json\r\nContent-Length: 2\r\n"
            assert server.heads == [
                b"GET /tams/flows?tag.a=%2C HTTP/1.1\r\n" + common + b"\r\n",
                b"PUT /tams/flows/x HTTP/1.1\r\n" + common + sent + b"\r\n",
                b"DELETE /tams/flows/x HTTP/1.1\r\n" + common + b"Content-Length: 0\r\n\r\n",
            ]

    async def test_carry_the_proxys_credential(self) -> None:
        async with calling(ok(), credential=basic("me", "secret")) as (client, server):
            await client.send("GET", "/x")
            assert b"Authorization: Basic bWU6c2VjcmV0\r\n" in server.heads[0]
        async with calling(ok(), credential=Fixed(Proof(access_token="a&b"))) as (client, server):
            await client.send("GET", "/x")
            await client.send("GET", "/x?y=1")
            assert server.heads[0].startswith(b"GET /x?access_token=a%26b HTTP")
            assert server.heads[1].startswith(b"GET /x?y=1&access_token=a%26b HTTP")


class TestFailures:
    @pytest.mark.parametrize("method", ["GET", "PUT", "DELETE"])
    async def test_a_broken_connection_is_tried_once_more(self, method: str) -> None:
        async with calling(CUT, ok(b"[1]")) as (client, server):
            assert (await client.send(method, "/x", b"{}" if method == "PUT" else None)).body == b"[1]"
            assert len(server.heads) == 2
        async with calling(CUT) as (client, server):
            with pytest.raises(BadUpstream) as raised:
                await client.send(method, "/x")
            assert len(server.heads) == 2
            assert type(raised.value) in STATUS

    async def test_a_post_is_never_repeated(self) -> None:
        async with calling(CUT, ok(b"[1]")) as (client, server):
            with pytest.raises(BadUpstream):
                await client.send("POST", "/x", b"{}")
            assert len(server.heads) == 1

    async def test_an_answer_cut_in_two_is_none(self) -> None:
        async def half(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
            writer.write(b"HTTP/1.1 200 OK\r\nContent-Length: 10\r\n\r\n12345")
            writer.close()

        async with calling(half) as (client, server):
            with pytest.raises(BadUpstream):
                await client.send("GET", "/x")
            assert len(server.heads) == 2

    async def test_silence_is_a_timeout(self) -> None:
        async with calling(never, limits=Limits(read_s=0.5)) as (client, server):
            with pytest.raises(UpstreamTimeout):
                await client.send("GET", "/x")
            assert len(server.heads) == 1

    async def test_nobody_there_is_unavailable(self) -> None:
        url = f"http://127.0.0.1:{free_port()}"
        client = Client(Base.of(url), Fixed(Proof()), SMALL, time.monotonic)
        with pytest.raises(Unavailable):
            await client.send("GET", "/x")
        await client.close()

    async def test_more_than_the_pool_holds_wait_and_then_are_refused(self) -> None:
        limits = Limits(connect_s=1, read_s=60, connections=1)
        async with calling(never, limits=limits) as (client, server):
            first = asyncio.create_task(client.send("GET", "/x"))
            while not server.heads:
                assert not first.done()
                await asyncio.sleep(0)
            with pytest.raises(Unavailable):
                await client.send("GET", "/x")
            first.cancel()
            with pytest.raises(asyncio.CancelledError):
                await first

    async def test_a_caller_that_gives_up_ends_the_connection(self) -> None:
        async with calling(never, limits=Limits(read_s=30)) as (client, server):
            call = asyncio.create_task(client.send("GET", "/x"))
            while not server.heads:
                await asyncio.sleep(0)
            call.cancel()
            with pytest.raises(asyncio.CancelledError):
                await call
            await asyncio.wait_for(server.closed.wait(), 30)

    async def test_an_upstream_that_is_down_is_left_alone_for_a_while(self) -> None:
        now = [100.0]
        port = free_port()
        client = Client(Base.of(f"http://127.0.0.1:{port}"), Fixed(Proof()), SMALL, lambda: now[0])
        for _ in range(FAILURES):
            with pytest.raises(Unavailable):
                await client.send("GET", "/x")
        async with raw(ok(b"[1]"), port=port) as server:
            with pytest.raises(Unavailable):
                await client.send("GET", "/x")
            assert server.connections == 0
            now[0] += FIRST_PAUSE_S
            for _ in range(2):
                assert (await client.send("GET", "/x")).body == b"[1]"
            await client.close()


class Renewable:
    """A credential whose first proof is stale."""

    def __init__(self) -> None:
        self.tokens = ["stale", "fresh"]

    async def proof(self) -> Proof:
        return Proof(f"Bearer {self.tokens[0]}")

    def refused(self, proof: Proof) -> bool:
        del self.tokens[0]
        return True


async def test_a_refused_token_is_renewed_once() -> None:
    refused = ok(b"", status=b"401 Unauthorized")
    async with calling(refused, ok(b"[1]"), credential=Renewable()) as (client, server):
        assert (await client.send("POST", "/x", b"{}")).body == b"[1]"
        assert [b"stale" in head for head in server.heads] == [True, False]
    async with calling(refused, refused, credential=Renewable()) as (client, server):
        with pytest.raises(BadUpstream):
            await client.send("GET", "/x")
        assert len(server.heads) == 2


class TestBreaker:
    def test_opens_after_failures_in_a_row(self) -> None:
        breaker = Breaker()
        for _ in range(FAILURES - 1):
            breaker.failed(0.0)
        breaker.succeeded()
        for _ in range(FAILURES - 1):
            breaker.failed(0.0)
        assert breaker.admits(0.0)
        breaker.failed(0.0)
        assert not breaker.admits(0.0)

    def test_lets_one_call_try_after_a_pause(self) -> None:
        breaker = Breaker()
        for _ in range(FAILURES):
            breaker.failed(0.0)
        at_s = FIRST_PAUSE_S
        assert breaker.admits(at_s) and not breaker.admits(at_s)
        breaker.succeeded()
        assert breaker.admits(at_s) and breaker.admits(at_s)

    def test_pauses_longer_and_longer_but_not_for_ever(self) -> None:
        breaker, pauses, now_s = Breaker(), [], 0.0
        for _ in range(FAILURES + 8):
            breaker.failed(now_s)
            pauses.append(breaker.open_until_s - now_s)
        opened: list[Any] = pauses[FAILURES - 1 :]
        assert opened == sorted(opened) and opened[-1] == LONGEST_PAUSE_S
