"""Many clients at once: what overlaps, who wins, and what readers see meanwhile."""

from __future__ import annotations

import asyncio
import random
from typing import Any

import httpx
import pytest

from store.timerange import TimeRange
from tests.store.harness import Tams, multi, seconds

WRITERS = 16


async def prepared(tams: Tams, flow_id: str, count: int) -> list[str]:
    """The ids of new objects; their bytes do not matter here."""
    answer = await tams.post(f"/flows/{flow_id}/storage", {"limit": count, "presigned": False})
    return [each["object_id"] for each in answer.json()["media_objects"]]


def spans(segments: list[dict[str, Any]]) -> list[tuple[int, int]]:
    """(first, stop) of segments, in nanoseconds."""
    found = [TimeRange.parse(segment["timerange"]) for segment in segments]
    return [(each.first_ns or 0, each.stop_ns or 0) for each in found]


@pytest.mark.parametrize("seed", range(3))
async def test_of_overlapping_segments_by_16_writers_those_that_won_do_not_overlap(
    tams: Tams, seed: int
) -> None:
    """rule 34"""
    chance = random.Random(seed)
    flow = await tams.flow()
    objects = await prepared(tams, flow["id"], WRITERS * 12)
    won: dict[str, str] = {}

    async def writer(mine: list[str]) -> None:
        for object_id in mine:
            start = chance.randrange(60)
            timerange = seconds(start, start + chance.randrange(1, 5))
            body: Any = {"object_id": object_id, "timerange": timerange}
            if chance.random() < 0.3:
                body = [body]
            answer = await tams.request("POST", f"/flows/{flow['id']}/segments", json=body)
            assert answer.status_code in (201, 400), answer.text
            if answer.status_code == 201:
                won[object_id] = timerange

    await asyncio.gather(*(writer(objects[n::WRITERS]) for n in range(WRITERS)))
    found = await tams.segments(flow["id"], limit=1000)
    assert {each["object_id"]: each["timerange"] for each in found} == won
    ordered = spans(found)
    assert ordered == sorted(ordered)
    assert all(one[1] <= two[0] for one, two in zip(ordered, ordered[1:], strict=False))
    free = set(range(66)) - {s for a, b in ordered for s in range(a // 10**9, b // 10**9)}
    assert won and len(free) < 66


async def test_bulk_requests_of_16_writers_share_the_timeline(tams: Tams) -> None:
    """rule 34, rule 35"""
    flow = await tams.flow()
    objects = await prepared(tams, flow["id"], WRITERS * 20)

    async def writer(number: int) -> int:
        mine = objects[number * 20 : number * 20 + 20]
        body = [{"object_id": each, "timerange": seconds(n, n + 1)} for n, each in enumerate(mine)]
        answer = await tams.request("POST", f"/flows/{flow['id']}/segments", json=body)
        if answer.status_code == 201:
            return 20
        assert answer.status_code == 200
        return 20 - len(answer.json()["failed_segments"])

    written = await asyncio.gather(*(writer(number) for number in range(WRITERS)))
    assert sum(written) == 20
    assert len(await tams.segments(flow["id"])) == 20


async def test_an_object_registered_by_many_flows_at_once_counts_every_reference(tams: Tams) -> None:
    """rule 55"""
    first = await tams.flow()
    object_id = await tams.segment(first["id"], seconds(0, 1))
    flows = [await tams.flow() for _ in range(WRITERS)]
    await asyncio.gather(*(tams.segment(flow["id"], seconds(0, 1), object_id) for flow in flows))
    everybody = [first, *flows]
    await asyncio.gather(*(tams.delete(f"/flows/{flow['id']}") for flow in everybody[:-1]))
    await tams.work()
    (segment,) = await tams.segments(everybody[-1]["id"], presigned="true")
    assert (await tams.client.get(segment["get_urls"][0]["url"])).content == b"bytes"
    await tams.delete(f"/flows/{everybody[-1]['id']}")
    await tams.work()
    assert (await tams.client.get(segment["get_urls"][0]["url"])).status_code == 404


async def test_edits_of_one_flow_at_once_all_happen(tams: Tams) -> None:
    """rule 18: no edit undoes another"""
    flow = await tams.flow()
    path = f"/flows/{flow['id']}"
    await asyncio.gather(*(tams.put(f"{path}/tags/t{n}", str(n)) for n in range(WRITERS)))
    assert await tams.get(f"{path}/tags") == {f"t{n}": str(n) for n in range(WRITERS)}


async def test_collections_edited_at_once_agree_with_what_is_derived(tams: Tams) -> None:
    """rule 21"""
    members = [await tams.flow() for _ in range(4)]
    parents = [await tams.collection() for _ in range(6)]
    chance = random.Random(1)

    async def edit(parent: dict[str, Any]) -> None:
        for _ in range(4):
            chosen = chance.sample(members, chance.randrange(4))
            items = [{"id": each["id"], "role": "r"} for each in chosen]
            await tams.put(f"/flows/{parent['id']}/flow_collection", items)

    await asyncio.gather(*map(edit, parents))
    flows = {flow["id"]: flow for flow in await tams.get("/flows")}
    sources = {source["id"]: source for source in await tams.get("/sources")}
    for member in members:
        holding = {
            flow["id"]
            for flow in flows.values()
            if any(item["id"] == member["id"] for item in flow.get("flow_collection", ()))
        }
        assert set(flows[member["id"]].get("collected_by", ())) == holding
        above = {flows[each]["source_id"] for each in holding}
        assert set(sources[member["source_id"]].get("collected_by", ())) == above
    for parent in parents:
        flow = flows[parent["id"]]
        wanted = [flows[item["id"]]["source_id"] for item in flow.get("flow_collection", ())]
        source = sources[parent["source_id"]]
        assert [item["id"] for item in source.get("source_collection", ())] == wanted


async def test_a_flow_put_and_deleted_at_once_ends_whole_or_gone(tams: Tams) -> None:
    """rule 30"""
    for _ in range(6):
        flow = await tams.flow()
        path = f"/flows/{flow['id']}"
        calls: list[asyncio.Task[httpx.Response]] = []
        async with asyncio.TaskGroup() as group:
            for method in ("PUT", "DELETE", "PUT"):
                calls.append(group.create_task(tams.request(method, path, json={**flow, "label": method})))
        assert all(call.result().status_code in (201, 204, 404) for call in calls)
        found = await tams.request("GET", path)
        source = await tams.request("GET", f"/sources/{flow['source_id']}")
        assert found.status_code == source.status_code


async def test_pages_read_while_others_write_neither_skip_nor_repeat(tams: Tams) -> None:
    """rule 9: over segments, whose place never changes"""
    flow = await tams.flow()
    objects = await prepared(tams, flow["id"], 200)
    kept = [{"object_id": each, "timerange": f"[{2 * n}:0]"} for n, each in enumerate(objects[:100])]
    await tams.post(f"/flows/{flow['id']}/segments", kept)

    async def write() -> None:
        for n, each in enumerate(objects[100:]):
            odd = {"object_id": each, "timerange": f"[{2 * n + 1}:0]"}
            await tams.post(f"/flows/{flow['id']}/segments", odd)

    async def read(reverse: str) -> list[str]:
        seen: list[str] = []
        url: str | None = f"/flows/{flow['id']}/segments?limit=7&accept_get_urls=&reverse_order={reverse}"
        while url:
            answer = await tams.request("GET", url)
            seen += [each["timerange"] for each in answer.json()]
            url = answer.links.get("next", {}).get("url")
        return seen

    _, *readings = await asyncio.gather(write(), *(read(way) for way in ("false", "true") * 3))
    for seen in readings:
        assert len(seen) == len(set(seen))
        assert {each["timerange"] for each in kept} <= set(seen)


async def test_multi_flows_of_one_source_made_at_once_agree(tams: Tams) -> None:
    """rule 20: of two that contradict each other one is refused"""
    member = await tams.flow()
    for _ in range(4):
        one = multi(flow_collection=[{"id": member["id"], "role": "a"}])
        two = multi(source_id=one["source_id"], flow_collection=[{"id": member["id"], "role": "b"}])
        answers = await asyncio.gather(
            *(tams.request("PUT", f"/flows/{flow['id']}", json=flow) for flow in (one, two))
        )
        assert sorted(answer.status_code for answer in answers) == [201, 400]
