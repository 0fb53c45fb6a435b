"""Rules 31-47 of TAMS 8.2: segments."""

from __future__ import annotations

import asyncio
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

from tests.store.harness import (
    ARCHIVE,
    LOCAL,
    UNLABELLED,
    Tams,
    object_path,
    running_tams,
    seconds,
)

ABSENT = "99999999-9999-4999-8999-999999999999"


def ranges(segments: list[dict[str, Any]]) -> list[str]:
    """The timeranges of segments."""
    return [segment["timerange"] for segment in segments]


async def posted(tams: Tams, flow_id: str, **segment: Any) -> int:
    """The status of a POST of one segment."""
    answer = await tams.request("POST", f"/flows/{flow_id}/segments", json=segment)
    return answer.status_code


async def test_an_unknown_flow_has_no_segments(tams: Tams) -> None:
    """rule 31"""
    answer = await tams.request("GET", f"/flows/{ABSENT}/segments")
    assert (answer.status_code, answer.json()) == (200, [])
    assert answer.headers["x-paging-timerange"] == "()"
    await tams.post(f"/flows/{ABSENT}/segments", {"object_id": "x", "timerange": seconds(0, 1)}, 404)
    await tams.delete(f"/flows/{ABSENT}/segments", 404)
    await tams.get("/flows/none/segments", 404)


async def test_get_finds_what_overlaps_and_delete_only_what_is_covered(tams: Tams) -> None:
    """rule 32"""
    flow = await tams.flow()
    for start in (0, 2, 4):
        await tams.segment(flow["id"], seconds(start, start + 2))
    assert ranges(await tams.segments(flow["id"], timerange="[1:0_5:0)")) == [
        seconds(0, 2),
        seconds(2, 4),
        seconds(4, 6),
    ]
    path = f"/flows/{flow['id']}/segments"
    await tams.delete(f"{path}?timerange=[1:0_5:0)")
    assert ranges(await tams.segments(flow["id"])) == [seconds(0, 2), seconds(4, 6)]
    await tams.delete(f"{path}?timerange=(0:0_9:0)")
    assert ranges(await tams.segments(flow["id"])) == [seconds(0, 2)]
    await tams.delete(f"{path}?timerange=()")
    await tams.delete(f"{path}?object_id=none")
    assert ranges(await tams.segments(flow["id"])) == [seconds(0, 2)]
    await tams.delete(path)
    assert await tams.segments(flow["id"]) == []


async def test_segments_are_deleted_by_object(tams: Tams) -> None:
    """rule 32"""
    flow = await tams.flow()
    kept = await tams.segment(flow["id"], seconds(0, 1))
    gone = await tams.segment(flow["id"], seconds(1, 2))
    await tams.segment(flow["id"], seconds(2, 3), gone, ts_offset="1:0")
    assert len(await tams.segments(flow["id"], object_id=gone)) == 2
    await tams.delete(f"/flows/{flow['id']}/segments?object_id={gone}")
    assert [s["object_id"] for s in await tams.segments(flow["id"])] == [kept]


async def test_order_respects_clusivity(tams: Tams) -> None:
    """rule 33"""
    flow = await tams.flow()
    for text in ("[2:0]", "[1:0_2:0)", "[2:1_3:0)"):
        await tams.segment(flow["id"], text)
    assert ranges(await tams.segments(flow["id"])) == ["[1:0_2:0)", "[2:0]", "[2:1_3:0)"]
    backwards = await tams.segments(flow["id"], reverse_order="true")
    assert ranges(backwards) == ["[2:1_3:0)", "[2:0]", "[1:0_2:0)"]
    assert ranges(await tams.segments(flow["id"], timerange="[2:0]")) == ["[2:0]"]


async def test_overlap_is_refused(tams: Tams) -> None:
    """rule 34"""
    flow = await tams.flow()
    await tams.segment(flow["id"], seconds(2, 4))
    object_id = await tams.upload(flow["id"])
    for text in (seconds(2, 4), seconds(3, 5), seconds(0, 3), seconds(0, 9), "[3:0]", "[1:0_2:0]"):
        assert await posted(tams, flow["id"], object_id=object_id, timerange=text) == 400, text
    assert await posted(tams, flow["id"], object_id=object_id, timerange=seconds(1, 2)) == 201
    assert ranges(await tams.segments(flow["id"])) == [seconds(1, 2), seconds(2, 4)]


async def test_overlap_within_one_request_is_refused_and_the_earlier_one_wins(tams: Tams) -> None:
    """rule 34, rule 35"""
    flow = await tams.flow()
    ids = [await tams.upload(flow["id"]) for _ in range(3)]
    body = [
        {"object_id": ids[0], "timerange": seconds(0, 2)},
        {"object_id": ids[1], "timerange": seconds(1, 3)},
        {"object_id": ids[2], "timerange": seconds(2, 4)},
    ]
    answer = (await tams.post(f"/flows/{flow['id']}/segments", body, 200)).json()
    assert [failed["object_id"] for failed in answer["failed_segments"]] == [ids[1]]
    assert ranges(await tams.segments(flow["id"])) == [seconds(0, 2), seconds(2, 4)]
    await tams.get(object_path(ids[1]), 404)


async def test_of_concurrent_writers_exactly_one_wins(tams: Tams) -> None:
    """rule 34"""
    flow = await tams.flow()
    ids = [await tams.upload(flow["id"]) for _ in range(8)]
    answers = await asyncio.gather(
        *(posted(tams, flow["id"], object_id=each, timerange=seconds(0, 2)) for each in ids)
    )
    assert sorted(answers) == [201] + [400] * 7
    (segment,) = await tams.segments(flow["id"])
    assert segment["object_id"] == ids[answers.index(201)]


async def test_bulk_goes_on_past_bad_segments_and_names_them(tams: Tams) -> None:
    """rule 35"""
    flow = await tams.flow()
    path = f"/flows/{flow['id']}/segments"
    ids = [await tams.upload(flow["id"]) for _ in range(4)]
    good = [{"object_id": o, "timerange": seconds(n, n + 1)} for n, o in enumerate(ids)]
    assert (await tams.post(path, good[:2], 201)).content == b""
    mixed = [
        {"object_id": ids[2], "timerange": "nonsense"},
        {"object_id": "none", "timerange": seconds(8, 9)},
        good[2],
        {"object_id": ids[3]},
        {"object_id": ids[3], "timerange": "[9:0_10:0)", "key_frame_count": "x"},
        good[3],
    ]
    answer = (await tams.post(path, mixed, 200)).json()
    assert [(f["object_id"], f.get("timerange")) for f in answer["failed_segments"]] == [
        (ids[2], None),
        ("none", seconds(8, 9)),
        (ids[3], None),
        (ids[3], "[9:0_10:0)"),
    ]
    for failed in answer["failed_segments"]:
        assert set(failed["error"]) == {"type", "summary", "message", "time"}
    assert len(await tams.segments(flow["id"])) == 4
    everything_wrong = [{"object_id": "none", "timerange": seconds(20, 21)}] * 2
    assert len((await tams.post(path, everything_wrong, 200)).json()["failed_segments"]) == 2


async def test_a_single_bad_segment_is_400_and_changes_nothing(tams: Tams) -> None:
    """rule 35"""
    flow = await tams.flow()
    await tams.segment(flow["id"], seconds(0, 1))
    before = await tams.contents()
    path = f"/flows/{flow['id']}/segments"
    bad = {"object_id": "none", "timerange": seconds(5, 6)}
    await tams.post(path, bad, 400)
    await tams.post(path, [bad], 400)
    await tams.post(path, [], 400)
    assert await tams.contents() == before


async def test_a_rejected_segment_leaves_its_object_open_for_upload(tams: Tams) -> None:
    """rule 35: what was frozen for a registration that failed is let go"""
    flow = await tams.flow()
    await tams.segment(flow["id"], seconds(0, 1))
    answer = (await tams.post(f"/flows/{flow['id']}/storage", {"limit": 1})).json()["media_objects"][0]
    put = answer["put_url"]

    async def upload(data: bytes) -> int:
        headers = {"Content-Type": put["content-type"]}
        return (await tams.client.put(put["url"], content=data, headers=headers)).status_code

    assert await upload(b"first") == 200
    segment = {"object_id": answer["object_id"], "timerange": seconds(0, 1)}
    assert await posted(tams, flow["id"], **segment) == 400
    assert await upload(b"second") == 200
    assert await posted(tams, flow["id"], **{**segment, "timerange": seconds(1, 2)}) == 201
    assert await upload(b"third") == 412
    (found,) = await tams.segments(flow["id"], timerange=seconds(1, 2), presigned="true")
    assert (await tams.client.get(found["get_urls"][0]["url"])).content == b"second"


async def test_first_registration_sets_the_objects_timerange(tams: Tams) -> None:
    """rule 36"""
    flow = await tams.flow()
    plain = await tams.segment(flow["id"], seconds(10, 12), ts_offset="10:0")
    told = await tams.segment(flow["id"], seconds(12, 14), object_timerange="[0:0_9:0)", ts_offset="12:0")
    assert (await tams.get(object_path(plain)))["timerange"] == "[0:0_2:0)"
    assert (await tams.get(object_path(told)))["timerange"] == "[0:0_9:0)"


async def test_reuse_may_be_partial_and_must_lie_inside_the_object(tams: Tams) -> None:
    """rule 37"""
    one, two = await tams.flow(), await tams.flow()
    object_id = await tams.segment(one["id"], seconds(10, 14), ts_offset="10:0")
    for text, offset, status in (
        ("[101:0_102:0)", "100:0", 201),
        ("[0:0_4:0)", None, 201),
        ("[50:0_55:0)", "50:0", 400),
        ("[49:0_51:0)", "50:0", 400),
        ("[10:0_14:0]", "10:0", 400),
    ):
        segment = {"object_id": object_id, "timerange": text}
        if offset is not None:
            segment["ts_offset"] = offset
        assert await posted(tams, two["id"], **segment) == status, text
    found = await tams.get(object_path(object_id))
    assert found["timerange"] == "[0:0_4:0)"
    assert set(found["referenced_by_flows"]) == {one["id"], two["id"]}


async def test_reuse_that_changes_the_object_is_refused(tams: Tams) -> None:
    """rule 38"""
    flow = await tams.flow()
    init = await tams.upload(flow["id"], content_type="video/mp4")
    other = await tams.upload(flow["id"])
    object_id = await tams.segment(
        flow["id"], seconds(0, 4), key_frame_count=2, init_object_id=init, object_timerange="[0:0_4:0)"
    )
    for change, status in (
        ({"key_frame_count": 3}, 400),
        ({"object_timerange": "[0:0_5:0)"}, 400),
        ({"init_object_id": other}, 400),
        ({"get_urls": [{"url": "http://a.test/x", "label": "l"}]}, 400),
        ({"key_frame_count": 2, "object_timerange": "[0:0_4:0)", "init_object_id": init}, 201),
    ):
        body = {"object_id": object_id, "timerange": seconds(10, 12), "ts_offset": "10:0", **change}
        assert await posted(tams, flow["id"], **body) == status, change
    plain = await tams.segment(flow["id"], seconds(20, 21))
    body = {"object_id": plain, "timerange": seconds(30, 31), "ts_offset": "10:0"}
    assert await posted(tams, flow["id"], **body, key_frame_count=1) == 400
    assert await posted(tams, flow["id"], **body, init_object_id=init) == 400


async def test_objects_of_other_flows_are_taken_once_registered(tams: Tams) -> None:
    """rule 39"""
    one, two = await tams.flow(), await tams.flow()
    object_id, init = await tams.upload(one["id"]), await tams.upload(one["id"])
    own = await tams.upload(two["id"])
    segment = {"object_id": object_id, "timerange": seconds(0, 1)}
    assert await posted(tams, two["id"], **segment) == 400
    assert await posted(tams, two["id"], object_id=own, timerange=seconds(0, 1), init_object_id=init) == 400
    assert await posted(tams, one["id"], **segment, init_object_id=init) == 201
    assert await posted(tams, two["id"], **segment) == 201
    second = {"object_id": own, "timerange": seconds(1, 2), "init_object_id": init}
    assert await posted(tams, two["id"], **second) == 201


async def test_a_flow_without_container_takes_no_media(tams: Tams) -> None:
    """rule 40"""
    flow = await tams.flow(container=None)
    await tams.post(f"/flows/{flow['id']}/storage", {}, 400)
    urls = [{"url": "http://a.test/x", "label": "l"}]
    assert await posted(tams, flow["id"], object_id="x", timerange=seconds(0, 1), get_urls=urls) == 400


async def test_an_object_is_either_init_or_media(tams: Tams) -> None:
    """rule 41"""
    flow = await tams.flow()
    init = await tams.upload(flow["id"], content_type="video/mp4")
    media = await tams.segment(flow["id"], seconds(0, 1), init_object_id=init)
    assert await posted(tams, flow["id"], object_id=init, timerange=seconds(1, 2)) == 400
    other = await tams.upload(flow["id"])
    body = {"object_id": other, "timerange": seconds(1, 2)}
    assert await posted(tams, flow["id"], **body, init_object_id=media) == 400
    assert await posted(tams, flow["id"], **body, init_object_id=other) == 400
    assert await posted(tams, flow["id"], **body, init_object_id="none") == 400
    assert await posted(tams, flow["id"], **body, init_object_id=init) == 201


async def test_init_and_media_of_one_request_are_told_apart(tams: Tams) -> None:
    """rule 41"""
    flow = await tams.flow()
    a, b = await tams.upload(flow["id"]), await tams.upload(flow["id"])
    body = [
        {"object_id": a, "timerange": seconds(0, 1), "init_object_id": b},
        {"object_id": b, "timerange": seconds(1, 2)},
    ]
    answer = (await tams.post(f"/flows/{flow['id']}/segments", body, 200)).json()
    assert [failed["object_id"] for failed in answer["failed_segments"]] == [b]


async def test_get_urls_of_a_post_are_uncontrolled_and_labelled_uniquely(tams: Tams) -> None:
    """rule 42"""
    flow = await tams.flow()
    url = "https://elsewhere.test/x"
    for urls in (
        [{"url": url, "label": "a"}, {"url": url, "label": "a"}],
        [{"url": url, "label": "local"}],
        [{"url": url, "label": ""}],
        [{"url": "ftp://elsewhere.test/x", "label": "a"}],
        [{"label": "a"}],
    ):
        body = {"object_id": "mine", "timerange": seconds(0, 1), "get_urls": urls}
        assert await posted(tams, flow["id"], **body) == 400, urls
    assert await posted(tams, flow["id"], object_id="mine", timerange=seconds(0, 1)) == 400
    urls = [{"url": url, "label": "url-1"}, {"url": f"{url}2"}]
    body = {"object_id": "mine", "timerange": seconds(0, 1), "get_urls": urls}
    assert await posted(tams, flow["id"], **body) == 201
    (segment,) = await tams.segments(flow["id"], verbose_storage="true")
    first, second = segment["get_urls"]
    assert first == {"url": url, "label": "url-1", "presigned": False, "controlled": False}
    assert second["label"] not in ("", "url-1")


async def test_what_a_client_says_of_samples_is_kept(tams: Tams) -> None:
    """rule 43"""
    flow = await tams.flow()
    said = {"sample_offset": 3, "sample_count": 50, "last_duration": "0:40000000", "key_frame_count": 2}
    object_id = await tams.segment(flow["id"], seconds(0, 2), **said, ts_offset="-0:500000000")
    (segment,) = await tams.segments(flow["id"])
    assert {name: segment[name] for name in said} == said
    assert segment["ts_offset"] == "-0:500000000"
    assert (await tams.get(object_path(object_id)))["key_frame_count"] == 2


@dataclass
class Spread(Tams):
    """A store with a flow whose first segment has bytes on "local", a URL of the client's, and an init
    object on "archive", and whose second one has bytes on the backend without a label."""

    spread_flow: str = ""


@pytest.fixture
async def spread(tams: Tams) -> Spread:
    """Such a store."""
    flow = await tams.flow()
    init = await tams.upload(flow["id"], content_type="video/mp4", storage_id=ARCHIVE)
    other = await tams.upload(flow["id"], storage_id=UNLABELLED)
    urls = [{"url": "https://elsewhere.test/x", "label": "mine"}]
    await tams.segment(flow["id"], seconds(0, 1), init_object_id=init, get_urls=urls)
    await tams.segment(flow["id"], seconds(1, 2), other)
    return Spread(tams.running, tams.client, tams.settings, spread_flow=flow["id"])


async def urls_of(tams: Spread, **params: Any) -> tuple[set[Any], set[Any], set[Any]]:
    """(label, presigned) of the URLs of the segment, of its init object, and of the unlabelled one."""
    first, second = await tams.segments(tams.spread_flow, **params)
    groups = (first.get("get_urls", []), first["init_object"].get("get_urls", []), second.get("get_urls", []))
    one, two, three = ({(url.get("label"), url["presigned"]) for url in group} for group in groups)
    whole = await tams.get(object_path(first["object_id"]), **params)
    assert {(url.get("label"), url["presigned"]) for url in whole["get_urls"]} == one
    assert {(url.get("label"), url["presigned"]) for url in whole["init_object"]["get_urls"]} == two
    return one, two, three


LOCAL_URLS = {("local", True), ("local", False)}
MINE = {("mine", False)}
ARCHIVE_URLS = {("archive", True), ("archive", False)}
BARE_URLS = {(None, True), (None, False)}


@pytest.mark.parametrize(
    ("params", "wanted"),
    [
        ({}, (LOCAL_URLS | MINE, ARCHIVE_URLS, BARE_URLS)),
        ({"accept_get_urls": ""}, (set(), set(), set())),
        ({"accept_get_urls": "mine"}, (MINE, set(), set())),
        ({"accept_get_urls": "local,archive"}, (LOCAL_URLS, ARCHIVE_URLS, set())),
        ({"accept_get_urls": "none"}, (set(), set(), set())),
        ({"accept_storage_ids": ""}, (LOCAL_URLS | MINE, ARCHIVE_URLS, BARE_URLS)),
        ({"accept_storage_ids": LOCAL}, (LOCAL_URLS, set(), set())),
        ({"accept_storage_ids": f"{ARCHIVE},{UNLABELLED}"}, (set(), ARCHIVE_URLS, BARE_URLS)),
        ({"accept_storage_ids": ABSENT}, (set(), set(), set())),
        ({"presigned": "true"}, ({("local", True)}, {("archive", True)}, {(None, True)})),
        ({"presigned": "false"}, ({("local", False)} | MINE, {("archive", False)}, {(None, False)})),
        ({"storage_backend_tag.site": "london,paris"}, (LOCAL_URLS, set(), set())),
        ({"storage_backend_tag.tier": "hot"}, (LOCAL_URLS, set(), set())),
        ({"storage_backend_tag_exists.site": "true"}, (LOCAL_URLS, ARCHIVE_URLS, set())),
        ({"storage_backend_tag_exists.site": "false"}, (MINE, set(), BARE_URLS)),
        (
            {"accept_get_urls": "local", "accept_storage_ids": LOCAL, "presigned": "true"},
            ({("local", True)}, set(), set()),
        ),
        ({"accept_get_urls": "local", "accept_storage_ids": ARCHIVE}, (set(), set(), set())),
    ],
)
async def test_filters_of_urls_all_hold_on_media_and_init_alike(
    spread: Spread, params: dict[str, str], wanted: tuple[set[Any], set[Any], set[Any]]
) -> None:
    """rule 44"""
    assert await urls_of(spread, **params) == wanted


async def test_verbose_storage_tells_about_the_backend(spread: Spread) -> None:
    """rule 44"""
    backends = {each["id"]: each for each in await spread.get("/service/storage-backends")}
    flow_id = spread.spread_flow
    for segment in await spread.segments(flow_id, verbose_storage="true"):
        for url in (*segment["get_urls"], *segment.get("init_object", {}).get("get_urls", [])):
            if not url["controlled"]:
                assert set(url) == {"url", "label", "presigned", "controlled"}
                continue
            told = {**backends[url["storage_id"]]}
            told.pop("id")
            told.pop("default_storage", None)
            assert {name: url.get(name) for name in told} == told
    for segment in await spread.segments(flow_id):
        for url in segment["get_urls"]:
            assert set(url) <= {"url", "label", "presigned"}


async def test_both_kinds_of_url_lead_to_the_bytes(spread: Spread) -> None:
    """rule 44"""
    first, _ = await spread.segments(spread.spread_flow)
    for url in first["get_urls"]:
        if url["label"] == "local":
            answer = await spread.client.get(url["url"])
            assert (answer.status_code, answer.content) == (200, b"bytes")
            assert answer.headers["content-type"] == "video/mp2t"
    (init,) = {u["url"] for u in first["init_object"]["get_urls"] if u["presigned"]}
    assert (await spread.client.get(init)).headers["content-type"] == "video/mp4"


async def test_the_objects_timerange_is_on_every_segment_when_asked_for(tams: Tams) -> None:
    """rule 45"""
    flow = await tams.flow()
    object_id = await tams.segment(flow["id"], seconds(0, 4))
    await tams.segment(flow["id"], seconds(10, 12), object_id, ts_offset="10:0")
    for segment in await tams.segments(flow["id"], include_object_timerange="true"):
        assert segment["object_timerange"] == seconds(0, 4)
    for segment in await tams.segments(flow["id"]):
        assert "object_timerange" not in segment


async def test_every_page_tells_its_timerange(tams: Tams) -> None:
    """rule 46"""
    flow = await tams.flow()
    for start in range(5):
        await tams.segment(flow["id"], seconds(start, start + 1))
    for reverse in ("false", "true"):
        told, url = [], f"/flows/{flow['id']}/segments?limit=2&reverse_order={reverse}"
        while url:
            answer = await tams.request("GET", url)
            told.append(answer.headers["x-paging-timerange"])
            assert answer.headers["x-paging-reverse-order"] == reverse
            url = answer.links.get("next", {}).get("url")
        forwards = [seconds(0, 2), seconds(2, 4), seconds(4, 5)]
        assert told == (forwards if reverse == "false" else [seconds(3, 5), seconds(1, 3), seconds(0, 1)])
    answer = await tams.request("GET", f"/flows/{flow['id']}/segments?timerange=[90:0_")
    assert answer.headers["x-paging-timerange"] == "()"


async def test_a_segment_of_bytes_never_uploaded_is_accepted(tams: Tams) -> None:
    """rule 47"""
    flow = await tams.flow()
    object_id = await tams.upload(flow["id"], data=None)
    assert await posted(tams, flow["id"], object_id=object_id, timerange=seconds(0, 1)) == 201


async def test_the_store_can_be_set_to_want_the_bytes_first(tmp_path: Path) -> None:
    """rule 47"""
    async with running_tams(tmp_path, verify_uploads=True) as tams:
        flow = await tams.flow()
        missing = await tams.upload(flow["id"], data=None)
        present = await tams.upload(flow["id"])
        assert await posted(tams, flow["id"], object_id=missing, timerange=seconds(0, 1)) == 400
        body = {"object_id": present, "timerange": seconds(0, 1)}
        assert await posted(tams, flow["id"], **body, init_object_id=missing) == 400
        assert await posted(tams, flow["id"], **body) == 201
        urls = [{"url": "http://a.test/x", "label": "l"}]
        body = {"object_id": "theirs", "timerange": seconds(1, 2), "get_urls": urls}
        assert await posted(tams, flow["id"], **body) == 201
