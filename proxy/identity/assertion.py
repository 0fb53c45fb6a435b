"""private_key_jwt: a client proves itself by a JWT that it signed (RFC 7523, OpenID Connect Core 9)."""

from __future__ import annotations

import jwt
from cachetools import LRUCache

from proxy.errors import TooManyRequests, Unauthenticated
from proxy.identity.clients import Client
from proxy.identity.config import LocalConfig
from proxy.identity.jwt import KEY_BEARING, MAX_TOKEN_BYTES, OPTIONS

ASSERTION_TYPE = "urn:ietf:params:oauth:client-assertion-type:jwt-bearer"
MAX_LIFE_S = 600
MAX_USED = 10_000
WRONG = "The client assertion is not valid"


class Assertions:
    """Verifies assertions for the token endpoint; each counts once."""

    def __init__(self, config: LocalConfig) -> None:
        self._issuer = config.issuer
        self._audiences = [config.issuer, config.issuer + "/token"]
        self._used: LRUCache[tuple[str, str], int] = LRUCache(MAX_USED)

    def client_id(self, assertion: str) -> str:
        """The client that the assertion names, not verified. Raises Unauthenticated."""
        if len(assertion) > MAX_TOKEN_BYTES:
            raise Unauthenticated(WRONG)
        try:
            parts = jwt.decode_complete(assertion, options={"verify_signature": False})
        except (jwt.PyJWTError, ValueError, RecursionError) as exc:
            raise Unauthenticated(WRONG) from exc
        name = parts["payload"].get("sub")
        if (
            not isinstance(name, str)
            or "crit" in parts["header"]
            or not KEY_BEARING.isdisjoint(parts["header"])
        ):
            raise Unauthenticated(WRONG)
        return name

    def verify(self, assertion: str, client: Client, now_s: int) -> None:
        """Raises Unauthenticated unless one of the client's keys signed it, for us, for now, and once."""
        header = jwt.get_unverified_header(assertion)
        for key in client.keys:
            if header.get("alg") not in key.algorithms or header.get("kid") not in (None, key.kid):
                continue
            try:
                claims = jwt.decode(
                    assertion,
                    key=key.public,
                    algorithms=[header["alg"]],
                    issuer=client.id,
                    subject=client.id,
                    audience=self._audiences,
                    options={**OPTIONS, "verify_aud": True, "require": ["exp", "iss", "sub", "aud", "jti"]},
                )
            except (jwt.PyJWTError, ValueError, TypeError):
                continue
            return self._spend(client.id, claims["exp"], claims["jti"], now_s)
        raise Unauthenticated(WRONG)

    def _spend(self, client_id: str, expires_s: object, assertion_id: object, now_s: int) -> None:
        if isinstance(expires_s, bool) or not isinstance(expires_s, int) or not isinstance(assertion_id, str):
            raise Unauthenticated(WRONG)
        if not now_s < expires_s <= now_s + MAX_LIFE_S or len(assertion_id) > MAX_TOKEN_BYTES:
            raise Unauthenticated(WRONG)
        key = (client_id, assertion_id)
        if self._used.get(key, 0) > now_s:
            raise Unauthenticated(WRONG)
        if len(self._used) >= MAX_USED:
            self._forget(now_s)
        self._used[key] = expires_s

    def _forget(self, now_s: int) -> None:
        for key in [key for key, until_s in self._used.items() if until_s <= now_s]:
            del self._used[key]
        if len(self._used) >= MAX_USED:
            # To forget one that is still valid would let it be replayed.
            raise TooManyRequests("Too many client assertions", retry_after_s=60)
