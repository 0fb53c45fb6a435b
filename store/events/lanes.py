"""In which order the events of one webhook are delivered. It decides, its caller acts; no clock, no I/O.

Each flow is a lane: what happened to it goes out in order, one at a time, and does not wait for other flows.
Failures hold back the lane they are in. When nothing succeeds any more they hold back the webhook: then one
lane at a time is tried, so that a receiver that is down is not kept busy with all of them.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable
from dataclasses import dataclass, field
from heapq import heappop, heappush

from store.events.progress import Progress, Result, Retry
from store.events.schedule import NS, Schedule

POSTPONED_NS = 2 * NS


@dataclass(slots=True)
class _Lane:
    waiting: deque[int] = field(default_factory=deque)
    busy: bool = False


class Lanes:
    """The events of one webhook that are on their way. `room`: how many may wait; `chance` gives numbers
    from 0 up to 1."""

    def __init__(
        self, progress: Progress, schedule: Schedule, room: int, chance: Callable[[], float]
    ) -> None:
        self.reached = progress.cursor
        self._schedule = schedule
        self._room = room
        self._chance = chance
        self._done = set(progress.done)
        self._retries = dict(progress.retries)
        self._streak = progress.streak
        self._resume_ns = progress.resume_ns
        self._streak_before: dict[int, int] = {}
        self._order: deque[int] = deque()
        self._open: dict[int, str] = {}
        self._lanes: dict[str, _Lane] = {}
        self._ready: list[tuple[int, int]] = []
        self._later: list[tuple[int, int]] = []
        self._going = 0

    @property
    def cursor(self) -> int:
        """Everything up to here is dealt with."""
        return self._order[0] - 1 if self._order else self.reached

    @property
    def free(self) -> int:
        """How many more may be offered."""
        return self._room - len(self._order)

    @property
    def going(self) -> int:
        """How many are being delivered."""
        return self._going

    @property
    def failing_since_ns(self) -> int | None:
        """Since when the longest failing event has not gone through."""
        return min((retry.since_ns for retry in self._retries.values()), default=None)

    def attempts(self, sequence: int) -> int:
        """How often an event was tried."""
        retry = self._retries.get(sequence)
        return retry.attempts if retry else 0

    def skip(self, sequence: int) -> None:
        """The next event is not for this webhook."""
        self.reached = sequence

    def offer(self, sequence: int, lane: str) -> None:
        """The next event is to be delivered, unless it was already."""
        self.reached = sequence
        if sequence in self._done and not self._order:
            self._done.discard(sequence)
            return
        self._order.append(sequence)
        if sequence in self._done:
            return
        self._open[sequence] = lane
        waiting = self._lanes.setdefault(lane, _Lane()).waiting
        waiting.append(sequence)
        if len(waiting) == 1:
            self._schedule_head(sequence)

    def take(self, now_ns: int, most: int) -> list[int]:
        """Events to be delivered now, so that at most so many are under way."""
        if self._streak:
            most = 1 if now_ns >= self._resume_ns else 0
        while self._later and self._later[0][0] <= now_ns:
            sequence = heappop(self._later)[1]
            heappush(self._ready, (self.attempts(sequence), sequence))
        taken = []
        while self._ready and self._going < most:
            sequence = heappop(self._ready)[1]
            self._lanes[self._open[sequence]].busy = True
            self._streak_before[sequence] = self._streak
            self._going += 1
            taken.append(sequence)
        return taken

    def next_ns(self) -> int | None:
        """When there may be something to take that there is not yet; None: when something changes."""
        if self._streak and self._going:
            return None
        if self._ready and self._streak:
            return self._resume_ns
        if not self._later:
            return None
        return max(self._later[0][0], self._resume_ns if self._streak else 0)

    def settled(self, sequence: int, *, delivered: bool) -> None:
        """An event is through, or, not `delivered`, turned out to be none for this webhook."""
        if delivered:
            self._streak = 0
        self._retries.pop(sequence, None)
        lane = self._open.pop(sequence)
        del self._streak_before[sequence]
        self._going -= 1
        held = self._lanes[lane]
        held.busy = False
        held.waiting.popleft()
        if held.waiting:
            self._schedule_head(held.waiting[0])
        else:
            del self._lanes[lane]
        self._done.add(sequence)
        while self._order and self._order[0] in self._done:
            self._done.discard(self._order.popleft())

    def failed(self, sequence: int, now_ns: int, wait_s: float = 0.0) -> None:
        """An attempt failed; the receiver asked not to come back before `wait_s` have passed."""
        known = self._retries.get(sequence)
        attempts = self.attempts(sequence) + 1
        asked_ns = now_ns + int(wait_s * NS)
        next_ns = max(asked_ns, now_ns + self._schedule.wait_ns(attempts, self._chance()))
        self._retries[sequence] = Retry(attempts, known.since_ns if known else now_ns, next_ns)
        # What was under way at the same time tells nothing new: a receiver that is down for a moment would
        # otherwise be left alone for hours.
        if self._streak_before[sequence] == self._streak:
            self._streak += 1
            self._resume_ns = max(asked_ns, now_ns + self._schedule.wait_ns(self._streak, self._chance()))
        else:
            self._resume_ns = max(asked_ns, self._resume_ns)
        self._again(sequence, next_ns)

    def postponed(self, sequence: int, now_ns: int) -> None:
        """It could not be tried, through no fault of the receiver."""
        self._again(sequence, now_ns + POSTPONED_NS)

    def is_given_up(self, now_ns: int) -> bool:
        """Whether something has failed for too long."""
        since_ns = self.failing_since_ns
        return since_ns is not None and self._schedule.is_over(since_ns, now_ns)

    def progress(self, results: tuple[Result, ...]) -> Progress:
        """How far it has come."""
        retries = tuple(sorted(self._retries.items()))
        cursor = self.cursor
        done = frozenset(number for number in self._done if number > cursor)
        return Progress(cursor, done, retries, self._streak, self._resume_ns, results)

    def _again(self, sequence: int, next_ns: int) -> None:
        self._lanes[self._open[sequence]].busy = False
        del self._streak_before[sequence]
        self._going -= 1
        heappush(self._later, (next_ns, sequence))

    def _schedule_head(self, sequence: int) -> None:
        retry = self._retries.get(sequence)
        if retry is None:
            heappush(self._ready, (0, sequence))
        else:
            heappush(self._later, (retry.next_ns, sequence))
