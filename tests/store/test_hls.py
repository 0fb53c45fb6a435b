"""Playlists of flows and sources: what is in them, and where the media's times break."""

from __future__ import annotations

from typing import Any

import pytest

from store.domain.hls import codec
from store.routes import hls
from tests.store.harness import Tams, multi, new_id, seconds, video

AUDIO = {
    "format": "urn:x-nmos:format:audio",
    "codec": "audio/aac",
    "essence_parameters": {"sample_rate": 48_000, "channels": 2},
}
AVC = {"profile": 100, "level": 31, "flags": 0}


async def lines(tams: Tams, path: str, status: int = 200) -> list[str]:
    answer = await tams.request("GET", path)
    assert answer.status_code == status, answer.text
    assert answer.headers["content-type"] == "application/vnd.apple.mpegurl"
    return answer.text.split("\n")


async def test_a_playlist_lists_segments_with_urls_that_work(tams: Tams) -> None:
    flow = await tams.flow()
    for start in range(3):
        await tams.segment(flow["id"], seconds(2 * start, 2 * start + 2))
    found = await lines(tams, f"/flows/{flow['id']}/hls.m3u8")
    assert found[:2] == ["#EXTM3U", "#EXT-X-VERSION:4"]
    assert "#EXT-X-TARGETDURATION:2" in found
    assert found.count("#EXTINF:2.000000000,") == 3
    assert found[-2:] == ["#EXT-X-ENDLIST", ""]
    assert "#EXT-X-DISCONTINUITY" not in found
    for url in (each for each in found if each.startswith("http")):
        assert (await tams.request("GET", url)).content == b"bytes"


async def test_a_timerange_and_filters_of_urls_choose(tams: Tams) -> None:
    flow = await tams.flow()
    for start in range(3):
        await tams.segment(flow["id"], seconds(start, start + 1))
    path = f"/flows/{flow['id']}/hls.m3u8"
    assert sum(each.startswith("http") for each in await lines(tams, f"{path}?timerange=[1:0_3:0)")) == 2
    assert not any(each.startswith("http") for each in await lines(tams, f"{path}?accept_get_urls="))
    assert (await tams.request("GET", f"{path}?timerange=x")).status_code == 400


async def test_breaks_of_the_medias_times_are_told(tams: Tams) -> None:
    flow = await tams.flow()
    first = await tams.segment(flow["id"], seconds(0, 1))
    await tams.segment(flow["id"], seconds(1, 2))
    await tams.segment(flow["id"], seconds(2, 3), first, ts_offset="2:0")
    await tams.segment(flow["id"], seconds(5, 6), ts_offset="2:0")
    found = await lines(tams, f"/flows/{flow['id']}/hls.m3u8")
    kinds = [each.split(":")[0] for each in found if each.startswith(("#EXTINF", "#EXT-X-DISC"))]
    assert kinds == [
        "#EXTINF",
        "#EXTINF",
        "#EXT-X-DISCONTINUITY",
        "#EXTINF",
        "#EXT-X-DISCONTINUITY",
        "#EXTINF",
    ]


async def test_init_segments_are_mapped_once_for_all_that_need_them(tams: Tams) -> None:
    flow = await tams.flow(
        container="video/mp4", essence_parameters={**video()["essence_parameters"], "init_segments": True}
    )
    inits = [await tams.upload(flow["id"], b"init", content_type="video/mp4") for _ in range(2)]
    for start, init in enumerate((inits[0], inits[0], inits[1])):
        await tams.segment(flow["id"], seconds(start, start + 1), init_object_id=init)
    found = await lines(tams, f"/flows/{flow['id']}/hls.m3u8")
    assert found[1] == "#EXT-X-VERSION:7"
    maps = [each for each in found if each.startswith("#EXT-X-MAP")]
    assert len(maps) == 2
    url = maps[0].removeprefix('#EXT-X-MAP:URI="').rstrip('"')
    assert (await tams.request("GET", url)).content == b"init"


async def test_live_leads_to_a_playlist_that_begins_near_the_end_and_only_grows(tams: Tams) -> None:
    flow = await tams.flow()
    for start in range(10):
        await tams.segment(flow["id"], seconds(start, start + 1))
    path = f"/flows/{flow['id']}/hls.m3u8"
    entry = await lines(tams, f"{path}?live=true")
    (inner,) = [each for each in entry if each.startswith("../")]
    inner = inner.replace("../", "/flows/")
    first = await lines(tams, inner)
    assert "#EXT-X-PLAYLIST-TYPE:EVENT" in first
    assert "#EXT-X-ENDLIST" not in first
    assert sum(each.startswith("http") for each in first) == hls.LIVE_SEGMENTS
    await tams.segment(flow["id"], seconds(10, 11))
    second = await lines(tams, inner)
    assert second[: len(first) - 1] == first[:-1]
    assert len(second) == len(first) + 2


async def test_a_flow_that_collects_others_offers_pictures_with_their_sound(tams: Tams) -> None:
    rate = {"max_bit_rate": 900, "avg_bit_rate": 800}
    essence = {**video()["essence_parameters"], "avc_parameters": AVC}
    picture = await tams.flow(essence_parameters=essence, **rate)
    sound = await tams.flow(**AUDIO, max_bit_rate=100, label='a "quoted"\nname')
    items = [{"id": each["id"], "role": role} for each, role in ((picture, "video"), (sound, "audio"))]
    whole = await tams.flow(
        format="urn:x-nmos:format:multi",
        codec=None,
        container=None,
        essence_parameters=None,
        flow_collection=items,
    )
    found = await lines(tams, f"/flows/{whole['id']}/hls.m3u8?timerange=[0:0_9:0)")
    assert f"../{picture['id']}/hls.m3u8?timerange=%5B0%3A0_9%3A0%29" in found
    (stream,) = [each for each in found if each.startswith("#EXT-X-STREAM-INF")]
    for said in (
        "BANDWIDTH=1000000",
        'CODECS="avc1.64001f,mp4a.40.2"',
        "RESOLUTION=1280x720",
        'AUDIO="audio"',
    ):
        assert said in stream
    (media,) = [each for each in found if each.startswith("#EXT-X-MEDIA:")]
    assert f'URI="../{sound["id"]}/hls.m3u8' in media
    assert media.count('"') % 2 == 0


async def test_a_source_offers_its_flows(tams: Tams) -> None:
    source = new_id()
    made = [await tams.flow(source_id=source, max_bit_rate=rate) for rate in (500, 900)]
    found = await lines(tams, f"/sources/{source}/hls.m3u8")
    assert {each for each in found if each.startswith("../../flows/")} == {
        f"../../flows/{flow['id']}/hls.m3u8" for flow in made
    }


@pytest.mark.parametrize("kind", ["flows", "sources"])
async def test_what_cannot_be_played_is_absent(tams: Tams, kind: str) -> None:
    flow = await tams.flow(container=None)
    known = flow["id"] if kind == "flows" else flow["source_id"]
    for each in (known, new_id(), "no-id"):
        answer = await tams.request("GET", f"/{kind}/{each}/hls.m3u8")
        assert answer.status_code == 404, answer.text


@pytest.mark.parametrize("object_id", [None, "clip/1 %"])
async def test_what_plays_longer_than_signed_urls_last_is_led_to_them(
    tams: Tams, object_id: str | None
) -> None:
    lasts_s = tams.store.service.min_presigned_url_timeout_s
    flow = await tams.flow()
    init = await tams.upload(flow["id"], b"init", content_type="video/mp4")
    post = {"object_ids": [object_id]} if object_id else {}
    media = await tams.upload(flow["id"], **post)
    await tams.segment(flow["id"], seconds(0, lasts_s), media, init_object_id=init)
    path = f"/flows/{flow['id']}/hls.m3u8"
    assert not any(line.startswith("../") for line in await lines(tams, path))
    await tams.segment(flow["id"], seconds(lasts_s, lasts_s + 1))
    for query, led in (("", 2), ("?redirect=false", 0), ("?live=true&timerange=[0:0_", 0)):
        assert sum(each.startswith("../") for each in await lines(tams, path + query)) == led
    found = await lines(tams, path)
    first = next(each for each in found if each.startswith("../"))
    mapped = next(each for each in found if each.startswith("#EXT-X-MAP")).split('"')[1]
    for address, content in ((first, b"bytes"), (mapped, b"init")):
        answer = await tams.request("GET", address.replace("../", "/flows/"))
        assert answer.status_code == 307
        assert (await tams.request("GET", answer.headers["location"])).content == content


async def test_only_media_of_the_flow_are_led_to(tams: Tams) -> None:
    flow, other = await tams.flow(), await tams.flow()
    init = await tams.upload(flow["id"], b"init", content_type="video/mp4")
    own = await tams.segment(flow["id"], seconds(0, 1), init_object_id=init)
    elsewhere = await tams.segment(other["id"], seconds(0, 1))
    path = f"/flows/{flow['id']}/hls"
    assert (await tams.request("GET", f"{path}/{own}")).status_code == 307
    wrong = (elsewhere, init, new_id(), f"{own}?of={own}", f"{elsewhere}?of={own}", f"{own}?accept_get_urls=")
    for each in wrong:
        assert (await tams.request("GET", f"{path}/{each}")).status_code == 404, each


async def test_more_than_a_playlist_holds_is_refused(tams: Tams, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(hls, "MOST_SEGMENTS", 2)
    monkeypatch.setattr(hls, "PAGE", 1)
    flow = await tams.flow()
    for start in range(3):
        await tams.segment(flow["id"], seconds(start, start + 1))
    path = f"/flows/{flow['id']}/hls.m3u8"
    assert (await tams.request("GET", path)).status_code == 400
    assert (await tams.request("GET", f"{path}?timerange=[0:0_2:0)")).status_code == 200


@pytest.mark.parametrize(
    ("flow", "expected"),
    [
        ({"codec": "video/h264", "essence_parameters": {"avc_parameters": AVC}}, "avc1.64001f"),
        ({"codec": "video/H264", "essence_parameters": {}}, None),
        ({"codec": "audio/aac", "essence_parameters": {"codec_parameters": {"mp4_oti": 5}}}, "mp4a.40.5"),
        ({"codec": "audio/aac"}, "mp4a.40.2"),
        ({"codec": "audio/opus"}, "opus"),
        (multi(), None),
    ],
)
def test_codecs_are_written_as_players_read_them(flow: dict[str, Any], expected: str | None) -> None:
    assert codec(flow) == expected
