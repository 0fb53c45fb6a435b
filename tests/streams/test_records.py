"""The bytes of hot files and of sealed objects."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from store.streams.entries import entries_of
from store.streams.records import (
    HOT_HEADER_BYTES,
    Broken,
    Head,
    Record,
    hot_head,
    hot_tail,
    hot_tail_bytes,
    is_hot,
    read_hot_head,
    read_hot_tail,
    read_record,
    read_sealed_head,
    record,
    record_size,
    sealed_head,
)

HEAD = Head(1_700_000_000_000_000_001, 17, 4711, 1_700_000_000_000_000_002)
entries = st.lists(st.binary(max_size=40), min_size=1, max_size=6)


def whole(ids: list[int], commit: list[bytes], at: int) -> tuple[bytes, Record]:
    """A record as it is written, and what it holds."""
    head, made = record(ids, entries_of(commit), at)
    return head + b"".join(commit), made


@given(st.lists(entries, min_size=1, max_size=4))
def test_records_are_read_as_they_were_written(commits: list[list[bytes]]) -> None:
    data, number, expected = hot_head(HEAD), 1, []
    for commit in commits:
        ids = list(range(number, number + len(commit)))
        written, made = whole(ids, commit, len(data))
        data += written
        number += len(commit)
        expected.append((ids, commit))
        assert made.end == len(data)
    assert read_hot_head(data) == HEAD
    at = HOT_HEADER_BYTES
    for ids, commit in expected:
        found = read_record(data, at, at)
        assert found is not None
        assert list(found.ids) == ids
        assert [data[s : s + n] for s, n in zip(found.starts, found.lengths, strict=True)] == commit
        at = found.end
    assert read_record(data, at, at) is None


@given(entries, st.data())
def test_a_record_that_is_not_whole_is_none(commit: list[bytes], data: st.DataObject) -> None:
    written, _ = whole(list(range(len(commit))), commit, 0)
    length = data.draw(st.integers(0, len(written) - 1))
    assert read_record(written[:length], 0, 0) is None
    assert read_record(written[:length] + bytes(len(written) - length + 8), 0, 0) is None or not any(
        written[length:]
    )


@given(entries, st.data())
def test_a_record_with_a_wrong_bit_is_none(commit: list[bytes], data: st.DataObject) -> None:
    written, _ = whole(list(range(len(commit))), commit, 0)
    bit = data.draw(st.integers(0, len(written) * 8 - 1))
    damaged = bytearray(written)
    damaged[bit // 8] ^= 1 << bit % 8
    assert read_record(bytes(damaged), 0, 0) is None


@given(entries)
def test_a_sealed_object_tells_where_its_entries_are(commit: list[bytes]) -> None:
    ids = list(range(5, 5 + len(commit)))
    data = sealed_head(HEAD, ids, [len(entry) for entry in commit]) + b"".join(commit)
    index = read_sealed_head(data)
    assert index.head == Head(HEAD.base, HEAD.ordinal, HEAD.size_before)
    assert list(index.ids) == ids
    assert [data[s : s + n] for s, n in zip(index.starts, index.lengths, strict=True)] == commit


@given(st.lists(entries, min_size=1, max_size=4), st.binary(max_size=50))
def test_so_does_a_hot_file_that_has_become_one(commits: list[list[bytes]], before: bytes) -> None:
    data, found = hot_head(HEAD), []
    for commit in commits:
        written, made = whole([len(found) + place for place in range(len(commit))], commit, len(data))
        data += written
        found += list(zip(made.ids, made.starts, made.lengths, strict=True))
    assert is_hot(data)
    tail = hot_tail(HEAD, *map(list, zip(*found, strict=True)))
    assert hot_tail_bytes(tail[-44:]) == len(tail.removeprefix(bytes(12)))
    index = read_hot_tail(before + tail)
    assert index.head == Head(HEAD.base, HEAD.ordinal, HEAD.size_before)
    assert [data[s : s + n] for s, n in zip(index.starts, index.lengths, strict=True)] == sum(commits, [])
    assert not record_size(tail) and read_record(data + tail, len(data), len(data)) is None


@given(entries, st.data())
def test_a_tail_with_a_wrong_bit_is_broken(commit: list[bytes], data: st.DataObject) -> None:
    places = list(range(len(commit)))
    tail = hot_tail(HEAD, places, places, list(map(len, commit)))
    # The zeros in front are but there for those who read records.
    bit = data.draw(st.integers(12 * 8, len(tail) * 8 - 1))
    damaged = bytearray(tail)
    damaged[bit // 8] ^= 1 << bit % 8
    with pytest.raises(Broken):
        read_hot_tail(bytes(damaged))


@pytest.mark.parametrize("data", [b"", b"x" * 100, hot_head(HEAD), sealed_head(HEAD, [1], [1])[:-1]])
def test_what_is_no_sealed_object_is_said_to_be_none(data: bytes) -> None:
    with pytest.raises(Broken):
        read_sealed_head(data)
    with pytest.raises(Broken):
        read_hot_tail(data)


def test_a_damaged_header_is_noticed() -> None:
    with pytest.raises(Broken):
        read_hot_head(hot_head(HEAD)[:-1] + b"\0")
