"""The loop that background jobs run in."""

from __future__ import annotations

import asyncio
import contextlib
import logging
from collections.abc import Awaitable, Callable
from dataclasses import dataclass

from store.core import Store
from store.errors import Error
from store.metadata.protocol import Stale

_log = logging.getLogger(__name__)
LEASE_NS = 60 * 1_000_000_000


@dataclass(frozen=True, slots=True)
class Job:
    """A job: how often it looks for work, and what it does. `run` says whether it did anything and would
    at once find more."""

    name: str
    every_s: float
    run: Callable[[Store], Awaitable[bool]]


class Worker:
    """Runs jobs, each in one process at a time. `holder` names this process in the leases."""

    def __init__(self, store: Store, jobs: tuple[Job, ...], holder: str) -> None:
        self._store = store
        self._jobs = jobs
        self._holder = holder
        self._wake = asyncio.Event()
        self._tasks: list[asyncio.Task[None]] = []

    def start(self) -> None:
        """Begin, on the running loop."""
        self._tasks = [asyncio.create_task(self._loop(job), name=job.name) for job in self._jobs]

    async def stop(self) -> None:
        """End after the step in hand."""
        for task in self._tasks:
            task.cancel()
        for task in self._tasks:
            with contextlib.suppress(asyncio.CancelledError):
                await task

    async def _loop(self, job: Job) -> None:
        while True:
            busy = await self.step(job)
            if not busy:
                await asyncio.sleep(job.every_s)

    async def step(self, job: Job) -> bool:
        """One turn under the job's lease; a failure is logged, and tried again at the next turn."""
        now_ns = self._store.now_ns()
        lease = (job.name, self._holder)
        try:
            if not await self._store.metadata.lease(*lease, now_ns, now_ns + LEASE_NS):
                return False
            try:
                return await job.run(self._store)
            finally:
                await self._store.metadata.lease(*lease, now_ns, now_ns)
        except (Error, Stale) as exc:
            _log.warning("%s: %s", job.name, exc)
            return False
