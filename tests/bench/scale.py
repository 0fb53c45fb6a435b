"""What pages cost inside the store, in CPU time of this process: a busy machine tells the same."""

from __future__ import annotations

import asyncio
import itertools
import statistics
import time
from collections.abc import AsyncIterator, Awaitable, Callable, Mapping
from contextlib import asynccontextmanager
from dataclasses import replace
from pathlib import Path

from store.app import Running, run_store
from store.http import Request, Response
from store.params import Params
from store.routes.table import OPERATIONS
from store.settings import StoreSettings
from store.timerange import NS_PER_S
from store.view import View
from tests.bench.seed import identifier, seed
from tests.bench.table import Result

SMALL = 1_000
ROUNDS = 30
PAGE = 1_000


def seeing(*classes: str) -> View:
    """What a reader of these classes sees."""
    return View(False, frozenset(classes), frozenset(), None)


VIEWS = {"dense": seeing("news"), "sparse": seeing("sport")}


async def cpu_ms(call: Callable[[], Awaitable[Response]]) -> float:
    """Median CPU time of this thread for a call, after one that warms up."""
    await call()
    found = []
    for _ in range(ROUNDS):
        began = time.thread_time()
        answer = await call()
        found.append(time.thread_time() - began)
        assert answer.status == 200, answer.body
    return statistics.median(found) * 1e3


def grown(small: Path, large: Path, flows: int, segments: int) -> list[Result]:
    """Pages of a store of so many flows and segments, against those of one of a thousand, made in `small`."""
    asyncio.run(seed(small, SMALL, dense_every=10, sparse=10, segments=SMALL))
    base, costs = (asyncio.run(pages(folder)) for folder in (small, large))
    return [
        Result(
            "P2" if "flows" in work else "P3",
            f"  {work}: CPU, of {flows if 'flows' in work else segments:,} to of {SMALL:,}",
            cost,
            base[work],
            "ms",
            1.3,
            higher=False,
        )
        for work, cost in costs.items()
    ]


async def pages(folder: Path, views: Mapping[str, View] = VIEWS) -> dict[str, float]:
    """CPU milliseconds of pages of the store in a folder, by name."""
    async with opened(folder) as running:
        found = {
            f"100 flows, {name}": await cpu_ms(lambda v=view: list_flows(running, v))  # type: ignore[misc]
            for name, view in views.items()
        }
        found["1,000 segments, without URLs"] = await cpu_ms(lambda: _segments(running, accept_get_urls=""))
        found["1,000 segments, signatures reused"] = await cpu_ms(lambda: _segments(running))
        hours = itertools.count(1)
        # Another hour, another signature.
        found["1,000 segments, fresh signatures"] = await cpu_ms(
            lambda: _segments(_at(running, 3600 * next(hours)))
        )
        return found


@asynccontextmanager
async def opened(folder: Path) -> AsyncIterator[Running]:
    """The store in a folder, in this process and with nothing going on beside."""
    settings = StoreSettings(_env_file=None, data=folder, public_url="http://bench")
    keys = (b"k" * 32,)
    async with run_store(settings, media_keys=keys, cursor_keys=keys, webhook_keys=keys, jobs=()) as running:
        yield running


def _at(running: Running, later_s: int) -> Running:
    now_ns = running.store.now_ns() + later_s * NS_PER_S
    return replace(running, store=replace(running.store, now_ns=lambda: now_ns))


async def list_flows(running: Running, view: View) -> Response:
    """A page of 100 flows."""
    request = Request("GET_flows", "/flows", {}, Params([("limit", "100")]), b"", view)
    return await OPERATIONS[request.operation](running.store, request)


async def _segments(running: Running, **query: str) -> Response:
    flow = identifier(0)
    pairs = [("limit", str(PAGE)), ("reverse_order", "true"), *query.items()]
    path = f"/flows/{flow}/segments"
    request = Request("GET_flows-flowId-segments", path, {"flowId": flow}, Params(pairs), b"", None)
    return await OPERATIONS[request.operation](running.store, request)
