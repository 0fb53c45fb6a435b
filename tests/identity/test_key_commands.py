"""`tams-proxy key` and `tams-proxy keyring` on real files."""

from __future__ import annotations

import stat
from pathlib import Path

import pytest
from typer.testing import CliRunner

from proxy.commands import keyring, keys
from proxy.identity.apikeys import digest, parse_keys_file
from proxy.identity.keyring import PURPOSES, Keyring
from proxy.identity.principal import READ, WRITE


def run_keys(file: Path, *arguments: str) -> tuple[int, str, str]:
    result = CliRunner().invoke(keys.app, [*arguments, "--file", str(file)])
    return result.exit_code, result.stdout.strip(), result.stderr


def test_a_key_is_printed_once_and_stored_as_a_hash(tmp_path: Path) -> None:
    file = tmp_path / "keys.json"
    status, token, _ = run_keys(file, "add", "backup", "--scope", "read", "--scope", "write", "--days", "2")
    stored = parse_keys_file(file.read_bytes())[digest(token)]
    assert status == 0 and stored.name == "backup" and stored.scopes == {READ, WRITE}
    assert stored.expires_s == stored.created_s + 2 * 86_400
    assert token not in file.read_text() and stat.S_IMODE(file.stat().st_mode) == 0o600
    assert run_keys(file, "list")[1].startswith("backup  ")


def test_refresh_replaces_the_key_and_delete_ends_it(tmp_path: Path) -> None:
    file = tmp_path / "keys.json"
    _, first, _ = run_keys(file, "add", "backup", "--scope", "write")
    file.chmod(0o640)
    _, second, _ = run_keys(file, "refresh", "backup")
    held = parse_keys_file(file.read_bytes())
    assert set(held) == {digest(second)} and digest(first) != digest(second)
    assert held[digest(second)].scopes == {WRITE}
    assert stat.S_IMODE(file.stat().st_mode) == 0o640
    assert run_keys(file, "delete", "backup")[0] == 0
    assert parse_keys_file(file.read_bytes()) == {}


def test_a_key_need_not_end(tmp_path: Path) -> None:
    file = tmp_path / "keys.json"
    for command in ("add", "refresh"):
        status, token, _ = run_keys(file, command, "backup", "--days", "none")
        assert status == 0 and parse_keys_file(file.read_bytes())[digest(token)].expires_s is None
    assert "no end" in run_keys(file, "list")[1]


@pytest.mark.parametrize("days", ["0", "-1", "36501", "99999999999", "", "1.5", "never", "²"])
def test_days_are_a_number_of_them_or_none(tmp_path: Path, days: str) -> None:
    file = tmp_path / "keys.json"
    status, _, err = run_keys(file, "add", "backup", "--days", days)
    assert status == 1 and "1 to 36500" in err and not file.exists()


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (("add", "there"), "already"),
        (("add", "new", "--scope", "admin"), "admin"),
        (("add", ""), "no name"),
        (("refresh", "nobody"), "no key"),
        (("delete", "nobody"), "no key"),
    ],
)
def test_refusals_change_nothing(tmp_path: Path, arguments: tuple[str, ...], message: str) -> None:
    file = tmp_path / "keys.json"
    run_keys(file, "add", "there")
    before = file.read_bytes()
    status, _, err = run_keys(file, *arguments)
    assert status == 1 and message in err and file.read_bytes() == before


def test_the_keyring_is_made_once_rotated_and_never_shown(tmp_path: Path) -> None:
    def run(*arguments: str) -> tuple[int, str]:
        result = CliRunner().invoke(keyring.app, [*arguments, "--data", str(tmp_path)])
        return result.exit_code, result.output

    path = tmp_path / "keyring.json"
    assert run("show") == (1, f"error: {path}: no such file or directory\n")
    assert run("create")[0] == 0
    assert run("create") == (1, f"error: {path}: file exists\n")
    for purpose in PURPOSES:
        assert run("rotate", purpose)[0] == 0
    made = Keyring.load(tmp_path / "keyring.json")
    assert all(len(getattr(made, purpose)) == 2 for purpose in PURPOSES)
    status, shown = run("show")
    assert status == 0 and [line.split(":")[0] for line in shown.splitlines()] == list(PURPOSES)
    assert made.signing[0].kid not in shown
    assert run("rotate", "everything")[0] == 2
