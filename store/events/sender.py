"""One attempt to deliver: a POST to an address that was checked, without redirects, in 15 seconds."""

from __future__ import annotations

import asyncio
import contextlib
import socket
import threading
import time
from collections.abc import Awaitable, Callable, Mapping
from dataclasses import dataclass
from importlib import import_module
from typing import TYPE_CHECKING, Protocol

from yarl import URL

from store.events.addresses import Addresses, literal_of
from store.events.schedule import retry_after_s

if TYPE_CHECKING:
    from aiohttp import ClientSession

TIMEOUT_S = 15.0
READ_BYTES = 4096
CONNECTIONS_OF_ONE = 64
NOT_PUBLIC = "The URL leads to an address that is not public."

Lookup = Callable[[str], Awaitable[list[str]]]
"""The addresses of a name, as text. Raises OSError."""


@dataclass(frozen=True, slots=True)
class Answer:
    """What came of an attempt: a status, or None and why there is none. `said` is one sentence."""

    status: int | None
    said: str
    took_ms: int = 0
    retry_after_s: float = 0.0

    @property
    def is_success(self) -> bool:
        """Whether the receiver took it."""
        return self.status is not None and 200 <= self.status < 300


class Sender(Protocol):
    """Delivers to receivers."""

    async def send(self, url: str, headers: Mapping[str, str], body: bytes) -> Answer:
        """One attempt; every failure is an answer."""
        ...


class Refused(OSError):
    """A name leads to nothing that may be called."""


class Names:
    """Asks the system for addresses, on threads of its own: names that do not answer keep nobody waiting,
    nor the process from ending. At most `most` are asked for at once."""

    def __init__(self, most: int = 64) -> None:
        self._free = asyncio.Semaphore(most)

    async def __call__(self, host: str) -> list[str]:
        """The addresses of a name."""
        loop = asyncio.get_running_loop()
        answer: asyncio.Future[list[str]] = loop.create_future()

        def settle(found: list[str], error: OSError | UnicodeError | None) -> None:
            self._free.release()
            if answer.done():
                return
            if error is None:
                answer.set_result(found)
            else:
                answer.set_exception(error)

        def ask() -> None:
            found: list[str] = []
            failed = None
            try:
                entries = socket.getaddrinfo(host, None, type=socket.SOCK_STREAM)
                found = list(dict.fromkeys(str(entry[4][0]) for entry in entries))
            except (OSError, UnicodeError) as exc:
                failed = exc
            # The loop may have ended before the answer came.
            with contextlib.suppress(RuntimeError):
                loop.call_soon_threadsafe(settle, found, failed)

        await self._free.acquire()
        threading.Thread(target=ask, name=f"name {host}"[:40], daemon=True).start()
        return await answer


class HttpSender:
    """`Sender` by aiohttp, over kept connections, on the loop of the first attempt; to be closed."""

    def __init__(
        self,
        addresses: Addresses,
        lookup: Lookup,
        now_s: Callable[[], float],
        timeout_s: float = TIMEOUT_S,
    ) -> None:
        self._addresses = addresses
        self._lookup = lookup
        self._timeout_s = timeout_s
        self._now_s = now_s
        self._session: ClientSession | None = None

    async def _opened(self) -> ClientSession:
        if self._session is None:
            # It takes a while to import: a server without webhooks does not wait for it, and others not on
            # their loop.
            pinned = await asyncio.to_thread(import_module, "store.events.pinned")
            # Another attempt may have come first meanwhile.
            if self._session is None:
                self._session = pinned.session(
                    self._addresses, self._lookup, self._timeout_s, CONNECTIONS_OF_ONE
                )
        return self._session

    async def send(self, url: str, headers: Mapping[str, str], body: bytes) -> Answer:
        """One attempt; every failure is an answer."""
        began = time.perf_counter_ns()
        status, said, wait_s = await self._sent(url, headers, body)
        return Answer(status, said, (time.perf_counter_ns() - began) // 1_000_000, wait_s)

    async def _sent(self, url: str, headers: Mapping[str, str], body: bytes) -> tuple[int | None, str, float]:
        session = await self._opened()
        import aiohttp

        try:
            # As it was written; only what cannot be sent so is escaped.
            target = URL(url, encoded=url.isascii())
            literal = literal_of(target.raw_host or "")
            if self._addresses.problem(url) is not None or (
                # aiohttp asks no resolver for an address.
                literal is not None and not self._addresses.admits(target.raw_host or "", literal)
            ):
                return None, NOT_PUBLIC, 0.0
            async with session.post(target, data=body, headers=headers, allow_redirects=False) as answer:
                await answer.content.read(READ_BYTES)
                wait_s = retry_after_s(answer.headers.get("Retry-After"), self._now_s())
                return answer.status, f"The receiver answered {answer.status}.", wait_s
        except TimeoutError:
            return None, "The receiver did not answer in time.", 0.0
        except aiohttp.ClientConnectorError as exc:
            if isinstance(exc.os_error, Refused):
                return None, NOT_PUBLIC, 0.0
            return None, "The receiver cannot be reached.", 0.0
        except (aiohttp.ClientError, OSError, ValueError):
            return None, "The connection broke, or the answer is not valid HTTP.", 0.0

    async def close(self) -> None:
        """Close all connections."""
        if self._session is not None:
            await self._session.close()
