"""Blocking calls on threads are answered in time, and closing does not wait for those that hang."""

from __future__ import annotations

import asyncio
import threading

import pytest

from store.threads import Closed, Late, Threads


async def test_a_call_gives_what_it_returns_or_raises() -> None:
    threads = Threads(2, "test")

    def fail() -> None:
        raise KeyError("x")

    assert await threads.run(30, divmod, 7, 2) == (3, 1)
    with pytest.raises(KeyError):
        await threads.run(30, fail)
    await threads.close(30)


async def test_who_waits_is_answered_though_the_call_hangs() -> None:
    threads, release, began = Threads(1, "test"), threading.Event(), []

    def hang() -> None:
        began.append(1)
        release.wait()

    try:
        with pytest.raises(Late):
            await threads.run(0.01, hang)
        # The one thread is lost until then: this call never begins.
        with pytest.raises(Late):
            await threads.run(0.01, began.append, 2)
        await threads.close(0.01)
        with pytest.raises(Closed):
            await threads.run(30, began.append, 3)
    finally:
        release.set()
    await threads.close(30)
    assert began == [1]


async def test_a_failure_of_the_call_is_told_apart_from_being_late() -> None:
    threads = Threads(1, "test")

    def time_out() -> None:
        raise TimeoutError("the call's own")

    with pytest.raises(TimeoutError, match="own"):
        await threads.run(30, time_out)
    await threads.close(30)


async def test_a_caller_who_goes_away_takes_along_what_has_not_begun() -> None:
    threads, release, done = Threads(1, "test"), threading.Event(), []
    first = asyncio.ensure_future(threads.run(30, release.wait))
    second = asyncio.ensure_future(threads.run(30, done.append, 2))
    await asyncio.sleep(0)
    second.cancel()
    with pytest.raises(asyncio.CancelledError):
        await second
    release.set()
    await first
    await threads.close(30)
    assert done == []
