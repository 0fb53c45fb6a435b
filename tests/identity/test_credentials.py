"""What requests present, and who that is. Attack 2: schemes and combinations of methods."""

from __future__ import annotations

import asyncio
import base64
import hashlib
import json

import pytest

from proxy.errors import BadRequest, TooManyRequests, Unauthenticated
from proxy.identity import secrets as secret_files
from proxy.identity.apikeys import dump_keys_file, new_key, parse_keys_file
from proxy.identity.authenticate import Authenticator
from proxy.identity.config import IdentityConfig
from proxy.identity.credentials import Credential, bearer, parse_credential, without_url_token
from proxy.identity.principal import READ, WRITE
from proxy.identity.secrets import add_secret, hash_chosen
from tests.identity.support import NOW_S, House

ALL = IdentityConfig(allow_basic=True, allow_url_token=True, api_key_header="X-Api-Key")
NONE = IdentityConfig()


def authorization(value: bytes) -> tuple[bytes, bytes]:
    return b"authorization", value


def basic(name: str, secret: str) -> Credential:
    return Credential("basic", base64.b64encode(f"{name}:{secret}".encode()).decode())


@pytest.mark.parametrize(
    ("headers", "query", "credential"),
    [
        ([authorization(b"Bearer abc")], b"", Credential("bearer", "abc")),
        ([authorization(b"bEARER   abc ")], b"", Credential("bearer", "abc")),
        ([authorization(b"Basic YTpi")], b"limit=1", Credential("basic", "YTpi")),
        ([(b"x-api-key", b"abc")], b"", Credential("bearer", "abc")),
        ([], b"limit=1&access_token=abc", Credential("bearer", "abc")),
        ([], b"access%5Ftoken=a%62c", Credential("bearer", "abc")),
        ([(b"x-forwarded-user", b"root"), (b"cookie", b"access_token=x")], b"Access_Token=x", None),
        ([], b"", None),
    ],
)
def test_one_credential_is_found(
    headers: list[tuple[bytes, bytes]], query: bytes, credential: Credential | None
) -> None:
    assert parse_credential(headers, query, ALL) == credential


@pytest.mark.parametrize(
    ("headers", "query"),
    [
        ([authorization(b"Bearer a"), authorization(b"Bearer a")], b""),
        ([authorization(b"Bearer a"), (b"x-api-key", b"a")], b""),
        ([authorization(b"Basic YTpi")], b"access_token=a"),
        ([authorization(b"Bearer a")], b"access%5ftoken=a"),
        ([authorization(b"Bearer a")], b"access_token="),
        ([], b"access_token=a&access_token=a"),
    ],
)
@pytest.mark.parametrize("config", [ALL, IdentityConfig(api_key_header="x-api-key")])
def test_attack_2_two_methods_at_once_are_a_bad_request(
    headers: list[tuple[bytes, bytes]], query: bytes, config: IdentityConfig
) -> None:
    with pytest.raises(BadRequest):
        parse_credential(headers, query, config)


@pytest.mark.parametrize(
    "value", [b"XXXXXX abc", b"", b"Bearer", b"Bearer a b", b"Bearer \xff", b"Bearer,abc", b"Token abc"]
)
def test_attack_2_unknown_and_malformed_schemes_are_invalid_token(value: bytes) -> None:
    with pytest.raises(Unauthenticated) as refused:
        parse_credential([authorization(value)], b"", ALL)
    assert refused.value.code == "invalid_token"


def test_basic_and_url_tokens_are_off_unless_configured() -> None:
    with pytest.raises(Unauthenticated):
        parse_credential([authorization(b"Basic YTpi")], b"", NONE)
    with pytest.raises(Unauthenticated):
        parse_credential([], b"access_token=a", NONE)
    assert parse_credential([(b"x-api-key", b"a")], b"", NONE) is None


@pytest.mark.parametrize(
    ("query", "left"),
    [
        (b"access_token=canary", b""),
        (b"a=%2F&access_token=canary&b=+", b"a=%2F&b=+"),
        (b"access%5Ftoken=canary&x", b"x"),
        (b"access_token=canary&access_token=canary", b""),
        (b"limit=1&xaccess_token=1", b"limit=1&xaccess_token=1"),
        (b"", b""),
    ],
)
def test_url_tokens_are_stripped_and_the_rest_stays_byte_for_byte(query: bytes, left: bytes) -> None:
    assert without_url_token(query) == left


def test_credentials_do_not_show_in_representations() -> None:
    assert "canary" not in repr(bearer(b"canary")) + repr(basic("canary", "canary"))


async def test_attack_2_nothing_presented_is_a_bare_challenge(authenticator: Authenticator) -> None:
    with pytest.raises(Unauthenticated) as refused:
        await authenticator.authenticate(authenticator.credential([], b"", "", None), "", NOW_S)
    assert refused.value.code is None


class TestBasic:
    async def test_a_client_is_itself_and_then_known_for_10_s(
        self, house: House, authenticator: Authenticator
    ) -> None:
        credential = basic("viewer", house.secrets["viewer"])
        assert authenticator.cached(credential, NOW_S) is None
        caller = await authenticator.authenticate(credential, "p", NOW_S)
        assert caller.user == "user:local/viewer" and caller.scopes == {READ}
        assert authenticator.cached(credential, NOW_S + 9) is not None
        assert authenticator.cached(credential, NOW_S + 10) is None

    @pytest.mark.parametrize("value", ["", "!", "YQ==", "Og==", "OmI=", "/w==", "a" * 100_000])
    async def test_what_cannot_be_read_is_unauthenticated(
        self, value: str, authenticator: Authenticator
    ) -> None:
        credential = Credential("basic", value)
        with pytest.raises(Unauthenticated):
            await authenticator.authenticate(credential, "p", NOW_S)

    async def test_guesses_are_throttled_for_their_peer_alone(
        self, house: House, authenticator: Authenticator
    ) -> None:
        for n in range(10):
            with pytest.raises(Unauthenticated):
                await authenticator.authenticate(basic("viewer", f"guess{n}"), "evil", NOW_S)
        right = basic("viewer", house.secrets["viewer"])
        with pytest.raises(TooManyRequests) as refused:
            await authenticator.authenticate(right, "evil", NOW_S + 20)
        assert refused.value.retry_after_s == 40
        assert await authenticator.authenticate(right, "good", NOW_S + 20)

    async def test_many_names_from_one_peer_are_throttled(self, authenticator: Authenticator) -> None:
        for n in range(100):
            with pytest.raises(Unauthenticated):
                await authenticator.authenticate(basic(f"name{n}", "x"), "evil", NOW_S)
        with pytest.raises(TooManyRequests):
            await authenticator.authenticate(basic("other", "x"), "evil", NOW_S)

    async def test_a_password_that_arrives_often_is_hashed_once(
        self, house: House, authenticator: Authenticator, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        add_secret(house.data / "secrets.json", "viewer", hash_chosen("viewer", "a long password"), NOW_S)
        hashed: list[str] = []
        matches = secret_files.matches

        def count(stored: secret_files.StoredSecret, secret: str) -> bool:
            hashed.append(secret)
            return matches(stored, secret)

        monkeypatch.setattr("proxy.identity.clients.matches", count)
        credential = basic("viewer", "a long password")
        await asyncio.gather(*(authenticator.authenticate(credential, "p", NOW_S) for _ in range(20)))
        assert len(hashed) == 1

    async def test_guesses_at_once_are_counted_as_they_are_checked(
        self, house: House, authenticator: Authenticator
    ) -> None:
        stored = "sha256:" + "0" * 64
        add_secret(house.data / "secrets.json", "viewer", stored, NOW_S)
        calls = [authenticator.authenticate(basic("viewer", f"g{n}"), "evil", NOW_S) for n in range(30)]
        results = await asyncio.gather(*calls, return_exceptions=True)
        assert sum(isinstance(r, Unauthenticated) for r in results) == 10
        assert sum(isinstance(r, TooManyRequests) for r in results) == 20


class TestApiKeys:
    def write(self, house: House, *records: dict[str, object]) -> None:
        (house.data / "keys.json").write_text(json.dumps(records))

    def record(self, token: str, **changes: object) -> dict[str, object]:
        hashed = hashlib.sha256(token.encode()).hexdigest()
        times = {"created_at": "2023-11-14T22:13:20", "expires": NOW_S + 60}
        return {"name": "backup", "hash": hashed, **times, "scopes": ["read", "write"], **changes}

    async def test_a_key_is_a_principal_until_it_expires(
        self, house: House, authenticator: Authenticator
    ) -> None:
        self.write(house, self.record("secret-key"))
        credential = Credential("bearer", "secret-key")
        caller = await authenticator.authenticate(credential, "", NOW_S)
        assert caller.user == "user:keys/backup" and caller.scopes == {READ, WRITE}
        assert caller.expires_s == NOW_S + 60 and not caller.scope_admin
        with pytest.raises(Unauthenticated, match="Token expired"):
            await authenticator.authenticate(credential, "", NOW_S + 60)

    async def test_a_key_that_is_taken_out_stops_within_a_second(
        self, house: House, authenticator: Authenticator
    ) -> None:
        self.write(house, self.record("secret-key"))
        credential = Credential("bearer", "secret-key")
        assert await authenticator.authenticate(credential, "", NOW_S)
        (house.data / "keys.json").unlink()
        assert authenticator.cached(credential, NOW_S + 1) is None
        with pytest.raises(Unauthenticated, match="Invalid or missing token"):
            await authenticator.authenticate(credential, "", NOW_S + 1)

    async def test_a_broken_file_keeps_the_last_good_keys(
        self, house: House, authenticator: Authenticator
    ) -> None:
        self.write(house, self.record("secret-key"))
        credential = Credential("bearer", "secret-key")
        assert await authenticator.authenticate(credential, "", NOW_S)
        assert authenticator.problems() == []
        (house.data / "keys.json").write_text("[{")
        assert authenticator.cached(credential, NOW_S + 1) is not None
        assert "keys.json" in authenticator.problems()[0]

    def test_the_file_reads_as_it_is_written(self) -> None:
        _, key = new_key("backup", frozenset({READ}), NOW_S, 30)
        _, endless = new_key("other", frozenset({WRITE}), NOW_S, None)
        keys = {key.hash: key, endless.hash: endless}
        assert parse_keys_file(dump_keys_file(keys)) == keys
        assert key.expires_s == NOW_S + 30 * 86_400

    @pytest.mark.parametrize(
        "changes",
        [
            {"name": ""},
            {"hash": "abc"},
            {"hash": "Z" * 64},
            {"scopes": ["admin"]},
            {"scopes": "read"},
            {"scopes": [["read"]]},
            {"expires": "soon"},
            {"expires": True},
            {"expires": 1e400},
            {"groups": "news"},
        ],
        ids=str,
    )
    def test_a_wrong_record_is_refused(self, changes: dict[str, object]) -> None:
        with pytest.raises(ValueError, match="API key"):
            parse_keys_file(json.dumps([self.record("t", **changes)]).encode())

    @pytest.mark.parametrize("data", [b"", b"{}", b"[1]", b"\xff", b"[" * 100_000])
    def test_what_is_no_list_of_records_is_refused(self, data: bytes) -> None:
        with pytest.raises(ValueError, match="API key"):
            parse_keys_file(data)
