"""What answers may name, and collections that keep what their writer does not see."""

from __future__ import annotations

from typing import Any

import orjson
import pytest
from hypothesis import given
from hypothesis import strategies as st

from proxy.redact import merged, redacted
from proxy.rules import Body
from tests.proxy.values import classes

RELATED = {"s1": classes("a"), "s2": classes("a b"), "h": classes("v")}


def _redacted(document: object, kind: Body, related: dict[str, frozenset[str]] = RELATED) -> Any:
    body = orjson.dumps(document)
    return orjson.loads(redacted(body, kind, related, lambda held: "a" in held))


def _items(*ids: str) -> list[dict[str, str]]:
    return [{"id": id, "role": f"of {id}"} for id in ids]


CASES = [
    (Body.DOCUMENT, {"id": "x"}, {"id": "x"}),
    (
        Body.DOCUMENT,
        {"id": "x", "flow_collection": _items("s1", "h", "s2"), "collected_by": ["h", "s2"]},
        {"id": "x", "flow_collection": _items("s1", "s2"), "collected_by": ["s2"]},
    ),
    (Body.DOCUMENT, {"source_collection": _items("h", "s1")}, {"source_collection": _items("s1")}),
    # What is left empty is left out; an id without an entry is gone.
    (Body.DOCUMENT, {"flow_collection": _items("h"), "collected_by": ["gone"]}, {}),
    (
        Body.DOCUMENTS,
        [{"collected_by": ["h"]}, {"collected_by": ["s1", "h"]}],
        [{}, {"collected_by": ["s1"]}],
    ),
    (Body.COLLECTION, _items("h", "s1"), _items("s1")),
    (Body.COLLECTION, _items("h"), []),
    (
        Body.OBJECT,
        {"id": "o", "referenced_by_flows": ["s1", "h"], "first_referenced_by_flow": "h"},
        {"id": "o", "referenced_by_flows": ["s1"]},
    ),
    (
        Body.OBJECT,
        {"referenced_by_flows": ["h", "gone"], "first_referenced_by_flow": "s1"},
        {"referenced_by_flows": [], "first_referenced_by_flow": "s1"},
    ),
    (Body.NOTHING, {"collected_by": ["h"]}, {"collected_by": ["h"]}),
]


@pytest.mark.parametrize(("kind", "document", "expected"), CASES)
def test_hidden_ids_are_taken_out(kind: Body, document: object, expected: object) -> None:
    assert _redacted(document, kind) == expected


def test_a_body_that_names_nothing_hidden_stays_byte_for_byte() -> None:
    seen = {"s1": classes("a")}
    for kind in (Body.DOCUMENT, Body.DOCUMENTS, Body.COLLECTION, Body.NOTHING):
        assert redacted(b"not even  JSON", kind, seen, lambda held: "a" in held) == b"not even  JSON"


def test_no_body_stays_none() -> None:
    assert redacted(b"", Body.OBJECT, RELATED, lambda held: False) == b""


def test_the_first_flow_of_an_object_is_hidden_though_all_others_are_seen() -> None:
    document = {"referenced_by_flows": ["s1"], "first_referenced_by_flow": "gone"}
    assert _redacted(document, Body.OBJECT, {"s1": classes("a")}) == {"referenced_by_flows": ["s1"]}


@pytest.mark.parametrize(
    ("asked", "current", "hidden", "expected"),
    [
        ("a b", "a b", "", "a b"),
        ("a b", "a h b", "h", "a h b"),
        ("b a", "a h b", "h", "b a h"),
        ("b", "a h b", "h", "h b"),
        ("", "a h b", "h", "h"),
        ("", "h i", "h i", "h i"),
        ("a", "h a i", "h i", "h a i"),
        ("a c", "a h i b", "h i", "a h i c"),
        ("n a", "a h", "h", "n a h"),
        ("", "", "", ""),
        ("a a", "a h", "h", "a h a"),
    ],
)
def test_hidden_members_stay_behind_their_neighbours(
    asked: str, current: str, hidden: str, expected: str
) -> None:
    found = merged(_items(*asked.split()), _items(*current.split()), classes(hidden))
    assert found == _items(*expected.split())


ids = st.lists(st.sampled_from("abcdefgh"), unique=True)


@given(ids, ids, st.frozensets(st.sampled_from("abcdefgh")))
def test_a_merge_loses_and_invents_nothing(
    asked: list[str], current: list[str], hidden: frozenset[str]
) -> None:
    wanted = [name for name in asked if name not in hidden]
    found = [item["id"] for item in merged(_items(*wanted), _items(*current), hidden)]
    assert sorted(found) == sorted({*wanted, *(c for c in current if c in hidden)})
    assert [name for name in found if name in wanted] == wanted
