"""`python -m tests.torture [AREA ...] [--quick] [--seed N]`: see `--help`."""

from __future__ import annotations

import argparse
import sys

from tests.torture import crash, disk, faults, fuzz, load, power, rights
from tests.torture.report import Report

AREAS = {
    "crash": crash.run,
    "power": power.run,
    "disk": disk.run,
    "faults": faults.run,
    "load": load.run,
    "fuzz": fuzz.run,
    "rights": rights.run,
}


def main() -> int:
    """Run areas; 1 when anything broke that must hold."""
    parser = argparse.ArgumentParser(prog="python -m tests.torture", description=__doc__)
    parser.add_argument("areas", nargs="*", choices=[*AREAS, []], help="which; all by default")
    parser.add_argument("--quick", action="store_true", help="under five minutes in all")
    parser.add_argument("--seed", type=int, default=1, help="of everything that is drawn by lot")
    given = parser.parse_args()
    report = Report()
    for area in given.areas or AREAS:
        AREAS[area](report, quick=given.quick, seed=given.seed)
    return 1 if report.failed else 0


if __name__ == "__main__":
    sys.exit(main())
