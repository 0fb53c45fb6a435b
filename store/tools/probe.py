"""What a piece of media is, and when: read with PyAV, without decoding."""

from __future__ import annotations

import io
import re
from dataclasses import dataclass
from fractions import Fraction
from pathlib import Path
from typing import Any

from store.client.media import codec_name, pyav
from store.tools.errors import Unreadable
from store.tools.timing import WRAP, Extent

FORMAT = "urn:x-nmos:format:"
CONTAINERS = {
    "mpegts": "video/mp2t",
    "mov,mp4,m4a,3gp,3g2,mj2": "video/mp4",
    "matroska,webm": "video/x-matroska",
    "mxf": "application/mxf",
    "aac": "audio/aac",
    "mp3": "audio/mpeg",
    "wav": "audio/wav",
}
SOUND_CONTAINERS = {"video/mp4": "audio/mp4", "video/x-matroska": "audio/x-matroska"}
"""The same containers with nothing but sound in them."""

CODECS = {
    "h264": "video/h264",
    "hevc": "video/h265",
    "av1": "video/AV1",
    "vp8": "video/VP8",
    "vp9": "video/VP9",
    "mpeg2video": "video/mpeg",
    "mpeg4": "video/mp4v-es",
    "prores": "video/prores",
    "dnxhd": "video/vc3",
    "aac": "audio/aac",
    "mp3": "audio/mpeg",
    "mp2": "audio/mpeg",
    "ac3": "audio/ac3",
    "eac3": "audio/eac3",
    "opus": "audio/opus",
    "flac": "audio/flac",
    "vorbis": "audio/vorbis",
}
CODED_SAMPLES = {"aac": 1024, "mp3": 1152, "mp2": 1152, "ac3": 1536, "eac3": 1536}
AAC_OBJECTS = {"LC": 2, "HE-AAC": 5, "HE-AACv2": 29}
SPACES = {1: "BT709", 5: "BT601", 6: "BT601", 9: "BT2020", 10: "BT2020"}
CURVES = {1: "SDR", 6: "SDR", 14: "SDR", 15: "SDR", 16: "PQ", 18: "HLG"}
FIELDS = {
    1: "progressive",
    2: "interlaced_tff",
    3: "interlaced_bff",
    4: "interlaced_tff",
    5: "interlaced_bff",
}
"""AVFieldOrder of FFmpeg."""

_SPS = re.compile(rb"\x00\x00\x01[\x07\x27\x47\x67](...)", re.DOTALL)


@dataclass(frozen=True, slots=True)
class Stream:
    """One essence of a container. `track`: its packet or track id there."""

    kind: str
    codec: str
    essence: dict[str, Any]
    track: int


@dataclass(frozen=True, slots=True)
class Probe:
    """What is in a piece. `container`: its MIME type."""

    container: str
    streams: tuple[Stream, ...]
    extent: Extent
    key_frames: int

    @property
    def shape(self) -> tuple[str, tuple[tuple[str, str], ...]]:
        """What all pieces of a flow have in common."""
        return self.container, tuple((each.kind, each.codec) for each in self.streams)


def probe(name: str, media: bytes | Path, *, breaks: bool = False) -> Probe:
    """What a piece is: bytes, behind those of its init segment if it has one.

    Raises `Unreadable`, `NoMediaLibrary`.
    """
    av = pyav()
    given = io.BytesIO(media) if isinstance(media, bytes) else str(media)
    try:
        with av.open(given) as container:
            kept = [s for s in container.streams if s.type in ("video", "audio")]
            if not kept:
                raise Unreadable(f"{name}: there is neither video nor sound in it")
            packets = _packets(container, kept)
            streams = tuple(_stream(s, packets[s.index]) for s in kept)
            main = next((s for s in kept if s.type == "video"), kept[0])
            extent = _extent(name, main, packets[main.index], breaks, _container(container, kept))
            keys = sum(1 for p in packets[main.index] if p[2])
            return Probe(_container(container, kept), streams, extent, keys)
    except av.error.FFmpegError as exc:
        raise Unreadable(f"{name} cannot be read as media: {exc.strerror}") from exc


Timing = tuple[Fraction, Fraction, bool]
"""When a picture is shown, for how long (0: not said), and whether it is a key frame."""


def _packets(container: Any, kept: list[Any]) -> dict[int, list[Timing]]:
    found: dict[int, list[Timing]] = {stream.index: [] for stream in kept}
    for packet in container.demux(kept):
        if packet.pts is not None and not packet.is_corrupt:
            base = packet.time_base
            times = (packet.pts * base, (packet.duration or 0) * base, bool(packet.is_keyframe))
            found[packet.stream.index].append(times)
    for timings in found.values():
        timings.sort()
    return found


def _container(container: Any, kept: list[Any]) -> str:
    name = container.format.name
    known = CONTAINERS.get(name)
    if known is None:
        raise Unreadable(f"{container.name or 'this'}: {container.format.long_name} is no container to store")
    if any(stream.type == "video" for stream in kept):
        return known
    return SOUND_CONTAINERS.get(known, known)


def _extent(name: str, stream: Any, timings: list[Timing], breaks: bool, container: str) -> Extent:
    if not timings:
        raise Unreadable(f"{name}: no times are in it")
    start, last = timings[0][0], timings[-1]
    picture = last[1] or _duration(stream, timings)
    if not picture:
        raise Unreadable(f"{name}: how long its last picture is shown cannot be told")
    wraps = WRAP if container == "video/mp2t" else None
    # FFmpeg counts what is just before the clock starts again from there, backwards; the media say otherwise.
    turn = WRAP if wraps is not None and start < 0 else 0
    return Extent(start + turn, last[0] + picture + turn, picture, wraps, breaks)


def _duration(stream: Any, timings: list[Timing]) -> Fraction:
    if len(timings) > 1:
        return timings[-1][0] - timings[-2][0]
    rate = _rate(stream) if stream.type == "video" else None
    return 1 / rate if rate else Fraction(0)


def _stream(stream: Any, timings: list[Timing]) -> Stream:
    name = codec_name(stream)
    if stream.type == "video":
        return Stream("video", CODECS.get(name, f"video/{name}"), _video(stream, timings), stream.id)
    codec = "audio/x-raw-int" if name.startswith("pcm_s") else CODECS.get(name, f"audio/{name}")
    return Stream("audio", codec, _audio(stream, name), stream.id)


def _rate(stream: Any) -> Fraction | None:
    rate = stream.guessed_rate or stream.average_rate or stream.codec_context.framerate
    return Fraction(rate) if rate else None


def _video(stream: Any, timings: list[Timing]) -> dict[str, Any]:
    context = stream.codec_context
    found: dict[str, Any] = {"frame_width": context.width, "frame_height": context.height}
    rate = _rate(stream)
    if rate is None or _varies(timings, 1 / rate):
        found["vfr"] = True
    else:
        found["frame_rate"] = {"numerator": rate.numerator, "denominator": rate.denominator}
    found |= _samples(context)
    found["interlace_mode"] = FIELDS.get(int(context.field_order))
    found["colorspace"] = SPACES.get(int(context.color_primaries))
    found["transfer_characteristic"] = CURVES.get(int(context.color_trc))
    found["avc_parameters"] = _avc(context) if codec_name(stream) == "h264" else None
    pixel = stream.sample_aspect_ratio
    if pixel:
        found["pixel_aspect_ratio"] = {"numerator": pixel.numerator, "denominator": pixel.denominator}
    return {name: value for name, value in found.items() if value is not None}


def _varies(timings: list[Timing], picture: Fraction) -> bool:
    """Whether pictures come at other distances than one picture's, give or take a container's rounding."""
    gaps = [b[0] - a[0] for a, b in zip(timings, timings[1:], strict=False)]
    return any(abs(gap - picture) > picture / 4 for gap in gaps)


def _samples(context: Any) -> dict[str, Any]:
    pixels = context.format
    if pixels is None or not pixels.components:
        return {}
    found: dict[str, Any] = {"bit_depth": pixels.components[0].bits}
    if pixels.is_rgb:
        return found | {"component_type": "RGB"}
    across, down = 16 // pixels.chroma_width(16), 16 // pixels.chroma_height(16)
    return found | {"component_type": "YCbCr", "horiz_chroma_subs": across, "vert_chroma_subs": down}


def _avc(context: Any) -> dict[str, int] | None:
    extra = bytes(context.extradata or b"")
    if extra[:1] == b"\x01" and len(extra) > 3:
        profile, flags, level = extra[1:4]
    else:
        found = _SPS.search(extra)
        if found is None:
            return None
        profile, flags, level = found[1]
    return {"profile": profile, "level": level, "flags": flags}


def _audio(stream: Any, name: str) -> dict[str, Any]:
    context = stream.codec_context
    found: dict[str, Any] = {"sample_rate": context.sample_rate, "channels": context.layout.nb_channels}
    if name.startswith("pcm_s"):
        return found | {"bit_depth": context.format.bits, "unc_parameters": {"unc_type": "interleaved"}}
    parameters: dict[str, int] = {}
    if name in CODED_SAMPLES:
        parameters["coded_frame_size"] = CODED_SAMPLES[name]
    if name == "aac":
        parameters["mp4_oti"] = AAC_OBJECTS.get(context.profile or "LC", 2)
    return found | ({"codec_parameters": parameters} if parameters else {})
