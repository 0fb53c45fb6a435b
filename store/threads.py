"""Blocking calls on a few threads. Whoever waits is answered in time, also where the other side sends a byte
now and then, so that no timeout of a socket ever passes; the thread is lost until it stops."""

from __future__ import annotations

import asyncio
import concurrent.futures
import contextlib
import threading
from collections import deque
from collections.abc import Callable
from concurrent.futures import Future, ThreadPoolExecutor
from functools import partial
from queue import SimpleQueue
from typing import Any, ParamSpec, TypeVar

P = ParamSpec("P")
T = TypeVar("T")
Told = Callable[[Any, BaseException | None], None]
"""Is told on the loop what a call returned, or what it raised."""
Tell = Callable[[Callable[[], Any], Told], None]
"""Makes a call elsewhere; see `Crew.tell`."""


class Late(Exception):
    """A call has not ended in its time; it may yet."""


class Closed(Exception):
    """No more calls are taken."""


class Kept(asyncio.Future[T]):
    """What a thread's work comes to. A task that waits for it may be cancelled, however often, and is told so
    when the thread has ended: until then what the thread works on stays its own."""

    def cancel(self, msg: Any = None) -> bool:
        """Not done: a task that waits goes on waiting, and is cancelled then."""
        return False


async def to_its_end(work: Kept[T], failed: Callable[[BaseException], None]) -> T:
    """What a thread's work comes to. `failed` is told what nobody else will be, where whoever waits was
    cancelled meanwhile."""
    try:
        return await work
    except asyncio.CancelledError:
        if (error := work.exception()) is not None:
            failed(error)
        raise


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


class Crew:
    """So many threads for the short blocking calls of one event loop, made as they are needed.

    A call takes half the time here that it takes an executor: what came of it is handed on on the loop, with
    no other future and no lock between.
    """

    def __init__(self, count: int, name: str) -> None:
        self._most = count
        self._name = name
        self._calls: SimpleQueue[_Call | None] = SimpleQueue()
        self._threads: list[threading.Thread] = []
        self._pending = 0
        self._closed = False

    def run(self, call: Callable[P, T], *args: P.args, **kwargs: P.kwargs) -> asyncio.Future[T]:
        """What the call returns, or raises. One that was cancelled before it began is not made; one that has
        begun goes on. Raises `Closed`."""
        future: asyncio.Future[T] = asyncio.get_running_loop().create_future()
        self._begin(partial(call, *args, **kwargs), partial(settle, future), future.cancelled)
        return future

    def keep(self, call: Callable[P, T], *args: P.args, **kwargs: P.kwargs) -> Kept[T]:
        """As `run`, for a call that is made whatever happens to who waits for it; see `to_its_end`."""
        future = Kept[T](loop=asyncio.get_running_loop())
        self.tell(partial(call, *args, **kwargs), partial(settle, future))
        return future

    def tell(self, call: Callable[[], Any], told: Told) -> None:
        """As `keep`, without a future, which would take another turn of the loop. Raises `Closed`."""
        self._begin(call, told, _never)

    def _begin(self, call: Callable[[], Any], told: Told, unwanted: Callable[[], bool]) -> None:
        if self._closed:
            raise Closed
        if self._pending >= len(self._threads) < self._most:
            name = f"{self._name}_{len(self._threads)}"
            thread = threading.Thread(target=self._work, name=name, daemon=True)
            # Where the system has none left, nobody waits for a thread that never was.
            thread.start()
            self._threads.append(thread)
        self._pending += 1
        self._calls.put((asyncio.get_running_loop(), call, told, unwanted))

    async def close(self) -> None:
        """Take no more calls, and finish those there are."""
        self._closed = True
        for _ in self._threads:
            self._calls.put(None)
        await asyncio.to_thread(self._join)

    def _join(self) -> None:
        for thread in self._threads:
            thread.join()

    def _work(self) -> None:
        while self._make_next():
            continue

    def _make_next(self) -> bool:
        """Make the next call, once there is one; False when no more will come. A thread that waits holds
        nothing of its last call: all of it went with the frame of this method."""
        taken = self._calls.get()
        if taken is None:
            return False
        loop, call, told, unwanted = taken
        result, error = None, None
        if not unwanted():
            try:
                result = call()
            # Whatever it raises is its caller's, who would wait for ever if it ended this thread.
            except BaseException as exc:
                error = exc
        # A loop that was closed meanwhile has nobody who waits.
        with contextlib.suppress(RuntimeError):
            loop.call_soon_threadsafe(self._ended, told, result, error)
        # An error knows this frame by its traceback, and a future knows the error.
        del taken, call, told, unwanted, error
        return True

    def _ended(self, told: Told, result: Any, error: BaseException | None) -> None:
        self._pending -= 1
        told(result, error)


_Call = tuple[asyncio.AbstractEventLoop, Callable[[], Any], Told, Callable[[], bool]]


class Lane:
    """Blocking calls that are made one at a time, in the order in which they came. Use it on one loop.

    Nobody has to hold it for another to wait: what is free begins its call at once, with no task and no turn
    of the loop before it.
    """

    def __init__(self, tell: Tell) -> None:
        self._tell = tell
        self._waiting: deque[tuple[Callable[[], Any], Told]] = deque()
        self._busy = False

    @property
    def busy(self) -> bool:
        """Whether a call has not ended, or is being told of."""
        return self._busy

    def put(self, call: Callable[[], Any], told: Told) -> None:
        """Make a call, and tell what came of it before the next one begins."""
        self._waiting.append((call, told))
        if not self._busy:
            self._next()

    def _next(self) -> None:
        call, told = self._waiting.popleft()
        self._busy = True
        try:
            self._tell(call, partial(self._ended, told))
        # Whatever it is, whoever waits is told, and the next one has its turn.
        except Exception as exc:
            asyncio.get_running_loop().call_soon(self._ended, told, None, exc)

    def _ended(self, told: Told, result: Any, error: BaseException | None) -> None:
        try:
            told(result, error)
        finally:
            self._busy = False
            if self._waiting:
                self._next()


def settle(future: asyncio.Future[Any], result: Any, error: BaseException | None) -> None:
    """Give a future what a call came to, unless nobody waits."""
    if future.done():
        return
    if isinstance(error, StopIteration):
        # No future takes one: it would end the coroutine that waits.
        error = RuntimeError("A call raised StopIteration.")
    if error is not None:
        future.set_exception(error)
    else:
        future.set_result(result)


def _never() -> bool:
    """When a call that is made whatever happens is unwanted."""
    return False
