"""The rules themselves, as tables."""

from __future__ import annotations

from itertools import product

import pytest

from proxy.decide import (
    Caller,
    Refused,
    Verdict,
    backend_verdict,
    change_classes,
    initial_classes,
    instance_verdict,
    judge,
    may_create_source,
    passes_scope,
)
from proxy.rules import Action
from tests.proxy.values import ADMIN, caller, classes

ALLOW, HIDE, FORBID = Verdict.ALLOW, Verdict.HIDE, Verdict.FORBID
READ, WRITE, DELETE = Action.READ, Action.WRITE, Action.DELETE

JUDGED = [
    # read, write, delete, denied; classes of the resource; verdicts on reading, writing, deleting
    ("a", "", "", "", "a", ALLOW, FORBID, FORBID),
    ("", "a", "", "", "a", FORBID, ALLOW, FORBID),
    ("", "", "a", "", "a", FORBID, FORBID, ALLOW),
    ("a", "a", "a", "", "a", ALLOW, ALLOW, ALLOW),
    ("a", "a", "a", "", "b", HIDE, HIDE, HIDE),
    ("a", "a", "a", "", "", HIDE, HIDE, HIDE),
    ("a", "b", "", "", "a b", ALLOW, ALLOW, FORBID),
    ("a b", "", "", "", "b c", ALLOW, FORBID, FORBID),
    # A denial beats all, though another class would let in.
    ("a", "a", "a", "x", "a x", HIDE, HIDE, HIDE),
    ("a x", "a x", "a x", "x", "x", HIDE, HIDE, HIDE),
    ("a", "a", "a", "x", "a", ALLOW, ALLOW, ALLOW),
    # Alike is not the same.
    ("a", "a", "a", "", "aa A a.", HIDE, HIDE, HIDE),
]


@pytest.mark.parametrize(
    ("read", "write", "delete", "denied", "held", "reading", "writing", "deleting"), JUDGED
)
def test_permissions_come_through_the_classes_of_a_resource(
    read: str,
    write: str,
    delete: str,
    denied: str,
    held: str,
    reading: Verdict,
    writing: Verdict,
    deleting: Verdict,
) -> None:
    who = caller(read, write, delete, "", denied)
    found = [judge(who, action, classes(held)) for action in (READ, WRITE, DELETE)]
    assert found == [reading, writing, deleting]
    assert who.actions(classes(held)) == {a for a, v in zip(Action, found, strict=True) if v is ALLOW}


@pytest.mark.parametrize("action", Action)
@pytest.mark.parametrize("held", ["", "a", "x"])
def test_administrators_skip_class_checks_but_not_existence(action: Action, held: str) -> None:
    who = caller(denied="x", admin=True)
    assert judge(who, action, classes(held)) is ALLOW
    assert judge(who, action, None) is HIDE


def test_granting_alone_shows_nothing() -> None:
    assert judge(caller(grant="a"), READ, classes("a")) is HIDE


@pytest.mark.parametrize(
    ("default", "held", "verdict"),
    [
        (None, "", HIDE),
        ("a", "", ALLOW),
        ("b", "", HIDE),
        ("a", "b", HIDE),
        ("x", "", HIDE),
        ("a", "a x", HIDE),
    ],
)
def test_the_default_class_stands_for_no_class_only(default: str | None, held: str, verdict: Verdict) -> None:
    assert judge(caller(read="a x", denied="x", default=default), READ, classes(held)) is verdict


def test_nothing_stands_for_no_class_without_a_default() -> None:
    assert caller().effective(classes("")) == frozenset()
    assert caller(default="d").effective(classes("")) == {"d"}
    assert caller(default="d").effective(classes("a")) == {"a"}


CHANGES = [
    # who; before; after; classes that deny; allowed
    (caller(write="a"), "a", "a", "", True),
    (caller(write="a b"), "a", "b", "", True),
    (caller(write="a", grant="b"), "a", "a b", "", True),
    (caller(write="a", grant="b"), "a b", "a", "", True),
    # A1: write through the present classes; a grant does not do.
    (caller(read="a", grant="a b"), "a", "a b", "", False),
    (caller(grant="a b"), "a", "b", "", False),
    (caller(write="b"), "a", "b", "", False),
    # A2: every class that is put on or taken off.
    (caller(write="a"), "a", "a b", "", False),
    (caller(write="a"), "a b", "a", "", False),
    (caller(write="a", grant="b"), "a b c", "a", "", False),
    (caller(write="a", read="b", delete="b"), "a", "a b", "", False),
    (caller(write="a", grant="b", denied="b"), "a", "a b", "", False),
    # What stays is nobody's to ask about.
    (caller(write="a b"), "a k", "a k b", "", True),
    (caller(write="a b"), "a b k", "a k", "", True),
    # A3: no more permissions than before.
    (caller(write="a", read="b", grant="b"), "a", "a b", "", False),
    (caller(write="a", delete="b", grant="b"), "a", "a b", "", False),
    (caller(read="b", write="a b"), "a", "b", "", False),
    (caller(read="a b", write="a b"), "a", "b", "", True),
    (caller(read="a", write="a b"), "a", "b", "", True),
    # A4: the last class.
    (caller(write="a"), "a", "", "", False),
    # A5: classes that deny somebody, whoever it is.
    (caller(write="a", grant="x"), "a x", "a", "x", False),
    (caller(write="a", grant="x"), "a", "a x", "x", True),
    (caller(write="a", grant="x"), "a x", "a", "y", True),
    (caller(write="a x"), "a x", "a", "x", False),
    (ADMIN, "a x", "", "x", True),
    (ADMIN, "", "b", "", True),
    # No class is the default one, which a change takes away.
    (caller(write="a d", default="d"), "", "a", "", True),
    (caller(write="a", default="d"), "", "a", "", False),
    (caller(write="d", grant="a", default="d"), "", "a", "d", False),
    (caller(write="d", grant="a", default="d"), "", "a d", "", True),
    (caller(write="a"), "", "a", "", False),
    (caller(write=""), "", "", "", True),
]


@pytest.mark.parametrize(("who", "before", "after", "denying", "allowed"), CHANGES)
def test_classes_change_as_the_rules_say(
    who: Caller, before: str, after: str, denying: str, allowed: bool
) -> None:
    problem = change_classes(who, classes(before), classes(after), classes(denying))
    assert (problem is None) is allowed, problem


def test_every_refusal_of_a_change_has_its_own_words() -> None:
    refused = (c for c in CHANGES if not c[4])
    assert len({change_classes(w, classes(b), classes(a), classes(d)) for w, b, a, d, _ in refused}) == 5


@pytest.mark.parametrize(
    ("who", "given", "expected"),
    [
        (caller(write="a"), "a", "a"),
        (caller(grant="a"), "a", "a"),
        (caller(write="a"), "a b", None),
        (caller(read="a", delete="a"), "a", None),
        (caller(write="a", denied="a"), "a", None),
        (caller(write="a", defaults="a"), "", "a"),
        (caller(write="a b", defaults="b"), "a", "a"),
        (caller(write="a", defaults="a b"), "", None),
        (caller(write="a"), "", None),
        (caller(write="a", default="a"), "", ""),
        (caller(write="a", default="b"), "", None),
        (caller(grant="b", default="b"), "", ""),
        (ADMIN, "", ""),
        (ADMIN, "z", "z"),
        (caller(admin=True, defaults="a"), "", "a"),
    ],
)
def test_something_new_gets_the_classes_given_or_those_of_its_maker(
    who: Caller, given: str, expected: str | None
) -> None:
    found = initial_classes(who, classes(given))
    if expected is None:
        assert isinstance(found, Refused) and found.reason
    else:
        assert found == classes(expected)


def test_the_two_refusals_of_new_classes_differ() -> None:
    reasons = [initial_classes(caller(), classes(given)) for given in ("a", "")]
    assert len(set(reasons)) == 2


@pytest.mark.parametrize(("admin", "creator"), list(product((True, False), repeat=2)))
def test_administrators_and_creators_make_sources(admin: bool, creator: bool) -> None:
    assert may_create_source(caller(admin=admin, creator=creator)) is (admin or creator)


@pytest.mark.parametrize(
    ("who", "held", "verdict"),
    [
        (caller(), "", ALLOW),
        (caller(), "a", HIDE),
        (caller(read="a"), "a", FORBID),
        (caller(write="a"), "a", ALLOW),
        (caller(write="a", denied="a"), "a", HIDE),
        (caller(default="b"), "", ALLOW),
        (ADMIN, "a", ALLOW),
    ],
)
def test_an_untagged_backend_is_everybodys(who: Caller, held: str, verdict: Verdict) -> None:
    assert backend_verdict(who, WRITE, classes(held)) is verdict


@pytest.mark.parametrize(
    ("who", "owners", "readable", "registered", "verdict"),
    [
        (caller(write="a"), ["a"], False, True, ALLOW),
        (caller(write="a"), ["a", "a b"], False, True, ALLOW),
        (caller(write="a"), ["a", "b"], False, True, FORBID),
        (caller(write="a"), ["b"], True, True, FORBID),
        (caller(write="a"), ["b"], False, True, HIDE),
        (caller(delete="a"), ["a"], False, True, FORBID),
        (caller(write="a"), [], False, True, HIDE),
        (caller(write="a"), [], True, True, FORBID),
        (caller(write="a"), ["a"], True, False, HIDE),
        (ADMIN, [], False, True, ALLOW),
        (ADMIN, ["a"], True, False, HIDE),
    ],
)
def test_instances_are_changed_by_who_writes_all_owners(
    who: Caller, owners: list[str], readable: bool, registered: bool, verdict: Verdict
) -> None:
    found = instance_verdict(who, map(classes, owners), readable=readable, known=registered)
    assert found is verdict


@pytest.mark.parametrize(
    ("held", "needed", "passes"),
    [
        ("r", "r a", True),
        ("a", "r a", True),
        ("w", "r a", False),
        ("", "r a", False),
        (None, "r a", True),
        ("r w", "w", True),
    ],
)
def test_one_scope_of_those_needed_is_enough(held: str | None, needed: str, passes: bool) -> None:
    assert passes_scope(None if held is None else classes(held), classes(needed)) is passes
