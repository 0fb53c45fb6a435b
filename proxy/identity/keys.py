"""The public keys of an issuer: fetched without blocking, kept through an outage, never fetched by a flood.

RFC 7517. The keeping (`KeySet`) is apart from the fetching (`fetch_document`, `parse_jwks`).
"""

from __future__ import annotations

import asyncio
import hashlib
import json
import logging
from collections.abc import Awaitable, Callable, Iterable
from dataclasses import dataclass, field
from typing import Any

import httpx
from cryptography.hazmat.primitives.asymmetric import ec, ed25519, rsa
from cryptography.hazmat.primitives.serialization import Encoding, PublicFormat
from jwt import PyJWK, PyJWTError

from proxy.errors import Unauthenticated, Unavailable
from proxy.identity.config import EC_ALGORITHMS, RSA_ALGORITHMS

log = logging.getLogger(__name__)

SOFT_TTL_S = 600
STALE_S = 24 * 3600
COOL_DOWN_S = 30
FETCH_TIMEOUT_S = 5
MAX_DOCUMENT_BYTES = 1 << 20
MAX_KEYS = 100
MIN_RSA_BITS = 2048

PublicKey = rsa.RSAPublicKey | ec.EllipticCurvePublicKey | ed25519.Ed25519PublicKey


@dataclass(frozen=True, slots=True)
class Key:
    """A public key: its name, the algorithms it may verify, and a digest that tells it from others."""

    kid: str | None
    algorithms: frozenset[str]
    public: PublicKey = field(compare=False, repr=False)
    digest: bytes


class KeySet:
    """The keys of one issuer.

    Known keys answer at once; past 10 minutes a fetch is started beside the request, and on errors they
    serve for up to 24 h after the last good fetch. An unknown `kid` waits for one fetch. Fetches are single
    flight and begin at most once in 30 s, whatever callers send. `generation` grows when a key disappears.
    """

    def __init__(self, fetch: Callable[[], Awaitable[tuple[Key, ...]]], *, name: str) -> None:
        self.generation = 0
        self._fetch = fetch
        self._name = name
        self._keys: tuple[Key, ...] = ()
        self._fetched_s: int | None = None
        self._attempted_s: int | None = None
        self._failed = False
        self._task: asyncio.Task[None] | None = None

    @property
    def problem(self) -> str | None:
        """That the last fetch failed, if it did."""
        return f"the keys of issuer {self._name} cannot be fetched" if self._failed else None

    async def find(self, kid: str | None, algorithm: str, now_s: int) -> Key:
        """The key of that name for that algorithm. Without a name, the only one that fits.

        Raises Unauthenticated when the issuer has no such key, Unavailable when that cannot be known.
        """
        key = self._match(kid, algorithm, now_s)
        if key is not None:
            if now_s >= self.fresh_until_s():
                self._refresh(now_s)
            return key
        task = self._refresh(now_s)
        if task is not None:
            # Shielded: a caller that goes away must not end the fetch the others wait for.
            await asyncio.shield(task)
            key = self._match(kid, algorithm, now_s)
        if key is not None:
            return key
        if self._failed or self._fetched_s is None:
            raise Unavailable(f"The keys of issuer {self._name} cannot be fetched", retry_after_s=COOL_DOWN_S)
        raise Unauthenticated("The token is signed by an unknown key")

    def fresh_until_s(self) -> int:
        """Unix time at which the keys are due to be fetched again."""
        return 0 if self._fetched_s is None else self._fetched_s + SOFT_TTL_S

    async def close(self) -> None:
        """End a fetch that is under way."""
        if self._task is not None:
            self._task.cancel()
            await asyncio.gather(self._task, return_exceptions=True)

    def _match(self, kid: str | None, algorithm: str, now_s: int) -> Key | None:
        if self._fetched_s is None or now_s >= self._fetched_s + STALE_S:
            return None
        fitting = [key for key in self._keys if algorithm in key.algorithms]
        if kid is not None:
            fitting = [key for key in fitting if key.kid == kid]
        elif len(fitting) != 1:
            return None
        return fitting[0] if fitting else None

    def _refresh(self, now_s: int) -> asyncio.Task[None] | None:
        """The fetch under way, or a new one; None while it is too early for one."""
        if self._task is not None and not self._task.done():
            return self._task
        # A clock that was set back must not stop fetches until it has caught up.
        if self._attempted_s is not None and 0 <= now_s - self._attempted_s < COOL_DOWN_S:
            return None
        self._attempted_s = now_s
        self._task = asyncio.create_task(self._update(now_s), name=f"keys of {self._name}")
        return self._task

    async def _update(self, now_s: int) -> None:
        try:
            async with asyncio.timeout(FETCH_TIMEOUT_S):
                keys = await self._fetch()
        except (Unavailable, TimeoutError) as exc:
            self._failed = True
            log.warning("the keys of issuer %s cannot be fetched: %s", self._name, exc or "timeout")
            return
        self._failed = False
        self._fetched_s = now_s
        if not {key.digest for key in self._keys} <= {key.digest for key in keys}:
            self.generation += 1
        self._keys = keys


async def fetch_document(client: httpx.AsyncClient, url: str) -> dict[str, Any]:
    """The JSON object at that URL, at most 1 MiB, no redirects. Raises Unavailable for anything else."""
    body = bytearray()
    try:
        async with client.stream(
            "GET",
            url,
            headers={"accept": "application/json"},
            timeout=FETCH_TIMEOUT_S,
            follow_redirects=False,
        ) as response:
            if response.status_code != 200:
                raise Unavailable(f"{url} answered {response.status_code}")
            async for chunk in response.aiter_bytes():
                body += chunk
                if len(body) > MAX_DOCUMENT_BYTES:
                    raise Unavailable(f"{url} answered with more than {MAX_DOCUMENT_BYTES} bytes")
    except (httpx.HTTPError, httpx.InvalidURL) as exc:
        raise Unavailable(f"{url} cannot be reached ({type(exc).__name__})") from exc
    try:
        document = json.loads(bytes(body))
    except (ValueError, RecursionError) as exc:
        raise Unavailable(f"{url} did not answer with JSON") from exc
    if not isinstance(document, dict):
        raise Unavailable(f"{url} did not answer with a JSON object")
    return document


def parse_jwks(document: dict[str, Any]) -> tuple[Key, ...]:
    """The usable keys of a JWK set (RFC 7517 5): unknown and unfit ones are left out, as it asks.

    Raises Unavailable when it is no key set, or has more than 100 keys.
    """
    entries = document.get("keys")
    if not isinstance(entries, list) or len(entries) > MAX_KEYS:
        raise Unavailable(f"The issuer's key set is none, or has more than {MAX_KEYS} keys")
    return parse_keys(entries)


def parse_keys(entries: Iterable[Any]) -> tuple[Key, ...]:
    """The usable ones of these JWKs."""
    return tuple(key for key in map(_parse_key, entries) if key is not None)


def _parse_key(jwk: Any) -> Key | None:
    if (
        not isinstance(jwk, dict)
        or jwk.get("kty") not in ("RSA", "EC", "OKP")
        or jwk.get("use", "sig") != "sig"
    ):
        return None
    operations = jwk.get("key_ops", ["verify"])
    kid = jwk.get("kid")
    if not isinstance(operations, list) or "verify" not in operations or not isinstance(kid, str | None):
        return None
    try:
        loaded = PyJWK({name: value for name, value in jwk.items() if name != "alg"}).key
    except (PyJWTError, ValueError, TypeError, KeyError):
        return None
    public = loaded if isinstance(loaded, PublicKey) else None
    algorithms = _algorithms(public)
    if "alg" in jwk:
        stated = "EdDSA" if jwk["alg"] == "Ed25519" else jwk["alg"]
        algorithms &= {stated} if isinstance(stated, str) else set()
    if public is None or not algorithms:
        return None
    encoded = public.public_bytes(Encoding.DER, PublicFormat.SubjectPublicKeyInfo)
    return Key(kid, algorithms, public, hashlib.sha256(f"{kid}".encode() + b"\0" + encoded).digest())


def _algorithms(key: PublicKey | None) -> frozenset[str]:
    """What a key of this kind may verify; none for one that is too weak."""
    if isinstance(key, rsa.RSAPublicKey):
        return RSA_ALGORITHMS if key.key_size >= MIN_RSA_BITS else frozenset()
    if isinstance(key, ed25519.Ed25519PublicKey):
        return frozenset({"EdDSA"})
    curves = {"secp256r1": "P-256", "secp384r1": "P-384", "secp521r1": "P-521"}
    name = curves.get(key.curve.name) if key is not None else None
    return frozenset({EC_ALGORITHMS[name]}) if name is not None else frozenset()
