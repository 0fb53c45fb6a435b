"""kill -9 of the real server while clients are at work, and what is left of what they were told."""

from __future__ import annotations

import asyncio
import tempfile
from pathlib import Path

from tests.end_to_end.receiver import receiving
from tests.streams.test_crash import crash
from tests.torture.report import Report
from tests.torture.world import World

SHORTEST_S, LONGEST_S = 0.05, 1.2


def run(report: Report, *, quick: bool, seed: int) -> None:
    """Kills at points drawn by lot."""
    kills = 12 if quick else 200
    report.attempt("crash", f"{kills} kills in ingest, deletion, keys, webhooks", lambda: _kills(kills, seed))
    report.attempt("crash", f"{kills} kills under pushes and pulls of streams", lambda: _streams(kills, seed))


def _streams(kills: int, seed: int) -> str:
    with tempfile.TemporaryDirectory(prefix="tams-torture-") as folder:
        told = asyncio.run(crash(Path(folder), seed, kills))
    return f"{told} acknowledged, 0 lost, 0 doubled, in order"


def _kills(kills: int, seed: int) -> str:
    with tempfile.TemporaryDirectory(prefix="tams-torture-") as folder, receiving() as receiver:
        world = World(Path(folder), seed, receiver)
        try:
            for _ in range(kills):
                world.work(world.random.uniform(SHORTEST_S, LONGEST_S))
                world.restart()
            doubled = world.await_events()
        finally:
            world.server.stop()
        return (
            f"{world.acknowledged} acknowledged, 0 lost, 0 torn; {doubled} events told twice; "
            f"back within {world.slowest_start_s:.1f} s"
        )
