"""A connection whose last answer was sent before the request's body was there (RFC 9112 9.6)."""

from __future__ import annotations

import asyncio

LINGER_BYTES = 1 << 20
LINGER_S = 1.0


class Lingering:
    """Takes and forgets what the client still sends, a MiB and a second at most, and then closes.

    Closed at once, the connection would be reset by what arrives, and the answer lost on its way.
    """

    def __init__(self, transport: asyncio.Transport, loop: asyncio.AbstractEventLoop) -> None:
        self._transport = transport
        self._left = LINGER_BYTES
        if transport.can_write_eof():
            transport.write_eof()
        loop.call_later(LINGER_S, transport.close)

    def take(self, data: bytes) -> None:
        """What the client sent."""
        self._left -= len(data)
        if self._left < 0:
            self._transport.close()
