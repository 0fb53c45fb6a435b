"""The private files: keyring, secrets, clients, and how changes are noticed."""

from __future__ import annotations

import json
import stat
from pathlib import Path
from typing import Any

import pytest
from jwt.algorithms import ECAlgorithm

from proxy.errors import InsufficientScope, NotFound, Unauthenticated
from proxy.identity.challenge import www_authenticate
from proxy.identity.clients import parse_clients
from proxy.identity.files import Watched, read_private, write_private
from proxy.identity.keyring import PURPOSES, Keyring, dump, generate, parse, rotate
from proxy.identity.secrets import parse_secrets, provision, read_clear
from tests.identity.support import NOW_S, House
from tests.identity.tokens import ec_pair, rsa_pair


class TestKeyring:
    def test_reads_as_it_was_made_with_mode_600(self, tmp_path: Path) -> None:
        path = tmp_path / "data" / "keyring.json"
        made = Keyring.create(path, NOW_S)
        assert stat.S_IMODE(path.stat().st_mode) == 0o600
        assert dump(Keyring.load(path)) == dump(made)
        assert [p.name for p in path.parent.iterdir()] == ["keyring.json"]

    def test_is_never_overwritten(self, tmp_path: Path) -> None:
        path = tmp_path / "keyring.json"
        made = Keyring.create(path, NOW_S)
        with pytest.raises(FileExistsError):
            Keyring.create(path, NOW_S)
        assert dump(Keyring.load(path)) == dump(made)
        assert [p.name for p in tmp_path.iterdir()] == ["keyring.json"]

    @pytest.mark.parametrize("mode", [0o640, 0o604, 0o660, 0o644])
    def test_that_others_can_read_is_refused(self, tmp_path: Path, mode: int) -> None:
        path = tmp_path / "keyring.json"
        Keyring.create(path, NOW_S)
        path.chmod(mode)
        with pytest.raises(ValueError, match="chmod 600"):
            Keyring.load(path)

    @pytest.mark.parametrize("purpose", PURPOSES)
    def test_rotation_keeps_the_previous_key_and_drops_older_ones(self, tmp_path: Path, purpose: Any) -> None:
        path = tmp_path / "keyring.json"
        first = getattr(Keyring.create(path, NOW_S), purpose)[0]
        second, kept = getattr(rotate(path, purpose, NOW_S + 1), purpose)
        third, last = getattr(rotate(path, purpose, NOW_S + 2), purpose)
        assert kept.created_s == first.created_s and last.created_s == second.created_s
        assert third.created_s == NOW_S + 2
        others = [p for p in PURPOSES if p != purpose]
        assert all(len(getattr(Keyring.load(path), p)) == 1 for p in others)

    def test_gives_plain_secrets_newest_first(self) -> None:
        keyring = generate(NOW_S).rotated("media", NOW_S + 1)
        assert keyring.secrets("media") == tuple(secret.value for secret in keyring.media)
        with pytest.raises(ValueError, match="key pairs"):
            keyring.secrets("signing")

    def test_shows_no_secret(self) -> None:
        keyring = generate(NOW_S)
        assert "value" not in repr(keyring) and "private" not in repr(keyring)
        assert set(keyring.signing[0].public_jwk()) == {"kty", "crv", "x", "y", "kid", "use", "alg"}

    @pytest.mark.parametrize(
        "change",
        [
            {"version": 2},
            {"media": []},
            {"media": [{"created_s": 1, "secret": "YQ=="}]},
            {"media": [{"created_s": 1}]},
            {"media": 5},
            {"signing": [{"kid": "a", "created_s": 1, "jwk": {"kty": "EC"}}]},
            {"signing": [{"kid": "a", "created_s": 1, "jwk": ec_pair("a").public_jwk()}]},
            {"signing": [{"kid": "a", "created_s": 1, "jwk": rsa_pair("a").public_jwk()}]},
        ],
        ids=range(8),
    )
    def test_that_is_broken_is_refused(self, change: dict[str, Any]) -> None:
        document = json.loads(dump(generate(NOW_S))) | change
        with pytest.raises(ValueError, match="keyring"):
            parse(json.dumps(document).encode())

    def test_of_another_curve_is_refused(self) -> None:
        jwk = ECAlgorithm.to_jwk(ec_pair("a", "ES384").private, as_dict=True)  # type: ignore[arg-type]
        document = json.loads(dump(generate(NOW_S)))
        document["signing"] = [{"kid": "a", "created_s": 1, "jwk": jwk}]
        with pytest.raises(ValueError, match="P-256"):
            parse(json.dumps(document).encode())


class TestWatched:
    def number(self, data: bytes) -> int:
        return int(data)

    def test_looks_once_a_second_and_counts_changes(self, tmp_path: Path) -> None:
        path = tmp_path / "n"
        watched = Watched(path, self.number, absent=0, private=False)
        assert watched.current(1) == 0
        path.write_text("5")
        assert watched.current(1) == 0
        assert (watched.current(2), watched.generation) == (5, 1)
        path.unlink()
        assert (watched.current(3), watched.generation) == (0, 2)

    def test_keeps_the_last_good_value_and_says_so(self, tmp_path: Path) -> None:
        path = tmp_path / "n"
        path.write_text("5")
        watched = Watched(path, self.number, absent=0, private=False)
        path.write_text("five")
        assert watched.current(1) == 5
        assert watched.problem is not None and str(path) in watched.problem
        path.write_text("66")
        assert (watched.current(2), watched.problem) == (66, None)

    def test_a_file_that_is_kept_may_be_gone_for_a_while(self, tmp_path: Path) -> None:
        path = tmp_path / "folder" / "n"
        watched = Watched(path, self.number, absent=0, private=False, kept=True)
        path.parent.mkdir()
        path.write_text("5")
        assert watched.current(1) == 5
        path.parent.rename(tmp_path / "away")
        assert (watched.current(2), watched.generation) == (5, 1)
        assert watched.problem is not None and str(path) in watched.problem
        (tmp_path / "away").rename(path.parent)
        assert (watched.current(3), watched.problem) == (5, None)

    def test_a_broken_file_fails_the_start(self, tmp_path: Path) -> None:
        (tmp_path / "n").write_text("five")
        with pytest.raises(ValueError, match="five"):
            Watched(tmp_path / "n", self.number, absent=0, private=False)

    def test_a_private_file_that_becomes_readable_is_not_read(self, tmp_path: Path) -> None:
        path = tmp_path / "n"
        write_private(path, b"5", replace=False)
        watched = Watched(path, self.number, absent=0, private=True)
        path.chmod(0o644)
        path.write_text("7")
        assert watched.current(1) == 5 and watched.problem is not None


def test_a_failed_write_leaves_the_old_file_and_nothing_else(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = tmp_path / "secret"
    write_private(path, b"old", replace=False)

    def full(descriptor: int) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr("os.fsync", full)
    with pytest.raises(OSError, match="No space"):
        write_private(path, b"new", replace=True)
    assert read_private(path) == b"old"
    assert [p.name for p in tmp_path.iterdir()] == ["secret"]


def test_first_start_makes_secrets_once_and_keeps_those_that_are_there(house: House) -> None:
    assert provision(house.data, ["newsroom", "viewer", "admin"], NOW_S) == {}
    more = provision(house.data, ["newsroom", "robot"], NOW_S)
    assert set(more) == {"robot"}
    assert read_clear(house.data) == {**house.secrets, **more}


@pytest.mark.parametrize("data", [b"", b"[]", b"{}", b'{"secrets": {"a": [{}]}}', b'{"secrets": {"a": 1}}'])
def test_broken_secrets_are_refused(data: bytes) -> None:
    with pytest.raises(ValueError, match="secrets are not readable"):
        parse_secrets(data)


@pytest.mark.parametrize(
    "text",
    [
        "",
        "clients: []",
        "clients: {a: 5}",
        "clients: {5: {}}",
        "clients: {'a b': {}}",
        "clients: {'a:b': {}}",
        "clients: {a: {}, a: {}}",
        "clients: {a: {scopes: [everything]}}",
        "clients: {a: {groups: news}}",
        "clients: {a: {secret: x}}",
        "clients: {a: {keys: [{kty: oct, k: x}]}}",
        "clients: {a: {keys: 5}}",
        "clients: &a {b: *a}",
        "clients: !!python/object:os.system {}",
        "\tclients",
        "\x00",
    ],
)
def test_broken_clients_are_refused(text: str) -> None:
    with pytest.raises(ValueError, match="client"):
        parse_clients(text.encode())


META = "https://tams.example.org/.well-known/oauth-protected-resource"


@pytest.mark.parametrize(
    ("error", "basic", "challenges"),
    [
        (Unauthenticated("Not authenticated", code=None), False, ['Bearer realm="TAMS"']),
        (
            Unauthenticated('The "token" is\nbad'),
            True,
            [
                'Bearer realm="TAMS", error="invalid_token", error_description="The \'token\' is\'bad"',
                'Basic realm="TAMS", charset="UTF-8"',
            ],
        ),
        (
            InsufficientScope("No", scope="a"),
            True,
            ['Bearer realm="TAMS", error="insufficient_scope", error_description="No", scope="a"'],
        ),
        (NotFound("No"), True, []),
    ],
)
def test_challenges_of_rfc_6750(error: Any, basic: bool, challenges: list[str]) -> None:
    assert www_authenticate(error, metadata_url=None, basic=basic) == challenges


def test_a_challenge_names_the_resource_metadata() -> None:
    (challenge,) = www_authenticate(Unauthenticated("x", code=None), metadata_url=META, basic=False)
    assert challenge == f'Bearer realm="TAMS", resource_metadata="{META}"'
