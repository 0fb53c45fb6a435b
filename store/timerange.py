"""Timestamps and timeranges, exact, in nanoseconds (TAMS 8.2 timestamp.json, timerange.json, AppNote 0008).

A timerange is a set of whole nanoseconds. Two ranges are equal when their bounds and brackets are; every
empty range equals `NEVER`, and the bracket of an omitted bound does not count.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import Final

NS_PER_S = 1_000_000_000
MIN_NS = -(2**63)
MAX_NS = 2**63 - 1

# Every piece starts with a character that no neighbour can start with, and every repeat is bounded, so
# matching is linear. Seconds of more than ten digits never fit 64 bits of nanoseconds.
_TIMESTAMP = r"(-?)(0|[1-9][0-9]{0,9}):(0|[1-9][0-9]{0,8})"
_timestamp_match = re.compile(_TIMESTAMP).fullmatch
_timerange_match = re.compile(rf"([\[(]?)(?:{_TIMESTAMP})?(?:(_)(?:{_TIMESTAMP})?)?([\])]?)").fullmatch
_digits_only = re.compile(r"-?[0-9]+:[0-9]+").fullmatch

_EMPTY: Final = {"start_ns": 0, "end_ns": 0, "include_start": True, "include_end": False}
_QUOTED = 64


class InvalidTimeRange(ValueError):
    """A text that is no timerange or timestamp, or a value that 64 bits of nanoseconds cannot hold."""


@dataclass(frozen=True, slots=True)
class TimeRange:
    """From `start_ns` to `end_ns`; None is unbounded. The brackets say whether a bound belongs to the range.

    Raises `InvalidTimeRange` when `first_ns` or `stop_ns` would not fit signed 64 bits, so that both
    can always be stored as integers.
    """

    start_ns: int | None
    end_ns: int | None
    include_start: bool = True
    include_end: bool = False

    def __post_init__(self) -> None:
        start, end = self.start_ns, self.end_ns
        if start is None:
            object.__setattr__(self, "include_start", True)
        elif not MIN_NS <= start <= MAX_NS - (not self.include_start):
            raise InvalidTimeRange("the timerange starts beyond 64 bits of nanoseconds")
        if end is None:
            object.__setattr__(self, "include_end", False)
        elif not MIN_NS <= end <= MAX_NS - self.include_end:
            raise InvalidTimeRange("the timerange ends beyond 64 bits of nanoseconds")
        if (
            start is not None
            and end is not None
            and end + self.include_end <= start + (not self.include_start)
        ):
            for name, value in _EMPTY.items():
                object.__setattr__(self, name, value)

    @classmethod
    def parse(cls, text: str) -> TimeRange:
        """The timerange that `text` writes. Raises `InvalidTimeRange`, which says what is wrong.

        Stricter than the schema's pattern, as AppNote 0008 is: a bound needs its bracket, an instantaneous
        range is inclusive, and an end before the start is the empty range.
        """
        found = _timerange_match(text)
        if found is None:
            raise InvalidTimeRange(_explain(text))
        opening, sign, s, ns, bar, end_sign, end_s, end_ns, closing = found.groups()
        start = None if s is None else _nanoseconds(sign, s, ns)
        end = None if end_s is None else _nanoseconds(end_sign, end_s, end_ns)
        if not bar:
            return _without_bar(text, opening, start, closing)
        if start is not None and not opening:
            raise InvalidTimeRange(f"timerange {_quote(text)}: the start needs '[' or '(' before it")
        if end is not None and not closing:
            raise InvalidTimeRange(f"timerange {_quote(text)}: the end needs ']' or ')' after it")
        if start is not None and start == end and (opening == "(" or closing == ")"):
            raise InvalidTimeRange(f"timerange {_quote(text)}: an instantaneous range cannot be exclusive")
        return cls(start, end, opening != "(", closing == "]")

    @classmethod
    def instant(cls, at_ns: int) -> TimeRange:
        """The range of that one nanosecond."""
        return cls(at_ns, at_ns, True, True)

    def __str__(self) -> str:
        """The canonical text, which `parse` reads back to an equal range."""
        start, end = self.start_ns, self.end_ns
        if start is None:
            return "_" if end is None else f"_{format_timestamp(end)}{']' if self.include_end else ')'}"
        opening = "[" if self.include_start else "("
        if end is None:
            return f"{opening}{format_timestamp(start)}_"
        if start == end:
            return f"[{format_timestamp(start)}]" if self.include_end else "()"
        return f"{opening}{format_timestamp(start)}_{format_timestamp(end)}{']' if self.include_end else ')'}"

    @property
    def first_ns(self) -> int | None:
        """The earliest nanosecond, None when unbounded. An empty range has none: ask `is_empty`."""
        return self.start_ns if self.include_start or self.start_ns is None else self.start_ns + 1

    @property
    def stop_ns(self) -> int | None:
        """The nanosecond after the last one, None when unbounded. An empty range has none: ask `is_empty`."""
        return self.end_ns + 1 if self.include_end and self.end_ns is not None else self.end_ns

    @property
    def is_empty(self) -> bool:
        """No nanosecond is in the range."""
        return self.end_ns is not None and self.start_ns == self.end_ns and not self.include_end

    @property
    def length_ns(self) -> int | None:
        """How many nanoseconds are in the range, None when it is unbounded."""
        first, stop = self.first_ns, self.stop_ns
        return None if first is None or stop is None else stop - first

    def overlaps(self, other: TimeRange) -> bool:
        """Some nanosecond is in both."""
        if self.is_empty or other.is_empty:
            return False
        return _starts_before(self, other) and _starts_before(other, self)

    def contains(self, other: TimeRange) -> bool:
        """Every nanosecond of `other` is in this range; the empty range is in all of them."""
        if other.is_empty or self.is_empty:
            return other.is_empty
        (first, stop), (start, end) = self._extent, other._extent
        after = first is None or (start is not None and first <= start)
        return after and (stop is None or (end is not None and end <= stop))

    def intersection(self, other: TimeRange) -> TimeRange:
        """The nanoseconds that are in both; `NEVER` when there are none."""
        if not self.overlaps(other):
            return NEVER
        late = _later_start(self, other)
        early = _earlier_end(self, other)
        return TimeRange(late.start_ns, early.end_ns, late.include_start, early.include_end)

    def span(self, other: TimeRange) -> TimeRange:
        """The shortest range that contains both, with what lies between them."""
        if self.is_empty:
            return other
        if other.is_empty:
            return self
        early = other if _later_start(self, other) is self else self
        late = other if _earlier_end(self, other) is self else self
        return TimeRange(early.start_ns, late.end_ns, early.include_start, late.include_end)

    def shift(self, offset_ns: int) -> TimeRange:
        """The range moved by `offset_ns`. Raises `InvalidTimeRange` when a bound leaves 64 bits."""
        if self.is_empty:
            return self
        start = None if self.start_ns is None else self.start_ns + offset_ns
        end = None if self.end_ns is None else self.end_ns + offset_ns
        return TimeRange(start, end, self.include_start, self.include_end)

    @property
    def _extent(self) -> tuple[int | None, int | None]:
        return self.first_ns, self.stop_ns


def parse_timestamp(text: str) -> int:
    """The nanoseconds that `text` writes (`-1:500000000` is -1.5 s). Raises `InvalidTimeRange`."""
    found = _timestamp_match(text)
    if found is None:
        raise InvalidTimeRange(_explain(text, kind="timestamp"))
    value = _nanoseconds(*found.groups())
    if not MIN_NS <= value <= MAX_NS:
        raise InvalidTimeRange(f"timestamp {_quote(text)} is beyond 64 bits of nanoseconds")
    return value


def format_timestamp(ns: int) -> str:
    """The timestamp of that many nanoseconds, which `parse_timestamp` reads back."""
    if ns < 0:
        seconds, rest = divmod(-ns, NS_PER_S)
        return f"-{seconds}:{rest}"
    seconds, rest = divmod(ns, NS_PER_S)
    return f"{seconds}:{rest}"


def _without_bar(text: str, opening: str, at_ns: int | None, closing: str) -> TimeRange:
    """The timerange that a text without '_' writes: never, or an instant."""
    if text == "()":
        return NEVER
    if at_ns is None:
        raise InvalidTimeRange(f"timerange {_quote(text)}: it is neither '_', '()' nor has a timestamp")
    if opening == "[" and closing == "]":
        return TimeRange.instant(at_ns)
    raise InvalidTimeRange(
        f"timerange {_quote(text)}: a single timestamp is written in '[' and ']', without exclusion"
    )


def _nanoseconds(sign: str, seconds: str, nanoseconds: str) -> int:
    value = int(seconds) * NS_PER_S + int(nanoseconds)
    return -value if sign else value


def _starts_before(one: TimeRange, other: TimeRange) -> bool:
    """`one` starts before `other` stops; both non-empty."""
    first, stop = one.first_ns, other.stop_ns
    return first is None or stop is None or first < stop


def _later_start(one: TimeRange, other: TimeRange) -> TimeRange:
    a, b = one.first_ns, other.first_ns
    return other if a is None or (b is not None and b > a) else one


def _earlier_end(one: TimeRange, other: TimeRange) -> TimeRange:
    a, b = one.stop_ns, other.stop_ns
    return other if a is None or (b is not None and b < a) else one


def _explain(text: str, kind: str = "timerange") -> str:
    """What keeps a text that did not match from being a timerange or a timestamp."""
    what = f"{kind} {_quote(text)}"
    pieces = text.strip("[]()").split("_") if kind == "timerange" else [text]
    if len(pieces) > 2:
        return f"{what}: more than one '_'"
    for piece in filter(None, pieces):
        problem = _explain_timestamp(piece)
        if problem is not None:
            return f"{what}: {problem}"
    return f"{what}: expected the form [seconds:nanoseconds_seconds:nanoseconds)"


def _explain_timestamp(piece: str) -> str | None:
    if _timestamp_match(piece) is not None:
        return None
    if _digits_only(piece) is None:
        return f"{_quote(piece)} is not seconds:nanoseconds"
    seconds, _, nanoseconds = piece.removeprefix("-").partition(":")
    if any(len(part) > 1 and part[0] == "0" for part in (seconds, nanoseconds)):
        return f"{_quote(piece)} has leading zeros"
    if len(nanoseconds) > 9:
        return f"{_quote(piece)} has more than 9 digits of nanoseconds"
    return f"{_quote(piece)} is beyond 64 bits of nanoseconds"


def _quote(text: str) -> str:
    return repr(text if len(text) <= _QUOTED else text[:_QUOTED] + "...")


ETERNITY = TimeRange(None, None)
NEVER = TimeRange(0, 0)
