"""Bodies are read to their limit and no further."""

from __future__ import annotations

import asyncio
from typing import Any

import pytest

from store.asgi import Disconnected, Message, read_body
from store.errors import Error, TooLarge, TooSlow, UnsupportedEncoding

LIMIT = 10
PIECE = {"type": "http.request", "body": b"12345", "more_body": True}
LAST = {"type": "http.request", "body": b"1234"}


class Client:
    """What a client sends, piece by piece, and then no more. `read`: how much of it was taken."""

    def __init__(self, *messages: Message) -> None:
        self._messages = list(messages)
        self.read = 0

    async def receive(self) -> Message:
        if self.read == len(self._messages):
            await asyncio.Event().wait()
        self.read += 1
        return self._messages[self.read - 1]


async def read(client: Client, *headers: tuple[bytes, bytes], idle_s: float = 30) -> bytes:
    scope: dict[str, Any] = {"headers": list(headers)}
    return await read_body(scope, client.receive, LIMIT, idle_s)


@pytest.mark.parametrize("messages", [[LAST], [PIECE, LAST], [PIECE, PIECE, {"type": "http.request"}]])
async def test_a_body_within_the_limit_is_whole(messages: list[Message]) -> None:
    assert await read(Client(*messages)) == b"".join(message.get("body", b"") for message in messages)


async def test_what_says_that_it_is_too_long_is_not_read() -> None:
    client = Client(PIECE)
    with pytest.raises(TooLarge):
        await read(client, (b"content-length", b"11"))
    assert client.read == 0


async def test_what_turns_out_too_long_is_not_read_further() -> None:
    client = Client(*[PIECE] * 9)
    with pytest.raises(TooLarge):
        await read(client)
    assert client.read == 3


async def test_a_compressed_body_is_not_read() -> None:
    client = Client(PIECE)
    with pytest.raises(UnsupportedEncoding):
        await read(client, (b"content-encoding", b"gzip"))
    assert client.read == 0


@pytest.mark.parametrize(
    ("messages", "error"),
    [([], TooSlow), ([PIECE], TooSlow), ([PIECE, {"type": "http.disconnect"}], Disconnected)],
)
async def test_a_body_that_does_not_come_is_given_up(
    messages: list[Message], error: type[Error] | type[Disconnected]
) -> None:
    with pytest.raises(error):
        await read(Client(*messages), idle_s=0.01)
