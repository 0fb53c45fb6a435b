"""Rules of the evaluator, each by the smallest world that shows it."""

from __future__ import annotations

from datetime import UTC, datetime

import pytest

from proxy.policy.embedded import (
    ConditionFailed,
    ConditionRef,
    Engine,
    InvalidModel,
    InvalidQuery,
    InvalidTuple,
    TooDeep,
    Tuple,
    UnknownRelation,
    UnknownType,
    parse_model,
)

GROUPS = parse_model(
    """
model
  schema 1.1
type user
type group
  relations
    define member: [user, user:*, group#member, user with positive, group#member with positive]
type doc
  relations
    define parent: [group]
    define left: [user, group#member]
    define right: [user, group#member]
    define blocked: [user, group#member]
    define both: left and right
    define either: left or right
    define open: left but not blocked
    define inherited: member from parent
condition positive(x: int) {
  x > 0
}
"""
)
POSITIVE = ConditionRef("positive")


def chain(groups: int) -> list[Tuple]:
    """user:1 in group:1 in group:2 and so on."""
    nested = [Tuple(f"group:{n}#member", "member", f"group:{n + 1}") for n in range(1, groups)]
    return [Tuple("user:1", "member", "group:1"), *nested]


def test_a_member_of_nested_groups_is_found_up_to_the_limit_of_hops() -> None:
    engine = Engine(GROUPS, chain(40))
    assert engine.check("user:1", "member", "group:25")
    with pytest.raises(TooDeep):
        engine.check("user:1", "member", "group:26")
    with pytest.raises(TooDeep):
        engine.list_objects("user:1", "member", "group")
    assert len(Engine(GROUPS, chain(25)).list_objects("user:1", "member", "group")) == 25


def test_a_chain_that_is_too_long_hides_no_shorter_one() -> None:
    short = Tuple("user:1", "member", "group:39")
    assert Engine(GROUPS, [*chain(40), short]).check("user:1", "member", "group:40")


def test_what_was_false_only_because_of_a_cycle_is_looked_at_again() -> None:
    engine = Engine(
        GROUPS,
        [
            Tuple("group:2#member", "member", "group:1"),
            Tuple("group:1#member", "member", "group:2"),
            Tuple("group:3#member", "member", "group:1"),
            Tuple("user:1", "member", "group:3"),
            Tuple("group:1#member", "left", "doc:1"),
            Tuple("group:2#member", "right", "doc:1"),
        ],
    )
    assert engine.check("user:1", "both", "doc:1")
    assert engine.list_objects("user:1", "both", "doc") == {"doc:1"}
    assert not engine.check("user:2", "both", "doc:1")


def test_an_exclusion_whose_excluded_runs_in_circles_is_false() -> None:
    engine = Engine(
        GROUPS,
        [
            Tuple("user:1", "left", "doc:1"),
            Tuple("user:1", "left", "doc:2"),
            Tuple("group:1#member", "blocked", "doc:1"),
            Tuple("group:2#member", "member", "group:1"),
            Tuple("group:1#member", "member", "group:2"),
        ],
    )
    assert not engine.check("user:1", "open", "doc:1")
    assert engine.list_objects("user:1", "open", "doc") == {"doc:2"}
    assert "in a circle of tuples" in str(engine.explain("user:1", "open", "doc:1"))


def test_thousands_of_cyclic_groups_are_answered() -> None:
    tuples = [
        Tuple(f"group:{one}#member", "member", f"group:{other}")
        for one in range(40)
        for other in range(40)
        if one != other
    ]
    engine = Engine(GROUPS, [*tuples, Tuple("group:0#member", "left", "doc:1")])
    assert engine.list_objects("user:1", "either", "doc") == frozenset()
    with pytest.raises(TooDeep):
        engine.check("user:1", "either", "doc:1")


@pytest.mark.parametrize(
    ("relation", "expected"), [("left", True), ("right", False), ("either", True), ("both", False)]
)
def test_set_operations(relation: str, expected: bool) -> None:
    engine = Engine(GROUPS, [Tuple("user:1", "left", "doc:1"), Tuple("user:2", "right", "doc:1")])
    assert engine.check("user:1", relation, "doc:1") is expected


def test_a_wildcard_is_every_user_of_its_type_and_no_userset() -> None:
    engine = Engine(GROUPS, [Tuple("user:*", "member", "group:1")])
    assert engine.check("user:7", "member", "group:1")
    assert engine.check("user:*", "member", "group:1")
    assert not engine.check("group:2#member", "member", "group:1")
    assert engine.list_users("group:1", "member", ["user"]) == {"user:*"}


def test_a_userset_is_in_itself() -> None:
    engine = Engine(GROUPS, [])
    assert engine.check("group:1#member", "member", "group:1")
    assert engine.list_objects("group:1#member", "member", "group") == {"group:1"}


# Conditions


def conditional(value: ConditionRef = POSITIVE) -> Engine:
    return Engine(GROUPS, [Tuple("user:1", "member", "group:1", value)])


def test_a_tuples_own_values_win_over_the_requests() -> None:
    fixed = conditional(ConditionRef("positive", {"x": 0}))
    assert not fixed.check("user:1", "member", "group:1", context={"x": 1})
    assert conditional().check("user:1", "member", "group:1", context={"x": 1})


def test_a_missing_parameter_fails_the_check_that_hangs_on_it_and_no_other() -> None:
    engine = Engine(
        GROUPS,
        [
            Tuple("user:1", "member", "group:1", POSITIVE),
            Tuple("group:1#member", "left", "doc:1"),
            Tuple("user:1", "right", "doc:1"),
        ],
    )
    with pytest.raises(ConditionFailed, match="'x' is missing"):
        engine.check("user:1", "left", "doc:1")
    with pytest.raises(ConditionFailed):
        engine.list_objects("user:1", "both", "doc")
    assert engine.check("user:1", "either", "doc:1")
    assert engine.list_objects("user:1", "either", "doc") == {"doc:1"}
    assert not engine.check("user:2", "left", "doc:1")


def test_an_exclusion_that_cannot_be_known_is_no_grant() -> None:
    engine = Engine(
        GROUPS,
        [
            Tuple("user:1", "left", "doc:1"),
            Tuple("group:1#member", "blocked", "doc:1"),
            Tuple("user:1", "member", "group:1", POSITIVE),
        ],
    )
    with pytest.raises(ConditionFailed):
        engine.check("user:1", "open", "doc:1")
    with pytest.raises(ConditionFailed):
        engine.list_objects("user:1", "open", "doc")
    assert engine.check("user:1", "open", "doc:1", context={"x": 0})


# Contextual tuples


def test_a_contextual_tuple_replaces_the_stored_one_of_its_key() -> None:
    engine = Engine(
        GROUPS,
        [
            Tuple("user:1", "member", "group:1"),
            Tuple("group:1#member", "member", "group:2"),
        ],
    )
    never = ConditionRef("positive", {"x": 0})
    direct = [Tuple("user:1", "member", "group:1", never)]
    nested = [Tuple("group:1#member", "member", "group:2", never)]
    assert not engine.check("user:1", "member", "group:1", contextual=direct)
    assert engine.list_objects("user:1", "member", "group", contextual=direct) == frozenset()
    assert not engine.check("user:1", "member", "group:2", contextual=nested)
    assert engine.list_objects("user:1", "member", "group", contextual=nested) == {"group:1"}
    assert engine.list_users("group:1", "member", ["user"], contextual=direct) == frozenset()
    assert engine.list_objects("user:1", "member", "group") == {"group:1", "group:2"}


def test_groups_of_a_token_reach_what_the_group_reaches() -> None:
    engine = Engine(GROUPS, [Tuple("group:news#member", "left", "doc:1")])
    token = [Tuple("user:local/a%40b", "member", "group:news")]
    assert engine.check("user:local/a%40b", "left", "doc:1", contextual=token)
    assert not engine.check("user:local/a%40b", "left", "doc:1")


# What is refused


@pytest.mark.parametrize(
    ("tuple_", "why"),
    [
        (Tuple("user:1", "member", "group"), "not an object"),
        (Tuple("user:1", "member", "group:*"), "not an object"),
        (Tuple("user 1", "member", "group:1"), "not a user"),
        (Tuple("group:*#member", "member", "group:1"), "not a user"),
        (Tuple("user:\x7f", "member", "group:1"), "not a user"),
        (Tuple("group:1#member", "member", "group:1"), "without a tuple"),
        (Tuple("user:1", "member", "team:1"), "no type"),
        (Tuple("user:1", "owner", "group:1"), "no relation"),
        (Tuple("user:1", "both", "doc:1"), "computed"),
        (Tuple("doc:1", "member", "group:1"), "takes only"),
        (Tuple("user:*", "left", "doc:1"), "takes only"),
        (Tuple("user:1", "left", "doc:1", POSITIVE), "condition does not fit"),
        (Tuple("user:1", "member", "group:1", ConditionRef("positive", {"y": 1})), "no parameter"),
        (Tuple("user:1", "member", "group:1", ConditionRef("positive", {"x": "one"})), "integer"),
    ],
)
def test_a_tuple_that_does_not_fit_is_refused(tuple_: Tuple, why: str) -> None:
    with pytest.raises(InvalidTuple, match=why):
        Engine(GROUPS, [tuple_])
    with pytest.raises(InvalidTuple, match=why):
        Engine(GROUPS, []).check("user:1", "member", "group:1", contextual=[tuple_])
    assert not Engine(GROUPS, [tuple_], strict=False).list_objects("user:1", "member", "group")


def test_one_tuple_with_two_conditions_is_refused() -> None:
    twice = [Tuple("user:1", "member", "group:1"), Tuple("user:1", "member", "group:1", POSITIVE)]
    with pytest.raises(InvalidTuple, match="twice"):
        Engine(GROUPS, twice)
    Engine(GROUPS, [twice[0], twice[0]])


def test_names_that_the_model_does_not_know_are_refused() -> None:
    engine = Engine(GROUPS, [])
    with pytest.raises(UnknownType):
        engine.list_objects("user:1", "member", "team")
    with pytest.raises(UnknownRelation):
        engine.check("user:1", "owner", "doc:1")
    with pytest.raises(UnknownRelation):
        engine.list_users("group:1", "member", ["group#owner"])
    for user in ("robot:1", "user", "user:1#member", ""):
        with pytest.raises(InvalidQuery):
            engine.check(user, "member", "group:1")


def test_a_condition_that_does_not_compile_refuses_the_model_with_its_place() -> None:
    text = """model
  schema 1.1
type user
type doc
  relations
    define viewer: [user with odd]
condition odd(x: int) {
  x + y == 1
}
"""
    with pytest.raises(InvalidModel) as invalid:
        Engine(parse_model(text, "model.fga"), [])
    assert str(invalid.value.problems[0]).startswith("model.fga:7:11: condition 'odd': ")


# Explanations


def test_an_explanation_shows_the_tuples_that_grant() -> None:
    grants = [
        Tuple("group:2#member", "left", "doc:1"),
        Tuple("group:1#member", "member", "group:2"),
        Tuple("user:1", "member", "group:1"),
    ]
    engine = Engine(GROUPS, [*grants, Tuple("user:1", "right", "doc:2")])
    explanation = engine.explain("user:1", "either", "doc:1")
    assert explanation.allowed
    assert explanation.chain == tuple(grants)


def test_an_explanation_shows_what_is_missing() -> None:
    engine = Engine(GROUPS, [Tuple("group:1#member", "left", "doc:1")])
    explanation = engine.explain("user:1", "both", "doc:1")
    assert explanation.allowed is False
    assert explanation.chain == ()
    assert "no tuple makes user:1 member of group:1" in str(explanation)


def test_an_explanation_shows_the_condition_that_does_not_hold_or_cannot_be_known() -> None:
    engine = conditional()
    refused = engine.explain("user:1", "member", "group:1", context={"x": 0})
    assert "its condition does not hold" in str(refused)
    unknown = engine.explain("user:1", "member", "group:1")
    assert unknown.allowed is None
    assert "'x' is missing" in str(unknown)
    assert isinstance(unknown.failure, ConditionFailed)


def test_the_moments_at_which_answers_may_change_are_known() -> None:
    model = parse_model(
        """model
  schema 1.1
type user
type doc
  relations
    define viewer: [user with until]
condition until(now: timestamp, end: timestamp) {
  now < end
}
"""
    )
    ends = ["2027-01-01T00:00:00Z", "2026-01-01T01:00:00+01:00"]
    engine = Engine(
        model,
        [
            Tuple(f"user:{number}", "viewer", "doc:1", ConditionRef("until", {"end": end}))
            for number, end in enumerate(ends)
        ],
    )
    assert engine.moments == (datetime(2026, 1, 1, tzinfo=UTC), datetime(2027, 1, 1, tzinfo=UTC))


def test_what_is_asked_together_is_answered_as_what_is_asked_apart() -> None:
    """A question's parts share what they lean on, and nothing of one answer enters another."""
    engine = Engine(GROUPS, [*chain(3), Tuple("group:3#member", "left", "doc:1")])
    overlay = [Tuple("user:2", "member", "group:2"), Tuple("group:1#member", "right", "doc:1")]
    question = engine.question("user:1", contextual=overlay)
    relations = ("left", "right", "both", "either", "left")
    assert question.objects("doc", *relations) == tuple(
        engine.list_objects("user:1", each, "doc", contextual=overlay) for each in relations
    )
    assert question.holds("both", "doc:1") and not question.holds("blocked", "doc:1")
    with pytest.raises(UnknownRelation):
        question.objects("doc", "left", "unheard")
