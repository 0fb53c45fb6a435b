"""One thread at a time is at a hot log, also when its caller has gone: nothing is taken in twice."""

from __future__ import annotations

import asyncio
import logging
import os
import threading
import time
from collections.abc import AsyncIterator, Awaitable, Callable
from functools import partial
from pathlib import Path
from typing import Any

import pytest

from store.errors import Unavailable
from store.streams.entries import entries_of
from store.streams.hot import HotFolder, Sizes
from store.streams.log import HotLog
from store.streams.records import Head, read_hot_tail
from store.threads import Crew, Told

WAIT_S = 30
"""Far more than anything takes; what hangs fails."""


class Stage:
    """The threads of a log. `told`: what was asked of them and what has ended. Calls of the name in `held`
    wait for `go`, and set `began`. `exhausted`: no thread can be had."""

    def __init__(self) -> None:
        self.crew = Crew(2, "test")
        self.exhausted = False
        self.told: list[str] = []
        self.held: str | None = None
        self.began = threading.Event()
        self.go = threading.Event()

    def tell(self, call: Callable[[], Any], told: Told) -> None:
        """As `Crew.tell`."""
        self.told.append(f"{_name(call)} asked")
        if self.exhausted:
            raise RuntimeError("can't start new thread")
        self.crew.tell(partial(self._made, call), told)

    def _made(self, call: Callable[[], Any]) -> Any:
        name = _name(call)
        try:
            if name == self.held:
                self.hold()
            return call()
        finally:
            self.told.append(f"{name} ended")

    def hold(self) -> None:
        """Wait for leave, on a thread."""
        self.began.set()
        assert self.go.wait(WAIT_S)

    async def begun(self) -> None:
        """A thread is held."""
        assert await asyncio.to_thread(self.began.wait, WAIT_S)


def _name(call: Callable[[], Any]) -> str:
    made = call.func if isinstance(call, partial) else call
    return str(made.__name__)


@pytest.fixture
async def stage() -> AsyncIterator[Stage]:
    made = Stage()
    yield made
    made.go.set()
    await made.crew.close()


@pytest.fixture
async def log(stage: Stage, tmp_path: Path) -> AsyncIterator[HotLog]:
    """A log of which another process has appended an entry that this one has not taken in."""
    made = await opened(stage, tmp_path)
    await appended_elsewhere(stage, tmp_path)
    stage.told.clear()
    yield made
    stage.go.set()
    await made.close()


async def opened(stage: Stage, folder: Path) -> HotLog:
    log = HotLog(HotFolder(folder / "hot" / "s", Sizes()), stage.tell, time.time_ns)
    await log.open(first)
    return log


async def first() -> Head:
    return Head(0, 0, 0)


async def appended_elsewhere(stage: Stage, folder: Path) -> None:
    other = await opened(stage, folder)
    await other.submit(entries_of([b"theirs"]))
    await other.close()


async def turns() -> None:
    """Let the loop do whatever it can without a thread."""
    for _ in range(20):
        await asyncio.sleep(0)


async def cancelled(task: asyncio.Task[Any]) -> None:
    """Cancel a task again and again, as whoever hurries does."""
    for _ in range(3):
        task.cancel()
        await turns()


async def entries_in(log: HotLog) -> list[bytes]:
    """All that is not sealed, by what is in memory; the index that sealing would write says the same."""
    assert await log.rotate(0)
    file = log.files[-2]
    file.finish()
    index = read_hot_tail(file.path.read_bytes())
    assert index.ids == sorted(set(file.ids)) and index.lengths == file.lengths
    page = log.read(0, 100, 1 << 20)
    assert page is not None and page.ids == file.ids
    return [data for _, data in page.entries()]


async def test_a_refresh_that_is_cancelled_while_its_thread_reads_takes_nothing_in_twice(
    log: HotLog, stage: Stage, monkeypatch: pytest.MonkeyPatch
) -> None:
    sync = os.fdatasync

    def held_once(fd: int) -> None:
        # The thread has read the records by now, and has not made them known.
        if not stage.began.is_set():
            stage.hold()
        sync(fd)

    monkeypatch.setattr(os, "fdatasync", held_once)
    refresh = asyncio.create_task(log.refresh())
    await stage.begun()
    await cancelled(refresh)
    pushed = log.submit(entries_of([b"ours"]))
    await turns()
    assert stage.told == ["refresh asked"]
    stage.go.set()
    await pushed
    assert refresh.cancelled()
    assert stage.told == ["refresh asked", "refresh ended", "append asked", "append ended"]
    assert await entries_in(log) == [b"theirs", b"ours"]


async def test_a_refresh_that_is_cancelled_while_it_waits_for_a_thread_takes_nothing_in_twice(
    log: HotLog, stage: Stage
) -> None:
    others = [stage.crew.run(stage.go.wait, WAIT_S) for _ in range(2)]
    refresh = asyncio.create_task(log.refresh())
    await turns()
    await cancelled(refresh)
    pushed = log.submit(entries_of([b"ours"]))
    await turns()
    assert stage.told == ["refresh asked"]
    stage.go.set()
    await asyncio.gather(*others, pushed)
    assert refresh.cancelled()
    assert stage.told == ["refresh asked", "refresh ended", "append asked", "append ended"]
    assert await entries_in(log) == [b"theirs", b"ours"]


async def test_what_a_cancelled_refresh_took_in_is_told_to_those_who_wait(log: HotLog, stage: Stage) -> None:
    stage.held = "refresh"
    refresh = asyncio.create_task(log.refresh())
    await stage.begun()
    await cancelled(refresh)
    with log.waiters.waiting() as woken:
        stage.go.set()
        await asyncio.wait([refresh])
        assert woken.is_set() and not log.is_behind()
        assert await entries_in(log) == [b"theirs"]


CALLS: dict[str, Callable[[HotLog], Awaitable[Any]]] = {
    "open": lambda log: log.open(first),
    "refresh": lambda log: log.refresh(),
    "rotate": lambda log: log.rotate(0),
    "drop": lambda log: log.drop([]),
    "remove": lambda log: log.remove(),
}


@pytest.mark.parametrize("name", CALLS)
async def test_a_log_is_in_use_until_the_thread_of_a_cancelled_call_has_ended(
    log: HotLog, stage: Stage, name: str
) -> None:
    stage.held = name
    task = asyncio.ensure_future(CALLS[name](log))
    await stage.begun()
    assert isinstance(task, asyncio.Task)
    await cancelled(task)
    assert log.is_used and not task.done() and stage.told == [f"{name} asked"]
    stage.go.set()
    await asyncio.wait([task])
    assert task.cancelled() and not log.is_used and stage.told == [f"{name} asked", f"{name} ended"]
    assert log.is_gone == (name == "remove")


async def test_a_log_is_in_use_until_what_was_pushed_is_there_though_the_pusher_has_gone(
    log: HotLog, stage: Stage
) -> None:
    stage.held = "append"
    pushed = log.submit(entries_of([b"ours"]))
    await stage.begun()
    assert pushed.cancel()
    await turns()
    with log.waiters.waiting() as woken:
        assert log.is_used and stage.told == ["append asked"]
        stage.go.set()
        await woken.wait()
    assert not log.is_used and stage.told == ["append asked", "append ended"]
    assert await entries_in(log) == [b"theirs", b"ours"]


async def test_a_commit_is_on_its_way_before_whoever_pushes_does_anything_else(
    log: HotLog, stage: Stage
) -> None:
    stage.held = "append"
    first, *rest = [log.submit(entries_of([b"%d" % number])) for number in range(3)]
    # What comes meanwhile shares the next one.
    assert stage.told == ["append asked"]
    stage.go.set()
    await asyncio.gather(first, *rest)
    assert stage.told == ["append asked", "append ended"] * 2
    assert await entries_in(log) == [b"theirs", b"0", b"1", b"2"]


async def test_a_fault_while_writing_is_told_to_who_pushes_and_the_next_is_taken(
    log: HotLog, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    def append(*_: Any) -> Any:
        raise ZeroDivisionError

    with monkeypatch.context() as patch:
        append.__name__ = "append"
        patch.setattr(HotFolder, "append", append)
        first, second = log.submit(entries_of([b"a"])), log.submit(entries_of([b"b"]))
        found = await asyncio.gather(first, second, return_exceptions=True)
    assert [type(error) for error in found] == [Unavailable, Unavailable]
    assert "ZeroDivisionError" in caplog.text
    await log.submit(entries_of([b"ours"]))
    assert await entries_in(log) == [b"theirs", b"ours"]


async def test_where_no_thread_can_be_had_who_pushes_is_told_and_the_next_is_taken(
    log: HotLog, stage: Stage
) -> None:
    stage.exhausted = True
    found = [log.submit(entries_of([b"a"])), log.submit(entries_of([b"b"]))]
    outcomes = await asyncio.gather(*found, log.rotate(0), return_exceptions=True)
    assert [type(error) for error in outcomes] == [Unavailable, Unavailable, RuntimeError]
    stage.exhausted = False
    await log.submit(entries_of([b"ours"]))
    assert await entries_in(log) == [b"theirs", b"ours"] and not log.is_used


async def test_who_pushes_is_told_though_tidying_up_fails(
    log: HotLog, monkeypatch: pytest.MonkeyPatch
) -> None:
    def fail(_: HotFolder) -> None:
        raise OSError

    faults: list[Any] = []
    asyncio.get_running_loop().set_exception_handler(lambda _, context: faults.append(context["exception"]))
    with monkeypatch.context() as patch:
        patch.setattr(HotFolder, "close_retired", fail)
        await log.submit(entries_of([b"a"]))
        await log.submit(entries_of([b"b"]))
    assert await entries_in(log) == [b"theirs", b"a", b"b"]
    assert [type(error) for error in faults] == [OSError, OSError]


async def test_a_file_that_another_process_dropped_is_closed_once(log: HotLog) -> None:
    await log.submit(entries_of([b"ours"]))
    assert await log.rotate(0)
    first, last = log.files
    with log.sealing():
        first.path.unlink()
        await log.refresh()
        assert log.files == (last,)
        await log.drop([first])
        assert log._folder.retired == [first]
    with pytest.raises(OSError):
        os.fstat(first.fd)


async def test_only_what_is_new_wakes_those_who_wait(log: HotLog) -> None:
    with log.waiters.waiting() as woken:
        await log.refresh()
        assert woken.is_set()
        woken.clear()
        assert await log.rotate(0)
        await log.drop(log.files[:-1])
        assert not woken.is_set()
        await log.submit(entries_of([b"ours"]))
        assert woken.is_set()
        woken.clear()
        await log.remove()
        assert woken.is_set()


async def test_a_log_is_in_use_until_whoever_asked_has_gone_on(log: HotLog, stage: Stage) -> None:
    stage.held = "refresh"
    refresh = asyncio.create_task(log.refresh())
    await stage.begun()
    stage.go.set()
    while not refresh.done():
        assert log.is_used
        await asyncio.sleep(0)
    assert not log.is_used


async def test_a_failure_that_nobody_waits_for_any_more_is_logged(
    log: HotLog, stage: Stage, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    def refresh(_: HotFolder) -> None:
        raise Unavailable("The disk is gone.")

    monkeypatch.setattr(HotFolder, "refresh", refresh)
    stage.held = "refresh"
    task = asyncio.create_task(log.refresh())
    await stage.begun()
    await cancelled(task)
    with caplog.at_level(logging.WARNING):
        stage.go.set()
        await asyncio.wait([task])
    assert task.cancelled()
    assert [record.name for record in caplog.records] == ["store.streams.log"]
    assert "The disk is gone." in caplog.text
