"""Permissions from the shipped policy, by the embedded evaluator."""

from __future__ import annotations

import shutil
from pathlib import Path

import pytest

from proxy.errors import Unavailable
from proxy.identity.principal import ADMIN, READ, WRITE, Principal
from proxy.policy.files import load
from proxy.policy.folder import FolderPolicy
from proxy.policy.local import LocalDecisions, evaluate

SAMPLE = Path(__file__).parents[2] / "policies"
POLICY = load(SAMPLE)
NOW_S = 1_795_251_300.0


def principal(
    subject: str, *groups: str, scopes: tuple[str, ...] = (READ, WRITE), scope_admin: bool = True
) -> Principal:
    return Principal("local", subject, subject, frozenset(groups), frozenset(scopes), scope_admin, 2**40)


def test_an_issuer_that_may_make_administrators_does_not_make_one_of_everybody() -> None:
    assert not evaluate(POLICY, principal("newsroom", "news"), NOW_S).admin


@pytest.mark.parametrize(("scope_admin", "expected"), [(True, True), (False, False)])
def test_the_admin_scope_counts_only_from_issuers_that_may_give_it(scope_admin: bool, expected: bool) -> None:
    caller = principal("visitor", scopes=(ADMIN,), scope_admin=scope_admin)
    assert evaluate(POLICY, caller, NOW_S).admin is expected


def test_a_group_of_the_token_counts_as_one_of_the_policy() -> None:
    permissions = evaluate(POLICY, principal("someone", "sport"), NOW_S)
    assert permissions.read == {"sport", "sport_ro"}
    assert permissions.denied == {"embargo"}


def test_a_group_the_policy_does_not_know_gives_nothing() -> None:
    permissions = evaluate(POLICY, principal("someone", "chess"), NOW_S)
    assert permissions.read == permissions.write == permissions.delete == frozenset()
    assert not permissions.creator


FAILING = """
condition in_year(current_time: timestamp, divisor: int) {
  current_time.getFullYear() / divisor > 0
}
"""
TUPLE = """
- user: group:sport#member
  relation: reader
  object: auth_class:thing
  condition: {name: in_year, context: {divisor: 0}}
"""


def failing(folder: Path) -> FolderPolicy:
    """The sample's policy, and a condition that fails whenever it is asked."""
    shutil.copytree(SAMPLE, folder, dirs_exist_ok=True)
    model = (folder / "model.fga").read_text()
    taken = "reader: [user, user:*, group#member, group#member with in_year, "
    model = model.replace("reader: [user, user:*, group#member, ", taken) + FAILING
    (folder / "model.fga").write_text(model)
    (folder / "tuples.yaml").write_text((folder / "tuples.yaml").read_text() + TUPLE)
    return FolderPolicy(folder, lambda: NOW_S)


async def test_a_condition_that_fails_is_named_to_operators_alone(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    decisions = LocalDecisions(failing(tmp_path), lambda: NOW_S)
    for _ in range(2):
        with pytest.raises(Unavailable) as refused:
            await decisions.permissions(principal("someone", "sport"))
    named = "(group:sport#member, reader, auth_class:thing with in_year): condition 'in_year': "
    assert named in refused.value.told
    assert "thing" not in refused.value.summary
    assert sum(named in record.getMessage() for record in caplog.records) == 1
    assert (await decisions.permissions(principal("newsroom", "news"))).read == {"news"}


def test_a_foreign_client_with_a_known_name_has_not_its_defaults() -> None:
    ours = principal("newsroom")
    theirs = Principal("partners", "newsroom", "newsroom", frozenset(), frozenset((WRITE,)), False, 2**40)
    assert POLICY.defaults(ours) == {"news"}
    assert POLICY.defaults(theirs) == frozenset()
