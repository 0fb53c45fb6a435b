"""One question at a time: callers that ask the same thing together share one answer."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Coroutine
from typing import Any, Generic, TypeVar

from proxy.errors import TooManyRequests

T = TypeVar("T")


class Flights(Generic[T]):
    """Answers under way, by key; at most `limit` of them."""

    def __init__(self, limit: int) -> None:
        self._limit = limit
        self._running: dict[bytes, asyncio.Task[T]] = {}

    async def join(self, key: bytes, ask: Callable[[], Coroutine[Any, Any, T]]) -> T:
        """The answer under way for that key, or that of `ask`, with what it raises.

        A caller that goes away does not end it for the others. Raises TooManyRequests above the limit.
        """
        task = self._running.get(key)
        if task is None:
            if len(self._running) >= self._limit:
                raise TooManyRequests("Too many credentials to verify at once", retry_after_s=1)
            task = self._running[key] = asyncio.create_task(ask())
            task.add_done_callback(lambda done: self._land(key, done))
        return await asyncio.shield(task)

    def _land(self, key: bytes, done: asyncio.Task[T]) -> None:
        del self._running[key]
        if not done.cancelled():
            # Marks a failure as seen even when every caller has gone away.
            done.exception()
