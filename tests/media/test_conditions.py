from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from store import errors
from store.media.conditions import Part, Unchanged, Whole, http_date, wanted

SIZE, ETAG, MODIFIED_S = 100, '"abc"', 1_700_000_000


def asked(**headers: str) -> Whole | Part | Unchanged:
    named = {name.replace("_", "-"): value for name, value in headers.items()}
    return wanted(named, size_bytes=SIZE, etag=ETAG, modified_s=MODIFIED_S)


@pytest.mark.parametrize(
    ("header", "answer"),
    [
        ("bytes=0-0", Part(0, 1)),
        ("bytes=5-", Part(5, 100)),
        ("bytes=5-1000", Part(5, 100)),
        ("bytes=-5", Part(95, 100)),
        ("bytes=-1000", Part(0, 100)),
        ("bytes = 1 - 2", Part(1, 3)),
        ("bytes=0-1,5-6", Whole()),
        ("bytes=" + ",".join(f"{n}-{n}" for n in range(10_000)), Whole()),
        ("bytes=" + "9" * 100_000 + "-", Whole()),
        ("bytes=6-5", Whole()),
        ("bytes=-", Whole()),
        ("bytes=a-b", Whole()),
        ("bytes=٠-٥", Whole()),
        ("items=0-5", Whole()),
        ("", Whole()),
    ],
)
def test_ranges(header: str, answer: Whole | Part) -> None:
    assert asked(range=header) == answer


@pytest.mark.parametrize("header", ["bytes=100-", "bytes=100-200", "bytes=-0", "bytes=99999999999999999999-"])
def test_a_range_without_a_byte_says_how_many_there_are(header: str) -> None:
    with pytest.raises(errors.RangeNotSatisfiable) as caught:
        asked(range=header)
    assert caught.value.size_bytes == SIZE


def test_no_part_of_an_empty_object_can_be_had() -> None:
    with pytest.raises(errors.RangeNotSatisfiable):
        wanted({"range": "bytes=0-"}, size_bytes=0, etag=ETAG, modified_s=0)


@pytest.mark.parametrize(
    ("header", "answer"),
    [
        (ETAG, Unchanged()),
        (f"W/{ETAG}", Unchanged()),
        (f'"x", {ETAG}', Unchanged()),
        ("*", Unchanged()),
        ('"x"', Whole()),
        ("abc", Whole()),
    ],
)
def test_if_none_match(header: str, answer: Whole | Unchanged) -> None:
    assert asked(if_none_match=header) == answer


@pytest.mark.parametrize(
    ("header", "answer"),
    [
        (http_date(MODIFIED_S), Unchanged()),
        (http_date(MODIFIED_S + 1), Unchanged()),
        (http_date(MODIFIED_S - 1), Whole()),
        ("yesterday", Whole()),
        ("", Whole()),
        ("Mon, 99 Foo 99999999999 00:00:00 GMT", Whole()),
    ],
)
def test_if_modified_since(header: str, answer: Whole | Unchanged) -> None:
    assert asked(if_modified_since=header) == answer


def test_if_none_match_outweighs_if_modified_since() -> None:
    assert asked(if_none_match='"x"', if_modified_since=http_date(MODIFIED_S)) == Whole()


@pytest.mark.parametrize(
    ("header", "answer"),
    [
        (ETAG, Part(1, 3)),
        (f"W/{ETAG}", Whole()),
        ('"x"', Whole()),
        (http_date(MODIFIED_S), Part(1, 3)),
        (http_date(MODIFIED_S + 1), Whole()),
        ("nonsense", Whole()),
    ],
)
def test_a_range_holds_only_for_the_version_it_was_meant_for(header: str, answer: Whole | Part) -> None:
    assert asked(range="bytes=1-2", if_range=header) == answer


@given(
    st.dictionaries(st.sampled_from(["range", "if-range", "if-none-match", "if-modified-since"]), st.text())
)
def test_no_header_breaks_anything(headers: dict[str, str]) -> None:
    try:
        answer = wanted(headers, size_bytes=SIZE, etag=ETAG, modified_s=MODIFIED_S)
    except errors.RangeNotSatisfiable:
        return
    assert not isinstance(answer, Part) or 0 <= answer.start < answer.end <= SIZE
