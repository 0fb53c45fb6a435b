"""A name server on loopback (RFC 1035, UDP) whose answers change, and a client that asks it."""

from __future__ import annotations

import asyncio
import ipaddress
import itertools
import socket
import struct
from collections.abc import AsyncIterator, Iterable
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from typing import cast

_HEAD = struct.Struct("!6H")
_RECORD = struct.Struct("!3HIH")
_POINTER_TO_QUESTION, _A, _IN = 0xC00C, 1, 1


@dataclass
class NameServer(asyncio.DatagramProtocol):
    """Answers every question with the next of its addresses, not to be kept; the last one stays.

    `asked`: the names, in order.
    """

    answers: Iterable[str]
    asked: list[str] = field(default_factory=list)
    address: tuple[str, int] = ("", 0)

    def __post_init__(self) -> None:
        *first, last = self.answers
        self._next = itertools.chain(first, itertools.repeat(last))

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self._transport = cast(asyncio.DatagramTransport, transport)
        self.address = transport.get_extra_info("sockname")

    def datagram_received(self, data: bytes, addr: tuple[str, int]) -> None:
        number, *_ = _HEAD.unpack_from(data)
        question = data[_HEAD.size :]
        self.asked.append(_name(question))
        packed = ipaddress.IPv4Address(next(self._next)).packed
        head = _HEAD.pack(number, 0x8180, 1, 1, 0, 0)
        record = _RECORD.pack(_POINTER_TO_QUESTION, _A, _IN, 0, len(packed))
        self._transport.sendto(head + question + record + packed, addr)


@asynccontextmanager
async def name_server(*answers: str) -> AsyncIterator[NameServer]:
    """A running name server."""
    made = NameServer(answers)
    loop = asyncio.get_running_loop()
    transport, _ = await loop.create_datagram_endpoint(lambda: made, local_addr=("127.0.0.1", 0))
    try:
        yield made
    finally:
        transport.close()


async def ask(server: NameServer, host: str) -> list[str]:
    """The addresses of a name, as a resolver without a cache finds them."""
    labels = b"".join(bytes([len(label)]) + label.encode() for label in host.split("."))
    question = _HEAD.pack(7, 0x0100, 1, 0, 0, 0) + labels + b"\0" + struct.pack("!2H", _A, _IN)
    loop = asyncio.get_running_loop()
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as mine:
        mine.setblocking(False)
        await loop.sock_connect(mine, server.address)
        await loop.sock_sendall(mine, question)
        reply = await loop.sock_recv(mine, 512)
    number, _, _, count, *_ = _HEAD.unpack_from(reply)
    assert number == 7
    found, at = [], len(question)
    for _ in range(count):
        *_, length = _RECORD.unpack_from(reply, at)
        at += _RECORD.size
        found.append(str(ipaddress.ip_address(reply[at : at + length])))
        at += length
    return found


def _name(question: bytes) -> str:
    labels, at = [], 0
    while length := question[at]:
        labels.append(question[at + 1 : at + 1 + length].decode())
        at += 1 + length
    return ".".join(labels)
