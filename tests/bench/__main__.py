"""`make bench`: every benchmark, one table."""

from __future__ import annotations

import os

from tests.bench.api import reading, starting
from tests.bench.forward import forwarding
from tests.bench.keyvalue import keyvalue
from tests.bench.policy_snapshot import snapshots
from tests.bench.streams import streaming
from tests.bench.table import show
from tests.bench.webhooks import delivering

if __name__ == "__main__":
    quick = bool(os.environ.get("QUICK"))
    rounds = seconds = 1 if quick else 3
    show(
        [
            *reading(rounds=rounds, seconds=seconds),
            *forwarding(rounds, seconds),
            *keyvalue(rounds, seconds),
            *snapshots(),
            *delivering(rounds),
            *streaming(rounds, seconds),
            *starting(rounds),
        ]
    )
