"""P6: from the start of the process to its first answer, with metadata in a file and in VAST."""

from __future__ import annotations

import json
import tempfile
from collections.abc import Mapping
from pathlib import Path

from tests.bench.servers import proxy
from tests.bench.table import Result, Rounds
from tests.vast_emulator import EmulatorProcess, Options


def starting(rounds: int = 3) -> list[Result]:
    """Both, after a start that is not counted: it compiles our modules, as installing the package does, and
    makes the tables, which are there at all starts but the first."""
    with (
        tempfile.TemporaryDirectory(prefix="tams-bench-") as name,
        EmulatorProcess(Options()) as cluster,
    ):
        folder = Path(name)
        # Whoever runs this may have told Python to keep no bytecode; then it would compile each time.
        compiled = {"PYTHONDONTWRITEBYTECODE": "", "PYTHONPYCACHEPREFIX": str(folder / "compiled")}
        vast = {**compiled, **_settings(cluster)}
        return [
            *_started("start to first answer, to 1 s", 1.0, rounds, folder / "file", compiled),
            *_started("VAST, emulated: start to first answer, to 4 s", 4.0, rounds, folder / "vast", vast),
        ]


def _started(what: str, target_s: float, rounds: int, data: Path, environ: Mapping[str, str]) -> list[Result]:
    """Time on the clock, and how much of it is work: the rest is others', or waiting."""
    taken, worked = [], []
    for _ in range(1 + rounds):
        with proxy(data, environ=environ) as (_, started):
            taken.append(started.first_answer_s)
            worked.append(started.cpu_s())
    on_clock, at_work = Rounds(tuple(taken[1:])), Rounds(tuple(worked[1:]))
    return [
        Result("P6", what, on_clock, target_s, "s", 1.0, higher=False),
        Result("P6", "  of which the processor works", at_work, on_clock, "s", None, higher=False),
    ]


def _settings(cluster: EmulatorProcess) -> dict[str, str]:
    return {
        "TAMS_METADATA": "vast",
        "TAMS_VAST__ENDPOINTS": json.dumps([cluster.endpoint]),
        "TAMS_VAST__BUCKET": cluster.bucket,
        "TAMS_VAST__ACCESS_KEY": cluster.access_key,
        "TAMS_VAST__SECRET_KEY": cluster.secret_key,
        "TAMS_KEYRING_SECRET": "bench " * 8,
    }
