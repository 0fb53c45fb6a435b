"""Calls one upstream: as the proxy itself, without cookies or redirects, and honest about failures.

503 for an upstream that cannot be reached, 504 for one that is too slow, 502 for one that breaks off or
answers with what is no answer. Whole answers come by `connection.py`, media stream by aiohttp.
"""

from __future__ import annotations

import ssl
import zlib
from collections.abc import AsyncIterator, Callable, Mapping
from contextlib import asynccontextmanager
from contextvars import ContextVar
from dataclasses import dataclass
from types import TracebackType
from typing import TYPE_CHECKING
from urllib.parse import quote, urlsplit

from yarl import URL

from proxy.errors import BadUpstream, Error, Unavailable, UpstreamTimeout
from proxy.upstream.breaker import Breaker
from proxy.upstream.connection import Broken, Limits, Pool, Raw
from proxy.upstream.credentials import Credential, Proof
from proxy.upstream.headers import Base

if TYPE_CHECKING:
    import aiohttp

SENT: ContextVar[list[None] | None] = ContextVar("SENT", default=None)
"""Grows by one with each call that is made on behalf of a request, where somebody counts."""
IDEMPOTENT = frozenset(("GET", "PUT", "DELETE"))
_SKIPPED = ("User-Agent", "Accept", "Content-Type", "Accept-Encoding")


@dataclass(frozen=True, slots=True)
class Reply:
    """A whole answer, decompressed; header names in lower case."""

    status: int
    headers: Mapping[str, str]
    body: bytes


class Client:
    """Calls one upstream with its own credential. `clock` gives monotonic seconds; `tls` is what certificates
    are trusted, those of the system by default. To be closed."""

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
        parts = urlsplit(base.origin)
        secure = parts.scheme == "https"
        trusted = (tls or ssl.create_default_context()) if secure else None
        port = parts.port or (443 if secure else 80)
        self._pool = Pool(parts.hostname or "", port, trusted, limits, clock)
        self._host = parts.netloc
        self._streams = _session(limits, trusted)

    async def close(self) -> None:
        """Close all connections."""
        self._pool.close()
        await self._streams.close()

    async def send(self, method: str, path: str, body: bytes | None = None) -> Reply:
        """The answer to a call of the API; `path` with its query, below the base, percent-encoded.

        A call that may be repeated is, once and on a fresh connection, when a connection breaks. Raises
        `errors.Unavailable`, `errors.UpstreamTimeout` and `errors.BadUpstream`, the last also for a
        redirect and for credentials that are refused.
        """
        sent = SENT.get()
        if sent is not None:
            sent.append(None)
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
        request = self._request(method, _with_token(self.base.path + path, proof), body, proof)
        with self._guarded():
            try:
                raw = await self._pool.ask(request)
            except Broken:
                if method not in IDEMPOTENT:
                    raise
                raw = await self._pool.ask(request, fresh=True)
            return Reply(raw.status, raw.headers, _decoded(raw, self._limits.body_bytes))

    def _request(self, method: str, target: str, body: bytes | None, proof: Proof) -> bytes:
        """The bytes of a request. The target is percent-encoded and the rest is ours, so that nothing in it
        can end a line."""
        head = f"{method} {target} HTTP/1.1\r\nHost: {self._host}\r\nAccept: application/json\r\n"
        head += "Accept-Encoding: gzip\r\n"
        if proof.authorization is not None:
            head += f"Authorization: {proof.authorization}\r\n"
        if body:
            head += f"Content-Type: application/json\r\nContent-Length: {len(body)}\r\n"
        elif method != "GET":
            head += "Content-Length: 0\r\n"
        return (head + "\r\n").encode("ascii") + (body or b"")

    @asynccontextmanager
    async def stream(
        self,
        method: str,
        target: str,
        headers: list[tuple[str, str]],
        body: AsyncIterator[bytes] | None,
        *,
        with_proof: bool,
    ) -> AsyncIterator[aiohttp.ClientResponse]:
        """An answer to be read piece by piece, undecoded; `target` is path and query on the origin itself.

        Nothing is repeated. Raises as `send`, redirects included; leaving the context early ends the call.
        """
        proof = await self._credential.proof() if with_proof else Proof()
        url = URL(self.base.origin + _with_token(target, proof), encoded=True)
        sent = list(headers)
        if proof.authorization is not None:
            sent.append(("Authorization", proof.authorization))
        with self._guarded():
            async with self._streams.request(
                method, url, data=body, headers=sent, allow_redirects=False
            ) as answer:
                if 300 <= answer.status < 400 and answer.status != 304:
                    raise BadUpstream("The upstream answers with a redirect.")
                yield answer

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

    def __exit__(
        self, kind: type[BaseException] | None, exc: BaseException | None, trace: TracebackType | None
    ) -> None:
        if exc is None:
            self._breaker.succeeded()
            return
        error = _translated(exc)
        if isinstance(error, Unavailable | UpstreamTimeout):
            self._breaker.failed(self._clock())
        elif error is not None:
            # Broken or odd, but somebody is there.
            self._breaker.succeeded()
        if error is not None and error is not exc:
            raise error from exc


def _translated(exc: BaseException) -> Error | None:
    """A failure as ours; None for what is no failure of the upstream, a cancellation above all."""
    if isinstance(exc, Broken):
        # Ours alone: outside of here it is one of the errors that have a status.
        return BadUpstream(exc.summary)
    if isinstance(exc, Error):
        return exc
    import aiohttp

    if isinstance(exc, aiohttp.ConnectionTimeoutError | aiohttp.ClientConnectorError):
        return Unavailable("The upstream cannot be reached.", retry_after_s=2)
    if isinstance(exc, TimeoutError):
        return UpstreamTimeout("The upstream did not answer in time.")
    if isinstance(exc, aiohttp.ClientError | ConnectionError):
        return BadUpstream("The upstream broke off, or its answer is not valid HTTP.")
    return None


def _with_token(target: str, proof: Proof) -> str:
    if proof.access_token is None:
        return target
    mark = "&" if "?" in target else "?"
    return f"{target}{mark}access_token={quote(proof.access_token, safe='')}"


def _session(limits: Limits, tls: ssl.SSLContext | None) -> aiohttp.ClientSession:
    # It takes a while to import: a server without an upstream does not wait for it.
    import aiohttp

    connector = aiohttp.TCPConnector(limit=limits.connections, ssl=tls if tls is not None else True)
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


def _decoded(raw: Raw, limit: int) -> bytes:
    """The body without its content coding, however far it would unfold. Raises `BadUpstream`."""
    encoding = raw.headers.get("content-encoding", "").strip().lower()
    if encoding in ("", "identity") or not raw.body:
        return raw.body
    if encoding not in ("gzip", "x-gzip", "deflate"):
        raise BadUpstream("The upstream's answer has an encoding that was not asked for.")
    bare = encoding == "deflate" and (raw.body[0] & 0x0F) != 8
    inflater = zlib.decompressobj(-zlib.MAX_WBITS if bare else zlib.MAX_WBITS | 32)
    try:
        found = inflater.decompress(raw.body, limit)
    except zlib.error:
        raise BadUpstream("The upstream's answer cannot be decompressed.") from None
    if not inflater.eof:
        raise BadUpstream("The upstream's answer is cut off, or too long.")
    return found
