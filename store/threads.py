"""Blocking calls on a few threads. Whoever waits is answered in time, also where the other side sends a byte
now and then, so that no timeout of a socket ever passes; the thread is lost until it stops."""

from __future__ import annotations

import asyncio
import concurrent.futures
from collections.abc import Callable
from concurrent.futures import Future, ThreadPoolExecutor
from typing import Any, ParamSpec, TypeVar

P = ParamSpec("P")
T = TypeVar("T")


class Late(Exception):
    """A call has not ended in its time; it may yet."""


class Closed(Exception):
    """No more calls are taken."""


class Threads:
    """So many threads for blocking calls, made as they are needed."""

    def __init__(self, count: int, name: str) -> None:
        self._pool = ThreadPoolExecutor(count, thread_name_prefix=name)
        self._running: set[Future[Any]] = set()

    async def run(self, within_s: float, call: Callable[P, T], *args: P.args, **kwargs: P.kwargs) -> T:
        """What the call returns. Raises what it raises, `Late` after `within_s`, and `Closed`; a call
        that has not begun by then never does."""
        waiting = asyncio.wrap_future(self.later(call, *args, **kwargs))
        try:
            await asyncio.wait((waiting,), timeout=within_s)
        finally:
            ended = waiting.done() or not waiting.cancel()
        if not ended:
            raise Late
        return waiting.result()

    def later(self, call: Callable[P, T], *args: P.args, **kwargs: P.kwargs) -> Future[T]:
        """Make a call that nobody need wait for. Raises `Closed`."""
        try:
            running = self._pool.submit(call, *args, **kwargs)
        except RuntimeError as exc:
            raise Closed from exc
        self._running.add(running)
        running.add_done_callback(self._running.discard)
        return running

    async def close(self, within_s: float) -> None:
        """Take no more calls, and wait a while for those there are."""
        self._pool.shutdown(wait=False)
        if self._running:
            await asyncio.to_thread(concurrent.futures.wait, self._running.copy(), within_s)
