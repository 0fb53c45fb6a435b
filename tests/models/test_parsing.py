"""Reading bodies: what is refused before and during validation, and how a refusal reads."""

from __future__ import annotations

import json
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from pydantic import TypeAdapter

from store import errors
from store.models.common import TAG_VALUE
from store.models.flow import BIT_RATE, FLOW_PUT, READ_ONLY
from store.models.object import INSTANCES_POST
from store.models.parsing import MAX_DEPTH, MAX_SUMMARY, load, validate, validate_segments, validate_tag
from store.models.segment import SegmentPost
from store.models.service import ServicePost
from store.models.storage import StoragePost
from store.models.webhook import WebhookPost

REFUSED_BYTES = {
    "empty": (b"", "empty"),
    "blank": (b" \n\t", "empty"),
    "cut off": (b'{"a": ', "not valid JSON"),
    "two documents": (b"1 2", "not valid JSON"),
    "trailing comma": (b"[1,]", "not valid JSON"),
    "comment": (b"[1] // one", "not valid JSON"),
    "single quotes": (b"{'a': 1}", "not valid JSON"),
    "leading zero": (b"01", "not valid JSON"),
    "NaN": (b"[NaN]", "not valid JSON"),
    "infinity": (b"[-Infinity]", "not valid JSON"),
    "infinity by exponent": (b"[1e999]", "too large"),
    "minus infinity by exponent": (b'{"a": {"b": -1e999}}', "too large"),
    "65 bits": (b"[9223372036854775808]", "64 bits"),
    "65 bits below zero": (b'{"a": -9223372036854775809}', "64 bits"),
    "many digits": (b"1" * 4000, "64 bits"),
    "too many digits": (b"1" * 100_000, "not valid JSON"),
    "duplicate key": (b'{"id": 1, "id": 2}', 'Detected duplicate key "id"'),
    "duplicate key, escaped": (b'{"id": 1, "\\u0069d": 2}', "duplicate key"),
    "duplicate key, deeper": (b'{"a": [{"tags": {"x": 1, "x": 1}}]}', "duplicate key"),
    "NUL in a value": (b'["a\\u0000b"]', "NUL"),
    "NUL in a key": (b'{"a": {"\\u0000": 1}}', "NUL"),
    "raw NUL": (b'["\x00"]', "not valid JSON"),
    "raw control character": (b'["\x1f"]', "not valid JSON"),
    "lone high surrogate": (b'["\\ud800"]', "not valid JSON"),
    "lone low surrogate": (b'["\\udc00"]', "not valid JSON"),
    "surrogate in UTF-8": (b'["\xed\xa0\x80"]', "not valid JSON"),
    "invalid UTF-8": (b'["\xff"]', "not valid JSON"),
    "overlong UTF-8": (b'["\xc0\x80"]', "not valid JSON"),
    "byte order mark": (b"\xef\xbb\xbf{}", "not valid JSON"),
    "UTF-16": ('{"a": 1}'.encode("utf-16"), "not valid JSON"),
    "deep": (b"[" * (MAX_DEPTH + 1) + b"]" * (MAX_DEPTH + 1), "nested deeper"),
    "deep objects": (b'{"a":' * (MAX_DEPTH + 1) + b"1" + b"}" * (MAX_DEPTH + 1), "nested deeper"),
    "many properties": (json.dumps({str(n): n for n in range(4097)}).encode(), "more than 4096 properties"),
    "100,000 deep": (b"[" * 100_000, "not valid JSON"),
    "wide": (b"[" + b"{}," * 300_000 + b"{}]", "more than 500000 values"),
}


@pytest.mark.parametrize(("body", "reason"), REFUSED_BYTES.values(), ids=REFUSED_BYTES)
def test_a_malformed_body_is_refused_with_its_reason(body: bytes, reason: str) -> None:
    with pytest.raises(errors.BadRequest, match=reason) as refusal:
        load(body)
    assert len(refusal.value.summary) < 300


@pytest.mark.parametrize(
    ("body", "document"),
    [
        (b" null ", None),
        (b'"\\ud83d\\ude00 \\u00e9"', "\U0001f600 \u00e9"),
        (b'"\\\\u0000"', "\\u0000"),
        (b"[9223372036854775807, -9223372036854775808]", [2**63 - 1, -(2**63)]),
        (b"[1.0, 1e3, -0]", [1.0, 1000.0, 0]),
        (b"[" * MAX_DEPTH + b"]" * MAX_DEPTH, json.loads("[" * MAX_DEPTH + "]" * MAX_DEPTH)),
    ],
)
def test_a_well_formed_body_is_read(body: bytes, document: object) -> None:
    assert load(body) == document


JSON = st.recursive(
    st.none() | st.booleans() | st.integers(-(2**63), 2**63 - 1) | st.text() | st.floats(allow_nan=False),
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(st.text(), inner, max_size=4),
    max_leaves=12,
)


@given(JSON)
def test_what_is_written_is_read_or_refused(document: Any) -> None:
    body = json.dumps(document).encode()
    try:
        read = load(body)
    except errors.BadRequest as refusal:
        assert (
            "\\u0000" in json.dumps(document) or "Infinity" in json.dumps(document) or "\\ud" in body.decode()
        )
        assert refusal.summary
    else:
        assert read == document


@given(st.binary(max_size=60))
def test_any_bytes_are_read_or_refused(body: bytes) -> None:
    try:
        load(body)
    except errors.BadRequest as refusal:
        assert refusal.summary


VIDEO = "urn:x-nmos:format:video"
IDS = {"id": "0fde9c11-da9d-434a-a113-d3b20a2cf251", "source_id": "5a53975a-1ab5-4636-a4bf-23a0c1cd0daa"}
REFUSED_DOCUMENTS: list[tuple[Any, object, str]] = [
    (ServicePost, None, "the body must be an object, not null"),
    (ServicePost, [], "the body must be an object, not an array"),
    (ServicePost, "x", 'the body must be an object, not "x"'),
    (ServicePost, {"name": None}, "/name must be a string, not null"),
    (ServicePost, {"name": 1}, "/name must be a string, not 1"),
    (FLOW_PUT, None, "the body must be an object, not null"),
    (FLOW_PUT, [None], "the body must be an object, not an array"),
    (FLOW_PUT, {}, "/format is required"),
    (FLOW_PUT, {"format": 1}, "/format must be one of"),
    (FLOW_PUT, {"format": {}}, "/format must be one of"),
    (FLOW_PUT, {"format": VIDEO}, "/codec is required; /essence_parameters is required"),
    (
        FLOW_PUT,
        {"format": VIDEO, "essence_parameters": []},
        "/essence_parameters must be an object, not an array",
    ),
    (SegmentPost, {"object_id": 5}, "/object_id must be a string, not 5; /timerange is required"),
    (SegmentPost, {"object_id": "o", "timerange": 5}, "/timerange must be a string, not 5"),
    (SegmentPost, {"object_id": "o", "timerange": "x"}, "/timerange: timerange 'x'"),
    (INSTANCES_POST, [], "the body must be an object"),
    (INSTANCES_POST, {}, "either storage_id, or url and label, are required"),
    (INSTANCES_POST, {"url": "https://x/y"}, "/label is required"),
    (INSTANCES_POST, {"url": "https://x/y", "label": ""}, "/label"),
    (INSTANCES_POST, {"url": "https://x/y", "label": "a", "storage_id": IDS["id"]}, "exclude each other"),
    (INSTANCES_POST, {"storage_id": "X"}, "/storage_id must be a lower-case UUID"),
    (StoragePost, {"limit": "1"}, '/limit must be an integer of 64 bits, greater than 0, not "1"'),
    (StoragePost, {"limit": True}, "not true"),
    (StoragePost, {"limit": 1.5}, "not 1.5"),
    (StoragePost, {"limit": 1e300}, "not 1e"),
    (StoragePost, {"limit": 2**63}, "64 bits"),
    (StoragePost, {"limit": 0}, "greater than 0"),
    (StoragePost, {"presigned": "true"}, '/presigned must be true or false, not "true"'),
    (StoragePost, {"presigned": 1}, "/presigned must be true or false, not 1"),
    (StoragePost, {"content_type": "video"}, "/content_type must be a MIME type"),
    (READ_ONLY, "false", "the body must be true or false"),
    (READ_ONLY, 0, "the body must be true or false"),
    (BIT_RATE, -1, "the body must be an integer of 64 bits, not negative"),
    (BIT_RATE, None, "not null"),
    (TAG_VALUE, 5, "the body"),
    (TAG_VALUE, [None], "the body"),
    (WebhookPost, {"url": "https://x", "events": [1]}, "/events/0 must be one of 'flows/created'"),
    (WebhookPost, {"url": "https://x", "events": ["flows/renamed"]}, 'or .*, not "flows/renamed"'),
    (WebhookPost, {"url": "https://x", "events": [], "tags": None}, "/tags: must be an object"),
]


@pytest.mark.parametrize(("model", "document", "reason"), REFUSED_DOCUMENTS)
def test_a_document_that_breaks_its_model_is_refused_with_its_reason(
    model: Any, document: object, reason: str
) -> None:
    with pytest.raises(errors.BadRequest, match=reason) as refusal:
        validate(model, document)
    for noise in ("<technical>", "urn:x-nmos:format:video/", "pydantic", "Value error", "function-"):
        assert noise not in refusal.value.summary


def test_a_float_without_fraction_is_an_integer_as_in_json_schema() -> None:
    limit = validate(StoragePost, {"limit": 3.0}).limit
    assert limit == 3
    assert isinstance(limit, int)


def test_every_problem_is_told_at_once_up_to_a_bound() -> None:
    events = ["x" * 500] * 90
    with pytest.raises(errors.BadRequest) as refusal:
        validate(WebhookPost, {"url": 1, "events": events, "p" * 5000: 1, "status": "y" * 5000})
    assert refusal.value.summary.count("/events/") == 9
    assert len(refusal.value.summary) <= MAX_SUMMARY


def test_problems_beyond_the_tenth_are_counted() -> None:
    with pytest.raises(errors.BadRequest, match="; and 2 more$"):
        validate(TypeAdapter(list[bool], config={"strict": True}), [None] * 12)


def test_a_path_escapes_slashes_and_is_bounded() -> None:
    document = {"format": "urn:x-nmos:format:data", "codec": "a/b", **IDS, "essence_parameters": {"a/b~": 1}}
    with pytest.raises(
        errors.BadRequest, match=r"^/essence_parameters/a~1b~0 is not a property of this object$"
    ):
        validate(FLOW_PUT, document)
    document["essence_parameters"] = {"k" * 10_000: 1}
    with pytest.raises(errors.BadRequest) as refusal:
        validate(FLOW_PUT, document)
    assert len(refusal.value.summary) < 200


@pytest.mark.parametrize("name", ["api_key_value", "url"])
@pytest.mark.parametrize("value", ["canary\n", ["canary"], {"canary": "canary"}])
def test_a_refusal_never_repeats_a_credential(name: str, value: object) -> None:
    with pytest.raises(errors.BadRequest) as refusal:
        validate(WebhookPost, {"url": "https://x", "events": []} | {name: value})
    assert name in refusal.value.summary
    assert "canary" not in refusal.value.summary
    assert refusal.value.__cause__ is None
    assert refusal.value.__suppress_context__


def test_segments_come_alone_or_in_an_array() -> None:
    one = {"object_id": "o", "timerange": "[0:0_1:0)"}
    alone, in_bulk = validate_segments(one)
    assert ([post.object_id for post in alone], in_bulk) == (["o"], False)
    several, in_bulk = validate_segments([one, one | {"object_id": "p"}])
    assert ([post.object_id for post in several], in_bulk) == (["o", "p"], True)
    assert validate_segments([]) == ([], True)


def test_a_bad_segment_in_an_array_is_named_by_its_place() -> None:
    with pytest.raises(errors.BadRequest, match=r"^/1/timerange is required$"):
        validate_segments([{"object_id": "o", "timerange": "[0:0_1:0)"}, {"object_id": "p"}])


@pytest.mark.parametrize("value", ["a", "", ["a", "b"], []])
def test_a_tag_is_set_to_a_string_or_a_list(value: object) -> None:
    assert validate_tag("quality", value) == value


@pytest.mark.parametrize(("name", "value"), [("quality", 1), ("quality", None), ("quality", [1]), ("a", {})])
def test_a_tag_is_never_set_to_anything_else(name: str, value: object) -> None:
    with pytest.raises(errors.BadRequest, match="must be a string or an array of strings"):
        validate_tag(name, value)


@pytest.mark.parametrize("value", ["*", "", "a b", "a,b", "é", "x" * 129, ["news", "a:b"], "news\n"])
def test_a_class_outside_the_alphabet_is_refused_wherever_it_is_set(value: object) -> None:
    with pytest.raises(errors.BadRequest, match="each class in tag 'auth_classes'"):
        validate_tag("auth_classes", value)
    with pytest.raises(errors.BadRequest, match="each class in tag 'auth_classes'"):
        validate(WebhookPost, {"url": "https://x", "events": [], "tags": {"auth_classes": value}})
