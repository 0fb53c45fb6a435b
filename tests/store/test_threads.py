"""Blocking calls on threads are answered in time, and closing does not wait for those that hang."""

from __future__ import annotations

import asyncio
import contextlib
import threading
import weakref
from collections.abc import Callable
from functools import partial

import pytest

from store.threads import Closed, Crew, Lane, Late, Threads, to_its_end


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


async def test_a_crew_gives_what_a_call_returns_or_raises() -> None:
    crew = Crew(2, "test")

    def fail() -> None:
        raise KeyError("x")

    assert await crew.run(divmod, 7, 2) == (3, 1)
    with pytest.raises(KeyError):
        await crew.run(fail)
    assert await crew.run(divmod, 9, 2) == (4, 1)
    await crew.close()
    with pytest.raises(Closed):
        crew.run(divmod, 1, 1)


async def test_a_crew_makes_as_many_calls_at_once_as_it_has_threads() -> None:
    crew, together = Crew(3, "test"), threading.Barrier(3)
    await asyncio.gather(*(crew.run(together.wait, 30) for _ in range(3)))
    await crew.close()


async def test_a_crew_finishes_what_waits_when_it_closes_though_nobody_asks_for_it() -> None:
    crew, go, done = Crew(1, "test"), threading.Event(), list[int]()
    first = crew.run(go.wait, 30)
    rest = [crew.run(done.append, number) for number in range(3)]
    closing = asyncio.create_task(crew.close())
    go.set()
    await closing
    assert done == [0, 1, 2]
    assert await first and await asyncio.gather(*rest) == [None] * 3


async def test_a_crew_does_not_begin_a_call_that_was_cancelled() -> None:
    crew, go, done = Crew(1, "test"), threading.Event(), list[int]()
    first = crew.run(go.wait, 30)
    rest = [crew.run(done.append, number) for number in range(3)]
    assert rest[1].cancel()
    go.set()
    assert await first and await rest[0] is None and await rest[2] is None
    await crew.close()
    assert done == [0, 2] and rest[1].cancelled()


@pytest.mark.parametrize("error", [KeyError, SystemExit, KeyboardInterrupt, GeneratorExit])
async def test_whatever_a_call_raises_goes_to_its_caller(error: type[BaseException]) -> None:
    crew = Crew(1, "test")

    def fail() -> None:
        raise error("x")

    with pytest.raises(error):
        await crew.run(fail)
    assert await crew.run(divmod, 7, 2) == (3, 1)
    await crew.close()


async def test_a_call_that_raises_what_no_future_takes_is_answered() -> None:
    crew = Crew(1, "test")
    with pytest.raises(RuntimeError, match="StopIteration"):
        await crew.run(next, iter(()))
    await crew.close()


class Thing:
    """Something that can be watched."""


def given_back(thing: Thing) -> Thing:
    return thing


def refused(thing: Thing) -> Thing:
    raise KeyError(thing)


@pytest.mark.parametrize("call", [given_back, refused])
async def test_an_idle_crew_keeps_nothing_of_its_last_call(call: Callable[[Thing], Thing]) -> None:
    crew = Crew(1, "test")

    async def ask() -> threading.Event:
        thing, gone = Thing(), threading.Event()
        weakref.finalize(thing, gone.set)
        with contextlib.suppress(KeyError):
            await crew.run(call, thing)
        return gone

    gone = await ask()
    # The thread may be on its way to its next call yet.
    assert await asyncio.to_thread(gone.wait, 30)
    await crew.close()


async def test_a_lane_makes_one_call_after_the_other_and_tells_of_each_before_the_next() -> None:
    crew, seen = Crew(3, "test"), list[str]()
    lane = Lane(crew.tell)

    def call(name: str) -> str:
        seen.append(f"{name} made")
        if name == "b":
            raise KeyError
        return name

    def told(result: str | None, error: BaseException | None) -> None:
        seen.append(f"{result} told" if error is None else type(error).__name__)
        if result == "c":
            lane.put(partial(call, "d"), told)
            assert seen[-1] == "c told"

    for name in "abc":
        lane.put(partial(call, name), told)
    while lane.busy:
        await asyncio.sleep(0)
    assert seen == ["a made", "a told", "b made", "KeyError", "c made", "c told", "d made", "d told"]
    await crew.close()


async def test_a_lane_tells_all_who_wait_that_its_crew_has_closed() -> None:
    crew, go, told = Crew(1, "test"), threading.Event(), list[BaseException | None]()
    lane = Lane(crew.tell)
    for _ in range(1500):
        lane.put(lambda: go.wait(30), lambda result, error: told.append(error))
    closing = asyncio.create_task(crew.close())
    await asyncio.sleep(0)
    go.set()
    await closing
    while lane.busy:
        await asyncio.sleep(0)
    assert len(told) == 1500 and told[0] is None and {type(error) for error in told[1:]} == {Closed}


async def test_a_crew_goes_on_after_a_thread_that_could_not_be_started(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    def fail(_: threading.Thread) -> None:
        raise RuntimeError("can't start new thread")

    crew = Crew(2, "test")
    with monkeypatch.context() as patch:
        patch.setattr(threading.Thread, "start", fail)
        with pytest.raises(RuntimeError):
            crew.run(divmod, 7, 2)
    assert await crew.run(divmod, 7, 2) == (3, 1)
    await crew.close()


async def test_who_is_cancelled_is_told_when_the_thread_has_ended() -> None:
    begun, may_end = threading.Event(), threading.Event()

    def work() -> None:
        begun.set()
        may_end.wait(30)
        raise KeyError

    failed: list[BaseException] = []
    crew = Crew(1, "test")
    asking = asyncio.ensure_future(to_its_end(crew.keep(work), failed.append))
    assert await asyncio.to_thread(begun.wait, 30)
    for _ in range(3):
        asking.cancel()
        for _ in range(5):
            await asyncio.sleep(0)
        assert not asking.done()
    may_end.set()
    with pytest.raises(asyncio.CancelledError):
        await asking
    assert [type(error) for error in failed] == [KeyError]
    await crew.close()
