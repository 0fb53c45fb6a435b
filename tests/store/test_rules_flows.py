"""Rules 15-27 and 30 of TAMS 8.2: sources and flows."""

from __future__ import annotations

import asyncio
from typing import Any

import pytest

from tests.store.harness import VIDEO, Tams, multi, new_id, seconds, video

ABSENT = "99999999-9999-4999-8999-999999999999"


async def test_put_creates_with_201_and_the_flow_and_updates_with_204(tams: Tams) -> None:
    """rule 15"""
    flow = video(label="one")
    path = f"/flows/{flow['id']}"
    answer = await tams.put(path, flow, 201)
    assert answer.json() == await tams.get(path)
    assert (await tams.put(path, {**flow, "label": "two"}, 204)).content == b""
    await tams.put(path, {**flow, "id": new_id()}, 400)
    assert (await tams.get(path))["label"] == "two"


async def test_tags_are_replaced_and_never_merged(tams: Tams) -> None:
    """rule 16"""
    flow = await tams.flow(tags={"a": "1", "b": ["2"]})
    path = f"/flows/{flow['id']}"
    await tams.put(path, {**flow, "tags": {"c": "3"}})
    assert (await tams.get(path))["tags"] == {"c": "3"}
    await tams.put(path, {name: value for name, value in flow.items() if name != "tags"})
    assert (await tams.get(path))["tags"] == {}


async def test_what_the_store_keeps_itself_is_ignored_in_a_put(tams: Tams) -> None:
    """rule 17, and the compatibility section: read-only properties are echoed back by clients"""
    flow = video()
    said = {
        "timerange": "[0:0_9:0)",
        "created": "2001-01-01T00:00:00Z",
        "metadata_updated": "2001-01-01T00:00:00Z",
        "segments_updated": "2001-01-01T00:00:00Z",
        "collected_by": [new_id()],
        "created_by": "me",
        "updated_by": "me",
    }
    path = f"/flows/{flow['id']}"
    await tams.put(path, {**flow, **said}, 201)
    found = await tams.get(path)
    for name, value in said.items():
        assert found.get(name) != value, name
    assert "timerange" not in found and "collected_by" not in found and "segments_updated" not in found
    await tams.put(path, {**found, "label": "echoed"})
    assert (await tams.get(path))["created"] == found["created"]


async def test_metadata_version_follows_metadata_and_segments_updated_segments(tams: Tams) -> None:
    """rule 18"""
    flow = await tams.flow(metadata_version="mine")
    path = f"/flows/{flow['id']}"

    async def times() -> tuple[str, str, str | None]:
        found = await tams.get(path)
        return found["metadata_version"], found["metadata_updated"], found.get("segments_updated")

    first = await times()
    assert first[0] == "mine" and first[2] is None
    await tams.put(path, flow)
    assert await times() == first
    await tams.put(f"{path}/label", "new")
    second = await times()
    assert second[0] != "mine" and second[1] > first[1]
    await tams.put(path, {**flow, "label": "newer", "metadata_version": second[0]})
    third = await times()
    assert third[0] not in ("mine", second[0])
    await tams.put(path, {**flow, "label": "newest", "metadata_version": "chosen"})
    fourth = await times()
    assert fourth[0] == "chosen"
    await tams.segment(flow["id"], seconds(0, 1))
    added = await times()
    assert added[:2] == fourth[:2] and added[2] is not None
    await tams.delete(f"{path}/segments")
    deleted = await times()
    assert deleted[:2] == fourth[:2] and deleted[2] is not None and deleted[2] > added[2]
    await tams.delete(f"{path}/segments")
    assert await times() == deleted


async def test_a_source_inherits_from_its_first_flow_only(tams: Tams) -> None:
    """rule 19"""
    said: dict[str, Any] = {"label": "l", "description": "d", "tags": {"auth_classes": ["news"], "k": "v"}}
    flow = await tams.flow(**said)
    path = f"/sources/{flow['source_id']}"
    source = await tams.get(path)
    assert source["format"] == flow["format"]
    assert {name: source[name] for name in said} == said
    other = await tams.flow(source_id=flow["source_id"], label="other", tags={"k": "w"})
    assert await tams.get(path) == source
    await tams.put(f"/flows/{flow['id']}/label", "later")
    assert (await tams.get(path))["label"] == "l"
    assert len(await tams.get(f"/flows?source_id={other['source_id']}")) == 2


async def test_a_flow_that_contradicts_its_source_is_refused(tams: Tams) -> None:
    """rule 20"""
    flow = await tams.flow()
    sound = multi(source_id=flow["source_id"])
    await tams.put(f"/flows/{sound['id']}", sound, 400)
    await tams.get(f"/flows/{sound['id']}", 404)
    picture, audio = await tams.flow(), await tams.flow()
    first = await tams.collection(picture, audio)
    for items in (
        [{"id": picture["id"], "role": "other"}],
        [{"id": audio["id"], "role": "r1"}, {"id": picture["id"], "role": "r0"}],
    ):
        second = multi(source_id=first["source_id"], flow_collection=items)
        await tams.put(f"/flows/{second['id']}", second, 400)
        await tams.get(f"/flows/{second['id']}", 404)
    second = multi(source_id=first["source_id"], flow_collection=[{"id": audio["id"], "role": "r1"}])
    await tams.put(f"/flows/{second['id']}", second, 201)
    await tams.put(f"/flows/{second['id']}/flow_collection", [{"id": audio["id"], "role": "r0"}], 400)
    source = await tams.get(f"/sources/{first['source_id']}")
    assert [item["role"] for item in source["source_collection"]] == ["r0", "r1"]


async def test_collections_are_ordered_and_what_follows_from_them_is_derived(tams: Tams) -> None:
    """rule 21"""
    one, two = await tams.flow(), await tams.flow()
    parent = await tams.collection(two, one)
    path = f"/flows/{parent['id']}/flow_collection"
    items = [{"id": two["id"], "role": "r0"}, {"id": one["id"], "role": "r1"}]
    assert await tams.get(path) == items
    assert (await tams.get(f"/flows/{one['id']}"))["collected_by"] == [parent["id"]]
    source = await tams.get(f"/sources/{parent['source_id']}")
    assert source["source_collection"] == [
        {"id": two["source_id"], "role": "r0"},
        {"id": one["source_id"], "role": "r1"},
    ]
    assert (await tams.get(f"/sources/{one['source_id']}"))["collected_by"] == [parent["source_id"]]
    await tams.put(path, items[:1])
    assert "collected_by" not in await tams.get(f"/flows/{one['id']}")
    assert "collected_by" not in await tams.get(f"/sources/{one['source_id']}")
    await tams.delete(path)
    assert await tams.get(path) == []
    assert "source_collection" not in await tams.get(f"/sources/{parent['source_id']}")
    assert "collected_by" not in await tams.get(f"/flows/{two['id']}")


async def test_members_exist_stand_once_and_make_no_cycle(tams: Tams) -> None:
    """rule 21"""
    leaf = await tams.flow()
    inner = await tams.collection(leaf)
    outer = await tams.collection(inner)
    for flow, items in (
        (outer, [{"id": ABSENT}]),
        (outer, [{"id": leaf["id"]}, {"id": leaf["id"]}]),
        (outer, [{"id": outer["id"]}]),
        (inner, [{"id": outer["id"]}]),
    ):
        before = await tams.get(f"/flows/{flow['id']}/flow_collection")
        await tams.put(f"/flows/{flow['id']}/flow_collection", items, 400)
        await tams.put(f"/flows/{flow['id']}", {**flow, "flow_collection": items}, 400)
        assert await tams.get(f"/flows/{flow['id']}/flow_collection") == before


async def test_concurrent_edits_make_no_cycle(tams: Tams) -> None:
    """rule 21"""
    for _ in range(5):
        a, b = await tams.collection(), await tams.collection()
        answers = await asyncio.gather(
            tams.request("PUT", f"/flows/{a['id']}/flow_collection", json=[{"id": b["id"]}]),
            tams.request("PUT", f"/flows/{b['id']}/flow_collection", json=[{"id": a["id"]}]),
        )
        assert sorted(answer.status_code for answer in answers) == [204, 400]


async def test_moving_a_flow_between_sources_moves_what_is_derived(tams: Tams) -> None:
    """rule 21, rule 30: the source it leaves goes with its last flow"""
    member = await tams.flow()
    parent = await tams.collection(member)
    target = await tams.flow()
    await tams.put(f"/flows/{member['id']}", {**member, "source_id": target["source_id"]})
    await tams.get(f"/sources/{member['source_id']}", 404)
    source = await tams.get(f"/sources/{parent['source_id']}")
    assert [item["id"] for item in source["source_collection"]] == [target["source_id"]]
    assert (await tams.get(f"/sources/{target['source_id']}"))["collected_by"] == [parent["source_id"]]


async def test_a_read_only_flow_takes_nothing_but_read_only(tams: Tams) -> None:
    """rule 22"""
    flow = await tams.flow(label="l", tags={"t": "v"}, max_bit_rate=5)
    object_id = await tams.segment(flow["id"], seconds(0, 1))
    path = f"/flows/{flow['id']}"
    assert await tams.get(f"{path}/read_only") is False
    await tams.put(f"{path}/read_only", True)
    assert await tams.get(f"{path}/read_only") is True
    before = await tams.get(path)
    for name, value in (
        ("label", "x"),
        ("description", "x"),
        ("tags/t", "x"),
        ("max_bit_rate", 1),
        ("avg_bit_rate", 1),
        ("flow_collection", []),
    ):
        await tams.put(f"{path}/{name}", value, 403)
        await tams.delete(f"{path}/{name}", 403)
    await tams.put(path, flow, 403)
    await tams.delete(path, 403)
    await tams.delete(f"{path}/segments", 403)
    await tams.post(f"{path}/segments", {"object_id": object_id, "timerange": seconds(1, 2)}, 403)
    await tams.post(f"{path}/storage", {}, 403)
    assert await tams.get(path) == before
    await tams.put(f"{path}/read_only", False)
    await tams.put(f"{path}/label", "x")


async def test_a_flow_put_read_only_is_read_only(tams: Tams) -> None:
    """rule 22"""
    flow = await tams.flow(read_only=True)
    await tams.put(f"/flows/{flow['id']}", {**flow, "read_only": False}, 403)


async def test_a_flow_carries_its_timerange_when_asked_limited_to_what_overlaps(tams: Tams) -> None:
    """rule 23"""
    flow = await tams.flow()
    path = f"/flows/{flow['id']}"
    assert (await tams.get(path, include_timerange="true"))["timerange"] == "()"
    for start in (0, 2, 8):
        await tams.segment(flow["id"], seconds(start, start + 2))
    assert "timerange" not in await tams.get(path)
    assert "timerange" not in await tams.get(path, timerange="[0:0_1:0)")
    for within, extent in (
        ("_", "[0:0_10:0)"),
        ("[1:0_3:0)", "[0:0_4:0)"),
        ("[3:0_9:0)", "[2:0_10:0)"),
        ("[4:0_8:0)", "()"),
        ("()", "()"),
        ("[20:0_", "()"),
    ):
        found = await tams.get(path, include_timerange="true", timerange=within)
        assert found["timerange"] == extent, within


async def test_flows_are_found_by_the_time_they_cover(tams: Tams) -> None:
    """rule 24"""
    early, late, empty = [await tams.flow() for _ in range(3)]
    await tams.segment(early["id"], seconds(0, 2))
    await tams.segment(late["id"], "[5:0_6:0]")

    async def found(timerange: str) -> set[str]:
        return {flow["id"] for flow in await tams.get("/flows", timerange=timerange)}

    everything = {early["id"], late["id"], empty["id"]}
    assert await found("_") == everything
    assert await found("()") == {empty["id"]}
    assert await found("[1:0_5:0)") == {early["id"]}
    assert await found("[1:0_5:0]") == {early["id"], late["id"]}
    assert await found("[2:0_5:0)") == set()
    assert await found("[6:0]") == {late["id"]}
    assert await found("(6:0_") == set()


@pytest.mark.parametrize(
    ("essence", "status"),
    [
        ({"vfr": True}, 201),
        ({"vfr": True, "frame_rate": {"numerator": 25}}, 400),
        ({}, 400),
        ({"vfr": False}, 400),
        ({"vfr": False, "frame_rate": {"numerator": 25}}, 201),
        ({"frame_rate": {"numerator": 0}}, 400),
        ({"frame_rate": 25}, 400),
    ],
)
async def test_video_has_a_frame_rate_or_a_variable_one(
    tams: Tams, essence: dict[str, Any], status: int
) -> None:
    """rule 25"""
    size = {"frame_width": 1, "frame_height": 1}
    flow = video(essence_parameters={**size, **essence})
    await tams.put(f"/flows/{flow['id']}", flow, status)


@pytest.mark.parametrize("name", ["max_bit_rate", "avg_bit_rate"])
async def test_bit_rates_are_integers_and_absent_when_unset(tams: Tams, name: str) -> None:
    """rule 26"""
    flow = await tams.flow()
    path = f"/flows/{flow['id']}/{name}"
    await tams.get(path, 404)
    await tams.put(path, 2500)
    assert await tams.get(path) == 2500
    assert (await tams.get(f"/flows/{flow['id']}"))[name] == 2500
    for bad in (-1, 1.5, "1", None, True, [1], 2**63):
        await tams.put(path, bad, 400)
    assert await tams.get(path) == 2500
    await tams.delete(path)
    await tams.get(path, 404)
    await tams.delete(path)


async def test_status_is_the_clients_alone(tams: Tams) -> None:
    """rule 27"""
    for status in ("awaiting_content", "ingesting", "replication_in_progress", "closed_complete"):
        flow = await tams.flow(status=status)
        await tams.segment(flow["id"], seconds(0, 1))
        assert (await tams.get(f"/flows/{flow['id']}"))["status"] == status
        assert [found["id"] for found in await tams.get(f"/flows?status={status}")] == [flow["id"]]
    plain = await tams.flow()
    assert "status" not in await tams.get(f"/flows/{plain['id']}")
    await tams.put(f"/flows/{plain['id']}", {**plain, "status": "done"}, 400)


async def test_flows_filter_by_what_they_are(tams: Tams) -> None:
    """rule 14, GET_flows: every filter"""
    small = await tams.flow(essence_parameters={**VIDEO, "frame_width": 640, "init_segments": True})
    large = await tams.flow(label="large", codec="video/h265")
    both = await tams.collection(small, large)

    async def found(**params: Any) -> set[str]:
        return {flow["id"] for flow in await tams.get("/flows", **params)}

    assert await found(format="urn:x-nmos:format:multi") == {both["id"]}
    assert await found(codec="video/h265") == {large["id"]}
    assert await found(label="large") == {large["id"]}
    assert await found(label="larg") == set()
    assert await found(source_id=small["source_id"]) == {small["id"]}
    assert await found(frame_width=640) == {small["id"]}
    assert await found(frame_height=720, frame_width=1280) == {large["id"]}
    assert await found(init_segments="true") == {small["id"]}
    assert await found(init_segments="false") == {large["id"], both["id"]}
    assert await found(profile_id=ABSENT) == set()
    assert await found(frame_width="9" * 30) == set()
    sources = await tams.get("/sources", format="urn:x-nmos:format:multi")
    assert [source["id"] for source in sources] == [both["source_id"]]


async def test_the_last_flow_takes_its_source_along_and_leaves_collections(tams: Tams) -> None:
    """rule 30"""
    one, two = await tams.flow(), await tams.flow()
    sibling = await tams.flow(source_id=two["source_id"])
    parent = await tams.collection(one, two)
    await tams.delete(f"/flows/{one['id']}")
    await tams.get(f"/flows/{one['id']}", 404)
    await tams.get(f"/sources/{one['source_id']}", 404)
    found = await tams.get(f"/flows/{parent['id']}")
    assert [item["id"] for item in found["flow_collection"]] == [two["id"]]
    source = await tams.get(f"/sources/{parent['source_id']}")
    assert [item["id"] for item in source["source_collection"]] == [two["source_id"]]
    await tams.delete(f"/flows/{two['id']}")
    await tams.get(f"/sources/{two['source_id']}")
    source = await tams.get(f"/sources/{parent['source_id']}")
    assert "source_collection" not in source
    await tams.delete(f"/flows/{sibling['id']}")
    await tams.get(f"/sources/{two['source_id']}", 404)
    await tams.delete(f"/flows/{parent['id']}")
    assert await tams.get("/flows") == await tams.get("/sources") == []


async def test_deleting_a_collection_leaves_its_members(tams: Tams) -> None:
    """rule 30"""
    member = await tams.flow()
    parent = await tams.collection(member)
    await tams.delete(f"/flows/{parent['id']}")
    assert "collected_by" not in await tams.get(f"/flows/{member['id']}")
    assert "collected_by" not in await tams.get(f"/sources/{member['source_id']}")


async def test_flows_of_one_source_deleted_at_once_leave_no_source_behind(tams: Tams) -> None:
    """rule 30"""
    first = await tams.flow()
    others = [await tams.flow(source_id=first["source_id"]) for _ in range(7)]
    answers = await asyncio.gather(
        *(tams.request("DELETE", f"/flows/{flow['id']}") for flow in (first, *others))
    )
    assert {answer.status_code for answer in answers} == {204}
    assert await tams.get("/sources") == []


@pytest.mark.parametrize("name", ["label", "description"])
async def test_texts_are_set_read_and_dropped(tams: Tams, name: str) -> None:
    """rule 14: an unset property is absent"""
    flow = await tams.flow()
    for stem in (f"/flows/{flow['id']}", f"/sources/{flow['source_id']}"):
        await tams.get(f"{stem}/{name}", 404)
        await tams.put(f"{stem}/{name}", "text")
        assert await tams.get(f"{stem}/{name}") == "text"
        assert (await tams.get(stem))[name] == "text"
        for bad in (1, None, ["x"], {"a": "b"}, "x" * 100_000):
            await tams.put(f"{stem}/{name}", bad, 400)
        await tams.delete(f"{stem}/{name}")
        await tams.get(f"{stem}/{name}", 404)
        assert name not in await tams.get(stem)
    for stem in (f"/flows/{ABSENT}", f"/sources/{ABSENT}"):
        await tams.get(f"{stem}/{name}", 404)
        await tams.put(f"{stem}/{name}", "text", 404)
        await tams.delete(f"{stem}/{name}", 404)
