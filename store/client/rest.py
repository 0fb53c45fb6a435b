"""The clients: one that blocks and one for asyncio, alike but for that."""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncIterable, AsyncIterator, Awaitable, Callable, Iterable, Iterator, Mapping
from contextlib import asynccontextmanager, contextmanager
from types import TracebackType
from typing import Any, BinaryIO, Self

import httpx

from store.client.protocol import (
    CHUNK_BYTES,
    Call,
    Policy,
    Send,
    StoreError,
    Wait,
    document_of,
    exchange,
    object_path,
    page_of,
    page_path,
    part,
)

Pieces = BinaryIO | Iterable[bytes]
Content = bytes | Iterable[bytes] | AsyncIterable[bytes] | None


class _Calls:
    """What both clients make calls of."""

    def __init__(self, base_url: str, api_key: str, policy: Policy) -> None:
        self._base_url = base_url.rstrip("/")
        self._auth = {"Authorization": f"Bearer {api_key}"}
        self._policy = policy

    def _object(
        self, method: str, key: str, headers: Mapping[str, str] | None = None, *, once: bool = False
    ) -> Call:
        given = {**self._auth, **(headers or {})}
        return Call(method, self._base_url + object_path(key), key, given, once)

    def _page(self, prefix: str, cursor: str | None) -> Call:
        return Call("GET", self._base_url + page_path(prefix, cursor), None, self._auth)


class RestStore(_Calls):
    """Objects by key on a server, over one pool of connections.

    A missing key raises `KeyError`, anything else that the server refuses or fails at `StoreError` with its
    message, keys that cannot be listed `NotImplementedError`. Use it in a `with`, or close it.
    """

    def __init__(
        self,
        base_url: str,
        api_key: str,
        policy: Policy,
        http: httpx.Client,
        sleep: Callable[[float], None] = time.sleep,
    ) -> None:
        super().__init__(base_url, api_key, policy)
        self._http = http
        self._sleep = sleep

    @classmethod
    def create(
        cls,
        base_url: str,
        api_key: str,
        timeout: float = 30,
        max_retries: int = 3,
        retry_delay: float = 1,
    ) -> RestStore:
        """A client of the API at `base_url`, for instance https://media.example/store. Times in seconds; a
        call is repeated while the server is busy or cannot be reached, after twice the delay each time."""
        return cls(base_url, api_key, Policy(max_retries, retry_delay), httpx.Client(timeout=timeout))

    def put(self, key: str, data: bytes | Pieces, *, content_type: str | None = None) -> dict[str, Any]:
        """Write an object, replacing what is there; what the server tells of it (`key`, `size`,
        `created_at`). A file or another iterable of bytes is sent as it comes, and only once."""
        headers = {"Content-Type": content_type} if content_type else {}
        whole = isinstance(data, bytes)
        call = self._object("PUT", key, headers, once=not whole)
        return document_of(self._answer(call, data if isinstance(data, bytes) else _pieces(data)).content)

    def get(self, key: str) -> bytes:
        """All bytes of an object."""
        return self._answer(self._object("GET", key)).content

    @contextmanager
    def stream(self, key: str, *, start: int = 0, end: int | None = None) -> Iterator[Iterator[bytes]]:
        """The bytes from `start` up to `end` in chunks, for objects that are too long for memory:
        `with store.stream(key) as chunks`."""
        response = self._answer(self._object("GET", key, part(start, end)), stream=True)
        try:
            yield response.iter_bytes(CHUNK_BYTES)
        except httpx.TransportError as exc:
            raise StoreError(f"The connection broke: {exc}", 0) from exc
        finally:
            response.close()

    def exists(self, key: str) -> bool:
        """Whether there is such an object for this caller."""
        try:
            self._answer(self._object("HEAD", key))
        except KeyError:
            return False
        return True

    def delete(self, key: str) -> None:
        """Remove an object."""
        self._answer(self._object("DELETE", key))

    def keys(self, prefix: str = "") -> Iterator[str]:
        """The names that begin with a prefix, sorted; asked for page by page."""
        cursor: str | None = None
        while True:
            page = page_of(self._answer(self._page(prefix, cursor)).content)
            yield from page.keys
            cursor = page.cursor
            if cursor is None:
                return

    def close(self) -> None:
        """Let go of the connections."""
        self._http.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, value: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def _answer(self, call: Call, content: Content = None, *, stream: bool = False) -> httpx.Response:
        steps = exchange(call, self._policy)
        result: httpx.Response | httpx.TransportError | None = None
        while True:
            try:
                step = steps.send(result)
            except StopIteration as done:
                response: httpx.Response = done.value
                return response
            if isinstance(step, Wait):
                self._sleep(step.seconds)
                result = None
            else:
                result = self._sent(step, content, stream)

    def _sent(self, step: Send, content: Content, stream: bool) -> httpx.Response | httpx.TransportError:
        request = self._http.build_request(step.method, step.url, content=content, headers=step.headers)
        try:
            response = self._http.send(request, stream=True, follow_redirects=False)
            if not (stream and response.is_success):
                response.read()
        except httpx.TransportError as exc:
            return exc
        return response


class AsyncRestStore(_Calls):
    """As `RestStore`, for asyncio."""

    def __init__(
        self,
        base_url: str,
        api_key: str,
        policy: Policy,
        http: httpx.AsyncClient,
        sleep: Callable[[float], Awaitable[None]] = asyncio.sleep,
    ) -> None:
        super().__init__(base_url, api_key, policy)
        self._http = http
        self._sleep = sleep

    @classmethod
    def create(
        cls,
        base_url: str,
        api_key: str,
        timeout: float = 30,
        max_retries: int = 3,
        retry_delay: float = 1,
    ) -> AsyncRestStore:
        """See `RestStore.create`."""
        return cls(base_url, api_key, Policy(max_retries, retry_delay), httpx.AsyncClient(timeout=timeout))

    async def put(
        self, key: str, data: bytes | Pieces | AsyncIterable[bytes], *, content_type: str | None = None
    ) -> dict[str, Any]:
        """See `RestStore.put`; an asynchronous iterable is taken too."""
        headers = {"Content-Type": content_type} if content_type else {}
        call = self._object("PUT", key, headers, once=not isinstance(data, bytes))
        if isinstance(data, bytes | AsyncIterable):
            content: bytes | AsyncIterable[bytes] = data
        else:
            content = _async_pieces(data)
        return document_of((await self._answer(call, content)).content)

    async def get(self, key: str) -> bytes:
        """See `RestStore.get`."""
        return (await self._answer(self._object("GET", key))).content

    @asynccontextmanager
    async def stream(
        self, key: str, *, start: int = 0, end: int | None = None
    ) -> AsyncIterator[AsyncIterator[bytes]]:
        """See `RestStore.stream`."""
        response = await self._answer(self._object("GET", key, part(start, end)), stream=True)
        try:
            yield response.aiter_bytes(CHUNK_BYTES)
        except httpx.TransportError as exc:
            raise StoreError(f"The connection broke: {exc}", 0) from exc
        finally:
            await response.aclose()

    async def exists(self, key: str) -> bool:
        """See `RestStore.exists`."""
        try:
            await self._answer(self._object("HEAD", key))
        except KeyError:
            return False
        return True

    async def delete(self, key: str) -> None:
        """See `RestStore.delete`."""
        await self._answer(self._object("DELETE", key))

    async def keys(self, prefix: str = "") -> AsyncIterator[str]:
        """See `RestStore.keys`."""
        cursor: str | None = None
        while True:
            page = page_of((await self._answer(self._page(prefix, cursor))).content)
            for key in page.keys:
                yield key
            cursor = page.cursor
            if cursor is None:
                return

    async def close(self) -> None:
        """Let go of the connections."""
        await self._http.aclose()

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, value: BaseException | None, trace: TracebackType | None
    ) -> None:
        await self.close()

    async def _answer(self, call: Call, content: Content = None, *, stream: bool = False) -> httpx.Response:
        steps = exchange(call, self._policy)
        result: httpx.Response | httpx.TransportError | None = None
        while True:
            try:
                step = steps.send(result)
            except StopIteration as done:
                response: httpx.Response = done.value
                return response
            if isinstance(step, Wait):
                await self._sleep(step.seconds)
                result = None
            else:
                result = await self._sent(step, content, stream)

    async def _sent(
        self, step: Send, content: Content, stream: bool
    ) -> httpx.Response | httpx.TransportError:
        request = self._http.build_request(step.method, step.url, content=content, headers=step.headers)
        try:
            response = await self._http.send(request, stream=True, follow_redirects=False)
            if not (stream and response.is_success):
                await response.aread()
        except httpx.TransportError as exc:
            return exc
        return response


def _pieces(data: Pieces) -> Iterator[bytes]:
    """The pieces of a file, or of what is in pieces already."""
    if isinstance(data, Iterable) and not hasattr(data, "read"):
        yield from data
        return
    while piece := data.read(CHUNK_BYTES):
        yield piece


async def _async_pieces(data: Pieces) -> AsyncIterator[bytes]:
    """As `_pieces`. Reads of a file block the loop for a chunk at a time."""
    for piece in _pieces(data):
        yield piece
