"""How often signed reading URLs of objects are given out: counted in memory, written down in batches."""

from __future__ import annotations

import asyncio
import logging
from collections import Counter
from collections.abc import AsyncIterator, Callable, Collection, Mapping
from contextlib import asynccontextmanager

from store.errors import Error
from store.metadata.protocol import Metadata

_log = logging.getLogger(__name__)
FLUSH_S = 15.0
BATCH = 500
"""Objects whose counts are written in one transaction."""
MOST = 100_000
"""Objects that are counted between two flushes; what goes beyond them is not."""


class Accesses:
    """Counts of this process that are not written down yet. A crash loses those of one interval."""

    def __init__(self, most: int = MOST) -> None:
        self._counts = Counter[str]()
        self._most = most

    def add(self, object_ids: Collection[str]) -> None:
        """Count signed URLs, each given by the id of its object."""
        if len(self._counts) + len(object_ids) <= self._most:
            self._counts.update(object_ids)
            return
        for object_id in object_ids:
            self._add(object_id, 1)

    def _add(self, object_id: str, urls: int) -> None:
        if object_id in self._counts or len(self._counts) < self._most:
            self._counts[object_id] += urls

    def take(self) -> Mapping[str, int]:
        """What was counted since the last time."""
        counts, self._counts = self._counts, Counter[str]()
        return counts

    async def flush(self, metadata: Metadata, now_ns: int) -> None:
        """Write down what was counted. What cannot be written now is kept for the next time."""
        counts = list(self.take().items())
        for first in range(0, len(counts), BATCH):
            try:
                await metadata.count_accesses(dict(counts[first : first + BATCH]), now_ns)
            except Error as exc:
                _log.warning("accesses wait to be written down: %s", exc)
                for object_id, urls in counts[first:]:
                    self._add(object_id, urls)
                return


@asynccontextmanager
async def flushing(
    accesses: Accesses, metadata: Metadata, now_ns: Callable[[], int], every_s: float = FLUSH_S
) -> AsyncIterator[None]:
    """Write counts down at intervals, and at the end."""

    async def run() -> None:
        while True:
            await asyncio.sleep(every_s)
            await accesses.flush(metadata, now_ns())

    task = asyncio.create_task(run(), name="accesses")
    try:
        yield
    finally:
        task.cancel()
        await asyncio.gather(task, return_exceptions=True)
        await accesses.flush(metadata, now_ns())
