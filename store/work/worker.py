"""The loop that background jobs run in."""

from __future__ import annotations

import asyncio
import contextlib
import logging
from collections.abc import AsyncIterator, Awaitable, Callable
from dataclasses import dataclass

from store.core import Store
from store.errors import Error
from store.metadata.protocol import Stale

_log = logging.getLogger(__name__)
LEASE_NS = 60 * 1_000_000_000
RENEW_S = 20.0


@dataclass(frozen=True, slots=True)
class Job:
    """A job: how often it looks for work, and what it does. `run` says whether it did anything and would
    at once find more.

    A run may be cut off anywhere, and, when a lease is lost, overlap with the next: it must be repeatable.
    """

    name: str
    every_s: float
    run: Callable[[Store], Awaitable[bool]]


class Worker:
    """Runs jobs, each in one process at a time. `holder` names this process in the leases.

    `succeeded_ns`: when a job last ended well here; `failures`: how often one did not.
    """

    def __init__(self, store: Store, jobs: tuple[Job, ...], holder: str) -> None:
        self._store = store
        self._jobs = jobs
        self._holder = holder
        self._tasks: list[asyncio.Task[None]] = []
        self.succeeded_ns: dict[str, int] = {}
        self.failures = {job.name: 0 for job in jobs}

    def start(self) -> None:
        """Begin, on the running loop."""
        self._tasks = [asyncio.create_task(self._loop(job), name=job.name) for job in self._jobs]

    async def stop(self) -> None:
        """Cut off what is going on; leases are given back."""
        for task in self._tasks:
            task.cancel()
        for task in self._tasks:
            with contextlib.suppress(asyncio.CancelledError):
                await task
        # One that was being taken when it was cut off is held by nobody who knows of it.
        for job in self._jobs:
            try:
                await self._lease(job.name, 0)
            except Error as exc:
                _log.warning("%s: the lease could not be given back: %s", job.name, exc)

    async def _loop(self, job: Job) -> None:
        while True:
            busy = await self.step(job)
            if not busy:
                await asyncio.sleep(job.every_s)

    async def step(self, job: Job) -> bool:
        """One turn under the job's lease; a failure is logged, and tried again at the next turn."""
        try:
            async with self._held(job.name) as held:
                more = held and await job.run(self._store)
            if held:
                self.succeeded_ns[job.name] = self._store.now_ns()
            return more
        except (Error, Stale) as exc:
            _log.warning("%s: %s", job.name, exc)
        # A fault in one turn must not end all later ones: nobody would notice that nothing is deleted.
        except Exception:
            _log.exception("%s", job.name)
        self.failures[job.name] = self.failures.get(job.name, 0) + 1
        return False

    @contextlib.asynccontextmanager
    async def _held(self, name: str) -> AsyncIterator[bool]:
        """Whether the lease was to be had; it is renewed for as long as it is held."""
        if not await self._lease(name, LEASE_NS):
            yield False
            return
        renewing = asyncio.create_task(self._renew(name))
        try:
            yield True
        finally:
            renewing.cancel()
            # Not by suppressing its cancellation: one of this task that comes now would be lost with it.
            await asyncio.wait([renewing])
            await self._lease(name, 0)

    async def _renew(self, name: str) -> None:
        while True:
            await asyncio.sleep(RENEW_S)
            try:
                await self._lease(name, LEASE_NS)
            except Error as exc:
                _log.warning("%s: the lease could not be renewed: %s", name, exc)

    async def _lease(self, name: str, duration_ns: int) -> bool:
        now_ns = self._store.now_ns()
        return await self._store.metadata.lease(name, self._holder, now_ns, now_ns + duration_ns)
