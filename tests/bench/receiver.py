"""A receiver of webhooks that does nothing but count: GET /count tells, and every POST is answered 204."""

from __future__ import annotations

import asyncio
import sys
from typing import cast

import httptools
import uvloop


class Counting(asyncio.Protocol):
    """One connection."""

    count = 0

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self._transport = cast(asyncio.Transport, transport)
        self._parser = httptools.HttpRequestParser(self)

    def data_received(self, data: bytes) -> None:
        self._parser.feed_data(data)

    def on_message_complete(self) -> None:
        if self._parser.get_method() == b"POST":
            Counting.count += 1
            self._transport.write(b"HTTP/1.1 204 No Content\r\n\r\n")
            return
        body = b"%d" % Counting.count
        self._transport.write(b"HTTP/1.1 200 OK\r\ncontent-length: %d\r\n\r\n%b" % (len(body), body))


async def _serve(port: int) -> None:
    server = await asyncio.get_running_loop().create_server(Counting, "127.0.0.1", port)
    await server.serve_forever()


if __name__ == "__main__":
    uvloop.run(_serve(int(sys.argv[1])))
