"""Load on a server: wrk for throughput, one blocking connection for latency."""

from __future__ import annotations

import http.client
import re
import shutil
import statistics
import subprocess
import time
from collections.abc import Callable
from pathlib import Path
from urllib.parse import urlsplit

from tests.bench.table import Rounds

WRK = shutil.which("wrk")
TURNS = 5
"""In how many turns a round of short measures is taken: a shared machine is slow for seconds at a time, and
what is compared had better have as much of that on either side."""


def requests_per_s(
    url: str, headers: dict[str, str], *, connections: int, seconds: int, script: Path | None = None
) -> float | None:
    """Throughput as wrk measures it; None without wrk. Raises RuntimeError when answers are not 2xx.
    `script`: Lua that says what is sent, GET by default."""
    if WRK is None:
        return None
    given = [f"-H{name}: {value}" for name, value in headers.items()]
    command = [WRK, "-t1", f"-c{connections}", f"-d{seconds}s", *given]
    command += [f"-s{script}", url] if script is not None else [url]
    told = subprocess.run(command, capture_output=True, text=True, check=True).stdout
    if "Non-2xx" in told:
        raise RuntimeError(f"{url}: {told}")
    found = re.search(r"Requests/sec:\s+([0-9.]+)", told)
    assert found is not None
    return float(found[1])


def latency_us(url: Callable[[], str], headers: dict[str, str], *, count: int) -> float:
    """The median time of a request over one kept connection, in microseconds."""
    parts = urlsplit(url())
    connection = http.client.HTTPConnection(parts.hostname or "", parts.port)
    taken = []
    for _ in range(count):
        target = urlsplit(url())
        path = f"{target.path}?{target.query}" if target.query else target.path
        began = time.perf_counter_ns()
        connection.request("GET", path, headers=headers)
        answer = connection.getresponse()
        answer.read()
        taken.append(time.perf_counter_ns() - began)
        if answer.status != 200:
            raise RuntimeError(f"{path}: {answer.status}")
    connection.close()
    return statistics.median(taken) / 1000


def interleaved(rounds: int, *measures: Callable[[], float | None]) -> list[Rounds | None]:
    """What several measures found, taken in turns."""
    taken: list[list[float | None]] = [[] for _ in measures]
    for _ in range(rounds):
        for place, measure in enumerate(measures):
            taken[place].append(measure())
    return [None if None in values else Rounds(tuple(values)) for values in taken]  # type: ignore[arg-type]
