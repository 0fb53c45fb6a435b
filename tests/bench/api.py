"""P1, P2, P3, P5 and P12: reading through the proxy, its memory, two of it."""

from __future__ import annotations

import asyncio
import itertools
import os
import random
import shutil
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from functools import partial
from pathlib import Path

import httpx

from tests.bench.load import TURNS, interleaved, latency_us, requests_per_s
from tests.bench.scale import grown
from tests.bench.seed import STEP_NS, identifier, seed
from tests.bench.servers import Started, bare, proxy, token
from tests.bench.table import Result

Asked = dict[str, tuple[str, dict[str, str]]]
"""By name, a path and the headers to ask it with."""
LIMIT_MB = 150.0
CORES_LOADED = 2
"""Two workers under full load need as many, and wrk another."""


def reading(rounds: int, seconds: int, *, flows: int, segments: int) -> list[Result]:
    """P1, P2, P3 and P5 on one seeded store."""
    with _folder() as folder:
        data = folder / "data"
        asyncio.run(seed(data, flows, dense_every=10, sparse=10, segments=segments))
        growth = grown(folder / "small", data, flows, segments)
        with proxy(data) as (url, started):
            paths = _paths(url, data)
            bodies = {name: _get(url + path, headers) for name, (path, headers) in paths.items()}
            reference = folder / "bare"
            reference.mkdir()
            with bare(reference, bodies) as plain:
                return [
                    *_flow(url, plain, paths["flow"], rounds, seconds),
                    *_listings(url, plain, paths, flows, rounds),
                    *_segments(url, plain, paths, segments, rounds),
                    *growth,
                    *_memory(url, started, paths, segments, rounds * 200),
                ]


def _paths(url: str, data: Path) -> Asked:
    news = _bearer(token(url, data, "newsroom"))
    sport = _bearer(token(url, data, "sportdesk"))
    return {
        "flow": (f"/flows/{identifier(0)}", news),
        "dense": ("/flows?limit=100", news),
        "sparse": ("/flows?limit=100", sport),
        "plain": (f"/flows/{identifier(0)}/segments?limit=1000&accept_get_urls=", news),
        "signed": (f"/flows/{identifier(0)}/segments?limit=1000&presigned=true", news),
    }


def _memory(url: str, started: Started, paths: Asked, segments: int, count: int) -> list[Result]:
    """What is resident after all that was asked so far, and after as much again of every kind."""
    settled = started.resident_mb()
    for path, headers in paths.values():
        latency_us(lambda path=path: url + path, headers, count=count)  # type: ignore[misc]
    after = started.resident_mb()
    what = f"resident, {segments:,} segments, under load, to {LIMIT_MB:g} MB"
    return [
        Result("P5", what, after, LIMIT_MB, "MB", 1.0, higher=False),
        Result(
            "P5",
            f"  after {count * len(paths):,} requests more, to before",
            after,
            settled,
            "MB",
            1.05,
            False,
        ),
    ]


def _flow(url: str, plain: str, asked: tuple[str, dict[str, str]], rounds: int, seconds: int) -> list[Result]:
    # The same request to both: the token is half of it, and takes time to be sent as well.
    path, headers = asked

    def ours() -> float | None:
        return requests_per_s(url + path, headers, connections=16, seconds=seconds)

    def reference() -> float | None:
        return requests_per_s(f"{plain}/flow", headers, connections=16, seconds=seconds)

    mine, theirs = interleaved(rounds, ours, reference)
    one, other = interleaved(
        rounds * TURNS,
        lambda: latency_us(lambda: url + path, headers, count=400),
        lambda: latency_us(lambda: f"{plain}/flow", headers, count=400),
    )
    assert one is not None and other is not None
    return [
        Result("P1", "GET flow, 16 connections, to bare Starlette", mine, theirs, "req/s", 0.5, higher=True),
        Result("P1", "GET flow, one connection: added, to 75 us", one - other, 75.0, "us", 1.0, higher=False),
    ]


def _listings(url: str, plain: str, paths: Asked, flows: int, rounds: int) -> list[Result]:
    found = []
    for name in ("dense", "sparse"):
        path, headers = paths[name]
        mine, theirs = interleaved(
            rounds * TURNS,
            lambda path=path, headers=headers: latency_us(lambda: url + path, headers, count=40),  # type: ignore[misc]
            lambda name=name, headers=headers: latency_us(lambda: f"{plain}/{name}", headers, count=40),  # type: ignore[misc]
        )
        what = f"GET 100 flows, {name}, of {flows:,}, to bare Starlette"
        found.append(Result("P2", what, mine, theirs, "us", 3.0, higher=False))
    return found


def _segments(url: str, plain: str, paths: Asked, segments: int, rounds: int) -> list[Result]:
    chosen = random.Random(1)
    starts = itertools.cycle(chosen.sample(range(segments - 1000), min(200, segments - 1000)))
    headers = paths["signed"][1]

    def fresh() -> str:
        first_s = next(starts) * STEP_NS // 1_000_000_000
        return f"{url}{paths['signed'][0]}&timerange=[{first_s}:0_"

    found = []
    for name, ask, target_ms in (
        ("without URLs", lambda: url + paths["plain"][0], 1.5),
        ("fresh signatures", fresh, 9.0),
        ("signatures reused", lambda: url + paths["signed"][0], 3.0),
    ):
        mine, theirs = interleaved(
            rounds * TURNS,
            lambda ask=ask: latency_us(ask, headers, count=10),  # type: ignore[misc]
            lambda name=name: latency_us(  # type: ignore[misc]
                lambda: f"{plain}/{'plain' if name == 'without URLs' else 'signed'}", headers, count=10
            ),
        )
        assert mine is not None and theirs is not None
        what = f"GET 1,000 of {segments:,} segments, {name}, to {target_ms} ms"
        found.append(Result("P3", what, mine / 1000, target_ms, "ms", 1.0, higher=False))
        found.append(Result("P3", f"  {name}, to bare Starlette", mine, theirs, "us", None, False))
    return found


def two_workers(rounds: int, seconds: int) -> list[Result]:
    """P12: the same requests to one process and to two.

    wrk needs most of a core to ask for single flows as fast as one worker answers, so that on two cores a
    second worker has nothing to run on: the target is then told of pages, which cost wrk next to nothing.
    """
    with _folder() as folder:
        asyncio.run(seed(folder / "data", 100, dense_every=1, sparse=0, segments=0))
        with proxy(folder / "data", workers=2) as (two, _), proxy(folder / "data") as (one, _):
            headers = {url: _bearer(token(url, folder / "data", "newsroom")) for url in (two, one)}

            def rate(url: str, path: str) -> float | None:
                return requests_per_s(url + path, headers[url], connections=32, seconds=seconds)

            cores = len(os.sched_getaffinity(0))
            found = []
            for what, path, target in (
                ("100 flows", "/flows?limit=100", 1.5),
                ("flow", f"/flows/{identifier(0)}", 1.5 if cores > CORES_LOADED else None),
            ):
                both, single = interleaved(rounds, partial(rate, two, path), partial(rate, one, path))
                work = f"GET {what}, two workers, to one, on {cores} cores with wrk"
                found.append(Result("P12", work, both, single, "req/s", target, higher=True))
            return found


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
