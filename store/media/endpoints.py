"""Which of a service's addresses to use: the healthy ones, watched by a thread of their own."""

from __future__ import annotations

import threading
import zlib
from collections.abc import Callable


class Endpoints:
    """Indices of addresses, those that answered their last probe first.

    Starts out trusting all. With a single address there is nothing to choose, and `beat` is all that is
    watched.
    """

    def __init__(
        self,
        count: int,
        probe: Callable[[int], bool],
        *,
        beat: Callable[[], None] | None,
        every_s: float,
    ) -> None:
        """`probe` says whether an address answers, and is called from the thread, as is `beat`, once in
        `every_s` seconds. Neither raises."""
        self._probe = probe
        self._beat = beat
        self._every_s = every_s
        self._all = tuple(range(count))
        self._healthy = self._all
        self._down: set[int] = set()
        self._lock = threading.Lock()
        self._stopped = threading.Event()
        self._thread: threading.Thread | None = None
        if count > 1 or beat is not None:
            self._thread = threading.Thread(target=self._watch, name="media-endpoints", daemon=True)
            self._thread.start()

    @property
    def healthy(self) -> tuple[int, ...]:
        """Those that answer; all of them when none does, since a wrong verdict must not make an outage."""
        return self._healthy

    def of(self, key: str) -> int:
        """The healthy address for a key: keys are spread evenly, one key stays where it is."""
        healthy = self._healthy
        return healthy[zlib.crc32(key.encode()) % len(healthy)] if len(healthy) > 1 else healthy[0]

    def failed(self, index: int) -> None:
        """Do without this address until a probe succeeds."""
        self._set(index, False)

    def probe_all(self) -> list[bool]:
        """Probe now; what each address said."""
        answers = [self._probe(index) for index in self._all]
        for index, answer in enumerate(answers):
            self._set(index, answer)
        return answers

    def close(self) -> None:
        """Stop watching; waits for a probe that is under way."""
        self._stopped.set()
        if self._thread is not None:
            self._thread.join()

    def _watch(self) -> None:
        while not self._stopped.wait(self._every_s):
            if self._beat is not None:
                self._beat()
            if len(self._all) > 1:
                self.probe_all()

    def _set(self, index: int, answers: bool) -> None:
        with self._lock:
            (self._down.discard if answers else self._down.add)(index)
            self._healthy = tuple(each for each in self._all if each not in self._down) or self._all
