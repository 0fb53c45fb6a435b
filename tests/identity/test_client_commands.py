"""`tams-proxy client` and `tams-proxy token` on real files."""

from __future__ import annotations

import json
import stat

import httpx
import pytest
from typer.testing import CliRunner

from proxy.commands import clients, token
from proxy.identity.clients import parse_clients
from proxy.identity.principal import READ
from proxy.identity.secrets import StoredSecret, matches, read_clear, read_secrets
from tests.identity.support import House


def run(house: House, *arguments: str, typed: str | None = None) -> tuple[int, str, str]:
    folders = ["--data", str(house.data), "--policies", str(house.policies)]
    result = CliRunner().invoke(clients.app, [*arguments, *folders], input=typed)
    return result.exit_code, result.stdout, result.stderr


def stored(house: House, client_id: str) -> tuple[StoredSecret, ...]:
    return read_secrets(house.data / "secrets.json").get(client_id, ())


def test_add_prints_the_secret_once_and_stores_a_hash(house: House) -> None:
    status, out, _ = run(house, "add", "robot", "--group", "news", "--scope", READ)
    secret = out.splitlines()[0]
    assert status == 0
    assert matches(stored(house, "robot")[0], secret)
    assert secret not in "".join(p.read_text() for p in house.data.iterdir() if p.is_file())
    client = parse_clients((house.policies / "clients.yaml").read_bytes())["robot"]
    assert (client.groups, client.scopes) == ({"news"}, {READ})


def test_a_client_whose_secret_cannot_be_kept_is_not_added(house: House) -> None:
    before = (house.policies / "clients.yaml").read_text()
    (house.data / "file").write_text("")
    options = ["--data", str(house.data / "file"), "--policies", str(house.policies)]
    failed = CliRunner().invoke(clients.app, ["add", "robot", *options])
    assert (failed.exit_code, failed.stderr.startswith("error: ")) == (1, True)
    assert (house.policies / "clients.yaml").read_text() == before
    assert run(house, "add", "robot")[0] == 0


def test_edits_keep_the_comments(house: House) -> None:
    path = house.policies / "clients.yaml"
    run(house, "add", "robot")
    run(house, "remove", "newsroom")
    text = path.read_text()
    for comment in ("# who may log in", "  # the lobby\n  viewer:  # only looks\n", "# the end"):
        assert comment in text
    assert set(parse_clients(text.encode())) == {"viewer", "admin", "robot"}
    assert stored(house, "newsroom") == () and "newsroom" not in read_clear(house.data)


def test_removal_leaves_every_other_line_as_it_was(house: House) -> None:
    text = (house.policies / "clients.yaml").read_text()
    without = clients.without_client(text, "viewer")
    start, end = text.index("  # the lobby"), text.index("  admin:")
    assert without == text[:start] + text[end:]
    for client_id in ("newsroom", "admin"):
        without = clients.without_client(without, client_id)
    assert parse_clients(without.encode()) == {}


def test_clients_on_one_line_are_edited_too() -> None:
    text = clients.with_client(clients.without_client("clients: {a: {}, b: {}}", "a"), "c", [], [READ])
    assert set(parse_clients(text.encode())) == {"b", "c"}


def test_a_first_client_needs_no_file(house: House) -> None:
    (house.policies / "clients.yaml").unlink()
    assert run(house, "add", "robot")[0] == 0
    assert set(parse_clients((house.policies / "clients.yaml").read_bytes())) == {"robot"}


def test_rotate_replaces_the_secret_and_forgets_the_clear_one(house: House) -> None:
    status, out, _ = run(house, "rotate", "viewer")
    assert status == 0
    assert matches(stored(house, "viewer")[0], out.splitlines()[0])
    assert len(stored(house, "viewer")) == 1
    assert "viewer" not in read_clear(house.data)


def test_rotate_with_overlap_keeps_the_old_secret_for_a_while(house: House) -> None:
    run(house, "rotate", "viewer", "--overlap", "5")
    new, old = stored(house, "viewer")
    assert old.expires_s == new.created_s + 300 and matches(old, house.secrets["viewer"])


@pytest.mark.parametrize("minutes", ["-5", "43201", "100000000000000000000"])
def test_an_overlap_is_at_most_a_month(house: House, minutes: str) -> None:
    before = stored(house, "viewer")
    assert run(house, "rotate", "viewer", "--overlap", minutes)[0] == 2
    assert stored(house, "viewer") == before


def test_a_chosen_password_is_stored_by_argon2(house: House) -> None:
    password = "a long enough one"
    assert run(house, "rotate", "viewer", "--password", typed=f"{password}\n{password}\n")[0] == 0
    assert stored(house, "viewer")[0].hash.startswith("$argon2id$")
    assert matches(stored(house, "viewer")[0], password)


@pytest.mark.parametrize(
    ("arguments", "typed", "message"),
    [
        (["add", "viewer"], None, "already"),
        (["add", "a:b"], None, "not allowed"),
        (["add", "robot", "--scope", "everything"], None, "unknown scopes"),
        (["add", "robot", "--password"], "short\nshort\n", "12 characters"),
        (["add", "a-robot-of-ours", "--password"], "a-robot-of-ours\na-robot-of-ours\n", "may not be"),
        (["rotate", "nobody"], None, "no client"),
        (["remove", "nobody"], None, "no client"),
    ],
)
def test_refusals_are_one_message_and_change_nothing(
    house: House, arguments: list[str], typed: str | None, message: str
) -> None:
    before = (house.policies / "clients.yaml").read_bytes(), (house.data / "secrets.json").read_bytes()
    status, _, err = run(house, *arguments, typed=typed)
    assert status == 1 and message in err
    after = (house.policies / "clients.yaml").read_bytes(), (house.data / "secrets.json").read_bytes()
    assert before == after


def test_list_names_clients_and_no_secret(house: House) -> None:
    status, out, _ = run(house, "list")
    assert status == 0 and "newsroom" in out and "viewer" in out
    assert not any(secret in out for secret in house.secrets.values())


def test_private_files_have_mode_600(house: House) -> None:
    for name in ("keyring.json", "secrets.json", "clients.secret"):
        assert stat.S_IMODE((house.data / name).stat().st_mode) == 0o600
    assert json.loads((house.data / "clients.secret").read_text()) == house.secrets


def test_token_reads_the_secret_that_first_start_left(house: House) -> None:
    assert token.clear_secret(house.data, "admin") == house.secrets["admin"]
    result = CliRunner().invoke(token.app, ["--client", "nobody", "--data", str(house.data)])
    assert result.exit_code == 1 and "--secret" in result.stderr


def test_token_asks_for_client_credentials() -> None:
    def answer(request: httpx.Request) -> httpx.Response:
        assert request.url == "http://tams.test/token"
        assert request.content == b"grant_type=client_credentials&scope=tams-api%2Fread"
        assert request.headers["authorization"].startswith("Basic ")
        return httpx.Response(200, json={"access_token": "t", "expires_in": 1})

    body = token.fetch("http://tams.test/", "admin", "s", [READ], httpx.MockTransport(answer))
    assert body["access_token"] == "t"


@pytest.mark.parametrize(
    ("response", "message"),
    [
        (httpx.Response(401, json={"error": "invalid_client", "detail": "is wrong"}), "is wrong"),
        (httpx.Response(502, text="<html>"), "not with JSON"),
        (httpx.Response(200, json=[]), "refuses"),
    ],
)
def test_token_says_why_there_is_none(response: httpx.Response, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        token.fetch("http://tams.test", "admin", "s", [], httpx.MockTransport(lambda request: response))
