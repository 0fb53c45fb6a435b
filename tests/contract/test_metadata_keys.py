"""Keys of the metadata protocol: named pointers to immutable bytes, and what keeps those bytes."""

from __future__ import annotations

import asyncio
from itertools import pairwise

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from store import errors
from store.metadata.keys import (
    EVERYTHING,
    INLINE_BYTES,
    DeleteKey,
    KeyQuery,
    KeyRange,
    KeyRow,
    PutKey,
    common,
    listed,
    prefixed,
    visible,
)
from store.metadata.protocol import Metadata, Stale
from store.metadata.rows import Doomed, ObjectRow, Reference, Role
from tests.contract.metadata_support import (
    Database,
    adding,
    delete_all,
    media_object,
    new_flow,
    segment,
)

ODD_NAMES = (
    "a",
    "..",
    "a/../b",
    "/",
    "//",
    "ü/日本/😀",
    "a%2Fb",
    "x" * 1024,
    "'; --",
    " ",
    "%",
    "_",
    "\ud7ff",
    "￿",
)
TYPE = "application/octet-stream"


def putting(name: str, data: bytes = b"bytes", **more: object) -> PutKey:
    """A request to point a key at small bytes."""
    given = {"created_ns": 1_000, "released_ns": 500, **more}
    return PutKey(name, len(data), TYPE, data=data, **given)  # type: ignore[arg-type]


async def put_object(metadata: Metadata, name: str, object_id: str, **more: object) -> KeyRow:
    """Point a key at an object that is made for it."""
    row = await metadata.reserve(media_object(object_id, ""))
    given = {"created_ns": 1_000, "released_ns": 500, **more}
    return await metadata.put_key(PutKey(name, 9, TYPE, object=row._replace(size_bytes=9), **given))  # type: ignore[arg-type]


async def found(metadata: Metadata, name: str) -> KeyRow:
    """A key that is there."""
    row = await metadata.key(name)
    assert row is not None
    return row


async def all_names(metadata: Metadata) -> list[str]:
    """Every name there is."""
    names, more = await metadata.keys(KeyQuery(EVERYTHING, 10_000))
    assert not more
    return names


async def collected(metadata: Metadata, before_ns: int = 600) -> set[str]:
    """The ids of objects whose bytes are to go."""
    return {doomed.key.removeprefix("key/") for doomed in await metadata.collect(before_ns, 100)}


# Names and small bytes


@pytest.mark.parametrize("data", [b"", b"\0\xff", b"x" * INLINE_BYTES], ids=["none", "binary", "longest"])
async def test_small_bytes_return_as_they_were_put(metadata: Database, data: bytes) -> None:
    store = await metadata.fresh()
    put = await store.put_key(putting("name", data))
    assert put == KeyRow("name", put.version, 1_000, len(data), TYPE, data, None)
    assert await store.key("name") == put
    assert put.version > 0


@pytest.mark.parametrize("name", ODD_NAMES)
async def test_a_name_is_any_text(metadata: Database, name: str) -> None:
    store = await metadata.fresh()
    await store.put_key(putting(name, name.encode()))
    assert (await found(store, name)).data == name.encode()
    assert await all_names(store) == [name]
    assert await store.delete_key(DeleteKey(name, 500))
    assert await store.key(name) is None


async def test_names_that_look_alike_are_different(metadata: Database) -> None:
    store = await metadata.fresh()
    names = ["A", "a", "a ", "\u00e1", "a\u0301", "a/", "a%"]
    for name in names:
        await store.put_key(putting(name, name.encode()))
    assert [(await found(store, name)).data for name in names] == [name.encode() for name in names]
    assert await store.key("") is None


async def test_a_name_that_cannot_be_stored_is_refused(metadata: Database) -> None:
    store = await metadata.fresh()
    with pytest.raises(errors.BadRequest):
        await store.put_key(putting("\ud800"))
    with pytest.raises(errors.BadRequest):
        await store.key("\ud800")


async def test_keys_are_durable(metadata: Database) -> None:
    store = await metadata.fresh()
    put = await store.put_key(putting("name"))
    await store.close()
    assert await (await metadata.again()).key("name") == put


# Versions


async def test_overwriting_makes_a_new_version(metadata: Database) -> None:
    store = await metadata.fresh()
    first = await store.put_key(putting("name", b"first"))
    second = await store.put_key(putting("name", b"second", created_ns=2_000))
    assert second.version > first.version
    assert await store.key("name") == second
    assert (second.data, second.size_bytes, second.created_ns) == (b"second", 6, 2_000)


async def test_a_key_made_anew_does_not_repeat_a_version(metadata: Database) -> None:
    store = await metadata.fresh()
    versions = []
    for _ in range(3):
        versions.append((await store.put_key(putting("name"))).version)
        assert await store.delete_key(DeleteKey("name", 500))
    assert len(set(versions)) == 3


async def test_a_write_that_expects_another_version_changes_nothing(metadata: Database) -> None:
    store = await metadata.fresh()
    with pytest.raises(Stale):
        await store.put_key(putting("name", version=7))
    first = await store.put_key(putting("name", b"first", version=0))
    for expected in (0, first.version + 1):
        with pytest.raises(Stale):
            await store.put_key(putting("name", b"second", version=expected))
        with pytest.raises(Stale):
            await store.delete_key(DeleteKey("name", 500, version=expected))
    assert await store.key("name") == first
    second = await store.put_key(putting("name", b"second", version=first.version))
    assert await store.delete_key(DeleteKey("name", 500, version=second.version))
    assert await store.key("name") is None


async def test_deleting_what_is_not_there_is_told(metadata: Database) -> None:
    store = await metadata.fresh()
    assert not await store.delete_key(DeleteKey("name", 500))
    with pytest.raises(Stale):
        await store.delete_key(DeleteKey("name", 500, version=3))


async def test_of_writers_who_expect_the_same_version_one_wins(metadata: Database) -> None:
    store = await metadata.fresh()
    other = await metadata.again()
    first = await store.put_key(putting("name"))
    writes = [
        each.put_key(putting("name", b"%d" % number, version=first.version))
        for number, each in enumerate([store, other] * 8)
    ]
    results = await asyncio.gather(*writes, return_exceptions=True)
    won = [result for result in results if isinstance(result, KeyRow)]
    assert len(won) == 1
    assert all(isinstance(result, Stale | KeyRow) for result in results)
    assert await store.key("name") == await other.key("name") == won[0]


async def test_concurrent_writers_leave_the_bytes_of_one_of_them(metadata: Database) -> None:
    store = await metadata.fresh()
    bodies = [bytes([number]) * (number + 1) for number in range(40)]
    seen: set[bytes | None] = set()

    async def watch() -> None:
        for _ in range(20):
            row = await store.key("name")
            if row is not None:
                assert row.data is not None and row.size_bytes == len(row.data)
                seen.add(row.data)
            await asyncio.sleep(0)

    rows, _ = await asyncio.gather(
        asyncio.gather(*(store.put_key(putting("name", body)) for body in bodies)), watch()
    )
    last = max(rows, key=lambda row: row.version)
    assert await store.key("name") == last
    assert seen <= set(bodies)


# Objects


async def test_a_key_points_to_an_object(metadata: Database) -> None:
    store = await metadata.fresh()
    put = await put_object(store, "name", "o")
    assert put.data is None and put.object is not None
    assert (put.size_bytes, put.object.size_bytes, put.object.id) == (9, 9, "o")
    assert await store.key("name") == put
    assert (await store.objects(["o"]))["o"] == put.object


async def test_a_reserved_object_is_an_allocated_one(metadata: Database) -> None:
    store = await metadata.fresh()
    row = await store.reserve(media_object("o", ""))
    assert (await store.objects(["o"]))["o"] == row
    with pytest.raises(Stale):
        await store.reserve(media_object("o", ""))
    assert await collected(store, 500) == set()
    assert await collected(store, 501) == {"o"}


async def test_an_object_that_was_collected_or_has_changed_is_pointed_to_no_more(metadata: Database) -> None:
    store = await metadata.fresh()
    row = await store.reserve(media_object("o", ""))
    await store.put_key(putting("name", b"before"))
    await store.collect(10_000, 100)
    with pytest.raises(Stale):
        await store.put_key(PutKey("name", 9, TYPE, 1_000, 500, object=row))
    row = await store.reserve(media_object("p", ""))
    await store.replace_object(row._replace(size_bytes=4), None)
    with pytest.raises(Stale):
        await store.put_key(PutKey("name", 9, TYPE, 1_000, 500, object=row))
    assert (await found(store, "name")).data == b"before"


async def test_what_a_key_points_to_is_kept_whatever_its_age(metadata: Database) -> None:
    store = await metadata.fresh()
    await put_object(store, "name", "o")
    assert await collected(store, 10**15) == set()
    assert (await found(store, "name")).object is not None


@pytest.mark.parametrize("by", ["bytes", "object", "deletion"])
async def test_an_object_that_loses_its_key_is_collected_when_readers_have_had_time(
    metadata: Database, by: str
) -> None:
    store = await metadata.fresh()
    await put_object(store, "name", "o", released_ns=100)
    if by == "bytes":
        await store.put_key(putting("name", released_ns=2_000))
    elif by == "object":
        await put_object(store, "name", "p", released_ns=2_000)
    else:
        await store.delete_key(DeleteKey("name", 2_000))
    assert await collected(store, 2_000) == set()
    assert await collected(store, 2_001) == {"o"}
    assert set(await store.objects(["o", "p"])) == ({"p"} if by == "object" else set())


async def test_bytes_that_a_segment_refers_to_outlive_the_name(metadata: Database) -> None:
    store = await metadata.fresh()
    await put_object(store, "name", "o")
    flow = await new_flow(store)
    await store.add_segments(adding(flow, segment("o", 0, 5)))
    assert await store.delete_key(DeleteKey("name", 500))
    assert await collected(store, 10**15) == set()
    await delete_all(store, "flow")
    assert await collected(store, 10**15) == {"o"}


async def test_bytes_that_a_key_points_to_outlive_the_segments(metadata: Database) -> None:
    store = await metadata.fresh()
    await put_object(store, "name", "o")
    flow = await new_flow(store)
    await store.add_segments(adding(flow, segment("o", 0, 5)))
    await delete_all(store, "flow")
    assert await collected(store, 10**15) == set()
    assert (await found(store, "name")).object == (await store.objects(["o"]))["o"]
    await store.put_key(putting("name"))
    assert await collected(store, 10**15) == {"o"}


async def test_bytes_that_an_init_reference_or_a_stream_needs_outlive_the_name(metadata: Database) -> None:
    store = await metadata.fresh()
    await put_object(store, "name", "init")
    flow = await new_flow(store)
    await store.allocate([media_object("media")], flow.ref, flow.version, None)
    await store.add_segments(adding(flow, segment("media", 0, 5, init_object_id="init")))
    assert (await store.objects(["init"]))["init"].role is Role.INIT
    await store.delete_key(DeleteKey("name", 500))
    assert await collected(store, 10**15) == set()
    await put_object(store, "name", "o")
    await store.hold(["o"], Reference.STREAM, "stream", True)
    await store.delete_key(DeleteKey("name", 500))
    assert await collected(store, 10**15) == set()
    await store.hold(["o"], Reference.STREAM, "stream", False)
    assert await collected(store, 10**15) == {"o"}


async def test_two_names_hold_their_own_objects(metadata: Database) -> None:
    store = await metadata.fresh()
    await put_object(store, "one", "o")
    await put_object(store, "two", "p")
    await store.delete_key(DeleteKey("one", 500))
    assert await store.collect(10**15, 10) == [Doomed("backend", "key/o")]
    assert (await found(store, "two")).object is not None


async def test_an_object_of_a_key_is_no_flow_s(metadata: Database) -> None:
    store = await metadata.fresh()
    put = await put_object(store, "name", "o")
    fact = (await store.object_facts(["o"], None))["o"]
    assert (fact.role, fact.flow_id, fact.witness, fact.flow_ids) == (Role.UNUSED, "", None, ())
    assert isinstance(put.object, ObjectRow) and put.object.role is Role.UNUSED


# Listings


async def test_pages_are_sorted_whole_and_survive_the_deletion_of_their_cursor(metadata: Database) -> None:
    store = await metadata.fresh()
    names = sorted(f"{letter}/{number}" for letter in "abc" for number in range(10))
    for name in reversed(names):
        await store.put_key(putting(name))
    walked: list[str] = []
    after, more = None, True
    while more:
        page, more = await store.keys(KeyQuery(EVERYTHING, 7, after))
        assert len(page) == 7 or not more
        walked += page
        after = page[-1]
        await store.delete_key(DeleteKey(after, 500))
    assert walked == names


async def test_an_exactly_full_page_is_the_last(metadata: Database) -> None:
    store = await metadata.fresh()
    for name in "abc":
        await store.put_key(putting(name))
    assert await store.keys(KeyQuery(EVERYTHING, 3)) == (["a", "b", "c"], False)
    assert await store.keys(KeyQuery(EVERYTHING, 2)) == (["a", "b"], True)
    assert await store.keys(KeyQuery((), 2)) == ([], False)


TEXTS = st.text(st.sampled_from("ab/\ud7ff\ue000\U0010ffff\u00e9"), max_size=4)
MARKS = st.dictionaries(TEXTS, st.booleans(), max_size=5).map(lambda marks: tuple(marks.items()))
QUERIES = st.builds(
    lambda marks, prefix, limit, after: KeyQuery(common(visible(marks), prefixed(prefix)), limit, after),
    MARKS,
    TEXTS,
    st.integers(1, 5),
    st.none() | TEXTS,
)


@settings(max_examples=60, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(names=st.sets(TEXTS.filter(bool), max_size=12), queries=st.lists(QUERIES, min_size=1, max_size=6))
async def test_listings_are_those_of_the_oracle(
    metadata: Database, names: set[str], queries: list[KeyQuery]
) -> None:
    store = await metadata.fresh()
    for name in names:
        await store.put_key(putting(name))
    for query in queries:
        assert await store.keys(query) == listed(query, names)
    await metadata.close()


@given(prefix=TEXTS, name=TEXTS)
def test_a_prefix_s_range_holds_what_begins_with_it(prefix: str, name: str) -> None:
    assert prefixed(prefix).holds(name) == name.startswith(prefix)


@given(marks=MARKS, within=TEXTS, name=TEXTS)
def test_the_longest_prefix_says_whether_a_name_is_seen(
    marks: tuple[tuple[str, bool], ...], within: str, name: str
) -> None:
    ranges = common(visible(marks), prefixed(within))
    seen = max(
        (mark for mark in marks if name.startswith(mark[0])), key=lambda m: len(m[0]), default=("", False)
    )
    assert any(each.holds(name) for each in ranges) == (seen[1] and name.startswith(within))
    assert all(one.stop is not None and one.stop < two.start for one, two in pairwise(ranges))


def test_what_is_seen_takes_as_few_ranges_as_can_be() -> None:
    everything = (("", True), ("a/", True), ("b/", True))
    assert visible(everything) == EVERYTHING
    assert visible((("", True), ("a/", False))) == (KeyRange("", "a/"), KeyRange("a0", None))
    assert visible((("", False),)) == visible(()) == ()
