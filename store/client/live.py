"""Clients of live streams: one that blocks and one for asyncio, alike but for that."""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator
from contextlib import ExitStack, asynccontextmanager, contextmanager
from itertools import count as numbers
from typing import Any

import httpx
from websockets.asyncio import client as asynchronous
from websockets.exceptions import ConnectionClosed
from websockets.sync import client as blocking

from store.client.entries import (
    FAILURES,
    MESSAGE_BYTES,
    Entry,
    batches,
    ended,
    entries_of,
    ids_of,
    newest_of,
    newest_url,
    pull_url,
    push_url,
    refusal,
    wait_s,
)
from store.client.protocol import Policy, StoreError

PULLED = 100
"""Entries of a message at most, by default."""


class _Parts:
    """What both clients connect by."""

    def __init__(self, base_url: str, token: str, policy: Policy, timeout_s: float) -> None:
        self._base_url = base_url
        self._policy = policy
        self._timeout_s = timeout_s
        self._headers = {"Authorization": f"Bearer {token}"}

    @property
    def _options(self) -> dict[str, Any]:
        return {
            "additional_headers": self._headers,
            "open_timeout": self._timeout_s,
            "max_size": MESSAGE_BYTES,
            "compression": None,
        }

    def _newest(self, sid: str, answer: httpx.Response) -> str:
        if not answer.is_success:
            raise refusal(answer.status_code, answer.content, sid)
        return newest_of(answer.headers.get("entry-offset"))


class Push:
    """An open push."""

    def __init__(self, socket: blocking.ClientConnection, timeout_s: float) -> None:
        self._socket = socket
        self._timeout_s = timeout_s

    def send(self, *entries: bytes) -> list[str]:
        """Append entries; their ids, once they are durable.

        Raises `StoreError` when the server does not say so: then it is not known which of them are there.
        """
        found: list[str] = []
        try:
            for header, blob in batches(entries):
                self._socket.send(header)
                self._socket.send(blob)
                found += ids_of(self._socket.recv(self._timeout_s))
        except ConnectionClosed as exc:
            raise ended(exc) from exc
        except TimeoutError as exc:
            raise StoreError("The server did not acknowledge the entries in time.", 0) from exc
        return found


class LiveStreams(_Parts):
    """Live streams of a server.

    A stream that is not there raises `KeyError`, anything else that the server refuses or fails at
    `StoreError` with its message.
    """

    def __init__(
        self,
        base_url: str,
        token: str,
        policy: Policy,
        timeout_s: float,
        sleep: Callable[[float], None] = time.sleep,
    ) -> None:
        super().__init__(base_url, token, policy, timeout_s)
        self._sleep = sleep

    @classmethod
    def create(
        cls,
        base_url: str,
        token: str,
        timeout: float = 30,
        max_retries: int = 3,
        retry_delay: float = 1,
    ) -> LiveStreams:
        """A client of the server at `base_url`, for instance https://media.example. Times in seconds; it is
        tried again to connect while the server is busy or cannot be reached, after twice the delay each
        time."""
        return cls(base_url, token, Policy(max_retries, retry_delay), timeout)

    @contextmanager
    def push(self, sid: str) -> Iterator[Push]:
        """A push to a stream, which is made if there is none."""
        with ExitStack() as held:
            yield Push(self._connected(held, sid, push_url(self._base_url, sid)), self._timeout_s)

    @contextmanager
    def pull(self, sid: str, *, after: str | None = None, count: int = PULLED) -> Iterator[Iterator[Entry]]:
        """Entries as they come, without an end: behind an id (`"0"` for all there are), else those that are
        pushed from now on. When the connection breaks it goes on behind the last one."""
        with httpx.Client(timeout=self._timeout_s, headers=self._headers) as http:
            try:
                place = after or self._newest(sid, http.get(newest_url(self._base_url, sid)))
            except httpx.TransportError as exc:
                raise StoreError(f"The server cannot be reached: {exc}", 0) from exc
        with ExitStack() as held:
            socket = self._connected(held, sid, pull_url(self._base_url, sid, place, count))
            yield self._entries(sid, place, count, held, socket)

    def _entries(
        self, sid: str, place: str, count: int, held: ExitStack, socket: blocking.ClientConnection
    ) -> Iterator[Entry]:
        attempt = 0
        while True:
            try:
                header, data = socket.recv(), socket.recv()
            except ConnectionClosed as exc:
                held.close()
                self._sleep(wait_s(exc, sid, self._policy, attempt))
                attempt += 1
                socket = self._connected(held, sid, pull_url(self._base_url, sid, place, count))
                continue
            attempt = 0
            for entry in entries_of(header, data):
                place = entry.id
                yield entry

    def _connected(self, held: ExitStack, sid: str, url: str) -> blocking.ClientConnection:
        for attempt in numbers():
            try:
                socket: blocking.ClientConnection
                socket = held.enter_context(blocking.connect(url, **self._options))
                return socket
            except FAILURES as exc:
                self._sleep(wait_s(exc, sid, self._policy, attempt))
        raise AssertionError("unreachable")


class AsyncPush:
    """As `Push`, for asyncio."""

    def __init__(self, socket: asynchronous.ClientConnection, timeout_s: float) -> None:
        self._socket = socket
        self._timeout_s = timeout_s

    async def send(self, *entries: bytes) -> list[str]:
        """See `Push.send`."""
        found: list[str] = []
        try:
            for header, blob in batches(entries):
                await self._socket.send(header)
                await self._socket.send(blob)
                async with asyncio.timeout(self._timeout_s):
                    found += ids_of(await self._socket.recv())
        except ConnectionClosed as exc:
            raise ended(exc) from exc
        except TimeoutError as exc:
            raise StoreError("The server did not acknowledge the entries in time.", 0) from exc
        return found


class AsyncLiveStreams(_Parts):
    """As `LiveStreams`, for asyncio."""

    def __init__(
        self,
        base_url: str,
        token: str,
        policy: Policy,
        timeout_s: float,
        sleep: Callable[[float], Awaitable[None]] = asyncio.sleep,
    ) -> None:
        super().__init__(base_url, token, policy, timeout_s)
        self._sleep = sleep

    @classmethod
    def create(
        cls,
        base_url: str,
        token: str,
        timeout: float = 30,
        max_retries: int = 3,
        retry_delay: float = 1,
    ) -> AsyncLiveStreams:
        """See `LiveStreams.create`."""
        return cls(base_url, token, Policy(max_retries, retry_delay), timeout)

    @asynccontextmanager
    async def push(self, sid: str) -> AsyncIterator[AsyncPush]:
        """See `LiveStreams.push`."""
        async with await self._connected(sid, push_url(self._base_url, sid)) as socket:
            yield AsyncPush(socket, self._timeout_s)

    @asynccontextmanager
    async def pull(
        self, sid: str, *, after: str | None = None, count: int = PULLED
    ) -> AsyncIterator[AsyncIterator[Entry]]:
        """See `LiveStreams.pull`."""
        async with httpx.AsyncClient(timeout=self._timeout_s, headers=self._headers) as http:
            try:
                place = after or self._newest(sid, await http.get(newest_url(self._base_url, sid)))
            except httpx.TransportError as exc:
                raise StoreError(f"The server cannot be reached: {exc}", 0) from exc
        held = [await self._connected(sid, pull_url(self._base_url, sid, place, count))]
        try:
            yield self._entries(sid, place, count, held)
        finally:
            await held[0].close()

    async def _entries(
        self, sid: str, place: str, count: int, held: list[asynchronous.ClientConnection]
    ) -> AsyncIterator[Entry]:
        attempt = 0
        while True:
            try:
                header, data = await held[0].recv(), await held[0].recv()
            except ConnectionClosed as exc:
                await self._sleep(wait_s(exc, sid, self._policy, attempt))
                attempt += 1
                held[0] = await self._connected(sid, pull_url(self._base_url, sid, place, count))
                continue
            attempt = 0
            for entry in entries_of(header, data):
                place = entry.id
                yield entry

    async def _connected(self, sid: str, url: str) -> asynchronous.ClientConnection:
        for attempt in numbers():
            try:
                return await asynchronous.connect(url, **self._options)
            except FAILURES as exc:
                await self._sleep(wait_s(exc, sid, self._policy, attempt))
        raise AssertionError("unreachable")
