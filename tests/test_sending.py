"""An answer leaves in as few pieces as it can, and none of it waits for long or is lost."""

from __future__ import annotations

import asyncio
import socket
from collections.abc import Sequence
from typing import cast

from store.sending import GATHERED_BYTES, Gathering, Joining


class Wire:
    """A transport that keeps what was written, write by write."""

    def __init__(self) -> None:
        self.writes: list[bytes] = []
        self.pieces: list[bytes] = []
        self.closed = False

    def write(self, data: bytes) -> None:
        self.writes.append(data)

    def writelines(self, pieces: Sequence[bytes]) -> None:
        self.pieces += pieces
        self.writes.append(b"".join(pieces))

    def is_closing(self) -> bool:
        return self.closed

    def close(self) -> None:
        self.closed = True


def joining(wire: Wire) -> Joining:
    return Joining(cast("asyncio.Transport", wire), asyncio.get_running_loop(), wire.close)


async def test_a_head_and_its_body_are_one_write() -> None:
    wire = Wire()
    out = joining(wire)
    for number in (b"1", b"2"):
        out.write(b"head" + number)
        out.write(b"body" + number)
        out.end()
    assert wire.writes == [b"head1body1", b"head2body2"]


async def test_a_body_is_handed_on_without_a_copy() -> None:
    wire, body = Wire(), bytes(5_000)
    out = joining(wire)
    out.write(b"head")
    out.write(body)
    assert [piece is body for piece in wire.pieces] == [False, True]


async def test_what_follows_goes_out_as_it_comes() -> None:
    wire = Wire()
    out = joining(wire)
    for piece in (b"head", b"one", b"two", b"three"):
        out.write(piece)
    assert wire.writes == [b"headone", b"two", b"three"]


async def test_a_head_with_nothing_behind_it_yet_leaves_in_the_same_turn_of_the_loop() -> None:
    wire = Wire()
    out = joining(wire)
    out.write(b"head")
    assert wire.writes == []
    await asyncio.sleep(0)
    assert wire.writes == [b"head"]
    out.write(b"body")
    assert wire.writes == [b"head", b"body"]


async def test_a_head_alone_leaves_when_the_answer_ends() -> None:
    wire = Wire()
    out = joining(wire)
    out.write(b"head")
    out.end()
    await asyncio.sleep(0)
    assert wire.writes == [b"head"]


async def test_nothing_is_lost_by_closing() -> None:
    wire = Wire()
    out = joining(wire)
    out.write(b"head")
    out.close()
    assert (wire.writes, out.is_closing()) == ([b"head"], True)


async def test_nothing_is_written_to_what_was_closed_meanwhile() -> None:
    wire = Wire()
    out = joining(wire)
    out.write(b"head")
    wire.close()
    await asyncio.sleep(0)
    assert wire.writes == []


async def test_what_comes_too_late_is_no_failure() -> None:
    """As of a transport of asyncio's, whose `writelines` fails where its `write` does nothing."""
    here, there = socket.socketpair()
    with there:
        loop = asyncio.get_running_loop()
        transport, _ = await loop.create_connection(asyncio.Protocol, sock=here)
        out = Joining(transport, loop, transport.close)
        transport.abort()
        for _ in range(3):
            await asyncio.sleep(0)
        out.write(b"head")
        out.write(b"body")
        out.end()
        there.setblocking(False)
        assert there.recv(1) == b""


def gathering(wire: Wire) -> Gathering:
    return Gathering(cast("asyncio.Transport", wire), asyncio.get_running_loop())


async def test_messages_of_one_turn_of_the_loop_are_one_write() -> None:
    wire = Wire()
    out = gathering(wire)
    for number in (b"1", b"2"):
        out.write(b"header" + number)
        out.write(b"data" + number)
        assert len(wire.writes) == int(number) - 1
        await asyncio.sleep(0)
    assert wire.writes == [b"header1data1", b"header2data2"]


async def test_much_goes_out_at_once() -> None:
    wire, message = Wire(), bytes(GATHERED_BYTES // 2)
    out = gathering(wire)
    for _ in range(5):
        out.write(message)
    assert [len(write) for write in wire.writes] == [GATHERED_BYTES] * 2
    await asyncio.sleep(0)
    assert b"".join(wire.writes) == message * 5


async def test_a_message_before_the_end_is_not_lost_and_one_behind_it_is_not_sent() -> None:
    wire = Wire()
    out = gathering(wire)
    out.write(b"last")
    out.close()
    out.write(b"late")
    await asyncio.sleep(0)
    assert wire.writes == [b"last"] and out.is_closing()
