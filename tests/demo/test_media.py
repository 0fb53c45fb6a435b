"""The demo's programme: real media with exact times, in which each picture can be told."""

from __future__ import annotations

import builtins
from collections.abc import Sequence

import pytest

from proxy.demo import media
from proxy.demo.media import Content, NoMediaLibrary, NotDecodable, Picture
from proxy.demo.story import cut, judge

OBJECTS = 3


@pytest.fixture(scope="module")
def objects() -> list[bytes]:
    pytest.importorskip("av", reason="PyAV makes the demo's media")
    return media.make(OBJECTS, lambda _: None)


def test_every_object_starts_with_a_key_frame_and_stands_alone(objects: list[bytes]) -> None:
    assert len(objects) == OBJECTS
    for number, data in enumerate(objects):
        pictures = media.examine(data).pictures
        assert pictures[0].is_key
        first = number * media.SEGMENT_FRAMES
        assert [p.number for p in pictures] == list(range(first, first + media.SEGMENT_FRAMES))


def test_times_are_exact_across_objects(objects: list[bytes]) -> None:
    content = media.examine(b"".join(objects))
    frames = OBJECTS * media.SEGMENT_FRAMES
    assert [p.ticks for p in content.pictures] == [90_000 + 3_600 * n for n in range(frames)]
    assert content.audio[0] == media.FIRST_AUDIO_TICKS
    assert all(b - a == 1_920 for a, b in zip(content.audio, content.audio[1:], strict=False))
    assert content.audio[-1] + 1_920 >= media.picture_ticks(frames)


def test_objects_are_transport_streams_whose_counters_run_on(objects: list[bytes]) -> None:
    expected: dict[int, int] = {}
    joined = b"".join(objects)
    assert len(joined) % 188 == 0
    for start in range(0, len(joined), 188):
        packet = joined[start : start + 188]
        pid, has_payload = (packet[1] & 0x1F) << 8 | packet[2], bool(packet[3] & 0x10)
        assert packet[0] == 0x47
        if has_payload:
            assert packet[3] & 0x0F == expected.get(pid, packet[3] & 0x0F)
            expected[pid] = (packet[3] + 1) & 0x0F
    assert {media.VIDEO_PID, media.AUDIO_PID} <= set(expected)


def test_progress_adds_up_to_all_pictures() -> None:
    pytest.importorskip("av", reason="PyAV makes the demo's media")
    made: list[int] = []
    media.make(1, made.append)
    assert sum(made) == media.SEGMENT_FRAMES


@pytest.mark.parametrize("data", [b"", b"not media" * 100])
def test_other_bytes_are_not_decodable(data: bytes) -> None:
    pytest.importorskip("av", reason="PyAV makes the demo's media")
    with pytest.raises(NotDecodable):
        media.examine(data)


def test_a_missing_library_is_told_with_the_command_that_helps(monkeypatch: pytest.MonkeyPatch) -> None:
    known = builtins.__import__

    def without(name: str, *rest: object) -> object:
        if name.partition(".")[0] == "av":
            raise ImportError(name)
        return known(name, *rest)  # type: ignore[arg-type]

    monkeypatch.setattr(builtins, "__import__", without)
    with pytest.raises(NoMediaLibrary, match="pip install"):
        media.pyav()


def content(numbers: Sequence[int], audio: Sequence[int]) -> Content:
    return Content(tuple(Picture(media.picture_ticks(n), n, False) for n in numbers), tuple(audio))


SOUND = range(media.picture_ticks(0), media.picture_ticks(100), media.CODED_TICKS)


@pytest.mark.parametrize(
    ("decoded", "says"),
    [
        (content(range(100), SOUND), "20 pictures and sound right"),
        (content(range(10, 30), SOUND), "20 pictures and sound right"),
        (content([*range(15), *range(16, 100)], SOUND), "19 pictures: pictures wrong"),
        (content(range(10), SOUND), "0 pictures: pictures wrong"),
        (content(range(100), [*SOUND[:5], *SOUND[6:]]), "20 pictures: sound has gaps"),
        (content(range(100), SOUND[:50]), "20 pictures: sound is short"),
        (content(range(100), []), "20 pictures: sound is short"),
    ],
)
def test_outgest_is_judged_picture_by_picture(decoded: Content, says: str) -> None:
    assert judge(decoded, 10, 30) == (says, says.endswith("right"))


def test_a_picture_that_shows_another_number_is_wrong() -> None:
    swapped = [*range(10), 11, 10, *range(12, 30)]
    pictures = tuple(
        Picture(media.picture_ticks(place), number, False) for place, number in enumerate(swapped)
    )
    _, right = judge(Content(pictures, tuple(SOUND)), 5, 20)
    assert not right


@pytest.mark.parametrize("segments", [2, 3, 10, 30, 31, 300])
def test_a_cut_lies_inside_and_begins_and_ends_within_segments(segments: int) -> None:
    first, stop = cut(segments)
    assert 0 < first < stop < segments * media.SEGMENT_FRAMES
    assert stop % media.SEGMENT_FRAMES
