"""Who plays in the demo, with what, and where it is written down."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass

from proxy.demo.client import Client
from proxy.demo.ingest import Programme
from proxy.demo.report import Report

NEWS, SPORT_READS = "news", "sport_ro"


@dataclass(frozen=True, slots=True)
class Scene:
    """Two teams, what one of them stores, and the report."""

    programme: Programme
    news: Client
    sport: Client
    report: Report

    def statuses(self, client: Client, tried: str, came: Sequence[int], expected: int) -> None:
        """A row about calls that should all be answered alike."""
        counts = ", ".join(f"{status} x {times}" for status, times in sorted(Counter(came).items()))
        self.report.row(client.client_id, tried, counts, bool(came) and set(came) == {expected})
