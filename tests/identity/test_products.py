"""Signed tokens of Keycloak, Cognito, Entra and Auth0, as they come: header, key set, metadata and claims.

Nothing but alias, issuer, audience and preset is set, as in the README. The documents are scripted: the
products cannot be run here.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Any

import httpx
import pytest
import respx

from proxy.errors import Unauthenticated
from proxy.identity.authenticate import create
from proxy.identity.config import IdentityConfig, IssuerConfig
from proxy.identity.credentials import Credential
from tests.identity.support import NOW_S
from tests.identity.test_claims import (
    AUTH0,
    AUTH0_CLIENT,
    AUTH0_USER,
    COGNITO,
    COGNITO_CLIENT,
    COGNITO_ID,
    COGNITO_USER,
    ENTRA,
    ENTRA_CLIENT,
    ENTRA_OVERAGE,
    ENTRA_USER,
    KEYCLOAK,
    KEYCLOAK_CLIENT,
    KEYCLOAK_USER,
)
from tests.identity.tokens import Pair, rsa_pair

SIGNING, OTHER = rsa_pair("signing-key"), rsa_pair("other-key")


@dataclass(frozen=True)
class Product:
    """`published`: what a JWK has beside kty, n, e and kid; `header`: what a token has beside alg and kid."""

    config: IssuerConfig
    jwks_url: str
    published: dict[str, Any]
    header: dict[str, Any]
    unfit: tuple[dict[str, Any], ...] = ()

    def publish(self, *pairs: Pair) -> None:
        """Script the metadata and the key set."""
        base = self.config.issuer.rstrip("/")
        metadata = {"issuer": self.config.issuer, "jwks_uri": self.jwks_url}
        respx.get(f"{base}/.well-known/openid-configuration").respond(json=metadata)
        keys = [{**pair.public_jwk(), **self.published} for pair in pairs]
        respx.get(self.jwks_url).respond(json={"keys": [*keys, *self.unfit]})


X5 = {"x5t": "AbCdEfGhIjKlMnOpQrStUvWxYz0", "x5c": ["MIIC...shortened"], "use": "sig"}
PRODUCTS = {
    "keycloak": Product(
        KEYCLOAK,
        f"{KEYCLOAK.issuer}/protocol/openid-connect/certs",
        {**X5, "alg": "RS256", "x5t#S256": "x"},
        {"typ": "JWT"},
        # A realm publishes its key for encryption beside.
        ({**OTHER.public_jwk(), **X5, "kid": "enc", "use": "enc", "alg": "RSA-OAEP"},),
    ),
    "cognito": Product(
        COGNITO, f"{COGNITO.issuer}/.well-known/jwks.json", {"alg": "RS256", "use": "sig"}, {"typ": None}
    ),
    "entra": Product(
        ENTRA,
        "https://login.microsoftonline.com/22222222-2222-2222-2222-222222222222/discovery/v2.0/keys",
        {**X5, "cloud_instance_name": "microsoftonline.com", "issuer": ENTRA.issuer},
        {"typ": "JWT"},
    ),
    "auth0": Product(
        AUTH0,
        "https://example.eu.auth0.com/.well-known/jwks.json",
        {**X5, "alg": "RS256"},
        {"typ": "JWT"},
    ),
    "auth0, RFC 9068": Product(
        AUTH0,
        "https://example.eu.auth0.com/.well-known/jwks.json",
        {**X5, "alg": "RS256"},
        {"typ": "at+jwt"},
    ),
}


async def called(
    product: Product, claims: dict[str, Any], client: httpx.AsyncClient, by: Pair = SIGNING
) -> str:
    """Who a signed token of these claims is."""
    product.publish(SIGNING)
    made = create(IdentityConfig(issuers=(product.config,)), client)
    try:
        token = Credential("bearer", by.sign(claims, **product.header))
        return (await made.authenticate(token, "", NOW_S)).user
    finally:
        await made.close()


@pytest.mark.parametrize(
    ("name", "claims", "user"),
    [
        ("keycloak", KEYCLOAK_USER, f"user:kc/{KEYCLOAK_USER['sub']}"),
        ("keycloak", KEYCLOAK_CLIENT, "user:kc/ingest-robot"),
        ("cognito", COGNITO_USER, f"user:aws/{COGNITO_USER['sub']}"),
        ("cognito", COGNITO_CLIENT, "user:aws/1example23456789"),
        ("entra", ENTRA_USER, f"user:entra/{ENTRA_USER['oid']}"),
        ("entra", ENTRA_CLIENT, "user:entra/66666666-6666-6666-6666-666666666666"),
        ("auth0", AUTH0_USER, "user:a0/auth0%7C5f7c8ec7c33c6c004bbafe82"),
        ("auth0", AUTH0_CLIENT, "user:a0/my_robot_id"),
        ("auth0, RFC 9068", AUTH0_USER, "user:a0/auth0%7C5f7c8ec7c33c6c004bbafe82"),
    ],
)
@respx.mock
async def test_a_signed_token_is_its_caller(
    name: str, claims: dict[str, Any], user: str, client: httpx.AsyncClient
) -> None:
    assert await called(PRODUCTS[name], claims, client) == user


FOREIGN = {"iss": "https://login.microsoftonline.com/99999999-9999-9999-9999-999999999999/v2.0"}


@pytest.mark.parametrize(
    ("name", "claims", "by"),
    [
        ("keycloak", {**KEYCLOAK_USER, "aud": "account"}, SIGNING),
        ("keycloak", KEYCLOAK_USER, replace(OTHER, kid="enc")),
        ("keycloak", KEYCLOAK_USER, replace(OTHER, kid="signing-key")),
        ("cognito", {**COGNITO_USER, "client_id": "other-client"}, SIGNING),
        ("cognito", COGNITO_ID, SIGNING),
        ("entra", ENTRA_OVERAGE, SIGNING),
        ("entra", ENTRA_USER | FOREIGN, SIGNING),
        ("auth0", {**AUTH0_USER, "iss": "https://example.eu.auth0.com"}, SIGNING),
        ("auth0", {**AUTH0_USER, "exp": NOW_S}, SIGNING),
    ],
    ids=[
        "keycloak for another client",
        "keycloak signed by the key for encryption",
        "keycloak signed by a stranger",
        "cognito for another client",
        "cognito id token",
        "entra without its groups",
        "entra of another tenant",
        "auth0 without the slash",
        "auth0 out of date",
    ],
)
@respx.mock
async def test_others_are_refused(
    name: str, claims: dict[str, Any], by: Pair, client: httpx.AsyncClient
) -> None:
    with pytest.raises(Unauthenticated):
        await called(PRODUCTS[name], claims, client, by)
