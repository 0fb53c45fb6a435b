"""The frames of a push, taken apart."""

from __future__ import annotations

import orjson
import pytest
from hypothesis import given
from hypothesis import strategies as st

from store.errors import BadRequest
from store.streams.entries import Entries, Wanted, entries_of
from store.streams.frames import batch, by_stream

BLOB = b"abcdefgh"


@pytest.mark.parametrize(
    ("header", "entries"),
    [
        ("0", [b"abcdefgh"]),
        ("0,3,8", [b"abc", b"defgh", b""]),
        ("0, 3", [b"abc", b"defgh"]),
        ("0,0", [b"", b"abcdefgh"]),
        ("[3,5,8]", [b"abc", b"de", b"fgh"]),
        ("[8]", [b"abcdefgh"]),
        ("[0,8]", [b"", b"abcdefgh"]),
        ("[0,3,5]", [b"abc", b"de", b"fgh"]),
        ("[0]", [b"abcdefgh"]),
        (" [3, 8] ", [b"abc", b"defgh"]),
    ],
)
def test_offsets_are_told_apart(header: str, entries: list[bytes]) -> None:
    assert batch(header, BLOB) == (None, entries_of(entries))


def test_entries_can_name_their_stream_and_their_id() -> None:
    header = '[["a",3],["b","1700000000000-5",5],["a","1700000000001-*",8]]'
    names, entries = batch(header, BLOB)
    assert names is not None
    assert names == ["a", "b", "a"]
    wanted = [Wanted(), Wanted(id_ns=1_700_000_000_000_000_005), Wanted(ms=1_700_000_000_001)]
    assert entries == Entries(BLOB, [3, 2, 3], wanted)
    assert by_stream(names, entries) == {
        "a": Entries(b"abcfgh", [3, 3], [wanted[0], wanted[2]]),
        "b": Entries(b"de", [2], [wanted[1]]),
    }


def test_entries_without_ids_go_to_their_streams_too() -> None:
    names, entries = batch('[["a",3],["b",5],["a",8]]', BLOB)
    assert names is not None
    assert by_stream(names, entries) == {"a": Entries(b"abcfgh", [3, 3]), "b": Entries(b"de", [2])}
    assert by_stream(["a"] * 3, entries) == {"a": entries}


BAD = [
    "", ",", "1", "0,a", "0,-1", "0,3,2", "0,9", "0,99999999999999999999", "0;3", "0,3.0", "0,٣",
    "[", "[]", "{}", "[1]", "[3,5]", "[3,2,8]", "[-1,8]", '["a",8]', "[3.0,8]", "[true,8]", "[null]",
    "[3,[4],8]",    '[["a",3]]', '[["a",3],["a",9]]', '[["a","b","c",8]]', '[["a"]]', "[[8]]",
    '[["a/b",8]]', '[[1,8]]', '[["a",1,8]]',
    '[["a","x",8]]', '[["a","1-",8]]', '[["a","01-0",8]]', '[["a","1-1000000",8]]', '[["a","-1-0",8]]',
    '[["a","99999999999999-0",8]]', '[["a",-1],["a",8]]', '[["a",true]]', "[99999999999999999999999]",
]  # fmt: skip


@pytest.mark.parametrize("header", BAD)
def test_what_cannot_be_is_refused(header: str) -> None:
    with pytest.raises(BadRequest):
        batch(header, BLOB)


def test_a_batch_is_bounded() -> None:
    with pytest.raises(BadRequest, match="at most"):
        batch(",".join(["0"] * 10_001), BLOB)


json_like = st.recursive(
    st.none() | st.booleans() | st.integers(-3, 12) | st.sampled_from(["a", "b", "1-0", "1-*", "*", ""]),
    lambda inner: st.lists(inner, max_size=4),
    max_leaves=12,
)
headers = st.one_of(
    st.text(max_size=12),
    st.text("0123456789,-[] ", max_size=12),
    json_like.map(lambda value: orjson.dumps(value).decode()),
)


@given(headers, st.binary(max_size=12))
def test_whatever_comes_is_cut_or_refused(header: str, blob: bytes) -> None:
    try:
        names, entries = batch(header, blob)
    except BadRequest:
        return
    assert names is None or len(names) == len(entries.lengths)
    assert entries.data == blob
    assert sum(entries.lengths) == len(blob) and min(entries.lengths) >= 0
