"""Many calls at once, but not too many."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Sequence
from typing import TypeVar

T = TypeVar("T")
R = TypeVar("R")
AT_ONCE = 32


async def each(items: Sequence[T], ask: Callable[[T], Awaitable[R]], at_once: int = AT_ONCE) -> list[R]:
    """The answers for all items, in their order. The first failure is raised, and ends what is under way."""
    if len(items) == 1:
        return [await ask(items[0])]
    gate = asyncio.Semaphore(at_once)

    async def one(item: T) -> R:
        async with gate:
            return await ask(item)

    try:
        async with asyncio.TaskGroup() as group:
            tasks = [group.create_task(one(item)) for item in items]
    except BaseExceptionGroup as failures:
        raise failures.exceptions[0] from failures
    return [task.result() for task in tasks]
