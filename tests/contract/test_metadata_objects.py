"""Objects of the metadata protocol: rows, what refers to them, and collecting garbage."""

from __future__ import annotations

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from store import errors
from store.metadata.protocol import Metadata, Stale
from store.metadata.query import Query, SegmentQuery
from store.metadata.rows import (
    Change,
    Delete,
    Doomed,
    Instance,
    Kind,
    ObjectRow,
    Reference,
    Role,
    UncontrolledUrl,
)
from store.timerange import TimeRange
from store.view import View
from tests.contract.metadata_support import (
    Database,
    adding,
    delete_all,
    deleting,
    flow,
    get,
    media_object,
    new_flow,
    put,
    put_all,
    segment,
    view,
)

FULL = ObjectRow(
    "o/ü %",
    Role.UNUSED,
    "flow",
    -5,
    (Instance("b1", "k1", "video/mp2t"), Instance("b2", "k2", "x/y", "v", False)),
    (UncontrolledUrl("https://example.com/a?b", "label"),),
    "[0:0_1:0)",
    25,
    None,
    2**62,
)


async def test_an_object_returns_as_it_was_allocated(metadata: Database) -> None:
    store = await metadata.fresh()
    row = await new_flow(store)
    await store.allocate([FULL, media_object("p")], row.ref, row.version, None)
    found = await store.objects([FULL.id, "p", "absent"])
    assert set(found) == {FULL.id, "p"}
    assert found[FULL.id] == FULL._replace(version=found[FULL.id].version)
    assert found[FULL.id].version > 0
    assert await store.objects([]) == {}


@pytest.mark.parametrize("taken", [["p", "o"], ["p", "p"], ["o"], ["registered", "p"]])
async def test_ids_in_use_are_refused_together_and_uniformly(metadata: Database, taken: list[str]) -> None:
    store = await metadata.fresh()
    row = await new_flow(store)
    await store.allocate([media_object("o")], row.ref, row.version, None)
    await store.add_segments(adding(row, segment("registered", 0, 5)))
    with pytest.raises(errors.BadRequest) as first:
        await store.allocate([media_object(id) for id in taken], row.ref, row.version, None)
    with pytest.raises(errors.BadRequest) as second:
        await store.allocate([media_object("o")], row.ref, row.version, None)
    assert first.value.summary == second.value.summary
    assert set(await store.objects(["o", "p", "registered"])) == {"o", "registered"}


async def test_an_object_is_replaced_once_per_version(metadata: Database) -> None:
    store = await metadata.fresh()
    row = await new_flow(store)
    await store.allocate([media_object("o")], row.ref, row.version, None)
    old = (await store.objects(["o"]))["o"]
    await store.replace_object(old._replace(size_bytes=7), None)
    new = (await store.objects(["o"]))["o"]
    assert new == old._replace(size_bytes=7, version=new.version)
    assert new.version > old.version
    with pytest.raises(Stale):
        await store.replace_object(old._replace(size_bytes=8), None)
    with pytest.raises(Stale):
        await store.replace_object(media_object("absent"), None)
    assert (await store.objects(["o", "absent"])) == {"o": new}


async def test_an_object_is_found_by_the_place_of_its_bytes(metadata: Database) -> None:
    store = await metadata.fresh()
    row = await new_flow(store)
    await store.allocate([FULL], row.ref, row.version, None)
    assert await store.object_at("b2", "k2") == FULL.id
    assert await store.object_at("b1", "k2") is None
    held = (await store.objects([FULL.id]))[FULL.id]
    moved = (held.instances[0], Instance("b3", "k3", "x/y"))
    await store.replace_object(held._replace(instances=moved), None)
    assert await store.object_at("b2", "k2") is None
    assert await store.object_at("b3", "k3") == FULL.id
    assert await store.collect(-100, 10) == [Doomed("b2", "k2")]


async def _referred(store: Metadata) -> None:
    """Flows a, b, c (classes a, b, none) and d without segments; `o` used by a, b, c; `init` by a and b."""
    collected: dict[str, dict[str, object]] = {"a": {"tags": {"t": "x"}}, "b": {}, "c": {}, "d": {}}
    for id, properties in collected.items():
        await put_all(store, [put(flow(id, *([id] if id in "ab" else []), **properties))])
    first = await get(store, "a")
    allocated = [media_object(id, "a")._replace(created_ns=first.created_ns) for id in ("init", "free")]
    await store.allocate(allocated, first.ref, first.version, None)
    for id in "abc":
        row = await get(store, id)
        await store.add_segments(adding(row, segment("o", 0, 5), segment("o", 5, 7)))
        if id != "c":
            await store.add_segments(adding(row, segment(f"m{id}", 10, 15, init_object_id="init")))
    object_row = (await store.objects(["o"]))["o"]
    owned = object_row._replace(flow_id="a", created_ns=first.created_ns)
    await store.replace_object(owned, None)


async def test_an_object_page_has_the_flows_that_refer_by_id(metadata: Database) -> None:
    store = await metadata.fresh()
    await _referred(store)
    query = Query(Kind.FLOW, None, 2)
    first = await store.object_page("o", query, None)
    assert first is not None
    assert (first.row, first.init_object) == ((await store.objects(["o"]))["o"], None)
    assert (first.flow_ids, first.more, first.readable) == (["a", "b"], True, True)
    assert first.classes == {"a": {"a"}, "b": {"b"}}
    second = await store.object_page("o", query, "b")
    assert second is not None
    assert (second.flow_ids, second.more, second.readable) == (["c"], False, True)
    assert second.classes == {"c": frozenset(), "a": {"a"}}
    media = await store.object_page("ma", query, None)
    assert media is not None and media.init_object == (await store.objects(["init"]))["init"]


async def test_flows_refer_to_an_init_object_through_its_media_objects(metadata: Database) -> None:
    store = await metadata.fresh()
    await _referred(store)
    page = await store.object_page("init", Query(Kind.FLOW, None, 5), None)
    assert page is not None
    assert (page.flow_ids, page.more) == (["a", "b"], False)
    await delete_all(store, "a")
    page = await store.object_page("init", Query(Kind.FLOW, None, 5), None)
    assert page is not None and page.flow_ids == ["b"]


async def test_an_object_may_change_its_init_object(metadata: Database) -> None:
    store = await metadata.fresh()
    await _referred(store)
    row = await get(store, "b")
    await store.allocate([media_object("other", "b")], row.ref, row.version, None)
    for id in ("other", None):
        held = (await store.objects(["mb"]))["mb"]
        await store.replace_object(held._replace(init_object_id=id), None)
    page = await store.object_page("init", Query(Kind.FLOW, None, 5), None)
    assert page is not None and page.flow_ids == ["a"]
    facts = await store.object_facts(["other", "mb"], view("b"))
    assert (facts["other"].witness, facts["mb"].witness) == (None, "b")
    held = (await store.objects(["ma"]))["ma"]
    await store.replace_object(held._replace(init_object_id=None), None)
    assert Doomed("backend", "key/init") in await store.collect(0, 10)


OBJECT_VIEWS = [
    (view("a"), ["a"], True),
    (view("b", deny="a"), ["b"], True),
    (view("z"), [], False),
    (view("z", default_class="z"), ["c"], True),
    (View(True, frozenset(), frozenset()), ["a", "b", "c"], True),
]


@pytest.mark.parametrize(("seen_by", "flows", "readable"), OBJECT_VIEWS)
async def test_an_object_page_shows_what_the_view_sees(
    metadata: Database, seen_by: View, flows: list[str], readable: bool
) -> None:
    store = await metadata.fresh()
    await _referred(store)
    page = await store.object_page("o", Query(Kind.FLOW, seen_by, 5), None)
    assert page is not None
    assert (page.flow_ids, page.more, page.readable) == (flows, False, readable)
    filtered = await store.object_page("o", Query(Kind.FLOW, seen_by, 5, tags=(("t", frozenset("x")),)), None)
    assert filtered is not None
    assert (filtered.flow_ids, filtered.readable) == ([id for id in flows if id == "a"], readable)


async def test_an_object_that_is_absent_or_not_registered_has_no_page(metadata: Database) -> None:
    store = await metadata.fresh()
    await _referred(store)
    assert await store.object_page("absent", Query(Kind.FLOW, None, 5), None) is None
    assert await store.object_page("free", Query(Kind.FLOW, None, 5), None) is None


async def test_an_object_page_is_full_though_most_flows_are_hidden(metadata: Database) -> None:
    store = await metadata.fresh()
    ids = [f"f{n:03}" for n in range(60)]
    await put_all(store, [put(flow(id, "a" if n % 20 == 19 else "b")) for n, id in enumerate(ids)])
    for id in ids:
        await store.add_segments(adding(await get(store, id), segment("o", 0, 5)))
    page = await store.object_page("o", Query(Kind.FLOW, view("a"), 2), None)
    assert page is not None and (page.flow_ids, page.more) == (["f019", "f039"], True)
    page = await store.object_page("o", Query(Kind.FLOW, view("a"), 2), "f039")
    assert page is not None and (page.flow_ids, page.more) == (["f059"], False)


async def test_facts_name_a_witness_and_the_flows_that_own(metadata: Database) -> None:
    store = await metadata.fresh()
    await _referred(store)
    ids = ["o", "init", "ma", "free", "absent"]
    facts = await store.object_facts(ids, view("b"))
    assert set(facts) == {"o", "init", "ma", "free"}
    assert (facts["o"].role, facts["o"].flow_id, facts["o"].witness, facts["o"].flow_ids) == (
        Role.MEDIA, "a", "b", ("a",),
    )  # fmt: skip
    assert facts["o"].witness_classes == {"b"}
    assert (facts["init"].role, facts["init"].witness) == (Role.INIT, "b")
    assert (facts["ma"].witness, facts["free"].witness) == (None, None)
    assert facts["ma"].witness_classes == frozenset()
    assert (facts["free"].role, facts["free"].flow_ids) == (Role.UNUSED, ("a",))
    assert (await store.object_facts(["o"], view("z")))["o"].witness is None
    assert (await store.object_facts(["o"], None))["o"].witness == "a"
    row = await get(store, "a")
    await store.write(Change(deletes=(Delete(row.ref, row.version),)))
    after = await store.object_facts(["o", "free"], view("z"))
    assert (after["o"].flow_id, after["o"].flow_ids) == ("a", ("b", "c"))
    assert after["free"].flow_ids == ()
    # A flow that is made later under the id of the one that is gone has no say over its objects.
    await put_all(store, [put(flow("a", "z"), at_ns=10**9)])
    await store.add_segments(adding(await get(store, "a"), segment("o", 0, 5)))
    younger = await store.object_facts(["o", "free"], view("z"))
    assert (younger["o"].flow_ids, younger["free"].flow_ids) == (("a", "b", "c"), ())


async def test_facts_of_ten_thousand_objects(metadata: Database) -> None:
    store = await metadata.fresh()
    row = await new_flow(store, "flow", "a")
    batch = [segment(f"o{n}", n, n + 1) for n in range(1_000)]
    await store.add_segments(adding(row, *batch))
    facts = await store.object_facts([f"o{n}" for n in range(10_000)], view("a"))
    assert len(facts) == 1_000
    assert {fact.witness for fact in facts.values()} == {"flow"}


async def test_only_objects_that_exist_can_be_held(metadata: Database) -> None:
    store = await metadata.fresh()
    row = await new_flow(store)
    await store.allocate([media_object("o")], row.ref, row.version, None)
    with pytest.raises(errors.NotFound):
        await store.hold(["o", "absent"], Reference.KEY, "me", True)
    assert len(await store.collect(1_000, 10)) == 1


async def test_an_init_object_stays_while_an_object_that_needs_it_is_held(metadata: Database) -> None:
    store = await metadata.fresh()
    row = await new_flow(store)
    await store.allocate([media_object("o"), media_object("init")], row.ref, row.version, None)
    await store.add_segments(adding(row, segment("o", 0, 5, init_object_id="init")))
    await store.hold(["o"], Reference.STREAM, "me", True)
    await delete_all(store, "flow")
    assert await store.collect(1_000, 10) == []
    assert set(await store.objects(["o", "init"])) == {"o", "init"}
    await store.hold(["o"], Reference.STREAM, "another", False)
    assert await store.collect(1_000, 10) == []
    await store.hold(["o"], Reference.STREAM, "me", False)
    assert set(await store.collect(1_000, 10)) == {Doomed("backend", "key/o"), Doomed("backend", "key/init")}


async def test_bytes_stay_listed_until_they_are_removed(metadata: Database) -> None:
    store = await metadata.fresh()
    row = await new_flow(store)
    await store.allocate([media_object(f"o{n}") for n in range(3)], row.ref, row.version, None)
    first = await store.collect(1_000, 1)
    assert len(first) == 1
    second = await store.collect(1_000, 10)
    assert second[0] == first[0]
    assert len(second) == 3
    assert set(second) == {Doomed("backend", f"key/o{n}") for n in range(3)}
    assert await store.collect(1_000, 10) == second
    await store.removed(second[:2])
    assert await store.collect(1_000, 10) == second[2:]
    await store.removed([*second, Doomed("backend", "never listed")])
    assert await store.collect(1_000, 10) == []


async def test_allocated_objects_are_collected_by_age(metadata: Database) -> None:
    store = await metadata.fresh()
    row = await new_flow(store)
    objects = [media_object(f"o{n}")._replace(created_ns=n) for n in range(4)]
    await store.allocate(objects, row.ref, row.version, None)
    assert set(await store.collect(2, 10)) == {Doomed("backend", "key/o0"), Doomed("backend", "key/o1")}
    assert set(await store.objects([f"o{n}" for n in range(4)])) == {"o2", "o3"}


async def test_a_backlog_of_bytes_that_cannot_be_removed_stays_bounded(metadata: Database) -> None:
    store = await metadata.fresh()
    row = await new_flow(store)
    await store.allocate([media_object(f"o{n}") for n in range(100)], row.ref, row.version, None)
    listed = [await store.collect(1_000, 1) for _ in range(60)][-1]
    assert len(listed) < 60
    await store.removed(listed)
    assert len(await store.collect(1_000, 1)) == 1


STEPS = st.lists(
    st.tuples(
        st.sampled_from(("add", "add", "init", "delete", "hold", "drop", "collect", "flow")),
        st.integers(0, 3),
        st.integers(0, 5),
    ),
    max_size=25,
)


@settings(
    max_examples=40,
    deadline=None,
    suppress_health_check=[HealthCheck.function_scoped_fixture, HealthCheck.too_slow],
)
@given(steps=STEPS)
async def test_what_is_referred_to_is_never_collected_and_all_else_is(
    metadata: Database, steps: list[tuple[str, int, int]]
) -> None:
    store = await metadata.fresh()
    flows = [f"flow{n}" for n in range(2)]
    for id in flows:
        await new_flow(store, id)
    held: set[tuple[str, str]] = set()
    spans: dict[str, list[str]] = {id: [] for id in flows}
    at_ns = 0
    for step, number, other in steps:
        flow_id, id = flows[number % 2], f"o{number}"
        if step in ("add", "init"):
            init = {"init_object_id": f"init{other % 2}"} if step == "init" else {}
            row = await get(store, flow_id)
            await _allocate(store, flow_id, [id, *init.values()])
            at_ns += 10
            assert await store.add_segments(adding(row, segment(id, at_ns, at_ns + 10, **init))) == [None]
            spans[flow_id].append(id)
        elif step == "delete":
            within = TimeRange(other * 20, None)
            await store.delete_segments(deleting(flow_id, within, limit=number + 1))
        elif step == "flow":
            row = await get(store, flow_id)
            await store.write(Change(deletes=(Delete(row.ref, row.version),)))
            await new_flow(store, flow_id)
        elif step == "hold":
            await _allocate(store, flow_id, [id])
            await store.hold([id], Reference.STREAM if other % 2 else Reference.KEY, f"holder{other}", True)
            held.add((id, f"{other}"))
        elif step == "drop":
            await store.hold([id], Reference.STREAM if other % 2 else Reference.KEY, f"holder{other}", False)
            held.discard((id, f"{other}"))
        else:
            await store.removed(await store.collect(1_000, other + 1))
        await _nothing_needed_is_gone(store, flows, held)
    await _all_else_goes(store, flows, held)
    await metadata.close()


async def _allocate(store: Metadata, flow_id: str, ids: list[str]) -> None:
    row = await get(store, flow_id)
    missing = set(ids) - set(await store.objects(ids))
    await store.allocate([media_object(id) for id in sorted(missing)], row.ref, row.version, None)


async def _needed(store: Metadata, flows: list[str], held: set[tuple[str, str]]) -> set[str]:
    needed = {id for id, _ in held}
    for flow_id in flows:
        for each in (await store.segments(SegmentQuery(flow_id, 1_000))).rows:
            needed.add(each.object.id)
    rows = await store.objects(needed)
    return needed | {row.init_object_id for row in rows.values() if row.init_object_id is not None}


async def _nothing_needed_is_gone(store: Metadata, flows: list[str], held: set[tuple[str, str]]) -> None:
    needed = await _needed(store, flows, held)
    assert set(await store.objects(needed)) == needed
    for id in needed:
        assert await store.object_at("backend", f"key/{id}") == id


async def _all_else_goes(store: Metadata, flows: list[str], held: set[tuple[str, str]]) -> None:
    doomed = []
    for _ in range(40):
        found = await store.collect(1_000, 1)
        doomed += found
        await store.removed(found)
    names = {f"o{n}" for n in range(4)} | {f"init{n}" for n in range(2)}
    needed = await _needed(store, flows, held)
    assert set(await store.objects(names)) == needed
    assert not {each.key for each in doomed} & {f"key/{id}" for id in needed}
