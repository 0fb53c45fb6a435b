"""What pages cost inside the store, in CPU time of this process: a busy machine tells the same."""

from __future__ import annotations

import asyncio
import itertools
import statistics
import time
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import replace
from functools import partial
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


async def cpu_ms(*calls: Callable[[], Awaitable[Response]]) -> list[float]:
    """Median CPU time of this thread for each call, taken in turns, after one of each that warms up."""
    found: list[list[float]] = [[] for _ in calls]
    for number in range(ROUNDS + 1):
        for call, taken in zip(calls, found, strict=True):
            began = time.thread_time()
            answer = await call()
            if number:
                taken.append((time.thread_time() - began) * 1e3)
            assert answer.status == 200, answer.body
    return [statistics.median(taken) for taken in found]


def grown(small: Path, large: Path, flows: int, segments: int) -> list[Result]:
    """Pages of a store of so many flows and segments, against those of one of a thousand, made in `small`."""
    asyncio.run(seed(small, SMALL, dense_every=10, sparse=10, segments=SMALL))
    base, costs = asyncio.run(pages(small, large))
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


async def pages(*folders: Path) -> list[dict[str, float]]:
    """CPU milliseconds of pages of the store in each folder, by name."""
    async with AsyncExitStack() as stack:
        stores = [await stack.enter_async_context(opened(folder)) for folder in folders]
        costs = {
            f"100 flows, {name}": await cpu_ms(*(partial(list_flows, each, view) for each in stores))
            for name, view in VIEWS.items()
        }
        for name, asked in (("without URLs", {"accept_get_urls": ""}), ("signatures reused", {})):
            found = await cpu_ms(*(partial(_segments, each, **asked) for each in stores))
            costs[f"1,000 segments, {name}"] = found
        costs["1,000 segments, fresh signatures"] = await cpu_ms(*(_later(each) for each in stores))
    return [{work: found[place] for work, found in costs.items()} for place in range(len(folders))]


def _later(running: Running) -> Callable[[], Awaitable[Response]]:
    """A page an hour later each time: another hour, another signature."""
    hours = itertools.count(1)
    return lambda: _segments(_at(running, 3600 * next(hours)))


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
