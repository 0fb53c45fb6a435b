"""Callers that go away before they are answered: what is read on their behalf from an upstream ends too."""

from __future__ import annotations

import asyncio

from proxy.asgi import EVENTS_PATH, App, Receive, Scope, Send

PATIENCE_S = 0.05
"""Most answers are there by then, and cost no look at whether somebody still waits for them."""


class UntilGone:
    """Passes requests on, and ends reads whose caller is gone.

    Writes go on to their end: cut off, nobody would know what came of them. Media and live events look after
    their callers themselves.
    """

    def __init__(self, app: App) -> None:
        self._app = app

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Answer one request."""
        task = asyncio.current_task()
        if task is None or not _is_read(scope):
            await self._app(scope, receive, send)
            return
        watch = _Watch(task, receive)
        timer = asyncio.get_running_loop().call_later(PATIENCE_S, watch.begin)
        try:
            await self._app(scope, receive, send)
        except asyncio.CancelledError:
            # Somebody else may want the end of this task as well, the server above all.
            if not watch.is_gone or task.uncancel():
                raise
        finally:
            timer.cancel()
            watch.end()


class _Watch:
    """Looks whether a caller goes away. `is_gone`: it did, and the task was told."""

    def __init__(self, task: asyncio.Task[object], receive: Receive) -> None:
        self._answering = task
        self._receive = receive
        self._looking: asyncio.Task[None] | None = None
        self.is_gone = False

    def begin(self) -> None:
        self._looking = asyncio.get_running_loop().create_task(self._look())

    def end(self) -> None:
        if self._looking is not None:
            self._looking.cancel()

    async def _look(self) -> None:
        # A body that nobody reads goes by.
        while (await self._receive())["type"] != "http.disconnect":
            continue
        self.is_gone = True
        self._answering.cancel()


def _is_read(scope: Scope) -> bool:
    if scope["type"] != "http" or scope["method"] not in ("GET", "HEAD"):
        return False
    path: bytes = scope["raw_path"]
    return path != EVENTS_PATH and not path.startswith(b"/media/")
