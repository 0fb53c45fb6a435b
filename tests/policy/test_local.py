"""Permissions from the shipped policy, by the embedded evaluator."""

from __future__ import annotations

from pathlib import Path

import pytest

from proxy.identity.principal import ADMIN, READ, WRITE, Principal
from proxy.policy.files import load
from proxy.policy.local import evaluate

POLICY = load(Path(__file__).parents[2] / "policies")
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


def test_a_foreign_client_with_a_known_name_has_not_its_defaults() -> None:
    ours = principal("newsroom")
    theirs = Principal("partners", "newsroom", "newsroom", frozenset(), frozenset((WRITE,)), False, 2**40)
    assert POLICY.defaults(ours) == {"news"}
    assert POLICY.defaults(theirs) == frozenset()
