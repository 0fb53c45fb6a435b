"""P1, P2, P3 and P6: reading through the proxy, and starting it."""

from __future__ import annotations

import asyncio
import itertools
import random
import shutil
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import httpx

from tests.bench.load import interleaved, latency_us, requests_per_s
from tests.bench.seed import STEP_NS, identifier, seed
from tests.bench.servers import bare, proxy, token
from tests.bench.table import Result

FLOWS, SEGMENTS = 10_000, 100_000


def reading(
    flows: int = FLOWS, segments: int = SEGMENTS, *, rounds: int = 3, seconds: int = 2
) -> list[Result]:
    """P1, P2 and P3 on one seeded store."""
    with _folder() as folder:
        data = folder / "data"
        asyncio.run(seed(data, flows, dense_every=10, sparse=10, segments=segments))
        with proxy(data) as (url, _):
            news = _bearer(token(url, data, "newsroom"))
            sport = _bearer(token(url, data, "sportdesk"))
            paths = {
                "flow": (f"/flows/{identifier(0)}", news),
                "dense": ("/flows?limit=100", news),
                "sparse": ("/flows?limit=100", sport),
                "plain": (f"/flows/{identifier(0)}/segments?limit=1000&accept_get_urls=", news),
                "signed": (f"/flows/{identifier(0)}/segments?limit=1000&presigned=true", news),
            }
            bodies = {name: _get(url + path, headers) for name, (path, headers) in paths.items()}
            reference = folder / "bare"
            reference.mkdir()
            with bare(reference, bodies) as plain:
                return [
                    *_flow(url, plain, paths["flow"], rounds, seconds),
                    *_listings(url, plain, paths, flows, rounds),
                    *_segments(url, plain, paths, segments, rounds),
                ]


def _flow(url: str, plain: str, asked: tuple[str, dict[str, str]], rounds: int, seconds: int) -> list[Result]:
    path, headers = asked

    def ours() -> float | None:
        return requests_per_s(url + path, headers, connections=16, seconds=seconds)

    def reference() -> float | None:
        return requests_per_s(f"{plain}/flow", {}, connections=16, seconds=seconds)

    mine, theirs = interleaved(rounds, ours, reference)
    one, other = interleaved(
        rounds,
        lambda: latency_us(lambda: url + path, headers, count=2000),
        lambda: latency_us(lambda: f"{plain}/flow", {}, count=2000),
    )
    assert one is not None and other is not None
    return [
        Result("P1", "GET flow, 16 connections", mine, theirs, "req/s", 0.5, higher=True),
        Result("P1", "GET flow, one connection: added", one - other, 75.0, "us", 1.0, higher=False),
    ]


def _listings(
    url: str, plain: str, paths: dict[str, tuple[str, dict[str, str]]], flows: int, rounds: int
) -> list[Result]:
    found = []
    for name in ("dense", "sparse"):
        path, headers = paths[name]
        mine, theirs = interleaved(
            rounds,
            lambda path=path, headers=headers: latency_us(lambda: url + path, headers, count=200),  # type: ignore[misc]
            lambda name=name: latency_us(lambda: f"{plain}/{name}", {}, count=200),  # type: ignore[misc]
        )
        what = f"GET 100 flows, {name}, of {flows}"
        found.append(Result("P2", what, mine, theirs, "us", 3.0, higher=False))
    return found


def _segments(
    url: str, plain: str, paths: dict[str, tuple[str, dict[str, str]]], segments: int, rounds: int
) -> list[Result]:
    chosen = random.Random(1)
    starts = itertools.cycle(chosen.sample(range(segments - 1000), min(200, segments - 1000)))
    headers = paths["signed"][1]

    def fresh() -> str:
        first_s = next(starts) * STEP_NS // 1_000_000_000
        return f"{url}{paths['signed'][0]}&timerange=[{first_s}:0_"

    found = []
    for name, ask, target_ms, count in (
        ("without URLs", lambda: url + paths["plain"][0], 1.5, 50),
        ("fresh signatures", fresh, 9.0, 40),
        ("signatures reused", lambda: url + paths["signed"][0], 3.0, 50),
    ):
        mine, theirs = interleaved(
            rounds,
            lambda ask=ask, count=count: latency_us(ask, headers, count=count),  # type: ignore[misc]
            lambda name=name: latency_us(  # type: ignore[misc]
                lambda: f"{plain}/{'plain' if name == 'without URLs' else 'signed'}", {}, count=50
            ),
        )
        assert mine is not None and theirs is not None
        what = f"GET 1,000 of {segments} segments, {name}"
        found.append(Result("P3", what, mine / 1000, target_ms, "ms", 1.0, higher=False))
        found.append(Result("P3", f"  the same, to bare Starlette: {name}", mine, theirs, "us", None, False))
    return found


def starting(rounds: int = 3) -> list[Result]:
    """P6: from the start of the process to its first answer."""
    with _folder() as folder:
        taken = []
        for number in range(rounds):
            with proxy(folder / str(number % 2)) as (_, first_answer_s):
                taken.append(first_answer_s)
        return [
            Result("P6", "start to first answer", sorted(taken)[rounds // 2], 1.0, "s", 1.0, higher=False)
        ]


def _bearer(value: str) -> dict[str, str]:
    return {"Authorization": f"Bearer {value}"}


def _get(url: str, headers: dict[str, str]) -> bytes:
    answer = httpx.get(url, headers=headers)
    answer.raise_for_status()
    return answer.content


@contextmanager
def _folder() -> Iterator[Path]:
    folder = Path(tempfile.mkdtemp(prefix="tams-bench-"))
    try:
        yield folder
    finally:
        shutil.rmtree(folder)
