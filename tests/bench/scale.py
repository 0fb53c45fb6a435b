"""P2 and P3 at their full size, in this process and in CPU time, so that a busy machine tells the same.

Run: python -m tests.bench.scale [SEGMENTS [FLOWS]]. Minutes long, and so no part of `make bench`; the same
through HTTP and the proxy is `reading(flows, segments)` in `tests.bench.api`.
"""

from __future__ import annotations

import asyncio
import itertools
import statistics
import sys
import tempfile
import time
from collections.abc import Awaitable, Callable
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
from tests.bench.table import Result, show

SEGMENTS, FLOWS, SMALL = 1_000_000, 100_000, 1_000
ROUNDS = 30
PAGE = 1_000
VIEWS = {
    "dense": View(False, frozenset({"news"}), frozenset(), None),
    "sparse": View(False, frozenset({"sport"}), frozenset(), None),
}


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


async def measured(folder: Path, segments: int, flows: int) -> dict[str, float]:
    """What pages cost on a store with so many of both, by name."""
    await seed(folder, flows, dense_every=10, sparse=10, segments=segments)
    settings = StoreSettings(_env_file=None, data=folder, public_url="http://bench")
    keys = (b"k" * 32,)
    async with run_store(settings, media_keys=keys, cursor_keys=keys, webhook_keys=keys, jobs=()) as running:
        found = {
            f"100 flows, {name}": await cpu_ms(lambda v=view: _flows(running, v))  # type: ignore[misc]
            for name, view in VIEWS.items()
        }
        found["1,000 segments, without URLs"] = await cpu_ms(lambda: _segments(running, accept_get_urls=""))
        found["1,000 segments, signatures reused"] = await cpu_ms(lambda: _segments(running))
        hours = itertools.count(1)
        # Another hour, another signature.
        found["1,000 segments, fresh signatures"] = await cpu_ms(
            lambda: _segments(_at(running, 3600 * next(hours)))
        )
        return found


def _at(running: Running, later_s: int) -> Running:
    now_ns = running.store.now_ns() + later_s * NS_PER_S
    return replace(running, store=replace(running.store, now_ns=lambda: now_ns))


async def _flows(running: Running, view: View) -> Response:
    request = Request("GET_flows", "/flows", {}, Params([("limit", "100")]), b"", view)
    return await OPERATIONS[request.operation](running.store, request)


async def _segments(running: Running, **query: str) -> Response:
    flow = identifier(0)
    pairs = [("limit", str(PAGE)), ("reverse_order", "true"), *query.items()]
    path = f"/flows/{flow}/segments"
    request = Request("GET_flows-flowId-segments", path, {"flowId": flow}, Params(pairs), b"", None)
    return await OPERATIONS[request.operation](running.store, request)


def main(segments: int, flows: int) -> None:
    """Print the table."""
    with tempfile.TemporaryDirectory(prefix="tams-bench-") as name:
        small = asyncio.run(measured(Path(name, "small"), SMALL, SMALL))
        large = asyncio.run(measured(Path(name, "large"), segments, flows))
    rows = []
    for work, cost in large.items():
        size = flows if "flows" in work else segments
        rows.append(Result("P2/P3", f"{work}, of {size:,} / {SMALL:,}", cost, small[work], "ms", 1.3, False))
    targets = {"without URLs": 1.5, "fresh signatures": 9.0, "signatures reused": 3.0}
    for name, target_ms in targets.items():
        cost = large[f"1,000 segments, {name}"]
        rows.append(Result("P3", f"1,000 segments, {name} / target", cost, target_ms, "ms", 1.0, False))
    show(rows)


if __name__ == "__main__":
    chosen = [int(each) for each in sys.argv[1:]]
    main(*(chosen + [SEGMENTS, FLOWS][len(chosen) :]))
