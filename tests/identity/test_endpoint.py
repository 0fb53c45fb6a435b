"""The token endpoint over ASGI, as the clients of the field call it."""

from __future__ import annotations

import base64
import json
from collections.abc import AsyncIterator
from typing import Any
from uuid import uuid4

import httpx
import jwt
import pytest
from authlib.oauth2.rfc8414 import AuthorizationServerMetadata
from cryptography.hazmat.primitives.asymmetric import ec
from jwt.algorithms import ECAlgorithm
from starlette.applications import Starlette

from proxy.errors import Unauthenticated
from proxy.identity.assertion import ASSERTION_TYPE
from proxy.identity.authenticate import Authenticator
from proxy.identity.credentials import Credential
from proxy.identity.endpoint import resource_route, routes
from proxy.identity.issuer import PlainJson, granted_scopes, resource_metadata
from proxy.identity.keyring import rotate
from proxy.identity.principal import ADMIN, DELETE, READ, WRITE
from proxy.identity.secrets import StoredSecret, add_secret, hash_chosen, remove_secrets
from tests.identity.support import NOW_S, House


class Clock:
    def __init__(self) -> None:
        self.now_s = NOW_S

    def __call__(self) -> int:
        return self.now_s


@pytest.fixture
def clock() -> Clock:
    return Clock()


@pytest.fixture
async def http(authenticator: Authenticator, clock: Clock) -> AsyncIterator[httpx.AsyncClient]:
    assert authenticator.local is not None
    document = resource_metadata("https://tams.example.org", ("https://tams.example.org",), url_token=True)
    app = Starlette(routes=[*routes(authenticator.local, clock=clock), resource_route(document)])
    transport = httpx.ASGITransport(app, client=("192.0.2.1", 1234))
    async with httpx.AsyncClient(transport=transport, base_url="http://local") as session:
        yield session


async def grant(http: httpx.AsyncClient, auth: tuple[str, str] | None = None, **form: str) -> httpx.Response:
    return await http.post("/token", data=form, auth=auth)


async def test_the_form_of_the_bbc_clients_gets_a_token(
    http: httpx.AsyncClient, house: House, authenticator: Authenticator
) -> None:
    answer = await grant(
        http,
        ("newsroom", house.secrets["newsroom"]),
        grant_type="client_credentials",
        scope=f"{READ} {WRITE} {DELETE}",
    )
    assert answer.status_code == 200
    body = answer.json()
    assert body["expires_in"] == 3600 and body["token_type"] == "bearer"
    assert answer.headers["cache-control"] == "no-store"
    caller = await authenticator.authenticate(Credential("bearer", body["access_token"]), "", NOW_S)
    assert caller.user == "user:local/newsroom"
    assert caller.groups == {"news"} and caller.scopes == {READ, WRITE, DELETE}
    assert caller.scope_admin and caller.expires_s == NOW_S + 3600


async def test_secret_in_the_body_and_password_grant_without_grant_type(
    http: httpx.AsyncClient, house: House
) -> None:
    secret = house.secrets["viewer"]
    in_body = await grant(http, grant_type="client_credentials", client_id="viewer", client_secret=secret)
    password = await grant(http, username="viewer", password=secret)
    assert in_body.json()["scope"] == password.json()["scope"] == READ


@pytest.mark.parametrize(
    ("form", "status", "error"),
    [
        ({"grant_type": "client_credentials"}, 401, "invalid_client"),
        (
            {"grant_type": "client_credentials", "client_id": "viewer", "client_secret": "x"},
            401,
            "invalid_client",
        ),
        (
            {"grant_type": "client_credentials", "client_id": "nobody", "client_secret": "x"},
            401,
            "invalid_client",
        ),
        ({"grant_type": "password", "username": "viewer", "password": "wrong"}, 400, "invalid_grant"),
        ({"grant_type": "password", "username": "viewer", "password": "viewer"}, 400, "invalid_grant"),
        ({"grant_type": "password", "username": "viewer"}, 400, "invalid_request"),
        ({"grant_type": "authorization_code", "code": "x"}, 400, "unsupported_grant_type"),
        ({"scope": READ}, 400, "invalid_request"),
    ],
)
async def test_refusals_carry_error_and_detail(
    http: httpx.AsyncClient, form: dict[str, str], status: int, error: str
) -> None:
    answer = await http.post("/token", data=form)
    assert answer.status_code == status
    assert answer.json()["error"] == error and answer.json()["detail"]
    assert ("www-authenticate" in answer.headers) == (status == 401)


@pytest.mark.parametrize(
    ("content_type", "body"),
    [
        ("application/json", b"{}"),
        ("application/x-www-form-urlencoded", b"grant_type=password&grant_type=password"),
        ("application/x-www-form-urlencoded", b"grant_type=%ff"),
        ("application/x-www-form-urlencoded", b"grant_type=\xff"),
        ("application/x-www-form-urlencoded", b"&".join(b"a%d=1" % n for n in range(60))),
    ],
)
async def test_a_form_that_cannot_be_read_is_invalid_request(
    http: httpx.AsyncClient, content_type: str, body: bytes
) -> None:
    answer = await http.post("/token", content=body, headers={"content-type": content_type})
    assert (answer.status_code, answer.json()["error"]) == (400, "invalid_request")


async def test_a_long_form_is_413(http: httpx.AsyncClient) -> None:
    answer = await http.post("/token", data={"scope": "x" * 70_000})
    assert answer.status_code == 413


async def test_two_client_authentications_are_refused(http: httpx.AsyncClient, house: House) -> None:
    secret = house.secrets["viewer"]
    answer = await grant(
        http, ("viewer", secret), grant_type="client_credentials", client_id="viewer", client_secret=secret
    )
    assert (answer.status_code, answer.json()["error"]) == (400, "invalid_request")


@pytest.mark.parametrize(
    ("client_id", "answered"), [("viewer", (200, None)), ("newsroom", (400, "invalid_request"))]
)
@pytest.mark.parametrize("kind", ["client_credentials", "password"])
async def test_a_client_id_beside_basic_is_that_of_basic(
    http: httpx.AsyncClient, house: House, client_id: str, answered: tuple[int, str | None], kind: str
) -> None:
    secret = house.secrets["viewer"]
    user = {"username": "newsroom", "password": house.secrets["newsroom"]} if kind == "password" else {}
    answer = await grant(http, ("viewer", secret), grant_type=kind, client_id=client_id, **user)
    assert (answer.status_code, answer.json().get("error")) == answered


@pytest.mark.parametrize(
    ("requested", "granted"),
    [
        (None, {READ, WRITE}),
        ("", {READ, WRITE}),
        (READ, {READ}),
        (f"{READ} {ADMIN}", {READ}),
        (ADMIN, set()),
        ("tams-api/rea", set()),
        (f"{READ},{WRITE}", set()),
    ],
)
def test_scopes_are_the_intersection(requested: str | None, granted: set[str]) -> None:
    assert granted_scopes(requested, frozenset({READ, WRITE})) == granted


async def test_no_scope_left_is_invalid_scope(http: httpx.AsyncClient, house: House) -> None:
    answer = await grant(
        http, ("viewer", house.secrets["viewer"]), grant_type="client_credentials", scope=ADMIN
    )
    assert (answer.status_code, answer.json()["error"]) == (400, "invalid_scope")


async def test_failures_are_throttled_until_the_window_ends(
    http: httpx.AsyncClient, house: House, clock: Clock
) -> None:
    right = {"username": "viewer", "password": house.secrets["viewer"]}
    for _ in range(10):
        assert (await grant(http, username="viewer", password="guess")).status_code == 400
    throttled = await grant(http, **right)
    assert throttled.status_code == 429
    assert throttled.headers["retry-after"] == "60"
    assert (await grant(http, username="newsroom", password=house.secrets["newsroom"])).status_code == 200
    clock.now_s += 60
    assert (await grant(http, **right)).status_code == 200


async def test_a_chosen_password_is_checked_by_argon2(http: httpx.AsyncClient, house: House) -> None:
    password = "correct horse%20battery+"
    add_secret(house.data / "secrets.json", "viewer", hash_chosen("viewer", password), NOW_S)
    assert (await grant(http, ("viewer", password), grant_type="client_credentials")).status_code == 200
    old = await grant(http, ("viewer", house.secrets["viewer"]), grant_type="client_credentials")
    assert old.status_code == 401


async def test_a_removed_secret_stops_to_count_though_it_was_proven(
    http: httpx.AsyncClient, house: House, clock: Clock
) -> None:
    auth = ("viewer", house.secrets["viewer"])
    assert (await grant(http, auth, grant_type="client_credentials")).status_code == 200
    assert remove_secrets(house.data / "secrets.json", "viewer")
    clock.now_s += 1
    assert (await grant(http, auth, grant_type="client_credentials")).status_code == 401


async def test_old_and_new_secret_overlap_when_asked_for(
    http: httpx.AsyncClient, house: House, clock: Clock
) -> None:
    auth = ("viewer", house.secrets["viewer"])
    fresh = StoredSecret("sha256:" + "0" * 64, NOW_S)
    add_secret(house.data / "secrets.json", "viewer", fresh.hash, NOW_S, overlap_s=30)
    assert (await grant(http, auth, grant_type="client_credentials")).status_code == 200
    clock.now_s += 30
    assert (await grant(http, auth, grant_type="client_credentials")).status_code == 401


class TestPrivateKeyJwt:
    @pytest.fixture
    def key(self, house: House) -> ec.EllipticCurvePrivateKey:
        key = ec.generate_private_key(ec.SECP256R1())
        jwk = {**ECAlgorithm.to_jwk(key.public_key(), as_dict=True), "kid": "k1"}
        entry = f"clients:\n  robot:\n    scopes: [{READ}]\n    keys: [{json.dumps(jwk)}]\n"
        path = house.policies / "clients.yaml"
        path.write_text(path.read_text().replace("clients:\n", entry))
        return key

    def form(self, key: ec.EllipticCurvePrivateKey, **changes: Any) -> dict[str, str]:
        claims = {
            "iss": "robot",
            "sub": "robot",
            "aud": "https://tams.example.org/token",
            "exp": NOW_S + 60,
            "jti": str(uuid4()),
        } | changes
        claims = {name: value for name, value in claims.items() if value is not None}
        return {
            "grant_type": "client_credentials",
            "client_assertion_type": ASSERTION_TYPE,
            "client_assertion": jwt.encode(claims, key, algorithm="ES256", headers={"kid": "k1"}),
        }

    async def test_it_counts_once(self, key: ec.EllipticCurvePrivateKey, http: httpx.AsyncClient) -> None:
        form = self.form(key)
        assert (await http.post("/token", data=form)).status_code == 200
        assert (await http.post("/token", data=form)).status_code == 401

    @pytest.mark.parametrize(
        "changes",
        [
            {"aud": "https://elsewhere.example.org"},
            {"exp": NOW_S - 1},
            {"exp": NOW_S + 3600},
            {"exp": None},
            {"jti": None},
            {"iss": "viewer"},
            {"sub": "viewer"},
            {"sub": "nobody", "iss": "nobody"},
        ],
    )
    async def test_it_must_be_for_us_and_for_now(
        self, key: ec.EllipticCurvePrivateKey, http: httpx.AsyncClient, changes: dict[str, Any]
    ) -> None:
        assert (await http.post("/token", data=self.form(key, **changes))).status_code == 401

    @pytest.mark.parametrize(
        "changes",
        [
            {"client_assertion": "x" * 20_000},
            {"client_assertion": "not.a.jwt"},
            {"client_assertion": jwt.encode({"sub": 5}, "k" * 32, algorithm="HS256")},
            {"client_assertion": jwt.encode({"sub": "robot", "iss": "robot"}, "k" * 32, algorithm="HS256")},
            {"client_id": "viewer"},
        ],
        ids=range(5),
    )
    async def test_an_assertion_that_is_none_is_refused(
        self, key: ec.EllipticCurvePrivateKey, http: httpx.AsyncClient, changes: dict[str, str]
    ) -> None:
        answer = await http.post("/token", data=self.form(key) | changes)
        assert (answer.status_code, answer.json()["error"]) == (401, "invalid_client")

    async def test_an_assertion_may_not_bring_its_key(
        self, key: ec.EllipticCurvePrivateKey, http: httpx.AsyncClient
    ) -> None:
        form = self.form(key)
        own = {"jwk": ECAlgorithm.to_jwk(key.public_key(), as_dict=True)}
        claims = jwt.decode(form["client_assertion"], options={"verify_signature": False})
        form["client_assertion"] = jwt.encode(claims, key, algorithm="ES256", headers=own)
        assert (await http.post("/token", data=form)).status_code == 401

    async def test_another_assertion_type_is_an_invalid_request(
        self, key: ec.EllipticCurvePrivateKey, http: httpx.AsyncClient
    ) -> None:
        form = self.form(key) | {"client_assertion_type": "urn:ietf:params:oauth:x"}
        answer = await http.post("/token", data=form)
        assert (answer.status_code, answer.json()["error"]) == (400, "invalid_request")

    async def test_another_key_is_refused(
        self, key: ec.EllipticCurvePrivateKey, http: httpx.AsyncClient
    ) -> None:
        stranger = ec.generate_private_key(ec.SECP256R1())
        assert (await http.post("/token", data=self.form(stranger))).status_code == 401


async def test_claims_survive_plain_base64(http: httpx.AsyncClient, house: House) -> None:
    answer = await grant(http, username="newsroom", password=house.secrets["newsroom"])
    middle = answer.json()["access_token"].split(".")[1]
    claims = json.loads(base64.b64decode(middle + "=" * (-len(middle) % 4), validate=True))
    assert claims["exp"] == NOW_S + 3600


async def test_without_a_keyring_no_token_is_signed_or_believed(
    http: httpx.AsyncClient, house: House, authenticator: Authenticator, clock: Clock
) -> None:
    form = {"username": "newsroom", "password": house.secrets["newsroom"]}
    token = Credential("bearer", (await grant(http, **form)).json()["access_token"])
    house.local.keyring_path.unlink()
    clock.now_s += 1
    assert (await grant(http, **form)).status_code == 503
    with pytest.raises(Unauthenticated):
        await authenticator.authenticate(token, "", clock.now_s)


async def test_a_removed_client_takes_its_tokens_with_it(
    http: httpx.AsyncClient, house: House, authenticator: Authenticator
) -> None:
    answer = await grant(http, username="newsroom", password=house.secrets["newsroom"])
    token = Credential("bearer", answer.json()["access_token"])
    await authenticator.authenticate(token, "", NOW_S)
    path = house.policies / "clients.yaml"
    path.write_text(path.read_text().replace("newsroom:", "newsdesk:"))
    assert authenticator.cached(token, NOW_S + 1) is None
    with pytest.raises(Unauthenticated):
        await authenticator.authenticate(token, "", NOW_S + 1)


async def test_clients_stay_while_their_folder_is_gone(
    http: httpx.AsyncClient, house: House, authenticator: Authenticator
) -> None:
    answer = await grant(http, username="newsroom", password=house.secrets["newsroom"])
    token = Credential("bearer", answer.json()["access_token"])
    house.policies.rename(house.policies.with_name("away"))
    assert (await authenticator.authenticate(token, "", NOW_S + 1)).subject == "newsroom"


def test_plain_json_has_no_character_of_the_url_alphabet() -> None:
    text = PlainJson(separators=(",", ":")).encode({"sub": "a>b?c~d\x7fé" * 7})
    assert not {"-", "_"} & set(base64.urlsafe_b64encode(text.encode()).decode())
    assert json.loads(text)["sub"].startswith("a>b?c~d\x7fé")


async def test_metadata_is_valid_and_names_the_key_set(http: httpx.AsyncClient) -> None:
    for path in ("/.well-known/oauth-authorization-server", "/.well-known/openid-configuration"):
        metadata = AuthorizationServerMetadata((await http.get(path)).json())
        metadata.validate()
    keys = (await http.get("/.well-known/jwks.json")).json()["keys"]
    assert [set(key) for key in keys] == [{"kty", "crv", "x", "y", "kid", "use", "alg"}]
    resource = (await http.get("/.well-known/oauth-protected-resource")).json()
    assert resource["authorization_servers"] == ["https://tams.example.org"]


async def test_tokens_of_the_previous_signing_key_count_until_the_next_rotation(
    http: httpx.AsyncClient, house: House, authenticator: Authenticator
) -> None:
    answer = await grant(http, username="newsroom", password=house.secrets["newsroom"])
    token = Credential("bearer", answer.json()["access_token"])
    rotate(house.local.keyring_path, "signing", NOW_S)
    await authenticator.authenticate(token, "", NOW_S + 1)
    assert authenticator.cached(token, NOW_S + 1) is not None
    rotate(house.local.keyring_path, "signing", NOW_S)
    assert authenticator.cached(token, NOW_S + 2) is None


async def test_a_policy_change_is_seen_through_the_cache(
    http: httpx.AsyncClient, house: House, authenticator: Authenticator
) -> None:
    answer = await grant(http, username="newsroom", password=house.secrets["newsroom"])
    token = Credential("bearer", answer.json()["access_token"])
    before = await authenticator.authenticate(token, "", NOW_S)
    path = house.policies / "clients.yaml"
    path.write_text(path.read_text().replace("[news]", "[sport]", 1))
    after = await authenticator.authenticate(token, "", NOW_S + 1)
    assert (before.groups, after.groups) == ({"news"}, {"sport"})
