"""What the machine gives this process, and what it takes of it; from /proc, where there is one."""

from __future__ import annotations

import os
import time
from pathlib import Path
from typing import Any, Final

PROC: Final = Path("/proc")


class Vitals:
    """Memory, processor time and age of this process. `clock` is monotonic seconds."""

    def __init__(self, began_s: float | None = None) -> None:
        self._began_s = time.monotonic() if began_s is None else began_s

    def system(self) -> dict[str, Any]:
        """As `GET /health` tells it. `cpu_percent`: of one core, on average since the start."""
        uptime_s = max(0.001, time.monotonic() - self._began_s)
        times = os.times()
        return {
            "memory_usage_bytes": _memory_bytes(),
            "memory_total_bytes": _total_bytes(),
            "cpu_percent": round(100 * (times.user + times.system) / uptime_s, 1),
            "uptime_seconds": round(uptime_s, 1),
        }


def _memory_bytes() -> int | None:
    try:
        resident_pages = int((PROC / "self" / "statm").read_text().split()[1])
    except OSError:
        return None
    return resident_pages * os.sysconf("SC_PAGE_SIZE")


def _total_bytes() -> int | None:
    try:
        for line in (PROC / "meminfo").read_text().splitlines():
            if line.startswith("MemTotal:"):
                return int(line.split()[1]) * 1024
    except OSError:
        return None
    return None
