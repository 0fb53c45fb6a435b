"""Whatever is sent, identity answers with an error of the package, and tells no secret."""

from __future__ import annotations

import asyncio
import json
import logging
import tempfile
from pathlib import Path
from uuid import UUID

import httpx
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from proxy.errors import Error, Unauthenticated
from proxy.identity.authenticate import Authenticator, create
from proxy.identity.claims import principal
from proxy.identity.config import CertificateConfig, IdentityConfig, IssuerConfig, LocalConfig
from proxy.identity.credentials import Credential, parse_credential, without_url_token
from proxy.identity.endpoint import TokenError, parse_form
from proxy.identity.issuer import sign
from proxy.identity.keyring import Keyring
from proxy.identity.keys import parse_keys
from proxy.identity.principal import READ
from tests.identity.support import CLIENTS, NOW_S, House
from tests.identity.tokens import ec_pair, ed_pair, rsa_pair

CONFIG = IdentityConfig(allow_basic=True, allow_url_token=True, api_key_header="x-api-key")
JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(), inner, max_size=3),
    max_leaves=10,
)
CLAIM = st.sampled_from(
    ["sub", "client_id", "azp", "groups", "scope", "scp", "typ", "token_use", "oid", "roles", "_claim_names"]
)


HEADER = st.tuples(st.sampled_from([b"authorization", b"x-api-key"]), st.binary())


@given(st.lists(HEADER, max_size=2), st.binary())
def test_any_header_and_query(headers: list[tuple[bytes, bytes]], query: bytes) -> None:
    try:
        found = parse_credential(headers, query, CONFIG)
    except Error:
        return
    assert found is None or headers or b"=" in query


@given(st.binary())
def test_stripping_is_idempotent_and_leaves_no_token(query: bytes) -> None:
    left = without_url_token(query)
    assert without_url_token(left) == left
    assert parse_credential([], left, CONFIG) is None


@given(st.dictionaries(CLAIM, JSON), st.sampled_from(["generic", "keycloak", "cognito", "entra", "auth0"]))
def test_any_claims(claims: dict[str, object], preset: str) -> None:
    config = IssuerConfig("idp", "https://idp.example.org", ("a",), preset)  # type: ignore[arg-type]
    try:
        caller = principal(claims, config, NOW_S)
    except Unauthenticated:
        return
    assert all(group.startswith("idp/") for group in caller.groups)
    assert not set(caller.user.removeprefix("user:")) & set(" :#@*")


@given(st.binary(), st.sampled_from(["application/x-www-form-urlencoded", "text/plain", ""]))
def test_any_form(body: bytes, content_type: str) -> None:
    try:
        form = parse_form(content_type, body)
    except TokenError as exc:
        assert exc.status == 400
    else:
        assert all(form.values())


JWKS = [pair.public_jwk() for pair in (rsa_pair("k"), ec_pair("k"), ed_pair("k"))]
MEMBERS = st.sampled_from(["kty", "crv", "n", "e", "x", "y", "alg", "use", "key_ops"])


@given(st.sampled_from(JWKS), MEMBERS, JSON)
def test_any_key_set(jwk: dict[str, object], member: str, value: object) -> None:
    keys = parse_keys([jwk, {**jwk, member: value}, value])
    assert keys[0].kid == "k" and len(keys) <= 2


@pytest.fixture(scope="module")
def standing() -> tuple[Authenticator, str]:
    folder = Path(tempfile.mkdtemp())
    (folder / "clients.yaml").write_text(CLIENTS)
    keyring = Keyring.create(folder / "keyring.json", NOW_S)
    local = LocalConfig(
        "https://t", "https://t", folder / "clients.yaml", folder / "secrets.json", folder / "keyring.json"
    )
    config = IdentityConfig(local=local, allow_basic=True, certificates=CertificateConfig())
    made = create(config, httpx.AsyncClient())
    assert made.local is not None
    client = made.local.clients.find("viewer", NOW_S)
    assert client is not None
    granted = sign(client, frozenset({READ}), keyring.signing[0], local, NOW_S, UUID(int=1))
    return made, granted.access_token


@settings(max_examples=200)
@given(st.data())
def test_a_changed_token_is_never_somebody(standing: tuple[Authenticator, str], data: st.DataObject) -> None:
    made, token = standing
    # The last letter of a signature has bits that mean nothing.
    place = data.draw(st.integers(0, len(token) - 2))
    letter = data.draw(st.characters(codec="ascii"))
    changed = token[:place] + letter + token[place + 1 :]
    if changed == token:
        return
    with pytest.raises(Unauthenticated):
        asyncio.run(made.authenticate(Credential("bearer", changed), "", NOW_S))


@settings(max_examples=200)
@given(st.sampled_from(["bearer", "basic", "certificate"]), st.text())
def test_any_credential(standing: tuple[Authenticator, str], kind: str, value: str) -> None:
    made, _ = standing
    with pytest.raises(Error):
        asyncio.run(made.authenticate(Credential(kind, value), value[:3], NOW_S))  # type: ignore[arg-type]


async def test_attack_20_no_secret_in_logs_and_errors(
    house: House, authenticator: Authenticator, caplog: pytest.LogCaptureFixture
) -> None:
    canary = "canary-5f1d"
    caplog.set_level(logging.DEBUG)
    told: list[str] = []
    for path in ("keyring.json", "secrets.json", "keys.json"):
        (house.data / path).write_text(json.dumps([canary]))
    for kind, value in [
        ("bearer", canary),
        ("bearer", f"ey{canary}.e30.{canary}"),
        ("basic", "dmlld2VyOmNhbmFyeS01ZjFk"),
        ("basic", canary),
        ("certificate", canary),
    ]:
        with pytest.raises(Error) as refused:
            await authenticator.authenticate(Credential(kind, value), "", NOW_S + 1)  # type: ignore[arg-type]
        told.append(f"{refused.value!r} {refused.value.summary}")
    assert "keeping the last good version" in caplog.text
    assert canary not in caplog.text + "".join(told)
