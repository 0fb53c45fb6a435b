"""How often somebody may ask: token buckets. Pure but for its own counts; the time is passed in."""

from __future__ import annotations

from math import ceil
from typing import Final

from cachetools import LRUCache

MOST_TRACKED: Final = 10_000


class Rate:
    """So many requests a second in the long run, and a burst of some at once, for each caller.

    Callers beyond `MOST_TRACKED` push out those who asked longest ago, who then begin with a full burst.
    """

    def __init__(self, per_s: float, burst: int) -> None:
        self._per_s = per_s
        self._burst = burst
        self._left: LRUCache[str, tuple[float, float]] = LRUCache(MOST_TRACKED)

    def wait_s(self, who: str, now_s: float) -> int | None:
        """Count a request: None when it may go on, else in how many whole seconds to come again."""
        left, since_s = self._left.get(who, (float(self._burst), now_s))
        left = min(float(self._burst), left + max(0.0, now_s - since_s) * self._per_s)
        if left >= 1:
            self._left[who] = (left - 1, now_s)
            return None
        self._left[who] = (left, now_s)
        return max(1, ceil((1 - left) / self._per_s))
