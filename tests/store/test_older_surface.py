"""What clients of older deployments ask for, and get."""

from __future__ import annotations

import json
from typing import Any

import pytest

from store.errors import BadRequest
from store.older_documents import flow_of, source_of
from tests.store.harness import ARCHIVE, Tams, new_id, seconds, video

VIDEO = "urn:x-nmos:format:video"
FLAT = {
    "format": VIDEO,
    "codec": "video/h264",
    "container": "video/mp2t",
    "frame_width": 1920,
    "frame_height": 1080,
    "frame_rate": "25/1",
}


async def test_a_flow_is_posted_with_its_id_or_a_new_one(tams: Tams) -> None:
    for said in (FLAT, {**FLAT, "id": new_id(), "source_id": new_id()}):
        made = (await tams.post("/flows", said)).json()
        found = await tams.get(f"/flows/{made['id']}")
        assert found["essence_parameters"] == {
            "frame_width": 1920,
            "frame_height": 1080,
            "frame_rate": {"numerator": 25, "denominator": 1},
        }
        assert await tams.get(f"/sources/{made['source_id']}")
    again = await tams.post("/flows", {**FLAT, "id": made["id"]}, 400)
    assert "already" in again.json()["summary"]


async def test_everything_is_below_the_older_prefix_too(tams: Tams) -> None:
    flow = await tams.flow()
    path = f"/flows/{flow['id']}"
    assert await tams.get(f"/api/v1{path}") == await tams.get(path)
    assert (await tams.request("HEAD", f"/api/v1{path}")).status_code == 200
    assert (await tams.request("GET", "/api/v1/health")).status_code == 200
    assert (await tams.request("GET", "/api/v1/nothing")).status_code == 404
    for stray in ("/api/v1x/flows", "/api/v1/api/v1/flows", "/api/v1" * 2000 + "/flows", "/api/v1"):
        assert (await tams.request("GET", stray)).status_code == 404
    replaced = {**FLAT, "id": flow["id"], "source_id": flow["source_id"], "frame_width": 640}
    await tams.put(f"/api/v1{path}", replaced)
    assert (await tams.get(path))["essence_parameters"]["frame_width"] == 640


async def test_sources_come_go_and_change_without_flows(tams: Tams) -> None:
    source = {"id": new_id(), "format": VIDEO, "label": "a", "tags": {"x": "1"}}
    await tams.post("/sources", source)
    path = f"/sources/{source['id']}"
    assert (await tams.get(path))["label"] == "a"
    await tams.post("/sources", source, 400)
    assert (await tams.post("/sources", {"format": VIDEO})).json()["id"]
    await tams.put(path, {**source, "label": "b", "tags": {}})
    found = await tams.get(path)
    assert (found["label"], found["tags"]) == ("b", {})
    await tams.put(path, {**source, "format": "urn:x-nmos:format:audio"}, 400)
    await tams.put(f"/sources/{new_id()}", source, 404)
    flow = await tams.flow(source_id=source["id"])
    await tams.delete(path, 403)
    await tams.delete(f"/flows/{flow['id']}")
    await tams.get(path, 404)
    await tams.post("/sources", source)
    await tams.delete(path)
    await tams.delete(path, 404)


async def test_older_sources_have_names_types_and_locations(tams: Tams) -> None:
    said = {"name": "Camera 1", "type": "video", "location": "Studio A"}
    made = (await tams.post("/api/v1/sources", said)).json()
    assert (made["label"], made["format"]) == ("Camera 1", VIDEO)
    assert made["tags"] == {"location": "Studio A"}


async def test_room_for_an_object_is_made_by_its_name(tams: Tams) -> None:
    flow = await tams.flow()
    made = (
        await tams.post("/objects", {"flow_id": flow["id"], "id": "clip/1", "storage_id": ARCHIVE})
    ).json()
    assert made["id"] == made["object_id"] == "clip/1"
    put = made["put_url"]
    await tams.request("PUT", put["url"], content=b"x", headers={"Content-Type": put["content-type"]})
    await tams.segment(flow["id"], seconds(0, 1), "clip/1")
    await tams.post("/objects", {"flow_id": flow["id"], "id": "clip/1"}, 400)
    await tams.post("/objects", {"id": "clip/2"}, 400)
    await tams.post("/objects", {"flow_id": new_id()}, 404)


async def test_a_flow_goes_by_a_request_to_delete_it(tams: Tams) -> None:
    flow = await tams.flow()
    answer = await tams.post("/flow-delete-requests", {"flow_id": flow["id"]})
    assert answer.json()["status"] == "done"
    await tams.get(f"/flows/{flow['id']}", 404)
    await tams.post("/flow-delete-requests", {}, 400)


@pytest.mark.parametrize(
    ("more", "left"),
    [
        ({"timerange_to_delete": "[0:0_1:0)", "delete_flow": False}, ["[1:0_2:0)"]),
        ({"timerange_to_delete": "[0:0_1:0)"}, ["[1:0_2:0)"]),
        ({"delete_flow": False}, []),
        ({"timerange_to_delete": "_", "delete_flow": False}, []),
    ],
)
async def test_segments_go_by_a_request_to_delete_them(tams: Tams, more: Any, left: list[str]) -> None:
    flow = await tams.flow()
    await tams.segment(flow["id"], seconds(0, 1))
    await tams.segment(flow["id"], seconds(1, 2))
    answer = await tams.post("/flow-delete-requests", {"flow_id": flow["id"], **more})
    assert answer.json()["status"] == "done" and answer.json()["delete_flow"] is False
    assert [each["timerange"] for each in await tams.segments(flow["id"])] == left


@pytest.mark.parametrize(
    "more",
    [
        {"timerange_to_delete": "zzz"},
        {"timerange_to_delete": "zzz", "delete_flow": False},
        {"timerange_to_delete": 1},
        {"timerange_to_delete": "[0:0_1:0)", "delete_flow": True},
        {"delete_flow": "false"},
        {"delete_flow": None},
    ],
)
async def test_a_request_to_delete_that_says_nothing_deletes_nothing(tams: Tams, more: Any) -> None:
    flow = await tams.flow()
    await tams.segment(flow["id"], seconds(0, 1))
    await tams.post("/flow-delete-requests", {"flow_id": flow["id"], **more}, 400)
    assert len(await tams.segments(flow["id"])) == 1


@pytest.mark.parametrize("prefix", ["", "/api/v1"])
async def test_a_segment_brings_its_media(tams: Tams, prefix: str) -> None:
    flow = await tams.flow()
    segment = {"object_id": "a", "timerange": "[0:0_1:0)", "sample_offset": 0, "sample_count": 25}
    media = b"media \r\n--not the boundary\x00\xff" * 100
    answer = await tams.request(
        "POST",
        f"{prefix}/flows/{flow['id']}/segments",
        files={
            "segment": (None, json.dumps(segment), "application/json"),
            "file": ("a.ts", media, "video/mp2t"),
        },
    )
    assert answer.status_code == 201, answer.text
    (listed,) = await tams.segments(flow["id"])
    assert {name: listed[name] for name in segment} == segment
    assert (await tams.request("GET", listed["get_urls"][0]["url"])).content == media


@pytest.mark.parametrize(
    ("files", "status"),
    [
        ({"file": ("a.ts", b"x")}, 400),
        ({"segment": (None, "{}")}, 400),
        ({"segment": (None, "no json"), "file": ("a.ts", b"x")}, 400),
        ({"segment": (None, '{"timerange": "x"}'), "file": ("a.ts", b"x")}, 400),
    ],
)
async def test_a_form_that_is_none_is_refused(tams: Tams, files: Any, status: int) -> None:
    flow = await tams.flow()
    answer = await tams.request("POST", f"/flows/{flow['id']}/segments", files=files)
    assert answer.status_code == status, answer.text
    assert answer.json()["summary"]
    assert await tams.segments(flow["id"]) == []


@pytest.mark.parametrize("path", ["/flows", "/objects", "/flow-delete-requests", "/api/v1/sources"])
@pytest.mark.parametrize("body", [b"", b"[]", b"{", b'"x"', b'{"a":1,"a":2}', b"\xff"])
async def test_bodies_that_are_none_are_refused(tams: Tams, path: str, body: bytes) -> None:
    answer = await tams.request("POST", path, content=body)
    assert answer.status_code == 400, answer.text
    assert answer.headers["content-type"] == "application/json"


@pytest.mark.parametrize(
    ("given", "expected"),
    [
        ("25/1", (25, 1)),
        ("30000/1001", (30000, 1001)),
        ("29.97", (2997, 100)),
        (25, (25, 1)),
        ("50", (50, 1)),
        ("16:9", (16, 9)),
    ],
)
def test_rates_are_read_as_they_were_written(given: object, expected: tuple[int, int]) -> None:
    rate = flow_of({"format": "video", "frame_rate": given})["essence_parameters"]["frame_rate"]
    assert (rate["numerator"], rate["denominator"]) == expected


@pytest.mark.parametrize("given", ["fast", "1/0", "1e999999999", True, [], "9" * 99])
def test_what_is_no_rate_is_refused(given: object) -> None:
    with pytest.raises(BadRequest, match="frame_rate"):
        flow_of({"format": VIDEO, "frame_rate": given})


def test_documents_of_today_stay_as_they_are() -> None:
    flow = video()
    assert flow_of(flow) == flow
    source = {"id": "x", "format": VIDEO, "label": "l", "tags": {"a": "b"}}
    assert source_of(source) == source
