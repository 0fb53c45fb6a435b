"""JSON Web Tokens: verified by PyJWT against the keys of the issuer they name (RFC 7519, RFC 8725)."""

from __future__ import annotations

import hashlib
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Any, Protocol

import jwt

from proxy.errors import Unauthenticated
from proxy.identity import claims as claim
from proxy.identity.config import IssuerConfig
from proxy.identity.keys import COOL_DOWN_S, Key, KeySet
from proxy.identity.principal import Principal
from proxy.recent import Recent

MAX_TOKEN_BYTES = 16 * 1024
MAX_CACHED = 20_000
# Header members that bring or point to a key: trusting them would let a token vouch for itself.
KEY_BEARING = frozenset({"jwk", "jku", "x5u", "x5c"})
# Times and audience are checked below: PyJWT has a clock of its own, and Cognito's tokens have no audience.
OPTIONS: jwt.types.Options = {
    "verify_exp": False,
    "verify_nbf": False,
    "verify_iat": False,
    "verify_aud": False,
    "require": ["exp", "iss"],
}


class TrustedIssuer(Protocol):
    """An issuer whose tokens are believed: a remote one, or the one built in."""

    @property
    def config(self) -> IssuerConfig:
        """What is accepted from it."""
        ...

    def generation(self, now_s: int) -> int:
        """Grows when a token that was verified might be refused now: a key gone, a client changed."""
        ...

    def fresh_until_s(self) -> int:
        """Unix time until which its keys need not be looked at again."""
        ...

    async def key(self, kid: str | None, algorithm: str, now_s: int) -> Key:
        """As `KeySet.find`."""
        ...

    def principal(self, claims: Mapping[str, Any], expires_s: int, now_s: int) -> Principal:
        """Who these verified claims speak of. Raises Unauthenticated."""
        ...


class RemoteIssuer:
    """A configured issuer elsewhere."""

    def __init__(self, config: IssuerConfig, keys: KeySet) -> None:
        self.config = config
        self.keys = keys

    def generation(self, now_s: int) -> int:
        return self.keys.generation

    def fresh_until_s(self) -> int:
        return self.keys.fresh_until_s()

    async def key(self, kid: str | None, algorithm: str, now_s: int) -> Key:
        return await self.keys.find(kid, algorithm, now_s)

    def principal(self, claims: Mapping[str, Any], expires_s: int, now_s: int) -> Principal:
        return claim.principal(claims, self.config, expires_s)


@dataclass(frozen=True, slots=True)
class _Verified:
    principal: Principal
    until_s: int
    issuer: TrustedIssuer
    generation: int


class TokenVerifier:
    """Verifies tokens of several issuers, and remembers the verified ones (bounded, by digest).

    What is remembered is believed until the token expires, the issuer's generation grows, or the issuer's
    keys are due to be looked at: a key that is withdrawn is noticed even when only known tokens come.
    """

    def __init__(self, issuers: Iterable[TrustedIssuer], *, max_cached: int = MAX_CACHED) -> None:
        self._issuers = {issuer.config.issuer: issuer for issuer in issuers}
        self._verified: Recent[bytes, _Verified] = Recent(max_cached)

    def cached(self, token: str, now_s: int) -> Principal | None:
        """The principal of a token that was verified and still counts; None: verify it."""
        entry = self._verified.get(_digest(token))
        if entry is None or now_s >= entry.until_s or entry.issuer.generation(now_s) != entry.generation:
            return None
        return entry.principal

    async def verify(self, token: str, now_s: int) -> Principal:
        """The principal of the token. Raises Unauthenticated, or Unavailable without the issuer's keys."""
        header, unverified = _decode_unverified(token)
        issuer = self._issuer(unverified)
        algorithm, kid = check_header(header, issuer.config)
        generation = issuer.generation(now_s)
        key = await issuer.key(kid, algorithm, now_s)
        claims = _verify_signature(token, key, algorithm, issuer.config)
        expires_s = check_times(claims, issuer.config, now_s)
        if not claim.accepted_audience(claims, issuer.config):
            raise Unauthenticated("The token is for another audience")
        principal = issuer.principal(claims, expires_s, now_s)
        # During an outage the keys stay due; a token is then verified anew once per cool-down.
        until_s = min(expires_s, max(issuer.fresh_until_s(), now_s + COOL_DOWN_S))
        self._verified[_digest(token)] = _Verified(principal, until_s, issuer, generation)
        return principal

    def _issuer(self, unverified: Mapping[str, Any]) -> TrustedIssuer:
        name = unverified.get("iss")
        issuer = self._issuers.get(name) if isinstance(name, str) else None
        if issuer is None:
            raise Unauthenticated("The token is of no issuer that is trusted here")
        return issuer


def looks_like_jwt(token: str) -> bool:
    """Whether the token has the three parts of a signed JWT, the first a JSON object in base64url."""
    return token.count(".") == 2 and token.startswith("ey")


def check_header(header: Mapping[str, Any], config: IssuerConfig) -> tuple[str, str | None]:
    """The algorithm and the key's name. Raises Unauthenticated for a header that is not acceptable."""
    algorithm, kid, kind = header.get("alg"), header.get("kid"), header.get("typ")
    if not isinstance(algorithm, str) or algorithm not in config.algorithms:
        raise Unauthenticated("The token's algorithm is not accepted")
    if not isinstance(kid, str | None):
        raise Unauthenticated("The token names its key in a wrong way")
    if "crit" in header:
        raise Unauthenticated("The token has critical extensions, which are not supported")
    if not KEY_BEARING.isdisjoint(header):
        raise Unauthenticated("The token brings its own key")
    if kind is not None:
        plain = kind.lower().removeprefix("application/") if isinstance(kind, str) else None
        if plain not in config.types:
            raise Unauthenticated("The token is of another type")
    return algorithm, kid


def check_times(claims: Mapping[str, Any], config: IssuerConfig, now_s: int) -> int:
    """The token's `exp`, which has no leeway, after `nbf` and `iat` with it. Raises Unauthenticated."""
    expires_s = _numeric_date(claims, "exp")
    if expires_s is None or expires_s <= now_s:
        raise Unauthenticated("The token has expired")
    for name in ("nbf", "iat"):
        since_s = _numeric_date(claims, name)
        if since_s is not None and since_s > now_s + config.leeway_s:
            raise Unauthenticated("The token is not valid yet")
    return expires_s


def _numeric_date(claims: Mapping[str, Any], name: str) -> int | None:
    value = claims.get(name)
    if value is None:
        return None
    if isinstance(value, bool) or not isinstance(value, int | float) or not 0 <= value < 1 << 53:
        raise Unauthenticated(f"The token's {name} is not a time")
    return int(value)


def _decode_unverified(token: str) -> tuple[dict[str, Any], dict[str, Any]]:
    if len(token) > MAX_TOKEN_BYTES:
        raise Unauthenticated("The token is too long")
    try:
        parts = jwt.decode_complete(token, options={"verify_signature": False})
    except (jwt.PyJWTError, ValueError, RecursionError) as exc:
        raise Unauthenticated("The token is not a JWT") from exc
    return parts["header"], parts["payload"]


def _verify_signature(token: str, key: Key, algorithm: str, config: IssuerConfig) -> dict[str, Any]:
    try:
        return jwt.decode(
            token, key=key.public, algorithms=[algorithm], issuer=config.issuer, options=OPTIONS
        )
    except (jwt.PyJWTError, ValueError, TypeError) as exc:
        raise Unauthenticated("The token's signature or claims are not valid") from exc


def _digest(token: str) -> bytes:
    return hashlib.sha256(token.encode("utf-8", "surrogatepass")).digest()
