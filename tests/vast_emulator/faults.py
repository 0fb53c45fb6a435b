"""Faults to inject: which requests they hit, how often, and what then happens."""

import random
import threading
from dataclasses import dataclass, replace
from typing import Literal

from tests.vast_emulator.errors import Refusal

Kind = Literal[
    "slow_down",
    "status",
    "conflict",
    "drop",
    "drop_after",
    "hang",
    "hang_after",
    "delay",
    "truncate",
    "fail_stream",
]
_REFUSALS: dict[str, tuple[int, str]] = {
    "slow_down": (503, "SlowDown"),
    "conflict": (409, "TabularConflict"),
}


@dataclass(frozen=True)
class Fault:
    """A fault and the requests that it hits.

    Kinds: "slow_down", "conflict" and "status" (with `status`) refuse without doing anything; "drop" closes
    the connection without doing anything, "drop_after" does the work and closes it before the reply, which
    makes a commit ambiguous; "hang" and "hang_after" keep silent for `seconds` and then close it; "delay"
    answers `seconds` late; "truncate" ends a reply half way; "fail_stream" ends a query with the frame for
    failure. A commit refused by "conflict" or "status" is rolled back; after "slow_down", "drop" and "hang"
    its transaction stays open and holds its rows until the client comes back or the timeout of the options.

    `operation` (such as "commit", "update", "query") and `table` (`bucket/schema/table`) of None hit all; the
    first `skip` matching requests pass, then `times` are hit (None: all), each with `probability`.
    """

    kind: Kind
    operation: str | None = None
    table: str | None = None
    times: int | None = 1
    skip: int = 0
    probability: float = 1.0
    status: int = 500
    seconds: float = 0.0

    def __post_init__(self) -> None:
        if not 0 < self.probability <= 1 or self.seconds < 0 or self.skip < 0:
            raise ValueError(f"not a fault: {self}")

    @property
    def aborts(self) -> bool:
        """Whether a commit that it hits is over, its transaction rolled back."""
        return self.kind in ("conflict", "status")

    def refusal(self) -> Refusal | None:
        if self.kind == "status":
            return Refusal(self.status, "InjectedFault", f"injected status {self.status}")
        if self.kind in _REFUSALS:
            status, code = _REFUSALS[self.kind]
            return Refusal(status, code, f"{code} injected")
        return None


class Faults:
    """The faults to come. The first one that matches a request is taken."""

    def __init__(self, seed: int) -> None:
        self._lock = threading.Lock()
        self._random = random.Random(seed)
        self._faults: list[Fault] = []
        self._hits = 0

    @property
    def hits(self) -> int:
        """How many requests have been hit so far."""
        with self._lock:
            return self._hits

    def add(self, *faults: Fault) -> None:
        with self._lock:
            self._faults.extend(faults)

    def clear(self) -> None:
        with self._lock:
            self._faults.clear()

    def take(self, operation: str, table: str) -> Fault | None:
        """The fault that hits this request, if any."""
        with self._lock:
            for index, fault in enumerate(self._faults):
                if fault.operation not in (None, operation) or fault.table not in (None, table):
                    continue
                if fault.skip:
                    self._faults[index] = replace(fault, skip=fault.skip - 1)
                    continue
                if self._random.random() >= fault.probability:
                    continue
                self._spend(index, fault)
                self._hits += 1
                return fault
        return None

    def _spend(self, index: int, fault: Fault) -> None:
        if fault.times is None:
            return
        if fault.times <= 1:
            del self._faults[index]
        else:
            self._faults[index] = replace(fault, times=fault.times - 1)
