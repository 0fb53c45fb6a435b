"""Whatever is put into a policy's files is read or refused with a problem: nothing else comes out."""

from __future__ import annotations

from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from proxy.policy.embedded import (
    ConditionFailed,
    ConditionRef,
    Engine,
    InvalidModel,
    TooDeep,
    Tuple,
    parse_model,
)
from proxy.policy.embedded.dsl import parse
from proxy.policy.embedded.model_json import from_json, to_json
from proxy.policy.embedded.modules import parse_manifest
from proxy.policy.embedded.render import to_dsl
from proxy.policy.embedded.store_file import InvalidStoreFile, read_store
from proxy.policy.embedded.validate import validate

SAMPLE = (Path(__file__).resolve().parents[2] / "policies" / "model.fga").read_text(encoding="utf-8")
WORDS = st.sampled_from(
    (
        "type ",
        "define ",
        "a",
        ": ",
        "[user]",
        " or ",
        " but not ",
        "(",
        ")",
        "\n",
        "{",
        "}",
        "condition ",
        " from ",
        "#",
        "'",
    )
)
json_values = st.recursive(
    st.none() | st.booleans() | st.integers() | st.text(max_size=8),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=8), inner, max_size=3),
    max_leaves=8,
)


@settings(max_examples=300, deadline=None)
@given(
    st.integers(0, len(SAMPLE)),
    st.integers(0, 60),
    st.lists(WORDS, max_size=5).map("".join) | st.text(max_size=9),
)
def test_a_damaged_model_is_read_or_refused_with_places(start: int, length: int, put: str) -> None:
    text = SAMPLE[:start] + put + SAMPLE[start + length :]
    try:
        model = parse_model(text)
    except InvalidModel as invalid:
        lines = text.split("\n")
        for problem in invalid.problems:
            assert problem.span is None or problem.span.line <= len(lines)
    else:
        assert parse_model(to_dsl(model)).by_name.keys() == model.by_name.keys()


def shaped(*keys: str) -> st.SearchStrategy[dict[str, object]]:
    """Mappings with some of the keys, over any JSON."""
    return st.fixed_dictionaries({}, optional={key: json_values for key in keys})


def or_many(shape: st.SearchStrategy[dict[str, object]]) -> st.SearchStrategy[object]:
    return st.lists(shape, max_size=2) | json_values


documents = st.fixed_dictionaries(
    {},
    optional={
        "schema_version": st.just("1.1") | json_values,
        "type_definitions": or_many(shaped("type", "relations", "metadata")),
        "conditions": st.dictionaries(st.text(max_size=3), shaped("name", "parameters", "expression"))
        | json_values,
    },
)
stores = st.fixed_dictionaries(
    {"model": st.text(max_size=5)},
    optional={
        "tuples": or_many(shaped("user", "relation", "object", "condition")),
        "tuple_files": json_values,
        "tests": or_many(
            st.fixed_dictionaries(
                {},
                optional={
                    "check": or_many(shaped("user", "object", "assertions", "context")),
                    "list_users": or_many(shaped("object", "user_filter", "assertions")),
                },
            )
        ),
    },
)


@settings(max_examples=300, deadline=None)
@given(documents)
def test_any_json_is_a_model_or_refused(document: dict[str, object]) -> None:
    try:
        model = from_json(document)
    except InvalidModel as invalid:
        assert invalid.problems
    else:
        assert from_json(to_json(model)).schema == model.schema
        assert all(problem.message for problem in validate(model))


@settings(max_examples=300, deadline=None)
@given(stores)
def test_any_store_file_is_read_or_refused(value: dict[str, object]) -> None:
    try:
        assert read_store(value, lambda name: []).model == value["model"]
    except InvalidStoreFile as error:
        assert error.summary


@settings(max_examples=100, deadline=None)
@given(st.text(max_size=60))
def test_any_manifest_is_read_or_refused(text: str) -> None:
    try:
        assert parse_manifest(text).schema.value == "1.2"
    except InvalidModel as invalid:
        assert invalid.problems


def test_a_model_is_the_same_after_a_way_through_json_and_text() -> None:
    model = parse_model(SAMPLE)
    assert from_json(to_json(model)).by_name == model.by_name
    assert parse(to_dsl(model)).model.by_name == model.by_name


def test_a_model_of_a_thousand_steps_in_a_row_is_refused_or_answered_in_words() -> None:
    steps = "\n".join(f"    define r{number}: r{number - 1}" for number in range(1, 3000))
    text = f"model\n  schema 1.1\ntype user\ntype doc\n  relations\n    define r0: [user]\n{steps}\n"
    model = parse(text).model
    engine = Engine(model, [Tuple("user:1", "r0", "doc:1")])
    with pytest.raises(TooDeep):
        engine.check("user:1", "r2999", "doc:1")
    assert engine.list_objects("user:1", "r2999", "doc") == {"doc:1"}


def test_parentheses_have_a_limit() -> None:
    text = f"model\n  schema 1.1\ntype user\n  relations\n    define a: {'(' * 5000}[user]{')' * 5000}\n"
    with pytest.raises(InvalidModel, match="in each other"):
        parse(text)


# Types of condition parameters


@pytest.mark.parametrize(
    ("kind", "expression", "yes", "no", "refused"),
    [
        ("bool", "x", [True], [False], [1, "true", None]),
        ("string", 'x == "a"', ["a"], ["b", ""], [1, None, ["a"]]),
        ("int", "x > 1", [2, "2", 2.0], [1, -(2**63)], [1.5, "1.5", True, 2**63, None, float("nan")]),
        ("uint", "x > 1u", [2, "2", 2**64 - 1], [0], [-1, 2**64]),
        ("double", "x > 1.5", [2, 1.6, "1.6"], [1, -2.5], [True, "x", float("inf"), "1e999", 10**400]),
        (
            "duration",
            'x > duration("1h")',
            ["1h1s", "90m", "3600.5s"],
            ["-2h", "0", "59m59s", "1ns"],
            ["1", "h", 5, ""],
        ),
        (
            "timestamp",
            'x > timestamp("2026-01-01T00:00:00Z")',
            ["2026-01-01T00:00:00.5Z", "2026-01-01T00:30:00-01:00"],
            ["2026-01-01T00:30:00+01:00", "2025-12-31T23:59:59.999999999Z"],
            ["2026-01-01", "2026-13-01T00:00:00Z", 5, ""],
        ),
        (
            "ipaddress",
            'x.in_cidr("10.0.0.0/8") && x != null && x != ipaddress("10.0.0.1")',
            ["10.1.2.3"],
            ["11.0.0.1", "::1", "10.0.0.1"],
            ["10.0.0", "10.0.0.1/8", 5],
        ),
        ("any", "x.a[0] == 1", [{"a": [1]}, {"a": [1.0]}], [{"a": [2]}, {"a": ["1"]}], [{}, 5, {"a": []}]),
        ("list<int>", "3 in x", [[3], ["3"]], [[], [4]], ["3", [True], 3]),
        ("map<string>", 'x["k"] == "v"', [{"k": "v"}], [{"k": "w"}], [{}, {"k": 1}, {1: "v"}, []]),
        (
            "list<ipaddress>",
            'x.exists(i, i.in_cidr("10.0.0.0/8"))',
            [["1.1.1.1", "10.1.1.1"]],
            [[]],
            [["a"], [5]],
        ),
        (
            "string",
            'ipaddress("10.0.0.1").in_cidr(x)',
            ["10.0.0.0/8"],
            ["11.0.0.0/8", "::/0"],
            ["10.0.0.0", "a/8"],
        ),
    ],
)
def test_parameters_of_conditions(
    kind: str, expression: str, yes: list[object], no: list[object], refused: list[object]
) -> None:
    model = parse_model(
        f"""model
  schema 1.1
type user
type doc
  relations
    define viewer: [user with test]
condition test(x: {kind}) {{
  {expression}
}}
"""
    )
    engine = Engine(model, [Tuple("user:1", "viewer", "doc:1", ConditionRef("test"))])
    for value in yes:
        assert engine.check("user:1", "viewer", "doc:1", context={"x": value}), value
    for value in no:
        assert not engine.check("user:1", "viewer", "doc:1", context={"x": value}), value
    for value in refused:
        with pytest.raises(ConditionFailed):
            engine.check("user:1", "viewer", "doc:1", context={"x": value})


@pytest.mark.parametrize(
    ("kind", "expression"),
    [("int", "x"), ("int", "x == 'a'"), ("ipaddress", "x < 5"), ("string", "y == x"), ("string", "x ==")],
)
def test_a_condition_that_is_no_boolean_of_its_parameters_is_refused(kind: str, expression: str) -> None:
    text = f"""model
  schema 1.1
type user
type doc
  relations
    define viewer: [user with test]
condition test(x: {kind}) {{
  {expression}
}}
"""
    with pytest.raises(InvalidModel, match="condition 'test'"):
        Engine(parse_model(text), [])
