"""How results are told: one table, a row a figure."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class Result:
    """A figure beside its reference. `target` is the ratio to reach, None where there is none; `higher`:
    a larger ratio is better. None for `ours` or `reference`: not measured."""

    id: str
    work: str
    ours: float | None
    reference: float | None
    unit: str
    target: float | None
    higher: bool

    @property
    def ratio(self) -> float | None:
        """Ours over the reference."""
        if self.ours is None or not self.reference:
            return None
        return self.ours / self.reference

    def cells(self) -> list[str]:
        """The row as text."""
        if self.ratio is None:
            return [self.id, self.work, "-", "-", "-", self._target(), "not measured"]
        return [
            self.id,
            self.work,
            f"{self.ours:,.1f} {self.unit}",
            f"{self.reference:,.1f} {self.unit}",
            f"{self.ratio:.2f}",
            self._target(),
            self._verdict(self.ratio),
        ]

    def _target(self) -> str:
        if self.target is None:
            return "-"
        return f"{'>=' if self.higher else '<='} {self.target:g}"

    def _verdict(self, ratio: float) -> str:
        if self.target is None:
            return "-"
        return "ok" if (ratio >= self.target) == self.higher or ratio == self.target else "short"


def show(results: Iterable[Result]) -> None:
    """Print the table."""
    head = ["id", "work", "ours", "reference", "ratio", "target", "verdict"]
    rows = [head, *(result.cells() for result in results)]
    widths = [max(len(row[column]) for row in rows) for column in range(len(head))]
    for row in rows:
        print("  ".join(cell.ljust(width) for cell, width in zip(row, widths, strict=True)).rstrip())
