"""`make bench`: every benchmark, one table."""

from __future__ import annotations

import os

from tests.bench.api import reading, starting
from tests.bench.table import show

if __name__ == "__main__":
    quick = bool(os.environ.get("QUICK"))
    show([*reading(rounds=1 if quick else 3, seconds=1 if quick else 3), *starting(1 if quick else 3)])
