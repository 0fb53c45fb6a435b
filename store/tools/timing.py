"""Where pieces of media go on a flow's timeline. Exact: times are fractions of a second, then nanoseconds.

Pure.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from enum import StrEnum
from fractions import Fraction

from store.timerange import NS_PER_S, TimeRange, format_timestamp
from store.tools.errors import Broken

WRAP = Fraction(2**33, 90_000)
"""When the clock of a transport stream starts again from nought (ISO/IEC 13818-1): after some 26.5 hours."""

NOUGHT = Fraction(0)
LEAST = Fraction(1, 1000)
"""A millisecond of rounding between pieces is no gap: containers round times to their own ticks."""


class Gaps(StrEnum):
    """What to do where times do not follow each other."""

    refuse = "refuse"
    keep = "keep"
    close = "close"


@dataclass(frozen=True, slots=True)
class Extent:
    """The media's own times of a piece: its first picture's, and when its last one ends. `picture`: how
    long one is shown. `wraps`: after how long its clock starts again, if it does."""

    start: Fraction
    stop: Fraction
    picture: Fraction
    wraps: Fraction | None = None
    breaks: bool = False


@dataclass(frozen=True, slots=True)
class Place:
    """A piece on the flow's timeline; `ts_offset_ns` leads there from its own times."""

    start_ns: int
    stop_ns: int
    ts_offset_ns: int

    @property
    def timerange(self) -> TimeRange:
        """What it covers."""
        return TimeRange(self.start_ns, self.stop_ns)


@dataclass(frozen=True, slots=True)
class Kept:
    """A segment that is there already: its own start, and its place."""

    own_start_ns: int
    place: Place


class Timeline:
    """Places pieces one behind the other. `offset` leads from the media's own times to the flow's; `kept`:
    what is there already, in order of time.

    `notes` says what was found and put right.
    """

    def __init__(self, gaps: Gaps, offset: Fraction = NOUGHT, kept: Sequence[Kept] = ()) -> None:
        self._gaps = gaps
        self._offset = offset
        self._kept: dict[int, list[Place]] = {}
        for each in kept:
            self._kept.setdefault(each.own_start_ns, []).append(each.place)
        self._at: Fraction | None = None
        self.notes: list[str] = []

    def place(self, name: str, piece: Extent, following: Extent | None) -> tuple[Place, bool]:
        """Where a piece goes, and whether it is there already. Raises `Broken`, which names the piece."""
        known = self._known(nanoseconds(piece.start))
        if known is not None:
            self._offset = Fraction(known.ts_offset_ns, NS_PER_S)
            self._at = Fraction(known.stop_ns, NS_PER_S)
            return known, True
        offset = self._offset_of(name, piece)
        start, stop = piece.start + offset, piece.stop + offset
        if following is not None and not following.breaks:
            # The next picture ends this one: containers round durations.
            meets = following.start + offset
            stop = meets if abs(meets - stop) <= _tolerance(piece) else stop
        own_ns, stop_ns = nanoseconds(start), nanoseconds(stop)
        start_ns = self._joined(own_ns, piece)
        if stop_ns <= start_ns:
            raise Broken(f"{name} has no duration")
        self._offset, self._at = offset, stop
        return Place(start_ns, stop_ns, own_ns - nanoseconds(piece.start)), False

    def _joined(self, start_ns: int, piece: Extent) -> int:
        """The start, behind what a run before this one stored: that did not know what would follow."""
        if self._at is None:
            return start_ns
        at_ns = nanoseconds(self._at)
        late_ns = at_ns - start_ns
        return at_ns if late_ns == -1 or 0 < late_ns <= nanoseconds(_tolerance(piece)) else start_ns

    def _known(self, own_start_ns: int) -> Place | None:
        """The first segment that is this piece, among those after the last placed one."""
        at_ns = None if self._at is None else nanoseconds(self._at)
        for place in self._kept.get(own_start_ns, ()):
            if at_ns is None or place.start_ns >= at_ns - NS_PER_S // 1000:
                return place
        return None

    def _offset_of(self, name: str, piece: Extent) -> Fraction:
        offset = self._offset
        if self._at is None:
            return offset
        if piece.breaks:
            self.notes.append(f"{name}: a discontinuity, put right behind what is before it")
            return self._at - piece.start
        if piece.wraps is not None:
            turns = round((self._at - piece.start - offset) / piece.wraps)
            if turns:
                self.notes.append(f"{name}: the clock of the stream started again from nought")
            offset += turns * piece.wraps
        apart = piece.start + offset - self._at
        if abs(apart) <= _tolerance(piece):
            return offset
        return self._resolved(name, piece, offset, apart)

    def _resolved(self, name: str, piece: Extent, offset: Fraction, apart: Fraction) -> Fraction:
        assert self._at is not None
        length = format_timestamp(nanoseconds(abs(apart)))
        kind = "a gap of" if apart > 0 else "times go back by"
        says = f"{name}: {kind} {length} s at {format_timestamp(nanoseconds(self._at))}"
        if self._gaps is Gaps.close:
            self.notes.append(f"{says}, closed")
            return self._at - piece.start
        if self._gaps is Gaps.keep and apart > 0:
            self.notes.append(f"{says}, kept")
            return offset
        keep = ", --gaps keep to leave it" if apart > 0 else ""
        raise Broken(
            f"{says}. Run the same again with --gaps close to put what follows right behind{keep}; "
            "it goes on where it stopped"
        )


def nanoseconds(time: Fraction) -> int:
    """Whole nanoseconds, rounded down: equal times stay equal, and order stays."""
    return time.numerator * NS_PER_S // time.denominator


def spanned(extents: Iterable[TimeRange]) -> TimeRange:
    """The shortest range with all of these."""
    total = TimeRange(0, 0)
    for each in extents:
        total = total.span(each)
    return total


def _tolerance(piece: Extent) -> Fraction:
    return max(piece.picture / 2, LEAST)
