"""A short programme whose pictures can be told from each other, and what a file of it shows."""

from __future__ import annotations

import wave
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from fractions import Fraction
from pathlib import Path

import av
import pytest

from proxy.demo import media

SEGMENTS = 3
PICTURES = SEGMENTS * media.SEGMENT_FRAMES
WIDTH, HEIGHT = 320, 180
RATE = media.FRAME_RATE


@dataclass(frozen=True)
class Shown:
    """What a file decodes to: when each picture is shown, and its number; when each frame of sound begins."""

    pictures: list[tuple[Fraction, int]]
    sound: list[Fraction]

    @property
    def numbers(self) -> list[int]:
        """The pictures' numbers."""
        return [number for _, number in self.pictures]

    def is_steady(self) -> bool:
        """Whether pictures come one after the other without a gap."""
        times = [time for time, _ in self.pictures]
        return all(b - a == Fraction(1, RATE) for a, b in zip(times, times[1:], strict=False))


def make(folder: Path) -> Path:
    """The programme as a file; its first picture is at 1 s, its segments are of 2 s."""
    path = folder / "film.ts"
    with _small():
        path.write_bytes(b"".join(media.make(SEGMENTS, lambda _: None)))
    return path


@contextmanager
def _small() -> Iterator[None]:
    """Pictures of a quarter of the demo's size."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(media, "WIDTH", WIDTH)
        patch.setattr(media, "HEIGHT", HEIGHT)
        patch.setattr(media, "BLOCK", WIDTH // media.BITS)
        yield


def look(path: Path) -> Shown:
    """Decode a file."""
    pictures, sound = [], []
    with _small(), av.open(str(path)) as container:
        for frame in container.decode():
            assert frame.pts is not None and frame.time_base is not None
            time = frame.pts * Fraction(frame.time_base)
            if isinstance(frame, av.VideoFrame):
                pictures.append((time, media._number(frame)))
            else:
                sound.append(time)
    return Shown(pictures, sound)


def turned(stream: bytes, ticks: int) -> bytes:
    """A transport stream whose clock is ahead by so many ticks of 90 kHz, and begins again after 2^33."""
    data = bytearray(stream)
    for at in range(0, len(data), 188):
        begins, control = data[at + 1] & 0x40, data[at + 3] >> 4 & 3
        place = at + 4 + (1 + data[at + 4] if control & 2 else 0)
        if begins and control & 1 and data[place : place + 3] == b"\x00\x00\x01":
            for number in range({2: 1, 3: 2}.get(data[place + 7] >> 6, 0)):
                _turn(data, place + 9 + 5 * number, ticks)
    return bytes(data)


def _turn(data: bytearray, at: int, ticks: int) -> None:
    """Change a time stamp of a packetised elementary stream (ISO/IEC 13818-1 2.4.3.7)."""
    high, middle = data[at] >> 1 & 7, int.from_bytes(data[at + 1 : at + 3]) >> 1
    low = int.from_bytes(data[at + 3 : at + 5]) >> 1
    time = ((high << 30 | middle << 15 | low) + ticks) % (1 << 33)
    data[at] = data[at] & 0xF1 | (time >> 30) << 1
    data[at + 1 : at + 3] = ((time >> 15 & 0x7FFF) << 1 | 1).to_bytes(2)
    data[at + 3 : at + 5] = ((time & 0x7FFF) << 1 | 1).to_bytes(2)


def only(film: Path, kind: str, target: Path) -> Path:
    """One essence of a film, "video" or "audio", in a file of its own."""
    with av.open(str(film)) as given, av.open(str(target), "w") as out:
        (stream,) = [each for each in given.streams if each.type == kind]
        copied = out.add_stream_from_template(stream)
        for packet in given.demux(stream):
            if packet.dts is not None:
                packet.stream = copied
                out.mux(packet)
    return target


def american(target: Path, pictures: int) -> Path:
    """Grey pictures at 30000/1001 a second, some of them decoded before they are shown, from nought on."""
    with av.open(str(target), "w") as out:
        stream = out.add_stream(
            "libx264", rate=Fraction(30_000, 1001), options={"preset": "ultrafast", "bf": "2"}
        )
        stream.width, stream.height, stream.pix_fmt, stream.gop_size = 64, 64, "yuv420p", 30
        for number in range(pictures):
            frame = av.VideoFrame(64, 64, "yuv420p")
            frame.pts = number
            out.mux(stream.encode(frame))
        out.mux(stream.encode(None))
    return target


def tone(target: Path) -> Path:
    """A second of silence, not coded at all."""
    with wave.open(str(target), "wb") as out:
        out.setnchannels(1)
        out.setsampwidth(2)
        out.setframerate(48_000)
        out.writeframes(bytes(96_000))
    return target
