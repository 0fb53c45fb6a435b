"""Commands act on the folders that the server of the same settings uses."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from typer.testing import CliRunner

from proxy.__main__ import app
from proxy.app import load_settings
from proxy.commands.places import url_of
from proxy.identity.clients import parse_clients
from proxy.identity.secrets import read_secrets
from proxy.policy.files import load
from proxy.start import policy_folder


@pytest.fixture(autouse=True)
def elsewhere(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)


def run(*arguments: str) -> tuple[int, str]:
    result = CliRunner().invoke(app, arguments)
    assert result.exception is None or isinstance(result.exception, SystemExit)
    return result.exit_code, result.output


def test_the_settings_say_where_the_data_are(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("TAMS_DATA", str(tmp_path / "kept"))
    assert run("keyring", "create") == (0, f"made {tmp_path}/kept/keyring.json\n")
    assert run("keyring", "rotate", "media")[0] == 0
    assert run("key", "add", "instrument")[0] == 0
    assert (tmp_path / "kept" / "keys.json").is_file()
    (tmp_path / "kept" / "clients.secret").write_text(json.dumps({"admin": "s"}))
    (tmp_path / "kept" / "clients.secret").chmod(0o600)
    told = run("token", "--url", "http://127.0.0.1:9")[1]
    assert "127.0.0.1:9" in told and "is not in" not in told
    assert not (tmp_path / "data").exists()
    monkeypatch.setenv("TAMS_API_KEYS", str(tmp_path / "other.json"))
    assert run("key", "add", "instrument")[0] == 0
    assert (tmp_path / "other.json").is_file()


@pytest.mark.parametrize(
    ("settings", "place"),
    [
        ({}, "http://127.0.0.1:8000"),
        ({"PORT": "9"}, "http://127.0.0.1:9"),
        ({"HOST": "0.0.0.0", "PUBLIC_URL": "https://tams.example"}, "http://127.0.0.1:8000"),
        ({"HOST": "::", "PORT": "9"}, "http://[::1]:9"),
        ({"HOST": "::1", "PORT": "9"}, "http://[::1]:9"),
        ({"HOST": "10.0.0.7"}, "http://10.0.0.7:8000"),
        (
            {"TLS__CERTIFICATE": "c.pem", "TLS__KEY": "k.pem", "PUBLIC_URL": "https://tams.example/"},
            "https://tams.example",
        ),
    ],
)
def test_the_settings_say_where_the_proxy_is(
    settings: dict[str, str], place: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name, value in settings.items():
        monkeypatch.setenv(f"TAMS_{name}", value)
    assert url_of(None) == place
    assert url_of("http://elsewhere") == "http://elsewhere"


def test_a_token_is_fetched_where_the_settings_say(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("TAMS_PORT", "9")
    (tmp_path / "data").mkdir()
    (tmp_path / "data" / "clients.secret").write_text(json.dumps({"admin": "s"}))
    (tmp_path / "data" / "clients.secret").chmod(0o600)
    status, told = run("token")
    assert (status, "127.0.0.1:9" in told) == (1, True), told


def test_an_option_wins_and_needs_no_settings(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("TAMS_DATA", str(tmp_path / "kept"))
    monkeypatch.setenv("TAMS_PROT", "1")
    assert run("keyring", "create", "--data", "own")[0] == 0
    assert (tmp_path / "own" / "keyring.json").is_file()
    status, told = run("keyring", "create")
    assert (status, "TAMS_PROT: there is no such setting" in told) == (2, True)


def test_the_file_of_settings_says_where_the_policies_are(tmp_path: Path) -> None:
    (tmp_path / "tams.toml").write_text('policies = "own"\ndata = "kept"\n')
    status, told = run("client", "add", "cam1")
    assert (status, "own is no folder" in told) == (2, True)
    (tmp_path / "own").mkdir()
    assert run("client", "add", "cam1")[0] == 0
    assert set(read_secrets(tmp_path / "kept" / "secrets.json")) == {"cam1"}
    assert not (tmp_path / "policies").exists() and not (tmp_path / "data").exists()


@pytest.mark.parametrize(
    "command",
    [
        ("client", "add", "cam1", "--group", "news"),
        ("client", "remove", "newsroom"),
        ("policy", "grant", "cam1", "member", "group:news"),
        ("policy", "revoke", "group:sport", "writer", "sport"),
    ],
)
def test_the_first_change_is_to_a_whole_copy_of_the_shipped_policy(
    command: tuple[str, ...], tmp_path: Path
) -> None:
    shipped = policy_folder(load_settings())
    before = load(shipped)
    status, told = run(*command)
    assert (status, "the shipped policy was copied to policies" in told) == (0, True)
    assert load(tmp_path / "policies") is not None
    assert load(shipped).version == before.version
    names = {each.name for each in (tmp_path / "policies").iterdir() if not each.name.startswith(".")}
    assert names == {each.name for each in shipped.iterdir() if each.is_file() and each.suffix != ".py"}


def test_after_the_first_change_the_clients_are_those_shipped_and_the_new_one(tmp_path: Path) -> None:
    shipped = parse_clients((policy_folder(load_settings()) / "clients.yaml").read_bytes())
    assert run("client", "add", "cam1")[0] == 0
    assert set(parse_clients((tmp_path / "policies/clients.yaml").read_bytes())) == {*shipped, "cam1"}
    assert "copied" not in run("client", "add", "cam2")[1]


@pytest.mark.parametrize(
    "command",
    [
        ("policy", "grant", "cam1", "nonsense", "sport"),
        ("policy", "revoke", "cam1", "reader", "sport"),
        ("client", "add", "newsroom"),
        ("client", "remove", "cam1"),
        ("policy", "grant", "cam1", "reader", "sport", "--policies", "gone"),
        ("client", "add", "cam1", "--policies", "gone"),
    ],
)
def test_a_refused_change_leaves_nothing_behind(command: tuple[str, ...], tmp_path: Path) -> None:
    assert run(*command)[0] == 1
    assert list(tmp_path.iterdir()) == []


def test_questions_are_answered_by_the_policy_that_the_server_goes_by(tmp_path: Path) -> None:
    assert run("policy", "validate")[0] == 0
    assert run("policy", "test")[0] == 0
    assert "newsroom" in run("client", "list")[1]
    assert list(tmp_path.iterdir()) == []
