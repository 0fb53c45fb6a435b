"""Media that lie on a foreign upstream's own origin, relayed: streaming both ways, nothing kept.

The URL authorises (`relayed.py`), so the caller's credentials are ignored, as with any signed URL.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable, MutableMapping
from typing import TYPE_CHECKING, Any

from proxy.errors import STATUS, Error, Forbidden, MethodNotAllowed
from proxy.upstream.answers import refusal
from proxy.upstream.client import Client
from proxy.upstream.headers import MEDIA_RESPONSE, media_request
from proxy.upstream.parts import Clock
from proxy.upstream.relayed import RelayedUrls, Target

if TYPE_CHECKING:
    import aiohttp

Scope = MutableMapping[str, Any]
Receive = Callable[[], Awaitable[MutableMapping[str, Any]]]
Send = Callable[[MutableMapping[str, Any]], Awaitable[None]]
METHODS = ("GET", "HEAD", "PUT")
CHUNK_BYTES = 256 * 1024
# What is relayed was made by somebody else and is served on the API's origin: a browser must not run it.
_SAFE = (
    (b"x-content-type-options", b"nosniff"),
    (b"content-security-policy", b"sandbox; default-src 'none'"),
    (b"content-disposition", b"attachment"),
    (b"cache-control", b"no-store"),
)


class _Left(Exception):
    """The client went away."""


class Relay:
    """The application below `/media/relay/`."""

    def __init__(self, client: Client, urls: RelayedUrls, clock: Clock) -> None:
        self._client = client
        self._urls = urls
        self._clock = clock

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Answer one request. A client that goes away ends the call to the upstream."""
        started = _Started(send)
        try:
            target = self._target(scope)
            if scope["method"] == "PUT":
                await self._upload(scope, receive, started, target)
            else:
                await self._download(scope, receive, started, target)
        except _Left:
            return
        except Error as exc:
            if started.is_begun:
                # Too late for a status; the connection is cut so that nobody takes a part for the whole.
                raise ConnectionError("the upstream broke off") from exc
            await self._refuse(exc, scope, send)

    def _target(self, scope: Scope) -> Target:
        if scope["method"] not in METHODS:
            raise MethodNotAllowed("This path does not take this method.", allow=METHODS)
        try:
            path, query = scope["raw_path"].decode("ascii"), scope["query_string"].decode("ascii")
        except UnicodeDecodeError:
            raise Forbidden("The URL is not one that was given out here.") from None
        return self._urls.read(scope["method"], path, query, self._clock.unix_s())

    async def _download(self, scope: Scope, receive: Receive, send: _Started, target: Target) -> None:
        headers = media_request(scope["headers"])
        forwarding = asyncio.create_task(self._forward(scope["method"], target, headers, None, send))
        leaving = asyncio.create_task(_gone(receive))
        try:
            await asyncio.wait((forwarding, leaving), return_when=asyncio.FIRST_COMPLETED)
            if not forwarding.done():
                raise _Left
            await forwarding
        finally:
            for task in (forwarding, leaving):
                task.cancel()
            await asyncio.gather(forwarding, leaving, return_exceptions=True)

    async def _upload(self, scope: Scope, receive: Receive, send: _Started, target: Target) -> None:
        incoming = _Incoming(receive)
        try:
            await self._forward("PUT", target, media_request(scope["headers"]), incoming.pieces(), send)
        except Error as exc:
            if incoming.is_cut_off:
                raise _Left from exc
            raise

    async def _forward(
        self,
        method: str,
        target: Target,
        headers: list[tuple[str, str]],
        body: AsyncIterator[bytes] | None,
        send: _Started,
    ) -> None:
        calling = self._client.stream(method, target.url, headers, body, with_proof=not target.signed)
        async with calling as answer:
            await send.begin(answer.status, _headers(answer))
            if method != "HEAD":
                async for piece in answer.content.iter_chunked(CHUNK_BYTES):
                    await send.more(piece)
            await send.end()

    async def _refuse(self, error: Error, scope: Scope, send: Send) -> None:
        status = STATUS[type(error)]
        answer = refusal(status, error.summary, self._clock.stamp(), type(error).__name__)
        headers = [(b"content-type", b"application/json"), (b"content-length", b"%d" % len(answer.body))]
        if isinstance(error, MethodNotAllowed):
            headers.append((b"allow", ", ".join(error.allow).encode()))
        await send({"type": "http.response.start", "status": status, "headers": headers})
        body = b"" if scope["method"] == "HEAD" else answer.body
        await send({"type": "http.response.body", "body": body})


class _Started:
    """Sends an answer piece by piece, and knows whether it has begun."""

    def __init__(self, send: Send) -> None:
        self._send = send
        self.is_begun = False

    async def begin(self, status: int, headers: list[tuple[bytes, bytes]]) -> None:
        """Status and headers."""
        self.is_begun = True
        await self._send({"type": "http.response.start", "status": status, "headers": headers})

    async def more(self, piece: bytes) -> None:
        """One piece; waits while the client does not take it."""
        await self._send({"type": "http.response.body", "body": piece, "more_body": True})

    async def end(self) -> None:
        """Nothing more."""
        await self._send({"type": "http.response.body", "body": b""})


def _headers(answer: aiohttp.ClientResponse) -> list[tuple[bytes, bytes]]:
    given = [
        (name.lower().encode("latin-1"), value.encode("latin-1"))
        for name, value in answer.headers.items()
        if name.lower() in MEDIA_RESPONSE
    ]
    encoding = answer.headers.get("Content-Encoding")
    if encoding is not None:
        # The bytes pass as they are, so what they are must pass too.
        given.append((b"content-encoding", encoding.encode("latin-1")))
    return [*given, *_SAFE]


async def _gone(receive: Receive) -> None:
    """Wait until the client is gone."""
    while (await receive())["type"] != "http.disconnect":
        continue


class _Incoming:
    """A body as it comes in. `is_cut_off`: the client went before its end, and the upstream was told."""

    def __init__(self, receive: Receive) -> None:
        self._receive = receive
        self.is_cut_off = False

    async def pieces(self) -> AsyncIterator[bytes]:
        """The pieces. Raises `_Left`."""
        more = True
        while more:
            message = await self._receive()
            if message["type"] == "http.disconnect":
                self.is_cut_off = True
                raise _Left
            more = message.get("more_body", False)
            if message.get("body"):
                yield message["body"]
