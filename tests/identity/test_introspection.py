"""Opaque tokens: the issuer is asked over HTTP (respx where its answers are scripted)."""

from __future__ import annotations

import asyncio
import base64
from collections.abc import AsyncIterator
from typing import Any

import httpx
import pytest
import respx

from proxy.errors import Unauthenticated, Unavailable
from proxy.identity.authenticate import Authenticator, create
from proxy.identity.config import IdentityConfig, IntrospectionConfig, IssuerConfig
from proxy.identity.credentials import Credential
from proxy.identity.principal import Principal
from tests.identity.support import NOW_S

ISSUER = "https://idp.example.org"
URL = f"{ISSUER}/oauth/introspect"
ACTIVE = {
    "active": True,
    "iss": ISSUER,
    "sub": "alice",
    "client_id": "cutter",
    "aud": ["tams"],
    "scope": "tams-api/read",
    "exp": NOW_S + 5,
    "token_type": "Bearer",
}
TOKEN = Credential("bearer", "ory_at_opaque.token")


@pytest.fixture
async def authenticator(client: httpx.AsyncClient) -> AsyncIterator[Authenticator]:
    asking = IntrospectionConfig("tams proxy", "s:e%c", URL)
    made = create(IdentityConfig(issuers=(IssuerConfig("idp", ISSUER, introspection=asking),)), client)
    yield made
    await made.close()


@respx.mock
async def test_an_active_token_is_its_principal_and_asked_about_once_in_10_s(
    authenticator: Authenticator,
) -> None:
    route = respx.post(URL).respond(json=ACTIVE | {"exp": NOW_S + 60})
    callers = await asyncio.gather(*(authenticator.authenticate(TOKEN, "", NOW_S) for _ in range(10)))
    assert {caller.user for caller in callers} == {"user:idp/alice"}
    assert authenticator.cached(TOKEN, NOW_S + 9) == callers[0]
    assert authenticator.cached(TOKEN, NOW_S + 10) is None
    assert route.call_count == 1
    request = route.calls[0].request
    assert request.content == b"token=ory_at_opaque.token&token_type_hint=access_token"
    sent = base64.b64decode(request.headers["authorization"].removeprefix("Basic ")).decode()
    assert sent == "tams+proxy:s%3Ae%25c"


@respx.mock
async def test_an_answer_never_outlives_the_token(authenticator: Authenticator) -> None:
    respx.post(URL).respond(json=ACTIVE)
    await authenticator.authenticate(TOKEN, "", NOW_S)
    assert authenticator.cached(TOKEN, NOW_S + 4) is not None
    assert authenticator.cached(TOKEN, NOW_S + 5) is None
    with pytest.raises(Unauthenticated):
        await authenticator.authenticate(TOKEN, "", NOW_S + 5)


@respx.mock
async def test_an_inactive_token_is_refused_and_remembered_as_such(authenticator: Authenticator) -> None:
    route = respx.post(URL).respond(json={"active": False})
    for _ in range(3):
        with pytest.raises(Unauthenticated):
            await authenticator.authenticate(TOKEN, "", NOW_S)
    assert route.call_count == 1


@pytest.mark.parametrize(
    "changes",
    [
        {"iss": "https://evil.example.org"},
        {"exp": NOW_S},
        {"nbf": NOW_S + 60},
        {"sub": 5},
        {"active": "true"},
    ],
    ids=str,
)
@respx.mock
async def test_answers_that_do_not_count(authenticator: Authenticator, changes: dict[str, Any]) -> None:
    route = respx.post(URL).respond(json=ACTIVE | changes)
    for _ in range(2):
        with pytest.raises(Unauthenticated):
            await authenticator.authenticate(TOKEN, "", NOW_S)
    assert route.call_count == 1


@pytest.mark.parametrize(
    "response",
    [
        httpx.Response(500),
        httpx.Response(401, json={"error": "invalid_client"}),
        httpx.Response(200, text="<html>"),
        httpx.Response(200, json=[]),
        httpx.Response(307, headers={"location": "https://evil.example.org/"}),
    ],
    ids=lambda response: str(response.status_code),
)
@respx.mock
async def test_without_an_answer_it_is_unavailable_and_never_an_allow(
    authenticator: Authenticator, response: httpx.Response
) -> None:
    respx.post(URL).mock(return_value=response)
    with pytest.raises(Unavailable):
        await authenticator.authenticate(TOKEN, "", NOW_S)
    respx.post(URL).mock(side_effect=httpx.ConnectError)
    with pytest.raises(Unavailable):
        await authenticator.authenticate(TOKEN, "", NOW_S)
    respx.post(URL).respond(json=ACTIVE)
    assert isinstance(await authenticator.authenticate(TOKEN, "", NOW_S), Principal)


@respx.mock
async def test_the_endpoint_is_found_by_discovery(client: httpx.AsyncClient) -> None:
    respx.get(f"{ISSUER}/.well-known/openid-configuration").respond(
        json={"issuer": ISSUER, "introspection_endpoint": URL}
    )
    respx.post(URL).respond(json=ACTIVE)
    asking = IntrospectionConfig("tams", "secret")
    made = create(IdentityConfig(issuers=(IssuerConfig("idp", ISSUER, introspection=asking),)), client)
    assert (await made.authenticate(TOKEN, "", NOW_S)).client == "cutter"


@respx.mock
async def test_an_issuer_that_is_down_does_not_hide_the_one_that_knows(client: httpx.AsyncClient) -> None:
    down = IntrospectionConfig("tams", "secret", "https://down.example.org/introspect")
    asking = IntrospectionConfig("tams", "secret", URL)
    issuers = (
        IssuerConfig("down", "https://down.example.org", introspection=down),
        IssuerConfig("idp", ISSUER, introspection=asking),
    )
    made = create(IdentityConfig(issuers=issuers), client)
    respx.post("https://down.example.org/introspect").mock(side_effect=httpx.ConnectTimeout)
    respx.post(URL).respond(json=ACTIVE)
    assert (await made.authenticate(TOKEN, "", NOW_S)).issuer == "idp"
    respx.post(URL).respond(json={"active": False})
    with pytest.raises(Unavailable):
        await made.authenticate(Credential("bearer", "other"), "", NOW_S)


@respx.mock
async def test_an_audience_that_is_configured_is_asked_for(client: httpx.AsyncClient) -> None:
    respx.post(URL).respond(json=ACTIVE)
    asking = IntrospectionConfig("tams", "secret", URL)
    issuer = IssuerConfig("idp", ISSUER, ("other",), introspection=asking)
    made = create(IdentityConfig(issuers=(issuer,)), client)
    with pytest.raises(Unauthenticated):
        await made.authenticate(TOKEN, "", NOW_S)


@respx.mock
async def test_https_metadata_cannot_send_the_secret_to_a_plain_place(client: httpx.AsyncClient) -> None:
    respx.get(f"{ISSUER}/.well-known/openid-configuration").respond(
        json={"issuer": ISSUER, "introspection_endpoint": "http://idp.example.org/introspect"}
    )
    asking = IntrospectionConfig("tams", "secret")
    made = create(IdentityConfig(issuers=(IssuerConfig("idp", ISSUER, introspection=asking),)), client)
    with pytest.raises(Unavailable):
        await made.authenticate(TOKEN, "", NOW_S)
