"""Timeranges: the grammar, the canonical text, and set laws against a model of whole nanoseconds."""

from __future__ import annotations

import json
import re
from pathlib import Path

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from store.timerange import (
    ETERNITY,
    MAX_NS,
    MIN_NS,
    NEVER,
    InvalidTimeRange,
    TimeRange,
    format_timestamp,
    parse_timestamp,
)

SCHEMAS = Path(__file__).resolve().parents[2] / "shared" / "tams-api" / "8.2" / "schemas"
S = 1_000_000_000

PARSED = [
    ("_", ETERNITY),
    ("[_)", ETERNITY),
    ("(_]", ETERNITY),
    ("_]", ETERNITY),
    ("()", NEVER),
    ("[5:0_1:0)", NEVER),
    ("(5:0_4:999999999]", NEVER),
    ("[1:0]", TimeRange(S, S, True, True)),
    ("[1:0_1:0]", TimeRange(S, S, True, True)),
    ("[0:0_10:0)", TimeRange(0, 10 * S)),
    ("(0:0_10:0]", TimeRange(0, 10 * S, False, True)),
    ("(5:0_", TimeRange(5 * S, None, False)),
    ("[5:0_)", TimeRange(5 * S, None)),
    ("[5:0_]", TimeRange(5 * S, None)),
    ("_10:0)", TimeRange(None, 10 * S)),
    ("(_10:0]", TimeRange(None, 10 * S, True, True)),
    ("[-1:500000000_0:0)", TimeRange(-1_500_000_000, 0)),
    ("[-0:1_0:1)", TimeRange(-1, 1)),
    ("[-0:0]", TimeRange(0, 0, True, True)),
    (
        "[1694429247:40000000_1694429248:999999999]",
        TimeRange(1694429247040000000, 1694429248999999999, True, True),
    ),
    ("[-9223372036:854775808_9223372036:854775807)", TimeRange(MIN_NS, MAX_NS)),
]

REFUSED_THOUGH_THE_SCHEMA_PATTERN_MATCHES = [
    ("", "neither"),
    ("[", "neither"),
    ("(", "neither"),
    ("]", "neither"),
    (")", "neither"),
    ("[]", "neither"),
    ("[)", "neither"),
    ("(]", "neither"),
    ("5:0", "single timestamp"),
    ("[5:0", "single timestamp"),
    ("5:0]", "single timestamp"),
    ("(5:0)", "exclu"),
    ("[5:0)", "exclu"),
    ("(5:0]", "exclu"),
    ("[0:0_10:0", "the end needs"),
    ("_10:0", "the end needs"),
    ("0:0_10:0)", "the start needs"),
    ("0:0_", "the start needs"),
    ("0:0_10:0", "the start needs"),
    ("[5:0_5:0)", "instantaneous"),
    ("(5:0_5:0]", "instantaneous"),
    ("(5:0_5:0)", "instantaneous"),
    ("[99999999999:0_", "64 bits"),
    ("[9223372037:0_", "64 bits"),
    ("[9223372036:854775808_", "64 bits"),
    ("[-9223372036:854775809_", "64 bits"),
    ("[0:0_9223372036:854775807]", "64 bits"),
    ("(9223372036:854775807_", "64 bits"),
]

REFUSED = [
    ("[1:0]\n", "not seconds"),
    (" [1:0]", "not seconds"),
    ("__", "more than one"),
    ("[1:0_2:0_3:0)", "more than one"),
    ("[01:0_2:0)", "leading zeros"),
    ("[1:00_2:0)", "leading zeros"),
    ("[1:1000000000_2:0)", "more than 9 digits"),
    ("[1_2)", "not seconds"),
    ("[1.0:0_2:0)", "not seconds"),
    ("[+1:0_2:0)", "not seconds"),
    ("[--1:0_2:0)", "not seconds"),
    ("[1:-5_2:0)", "not seconds"),
    ("[٣:0_4:0)", "not seconds"),
    ("[1:0,2:0)", "not seconds"),
    ("[[1:0_2:0)", "expected"),
    ("1:01:0", "not seconds"),
    ("never", "not seconds"),
]


@pytest.mark.parametrize(("text", "value"), PARSED)
def test_a_text_of_the_grammar_is_parsed(text: str, value: TimeRange) -> None:
    assert TimeRange.parse(text) == value


@pytest.mark.parametrize(("text", "reason"), REFUSED_THOUGH_THE_SCHEMA_PATTERN_MATCHES + REFUSED)
def test_a_text_outside_the_grammar_is_refused_with_its_reason(text: str, reason: str) -> None:
    with pytest.raises(InvalidTimeRange, match=reason):
        TimeRange.parse(text)


def test_the_tables_agree_with_the_published_pattern() -> None:
    if not SCHEMAS.is_dir():
        pytest.skip("the TAMS 8.2 schemas are not beside the checkout")
    pattern = re.compile(json.loads((SCHEMAS / "timerange.json").read_text())["pattern"])
    assert all(pattern.match(text) for text, _ in PARSED)
    assert all(pattern.match(text) for text, _ in REFUSED_THOUGH_THE_SCHEMA_PATTERN_MATCHES)
    assert [text for text, _ in REFUSED if pattern.fullmatch(text)] == []


def test_a_refusal_quotes_little_of_a_long_text() -> None:
    with pytest.raises(InvalidTimeRange) as refusal:
        TimeRange.parse("[" + "9" * 1_000_000)
    assert len(str(refusal.value)) < 300


@pytest.mark.parametrize(
    ("value", "text"),
    [
        (ETERNITY, "_"),
        (NEVER, "()"),
        (TimeRange(5, 1), "()"),
        (TimeRange(5, 6, False, False), "()"),
        (TimeRange.instant(S), "[1:0]"),
        (TimeRange(0, 10 * S), "[0:0_10:0)"),
        (TimeRange(-1, 1, False, True), "(-0:1_0:1]"),
        (TimeRange(None, 0, False, True), "_0:0]"),
        (TimeRange(0, None, True, True), "[0:0_"),
    ],
)
def test_the_canonical_text(value: TimeRange, text: str) -> None:
    assert str(value) == text


def test_the_bracket_of_an_omitted_bound_does_not_count() -> None:
    assert TimeRange(None, 5, False) == TimeRange(None, 5, True)
    assert hash(TimeRange(5, None, True, True)) == hash(TimeRange(5, None))


def test_an_exclusive_end_and_an_instant_at_it_do_not_overlap_and_sort_in_order() -> None:
    before, at = TimeRange.parse("[1:0_2:0)"), TimeRange.parse("[2:0]")
    assert not before.overlaps(at)
    assert before.stop_ns == at.first_ns
    assert TimeRange.parse("[1:0_2:0]").overlaps(at)


@pytest.mark.parametrize(
    ("text", "first", "stop", "length"),
    [
        ("[1:0_2:0)", S, 2 * S, S),
        ("(1:0_2:0]", S + 1, 2 * S + 1, S),
        ("[1:0]", S, S + 1, 1),
        ("_2:0)", None, 2 * S, None),
        ("[1:0_", S, None, None),
        ("_", None, None, None),
    ],
)
def test_first_is_inclusive_and_stop_exclusive(
    text: str, first: int | None, stop: int | None, length: int | None
) -> None:
    value = TimeRange.parse(text)
    assert (value.first_ns, value.stop_ns, value.length_ns) == (first, stop, length)


@pytest.mark.parametrize("offset", [1, -1])
def test_a_shift_out_of_64_bits_is_refused(offset: int) -> None:
    edge = TimeRange(MIN_NS, MIN_NS + 5) if offset < 0 else TimeRange(MAX_NS - 5, MAX_NS)
    with pytest.raises(InvalidTimeRange, match="64 bits"):
        edge.shift(offset)


@pytest.mark.parametrize(
    ("text", "ns"),
    [
        ("0:0", 0),
        ("-0:0", 0),
        ("-1:500000000", -1_500_000_000),
        ("1:1", S + 1),
        ("9223372036:854775807", MAX_NS),
        ("-9223372036:854775808", MIN_NS),
    ],
)
def test_a_timestamp_is_parsed(text: str, ns: int) -> None:
    assert parse_timestamp(text) == ns


@pytest.mark.parametrize(
    "text",
    ["", "1", ":", "1:", ":1", "01:0", "1:01", "1:1234567890", "1:0 ", "1:0\n", "[1:0]", "1e3:0", "1:0:0"]
    + ["9223372036:854775808", "-9223372036:854775809", "10000000000:0", "１:0"],
)
def test_a_text_that_is_no_timestamp_is_refused(text: str) -> None:
    with pytest.raises(InvalidTimeRange, match="timestamp"):
        parse_timestamp(text)


NS = st.one_of(
    st.integers(-20, 20),
    st.integers(MIN_NS, MAX_NS - 1),
    st.sampled_from([MIN_NS, MIN_NS + 1, -S, S, MAX_NS - 1]),
)
BOUND = st.one_of(st.none(), NS)
RANGES = st.builds(
    lambda start, end, i, j: TimeRange(start, end, i, j), BOUND, BOUND, st.booleans(), st.booleans()
)

SMALL = st.one_of(st.none(), st.integers(-4, 4))
SMALL_RANGES = st.builds(TimeRange, SMALL, SMALL, st.booleans(), st.booleans())
WORLD = range(-8, 9)


def members(value: TimeRange) -> frozenset[int]:
    """The brute-force model: which of the small integers are in the range."""

    def inside(ns: int) -> bool:
        after = (
            value.start_ns is None or ns > value.start_ns or (value.include_start and ns == value.start_ns)
        )
        before = value.end_ns is None or ns < value.end_ns or (value.include_end and ns == value.end_ns)
        return after and before

    return frozenset(filter(inside, WORLD))


@given(st.integers(MIN_NS, MAX_NS))
@example(-1)
@example(-S)
def test_timestamps_survive_a_round_trip(ns: int) -> None:
    assert parse_timestamp(format_timestamp(ns)) == ns


@given(RANGES)
def test_timeranges_survive_a_round_trip(value: TimeRange) -> None:
    assert TimeRange.parse(str(value)) == value


@given(st.text(alphabet="[]()_:-0159", max_size=14))
def test_parsing_refuses_or_yields_a_range_that_reads_back(text: str) -> None:
    try:
        value = TimeRange.parse(text)
    except InvalidTimeRange:
        return
    assert TimeRange.parse(str(value)) == value


@given(SMALL_RANGES, SMALL_RANGES)
def test_set_operations_agree_with_the_brute_force_model(one: TimeRange, other: TimeRange) -> None:
    a, b = members(one), members(other)
    assert one.is_empty == (not a)
    assert one.overlaps(other) == bool(a & b)
    assert members(one.intersection(other)) == a & b
    assert one.contains(other) == (b <= a)
    spanned = frozenset(ns for ns in WORLD if min(a | b) <= ns <= max(a | b)) if a | b else frozenset()
    assert members(one.span(other)) == spanned


@given(SMALL_RANGES, SMALL_RANGES)
def test_set_operations_obey_their_laws(one: TimeRange, other: TimeRange) -> None:
    both = one.intersection(other)
    assert one.overlaps(other) == other.overlaps(one) == (not both.is_empty)
    assert one.contains(both) and other.contains(both)
    assert one.span(other).contains(one) and one.span(other).contains(other)
    assert ETERNITY.intersection(one) == one == NEVER.span(one)


@given(SMALL_RANGES, st.integers(-4, 4))
def test_a_shift_moves_every_member(value: TimeRange, offset: int) -> None:
    moved = value.shift(offset)
    assert moved.shift(-offset) == value
    assert moved.length_ns == value.length_ns
    inner = range(-4, 5)
    assert {ns for ns in inner if ns in members(moved)} == {
        ns for ns in inner if value.contains(TimeRange.instant(ns - offset))
    }


@given(SMALL_RANGES, SMALL_RANGES)
def test_semantics_agree_with_mediatimestamp(one: TimeRange, other: TimeRange) -> None:
    """One difference is left out: mediatimestamp sees a moment between two neighbouring nanoseconds."""
    theirs = pytest.importorskip("mediatimestamp.immutable").TimeRange
    a, b = theirs.from_str(str(one)), theirs.from_str(str(other))
    assert TimeRange.parse(a.to_sec_nsec_range()) == one
    if one.overlaps(other):
        common = TimeRange.parse(a.intersect_with(b).to_sec_nsec_range())
        ours = one.intersection(other)
        assert (common.first_ns, common.stop_ns) == (ours.first_ns, ours.stop_ns)
    if a.contains_subrange(b):
        assert one.contains(other)
