"""Clients of API 6 and 7, and of other stores, go on working: the compatibility section of the rules."""

from __future__ import annotations

from typing import Any

from tests.store.harness import VIDEO, Tams, multi, new_id, object_path, seconds, video

ABSENT = "99999999-9999-4999-8999-999999999999"


async def test_the_api_version_is_there_to_gate_on(tams: Tams) -> None:
    service = await tams.get("/service")
    assert service["api_version"] == "8.2"
    assert service["type"].startswith("urn:x-tams:service")
    assert int(service["min_object_timeout"].split(":")[0]) >= 300
    assert int(service["min_presigned_url_timeout"].split(":")[0]) >= 30


async def test_one_segment_may_be_posted_by_itself(tams: Tams) -> None:
    flow = await tams.flow()
    object_id = await tams.upload(flow["id"])
    await tams.post(
        f"/flows/{flow['id']}/segments", {"object_id": object_id, "timerange": seconds(0, 1)}, 201
    )


async def test_a_collection_item_needs_no_role(tams: Tams) -> None:
    member = await tams.flow()
    parent = multi(flow_collection=[{"id": member["id"]}])
    await tams.put(f"/flows/{parent['id']}", parent, 201)
    assert await tams.get(f"/flows/{parent['id']}/flow_collection") == [{"id": member["id"]}]
    source = await tams.get(f"/sources/{parent['source_id']}")
    assert source["source_collection"] == [{"id": member["source_id"]}]


async def test_what_was_got_can_be_put_back(tams: Tams) -> None:
    member = await tams.flow()
    parent = await tams.collection(member, tags={"t": ["v"]}, label="l")
    await tams.segment(member["id"], seconds(0, 1))
    for flow in (member, parent):
        path = f"/flows/{flow['id']}"
        got = await tams.get(path, include_timerange="true")
        await tams.put(path, got)
        assert await tams.get(path, include_timerange="true") == got


async def test_unknown_properties_are_ignored(tams: Tams) -> None:
    flow = video(new_in_9_0={"a": [1]}, segments_updated=None)
    await tams.put(f"/flows/{flow['id']}", {**flow, "new_in_9_0": {"a": [1]}}, 201)
    assert "new_in_9_0" not in await tams.get(f"/flows/{flow['id']}")


async def test_fields_of_samples_are_kept_for_those_who_send_them(tams: Tams) -> None:
    flow = await tams.flow()
    object_id = await tams.segment(flow["id"], seconds(0, 4), sample_offset=0, sample_count=100)
    part: dict[str, Any] = {"ts_offset": "9:0", "sample_offset": 25, "sample_count": 50}
    await tams.segment(flow["id"], seconds(10, 12), object_id, **part)
    _, reused = await tams.segments(flow["id"])
    assert {name: reused[name] for name in part} == part


async def test_the_example_clients_way_in_works(tams: Tams) -> None:
    """PUT flow, allocate, upload with the content type alone, register with an offset; times as they come."""
    flow = video(essence_parameters={**VIDEO, "frame_rate": {"numerator": 25, "denominator": 1}})
    await tams.put(f"/flows/{flow['id']}", flow, 201)
    storage = (await tams.post(f"/flows/{flow['id']}/storage", {"limit": 5})).json()
    for number, given in enumerate(storage["media_objects"]):
        put = given["put_url"]
        sent = await tams.client.put(put["url"], content=b"ts", headers={"Content-Type": put["content-type"]})
        assert sent.status_code == 200
        body = {
            "object_id": given["object_id"],
            "timerange": f"[{number * 2}:0_{number * 2 + 1}:999999999]",
            "ts_offset": "-1:400000000",
        }
        await tams.post(f"/flows/{flow['id']}/segments", body)
    url: str | None = f"/flows/{flow['id']}/segments?timerange=[0:0_9:999999999]&presigned=true&limit=2"
    url += "&include_object_timerange=true"
    seen: list[dict[str, Any]] = []
    while url:
        answer = await tams.client.get(url, headers={"Content-Type": "application/json"})
        seen += answer.json()
        url = answer.links.get("next", {}).get("url")
        assert url is None or url.startswith("http://tams.test/")
    assert [each["timerange"] for each in seen] == [f"[{n * 2}:0_{n * 2 + 1}:999999999]" for n in range(5)]
    for each in seen:
        assert each["object_timerange"].startswith("[")
        assert (await tams.client.get(each["get_urls"][0]["url"])).content == b"ts"


async def test_the_example_clients_edit_reuses_objects(tams: Tams) -> None:
    source, edit = await tams.flow(), await tams.flow()
    for number in range(3):
        await tams.segment(source["id"], seconds(number, number + 1))
    for segment in await tams.segments(source["id"], timerange="_"):
        start = int(segment["timerange"][1:].split(":")[0]) + 100
        body = {
            "object_id": segment["object_id"],
            "timerange": seconds(start, start + 1),
            "ts_offset": "100:0",
        }
        await tams.post(f"/flows/{edit['id']}/segments", body)
    found = await tams.get(object_path(segment["object_id"]))
    assert set(found["referenced_by_flows"]) == {source["id"], edit["id"]}


async def test_errors_carry_the_message_that_other_stores_clients_read(tams: Tams) -> None:
    answer = await tams.request("GET", f"/flows/{ABSENT}")
    assert answer.json()["message"] == answer.json()["summary"]


async def test_urls_without_a_label_get_one(tams: Tams) -> None:
    """rule 42"""
    flow = await tams.flow()
    body = {
        "object_id": new_id(),
        "timerange": seconds(0, 1),
        "get_urls": [{"url": "https://a.test/1"}, {"url": "https://a.test/2"}],
    }
    await tams.post(f"/flows/{flow['id']}/segments", body)
    (segment,) = await tams.segments(flow["id"])
    assert len({url["label"] for url in segment["get_urls"]}) == 2
