"""Claims of real products' shapes, and what becomes of them."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest

from proxy.errors import Unauthenticated
from proxy.identity.claims import accepted_audience, find, names_in, principal
from proxy.identity.config import ClaimNames, IdentityConfig, IntrospectionConfig, IssuerConfig, LocalConfig
from tests.identity.support import NOW_S, House

# The claims of access tokens as these products make them, ids replaced.
KEYCLOAK_USER = {
    "exp": NOW_S + 300,
    "iat": NOW_S,
    "auth_time": NOW_S,
    "jti": "onrtac:5b2c7a9e-0000-4000-8000-000000000001",
    "iss": "https://sso.example.org/realms/media",
    "aud": ["tams", "account"],
    "sub": "6b1f2f2e-0000-4000-8000-000000000002",
    "typ": "Bearer",
    "azp": "cutting-room",
    "sid": "d7e0a1f3-0000-4000-8000-000000000003",
    "acr": "1",
    "allowed-origins": ["https://cut.example.org"],
    "realm_access": {"roles": ["default-roles-media", "editor"]},
    "resource_access": {"tams": {"roles": ["ingest"]}, "account": {"roles": ["view-profile"]}},
    "scope": "openid profile tams-api/read tams-api/write",
    "email_verified": True,
    "groups": ["/news", "/sport/live desk, late"],
    "preferred_username": "alice",
}
KEYCLOAK_CLIENT = {
    "exp": NOW_S + 300,
    "iat": NOW_S,
    "jti": "trrtcc:5b2c7a9e-0000-4000-8000-000000000004",
    "iss": "https://sso.example.org/realms/media",
    "aud": ["tams", "account"],
    "sub": "0c9d2a55-0000-4000-8000-000000000005",
    "typ": "Bearer",
    "azp": "ingest-robot",
    "acr": "1",
    "realm_access": {"roles": ["default-roles-media"]},
    "scope": "profile email tams-api/write",
    "clientHost": "192.0.2.7",
    "clientAddress": "192.0.2.7",
    "client_id": "ingest-robot",
    "preferred_username": "service-account-ingest-robot",
}
COGNITO_USER = {
    "sub": "aaaaaaaa-bbbb-cccc-dddd-eeeeeeeeeeee",
    "cognito:groups": ["news"],
    "iss": "https://cognito-idp.eu-west-1.amazonaws.com/eu-west-1_Example",
    "version": 2,
    "client_id": "1example23456789",
    "origin_jti": "aaaaaaaa-bbbb-cccc-dddd-eeeeeeeeeee1",
    "event_id": "aaaaaaaa-bbbb-cccc-dddd-eeeeeeeeeee2",
    "token_use": "access",
    "scope": "openid tams-api/read",
    "auth_time": NOW_S,
    "exp": NOW_S + 3600,
    "iat": NOW_S,
    "jti": "aaaaaaaa-bbbb-cccc-dddd-eeeeeeeeeee3",
    "username": "alice",
}
COGNITO_CLIENT = {
    "sub": "1example23456789",
    "token_use": "access",
    "scope": "tams-api/read tams-api/write",
    "auth_time": NOW_S,
    "iss": "https://cognito-idp.eu-west-1.amazonaws.com/eu-west-1_Example",
    "exp": NOW_S + 3600,
    "iat": NOW_S,
    "version": 2,
    "jti": "aaaaaaaa-bbbb-cccc-dddd-eeeeeeeeeee4",
    "client_id": "1example23456789",
}
COGNITO_ID = {
    "sub": "aaaaaaaa-bbbb-cccc-dddd-eeeeeeeeeeee",
    "cognito:groups": ["news"],
    "iss": "https://cognito-idp.eu-west-1.amazonaws.com/eu-west-1_Example",
    "aud": "1example23456789",
    "token_use": "id",
    "exp": NOW_S + 3600,
    "iat": NOW_S,
}
ENTRA_USER = {
    "aud": "11111111-1111-1111-1111-111111111111",
    "iss": "https://login.microsoftonline.com/22222222-2222-2222-2222-222222222222/v2.0",
    "iat": NOW_S,
    "nbf": NOW_S,
    "exp": NOW_S + 4000,
    "aio": "AXQAi/8TAAAA",
    "azp": "33333333-3333-3333-3333-333333333333",
    "azpacr": "0",
    "groups": ["44444444-4444-4444-4444-444444444444"],
    "oid": "55555555-5555-5555-5555-555555555555",
    "preferred_username": "alice@example.org",
    "rh": "0.AAAA",
    "scp": "tams.read tams.write",
    "sub": "pairwise-subject",
    "tid": "22222222-2222-2222-2222-222222222222",
    "uti": "AAAA",
    "ver": "2.0",
}
ENTRA_OVERAGE = {
    **{name: value for name, value in ENTRA_USER.items() if name != "groups"},
    "_claim_names": {"groups": "src1"},
    "_claim_sources": {"src1": {"endpoint": "https://graph.windows.net/x/users/y/getMemberObjects"}},
}
ENTRA_CLIENT = {
    "aud": "11111111-1111-1111-1111-111111111111",
    "iss": "https://login.microsoftonline.com/22222222-2222-2222-2222-222222222222/v2.0",
    "iat": NOW_S,
    "nbf": NOW_S,
    "exp": NOW_S + 4000,
    "azp": "66666666-6666-6666-6666-666666666666",
    "azpacr": "1",
    "oid": "77777777-7777-7777-7777-777777777777",
    "roles": ["tams.read"],
    "sub": "77777777-7777-7777-7777-777777777777",
    "tid": "22222222-2222-2222-2222-222222222222",
    "ver": "2.0",
}
ENTRA_ID = {
    **{name: value for name, value in ENTRA_USER.items() if name not in ("scp", "azp", "azpacr")},
    "nonce": "n",
}
AUTH0_USER = {
    "iss": "https://example.eu.auth0.com/",
    "sub": "auth0|5f7c8ec7c33c6c004bbafe82",
    "aud": ["https://tams.example.org", "https://example.eu.auth0.com/userinfo"],
    "iat": NOW_S,
    "exp": NOW_S + 86400,
    "azp": "my_client_id",
    "scope": "openid profile tams-api/read",
    "https://example.org/groups": ["news"],
    "permissions": ["ingest"],
}
AUTH0_CLIENT = {
    "iss": "https://example.eu.auth0.com/",
    "sub": "my_robot_id@clients",
    "aud": "https://tams.example.org",
    "iat": NOW_S,
    "exp": NOW_S + 86400,
    "azp": "my_robot_id",
    "scope": "tams-api/read",
    "gty": "client-credentials",
}

KEYCLOAK = IssuerConfig("kc", str(KEYCLOAK_USER["iss"]), ("tams",), "keycloak")
COGNITO = IssuerConfig("aws", str(COGNITO_USER["iss"]), ("1example23456789",), "cognito")
ENTRA = IssuerConfig(
    "entra",
    str(ENTRA_USER["iss"]),
    ("11111111-1111-1111-1111-111111111111",),
    "entra",
    groups={"44444444-4444-4444-4444-444444444444": "news"},
    scopes={"tams.read": "tams-api/read", "tams.write": "tams-api/write"},
)
AUTH0 = IssuerConfig("a0", "https://example.eu.auth0.com/", ("https://tams.example.org",), "auth0")


@pytest.mark.parametrize(
    ("claims", "config", "user", "client", "groups", "scopes"),
    [
        (
            KEYCLOAK_USER,
            KEYCLOAK,
            "user:kc/6b1f2f2e-0000-4000-8000-000000000002",
            "cutting-room",
            {"kc/news", "kc/sport/live%20desk%2C%20late"},
            {"tams-api/read", "tams-api/write"},
        ),
        (KEYCLOAK_CLIENT, KEYCLOAK, "user:kc/ingest-robot", "ingest-robot", set(), {"tams-api/write"}),
        (
            COGNITO_USER,
            COGNITO,
            "user:aws/aaaaaaaa-bbbb-cccc-dddd-eeeeeeeeeeee",
            "1example23456789",
            {"aws/news"},
            {"tams-api/read"},
        ),
        (
            COGNITO_CLIENT,
            COGNITO,
            "user:aws/1example23456789",
            "1example23456789",
            set(),
            {"tams-api/read", "tams-api/write"},
        ),
        (
            ENTRA_USER,
            ENTRA,
            "user:entra/55555555-5555-5555-5555-555555555555",
            "33333333-3333-3333-3333-333333333333",
            {"news"},
            {"tams-api/read", "tams-api/write"},
        ),
        (
            ENTRA_CLIENT,
            ENTRA,
            "user:entra/66666666-6666-6666-6666-666666666666",
            "66666666-6666-6666-6666-666666666666",
            set(),
            {"tams-api/read"},
        ),
        (
            AUTH0_USER,
            AUTH0,
            "user:a0/auth0%7C5f7c8ec7c33c6c004bbafe82",
            "my_client_id",
            {"a0/ingest"},
            {"tams-api/read"},
        ),
        (AUTH0_CLIENT, AUTH0, "user:a0/my_robot_id", "my_robot_id", set(), {"tams-api/read"}),
    ],
    ids=[
        "kc user",
        "kc client",
        "aws user",
        "aws client",
        "entra user",
        "entra client",
        "a0 user",
        "a0 client",
    ],
)
def test_a_products_token_names_its_caller(
    claims: dict[str, Any], config: IssuerConfig, user: str, client: str, groups: set[str], scopes: set[str]
) -> None:
    assert config.problems() == []
    assert accepted_audience(claims, config)
    caller = principal(claims, config, NOW_S + 300)
    assert (caller.user, caller.client) == (user, client)
    assert (caller.groups, caller.scopes) == (groups, scopes)


@pytest.mark.parametrize(
    ("claims", "config"),
    [
        ({**KEYCLOAK_USER, "typ": "ID"}, KEYCLOAK),
        ({**KEYCLOAK_USER, "typ": "Refresh"}, KEYCLOAK),
        (COGNITO_ID, COGNITO),
        (ENTRA_ID, ENTRA),
        (ENTRA_OVERAGE, ENTRA),
        ({**ENTRA_USER, "hasgroups": True}, ENTRA),
        ({**AUTH0_USER, "at_hash": "x"}, AUTH0),
        ({**AUTH0_USER, "azp": ["a"]}, AUTH0),
        ({**AUTH0_USER, "sub": "é" * 200}, AUTH0),
    ],
)
def test_tokens_that_are_no_access_tokens_or_leave_groups_out(
    claims: dict[str, Any], config: IssuerConfig
) -> None:
    with pytest.raises(Unauthenticated):
        principal(claims, config, NOW_S + 300)


def test_another_client_of_the_same_cognito_pool_is_another_audience() -> None:
    assert not accepted_audience({**COGNITO_USER, "client_id": "other"}, COGNITO)
    assert not accepted_audience({**COGNITO_USER, "client_id": None}, COGNITO)


def test_a_user_cannot_name_itself_like_a_service_account() -> None:
    claims = {**KEYCLOAK_USER, "preferred_username": "service-account-ingest-robot"}
    assert principal(claims, KEYCLOAK, NOW_S).subject == KEYCLOAK_USER["sub"]


@pytest.mark.parametrize(
    ("names", "groups"),
    [
        (ClaimNames(groups=("realm_access.roles",)), {"kc/default-roles-media", "kc/editor"}),
        (ClaimNames(groups=("resource_access.tams.roles",)), {"kc/ingest"}),
        (ClaimNames(groups=("groups", "resource_access.tams.roles")), {"kc/ingest", "kc/news"}),
        (
            ClaimNames(groups=("scope",)),
            {"kc/openid", "kc/profile", "kc/tams-api/read", "kc/tams-api/write"},
        ),
        (ClaimNames(groups=("absent.roles",)), set()),
    ],
)
def test_groups_come_from_paths_roles_and_scopes(names: ClaimNames, groups: set[str]) -> None:
    claims = {**KEYCLOAK_USER, "groups": ["/news"]}
    assert principal(claims, replace(KEYCLOAK, claims=names), NOW_S).groups == groups


def test_attack_5_a_group_with_commas_and_spaces_is_one_group() -> None:
    config = IssuerConfig("idp", "https://idp.example.org", ("a",))
    claims = {"sub": "x", "groups": ["news,sport", "news sport", "a/b", "*", "news#member"]}
    assert principal(claims, config, NOW_S).groups == {
        "idp/news%2Csport",
        "idp/news%20sport",
        "idp/a/b",
        "idp/%2A",
        "idp/news%23member",
    }
    assert principal({"sub": "x", "groups": "news sport"}, config, NOW_S).groups == {"idp/news%20sport"}


def test_attack_6_mapped_groups_match_exactly_and_others_are_dropped() -> None:
    config = IssuerConfig("kc", "https://x", ("a",), "keycloak", groups={"/news": "news", "admins": "admin"})
    claims = {"typ": "Bearer", "sub": "x", "groups": ["/news", "/admins", "admins2", "xadmins", "ADMINS"]}
    assert principal(claims, config, NOW_S).groups == {"news"}


def test_attack_6_an_admin_scope_counts_only_for_issuers_so_configured() -> None:
    config = IssuerConfig("idp", "https://idp.example.org", ("a",))
    claims = {"sub": "x", "scope": "tams-api/admin"}
    assert not principal(claims, config, NOW_S).scope_admin
    assert principal(claims, replace(config, scope_admin=True), NOW_S).scope_admin


def test_no_scopes_is_none_only_where_the_issuer_carries_none() -> None:
    config = IssuerConfig("idp", "https://idp.example.org", ("a",))
    without = replace(config, carries_scopes=False)
    assert principal({"sub": "x"}, config, NOW_S).scopes == frozenset()
    assert principal({"sub": "x", "scope": "openid"}, without, NOW_S).scopes is None
    assert principal({"sub": "x", "scope": "tams-api/read"}, without, NOW_S).scopes == {"tams-api/read"}


def test_tokens_like_id_tokens_count_where_the_issuer_makes_no_others() -> None:
    config = IssuerConfig("dex", "https://dex.example.org", ("a",), accept_id_tokens=True)
    assert principal({"sub": "x", "at_hash": "y"}, config, NOW_S).subject == "x"


@pytest.mark.parametrize(
    ("path", "value"),
    [("a.b", 1), ("c.d", 2), ("c.e.f", 3), ("g.h.i", 4), ("c.x", None), ("a", None), ("https://x.y/z", 5)],
)
def test_find_prefers_the_whole_name_and_then_walks(path: str, value: Any) -> None:
    claims = {
        "a.b": 1,
        "c": {"d": 2, "e": {"f": 3}},
        "g.h": {"i": 4},
        "https://x.y/z": 5,
    }
    assert find(claims, path) == value


@pytest.mark.parametrize("value", [5, {"a": 1}, [None], [""], ["a\n"], ["x" * 257], [["a"]]])
def test_names_that_are_none_refuse_the_token(value: Any) -> None:
    with pytest.raises(Unauthenticated):
        names_in(value)


def test_every_problem_of_a_configuration_is_named(house: House) -> None:
    local = LocalConfig("https://x", "a", house.data, house.data, house.data, alias="one")
    config = IdentityConfig(
        issuers=(
            IssuerConfig("one", "idp.example.org", ("a",), algorithms=("HS256",), leeway_s=61),
            IssuerConfig("a/b", "https://x", preset="cognito"),
            IssuerConfig("a0", "https://example.auth0.com", ("a",), "auth0"),
            IssuerConfig("ok", "https://y", introspection=IntrospectionConfig("id", "canary")),
        ),
        local=local,
    )
    problems = "\n".join(config.problems())
    for part in (
        "http(s)",
        "HS256",
        "leeway_s",
        "letters",
        "client ids",
        "ends in /",
        "'one'",
        "'https://x'",
    ):
        assert part in problems
    assert "'ok'" not in problems and "canary" not in repr(config)
    assert IdentityConfig(allow_basic=True).problems() == ["Basic authentication needs the built-in clients"]


@pytest.mark.parametrize(
    ("issuer", "keys", "told"),
    [
        ("https://idp.example.org", None, []),
        ("http://127.0.0.1:8080/realms/tams", None, []),
        ("http://localhost:8080", "http://[::1]/keys", []),
        ("http://idp.example.org", None, ["http://idp.example.org"]),
        ("http://idp.example.org", "https://idp.example.org/keys", []),
        ("https://idp.example.org", "http://idp/keys", ["http://idp/keys"]),
        ("http://[", None, ["http://["]),
    ],
)
def test_keys_over_plain_http_of_other_hosts_are_told(issuer: str, keys: str | None, told: list[str]) -> None:
    assert IssuerConfig("idp", issuer, ("a",), jwks_url=keys).plain_urls() == told
