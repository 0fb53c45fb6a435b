"""When to try again, and when to give up. Pure."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import UTC, datetime
from email.utils import parsedate_to_datetime
from typing import Final

NS: Final = 1_000_000_000


@dataclass(frozen=True, slots=True)
class Schedule:
    """Waits that grow by a factor from the first to the longest, each by chance up to a fifth off that.

    `give_up_s`: after so long without success an event is not tried any more. By default some 16 attempts
    in three days.
    """

    first_s: float = 5.0
    factor: float = 3.0
    longest_s: float = 6 * 3600.0
    give_up_s: float = 3 * 86_400.0

    def wait_ns(self, attempts: int, chance: float) -> int:
        """How long to wait behind so many failed attempts; `chance` is from 0 up to 1."""
        grown = self.first_s * self.factor ** min(attempts - 1, 64)
        return int(min(grown, self.longest_s) * (0.8 + 0.4 * chance) * NS)

    def is_over(self, since_ns: int, now_ns: int) -> bool:
        """Whether what failed first at a time is to be given up."""
        return now_ns - since_ns >= self.give_up_s * NS


MOST_RETRY_AFTER_S: Final = 86_400


def retry_after_s(value: str | None, now_s: float) -> float:
    """The seconds that a Retry-After asks for (RFC 9110 10.2.3), a day at most; 0 for none or nonsense."""
    text = (value or "").strip()
    if text.isascii() and text.isdecimal():
        return float(min(int(text[:9]), MOST_RETRY_AFTER_S))
    try:
        asked = parsedate_to_datetime(text)
    except (TypeError, ValueError):
        return 0.0
    if asked.tzinfo is None:
        asked = asked.replace(tzinfo=UTC)
    wait = (asked - datetime.fromtimestamp(now_s, UTC)).total_seconds()
    return min(max(wait, 0.0), MOST_RETRY_AFTER_S)
