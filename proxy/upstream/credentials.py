"""The proxy's own credentials towards an upstream; never those of a caller."""

from __future__ import annotations

import base64
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Protocol

import httpx

from proxy.errors import BadUpstream, Unavailable
from proxy.identity.flight import Flights

EARLY_S = 60
DEFAULT_TTL_S = 300
MOST_TOKEN_BYTES = 64 * 1024


@dataclass(frozen=True, slots=True)
class Proof:
    """What goes along with a request: the value of an Authorization header, or a query parameter."""

    authorization: str | None = field(default=None, repr=False)
    access_token: str | None = field(default=None, repr=False)


class Credential(Protocol):
    """Where proofs come from."""

    async def proof(self) -> Proof:
        """One to use now. Raises `errors.Unavailable` or `errors.BadUpstream` when none can be had."""
        ...

    def refused(self, proof: Proof) -> bool:
        """The upstream answered 401 to a proof; True when asking anew may give a better one."""
        ...


class Fixed:
    """A proof that does not change: HTTP Basic, a URL token, or none at all."""

    def __init__(self, proof: Proof) -> None:
        self._proof = proof

    async def proof(self) -> Proof:
        """The proof."""
        return self._proof

    def refused(self, proof: Proof) -> bool:
        """Nothing better is to be had."""
        return False


def basic(user: str, password: str) -> Fixed:
    """HTTP Basic (RFC 7617)."""
    return Fixed(Proof("Basic " + base64.b64encode(f"{user}:{password}".encode()).decode()))


class ClientCredentials:
    """OAuth 2.0 client credentials (RFC 6749 4.4): fetched once, renewed early, shared by all requests.

    `clock` gives monotonic seconds; `http` follows no redirects.
    """

    # Authlib's asynchronous client (1.9) does without a warning only on httpx2, a second HTTP stack for one
    # POST; and when it fails to renew, it does not go on with a token that still counts.
    def __init__(
        self,
        http: httpx.AsyncClient,
        token_url: str,
        client: tuple[str, str],
        scope: str | None,
        clock: Callable[[], float],
        *,
        audience: str | None = None,
    ) -> None:
        self._http = http
        self._token_url = token_url
        self._client = client
        wanted = {"scope": scope, "audience": audience}
        self._form = {"grant_type": "client_credentials"} | {k: v for k, v in wanted.items() if v}
        self._clock = clock
        self._flights: Flights[Proof] = Flights(1)
        self._kept: Proof | None = None
        self._renew_at_s = 0.0
        self._ends_at_s = 0.0

    async def proof(self) -> Proof:
        """The current token, or a new one."""
        now_s = self._clock()
        if self._kept is not None and now_s < self._renew_at_s:
            return self._kept
        try:
            return await self._flights.join(b"", self._fetch)
        except (Unavailable, BadUpstream):
            if self._kept is not None and now_s < self._ends_at_s:
                return self._kept
            raise

    def refused(self, proof: Proof) -> bool:
        """Forget a token that the upstream does not take any more."""
        if self._kept is proof:
            self._kept = None
        return True

    async def _fetch(self) -> Proof:
        try:
            answer = await self._http.post(self._token_url, data=self._form, auth=self._client)
        except httpx.HTTPError as exc:
            raise Unavailable("The upstream's token endpoint cannot be reached.") from exc
        if answer.status_code >= 500 or answer.status_code == 429:
            raise Unavailable("The upstream's token endpoint is not available.")
        if answer.status_code != 200 or len(answer.content) > MOST_TOKEN_BYTES:
            raise BadUpstream("The upstream's token endpoint refuses the proxy's client.")
        token, ttl_s = _read(answer)
        now_s = self._clock()
        self._kept = Proof(f"Bearer {token}")
        self._ends_at_s = now_s + ttl_s
        self._renew_at_s = now_s + max(ttl_s - EARLY_S, ttl_s / 2)
        return self._kept


def _read(answer: httpx.Response) -> tuple[str, float]:
    """The token and for how many seconds it lives (RFC 6749 5.1)."""
    try:
        said = answer.json()
        token, kind = said["access_token"], said.get("token_type", "bearer")
        ttl_s = float(said.get("expires_in", DEFAULT_TTL_S))
    except (ValueError, KeyError, TypeError, AttributeError):
        raise BadUpstream("The upstream's token endpoint answers with no token.") from None
    usable = isinstance(token, str) and token.isascii() and token.isprintable() and " " not in token
    if not usable or not token or str(kind).lower() != "bearer" or not ttl_s > 0:
        raise BadUpstream("The upstream's token endpoint answers with no bearer token.")
    return token, ttl_s
