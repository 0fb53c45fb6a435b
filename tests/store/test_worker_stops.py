"""A worker that is told to stop does, whatever it is at."""

from __future__ import annotations

import asyncio

from store.core import Store
from store.work.worker import Job, Worker
from tests.store.harness import Tams


async def test_a_worker_that_is_stopped_while_a_job_ends_does_not_go_on(tams: Tams) -> None:
    turns = 0
    ended = asyncio.Event()

    async def run(_: Store) -> bool:
        nonlocal turns
        turns += 1
        # Comes when the turn is over and its lease is being given back.
        asyncio.get_running_loop().call_soon(ended.set)
        asyncio.get_running_loop().call_soon(task.cancel)
        return True

    worker = Worker(tams.store, (), "holder")
    task = asyncio.create_task(worker._loop(Job("job", 0.0, run)))
    async with asyncio.timeout(10):
        await ended.wait()
        await asyncio.wait([task])
    assert task.cancelled()
    assert turns == 1
