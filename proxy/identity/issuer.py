"""The built-in issuer, for machines without an identity provider: what it grants, signs and publishes."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass
from functools import lru_cache
from typing import Any
from uuid import UUID

import jwt

from proxy.errors import Unauthenticated
from proxy.identity.clients import SCOPES, Client, Clients
from proxy.identity.config import IssuerConfig, LocalConfig
from proxy.identity.files import Watched
from proxy.identity.fronts import Network
from proxy.identity.keyring import Keyring, SigningKey
from proxy.identity.keys import Key, parse_keys
from proxy.identity.principal import Principal

TOKEN_PATH = "/token"
JWKS_PATH = "/.well-known/jwks.json"
METADATA_PATH = "/.well-known/oauth-authorization-server"
OIDC_PATH = "/.well-known/openid-configuration"
RESOURCE_PATH = "/.well-known/oauth-protected-resource"
ALGORITHM = "ES256"


class PlainJson(json.JSONEncoder):
    """JSON whose base64url form has no `-` and `_`, so that clients that decode it as plain base64 can.

    In ASCII only `>`, `?`, `~` and DEL lead to those two letters.
    """

    def encode(self, o: Any) -> str:
        text = super().encode(o)
        for character in ">?~\x7f":
            text = text.replace(character, f"\\u{ord(character):04x}")
        return text


@dataclass(frozen=True, slots=True)
class Granted:
    """An access token and what it is good for."""

    access_token: str
    expires_in_s: int
    scopes: frozenset[str]

    def body(self) -> dict[str, Any]:
        """The answer of RFC 6749 5.1."""
        return {
            "access_token": self.access_token,
            "token_type": "bearer",
            "expires_in": self.expires_in_s,
            "scope": " ".join(sorted(self.scopes)),
        }


def granted_scopes(requested: str | None, held: frozenset[str]) -> frozenset[str]:
    """All that the client holds when it names none (or an empty one, RFC 6749 3.2), else the intersection.

    Empty when nothing is left: that is `invalid_scope`.
    """
    named = frozenset((requested or "").split(" ")) - {""}
    return held & named if named else held


def sign(
    client: Client, scopes: frozenset[str], key: SigningKey, config: LocalConfig, now_s: int, token_id: UUID
) -> Granted:
    """A JWT access token (RFC 9068) for the client."""
    claims = {
        "iss": config.issuer,
        "sub": client.id,
        "client_id": client.id,
        "aud": config.audience,
        "iat": now_s,
        "exp": now_s + config.token_ttl_s,
        "jti": str(token_id),
        "scope": " ".join(sorted(scopes)),
    }
    headers = {"kid": key.kid, "typ": "at+jwt"}
    token = jwt.encode(claims, key.private, algorithm=ALGORITHM, headers=headers, json_encoder=PlainJson)
    return Granted(token, config.token_ttl_s, scopes)


class LocalIssuer:
    """The built-in issuer as one that is trusted: its tokens are verified without HTTP.

    A token counts as long as its client exists, and for no more scopes than the client still has; groups
    are those of the policy files now, not those of the time it was made. `fronts`: as of `IdentityConfig`.
    """

    def __init__(
        self,
        config: LocalConfig,
        clients: Clients,
        keyring: Watched[Keyring | None],
        fronts: tuple[Network, ...] = (),
    ) -> None:
        self.local = config
        self.fronts = fronts
        self.clients = clients
        self._keyring = keyring
        self._counted_s = self._counted = 0
        self.config = IssuerConfig(
            alias=config.alias,
            issuer=config.issuer,
            audiences=(config.audience,),
            algorithms=(ALGORITHM,),
            types=("at+jwt",),
            scope_admin=True,
        )

    def generation(self, now_s: int) -> int:
        """As `TrustedIssuer.generation`. The files it comes of are looked at once a second."""
        if now_s != self._counted_s:
            self._keyring.current(now_s)
            self._counted = self._keyring.generation + self.clients.generation(now_s)
            self._counted_s = now_s
        return self._counted

    def fresh_until_s(self) -> int:
        """Always: changes show in the generation."""
        return 1 << 53

    def signing_keys(self, now_s: int) -> tuple[SigningKey, ...]:
        """Newest first; empty without a keyring."""
        keyring = self._keyring.current(now_s)
        return keyring.signing if keyring is not None else ()

    async def key(self, kid: str | None, algorithm: str, now_s: int) -> Key:
        """As `TrustedIssuer.key`."""
        for signing in self.signing_keys(now_s):
            if signing.kid == kid:
                return _public(signing)
        raise Unauthenticated("The token is signed by an unknown key")

    def principal(self, claims: Mapping[str, Any], expires_s: int, now_s: int) -> Principal:
        """As `TrustedIssuer.principal`."""
        subject, scope = claims.get("sub"), claims.get("scope")
        client = self.clients.find(subject, now_s) if isinstance(subject, str) else None
        if client is None or not isinstance(scope, str):
            raise Unauthenticated("The token's client does not exist")
        return principal_of(client, self.local.alias, expires_s, scopes=frozenset(scope.split(" ")))

    def jwks(self, now_s: int) -> dict[str, Any]:
        """The public key set (RFC 7517)."""
        return {"keys": [key.public_jwk() for key in self.signing_keys(now_s)]}


def principal_of(
    client: Client, alias: str, expires_s: int, *, scopes: frozenset[str] | None = None
) -> Principal:
    """A built-in client as the caller, with no more than the given scopes."""
    return Principal(
        issuer=alias,
        subject=client.id,
        client=client.id,
        groups=client.groups,
        scopes=client.scopes if scopes is None else client.scopes & scopes,
        scope_admin=True,
        expires_s=expires_s,
    )


def server_metadata(config: LocalConfig) -> dict[str, Any]:
    """RFC 8414, and the same as OpenID Connect discovery for clients that look there."""
    return {
        "issuer": config.issuer,
        "token_endpoint": config.issuer + TOKEN_PATH,
        "jwks_uri": config.issuer + JWKS_PATH,
        "grant_types_supported": ["client_credentials", "password"],
        # There is no authorization endpoint; validators refuse the empty list that would say so.
        "response_types_supported": ["none"],
        "scopes_supported": sorted(SCOPES),
        "token_endpoint_auth_methods_supported": [
            "client_secret_basic",
            "client_secret_post",
            "private_key_jwt",
        ],
        "token_endpoint_auth_signing_alg_values_supported": ["ES256", "EdDSA", "PS256", "RS256"],
    }


def resource_metadata(resource: str, issuers: tuple[str, ...], *, url_token: bool) -> dict[str, Any]:
    """RFC 9728: which issuers' tokens this resource takes, and how."""
    return {
        "resource": resource,
        "authorization_servers": list(issuers),
        "scopes_supported": sorted(SCOPES),
        "bearer_methods_supported": ["header", "query"] if url_token else ["header"],
        "resource_name": "TAMS",
    }


@lru_cache(maxsize=8)
def _public(signing: SigningKey) -> Key:
    return parse_keys([signing.public_jwk()])[0]
