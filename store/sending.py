"""What answers and messages are sent by: a head goes out together with the first bytes of its body, and what
a WebSocket is sent in one turn of the loop goes out together.

Two writes are two system calls here, and where the client waits they wake it twice.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from typing import Any

GATHERED_BYTES = 64 << 10
"""How much waits for the end of the loop's turn at most."""


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


class Gathering:
    """A WebSocket's way out, in place of its transport. What is written in one turn of the loop goes out at
    the end of the turn; much of it at once, so that whoever writes without a pause learns that the other side
    takes nothing."""

    __slots__ = ("_bytes", "_loop", "_transport", "_waiting")

    def __init__(self, transport: asyncio.Transport, loop: asyncio.AbstractEventLoop) -> None:
        self._transport = transport
        self._loop = loop
        self._waiting: list[bytes] = []
        self._bytes = 0

    def write(self, data: bytes) -> None:
        """As `asyncio.WriteTransport.write`."""
        if not self._waiting:
            self._loop.call_soon(self.flush)
        self._waiting.append(data)
        self._bytes += len(data)
        if self._bytes >= GATHERED_BYTES:
            self.flush()

    def flush(self) -> None:
        """Send what waits."""
        waiting, self._waiting, self._bytes = self._waiting, [], 0
        if waiting and not self._transport.is_closing():
            self._transport.writelines(waiting)

    def close(self) -> None:
        """As `asyncio.Transport.close`, with nothing lost."""
        self.flush()
        self._transport.close()

    def is_closing(self) -> bool:
        """As `asyncio.BaseTransport.is_closing`."""
        return self._transport.is_closing()

    def pause_reading(self) -> None:
        """As `asyncio.ReadTransport.pause_reading`."""
        self._transport.pause_reading()

    def resume_reading(self) -> None:
        """As `asyncio.ReadTransport.resume_reading`."""
        self._transport.resume_reading()

    def get_extra_info(self, name: str, default: Any = None) -> Any:
        """As `asyncio.BaseTransport.get_extra_info`."""
        return self._transport.get_extra_info(name, default)
