"""Shared values: limits in bytes, tags and classes, texts that keep their parsed value, times."""

from __future__ import annotations

import re
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from pydantic import TypeAdapter

from store import errors
from store.models import common
from store.models.common import TimeRangeText, TimestampText, classes_of, format_time, tag_problem
from store.models.parsing import validate
from store.timerange import MAX_NS, MIN_NS, TimeRange


@pytest.mark.parametrize(
    ("tags", "classes"),
    [
        ({}, set()),
        ({"other": ["news"]}, set()),
        ({"auth_classes": "news"}, {"news"}),
        ({"auth_classes": ["news", "sport", "news"]}, {"news", "sport"}),
        ({"auth_classes": []}, set()),
    ],
)
def test_a_plain_string_counts_as_a_list_of_one_class(tags: dict[str, Any], classes: set[str]) -> None:
    assert classes_of(tags) == classes


@pytest.mark.parametrize("name", ["news", "sport_ro", "A-Z.0", "x" * 128])
def test_a_class_of_the_alphabet_is_accepted(name: str) -> None:
    assert tag_problem("auth_classes", [name]) is None


@pytest.mark.parametrize(
    ("type_", "limit"),
    [
        (common.Label, common.LABEL_BYTES),
        (common.Description, common.DESCRIPTION_BYTES),
        (common.ObjectId, common.OBJECT_ID_BYTES),
    ],
)
def test_limits_count_bytes_of_utf_8(type_: Any, limit: int) -> None:
    adapter = TypeAdapter(type_)
    assert validate(adapter, "é" * (limit // 2)) == "é" * (limit // 2)
    assert validate(adapter, "e" * limit) == "e" * limit
    for text in ("é" * (limit // 2) + "e", "e" * (limit + 1)):
        with pytest.raises(errors.BadRequest, match="must be at most"):
            validate(adapter, text)


@pytest.mark.parametrize(
    ("name", "value", "reason"),
    [
        ("é" * 128 + "e", "v", "tag name must be at most 256 bytes"),
        ("e" * 257, "v", "tag name must be at most 256 bytes"),
        ("n", "é" * 2048 + "e", "value of tag 'n' must be at most 4096 bytes"),
        ("n", ["v", "e" * 4097], "value of tag 'n' must be at most 4096 bytes"),
        ("n", ["v"] * 1001, "at most 1000 values"),
    ],
)
def test_an_over_long_tag_is_a_problem(name: str, value: object, reason: str) -> None:
    assert reason in str(tag_problem(name, value))


@pytest.mark.parametrize(("name", "value"), [("é" * 128, "é" * 2048), ("n", ["v"] * 1000), ("", "")])
def test_a_tag_at_its_limits_is_none(name: str, value: object) -> None:
    assert tag_problem(name, value) is None


def test_too_many_tags_are_refused() -> None:
    with pytest.raises(errors.BadRequest, match="at most 1000 tags"):
        validate(common.TAGS_BODY, {str(n): "v" for n in range(1001)})


UUID = "0fde9c11-da9d-434a-a113-d3b20a2cf251"


@pytest.mark.parametrize(
    "text",
    [
        UUID.upper(),
        UUID + "\n",
        "{" + UUID + "}",
        UUID.replace("-", ""),
        "0fde9c11-da9d-034a-a113-d3b20a2cf251",
        "0fde9c11-da9d-634a-a113-d3b20a2cf251",
        "0fde9c11-da9d-434a-c113-d3b20a2cf251",
        "",
    ],
)
def test_only_lower_case_uuids_of_versions_1_to_5_are_ids(text: str) -> None:
    with pytest.raises(errors.BadRequest, match="must be a lower-case UUID"):
        validate(TypeAdapter(common.Uuid), text)
    assert validate(TypeAdapter(common.Uuid), UUID) == UUID


RANGE = TypeAdapter(TimeRangeText)
STAMP = TypeAdapter(TimestampText)


@pytest.mark.parametrize(
    ("text", "canonical"),
    [
        ("[1:0_1:0]", "[1:0]"),
        ("[-0:0_1:0)", "[0:0_1:0)"),
        ("[5:0_1:0)", "()"),
        ("(_5:0]", "_5:0]"),
        ("[1:0_2:0)", "[1:0_2:0)"),
        ("(-1:5_-0:5]", "(-1:5_-0:5]"),
        ("(1:0_1:1)", "()"),
    ],
)
def test_a_timerange_is_kept_canonical_with_its_value(text: str, canonical: str) -> None:
    kept = validate(RANGE, text)
    assert (kept, kept.value) == (canonical, TimeRange.parse(text))


BOUND = st.none() | st.integers(-5, 5) | st.integers(MIN_NS, MAX_NS - 1)


@given(BOUND, BOUND, st.booleans(), st.booleans())
def test_the_kept_text_is_always_the_canonical_one(
    start: int | None, end: int | None, opens: bool, closes: bool
) -> None:
    written = "".join(
        [
            "" if start is None else ("[" if opens else "(") + TimestampText.of(start),
            "_",
            "" if end is None else TimestampText.of(end) + ("]" if closes else ")"),
        ]
    )
    if start is not None and start == end and not (opens and closes):
        return
    assert re.fullmatch(common.TIMERANGE_PATTERN, written)
    kept = TimeRangeText.parse(written)
    assert re.fullmatch(common.TIMERANGE_PATTERN, kept)
    assert kept == str(kept.value)
    assert TimeRangeText.parse(kept) == kept == TimeRangeText.of(kept.value)


@pytest.mark.parametrize(("text", "kept", "ns"), [("-0:0", "0:0", 0), ("-1:5", "-1:5", -1_000_000_005)])
def test_a_timestamp_is_kept_canonical_with_its_nanoseconds(text: str, kept: str, ns: int) -> None:
    stamp = validate(STAMP, text)
    assert (stamp, stamp.ns) == (kept, ns)


@pytest.mark.parametrize(
    ("ns", "text"),
    [
        (0, "1970-01-01T00:00:00.000000Z"),
        (1_795_248_000_123_456_789, "2026-11-21T08:00:00.123456Z"),
        (-1, "1969-12-31T23:59:59.999999Z"),
        (MAX_NS, "2262-04-11T23:47:16.854775Z"),
        (MIN_NS, "1677-09-21T00:12:43.145224Z"),
    ],
)
def test_a_time_is_told_in_utc_with_microseconds(ns: int, text: str) -> None:
    assert format_time(ns) == text


@given(st.integers(MIN_NS, MAX_NS))
def test_times_agree_with_the_calendar_and_sort_as_text(ns: int) -> None:
    moment = datetime(1970, 1, 1, tzinfo=UTC) + timedelta(microseconds=ns // 1000)
    assert datetime.fromisoformat(format_time(ns)) == moment
    assert (format_time(ns) < format_time(0)) == (ns // 1000 < 0)
