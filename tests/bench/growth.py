"""How cost grows with what there is: flows, segments, classes, clients, workers.

Run: python -m tests.bench growth. Pages in this process and in CPU time; clients and workers over HTTP. Every
row is compared with the smallest of its kind, and where nothing should grow the target is 1.3.
"""

from __future__ import annotations

import asyncio
import tempfile
from functools import partial
from pathlib import Path

from tests.bench.load import interleaved, requests_per_s
from tests.bench.scale import cpu_ms, list_flows, opened, pages, seeing
from tests.bench.seed import identifier, seed
from tests.bench.servers import proxy, token
from tests.bench.table import Result

FLOWS, SEGMENTS = (1_000, 10_000, 100_000), (1_000, 100_000, 1_000_000)
CLASSES, CLIENTS, WORKERS = (10, 100, 1_000), (1, 16, 64), (1, 2)


def growing(quick: bool) -> list[Result]:
    """All of it; `quick` without the largest store."""
    with tempfile.TemporaryDirectory(prefix="tams-bench-") as name:
        folder = Path(name)
        sizes = list(zip(FLOWS, SEGMENTS, strict=True))[: 2 if quick else 3]
        found = _pages(folder, sizes)
        data = folder / f"{FLOWS[1]}"
        return [*found, *asyncio.run(_classes(data)), *_load(data, 1 if quick else 3)]


def _pages(folder: Path, sizes: list[tuple[int, int]]) -> list[Result]:
    for flows, segments in sizes:
        asyncio.run(seed(folder / str(flows), flows, dense_every=10, sparse=10, segments=segments))
    costs = asyncio.run(pages(*(folder / str(flows) for flows, _ in sizes)))
    found = []
    for (flows, segments), cost in zip(sizes, costs, strict=True):
        for work, cost_ms in cost.items():
            id, count = (
                ("flows", f"{flows:,} flows") if "flows" in work else ("segments", f"{segments:,} segments")
            )
            found.append(Result(id, f"{work}: in {count}", cost_ms, costs[0][work], "ms", 1.3, False))
    return sorted(found, key=lambda row: (row.id, row.work.partition(":")[0]))


async def _classes(data: Path) -> list[Result]:
    """A listing for a caller of so many classes, of which one has resources."""
    async with opened(data) as running:
        views = [seeing("news", *(f"class-{number}" for number in range(count - 1))) for count in CLASSES]
        costs = await cpu_ms(*(partial(list_flows, running, view) for view in views))
    return [
        Result("classes", f"100 flows, for a reader of {count:,} classes", cost, costs[0], "ms", None, False)
        for count, cost in zip(CLASSES, costs, strict=True)
    ]


def _load(data: Path, rounds: int) -> list[Result]:
    """Requests per second: of one to many clients, and of one to two processes."""
    path = f"/flows/{identifier(0)}"
    found = []
    for workers in WORKERS:
        with proxy(data, workers=workers) as (url, _):
            asked = partial(
                requests_per_s,
                url + path,
                {"Authorization": f"Bearer {token(url, data, 'newsroom')}"},
                seconds=1,
            )
            rates = interleaved(rounds, *(partial(asked, connections=clients) for clients in CLIENTS))
        found += [
            Result(
                "clients",
                f"GET flow, {clients} clients, {workers} workers, to one client",
                rate,
                rates[0],
                "req/s",
                None,
                True,
            )
            for clients, rate in zip(CLIENTS, rates, strict=True)
        ]
    return found
