"""An application that can be replaced while it serves: what was begun ends on the one that began it."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable
from contextlib import AbstractAsyncContextManager, AsyncExitStack

from store.asgi import App, Receive, Scope, Send

Open = Callable[[], AbstractAsyncContextManager[App]]
_log = logging.getLogger(__name__)


class _Generation:
    """One application with what it has under way."""

    def __init__(self, app: App, stack: AsyncExitStack) -> None:
        self.app = app
        self._stack = stack
        # Asking for it is a system call in Python 3.11.
        self._loop = asyncio.get_running_loop()
        self._busy: set[asyncio.Task[object]] = set()
        self._idle: asyncio.Event | None = None

    async def serve(self, scope: Scope, receive: Receive, send: Send) -> None:
        task = asyncio.current_task(self._loop)
        if task is None:
            raise RuntimeError("requests are served by tasks")
        self._busy.add(task)
        try:
            await self.app(scope, receive, send)
        finally:
            self._busy.discard(task)
            if self._idle is not None and not self._busy:
                self._idle.set()

    async def close(self, grace_s: float) -> None:
        """End: what is under way may take so long, then it is cut off."""
        if self._busy:
            self._idle = asyncio.Event()
            try:
                async with asyncio.timeout(grace_s):
                    await self._idle.wait()
            except TimeoutError:
                for task in self._busy:
                    task.cancel()
        await self._stack.aclose()


class Replaceable:
    """The ASGI application that `open` makes, opened on start-up and closed on shutdown.

    `failures`: what `open` raises where it cannot: then there is no start, which is told in one line; on a
    reload the application before goes on.
    """

    def __init__(self, open: Open, failures: tuple[type[Exception], ...], grace_s: float) -> None:
        self._open = open
        self._failures = failures
        self._grace_s = grace_s
        self._current: _Generation | None = None
        self._reloading = asyncio.Lock()

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Answer one request, or live through the lifespan."""
        if scope["type"] != "lifespan":
            if self._current is None:
                raise RuntimeError("the application is not open")
            await self._current.serve(scope, receive, send)
            return
        await receive()
        try:
            self._current = await self._opened()
        except self._failures as exc:
            await send({"type": "lifespan.startup.failed", "message": _in_one_line(exc)})
            return
        await send({"type": "lifespan.startup.complete"})
        await receive()
        async with self._reloading:
            await self._current.close(0)
        await send({"type": "lifespan.shutdown.complete"})

    async def reload(self) -> None:
        """Open the application anew and give it all requests from now on."""
        async with self._reloading:
            try:
                fresh = await self._opened()
            except self._failures as exc:
                _log.error("Nothing was reloaded, everything stays as it was: %s", _in_one_line(exc))
                return
            old, self._current = self._current, fresh
            _log.info("the settings were read again and are in force")
            if old is not None:
                await old.close(self._grace_s)

    async def _opened(self) -> _Generation:
        stack = AsyncExitStack()
        app = await stack.enter_async_context(self._open())
        return _Generation(app, stack)


def _in_one_line(exc: BaseException) -> str:
    """What has failed, and why, for the log."""
    why = "" if exc.__cause__ is None or str(exc.__cause__) in str(exc) else f" ({exc.__cause__})"
    return "; ".join(f"{exc}{why}".splitlines())
