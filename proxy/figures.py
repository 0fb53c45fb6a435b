"""Figures of what the proxy decides: counted on the event loop, in whole batches, without locks.

Labels are operations, verdicts and statuses, all of which are few; nobody's name and no id is among them.
"""

from __future__ import annotations

from bisect import bisect_left
from collections import Counter
from collections.abc import Iterable
from typing import Final

from proxy.audit import Decision

NS: Final = 1_000_000_000
REQUEST_S: Final = (0.0005, 0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0)
DECISION_S: Final = (0.00005, 0.0001, 0.00025, 0.0005, 0.001, 0.0025, 0.005, 0.01, 0.025, 0.1, 1.0)


class Histogram:
    """Durations in buckets. `bounds_s` are the upper ends; one more bucket has no end."""

    __slots__ = ("bounds_s", "counts", "sum_ns", "_bounds_ns")

    def __init__(self, bounds_s: tuple[float, ...]) -> None:
        self.bounds_s = bounds_s
        self._bounds_ns = [round(bound * NS) for bound in bounds_s]
        self.counts = [0] * (len(bounds_s) + 1)
        self.sum_ns = 0

    def add(self, took_ns: int) -> None:
        """Count one duration."""
        self.counts[bisect_left(self._bounds_ns, took_ns)] += 1
        self.sum_ns += took_ns

    def buckets(self) -> list[tuple[str, float]]:
        """As Prometheus has them: by upper end, everything up to it."""
        found, seen = [], 0
        for bound, count in zip((*self.bounds_s, float("inf")), self.counts, strict=True):
            seen += count
            found.append(("+Inf" if bound == float("inf") else repr(bound), float(seen)))
        return found


class Figures:
    """What has been decided since the start of this process."""

    def __init__(self) -> None:
        self.requests: Counter[tuple[str, str]] = Counter()
        self.statuses: Counter[int] = Counter()
        self.credentials: Counter[bool] = Counter()
        self.took: dict[str, Histogram] = {}
        self.deciding = Histogram(DECISION_S)
        self.store = Histogram(REQUEST_S)

    def take(self, decisions: Iterable[Decision]) -> None:
        """Count decisions."""
        for decision in decisions:
            operation = "none" if decision.rule is None else decision.rule.operation
            took_ns = max(0, decision.ended_ns - decision.began_ns)
            self.requests[operation, decision.verdict] += 1
            self.statuses[decision.status] += 1
            histogram = self.took.get(operation)
            if histogram is None:
                histogram = self.took[operation] = Histogram(REQUEST_S)
            histogram.add(took_ns)
            self.deciding.add(max(0, took_ns - decision.store_ns))
            if decision.calls:
                self.store.add(decision.store_ns)
            if decision.is_known is not None:
                self.credentials[decision.is_known] += 1
