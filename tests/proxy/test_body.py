"""What bodies say that decides something."""

from __future__ import annotations

from typing import Any

import pytest

from proxy import body
from proxy.errors import BadRequest
from tests.proxy.values import classes


@pytest.mark.parametrize(
    ("value", "expected"),
    [
        ("a", "a"),
        (["a"], "a"),
        (["a", "b", "a"], "a b"),
        ([], ""),
        ("A-z_0.9", "A-z_0.9"),
        ("x" * 128, "x" * 128),
    ],
)
def test_a_plain_string_counts_as_a_list_of_one(value: object, expected: str) -> None:
    assert body.classes_in(value) == classes(expected)


@pytest.mark.parametrize(
    "value",
    [None, 1, True, {}, "", "*", "a b", "a,b", "x" * 129, "a\n", ["a", ""], [["a"]], [1], "é", "a:b", "a#b"],
)
def test_other_classes_are_refused(value: object) -> None:
    with pytest.raises(BadRequest):
        body.classes_in(value)


@pytest.mark.parametrize(
    ("document", "expected"),
    [
        ({}, None),
        ({"tags": {}}, None),
        ({"tags": {"AUTH_CLASSES": "a"}}, None),
        ({"auth_classes": "a"}, None),
        ({"tags": {"auth_classes": "a"}}, "a"),
        ({"tags": {"auth_classes": []}}, ""),
    ],
)
def test_only_the_tag_names_classes(document: dict[str, Any], expected: str | None) -> None:
    found = body.given_classes(document)
    assert found == (None if expected is None else classes(expected))


@pytest.mark.parametrize("tags", [None, [], "x", 1])
def test_tags_that_are_none_are_refused(tags: object) -> None:
    with pytest.raises(BadRequest):
        body.given_classes({"tags": tags})


def test_classes_are_put_in_beside_other_tags() -> None:
    document = {"id": "x", "tags": {"colour": "red", "auth_classes": "old"}}
    assert body.with_classes(document, classes("b a")) == {
        "id": "x",
        "tags": {"colour": "red", "auth_classes": ["a", "b"]},
    }
    assert document["tags"] == {"colour": "red", "auth_classes": "old"}
    assert body.with_classes({}, classes("a")) == {"tags": {"auth_classes": ["a"]}}


@pytest.mark.parametrize("value", [None, [], "x", 1, [{}]])
def test_what_is_no_object_is_refused(value: object) -> None:
    with pytest.raises(BadRequest):
        body.document_of(value)


@pytest.mark.parametrize("items", [None, {}, "x", [1], [None], [{}], [{"id": 1}], [{"id": None}]])
def test_what_are_no_members_is_refused(items: object) -> None:
    with pytest.raises(BadRequest):
        body.members_of(items)


def test_a_collection_has_an_end() -> None:
    assert len(body.members_of([{"id": "x"}] * 1000)) == 1000
    with pytest.raises(BadRequest):
        body.members_of([{"id": "x"}] * 1001)


def test_a_webhook_watches_flows_and_sources() -> None:
    document = {
        "flow_ids": ["f"],
        "source_ids": ["s"],
        "flow_collected_by_ids": ["g"],
        "source_collected_by_ids": ["t"],
        "events": ["x"],
    }
    expected = [("flow", "f"), ("source", "s"), ("flow", "g"), ("source", "t")]
    assert body.watched_ids(document) == expected
    assert body.watched_ids({}) == []
    assert len(body.watched_ids({"flow_ids": ["x"] * 1000})) == 1000


@pytest.mark.parametrize("ids", [None, "x", {}, [1], [None], ["x"] * 1001])
@pytest.mark.parametrize("name", body.WATCHED)
def test_what_are_no_ids_is_refused(name: str, ids: object) -> None:
    with pytest.raises(BadRequest):
        body.watched_ids({name: ids})


def test_segments_say_which_objects_they_use() -> None:
    urls = [{"url": "https://example.org"}]
    found = body.uses_of(
        [
            {"object_id": "o", "timerange": "[0:0_1:0)"},
            {"object_id": "p", "init_object_id": "i", "get_urls": urls, "timerange": "x"},
            {"object_id": "q", "init_object_id": 1, "get_urls": [], "timerange": 5},
            {"object_id": "r", "init_object_id": None},
        ],
        4,
    )
    assert found[0] == body.Use("o", None, False, "[0:0_1:0)")
    assert found[1] == body.Use("p", "i", True, None)
    assert found[2].problem and found[2] == body.Use("q", None, False, None, found[2].problem)
    assert found[3] == body.Use("r", None, False, None)
    assert body.uses_of({"object_id": "o"}, 1) == [body.Use("o", None, False, None)]


@pytest.mark.parametrize(
    "value",
    [None, [], "x", [1], [None], [{}], {}, [{"object_id": 1}], {"object_id": None}, [{"object_id": "o"}] * 3],
)
def test_what_are_no_segments_or_too_many_is_refused(value: object) -> None:
    with pytest.raises(BadRequest):
        body.uses_of(value, 2)


@pytest.mark.parametrize("text", ["_", "[0:0_1:0)", "(-1:5_", "_9:0]", "[3:0]", "()"])
def test_timeranges_are_told_again(text: str) -> None:
    assert body.uses_of({"object_id": "o", "timerange": text}, 1)[0].timerange == text


@pytest.mark.parametrize("text", ["x", "[0:0_1:0)x", "1", "<script>", "[0:0_1:0)\n", "[01:0_2:0)"])
def test_what_is_no_timerange_is_not_told_again(text: str) -> None:
    assert body.uses_of({"object_id": "o", "timerange": text}, 1)[0].timerange is None
