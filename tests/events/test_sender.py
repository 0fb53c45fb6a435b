"""Attempts on real sockets: what is called, and above all what is not (attack 18 of the security list)."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager

import pytest

from store.events.addresses import Addresses
from store.events.sender import NOT_PUBLIC, Answer, HttpSender, Names
from tests.events.name_server import ask, name_server

LOOPBACK = Addresses.of(["127.0.0.0/8"])


class Receiver:
    """A server on loopback that says what it is told to, and keeps what it was sent."""

    def __init__(self, answer: bytes) -> None:
        self.answer = answer
        self.heads: list[bytes] = []
        self.bodies: list[bytes] = []
        self.port = 0
        self.writers: list[asyncio.StreamWriter] = []

    async def serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self.writers.append(writer)
        try:
            while True:
                head = await reader.readuntil(b"\r\n\r\n")
                length = int(head.lower().partition(b"content-length: ")[2].split(b"\r\n")[0] or 0)
                self.heads.append(head)
                self.bodies.append(await reader.readexactly(length))
                if self.answer:
                    writer.write(self.answer)
                    await writer.drain()
        except (asyncio.IncompleteReadError, ConnectionError):
            writer.close()


@asynccontextmanager
async def receiver(
    answer: bytes = b"HTTP/1.1 204 \r\n\r\n", host: str = "127.0.0.1", port: int = 0
) -> AsyncIterator[Receiver]:
    found = Receiver(answer)
    server = await asyncio.start_server(found.serve, host, port)
    found.port = server.sockets[0].getsockname()[1]
    try:
        yield found
    finally:
        server.close()
        for writer in found.writers:
            writer.close()
        await asyncio.gather(*(w.wait_closed() for w in found.writers), return_exceptions=True)


@asynccontextmanager
async def sender(
    addresses: Addresses, lookup: Callable[[str], list[str]], timeout_s: float = 15
) -> AsyncIterator[HttpSender]:
    async def found(host: str) -> list[str]:
        return lookup(host)

    one = HttpSender(addresses, found, lambda: 0.0, timeout_s)
    try:
        yield one
    finally:
        await one.close()


async def test_a_delivery_arrives_as_it_was_made_over_a_kept_connection() -> None:
    async with receiver() as at, sender(LOOPBACK, lambda _: ["127.0.0.1"]) as one:
        url = f"http://receiver.example:{at.port}/hook?x=%2F"
        for body in (b'{"a":1}', b'{"b":2}'):
            answer = await one.send(url, {"webhook-id": "7", "Content-Type": "application/json"}, body)
            assert answer.is_success and answer.status == 204
        assert at.bodies == [b'{"a":1}', b'{"b":2}']
        head = at.heads[0].lower()
        assert head.startswith(b"post /hook?x=%2f http/1.1\r\n")
        assert f"host: receiver.example:{at.port}\r\n".encode() in head
        assert b"webhook-id: 7\r\n" in head
        assert b"cookie" not in head


@pytest.mark.parametrize(
    "addresses", [["127.0.0.1"], ["::1"], ["169.254.169.254"], ["::ffff:127.0.0.1"], ["64:ff9b::7f00:1"]]
)
async def test_a_name_that_leads_inside_is_not_called(addresses: list[str]) -> None:
    async with receiver() as at, sender(Addresses(), lambda _: addresses) as one:
        answer = await one.send(f"http://receiver.example:{at.port}/", {}, b"{}")
        assert (answer.status, answer.said) == (None, NOT_PUBLIC)
        assert not at.heads


@pytest.mark.parametrize(
    "host", ["127.0.0.1", "[::1]", "localhost", "2130706433", "127.1", "[::ffff:7f00:1]"]
)
async def test_an_address_that_is_spelt_out_is_not_called_either(host: str) -> None:
    def never(name: str) -> list[str]:
        raise AssertionError(name)

    async with receiver() as at, sender(Addresses(), never) as one:
        answer = await one.send(f"http://{host}:{at.port}/", {}, b"{}")
        assert (answer.status, answer.said) == (None, NOT_PUBLIC)
        assert not at.heads


async def test_a_name_that_changes_is_asked_once_and_called_where_it_was_checked() -> None:
    """DNS rebinding: every question gets the other answer."""
    asked: list[str] = []

    def rebinding(host: str) -> list[str]:
        asked.append(host)
        return ["127.0.0.2"] if len(asked) % 2 else ["127.0.0.1"]

    inside = Addresses.of(["127.0.0.2/32"])
    async with receiver() as at, sender(inside, rebinding) as one:
        # Allowed when it is asked, and nobody listens there: the forbidden address must not be tried instead.
        first = await one.send(f"http://receiver.example:{at.port}/", {}, b"{}")
        assert first.status is None and len(asked) == 1
        second = await one.send(f"http://receiver.example:{at.port}/", {}, b"{}")
        assert second.said == NOT_PUBLIC and len(asked) == 2
        assert not at.heads


@pytest.mark.parametrize("answers", [("127.0.0.2", "127.0.0.1"), ("127.0.0.1", "127.0.0.2", "127.0.0.1")])
async def test_a_name_server_that_rebinds_leads_nobody_inside(answers: tuple[str, ...]) -> None:
    """A real one: 127.0.0.2 stands for what may be called, 127.0.0.1, on the same port, for what may not."""
    close = b"HTTP/1.1 204 \r\nConnection: close\r\n\r\n"
    async with (
        name_server(*answers) as names,
        receiver(close) as inside,
        receiver(close, "127.0.0.2", inside.port) as outside,
    ):

        async def resolved(host: str) -> list[str]:
            return await ask(names, host)

        one = HttpSender(Addresses.of(["127.0.0.2/32"]), resolved, lambda: 0.0)
        try:
            url = f"http://rebind.example:{inside.port}/latest/meta-data"
            for number, address in enumerate(answers, 1):
                answer = await one.send(url, {}, b"{}")
                assert answer.is_success if address == "127.0.0.2" else answer.said == NOT_PUBLIC
                # The address that was checked is the one that is called: nobody asks in between.
                assert names.asked == ["rebind.example"] * number
        finally:
            await one.close()
        assert len(outside.heads) == 1
        assert not inside.heads


async def test_of_several_addresses_only_those_that_may_be_are_called() -> None:
    async with receiver() as at, sender(LOOPBACK, lambda _: ["10.0.0.1", "127.0.0.1"]) as one:
        answer = await one.send(f"http://receiver.example:{at.port}/", {}, b"{}")
        assert answer.status == 204


async def test_a_redirect_is_not_followed() -> None:
    async with receiver() as inside:
        away = b"HTTP/1.1 307 \r\nLocation: http://127.0.0.1:%d/\r\nContent-Length: 0\r\n\r\n" % inside.port
        async with receiver(away) as at, sender(LOOPBACK, lambda _: ["127.0.0.1"]) as one:
            answer = await one.send(f"http://receiver.example:{at.port}/", {}, b"{}")
            assert answer.status == 307 and not answer.is_success
            assert not inside.heads


@pytest.mark.parametrize(
    ("answer", "status", "wait_s"),
    [
        (b"HTTP/1.1 503 \r\nRetry-After: 90\r\nContent-Length: 0\r\n\r\n", 503, 90),
        (b"HTTP/1.1 410 Gone\r\nContent-Length: 4\r\n\r\ngone", 410, 0),
        (b"HTTP/1.1 200 OK\r\nContent-Length: 99999999\r\n\r\n" + b"x" * 100_000, 200, 0),
        (b"nonsense\r\n\r\n", None, 0),
    ],
)
async def test_what_comes_back_is_told(answer: bytes, status: int | None, wait_s: float) -> None:
    async with receiver(answer) as at, sender(LOOPBACK, lambda _: ["127.0.0.1"]) as one:
        found = await one.send(f"http://receiver.example:{at.port}/", {}, b"{}")
        assert (found.status, found.retry_after_s) == (status, wait_s)
        assert found.said


async def test_a_receiver_that_never_answers_is_left() -> None:
    async with receiver(b"") as at, sender(LOOPBACK, lambda _: ["127.0.0.1"], timeout_s=0.05) as one:
        answer = await one.send(f"http://receiver.example:{at.port}/", {}, b"{}")
        assert answer == Answer(None, "The receiver did not answer in time.", answer.took_ms)


async def test_names_that_lead_nowhere_and_bad_urls_are_answers_too() -> None:
    def unknown(host: str) -> list[str]:
        raise OSError("no such name")

    async with sender(LOOPBACK, unknown) as one:
        for url in ("http://nowhere.example/", "http://a b/", "http://", "http://[::1", "ftp://1.1.1.1/"):
            answer = await one.send(url, {}, b"{}")
            assert answer.status is None and answer.said, url


async def test_the_system_knows_this_machine() -> None:
    names = Names(1)
    assert await names("127.0.0.1") == ["127.0.0.1"]
    with pytest.raises((OSError, UnicodeError)):
        await names("a..b")
    assert await names("127.0.0.2") == ["127.0.0.2"]
