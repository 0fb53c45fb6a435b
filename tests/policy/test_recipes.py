"""The recipes of policies/README.md do what they say, on top of the sample policy."""

from __future__ import annotations

import re
from datetime import datetime
from pathlib import Path

import pytest

from proxy.decide import Caller
from proxy.identity.principal import Principal
from proxy.policy.files import parse
from proxy.policy.local import evaluate
from proxy.rules import Action

FOLDER = Path(__file__).resolve().parents[2] / "policies"
NAMES = ("model.fga", "tuples.yaml", "classes.yaml")
TEXTS = {name: (FOLDER / name).read_text() for name in NAMES}
NOON = "2026-11-21T12:00:00Z"
RECIPES = {
    part.splitlines()[0]: part
    for part in re.split(r"^## ", (FOLDER / "README.md").read_text(), flags=re.M)[1:]
}
LINE = re.compile(
    r"(\w+)/(\S+)(?: in (\S+))?(?: at (\S+))? (can|cannot) ((?:read |write |delete |grant )+)(.+)"
)


def block(recipe: str, language: str) -> str:
    (found,) = re.findall(rf"^```{language}\n(.*?)^```$", RECIPES[recipe], re.M | re.S)
    return str(found)


def holds(tuples: str, line: str) -> bool:
    """Whether the policy with these tuples does what the line says."""
    said = LINE.fullmatch(line)
    assert said is not None, line
    alias, subject, group, at, verb, actions, classes = said.groups()
    now_s = datetime.fromisoformat(at or NOON).timestamp()
    groups = frozenset(() if group is None else (group,))
    who = Principal(alias, subject, subject, groups, None, False, 2**40)
    permissions = evaluate(parse({**TEXTS, "tuples.yaml": tuples}), who, now_s)
    caller, marked = Caller(permissions), frozenset(classes.split())
    answers = [
        all(caller.may_assign(name) for name in marked)
        if each == "grant"
        else caller.may(Action[each.upper()], marked)
        for each in actions.split()
    ]
    return all(answers) if verb == "can" else not any(answers)


def test_there_is_a_recipe_for_each_task() -> None:
    assert list(RECIPES) == [
        "A team with a class of its own",
        "Read-only sharing",
        "A partner until Friday",
        "An embargo",
        "A break-glass administrator",
        "Machine users",
        "Everyone may read",
    ]


@pytest.mark.parametrize("recipe", RECIPES)
def test_a_recipe_does_what_it_says(recipe: str) -> None:
    tuples = f"{TEXTS['tuples.yaml']}\n{block(recipe, 'yaml')}"
    for line in block(recipe, "try").splitlines():
        assert holds(tuples, line), line


@pytest.mark.parametrize("recipe", RECIPES)
def test_without_a_recipe_something_it_allows_does_not_hold(recipe: str) -> None:
    lines = block(recipe, "try").splitlines()
    assert not all(holds(TEXTS["tuples.yaml"], line) for line in lines)
