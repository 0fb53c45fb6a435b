"""Listings of the metadata protocol, against `query.matches` and `query.in_order`."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from store import errors
from store.metadata.query import Position, Query, Sort, position
from store.metadata.rows import Change, Delete, Kind, Put
from store.view import View
from tests.contract.metadata_listings import (
    CLASSES,
    LABELS,
    Stored,
    check_listing,
    fill,
    libraries,
    queries,
)
from tests.contract.metadata_support import Database, flow, get, put, put_all, view, walk

QUICK = settings(
    max_examples=40,
    deadline=None,
    suppress_health_check=[HealthCheck.function_scoped_fixture, HealthCheck.too_slow],
)
LONG = settings(QUICK, max_examples=600)


@QUICK
@given(library=libraries, asked=st.lists(queries(), min_size=12, max_size=12))
async def test_a_listing_shows_what_matches_in_order(
    metadata: Database, library: Sequence[Stored], asked: Sequence[Query]
) -> None:
    await _compare(metadata, library, asked)


@pytest.mark.slow
@LONG
@given(library=libraries, asked=st.lists(queries(), min_size=20, max_size=20))
async def test_many_listings_show_what_matches_in_order(
    metadata: Database, library: Sequence[Stored], asked: Sequence[Query]
) -> None:
    await _compare(metadata, library, asked)


async def _compare(metadata: Database, library: Sequence[Stored], asked: Sequence[Query]) -> None:
    store = await fill(metadata, library)
    for query in asked:
        await check_listing(store, library, query)
    await metadata.close()


@QUICK
@given(
    library=libraries,
    changed=st.lists(st.tuples(st.integers(0, 24), libraries.filter(bool)), max_size=4),
    asked=st.lists(queries(), min_size=6, max_size=6),
)
async def test_a_listing_follows_rewritten_and_deleted_documents(
    metadata: Database, library: list[Stored], changed: Sequence[tuple[int, list[Stored]]], asked: list[Query]
) -> None:
    store = await fill(metadata, [replace(each, spans=()) for each in library])
    current = {each.put.id: each.put for each in library}
    for at, others in changed:
        if at >= len(current):
            continue
        old = sorted(current.values(), key=lambda each: each.id)[at]
        row = await get(store, old.id, old.kind)
        new = others[0].put
        if new.kind is old.kind:
            document = {**new.document, "id": old.id}
            current[old.id] = replace(new, id=old.id, version=row.version, document=document)
            await store.write(Change(puts=(current[old.id],)))
        else:
            await store.write(Change(deletes=(Delete(row.ref, row.version),)))
            del current[old.id]
    for query in asked:
        await check_listing(store, [Stored(each) for each in current.values()], query)
    await metadata.close()


@pytest.mark.parametrize("restricted", [False, True])
@pytest.mark.parametrize("reverse", [False, True])
@pytest.mark.parametrize("sort", [Sort.CREATED, Sort.UPDATED, Sort.LABEL])
@settings(QUICK, max_examples=8)
@given(data=st.data())
async def test_paging_neither_skips_nor_doubles_what_stays(
    metadata: Database, sort: Sort, reverse: bool, restricted: bool, data: st.DataObject
) -> None:
    store = await metadata.fresh()
    documents = st.builds(
        lambda id, at, label: Put(
            Kind.FLOW,
            f"id-{id}",
            0,
            {**flow(f"id-{id}", "a"), **({"label": label} if label else {})},
            at,
            -at,
        ),
        st.integers(0, 99),
        st.integers(0, 5),
        st.sampled_from(LABELS),
    )
    puts = data.draw(st.lists(documents, min_size=4, max_size=16, unique_by=lambda each: each.id))
    await put_all(store, puts)
    present = {each.id for each in puts}
    stayed, seen = set(present), []
    query = Query(Kind.FLOW, view("a", "b") if restricted else None, 3, sort=sort, reverse=reverse)
    more = True
    while more:
        rows, more = await store.page(query)
        seen += [row.id for row in rows]
        if rows:
            query = replace(query, after=position(sort, rows[-1]))
        added = data.draw(st.lists(documents, max_size=2, unique_by=lambda each: each.id))
        await put_all(store, [each for each in added if each.id not in present])
        present |= {each.id for each in added}
        if data.draw(st.booleans()):
            gone = data.draw(st.sampled_from(sorted(present)))
            row = await get(store, gone)
            await store.write(Change(deletes=(Delete(row.ref, row.version),)))
            present.discard(gone)
            stayed.discard(gone)
        if len(seen) > 100:
            break
    # What was deleted and made anew may rightly be met again.
    assert sorted(id for id in seen if id in stayed) == sorted(stayed)
    await metadata.close()


VIEWS = [
    (None, {"none", "a", "b", "ab"}),
    (View(True, frozenset(), frozenset("a")), {"none", "a", "b", "ab"}),
    (view("a"), {"a", "ab"}),
    (view("a", deny="b"), {"a"}),
    (view("a", "b", deny="b"), {"a"}),
    (view("a", default_class="a"), {"none", "a", "ab"}),
    (view("b", default_class="a"), {"b", "ab"}),
    (view("a", deny="a", default_class="a"), set()),
    (view("c", default_class="c"), {"none"}),
    (view(), set()),
    (view(default_class="a"), set()),
]


@pytest.mark.parametrize(("seen_by", "shown"), VIEWS)
@pytest.mark.parametrize("sort", [Sort.CREATED, Sort.LABEL])
@pytest.mark.parametrize("ids", [None, frozenset(("none", "a", "b", "ab", "absent"))])
async def test_a_view_shows_what_it_sees(
    metadata: Database, seen_by: View | None, shown: set[str], sort: Sort, ids: frozenset[str] | None
) -> None:
    store = await metadata.fresh()
    await put_all(
        store, [put(flow("none")), put(flow("a", "a")), put(flow("b", "b")), put(flow("ab", "a", "b"))]
    )
    rows, more = await store.page(Query(Kind.FLOW, seen_by, 10, sort=sort, ids=ids))
    assert {row.id for row in rows} == shown
    assert not more


async def test_a_default_class_is_no_tag(metadata: Database) -> None:
    store = await metadata.fresh()
    await put_all(
        store, [put(flow("none")), put(flow("empty", tags={"auth_classes": []})), put(flow("a", "a"))]
    )
    seen_by = view("a", default_class="a")

    async def listed(**filters: object) -> set[str]:
        rows, _ = await store.page(Query(Kind.FLOW, seen_by, 10, **filters))  # type: ignore[arg-type]
        return {row.id for row in rows}

    assert await listed() == {"none", "empty", "a"}
    assert await listed(tags=(("auth_classes", frozenset("a")),)) == {"a"}
    assert await listed(tags=(("auth_classes", frozenset(("", "0"))),)) == set()
    assert await listed(tag_exists=(("auth_classes", True),)) == {"empty", "a"}
    assert await listed(tag_exists=(("auth_classes", False),)) == {"none"}


async def test_many_classes_may_be_allowed_and_denied(metadata: Database) -> None:
    store = await metadata.fresh()
    await put_all(
        store, [put(flow(f"f{n:04}", f"c{n % 700}", "x" if n % 2 else "y"), at_ns=n) for n in range(1_400)]
    )
    allow = [f"c{n}" for n in range(5_000)]
    for sort in (Sort.CREATED, Sort.LABEL):
        query = Query(Kind.FLOW, view(*allow), 1_000, sort=sort)
        rows = await walk(store, query)
        assert len({row.id for row in rows}) == len(rows) == 1_400
    query = Query(Kind.FLOW, view(*allow, deny=["x", *(f"d{n}" for n in range(5_000))]), 300)
    rows = await walk(store, query)
    assert [row.id for row in rows] == [f"f{n:04}" for n in range(1_398, -1, -2)]
    none, more = await store.page(replace(query, view=view(*(f"d{n}" for n in range(5_000)))))
    assert (none, more) == ([], False)


@pytest.mark.parametrize("reverse", [False, True])
async def test_a_page_is_full_though_most_is_hidden(metadata: Database, reverse: bool) -> None:
    store = await metadata.fresh()
    await put_all(store, [put(flow(f"f{n:04}", CLASSES[n % 100 == 0]), at_ns=n) for n in range(1_000)])
    query = Query(Kind.FLOW, view("b"), 4, reverse=reverse)
    rows, more = await store.page(query)
    shown = [f"f{n:04}" for n in range(0, 1_000, 100)]
    assert [row.id for row in rows] == (shown[:4] if reverse else shown[:-5:-1])
    assert more
    rows, more = await store.page(replace(query, limit=10))
    assert (len(rows), more) == (10, False)


async def test_many_ids_may_be_asked_for(metadata: Database) -> None:
    store = await metadata.fresh()
    await put_all(store, [put(flow(f"f{n:04}", "a"), at_ns=n) for n in range(1_200)])
    ids = frozenset(f"f{n:04}" for n in range(100, 5_000))
    rows, more = await store.page(Query(Kind.FLOW, view("a"), 5, ids=ids, after=Position(104, "f0104")))
    assert [row.id for row in rows] == ["f0103", "f0102", "f0101", "f0100"]
    assert not more


async def test_any_number_of_filters_by_tag_is_answered_or_a_bad_request(metadata: Database) -> None:
    store = await metadata.fresh()
    await put_all(store, [put(flow("f", "a", tags={"t": "x"}))])
    for count in (50, 5_000):
        many = (("t", frozenset(("x", "y"))),) * count
        for query in (
            Query(Kind.FLOW, view("a"), 5, tags=many),
            Query(Kind.FLOW, None, 5, tag_exists=(("u", False),) * count),
        ):
            try:
                rows, _ = await store.page(query)
                assert [row.id for row in rows] == ["f"]
            except errors.BadRequest as error:
                assert error.summary


async def test_values_beyond_the_database_are_bad_requests_or_match_nothing(metadata: Database) -> None:
    store = await metadata.fresh()
    await put_all(store, [put(flow("f", "a"))])
    for query in (
        Query(Kind.FLOW, None, 5, frame_width=2**80),
        Query(Kind.FLOW, None, 5, label="\ud800"),
        Query(Kind.FLOW, view("a"), 5, after=Position(-(2**80), "f")),
    ):
        try:
            assert await store.page(query) == ([], False)
        except errors.BadRequest as error:
            assert error.summary
