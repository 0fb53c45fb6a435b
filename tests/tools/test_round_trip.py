"""Ingest, edit and outgest on real media, through a real server: picture by picture, to the tick."""

from __future__ import annotations

from collections.abc import Iterator
from fractions import Fraction
from pathlib import Path

import pytest

pytest.importorskip("av", reason="PyAV reads and makes the media")

from tests.tools.film import HEIGHT, PICTURES, RATE, WIDTH, look, make  # noqa: E402
from tests.tools.places import Place, running  # noqa: E402

KINDS = [
    "files",
    "moto",
    pytest.param("versitygw", marks=pytest.mark.slow),
    pytest.param("rclone", marks=pytest.mark.slow),
]


@pytest.fixture(scope="module")
def film(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return make(tmp_path_factory.mktemp("film"))


@pytest.fixture(scope="module", params=KINDS)
def place(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Place]:
    with running(request.param, tmp_path_factory.mktemp(request.param)) as found:
        yield found


@pytest.fixture(scope="module", params=["mp2t", "mp4"])
def flow(request: pytest.FixtureRequest, place: Place, film: Path) -> str:
    done = place.json("ingest", str(film), "--auth-class", "news", "--container", request.param)
    (only,) = done["flows"]
    assert only["timerange"] == "[1:0_7:0)"
    flow_id: str = only["flow_id"]
    return flow_id


def times(count: int, start: int | Fraction = 0) -> list[Fraction]:
    return [start + Fraction(n, RATE) for n in range(count)]


def test_what_is_there_is_not_stored_twice(place: Place, film: Path, flow: str) -> None:
    before = place.json("ls", "segments", flow)
    container = place.json("show", flow)["container"].removeprefix("video/")
    (again,) = place.json("ingest", str(film), "--auth-class", "news", "--container", container)["flows"]
    assert (again["flow_id"], again["segments_stored"], again["segments_there_before"]) == (flow, 0, 3)
    assert [s["object_id"] for s in place.json("ls", "segments", flow)] == [s["object_id"] for s in before]


def test_flows_say_what_is_in_them(place: Place, flow: str) -> None:
    multi = place.json("show", flow)
    assert [item["role"] for item in multi["flow_collection"]] == ["video", "audio"]
    video, audio = (place.json("show", item["id"]) for item in multi["flow_collection"])
    essence = video["essence_parameters"]
    assert (video["codec"], audio["codec"]) == ("video/h264", "audio/aac")
    assert (essence["frame_width"], essence["frame_height"]) == (WIDTH, HEIGHT)
    assert essence["frame_rate"] == {"numerator": 25, "denominator": 1}
    assert essence["avc_parameters"]["profile"] == 100
    assert audio["essence_parameters"]["sample_rate"] == 48_000
    assert multi["avg_bit_rate"] > 0


@pytest.mark.parametrize("suffix", [".mp4", ".ts", ".mkv"])
def test_a_file_shows_every_picture_at_its_time(place: Place, flow: str, tmp_path: Path, suffix: str) -> None:
    target = tmp_path / f"out{suffix}"
    told = place.json("outgest", flow, str(target))
    assert (told["pictures"], told["wrong"], told["missing"]) == (PICTURES, [], [])
    shown = look(target)
    assert shown.numbers == list(range(PICTURES))
    if suffix == ".mkv":
        # Its times are milliseconds.
        assert len(shown.pictures) == PICTURES
    else:
        assert shown.is_steady()
        assert shown.pictures[0][0] == (1 if suffix == ".ts" else 0)


def test_a_part_of_a_segment_shows_only_that_part(place: Place, flow: str, tmp_path: Path) -> None:
    target = tmp_path / "part.mp4"
    place.json("outgest", flow, str(target), "--timerange", "[2:0_5:0)")
    shown = look(target)
    assert shown.pictures == list(zip(times(75), range(25, 100), strict=True))


def test_an_edit_copies_nothing_and_plays_in_its_new_order(place: Place, flow: str, tmp_path: Path) -> None:
    clips = (f"{flow}@[3:0_7:0)", f"{flow}@[1:0_3:0)", f"{flow}@[5:0_6:0)")
    (made,) = place.json("edit", *clips, "--auth-class", "news", "--label", "cut")["flows"]
    assert made["timerange"] == "[0:0_7:0)"
    objects = {each["object_id"] for each in place.json("ls", "segments", flow)}
    listed = place.json("ls", "segments", made["flow_id"])
    assert {each["object_id"] for each in listed} == objects
    target = tmp_path / "edit.mp4"
    told = place.json("outgest", made["flow_id"], str(target))
    assert told["wrong"] == []
    shown = look(target)
    # The last cut is between key frames: pictures behind it may be needed, and come along.
    assert bool(shown.pictures[175:]) is any("behind the last" in note for note in told["notes"])
    assert shown.pictures[:175] == list(
        zip(times(175), [*range(50, 150), *range(50), *range(100, 125)], strict=True)
    )
    (again,) = place.json("edit", *clips, "--auth-class", "news", "--label", "cut")["flows"]
    assert (again["segments_added"], again["segments_there_before"]) == (0, 4)


def test_what_the_server_lists_for_players_can_be_ingested_again(
    place: Place, flow: str, tmp_path: Path
) -> None:
    token = place.server.client("newsroom")
    with token as client:
        text = client.call("GET", f"/flows/{flow}/hls.m3u8").text
    path = tmp_path / "index.m3u8"
    path.write_text(text)
    (again,) = place.json("ingest", str(path), "--auth-class", "news", "--start", "100:0")["flows"]
    assert again["timerange"] == "[100:0_106:0)"
    assert {each.get("ts_offset") for each in place.json("ls", "segments", again["flow_id"])} == {"99:0"}
    target = tmp_path / "again.mp4"
    place.json("outgest", again["flow_id"], str(target))
    assert look(target).pictures == list(zip(times(PICTURES), range(PICTURES), strict=True))


def test_essence_in_a_container_comes_out_alone(place: Place, flow: str, tmp_path: Path) -> None:
    multi = place.json("show", flow)
    audio = multi["flow_collection"][1]["id"]
    target = tmp_path / "sound.m4a"
    place.json("outgest", audio, str(target))
    shown = look(target)
    assert not shown.pictures
    assert len(shown.sound) > 270
