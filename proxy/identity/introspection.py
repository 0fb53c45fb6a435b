"""Opaque tokens of an issuer: it is asked what they are worth (RFC 7662)."""

from __future__ import annotations

import asyncio
import hashlib
from collections.abc import Awaitable, Callable, Mapping
from typing import Any
from urllib.parse import quote_plus

import httpx
from cachetools import LRUCache

from proxy.errors import Unauthenticated, Unavailable
from proxy.identity import claims as claim
from proxy.identity.config import IntrospectionConfig, IssuerConfig
from proxy.identity.flight import Flights
from proxy.identity.jwt import check_times
from proxy.identity.principal import Principal

CACHE_S = 10
MAX_CACHED = 10_000
MAX_CONCURRENT = 16
MAX_WAITING = 1_000
TIMEOUT_S = 5

Answer = Mapping[str, Any]


class Introspection:
    """Asks one issuer about opaque tokens. An answer counts for 10 s, and never past the token's `exp`;
    one question at a time for one token."""

    def __init__(self, config: IssuerConfig, ask: Callable[[str], Awaitable[Answer]]) -> None:
        self._config = config
        self._ask = ask
        self._known: LRUCache[bytes, tuple[Principal | None, int]] = LRUCache(MAX_CACHED)
        self._flights: Flights[Principal | None] = Flights(MAX_WAITING)
        self._places = asyncio.Semaphore(MAX_CONCURRENT)

    def cached(self, token: str, now_s: int) -> Principal | None:
        """The principal of a token that was asked about within 10 s."""
        entry = self._known.get(_digest(token))
        principal, since_s = entry if entry is not None else (None, 0)
        if principal is None or not 0 <= now_s - since_s < CACHE_S or now_s >= principal.expires_s:
            return None
        return principal

    async def principal(self, token: str, now_s: int) -> Principal | None:
        """Who the token speaks of; None when the issuer does not know it as active.

        Raises Unauthenticated when its answer is not acceptable here, Unavailable without an answer.
        """
        digest = _digest(token)
        entry = self._known.get(digest)
        if entry is not None and 0 <= now_s - entry[1] < CACHE_S:
            known = entry[0]
            return known if known is None or now_s < known.expires_s else None
        return await self._flights.join(digest, lambda: self._look_up(token, digest, now_s))

    async def _look_up(self, token: str, digest: bytes, now_s: int) -> Principal | None:
        async with self._places:
            answer = await self._ask(token)
        # What is refused is remembered too, so that it is not asked about at every request.
        self._known[digest] = (None, now_s)
        principal = read_answer(answer, self._config, now_s)
        self._known[digest] = (principal, now_s)
        return principal


def read_answer(answer: Answer, config: IssuerConfig, now_s: int) -> Principal | None:
    """The principal of an introspection answer (RFC 7662 2.2), None when the token is not active.

    Members that RFC 7662 leaves optional are checked when they are there; an answer without `exp` counts
    for as long as it is remembered. Raises Unauthenticated.
    """
    if answer.get("active") is not True:
        return None
    if answer.get("iss", config.issuer) != config.issuer:
        raise Unauthenticated("The token is of another issuer")
    if config.audiences and not claim.accepted_audience(answer, config):
        raise Unauthenticated("The token is for another audience")
    bounded = {"exp": now_s + CACHE_S, **{name: value for name, value in answer.items() if value is not None}}
    return claim.principal(answer, config, check_times(bounded, config, now_s))


def over_http(
    config: IntrospectionConfig, client: httpx.AsyncClient, find_url: Callable[[], Awaitable[str]]
) -> Callable[[str], Awaitable[Answer]]:
    """The question over HTTP, authenticated by Basic with both parts encoded (RFC 6749 2.3.1)."""
    auth = httpx.BasicAuth(quote_plus(config.client_id), quote_plus(config.client_secret))

    async def ask(token: str) -> Answer:
        url = await find_url()
        try:
            response = await client.post(
                url,
                data={"token": token, "token_type_hint": "access_token"},
                headers={"accept": "application/json"},
                auth=auth,
                timeout=TIMEOUT_S,
                follow_redirects=False,
            )
            answer = response.json() if response.status_code == 200 else None
        except (httpx.HTTPError, httpx.InvalidURL, ValueError, RecursionError) as exc:
            raise Unavailable("The issuer cannot be asked about the token", retry_after_s=5) from exc
        if not isinstance(answer, dict):
            raise Unavailable("The issuer cannot be asked about the token", retry_after_s=5)
        return answer

    return ask


def _digest(token: str) -> bytes:
    return hashlib.sha256(token.encode()).digest()
