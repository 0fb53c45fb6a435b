"""The evaluator answers OpenFGA's own check, list_objects and list_users cases."""

from __future__ import annotations

from typing import Any

import pytest

from proxy.policy.embedded import (
    ConditionFailed,
    ConditionRef,
    Engine,
    InvalidQuery,
    InvalidTuple,
    PolicyError,
    TooDeep,
    Tuple,
    UnknownRelation,
    UnknownType,
    parse_model,
)
from tests.policy.openfga_cases import FOLDER, load, needs_cases

pytestmark = needs_cases

# OpenFGA's error codes. 2000 is its general validation error.
ERRORS: dict[int, tuple[type[PolicyError], ...]] = {
    2000: (InvalidQuery, ConditionFailed),
    2002: (TooDeep,),
    2021: (UnknownType,),
    2022: (UnknownRelation,),
    2027: (InvalidTuple,),
}


def tuple_of(value: dict[str, Any]) -> Tuple:
    condition = value.get("condition")
    ref = ConditionRef(condition["name"], condition.get("context") or {}) if condition else None
    return Tuple(value["user"], value["relation"], value["object"], ref)


def assertions(kind: str) -> list[Any]:
    found = []
    for file in ("consolidated_1_1_tests.yaml", "abac_tests.yaml"):
        for test in (load(file) or {"tests": []})["tests"]:
            stored: list[Tuple] = []
            for stage_number, stage in enumerate(test["stages"]):
                stored = stored + [tuple_of(each) for each in stage.get("tuples") or ()]
                for number, assertion in enumerate(stage.get(kind) or ()):
                    name = f"{test['name']}-{stage_number}-{number}"
                    found.append(pytest.param(stage["model"], stored, assertion, id=name))
    return found


def engine_of(model: str, stored: list[Tuple]) -> Engine:
    # A test's tuples stay while its models change: those of an earlier model count for nothing.
    return Engine(parse_model(model), stored, strict=False)


def circumstances(assertion: dict[str, Any]) -> dict[str, Any]:
    return {
        "contextual": [tuple_of(each) for each in assertion.get("contextualTuples") or ()],
        "context": assertion.get("context") or {},
    }


@pytest.mark.parametrize(("model", "stored", "assertion"), assertions("checkAssertions"))
def test_check_answers_as_openfga(model: str, stored: list[Tuple], assertion: dict[str, Any]) -> None:
    engine = engine_of(model, stored)
    asked = assertion["tuple"]
    question = (asked["user"], asked["relation"], asked["object"])
    if "errorCode" in assertion:
        with pytest.raises(ERRORS[assertion["errorCode"]]):
            engine.check(*question, **circumstances(assertion))
    else:
        assert engine.check(*question, **circumstances(assertion)) is assertion["expectation"]


@pytest.mark.parametrize(("model", "stored", "assertion"), assertions("checkAssertions"))
def test_an_explanation_agrees_with_its_check(
    model: str, stored: list[Tuple], assertion: dict[str, Any]
) -> None:
    engine = engine_of(model, stored)
    asked = assertion["tuple"]
    question = (asked["user"], asked["relation"], asked["object"])
    if "errorCode" not in assertion:
        explanation = engine.explain(*question, **circumstances(assertion))
        assert explanation.allowed is assertion["expectation"]


@pytest.mark.parametrize(("model", "stored", "assertion"), assertions("listObjectsAssertions"))
def test_list_objects_answers_as_openfga(model: str, stored: list[Tuple], assertion: dict[str, Any]) -> None:
    engine = engine_of(model, stored)
    asked = assertion["request"]
    question = (asked["user"], asked["relation"], asked["type"])
    if "errorCode" in assertion:
        with pytest.raises(ERRORS[assertion["errorCode"]]):
            engine.list_objects(*question, **circumstances(assertion))
    else:
        found = engine.list_objects(*question, **circumstances(assertion))
        assert found == frozenset(assertion["expectation"] or ())


@pytest.mark.parametrize(("model", "stored", "assertion"), assertions("listUsersAssertions"))
def test_list_users_answers_as_openfga(model: str, stored: list[Tuple], assertion: dict[str, Any]) -> None:
    engine = engine_of(model, stored)
    asked = assertion["request"]
    question = (asked["object"], asked["relation"], asked["filters"])
    if "errorCode" in assertion:
        with pytest.raises(ERRORS[assertion["errorCode"]]):
            engine.list_users(*question, **circumstances(assertion))
    else:
        found = engine.list_users(*question, **circumstances(assertion))
        # One case has its empty expectation indented into the request.
        assert found == frozenset(assertion.get("expectation") or ())


def test_the_cases_were_found() -> None:
    assert FOLDER.is_dir()
    assert len(assertions("checkAssertions")) > 450
