"""`make bench`: every benchmark, one table.

Run: python -m tests.bench [ROW ...], where a row is named by its id: P1, P8, K2. `growth` is a table of its
own. QUICK=1 in the environment: one short round of each, and less to read from.
"""

from __future__ import annotations

import asyncio
import os
import sys
from collections.abc import Callable

from store.serve import collect_less
from tests.bench.api import reading, two_workers
from tests.bench.forward import forwarding
from tests.bench.growth import growing
from tests.bench.keyvalue import keyvalue
from tests.bench.media import moving
from tests.bench.metadata import posting
from tests.bench.policy_snapshot import snapshots
from tests.bench.presign import signing
from tests.bench.starts import starting
from tests.bench.streams import streaming
from tests.bench.table import Result, show
from tests.bench.telling import telling
from tests.bench.webhooks import delivering

Measure = Callable[[], list[Result]]


def measures(quick: bool) -> list[tuple[frozenset[str], Measure]]:
    """All of them, each with the ids of its rows."""
    rounds, seconds = (1, 1) if quick else (5, 2)
    flows, segments = (10_000, 100_000) if quick else (100_000, 1_000_000)
    found: list[tuple[str, Measure]] = [
        ("P1 P2 P3 P5", lambda: reading(rounds, seconds, flows=flows, segments=segments)),
        ("P1", telling),
        ("P3", lambda: signing(3 if quick else 9)),
        ("P4", lambda: asyncio.run(posting(3 if quick else 9))),
        ("P6", lambda: starting(3)),
        ("P7", lambda: moving(30 if quick else 60)),
        ("P8", lambda: forwarding(rounds, seconds)),
        ("P9", snapshots),
        ("P10", lambda: streaming(rounds, seconds)),
        ("P11", lambda: delivering(rounds)),
        ("P12", lambda: two_workers(rounds, seconds)),
        ("K1 K2 K3", lambda: keyvalue(rounds, seconds)),
    ]
    return [(frozenset(ids.split()), measure) for ids, measure in found]


def main(chosen: frozenset[str], quick: bool) -> None:
    """Print the rows of these ids, all where there is none."""
    if chosen == {"growth"}:
        show(growing(quick))
        return
    known = measures(quick)
    every = frozenset[str]().union(*(ids for ids, _ in known))
    if not chosen <= every:
        raise SystemExit(f"There are no rows {', '.join(sorted(chosen - every))}.")
    wanted = chosen or every
    rows = [row for ids, measure in known if ids & wanted for row in measure() if row.id in wanted]
    show(sorted(rows, key=lambda row: (row.id[0] != "P", int(row.id[1:]))))


if __name__ == "__main__":
    # What is measured in this process runs as it does in a server.
    collect_less()
    main(frozenset(sys.argv[1:]), bool(os.environ.get("QUICK")))
