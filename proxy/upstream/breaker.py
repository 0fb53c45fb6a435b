"""A circuit breaker: while an upstream is down, nobody waits for it. Pure: `now_s` is passed in."""

from __future__ import annotations

from dataclasses import dataclass

FAILURES = 5
FIRST_PAUSE_S = 1.0
LONGEST_PAUSE_S = 15.0


@dataclass(slots=True)
class Breaker:
    """Opens after `FAILURES` failures in a row; then one call at a time tries, after a pause that doubles."""

    failures: int = 0
    pause_s: float = FIRST_PAUSE_S
    open_until_s: float = 0.0

    def admits(self, now_s: float) -> bool:
        """Whether a call may go out. The call that is let through after a pause starts the next one, so
        that the others go on being refused until it came back."""
        if self.failures < FAILURES:
            return True
        if now_s < self.open_until_s:
            return False
        self.open_until_s = now_s + self.pause_s
        return True

    def succeeded(self) -> None:
        """A call was answered."""
        self.failures = 0
        self.pause_s = FIRST_PAUSE_S

    def failed(self, now_s: float) -> None:
        """A call found nobody, or waited too long."""
        self.failures += 1
        if self.failures >= FAILURES:
            self.open_until_s = now_s + self.pause_s
            self.pause_s = min(self.pause_s * 2, LONGEST_PAUSE_S)
