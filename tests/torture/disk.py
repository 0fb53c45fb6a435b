"""A disk that fills up: writes are refused with a word, reads go on, and room is enough to go on writing."""

from __future__ import annotations

import os
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from tests.end_to_end.receiver import receiving
from tests.torture.report import Broken, Report
from tests.torture.world import World

DISK_MB = 64
REFUSALS = frozenset((503, 507))


def run(report: Report, *, quick: bool, seed: int) -> None:
    """A file system of a few megabytes is filled to the last byte and emptied again, several times."""
    times = 1 if quick else 10
    what = f"a full disk, {times} times"
    with tempfile.TemporaryDirectory(prefix="tams-torture-") as folder:
        if not _mount(Path(folder)):
            report.line("disk", what, "not tried: needs Linux and the right to mount", ok=None)
            return
        try:
            report.attempt("disk", what, lambda: _full(Path(folder), times, seed))
        finally:
            subprocess.run(["umount", "--lazy", folder], check=True)


def _mount(folder: Path) -> bool:
    if sys.platform != "linux" or os.geteuid() != 0:
        return False
    command = ["mount", "-t", "tmpfs", "-o", f"size={DISK_MB}m", "tams-torture", str(folder)]
    return subprocess.run(command, capture_output=True, check=False).returncode == 0


def _full(folder: Path, times: int, seed: int) -> str:
    with receiving() as receiver:
        world = World(folder / "server", seed, receiver)
        keys = world.keys[0]
        refused = 0
        try:
            for _ in range(times):
                keys.write(30)
                with _filler(folder / "filler"):
                    refused += keys.try_to_write(30, REFUSALS)
                    keys.check()
                until = time.monotonic() + 10
                while not keys.writable():
                    if time.monotonic() > until:
                        raise Broken("writes are still refused 10 s after there was room")
                keys.write(30)
            if not refused:
                raise Broken("nothing was refused")
            world.server.kill()
            world.restart()
        finally:
            world.server.stop()
        return f"{refused} writes refused, reads went on, {keys.acknowledged} acknowledged, 0 lost"


@contextmanager
def _filler(path: Path) -> Iterator[None]:
    """No room at all, down to the last block."""
    opened = os.open(path, os.O_WRONLY | os.O_CREAT)
    try:
        for size in (1 << 20, 1 << 12, 1):
            try:
                while True:
                    os.write(opened, b"x" * size)
            except OSError:
                continue
        yield
    finally:
        os.close(opened)
        path.unlink()
