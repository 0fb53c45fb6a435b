"""A programme of real media: H.264 and AAC in MPEG transport stream objects, and how to read them again.

Picture n shows the number n, so that whoever decodes it can tell which one it is. PyAV is imported when it
is needed: it comes with the extra `media`.
"""

from __future__ import annotations

import io
import math
from array import array
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from fractions import Fraction
from typing import Any

from store.client.media import NoMediaLibrary, pyav

__all__ = [
    "Content",
    "NoMediaLibrary",
    "NotDecodable",
    "Picture",
    "examine",
    "make",
    "picture_ticks",
    "pyav",
]

FRAME_RATE = 25
SAMPLE_RATE = 48_000
SEGMENT_S = 2
SEGMENT_FRAMES = SEGMENT_S * FRAME_RATE
WIDTH, HEIGHT = 640, 360
CLOCK_HZ = 90_000
FRAME_TICKS = CLOCK_HZ // FRAME_RATE
VIDEO_PID, AUDIO_PID = 256, 257

FIRST_S = 1
"""Where the objects' own timeline starts: room for the decoding times of the first pictures, which come
before their presentation times."""

CODED_SAMPLES = 1024
CODED_TICKS = CODED_SAMPLES * CLOCK_HZ // SAMPLE_RATE
FIRST_TICKS = FIRST_S * CLOCK_HZ
FIRST_AUDIO_TICKS = FIRST_TICKS - CODED_TICKS
"""An AAC encoder's first frame is its run-up."""

BITS = 16
BLOCK = WIDTH // BITS
BLACK, WHITE, GREY = 16, 235, 128
TONE_HZ = 1000
TONE_PEAK = 0.126

VIDEO_OPTIONS = {
    "preset": "superfast",
    "x264-params": f"keyint={SEGMENT_FRAMES}:min-keyint={SEGMENT_FRAMES}:scenecut=0:open-gop=0:bframes=2",
}
MUX_OPTIONS = {
    "segment_time": str(SEGMENT_S),
    "segment_format": "mpegts",
    # One multiplexer for all objects: packet counters run on from each to the next.
    "individual_header_trailer": "0",
}


class NotDecodable(Exception):
    """The bytes are not the stream that they should be."""


@dataclass(frozen=True, slots=True)
class Picture:
    """A decoded picture: when it is shown, in ticks of 90 kHz, and the number that stands in it."""

    ticks: int
    number: int
    is_key: bool


@dataclass(frozen=True, slots=True)
class Content:
    """What a transport stream decodes to. `audio`: when each decoded frame of sound starts, in ticks."""

    pictures: tuple[Picture, ...]
    audio: tuple[int, ...]


def make(objects: int, made: Callable[[int], None]) -> list[bytes]:
    """That many objects of `SEGMENT_S` seconds, each from a key frame on. `made` gets the pictures done.

    Raises `NoMediaLibrary`.
    """
    av = pyav()
    files = _Files()
    with av.open("%d.ts", "w", format="segment", io_open=files.open, options=MUX_OPTIONS) as container:
        video = container.add_stream("libx264", rate=FRAME_RATE, options=VIDEO_OPTIONS)
        video.width, video.height, video.pix_fmt = WIDTH, HEIGHT, "yuv420p"
        audio = container.add_stream("aac", rate=SAMPLE_RATE, layout="stereo")
        sound = _sound(av, objects * SEGMENT_S * SAMPLE_RATE)
        following = next(sound)
        for number in range(objects * SEGMENT_FRAMES):
            container.mux(video.encode(_picture(av, number)))
            while following is not None and following.pts < _samples_before(number + 1):
                container.mux(audio.encode(following))
                following = next(sound, None)
            if number % FRAME_RATE == FRAME_RATE - 1:
                made(FRAME_RATE)
        container.mux(video.encode(None))
        container.mux(audio.encode(None))
    return files.contents()


def examine(data: bytes) -> Content:
    """Decode a transport stream: one object, or several that follow each other, joined.

    Raises `NoMediaLibrary`, and `NotDecodable` for what is not such a stream.
    """
    av = pyav()
    pictures, audio = [], []
    try:
        with av.open(io.BytesIO(data), format="mpegts") as container:
            for frame in container.decode():
                if isinstance(frame, av.VideoFrame):
                    pictures.append(Picture(_ticks(frame), _number(frame), bool(frame.key_frame)))
                else:
                    audio.append(_ticks(frame))
    except av.error.FFmpegError as exc:
        raise NotDecodable(f"not decodable: {exc.strerror}") from exc
    return Content(tuple(pictures), tuple(audio))


def picture_ticks(number: int) -> int:
    """When the picture of that number is shown, on the objects' timeline."""
    return FIRST_TICKS + number * FRAME_TICKS


class _Files:
    """The multiplexer's output files, in memory, in the order they were opened."""

    def __init__(self) -> None:
        self._opened: list[_File] = []

    def open(self, _name: str, _flags: int, _options: object) -> io.BytesIO:
        self._opened.append(_File())
        return self._opened[-1]

    def contents(self) -> list[bytes]:
        return [file.content for file in self._opened]


class _File(io.BytesIO):
    content = b""

    def close(self) -> None:
        if not self.closed:
            self.content = self.getvalue()
        super().close()


def _picture(av: Any, number: int) -> Any:
    """A moving ramp under a row of blocks, black and white, that spell the number in binary."""
    frame = av.VideoFrame(WIDTH, HEIGHT, "yuv420p")
    luma, *chroma = frame.planes
    bits = f"{number:0{BITS}b}"
    row = b"".join(bytes([WHITE if bit == "1" else BLACK]) * BLOCK for bit in bits)
    ramp = bytes(BLACK + (x + 4 * number) % (WHITE - BLACK) for x in range(WIDTH))
    padding = bytes(luma.line_size - WIDTH)
    luma.update((row + padding) * BLOCK + (ramp + padding) * (HEIGHT - BLOCK))
    for plane in chroma:
        plane.update(bytes([GREY]) * plane.buffer_size)
    frame.pts = FIRST_S * FRAME_RATE + number
    frame.time_base = Fraction(1, FRAME_RATE)
    return frame


def _number(frame: Any) -> int:
    """The number in a picture, read from the middle of its blocks."""
    luma = frame.planes[0]
    middle = memoryview(luma)[BLOCK // 2 * luma.line_size :]
    bits = ("1" if middle[block * BLOCK + BLOCK // 2] >= GREY else "0" for block in range(BITS))
    return int("".join(bits), 2)


def _sound(av: Any, samples: int) -> Iterator[Any]:
    """Line-up tone: 1 kHz at -18 dBFS on both sides."""
    period = SAMPLE_RATE // TONE_HZ
    wave = [TONE_PEAK * math.sin(2 * math.pi * n / period) for n in range(period)]
    tone = array("f", wave * (CODED_SAMPLES // period + 2))
    for start in range(0, samples, CODED_SAMPLES):
        frame = av.AudioFrame("fltp", "stereo", CODED_SAMPLES)
        frame.sample_rate = SAMPLE_RATE
        for plane in frame.planes:
            plane.update(tone[start % period : start % period + CODED_SAMPLES].tobytes())
        frame.pts = FIRST_S * SAMPLE_RATE + start
        frame.time_base = Fraction(1, SAMPLE_RATE)
        yield frame


def _samples_before(number: int) -> int:
    """Where the sound that goes with a picture starts, in samples of the objects' timeline."""
    return FIRST_S * SAMPLE_RATE + number * SAMPLE_RATE // FRAME_RATE


def _ticks(frame: Any) -> int:
    ticks = frame.pts * frame.time_base * CLOCK_HZ
    if ticks.denominator != 1:
        raise NotDecodable("a time is not a whole number of ticks")
    return int(ticks)
