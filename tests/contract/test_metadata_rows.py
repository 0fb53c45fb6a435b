"""Documents, changes, expectations, events and leases of the metadata protocol."""

from __future__ import annotations

import asyncio
from dataclasses import replace
from itertools import pairwise

import orjson
import pytest

from store import errors
from store.metadata.protocol import Metadata, Stale
from store.metadata.query import Query, SegmentQuery, Sort
from store.metadata.rows import Change, Delete, Event, Expect, Kind, Put, Ref
from store.view import View
from tests.contract.metadata_support import (
    Database,
    adding,
    deleting,
    event,
    flow,
    get,
    media_object,
    new_flow,
    put,
    put_all,
    segment,
)

FLOW = Ref(Kind.FLOW, "flow")


async def test_a_row_returns_what_was_put(metadata: Database) -> None:
    store = await metadata.fresh()
    document = flow("flow", "news", "sport", label="ü 'quoted' \\ \x01", flow_collection=[])
    await store.write(Change(puts=(Put(Kind.FLOW, "flow", 0, document, -5, 7, private=b"\x00secret"),)))
    row = await get(store, "flow")
    assert orjson.loads(row.document) == document
    assert (row.kind, row.id, row.created_ns, row.updated_ns) == (Kind.FLOW, "flow", -5, 7)
    assert row.classes == {"news", "sport"}
    assert (row.private, row.segments_updated_ns, row.related) == (b"\x00secret", None, {})


async def test_rows_returns_those_that_exist(metadata: Database) -> None:
    store = await metadata.fresh()
    await put_all(store, [put({"id": "x"}, kind=kind) for kind in Kind])
    asked = [Ref(kind, id) for kind in Kind for id in ("x", "absent")]
    assert set(await store.rows(asked)) == {Ref(kind, "x") for kind in Kind}
    assert await store.rows([]) == {}
    assert await store.rows([Ref(Kind.FLOW, "absent")]) == {}


async def test_a_plain_string_of_classes_counts_as_one_class(metadata: Database) -> None:
    store = await metadata.fresh()
    await put_all(store, [put({"id": "flow", "tags": {"auth_classes": "news"}})])
    assert (await get(store, "flow")).classes == {"news"}


async def test_related_has_the_classes_of_members_and_collections_that_exist(metadata: Database) -> None:
    store = await metadata.fresh()
    members = [{"id": "child", "role": "video"}, {"id": "gone", "role": "audio"}]
    parent = flow("parent", "news", flow_collection=members, collected_by=["top"])
    await put_all(store, [put(parent), put(flow("child", "sport", "ro")), put(flow("top"))])
    row = await get(store, "parent")
    assert row.related == {"child": {"sport", "ro"}, "top": frozenset()}
    child = await get(store, "child")
    await put_all(store, [put(flow("child", "news"), child.version)])
    assert (await get(store, "parent")).related["child"] == {"news"}
    many = await store.rows([Ref(Kind.FLOW, "parent"), Ref(Kind.FLOW, "top")])
    assert many[Ref(Kind.FLOW, "parent")].related["child"] == {"news"}


async def test_versions_grow_and_are_not_repeated_by_a_row_made_anew(metadata: Database) -> None:
    store = await metadata.fresh()
    versions = []
    for _ in range(3):
        await put_all(store, [put(flow("flow"))])
        first = await get(store, "flow")
        await put_all(store, [put(flow("flow"), first.version)])
        second = await get(store, "flow")
        versions += [first.version, second.version]
        await store.write(Change(deletes=(Delete(FLOW, second.version),)))
    assert versions[0] > 0
    assert all(a < b for a, b in pairwise(versions))


@pytest.mark.parametrize("failing", ["put", "absent", "delete", "unchanged", "new", "expect"])
async def test_a_change_happens_whole_or_not_at_all(metadata: Database, failing: str) -> None:
    store = await metadata.fresh()
    row = await new_flow(store, "flow", "news")
    other = await new_flow(store, "other")
    wrong = row.version + 1_000
    good = Change(puts=(put(flow("made")),), deletes=(Delete(other.ref, other.version),), events=(event(1),))
    change = {
        "put": replace(good, puts=(*good.puts, put(flow("flow"), wrong))),
        "absent": replace(good, puts=(*good.puts, put(flow("nowhere"), 1))),
        "new": replace(good, puts=(*good.puts, put(flow("flow"), 0))),
        "delete": replace(good, deletes=(*good.deletes, Delete(FLOW, wrong))),
        "unchanged": replace(good, unchanged={FLOW: wrong}),
        "expect": replace(good, expect=Expect(classes={FLOW: frozenset()})),
    }[failing]
    with pytest.raises(errors.Expectation if failing == "expect" else Stale):
        await store.write(change)
    assert set(await store.rows([Ref(Kind.FLOW, "made"), other.ref])) == {other.ref}
    assert await store.events(0, 10) == []
    await store.write(good)
    assert set(await store.rows([Ref(Kind.FLOW, "made"), other.ref])) == {Ref(Kind.FLOW, "made")}
    assert [stored.event for stored in await store.events(0, 10)] == [event(1)]


async def test_unchanged_holds_for_absent_rows_and_those_of_that_version(metadata: Database) -> None:
    store = await metadata.fresh()
    row = await new_flow(store)
    await store.write(Change(unchanged={FLOW: row.version, Ref(Kind.FLOW, "absent"): 0}))
    with pytest.raises(Stale):
        await store.write(Change(unchanged={FLOW: 0}))
    with pytest.raises(Stale):
        await store.write(Change(unchanged={Ref(Kind.FLOW, "absent"): 1}))


EXPECTATIONS = [
    (Expect(), True),
    (Expect(classes={FLOW: frozenset(("news", "sport"))}), True),
    (Expect(classes={FLOW: frozenset(("news",))}), False),
    (Expect(classes={FLOW: frozenset(("news", "sport", "ro"))}), False),
    (Expect(classes={FLOW: None}), False),
    (Expect(classes={Ref(Kind.FLOW, "absent"): None}), True),
    (Expect(classes={Ref(Kind.FLOW, "absent"): frozenset()}), False),
    (Expect(classes={Ref(Kind.SOURCE, "flow"): None}), True),
    (Expect(classes={Ref(Kind.FLOW, "untagged"): frozenset()}), True),
    (Expect(classes={Ref(Kind.FLOW, "untagged"): None}), False),
    (Expect(members={"flow": ("a", "b")}), True),
    (Expect(members={"flow": ("b", "a")}), False),
    (Expect(members={"flow": ("a",)}), False),
    (Expect(members={"untagged": ()}), True),
    (Expect(references=frozenset((("media", "flow"),))), True),
    (Expect(references=frozenset((("init", "flow"),))), True),
    (Expect(references=frozenset((("media", "flow"), ("media", "untagged")))), False),
    (Expect(references=frozenset((("free", "flow"),))), False),
    (Expect(unknown=frozenset(("nothing", "none"))), True),
    (Expect(unknown=frozenset(("nothing", "free"))), False),
    (Expect(unknown=frozenset(("media",))), False),
]


@pytest.mark.parametrize(("expect", "holds"), EXPECTATIONS)
@pytest.mark.parametrize("method", ["write", "add", "delete", "allocate", "replace"])
async def test_a_write_needs_what_it_expects(
    metadata: Database, expect: Expect, holds: bool, method: str
) -> None:
    store = await metadata.fresh()
    collection = [{"id": "a"}, {"id": "b"}]
    await put_all(store, [put(flow("flow", "news", "sport", flow_collection=collection))])
    await put_all(store, [put(flow("untagged"))])
    row = await get(store, "flow")
    objects = [media_object("media"), media_object("init"), media_object("free")]
    await store.allocate(objects, row.ref, row.version, None)
    await store.add_segments(adding(row, segment("media", 0, 10, init_object_id="init")))
    before = await _everything(store)
    try:
        await _write(store, method, expect)
        kept = True
    except errors.Expectation:
        kept = False
    assert kept is holds
    assert (await _everything(store) != before) is holds


async def _write(store: Metadata, method: str, expect: Expect) -> None:
    row = await get(store, "flow")
    if method == "write":
        await store.write(Change(puts=(put(flow("made")),), events=(event(1),), expect=expect))
    elif method == "add":
        await store.add_segments(adding(row, segment("new", 50, 60), expect=expect))
    elif method == "delete":
        await store.delete_segments(deleting("flow", expect=expect))
    elif method == "allocate":
        await store.allocate([media_object("made")], row.ref, row.version, expect)
    else:
        free = (await store.objects(["free"]))["free"]
        await store.replace_object(free._replace(size_bytes=5), expect)


async def _everything(store: Metadata) -> object:
    rows = await store.rows([Ref(Kind.FLOW, "made"), FLOW])
    segments = await store.segments(SegmentQuery("flow", 10))
    objects = await store.objects(["made", "free", "new", "media", "init"])
    return rows, segments, objects, await store.events(0, 10)


async def test_values_that_cannot_be_stored_are_bad_requests(metadata: Database) -> None:
    store = await metadata.fresh()
    for document in (
        {"id": "x", "essence_parameters": {"frame_width": 2**70}},
        {"id": "x", "label": "\ud800"},
    ):
        with pytest.raises(errors.BadRequest):
            await put_all(store, [put(document)])
    assert await store.rows([Ref(Kind.FLOW, "x")]) == {}


async def test_a_nul_character_is_found_again_or_refused(metadata: Database) -> None:
    store = await metadata.fresh()
    nul = "a\0b"
    await put_all(store, [put(flow("plain", "a", label="a", tags={"t": "a"}))])
    for document, filters in (
        (flow("label", label=nul), {"label": nul}),
        (flow("tag", tags={"t": nul}), {"tags": (("t", frozenset((nul, "none"))),)}),
        (flow("class", nul), {"tags": (("auth_classes", frozenset((nul, "none"))),)}),
        (flow("name", tags={nul: "x"}), {"tag_exists": ((nul, True),)}),
    ):
        kept = True
        try:
            await put_all(store, [put(document)])
        except errors.BadRequest:
            kept = False
        for sort in (Sort.CREATED, Sort.LABEL):
            rows, _ = await store.page(Query(Kind.FLOW, None, 5, sort=sort, **filters))  # type: ignore[arg-type]
            assert [row.id for row in rows] == [document["id"]] * kept
    rows, _ = await store.page(Query(Kind.FLOW, View(False, frozenset((nul,)), frozenset()), 5))
    assert "plain" not in {row.id for row in rows}


async def test_an_object_id_with_a_nul_character_is_found_again_or_refused(metadata: Database) -> None:
    store = await metadata.fresh()
    row = await new_flow(store)
    nul = "a\0b"
    await store.add_segments(adding(row, segment("a", 0, 5)))
    (error,) = await store.add_segments(adding(row, segment(nul, 5, 9)))
    assert isinstance(error, errors.BadRequest | None)
    assert set(await store.objects([nul])) == (set() if error else {nul})
    assert set(await store.object_facts([nul, "a"], None)) == ({"a"} if error else {nul, "a"})


async def test_events_come_in_commit_order_and_with_their_change(metadata: Database) -> None:
    store = await metadata.fresh()
    writes = [
        store.write(Change(puts=(put(flow(f"f{n}")),), events=(event(2 * n), event(2 * n + 1))))
        for n in range(20)
    ]
    await asyncio.gather(*writes)
    stored = await store.events(0, 100)
    numbers = [each.event.body["number"] for each in stored]
    assert sorted(numbers) == list(range(40))
    assert all(numbers[at] + 1 == numbers[at + 1] for at in range(0, 40, 2))
    sequences = [each.sequence for each in stored]
    assert all(a < b for a, b in pairwise(sequences))
    assert await store.events(sequences[9], 5) == stored[10:15]
    assert await store.events(sequences[-1], 5) == []


async def test_an_event_returns_as_it_was_put(metadata: Database) -> None:
    store = await metadata.fresh()
    put_event = Event(
        "flows/deleted", 2**62, {"a": [1, {"b": None}]}, frozenset(("x", "y")), "f", "s", ("c", "d"), ("e",)
    )
    await store.write(Change(events=(put_event,)))
    assert [stored.event for stored in await store.events(0, 1)] == [put_event]


async def test_forgotten_events_are_gone_and_their_numbers_are_not_used_again(metadata: Database) -> None:
    store = await metadata.fresh()
    await store.write(Change(events=tuple(event(n) for n in range(10))))
    last = (await store.events(0, 100))[-1].sequence
    await store.forget_events(before_ns=7)
    assert [each.event.time_ns for each in await store.events(0, 100)] == [7, 8, 9]
    await store.forget_events(before_ns=100)
    assert await store.events(0, 100) == []
    await store.write(Change(events=(event(11),)))
    (only,) = await store.events(0, 100)
    assert only.sequence > last


async def test_events_from_now_on_come_behind_the_last_one(metadata: Database) -> None:
    store = await metadata.fresh()
    assert await store.events(await store.last_event(), 10) == []
    for number in range(3):
        last = await store.last_event()
        await store.write(Change(events=(event(number),)))
        (stored,) = await store.events(last, 10)
        assert stored.event == event(number)
    await store.forget_events(before_ns=100)
    kept = await store.last_event()
    await store.write(Change(events=(event(7),)))
    assert [each.event for each in await store.events(kept, 10)] == [event(7)]


async def test_events_that_nobody_has_read_are_behind_and_not_ahead(metadata: Database) -> None:
    store = await metadata.fresh()
    await store.write(Change(events=tuple(event(n) for n in range(5))))
    last = await store.last_event()
    assert last > 0
    assert await store.events(last, 10) == []
    assert [each.sequence for each in await store.events(0, 10)][-1] == last


async def test_forgetting_events_that_nobody_has_read_leaves_a_gap(metadata: Database) -> None:
    store = await metadata.fresh()
    await store.write(Change(events=(event(1),)))
    (seen,) = await store.events(0, 10)
    await store.write(Change(events=tuple(event(n) for n in range(2, 6))))
    await store.forget_events(before_ns=5)
    (left,) = await store.events(seen.sequence, 10)
    assert left.event == event(5)
    assert left.sequence > seen.sequence + 3
    await store.forget_events(before_ns=100)
    assert await store.last_event() >= left.sequence


async def test_whoever_listens_hears_of_events_once_they_can_be_read(metadata: Database) -> None:
    store = await metadata.fresh()
    heard: list[int] = []
    store.listen(lambda: heard.append(len(heard)))
    await store.write(Change(puts=(put(flow("quiet")),)))
    assert not heard
    await store.write(Change(events=(event(1),)))
    assert len(heard) == 1
    row = await new_flow(store, "flow")
    await store.add_segments(adding(row, segment("a", 0, 5), announce=lambda *_: (event(2),)))
    assert len(heard) == 2
    await store.delete_segments(deleting("flow", announce=lambda *_: (event(3),)))
    assert len(heard) == 3
    assert [stored.event for stored in await store.events(0, 10)] == [event(1), event(2), event(3)]


async def test_a_lease_has_one_holder_until_it_runs_out(metadata: Database) -> None:
    one = await metadata.fresh()
    two = await metadata.again()
    assert await one.lease("work", "one", 10, 20)
    assert not await two.lease("work", "two", 19, 30)
    assert await one.lease("work", "one", 15, 25)
    assert not await two.lease("work", "two", 24, 30)
    assert await two.lease("other", "two", 24, 30)
    assert await two.lease("work", "two", 25, 30)
    assert not await one.lease("work", "one", 26, 40)


async def test_a_lease_is_given_back_by_its_holder_only(metadata: Database) -> None:
    store = await metadata.fresh()
    assert await store.lease("work", "one", 10, 20)
    assert not await store.lease("work", "two", 11, 11)
    assert not await store.lease("work", "two", 12, 30)
    assert await store.lease("work", "one", 13, 13)
    assert await store.lease("work", "two", 14, 30)


async def test_one_of_many_gets_a_free_lease(metadata: Database) -> None:
    stores = [await metadata.fresh(), await metadata.again()]
    asked = [stores[n % 2].lease("work", f"holder {n}", 10, 20) for n in range(10)]
    assert sum(await asyncio.gather(*asked)) == 1


async def test_what_was_written_is_there_for_others_and_after_reopening(metadata: Database) -> None:
    one = await metadata.fresh()
    two = await metadata.again()
    row = await new_flow(one, "flow", "news")
    assert await get(two, "flow") == row
    await metadata.close()
    assert await get(await metadata.again(), "flow") == row


async def test_a_closed_database_is_unavailable(metadata: Database) -> None:
    store = await metadata.fresh()
    await new_flow(store)
    await metadata.close()
    with pytest.raises(errors.Unavailable):
        await new_flow(store, "other")
    with pytest.raises(errors.Unavailable):
        await store.rows([FLOW])


async def test_closing_finishes_the_writes_in_hand(metadata: Database) -> None:
    store = await metadata.fresh()
    writes = [asyncio.ensure_future(new_flow_only(store, f"f{n}")) for n in range(50)]
    await asyncio.sleep(0)
    await metadata.close()
    await asyncio.gather(*writes)
    refs = [Ref(Kind.FLOW, f"f{n}") for n in range(50)]
    assert set(await (await metadata.again()).rows(refs)) == set(refs)


async def new_flow_only(store: Metadata, id: str) -> None:
    await put_all(store, [put(flow(id))])


async def test_check_tells_the_engine(metadata: Database) -> None:
    facts = await (await metadata.fresh()).check()
    assert facts["engine"] == metadata.engine
    assert all(isinstance(value, str) for value in facts.values())
