"""How results are told: one table, a row a figure."""

from __future__ import annotations

import statistics
from collections.abc import Iterable
from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class Rounds:
    """What one measure found in several rounds, in their order."""

    values: tuple[float, ...]

    @property
    def median(self) -> float:
        """What is told of them."""
        return statistics.median(self.values)

    def __sub__(self, other: Rounds) -> Rounds:
        return Rounds(tuple(one - two for one, two in zip(self.values, other.values, strict=True)))

    def __truediv__(self, unit: float) -> Rounds:
        return Rounds(tuple(value / unit for value in self.values))


Figure = float | Rounds | None


@dataclass(frozen=True, slots=True)
class Result:
    """A figure beside its reference. `target` is the ratio to reach, None where there is none; `higher`:
    a larger ratio is better. None for `ours` or `reference`: not measured."""

    id: str
    work: str
    ours: Figure
    reference: Figure
    unit: str
    target: float | None
    higher: bool

    @property
    def ratio(self) -> float | None:
        """Ours over the reference."""
        ours, reference = _one(self.ours), _one(self.reference)
        return None if ours is None or not reference else ours / reference

    def cells(self) -> list[str]:
        """The row as text."""
        ours, reference, ratio = _one(self.ours), _one(self.reference), self.ratio
        if ratio is None:
            return [self.id, self.work, "-", "-", "-", "-", self._target(), "not measured"]
        return [
            self.id,
            self.work,
            f"{ours:,.1f} {self.unit}",
            f"{reference:,.1f} {self.unit}",
            f"{ratio:.2f}",
            self._spread(),
            self._target(),
            self._verdict(ratio),
        ]

    def _spread(self) -> str:
        """The ratios of the rounds, the lowest and the highest."""
        count = max(
            (len(each.values) for each in (self.ours, self.reference) if isinstance(each, Rounds)), default=1
        )
        pairs = list(zip(_all(self.ours, count), _all(self.reference, count), strict=False))
        if count == 1 or not all(reference for _, reference in pairs):
            return "-"
        ratios = [ours / reference for ours, reference in pairs]
        return f"{min(ratios):.2f}-{max(ratios):.2f}"

    def _target(self) -> str:
        if self.target is None:
            return "-"
        return f"{'>=' if self.higher else '<='} {self.target:g}"

    def _verdict(self, ratio: float) -> str:
        if self.target is None:
            return "-"
        return "ok" if (ratio >= self.target) == self.higher or ratio == self.target else "short"


def _one(figure: Figure) -> float | None:
    return figure.median if isinstance(figure, Rounds) else figure


def _all(figure: Figure, count: int) -> tuple[float, ...]:
    return figure.values if isinstance(figure, Rounds) else (figure or 0.0,) * count


def show(results: Iterable[Result]) -> None:
    """Print the table."""
    head = ["id", "work", "ours", "reference", "ratio", "spread", "target", "verdict"]
    rows = [head, *(result.cells() for result in results)]
    widths = [max(len(row[column]) for row in rows) for column in range(len(head))]
    for row in rows:
        print("  ".join(cell.ljust(width) for cell, width in zip(row, widths, strict=True)).rstrip())
