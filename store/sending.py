"""What an answer is sent by: its head goes out together with the first bytes of its body.

Two writes are two system calls here, and where the client waits they wake it twice.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable


class Joining:
    """A connection's way out, one answer after the other. What an answer writes first waits for what it
    writes second, until the end of the loop's turn at most; all after that goes out as it comes. `over`: what
    closes the connection."""

    __slots__ = ("_first", "_has_begun", "_loop", "_transport", "over")

    def __init__(
        self, transport: asyncio.Transport, loop: asyncio.AbstractEventLoop, over: Callable[[], None]
    ) -> None:
        self._transport = transport
        self.over = over
        self._loop = loop
        self._first = b""
        self._has_begun = False

    def write(self, data: bytes) -> None:
        """As `asyncio.WriteTransport.write`."""
        if not self._has_begun:
            self._has_begun = True
            self._first = data
            self._loop.call_soon(self.flush)
        elif self._first:
            first, self._first = self._first, b""
            # Once closed, transports of asyncio in Python 3.12 fail here, where `write` does nothing.
            if not self._transport.is_closing():
                self._transport.writelines((first, data))
        else:
            self._transport.write(data)

    def flush(self) -> None:
        """Send what waits."""
        first, self._first = self._first, b""
        if first and not self._transport.is_closing():
            self._transport.write(first)

    def end(self) -> None:
        """The answer is whole; what is written next is of another."""
        self.flush()
        self._has_begun = False

    def close(self) -> None:
        """As `asyncio.Transport.close`, with nothing lost."""
        self.flush()
        self.over()

    def is_closing(self) -> bool:
        """As `asyncio.BaseTransport.is_closing`."""
        return self._transport.is_closing()
