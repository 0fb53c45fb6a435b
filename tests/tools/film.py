"""A short programme whose pictures can be told from each other, and what a file of it shows."""

from __future__ import annotations

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
