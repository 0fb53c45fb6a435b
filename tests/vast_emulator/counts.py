"""What an emulator has done, for tests to assert on."""

import threading
from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass, field


@dataclass(frozen=True)
class Tally:
    """Counts at one moment: requests by operation, and by table (`bucket/schema/table`) what queries did.

    `rows_scanned` are the rows that a query had to look at, after what sorting lets it leave out.
    """

    requests: Mapping[str, int] = field(default_factory=dict)
    rows_read: Mapping[str, int] = field(default_factory=dict)
    rows_scanned: Mapping[str, int] = field(default_factory=dict)
    queries: Mapping[str, int] = field(default_factory=dict)

    @property
    def total_requests(self) -> int:
        return sum(self.requests.values())

    def __sub__(self, before: "Tally") -> "Tally":
        return Tally(
            _less(self.requests, before.requests),
            _less(self.rows_read, before.rows_read),
            _less(self.rows_scanned, before.rows_scanned),
            _less(self.queries, before.queries),
        )


def _less(after: Mapping[str, int], before: Mapping[str, int]) -> dict[str, int]:
    left = {name: count - before.get(name, 0) for name, count in after.items()}
    return {name: count for name, count in left.items() if count}


class Counts:
    """Counts what happens; safe to use from many threads."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._requests: Counter[str] = Counter()
        self._read: Counter[str] = Counter()
        self._scanned: Counter[str] = Counter()
        self._queries: Counter[str] = Counter()

    def request(self, operation: str) -> None:
        with self._lock:
            self._requests[operation] += 1

    def query(self, table: str, read: int, scanned: int) -> None:
        with self._lock:
            self._queries[table] += 1
            self._read[table] += read
            self._scanned[table] += scanned

    def tally(self) -> Tally:
        with self._lock:
            return Tally(
                dict(self._requests),
                {name: count for name, count in self._read.items() if count},
                {name: count for name, count in self._scanned.items() if count},
                dict(self._queries),
            )
