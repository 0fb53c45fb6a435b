"""Tokens of a real issuer on loopback, sound and forged. Attacks are numbered as the security design does."""

from __future__ import annotations

import asyncio
import base64
import hashlib
import hmac
import json
import threading
from collections.abc import AsyncIterator
from typing import Any

import httpx
import jwt
import pytest
from cryptography.hazmat.primitives.asymmetric import rsa
from cryptography.hazmat.primitives.serialization import Encoding, PublicFormat

from proxy.errors import Unauthenticated, Unavailable
from proxy.identity.authenticate import Authenticator, create
from proxy.identity.config import IdentityConfig, IssuerConfig
from proxy.identity.credentials import Credential
from proxy.identity.jwt import MAX_TOKEN_BYTES
from tests.identity.support import NOW_S
from tests.identity.tokens import Pair, Provider, ec_pair, ed_pair, provider, rsa_pair

AUDIENCE = "https://tams.example.org"
PAIRS = [
    rsa_pair("rs", "RS256"),
    rsa_pair("ps", "PS512"),
    ec_pair("es"),
    ec_pair("es3", "ES384"),
    ec_pair("es5", "ES512"),
    ed_pair("ed"),
]
RSA, EC = PAIRS[0], PAIRS[2]
WEAK = rsa_pair("weak", bits=1024)


@pytest.fixture
def remote() -> Any:
    with provider() as state:
        state.publish(*PAIRS)
        yield state


def issuer(remote: Provider, **changes: Any) -> IssuerConfig:
    return IssuerConfig(**{"alias": "idp", "issuer": remote.url, "audiences": (AUDIENCE,), **changes})


@pytest.fixture
async def authenticator(remote: Provider, client: httpx.AsyncClient) -> AsyncIterator[Authenticator]:
    made = create(IdentityConfig(issuers=(issuer(remote),)), client)
    yield made
    await made.close()


def claims(remote: Provider, **changes: Any) -> dict[str, Any]:
    sound = {
        "iss": remote.url,
        "sub": "alice",
        "aud": AUDIENCE,
        "exp": NOW_S + 300,
        "iat": NOW_S,
        "scope": "openid tams-api/read",
        "groups": ["news"],
    }
    return {name: value for name, value in (sound | changes).items() if value is not None}


async def verify(authenticator: Authenticator, token: str, now_s: int = NOW_S) -> Any:
    return await authenticator.authenticate(Credential("bearer", token), "", now_s)


@pytest.mark.parametrize("pair", PAIRS, ids=lambda pair: pair.algorithm)
async def test_every_accepted_algorithm_verifies(
    pair: Pair, remote: Provider, authenticator: Authenticator
) -> None:
    caller = await verify(authenticator, pair.sign(claims(remote)))
    assert caller.user == "user:idp/alice"
    assert caller.groups == {"idp/news"} and caller.scopes == {"tams-api/read"}
    assert caller.expires_s == NOW_S + 300 and not caller.scope_admin


@pytest.mark.parametrize("audience", [AUDIENCE, [AUDIENCE], ["account", AUDIENCE]])
async def test_attack_1_valid_audience_as_text_and_as_list(
    audience: Any, remote: Provider, authenticator: Authenticator
) -> None:
    assert (await verify(authenticator, EC.sign(claims(remote, aud=audience)))).subject == "alice"


@pytest.mark.parametrize(
    "changes",
    [
        {"exp": None},
        {"exp": NOW_S},
        {"exp": "soon"},
        {"exp": True},
        {"exp": float("inf")},
        {"exp": -1},
        {"aud": None},
        {"aud": "https://elsewhere.example.org"},
        {"aud": []},
        {"aud": [{"a": AUDIENCE}]},
        {"aud": {AUDIENCE: 1}},
        {"aud": AUDIENCE + "/"},
        {"iss": None},
        {"iss": "https://evil.example.org"},
        {"iss": ["x"]},
        {"nbf": NOW_S + 31},
        {"iat": NOW_S + 31},
        {"nbf": "later"},
        {"sub": None},
        {"sub": ""},
        {"sub": 5},
        {"sub": "a\x00b"},
        {"groups": "a,b\n"},
        {"groups": [1]},
        {"groups": {"news": True}},
        {"at_hash": "x"},
    ],
    ids=str,
)
async def test_attack_1_claims_that_are_missing_foreign_or_malformed(
    changes: dict[str, Any], remote: Provider, authenticator: Authenticator
) -> None:
    with pytest.raises(Unauthenticated) as refused:
        await verify(authenticator, EC.sign(claims(remote, **changes)))
    assert refused.value.code == "invalid_token"


async def test_clock_skew_is_allowed_for_the_start_and_not_for_the_end(
    remote: Provider, authenticator: Authenticator
) -> None:
    ahead = EC.sign(claims(remote, nbf=NOW_S + 30, iat=NOW_S + 30))
    assert (await verify(authenticator, ahead)).subject == "alice"
    with pytest.raises(Unauthenticated):
        await verify(authenticator, ahead, NOW_S + 300)


@pytest.mark.parametrize(
    "header",
    [
        {"crit": ["exp"]},
        {"crit": []},
        {"crit": ["b64"], "b64": False},
        {"jwk": EC.public_jwk()},
        {"jku": "https://evil.example.org/jwks"},
        {"x5u": "https://evil.example.org/x5u"},
        {"x5c": ["MII"]},
        {"typ": "logout+jwt"},
        {"typ": "secevent+jwt"},
    ],
    ids=lambda header: next(iter(header)),
)
async def test_attack_1_headers_that_bring_keys_or_extensions(
    header: dict[str, Any], remote: Provider, authenticator: Authenticator
) -> None:
    body = json.dumps(claims(remote)).encode()
    parts = [json.dumps({"alg": "ES256", "kid": "es", **header}).encode(), body]
    signed = b".".join(base64.urlsafe_b64encode(part).rstrip(b"=") for part in parts)
    signature = jwt.algorithms.get_default_algorithms()["ES256"].sign(signed, EC.private)
    token = (signed + b"." + base64.urlsafe_b64encode(signature).rstrip(b"=")).decode()
    with pytest.raises(Unauthenticated):
        await verify(authenticator, token)


@pytest.mark.parametrize("kind", ["JWT", "jwt", "at+jwt", "application/at+jwt", None])
async def test_types_of_access_tokens_are_accepted(
    kind: str | None, remote: Provider, authenticator: Authenticator
) -> None:
    assert await verify(authenticator, EC.sign(claims(remote), typ=kind))


async def test_attack_1_unsigned_token(remote: Provider, authenticator: Authenticator) -> None:
    token = jwt.encode(claims(remote), None, algorithm="none", headers={"kid": "es"})
    for spelled in (token, token.rstrip("."), token + "AAAA"):
        with pytest.raises(Unauthenticated):
            await verify(authenticator, spelled)


async def test_attack_1_public_key_as_hmac_secret(remote: Provider, authenticator: Authenticator) -> None:
    assert isinstance(RSA.private, rsa.RSAPrivateKey)
    public = RSA.private.public_key()
    for secret in (
        public.public_bytes(Encoding.PEM, PublicFormat.SubjectPublicKeyInfo),
        public.public_bytes(Encoding.PEM, PublicFormat.PKCS1),
        json.dumps(RSA.public_jwk()).encode(),
    ):
        parts = [{"alg": "HS256", "typ": "JWT", "kid": "rs"}, claims(remote)]
        signed = b".".join(base64.urlsafe_b64encode(json.dumps(p).encode()).rstrip(b"=") for p in parts)
        mac = base64.urlsafe_b64encode(hmac.digest(secret, signed, hashlib.sha256)).rstrip(b"=")
        with pytest.raises(Unauthenticated):
            await verify(authenticator, (signed + b"." + mac).decode())


async def test_attack_1_algorithm_of_another_key(remote: Provider, authenticator: Authenticator) -> None:
    with pytest.raises(Unauthenticated):
        await verify(authenticator, EC.sign(claims(remote), kid="rs"))
    with pytest.raises(Unauthenticated):
        await verify(authenticator, ec_pair("es").sign(claims(remote)))


@pytest.mark.parametrize(
    "token",
    [
        "ey..",
        "eyJ.a.b",
        "ey\x00.a.b",
        "ey\ud800.a.b",
        "e30.e30.",
        "eyJhbGciOiJFUzI1NiJ9.W10.AA",
        "eyJhbGciOiJFUzI1NiJ9.bnVsbA.AA",
        "ey" + base64.urlsafe_b64encode(b"[" * 9000).decode() + ".e30.AA",
        "ey" + "A" * MAX_TOKEN_BYTES + ".a.b",
        "opaque",
    ],
    ids=range(10),
)
async def test_attack_1_garbage(token: str, authenticator: Authenticator) -> None:
    with pytest.raises(Unauthenticated):
        await verify(authenticator, token)


async def test_attack_1_payload_changed_after_signing(remote: Provider, authenticator: Authenticator) -> None:
    head, _, signature = EC.sign(claims(remote)).split(".")
    other = base64.urlsafe_b64encode(json.dumps(claims(remote, sub="root")).encode()).rstrip(b"=").decode()
    with pytest.raises(Unauthenticated):
        await verify(authenticator, f"{head}.{other}.{signature}")


@pytest.mark.parametrize(
    "jwk",
    [
        WEAK.public_jwk(),
        RSA.public_jwk(kid="weak", use="enc"),
        RSA.public_jwk(kid="weak", key_ops=["encrypt"]),
        RSA.public_jwk(kid="weak", alg="RSA-OAEP"),
        {"kid": "weak", "kty": "oct", "k": "c2VjcmV0"},
        {"kid": "weak", "kty": "RSA", "n": "!", "e": "AQAB"},
        {"kid": ["weak"], "kty": "RSA"},
        "weak",
    ],
    ids=range(8),
)
@pytest.mark.filterwarnings("ignore:The RSA key is 1024 bits")
async def test_unfit_keys_are_left_out_and_the_others_count(
    jwk: Any, remote: Provider, authenticator: Authenticator
) -> None:
    remote.documents["/jwks"] = {"keys": [jwk, EC.public_jwk()]}
    assert await verify(authenticator, EC.sign(claims(remote)))
    for pair in (RSA, WEAK):
        with pytest.raises(Unauthenticated):
            await verify(authenticator, pair.sign(claims(remote), kid="weak"))


async def test_a_token_without_key_name_needs_the_only_key(
    remote: Provider, authenticator: Authenticator
) -> None:
    assert await verify(authenticator, EC.sign(claims(remote), kid=None))
    with pytest.raises(Unauthenticated):
        # Two RSA keys fit.
        await verify(authenticator, RSA.sign(claims(remote), kid=None))


class TestVerifiedTokenCache:
    async def test_never_outlives_the_token(self, remote: Provider, authenticator: Authenticator) -> None:
        credential = Credential("bearer", EC.sign(claims(remote)))
        await authenticator.authenticate(credential, "", NOW_S)
        assert authenticator.cached(credential, NOW_S + 299) is not None
        assert authenticator.cached(credential, NOW_S + 300) is None

    async def test_never_outlives_the_key_though_only_known_tokens_come(
        self, remote: Provider, authenticator: Authenticator
    ) -> None:
        credential = Credential("bearer", EC.sign(claims(remote, exp=NOW_S + 86_400)))
        await authenticator.authenticate(credential, "", NOW_S)
        remote.publish(RSA)
        assert authenticator.cached(credential, NOW_S + 600) is None
        await authenticator.authenticate(credential, "", NOW_S + 600)
        # That request started a fetch beside itself; an unknown key joins it and so waits for its end.
        with pytest.raises(Unauthenticated):
            await verify(authenticator, ec_pair("new").sign(claims(remote)), NOW_S + 600)
        assert authenticator.cached(credential, NOW_S + 600) is None
        with pytest.raises(Unauthenticated):
            await authenticator.authenticate(credential, "", NOW_S + 601)

    async def test_holds_nothing_that_failed(self, remote: Provider, authenticator: Authenticator) -> None:
        credential = Credential("bearer", ec_pair("es").sign(claims(remote)))
        with pytest.raises(Unauthenticated):
            await authenticator.authenticate(credential, "", NOW_S)
        assert authenticator.cached(credential, NOW_S) is None

    async def test_attack_21_two_tokens_never_cross(
        self, remote: Provider, authenticator: Authenticator
    ) -> None:
        tokens = {name: EC.sign(claims(remote, sub=name)) for name in ("alice", "bob")}
        for _ in range(3):
            for name, token in tokens.items():
                assert (await verify(authenticator, token)).subject == name


class TestKeysOfTheIssuer:
    async def test_attack_3_flood_of_unknown_keys_is_one_fetch_in_30_s(
        self, remote: Provider, authenticator: Authenticator
    ) -> None:
        await verify(authenticator, EC.sign(claims(remote)))
        flood = [Credential("bearer", EC.sign(claims(remote), kid=f"k{n}")) for n in range(200)]
        for after_s in (0, 10, 30, 59, 60):
            calls = (authenticator.authenticate(c, "", NOW_S + after_s) for c in flood)
            refused = await asyncio.gather(*calls, return_exceptions=True)
            assert all(isinstance(result, Unauthenticated) for result in refused)
        assert remote.asked["/jwks"] == 3

    async def test_attack_3_known_tokens_do_not_wait_for_the_fetch(
        self, remote: Provider, authenticator: Authenticator
    ) -> None:
        await verify(authenticator, EC.sign(claims(remote)))
        remote.gate = threading.Event()
        waiting = asyncio.create_task(
            verify(authenticator, EC.sign(claims(remote), kid="unknown"), NOW_S + 30)
        )
        try:
            await asyncio.sleep(0)
            assert await verify(authenticator, EC.sign(claims(remote, sub="bob")), NOW_S + 30)
            assert not waiting.done()
        finally:
            remote.gate.set()
        with pytest.raises(Unauthenticated):
            await waiting

    async def test_rotation_under_load_refuses_nobody(
        self, remote: Provider, authenticator: Authenticator
    ) -> None:
        new = ec_pair("new")
        old_tokens = [EC.sign(claims(remote, sub=f"old{n}")) for n in range(20)]
        new_tokens = [new.sign(claims(remote, sub=f"new{n}")) for n in range(20)]
        await verify(authenticator, old_tokens[0])
        remote.publish(EC, new)
        callers = await asyncio.gather(
            *(verify(authenticator, token, NOW_S + 30) for token in old_tokens + new_tokens)
        )
        assert len({caller.subject for caller in callers}) == 40
        assert remote.asked["/jwks"] == 2

    async def test_attack_3_issuer_down_for_a_day(
        self, remote: Provider, authenticator: Authenticator
    ) -> None:
        await verify(authenticator, EC.sign(claims(remote)))
        remote.status = 503
        for hour in range(1, 24):
            now_s = NOW_S + hour * 3600
            token = EC.sign(claims(remote, exp=now_s + 60, sub=f"h{hour}"))
            assert await verify(authenticator, token, now_s)
            with pytest.raises(Unavailable) as refused:
                await verify(authenticator, EC.sign(claims(remote, exp=now_s + 60), kid="new"), now_s)
            assert refused.value.retry_after_s == 30
        assert remote.asked["/jwks"] + remote.asked["/.well-known/openid-configuration"] <= 2 + 2 * 23
        late_s = NOW_S + 24 * 3600
        with pytest.raises(Unavailable):
            await verify(authenticator, EC.sign(claims(remote, exp=late_s + 60)), late_s)
        remote.status = 200
        assert await verify(authenticator, EC.sign(claims(remote, exp=late_s + 90)), late_s + 30)

    async def test_cold_start_without_the_issuer_is_unavailable_and_recovers(
        self, remote: Provider, authenticator: Authenticator
    ) -> None:
        remote.status = 500
        with pytest.raises(Unavailable):
            await verify(authenticator, EC.sign(claims(remote)))
        assert authenticator.problems() == ["the keys of issuer idp cannot be fetched"]
        remote.status = 200
        with pytest.raises(Unavailable):
            await verify(authenticator, EC.sign(claims(remote)), NOW_S + 29)
        assert await verify(authenticator, EC.sign(claims(remote)), NOW_S + 30)
        assert authenticator.problems() == []

    @pytest.mark.parametrize(
        "document",
        [
            b"<html>",
            b"[]",
            b'{"keys": {}}',
            b'{"keys": [' + b",".join([b"{}"] * 101) + b"]}",
            b" " * ((1 << 20) + 1),
            b"[" * 100_000,
        ],
        ids=["html", "list", "no list", "101 keys", "over 1 MiB", "deep"],
    )
    async def test_a_key_set_that_is_none_keeps_the_known_keys(
        self, document: bytes, remote: Provider, authenticator: Authenticator
    ) -> None:
        await verify(authenticator, EC.sign(claims(remote)))
        remote.documents["/jwks"] = document
        with pytest.raises(Unavailable):
            await verify(authenticator, EC.sign(claims(remote), kid="new"), NOW_S + 30)
        assert await verify(authenticator, EC.sign(claims(remote, sub="bob")), NOW_S + 30)

    async def test_a_caller_that_goes_away_does_not_end_the_fetch(
        self, remote: Provider, authenticator: Authenticator
    ) -> None:
        first, second = (
            asyncio.create_task(verify(authenticator, EC.sign(claims(remote, sub=name))))
            for name in ("gone", "stays")
        )
        await asyncio.sleep(0)
        first.cancel()
        assert (await second).subject == "stays"
        assert remote.asked["/jwks"] == 1

    async def test_a_clock_set_back_does_not_stop_fetches(
        self, remote: Provider, authenticator: Authenticator
    ) -> None:
        await verify(authenticator, EC.sign(claims(remote)))
        new = ec_pair("new")
        remote.publish(EC, new)
        past_s = NOW_S - 3600
        token = new.sign(claims(remote, iat=past_s, exp=past_s + 60))
        assert await verify(authenticator, token, past_s)


class TestDiscovery:
    async def test_metadata_of_another_issuer_is_refused(
        self, remote: Provider, authenticator: Authenticator
    ) -> None:
        remote.documents["/.well-known/openid-configuration"]["issuer"] = remote.url + "/"
        with pytest.raises(Unavailable):
            await verify(authenticator, EC.sign(claims(remote)))

    async def test_rfc_8414_is_asked_where_there_is_no_oidc(
        self, remote: Provider, client: httpx.AsyncClient
    ) -> None:
        remote.documents["/.well-known/oauth-authorization-server"] = remote.documents.pop(
            "/.well-known/openid-configuration"
        )
        made = create(IdentityConfig(issuers=(issuer(remote),)), client)
        assert await verify(made, EC.sign(claims(remote)))
        await made.close()

    async def test_two_issuers_are_told_apart(self, remote: Provider, client: httpx.AsyncClient) -> None:
        with provider() as other:
            stranger = ec_pair("es")
            other.publish(stranger)
            config = IdentityConfig(issuers=(issuer(remote), issuer(other, alias="other")))
            made = create(config, client)
            assert (await verify(made, stranger.sign(claims(other)))).user == "user:other/alice"
            with pytest.raises(Unauthenticated):
                await verify(made, stranger.sign(claims(remote)))
            await made.close()
