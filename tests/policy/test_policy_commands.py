"""`tams-proxy policy`: what it prints, what it writes, and its exit status."""

from __future__ import annotations

import json
import shutil
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from typer.testing import CliRunner, Result

import proxy.__main__
from proxy.commands.policy_ask import look_up
from proxy.policy.files import load, read_placed
from tests.policy.openfga_server import running

SAMPLE = Path(__file__).resolve().parents[2] / "policies"


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    return Path(shutil.copytree(SAMPLE, tmp_path / "policies"))


def run(folder: Path, *words: str, env: dict[str, str] | None = None) -> Result:
    return CliRunner().invoke(proxy.__main__.app, ["policy", *words, "--policies", str(folder)], env=env)


def answer(folder: Path, *words: str) -> Any:
    return json.loads(run(folder, *words, "--json").stdout)


def test_the_sample_is_valid_and_passes_its_tests(folder: Path) -> None:
    assert run(folder, "validate", "--strict").exit_code == 0
    assert answer(folder, "validate")["valid"] is True
    assert run(folder, "test").exit_code == 0
    assert answer(folder, "test") == {"cases": 6, "failures": []}


def test_a_failing_test_is_named(folder: Path) -> None:
    text = (folder / "store.fga.yaml").read_text()
    (folder / "store.fga.yaml").write_text(text.replace("can_read: true", "can_read: false", 1))
    found = run(folder, "test")
    assert found.exit_code == 1
    assert "user:local/newsroom can_read of auth_class:news" in found.stderr


def test_a_folder_without_tests_is_told_in_words(folder: Path) -> None:
    (folder / "store.fga.yaml").unlink()
    found = run(folder, "test")
    assert found.exit_code == 1
    assert found.stderr == f"error: {folder / 'store.fga.yaml'}: no such file or directory\n"


INVALID = [
    ("model.fga", "define can_read: reader or admin", "define can_read: raeder", "model.fga:"),
    ("model.fga", "define can_grant", "define can_give", "must define can_grant"),
    ("tuples.yaml", "relation: granter", "relation: grantor", "tuples.yaml:{before[1]}: "),
    ("tuples.yaml", "- user: user:local/admin\n", "- usr: user:local/admin\n", "tuples.yaml:{before[0]}: "),
    ("tuples.yaml", "until: ", "untill: ", "tuples.yaml:{before[6]}: "),
    ("tuples.yaml", "auth_class:sport_ro", "auth_class:sport/ro", "cannot be a class"),
    (
        "tuples.yaml",
        "    name: valid_until",
        "    name: in_window",
        "tuples.yaml:{before[4]}: (user:partners/agency, reader, auth_class:news with in_window): condition"
        " 'in_window': the parameter 'since' is missing",
    ),
    (
        "tuples.yaml",
        '    context:\n      until: "2027-07-01T00:00:00Z"\n',
        "",
        "tuples.yaml:{before[5]}: (user:partners/agency, reader, auth_class:news with valid_until): condition"
        " 'valid_until': the parameter 'until' is missing",
    ),
    ("model.fga", "current_time: ", "moment: timestamp, current_time: ", "parameter 'moment' is missing"),
    ("tuples.yaml", "  relation: member", "  relation: [member", "tuples.yaml:"),
    (
        "classes.yaml",
        "    label: News",
        "    lable: News",
        "classes.yaml:{before[0]}: class news has the unknown key 'lable'",
    ),
    ("classes.yaml", "  sport_ro:", "  news:", "classes.yaml:{before[0]}: the key 'news' stands here twice"),
    (
        "classes.yaml",
        "clients: [newsroom]",
        "clients: newsroom",
        "classes.yaml:{before[0]}: `clients` must be a list",
    ),
    ("clients.yaml", "tams-api/admin", "tams-api/amdin", "clients.yaml: "),
]


@pytest.mark.parametrize(("name", "old", "new", "said"), INVALID)
def test_what_is_wrong_is_told_with_file_and_line(
    folder: Path, name: str, old: str, new: str, said: str
) -> None:
    text = (folder / name).read_text()
    assert old in text
    (folder / name).write_text(text.replace(old, new, 1))
    line = text[: text.index(old)].count("\n") + 1
    found = run(folder, "validate")
    assert found.exit_code == 1
    assert said.format(before=[line - above for above in range(7)]) in found.stderr
    assert not answer(folder, "validate")["valid"]


def test_a_group_that_nothing_is_granted_to_is_a_warning(folder: Path) -> None:
    text = (folder / "clients.yaml").read_text()
    (folder / "clients.yaml").write_text(text.replace("groups: [sport]", "groups: [sprot]"))
    found = run(folder, "validate")
    assert (found.exit_code, "sprot" in found.stderr) == (0, True)
    assert run(folder, "validate", "--strict").exit_code == 1


SLIPS = [
    (
        "classes.yaml",
        "  more: {default_for: {groups: [news]}}\n",
        "news and more are all the default of group news",
    ),
    (
        "classes.yaml",
        "  one: {key_prefixes: [a/]}\n  two: {key_prefixes: [a/*]}\n",
        "one and two are all of key prefix a/",
    ),
    (
        "tuples.yaml",
        "- {user: 'user:local/x', relation: admin, object: 'service:foo'}\n",
        "the only service is",
    ),
]


@pytest.mark.parametrize(("name", "text", "said"), SLIPS)
def test_a_slip_of_the_pen_is_a_warning(folder: Path, name: str, text: str, said: str) -> None:
    (folder / name).write_text((folder / name).read_text() + text)
    found = run(folder, "validate")
    assert (found.exit_code, said in found.stderr) == (0, True)
    assert run(folder, "validate", "--strict").exit_code == 1


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (("newsroom", "admin", "service:foo"), "gives nothing"),
        (("newsroom", "reader", "sport", "--until", "2020-01-01T00:00:00Z"), "has ended"),
        (("newsroom", "reader", "sport", "--until", "9999-01-01T00:00:00Z"), None),
    ],
)
def test_a_grant_that_gives_nothing_says_so(folder: Path, words: tuple[str, ...], said: str | None) -> None:
    found = run(folder, "grant", *words)
    assert (found.exit_code, "warning:" in found.stderr) == (0, said is not None)
    assert (said or "") in found.stderr


def test_an_ended_grant_is_noted_and_no_mistake(folder: Path) -> None:
    run(folder, "grant", "newsroom", "reader", "sport", "--until", "2020-01-01T00:00:00Z")
    assert [note for note in answer(folder, "validate")["notes"] if "auth_class:sport with" in note]
    assert run(folder, "validate", "--strict").exit_code == 0


def test_a_grant_is_appended_and_a_revocation_takes_just_it_away(folder: Path) -> None:
    path = folder / "tuples.yaml"
    before = path.read_text()
    assert (
        run(folder, "grant", "group:news", "reader", "sport", "--until", "2027-01-01T00:00:00Z").exit_code
        == 0
    )
    granted = path.read_text()
    assert granted.startswith(before)
    assert len(load(folder).tuples) == len(read_placed(before)) + 1
    assert (
        "already"
        in run(folder, "grant", "group:news", "reader", "sport", "--until", "2027-01-01T00:00:00Z").stdout
    )
    assert run(folder, "grant", "group:news", "reader", "sport").exit_code == 1
    assert run(folder, "revoke", "group:news", "reader", "sport").exit_code == 0
    assert path.read_text() == before
    assert run(folder, "revoke", "group:news", "reader", "sport").exit_code == 1


@pytest.mark.parametrize("name", ["*", "a b", ""])
def test_what_cannot_be_a_class_is_told_so(folder: Path, name: str) -> None:
    before = (folder / "tuples.yaml").read_text()
    found = run(folder, "grant", "newsroom", "reader", name)
    assert (found.exit_code, f"{name!r} cannot be a class" in found.stderr) == (1, True)
    assert (folder / "tuples.yaml").read_text() == before


def test_comments_stay_where_they_are(folder: Path) -> None:
    path = folder / "tuples.yaml"
    before = path.read_text()
    assert run(folder, "revoke", "newsroom", "member", "group:news").exit_code == 0
    comments = [line for line in before.splitlines() if line.startswith("#")]
    assert [line for line in path.read_text().splitlines() if line.startswith("#")] == comments


@pytest.mark.parametrize(
    "text", ["[]\n", "# nothing yet\n", "", "[{user: user:local/x, relation: member, object: 'group:x'}]\n"]
)
def test_any_layout_can_be_granted_in(folder: Path, text: str) -> None:
    (folder / "tuples.yaml").write_text(text)
    assert run(folder, "grant", "newsroom", "reader", "news").exit_code == 0
    assert len(load(folder).tuples) == len(read_placed(text)) + 1
    assert run(folder, "revoke", "newsroom", "reader", "news").exit_code == 0
    assert len(load(folder).tuples) == len(read_placed(text))


def test_what_does_not_fit_the_model_is_not_written(folder: Path) -> None:
    before = (folder / "tuples.yaml").read_text()
    found = run(folder, "grant", "*", "writer", "news")
    assert (found.exit_code, "takes only" in found.stderr) == (1, True)
    assert (folder / "tuples.yaml").read_text() == before


def test_who_can_leaves_out_whom_the_class_denies(folder: Path) -> None:
    who = {each["who"]: each["as"] for each in answer(folder, "who-can", "read", "sport_ro")}
    assert who == {
        "user:local/sportdesk": "read",
        "group:sport#member": "read",
        "user:local/admin": "administrator",
    }
    run(folder, "grant", "sportdesk", "denied", "sport_ro")
    who = {each["who"]: each["as"] for each in answer(folder, "who-can", "read", "sport_ro")}
    assert "user:local/sportdesk" not in who
    assert "user:local/admin" in run(folder, "who-can", "read", "sport_ro").stdout


def test_what_can_tells_all_that_a_principal_may(folder: Path) -> None:
    told = answer(folder, "what-can", "newsroom")
    assert told["classes"] == {
        "news": ["read", "write", "delete"],
        "embargo": ["grant"],
        "sport_ro": ["grant"],
    }
    assert (told["create"], told["administer"]) == (True, False)
    told = answer(folder, "what-can", "staff/anna", "--group", "sport")
    assert (told["denied"], told["classes"]["sport_ro"]) == (["embargo"], ["read"])
    table = run(folder, "what-can", "newsroom").stdout
    assert "sport_ro" in table and "\x1b" not in table


@pytest.mark.parametrize(
    ("who", "action", "what", "more", "allowed", "said"),
    [
        ("newsroom", "read", "news", (), True, "group:news#member, reader, auth_class:news"),
        (
            "sportdesk",
            "read",
            "news",
            (),
            False,
            "no: tuple (group:news#member, reader, auth_class:news)",
        ),
        ("sportdesk", "read", "flows/1", ("--classes", "sport,embargo"), False, "denied, auth_class:embargo"),
        ("admin", "delete", "flows/1", ("--classes", "sport,embargo"), True, "admin, service:tams"),
        ("partners/agency", "read", "news", ("--at", "2027-06-30T00:00:00Z"), True, "valid_until"),
        ("partners/agency", "read", "news", ("--at", "2027-07-01T00:00:00Z"), False, "does not hold"),
        ("newsroom", "read", "flows/1", ("--classes", ""), False, "no classes"),
    ],
)
def test_explain_shows_the_chain_or_what_is_missing(
    folder: Path, who: str, action: str, what: str, more: tuple[str, ...], allowed: bool, said: str
) -> None:
    found = run(folder, "explain", who, action, what, *more)
    assert (found.exit_code == 0) is allowed
    assert said in found.stdout
    assert answer(folder, "explain", who, action, what, *more)["allowed"] is allowed


@pytest.mark.parametrize(
    "words", [("segments/x",), ("*",), ("",), ("flows/1", "--classes", "news,a b"), ("a:b",)]
)
def test_what_is_no_class_is_not_explained(folder: Path, words: tuple[str, ...]) -> None:
    asked = [run(folder, "explain", "newsroom", "read", *words)]
    asked += [run(folder, "who-can", "read", *words)] if len(words) == 1 else []
    for found in asked:
        assert (found.exit_code, found.stdout) == (1, "") and "cannot be a class" in found.stderr


def test_an_unknown_action_is_refused(folder: Path) -> None:
    found = run(folder, "explain", "newsroom", "destroy", "news")
    assert (found.exit_code, "no action" in found.stderr) == (1, True)


def test_a_resource_is_looked_up_with_its_id_escaped(httpx_answers: list[str]) -> None:
    assert look_up("http://proxy", "t", "flows/a b/c") == ["news"]
    assert httpx_answers == ["http://proxy/flows/a%20b%2Fc"]


@pytest.fixture
def httpx_answers(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    import httpx

    asked: list[str] = []

    def get(url: str, **_: object) -> httpx.Response:
        asked.append(url)
        return httpx.Response(200, json={"tags": {"auth_classes": "news"}})

    monkeypatch.setattr(httpx, "get", get)
    return asked


@pytest.fixture(scope="module")
def server() -> Iterator[str]:
    with running("--authn-method", "preshared", "--authn-preshared-keys", "k3y") as url:
        yield url


@pytest.mark.slow
def test_apply_brings_the_server_to_the_files_and_diff_tells_what_is_left(
    folder: Path, tmp_path: Path, server: str
) -> None:
    env = {"TAMS_OPENFGA__URL": server, "TAMS_OPENFGA__API_TOKEN": "k3y", "TAMS_DATA": str(tmp_path / "data")}
    pin = tmp_path / "data" / "openfga.json"
    dry = run(folder, "apply", "--dry-run", env=env)
    assert (dry.exit_code, "+ store" in dry.stdout, pin.exists()) == (0, True, False)
    assert run(folder, "apply", env=env).exit_code == 0
    first = json.loads(pin.read_bytes())
    assert run(folder, "diff", env=env).stdout == "nothing to change\n"
    again = run(folder, "apply", env=env)
    assert (again.stdout.startswith("nothing to change"), json.loads(pin.read_bytes())) == (True, first)
    run(folder, "grant", "group:news", "reader", "sport")
    left = run(folder, "diff", env=env)
    assert (left.exit_code, "+ (group:news#member, reader, auth_class:sport)" in left.stdout) == (1, True)
    text = (folder / "model.fga").read_text()
    (folder / "model.fga").write_text(text + "\ntype other\n")
    assert run(folder, "apply", env=env).exit_code == 0
    second = json.loads(pin.read_bytes())
    assert (second["store"], second["model"] != first["model"]) == (first["store"], True)


@pytest.mark.slow
def test_a_wrong_key_is_told(folder: Path, tmp_path: Path, server: str) -> None:
    env = {"TAMS_OPENFGA__URL": server, "TAMS_OPENFGA__API_TOKEN": "wrong", "TAMS_DATA": str(tmp_path)}
    found = run(folder, "apply", env=env)
    assert found.exit_code == 1
    assert "unauthenticated" in found.stderr
