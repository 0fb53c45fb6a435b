"""P8: reading through the proxy from a store elsewhere, beside that store asked directly."""

from __future__ import annotations

import asyncio
import shutil
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from tests.bench.load import interleaved, latency_us, requests_per_s
from tests.bench.seed import identifier, seed
from tests.bench.servers import proxy, store, token
from tests.bench.table import Result

FLOWS = 2_000


def forwarding(rounds: int = 3, seconds: int = 3) -> list[Result]:
    """GET flow and GET 100 flows, through the proxy and directly."""
    with _folder() as folder:
        asyncio.run(seed(folder / "store", FLOWS, dense_every=2, sparse=0, segments=0))
        with store(folder / "store") as direct, proxy(folder / "proxy", direct) as (url, _):
            headers = {"Authorization": f"Bearer {token(url, folder / 'proxy', 'newsroom')}"}
            results = []
            for what, path, filtered, added_us in (
                ("GET flow", f"/flows/{identifier(0)}", f"/flows/{identifier(0)}", 500.0),
                ("GET 100 flows", "/flows?limit=100", "/flows?limit=100&tag.auth_classes=news", None),
            ):
                figures = _compared(what, url + path, direct + filtered, headers, rounds, seconds, added_us)
                results += figures
            return results


def _compared(
    what: str,
    url: str,
    direct: str,
    headers: dict[str, str],
    rounds: int,
    seconds: int,
    added_us: float | None,
) -> list[Result]:
    ours, theirs = interleaved(
        rounds,
        lambda: requests_per_s(url, headers, connections=16, seconds=seconds),
        lambda: requests_per_s(direct, {}, connections=16, seconds=seconds),
    )
    one, other = interleaved(
        rounds,
        lambda: latency_us(lambda: url, headers, count=1000),
        lambda: latency_us(lambda: direct, {}, count=1000),
    )
    assert one is not None and other is not None
    return [
        Result("P8", f"{what} of a store elsewhere", ours, theirs, "req/s", 0.22, higher=True),
        Result("P8", f"{what}, one connection: added", one - other, added_us, "us", 1.0, higher=False)
        if added_us is not None
        else Result("P8", f"{what}, one connection", one, other, "us", None, higher=False),
    ]


@contextmanager
def _folder() -> Iterator[Path]:
    folder = Path(tempfile.mkdtemp(prefix="tams-bench-"))
    try:
        yield folder
    finally:
        shutil.rmtree(folder)
