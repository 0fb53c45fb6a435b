"""Rows in order from a database that returns them in none: ranges, cut down until they are read whole."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, Final

from store.metadata.vast_predicates import Condition, Value, above, at_least, at_most, below
from store.timerange import MAX_NS, MIN_NS

Record = tuple[Any, ...]
Fetch = Callable[[tuple[Condition, ...], int | None], list[Record]]
"""Any rows that meet conditions, at most so many."""

SPARE: Final = 4
LEAST: Final = 200
"""So many rows, or so many times those wanted, are read at once at most."""
DOUBLINGS: Final = 12
CUTS: Final = 40
PROBES: Final = 80
DIGITS: Final = 16
"""How many hexadecimal digits a key that begins with a number begins with."""
_LAST: Final = "\U0010ffff"


@dataclass(frozen=True, slots=True)
class Way:
    """Along which column, whose values are unique, from where (exclusive) to where (inclusive).

    `place`: the column's in the records. `front`: for keys that begin with a number, the one before which
    (in this direction) there is probably nothing; None for other values.
    """

    column: str
    place: int
    reverse: bool = False
    start: Value | None = None
    end: Value | None = None
    front: int | None = None

    def conditions(self, start: Value | None, end: Value | None) -> tuple[Condition, ...]:
        """The rows behind `start` up to `end`."""
        found = []
        if start is not None:
            found.append((below if self.reverse else above)(self.column, start))
        if end is not None:
            found.append((at_least if self.reverse else at_most)(self.column, end))
        return tuple(found)

    def sorted(self, rows: list[Record]) -> list[Record]:
        """Rows in the order of this way."""
        return sorted(rows, key=lambda row: row[self.place], reverse=self.reverse)

    def moved(self, start: int, step: int) -> Value | None:
        """A position so far behind `start`; None when that is the end."""
        there = max(MIN_NS, start - step) if self.reverse else min(MAX_NS, start + step)
        if isinstance(self.end, int) and (there <= self.end if self.reverse else there >= self.end):
            return None
        return there

    def distance(self, row: Record) -> int:
        """How far a row's number lies behind zero, in this direction."""
        number = int(row[self.place][:DIGITS], 16)
        return -number if self.reverse else number

    def bound(self, distance: int) -> str:
        """The last key that lies so far."""
        number = -distance if self.reverse else distance
        limited = min(max(number, 0), 2 ** (4 * DIGITS) - 1)
        return f"{limited:0{DIGITS}x}{'' if self.reverse else _LAST}"


def ahead(fetch: Fetch, way: Way, wanted: int, step: int | None = None) -> tuple[list[Record], bool]:
    """The first rows on a way, at least as many as wanted, and whether those are all there are.

    `step`: how far, on a column of numbers, the wanted rows probably reach; ranges of that size are then
    read, each twice as far as the one before. Without it, or when it was far off, any rows are read to see
    where the wanted ones end: those rows are at least as many as are wanted, so that a range up to the
    last of them is.
    """
    found: list[Record] = []
    start = way.start
    for turn in range(DOUBLINGS + 1):
        known = step is not None and isinstance(start, int) and turn < DOUBLINGS
        stop = way.moved(start, step << turn) if known else None  # type: ignore[arg-type,operator]
        rows, cut = _first(fetch, way, start, way.end if stop is None else stop, wanted - len(found))
        found += rows
        if cut is not None:
            return found, False
        if stop is None:
            return found, True
        if len(found) >= wanted:
            return found, False
        start = stop
    return found, True


def _first(
    fetch: Fetch, way: Way, start: Value | None, end: Value | None, wanted: int
) -> tuple[list[Record], Value | None]:
    """The first rows of a range, in order. None: all of them; else where the range was cut off."""
    most = max(SPARE * wanted, LEAST)
    cut: Value | None = None
    for turn in range(CUTS):
        rows = way.sorted(fetch(way.conditions(start, end if cut is None else cut), most))
        if len(rows) < most:
            return rows, cut
        cut = rows[wanted - 1][way.place]
        if turn and way.front is not None:
            # What comes first is not where the way begins: look for that instead of coming nearer slowly.
            return _from_front(fetch, way, start, rows, wanted)
    return way.sorted(fetch(way.conditions(start, cut), None)), cut


def _from_front(
    fetch: Fetch, way: Way, start: Value | None, sample: list[Record], wanted: int
) -> tuple[list[Record], Value]:
    """The first rows of a range, by numbers: further and further from the front until there are enough,
    then between what held too few and what held too many. `sample`: rows that are there, as many as may be
    read at once."""
    most = len(sample)
    enough = way.distance(sample[wanted - 1])
    front = way.front if start is None else way.distance((start,) * (way.place + 1))
    few = min(front or 0, enough) - 1
    width = max(1, 2 * wanted * (way.distance(sample[-1]) - way.distance(sample[0])) // most)
    halving = False
    for _ in range(PROBES):
        if enough - few <= 1:
            break
        at = (few + enough) // 2 if halving else min(few + width, enough)
        bound = way.bound(at)
        rows = way.sorted(fetch(way.conditions(start, bound), most))
        if wanted <= len(rows) < most:
            return rows, bound
        if len(rows) < wanted:
            few, width = at, 4 * width
        else:
            enough, halving = min(at, way.distance(rows[wanted - 1])), True
    bound = way.bound(enough)
    return way.sorted(fetch(way.conditions(start, bound), None)), bound
