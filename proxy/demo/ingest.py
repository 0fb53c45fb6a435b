"""Ingest as newsrooms do it: flows, storage, uploads by signed URLs, and the segments, one by one."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any
from uuid import UUID, uuid4

from proxy.demo.client import Client, path
from proxy.demo.media import (
    AUDIO_PID,
    CODED_SAMPLES,
    FIRST_S,
    FRAME_RATE,
    HEIGHT,
    SAMPLE_RATE,
    SEGMENT_S,
    VIDEO_PID,
    WIDTH,
)

FORMAT = "urn:x-nmos:format:"
RUN_TAG = "demo_run"
LAST_NS = 999_999_999
FRAME_NS = 10**9 // FRAME_RATE


@dataclass(frozen=True, slots=True)
class Essence:
    """A flow and its source."""

    flow_id: str
    source_id: str

    @classmethod
    def new(cls) -> Essence:
        """One with ids of its own."""
        return cls(str(uuid4()), str(uuid4()))


@dataclass(frozen=True, slots=True)
class Programme:
    """One run's flows. `start_s`: where it stands on the flows' timeline, in whole seconds (TAI).

    The multiplex is what is stored: `multi` has the container and the segments. `video` and `audio` say
    what is in it, and `multi` collects them with the packet id of each.
    """

    run: UUID
    label: str
    start_s: int
    video: Essence
    audio: Essence
    multi: Essence

    @classmethod
    def new(cls, label: str, start_s: int) -> Programme:
        """One with ids of its own."""
        return cls(uuid4(), label, start_s, Essence.new(), Essence.new(), Essence.new())

    @property
    def ts_offset(self) -> str:
        """What leads from the objects' timeline to the flows'."""
        return f"{self.start_s - FIRST_S}:0"

    def flows(self, classes: Sequence[str]) -> list[dict[str, Any]]:
        """The bodies of the flows, members of the collection first."""
        common = {"label": self.label, "tags": {"auth_classes": list(classes), RUN_TAG: str(self.run)}}
        video, audio, multi = (_ids(e) | common for e in (self.video, self.audio, self.multi))
        video |= {"format": FORMAT + "video", "codec": "video/h264", "essence_parameters": VIDEO}
        audio |= {"format": FORMAT + "audio", "codec": "audio/aac", "essence_parameters": AUDIO}
        multi |= {
            "format": FORMAT + "multi",
            "container": "video/mp2t",
            "segment_duration": {"numerator": SEGMENT_S, "denominator": 1},
            "flow_collection": [
                _member(self.video, "video", 0, VIDEO_PID),
                _member(self.audio, "audio", 1, AUDIO_PID),
            ],
        }
        return [video, audio, multi]

    def segment(self, number: int, object_id: str) -> dict[str, Any]:
        """The body that registers object `number`; its timerange ends with the last nanosecond."""
        timerange = _timerange(self.start_s, number)
        return {"object_id": object_id, "timerange": timerange, "ts_offset": self.ts_offset}

    def listed(self, number: int, object_id: str) -> dict[str, Any]:
        """The same as the store lists it, its URLs apart."""
        return self.segment(number, object_id) | {"object_timerange": _timerange(FIRST_S, number)}

    def timerange(self, first: int, stop: int) -> str:
        """What pictures `first` up to `stop`, exclusively, cover on the flows' timeline."""
        return f"[{self._picture_time(first)}_{self._picture_time(stop)})"

    def _picture_time(self, number: int) -> str:
        seconds, frames = divmod(number, FRAME_RATE)
        return f"{self.start_s + seconds}:{frames * FRAME_NS}"


VIDEO = {
    "frame_rate": {"numerator": FRAME_RATE, "denominator": 1},
    "frame_width": WIDTH,
    "frame_height": HEIGHT,
    "bit_depth": 8,
    "interlace_mode": "progressive",
    "component_type": "YCbCr",
    "horiz_chroma_subs": 2,
    "vert_chroma_subs": 2,
}
AUDIO = {
    "sample_rate": SAMPLE_RATE,
    "channels": 2,
    "codec_parameters": {"coded_frame_size": CODED_SAMPLES, "mp4_oti": 2},
}


def create(client: Client, programme: Programme, classes: Sequence[str]) -> None:
    """Create the flows, and with them their sources. Raises `Refused`."""
    for body in programme.flows(classes):
        client.expect(201, "PUT", path("flows", body["id"]), body)


def allocate(client: Client, programme: Programme, objects: int) -> list[dict[str, Any]]:
    """Places for that many objects: id and `put_url` of each. Raises `Refused`."""
    found = client.expect(201, "POST", path("flows", programme.multi.flow_id, "storage"), {"limit": objects})
    return list(found["media_objects"])


def store(
    client: Client, programme: Programme, places: Sequence[Mapping[str, Any]], objects: Sequence[bytes]
) -> Iterator[tuple[int, int]]:
    """Upload each object, then register it. Yields the statuses of both. Raises `Refused`."""
    segments = path("flows", programme.multi.flow_id, "segments")
    for number, (place, data) in enumerate(zip(places, objects, strict=True)):
        uploaded = client.upload(place, data, len(data))
        registered = client.call("POST", segments, programme.segment(number, place["object_id"]))
        yield uploaded.status_code, registered.status_code


def _timerange(origin_s: int, number: int) -> str:
    start_s = origin_s + number * SEGMENT_S
    return f"[{start_s}:0_{start_s + SEGMENT_S - 1}:{LAST_NS}]"


def _ids(essence: Essence) -> dict[str, Any]:
    return {"id": essence.flow_id, "source_id": essence.source_id}


def _member(essence: Essence, role: str, track: int, pid: int) -> dict[str, Any]:
    mapping = {"track_index": track, "format_track_index": 0, "mp2ts_container": {"pid": pid}}
    return {"id": essence.flow_id, "role": role, "container_mapping": mapping}
