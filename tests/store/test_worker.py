"""The loop of background jobs: leases, faults, and stopping."""

from __future__ import annotations

import asyncio
import logging

import pytest

from store.core import Store
from store.errors import Unavailable
from store.work import worker
from store.work.worker import Job, Worker
from tests.store.harness import Tams


async def free(tams: Tams, name: str) -> bool:
    """Whether nobody holds a lease."""
    now_ns = tams.store.now_ns()
    taken = await tams.store.metadata.lease(name, "test", now_ns, now_ns + 1)
    await tams.store.metadata.lease(name, "test", now_ns, now_ns)
    return taken


async def test_a_job_runs_in_one_process_at_a_time(tams: Tams) -> None:
    running, most, turns = 0, 0, 0
    enough = asyncio.Event()

    async def run(store: Store) -> bool:
        nonlocal running, most, turns
        running += 1
        most = max(most, running)
        try:
            await store.metadata.check()
        finally:
            running -= 1
        turns += 1
        if turns == 20:
            enough.set()
        return True

    job = Job("one", 0.0, run)
    workers = [Worker(tams.store, (job,), f"process {number}") for number in range(4)]
    for each in workers:
        each.start()
    await asyncio.wait_for(enough.wait(), 60)
    for each in workers:
        await each.stop()
    assert most == 1
    assert await free(tams, "one")


@pytest.mark.parametrize("fault", [Unavailable("The database is down."), KeyError("ours")])
async def test_a_job_that_fails_is_tried_again(
    tams: Tams, fault: Exception, caplog: pytest.LogCaptureFixture
) -> None:
    turns = 0
    again = asyncio.Event()

    async def run(store: Store) -> bool:
        nonlocal turns
        turns += 1
        if turns == 1:
            raise fault
        again.set()
        return False

    each = Worker(tams.store, (Job("failing", 0.0, run),), "process")
    with caplog.at_level(logging.WARNING):
        each.start()
        await asyncio.wait_for(again.wait(), 60)
        await each.stop()
    assert "failing" in caplog.text


async def test_a_lease_is_renewed_for_as_long_as_its_job_runs(
    tams: Tams, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(worker, "RENEW_S", 0.001)
    until: list[int] = []
    renewed = asyncio.Event()
    lease = tams.store.metadata.lease

    async def watched(name: str, holder: str, now_ns: int, until_ns: int) -> bool:
        until.append(until_ns)
        if len(until) == 4:
            renewed.set()
        return await lease(name, holder, now_ns, until_ns)

    monkeypatch.setattr(tams.store.metadata, "lease", watched)

    async def run(store: Store) -> bool:
        await asyncio.wait_for(renewed.wait(), 60)
        return False

    await Worker(tams.store, (), "process").step(Job("long", 1.0, run))
    assert until[:3] == sorted(until[:3]) and len(set(until[:3])) == 3
    monkeypatch.undo()
    assert await free(tams, "long")


async def test_stopping_cuts_a_job_off_and_gives_its_lease_back(tams: Tams) -> None:
    begun, never = asyncio.Event(), asyncio.Event()

    async def run(store: Store) -> bool:
        begun.set()
        await never.wait()
        return False

    each = Worker(tams.store, (Job("endless", 1.0, run),), "process")
    each.start()
    await asyncio.wait_for(begun.wait(), 60)
    assert not await free(tams, "endless")
    await each.stop()
    assert await free(tams, "endless")
