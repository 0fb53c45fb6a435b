"""The HTTP client that forwards: pooled, bounded, without cookies or redirects, and honest about failures.

aiohttp: of the maintained clients in Python the one that is fast when many requests are under way. The
library's exceptions end here: 503 for an upstream that cannot be reached, 504 for one that is too slow, 502
for one that breaks off or answers with what is no answer.
"""

from __future__ import annotations

import ssl
import zlib
from collections.abc import AsyncIterator, Callable, Mapping
from contextlib import asynccontextmanager
from dataclasses import dataclass
from urllib.parse import quote

import aiohttp
from yarl import URL

from proxy.errors import BadUpstream, Error, Unavailable, UpstreamTimeout
from proxy.upstream.breaker import Breaker
from proxy.upstream.credentials import Credential, Proof
from proxy.upstream.headers import Base

IDEMPOTENT = frozenset(("GET", "HEAD", "PUT", "DELETE"))
# Shorter than what servers keep idle connections for (uvicorn: 5 s): a POST must not meet a closing one.
KEEP_ALIVE_S = 4
_SKIPPED = ("User-Agent", "Accept", "Content-Type", "Accept-Encoding")
_BROKEN = (aiohttp.ServerDisconnectedError, aiohttp.ClientOSError, aiohttp.ClientPayloadError)
Body = bytes | AsyncIterator[bytes] | None


@dataclass(frozen=True, slots=True)
class Limits:
    """Seconds for each phase, and how much at once. `read_s`: between two pieces of an answer."""

    connect_s: float = 3.0
    read_s: float = 10.0
    connections: int = 100
    body_bytes: int = 64 << 20


@dataclass(frozen=True, slots=True)
class Reply:
    """A whole answer, decompressed. Header names in any letter case find their values."""

    status: int
    headers: Mapping[str, str]
    body: bytes


class Client:
    """Calls one upstream with its own credential. `clock` gives monotonic seconds. To be closed."""

    def __init__(
        self,
        base: Base,
        credential: Credential,
        limits: Limits,
        clock: Callable[[], float],
        tls: ssl.SSLContext | None = None,
    ) -> None:
        self.base = base
        self._credential = credential
        self._limits = limits
        self._clock = clock
        self._breaker = Breaker()
        self._pooled = _session(limits, tls, pooled=True)
        self._fresh = _session(limits, tls, pooled=False)

    async def close(self) -> None:
        """Close all connections."""
        await self._pooled.close()
        await self._fresh.close()

    async def send(self, method: str, path: str, body: bytes | None = None) -> Reply:
        """The answer to a call of the API; `path` with its query, below the base, percent-encoded.

        A call that may be repeated is, once and on a fresh connection, when a connection breaks. Raises
        `errors.Unavailable`, `errors.UpstreamTimeout` and `errors.BadUpstream`, the last also for a
        redirect and for credentials that are refused.
        """
        proof = await self._credential.proof()
        reply = await self._tried(method, path, body, proof)
        if reply.status == 401 and self._credential.refused(proof):
            reply = await self._tried(method, path, body, await self._credential.proof())
        if reply.status in (401, 407):
            raise BadUpstream("The upstream refuses the proxy's credentials.")
        if 300 <= reply.status < 400 or reply.status < 200:
            raise BadUpstream("The upstream answers with a redirect.")
        return reply

    async def _tried(self, method: str, path: str, body: bytes | None, proof: Proof) -> Reply:
        headers = {"Accept": "application/json", "Accept-Encoding": "gzip"}
        if body:
            headers["Content-Type"] = "application/json"
        url = self._url(self.base.path + path, proof)
        if proof.authorization is not None:
            headers["Authorization"] = proof.authorization
        with self._guarded():
            try:
                return await self._once(self._pooled, method, url, headers, body)
            except _BROKEN as exc:
                if method not in IDEMPOTENT or isinstance(exc, aiohttp.ClientConnectorError):
                    raise
            return await self._once(self._fresh, method, url, headers, body)

    async def _once(
        self, session: aiohttp.ClientSession, method: str, url: URL, headers: Mapping[str, str], body: Body
    ) -> Reply:
        async with session.request(method, url, data=body, headers=headers, allow_redirects=False) as answer:
            whole = await self._whole(answer)
            return Reply(answer.status, answer.headers, whole)

    async def _whole(self, answer: aiohttp.ClientResponse) -> bytes:
        limit = self._limits.body_bytes
        encoding = answer.headers.get("Content-Encoding", "identity").strip().lower()
        if encoding not in ("identity", "gzip", "x-gzip", "deflate", ""):
            raise BadUpstream("The upstream's answer has an encoding that was not asked for.")
        if answer.content_length is not None and answer.content_length > limit:
            raise BadUpstream("The upstream's answer is too long.")
        pieces, size = [], 0
        async for piece in answer.content.iter_any():
            size += len(piece)
            if size > limit:
                raise BadUpstream("The upstream's answer is too long.")
            pieces.append(piece)
        body = b"".join(pieces)
        return body if encoding in ("identity", "") or not body else _inflated(body, encoding, limit)

    @asynccontextmanager
    async def stream(
        self, method: str, target: str, headers: list[tuple[str, str]], body: Body, *, with_proof: bool
    ) -> AsyncIterator[aiohttp.ClientResponse]:
        """An answer to be read piece by piece, undecoded; `target` is path and query on the origin itself.

        Nothing is repeated. Raises as `send`, redirects included; leaving the context early ends the call.
        """
        proof = await self._credential.proof() if with_proof else Proof()
        url = self._url(target, proof)
        sent = list(headers)
        if proof.authorization is not None:
            sent.append(("Authorization", proof.authorization))
        with self._guarded():
            async with self._pooled.request(
                method, url, data=body, headers=sent, allow_redirects=False
            ) as answer:
                if 300 <= answer.status < 400 and answer.status != 304:
                    raise BadUpstream("The upstream answers with a redirect.")
                yield answer

    def _url(self, target: str, proof: Proof) -> URL:
        if proof.access_token is not None:
            mark = "&" if "?" in target else "?"
            target = f"{target}{mark}access_token={quote(proof.access_token, safe='')}"
        return URL(self.base.origin + target, encoded=True)

    def _guarded(self) -> _Guard:
        if not self._breaker.admits(self._clock()):
            raise Unavailable("The upstream is down.", retry_after_s=2)
        return _Guard(self._breaker, self._clock)


class _Guard:
    """Translates what goes wrong in a call, and tells the breaker."""

    __slots__ = ("_breaker", "_clock")

    def __init__(self, breaker: Breaker, clock: Callable[[], float]) -> None:
        self._breaker = breaker
        self._clock = clock

    def __enter__(self) -> None:
        return None

    def __exit__(self, kind: type[BaseException] | None, exc: BaseException | None, trace: object) -> None:
        if exc is None or isinstance(exc, Error):
            self._breaker.succeeded()
            return
        error = _translated(exc)
        if error is not None:
            if not isinstance(error, BadUpstream):
                self._breaker.failed(self._clock())
            raise error from exc


def _translated(exc: BaseException) -> Error | None:
    """A failure of the library as ours; None for what is none of its failures, a cancellation above all."""
    if isinstance(exc, aiohttp.ConnectionTimeoutError | aiohttp.ClientConnectorError):
        return Unavailable("The upstream cannot be reached.", retry_after_s=2)
    if isinstance(exc, TimeoutError):
        return UpstreamTimeout("The upstream did not answer in time.")
    if isinstance(exc, aiohttp.ClientError | ConnectionError):
        return BadUpstream("The upstream broke off, or its answer is not valid HTTP.")
    return None


def _session(limits: Limits, tls: ssl.SSLContext | None, *, pooled: bool) -> aiohttp.ClientSession:
    connector = aiohttp.TCPConnector(
        limit=limits.connections,
        ssl=tls if tls is not None else True,
        **({"keepalive_timeout": KEEP_ALIVE_S} if pooled else {"force_close": True}),
    )
    timeout = aiohttp.ClientTimeout(
        total=None, connect=limits.connect_s, sock_connect=limits.connect_s, sock_read=limits.read_s
    )
    return aiohttp.ClientSession(
        connector=connector,
        timeout=timeout,
        cookie_jar=aiohttp.DummyCookieJar(),
        auto_decompress=False,
        skip_auto_headers=_SKIPPED,
        trust_env=False,
    )


def _inflated(body: bytes, encoding: str, limit: int) -> bytes:
    """A compressed body, however far it would unfold. Raises `BadUpstream`."""
    raw = encoding == "deflate" and (body[0] & 0x0F) != 8
    inflater = zlib.decompressobj(-zlib.MAX_WBITS if raw else zlib.MAX_WBITS | 32)
    try:
        found = inflater.decompress(body, limit)
    except zlib.error:
        raise BadUpstream("The upstream's answer cannot be decompressed.") from None
    if not inflater.eof:
        raise BadUpstream("The upstream's answer is cut off, or too long.")
    return found
