"""Power lost while clients are at work: only what was synced is left, and what was acknowledged is in it.

A preloaded library (`unsynced.c`) keeps what a disk would hold: bytes of files and entries of folders as of
their last sync. The server goes on with that, in half of the rounds with some of what was not synced too, as
disks do. Files are strictly those of POSIX: a new file whose folder was not synced is gone.
"""

from __future__ import annotations

import asyncio
import ctypes
import os
import random
import shutil
import subprocess
import sys
import tempfile
import time
from pathlib import Path

from tests.end_to_end.receiver import receiving
from tests.streams.test_crash import crash
from tests.torture.report import Broken, Report
from tests.torture.world import World

SOURCE = Path(__file__).with_name("unsynced.c")
NAME_BYTES = 96
SHORTEST_S, LONGEST_S = 0.3, 1.5
REFUSALS = frozenset((503, 507))
TRIED = 20


class Disk:
    """What would be left of a data folder; `library` is preloaded into its server with `environ`."""

    def __init__(self, library: Path, folder: Path) -> None:
        self._library = library
        self._kept = folder
        folder.mkdir()
        self.environ = {"LD_PRELOAD": str(library), "UNSYNCED": str(folder)}
        self._broken = folder / "broken"

    def settle(self, data: Path) -> None:
        """Take the folder as it stands for synced, as it is when a machine was left alone for a while."""
        os.environ["UNSYNCED"] = str(self._kept)
        calls = ctypes.CDLL(str(self._library))
        for folder, _, files in os.walk(data, topdown=False):
            for name in [*(os.path.join(folder, file) for file in files), folder]:
                opened = os.open(name, os.O_RDONLY)
                calls.fsync(opened)
                os.close(opened)

    def lose(self, data: Path, random_: random.Random | None) -> None:
        """Make the folder what is left of it. With a lot, files that were not synced may be as they are."""
        left = data.with_name(data.name + ".left")
        self._restore(data, left, random_)
        shutil.rmtree(data)
        left.rename(data)
        for kept in self._kept.iterdir():
            kept.unlink()

    def fail(self, *, failing: bool) -> None:
        """Whether syncs fail from now on."""
        if failing:
            self._broken.touch()
        else:
            self._broken.unlink()

    def _restore(self, was: Path, left: Path, random_: random.Random | None) -> None:
        left.mkdir(mode=was.stat().st_mode if was.is_dir() else 0o700)
        for line in self._entries(was):
            kind, identity, name = line.split(" ", 2)
            if kind == "d":
                self._restore(was / name, left / name, random_)
                continue
            source = self._kept / identity
            if random_ is not None and (was / name).is_file() and random_.random() < 0.5:
                source = was / name
            if source.is_file():
                shutil.copyfile(source, left / name)
            else:
                (left / name).touch()
            (left / name).chmod(0o600)

    def _entries(self, folder: Path) -> list[str]:
        if not folder.is_dir():
            return []
        listing = self._kept / self._identity(folder)
        return listing.read_text().splitlines() if listing.is_file() else []

    def _identity(self, path: Path) -> str:
        text = ctypes.create_string_buffer(NAME_BYTES)
        opened = os.open(path, os.O_RDONLY)
        try:
            ctypes.CDLL(str(self._library)).kept_as(opened, text, NAME_BYTES)
        finally:
            os.close(opened)
        return text.value.decode()


def run(report: Report, *, quick: bool, seed: int) -> None:
    """Power losses at points drawn by lot; and a disk that cannot sync."""
    losses = 4 if quick else 60
    what = f"{losses} losses of power, unsynced writes dropped"
    compiler = shutil.which("cc")
    if sys.platform != "linux" or compiler is None:
        report.line("power", what, "not tried: needs Linux and a C compiler", ok=None)
        return
    with tempfile.TemporaryDirectory(prefix="tams-torture-") as name:
        folder = Path(name)
        library = folder / "unsynced.so"
        subprocess.run([compiler, "-shared", "-fPIC", "-O1", "-o", library, SOURCE, "-ldl"], check=True)
        report.attempt("power", what, lambda: _losses(Disk(library, folder / "kept"), folder, losses, seed))
        report.attempt(
            "power",
            f"{losses} losses of power under pushes and pulls of streams",
            lambda: _streams(Disk(library, folder / "hot"), folder / "streams", losses, seed),
        )
        report.attempt(
            "power",
            "a disk that cannot sync",
            lambda: _unsyncable(Disk(library, folder / "bad"), folder, seed),
        )


def _losses(disk: Disk, folder: Path, losses: int, seed: int) -> str:
    with receiving() as receiver:
        world = World(folder / "losses", seed, receiver, disk.environ)
        try:
            for number in range(losses):
                disk.settle(world.server.data)
                world.work(world.random.uniform(SHORTEST_S, LONGEST_S))
                disk.lose(world.server.data, world.random if number % 2 else None)
                world.restart()
        finally:
            world.server.stop()
        return f"{world.acknowledged} acknowledged, 0 lost, 0 torn"


def _streams(disk: Disk, folder: Path, losses: int, seed: int) -> str:
    folder.mkdir()

    def lose(data: Path, random_: random.Random) -> None:
        disk.lose(data, random_ if random_.random() < 0.5 else None)

    told = asyncio.run(crash(folder, seed, losses, disk.environ, disk.settle, lose))
    return f"{told} acknowledged, 0 lost, 0 doubled, in order"


def _unsyncable(disk: Disk, folder: Path, seed: int) -> str:
    """While syncs fail nothing is acknowledged, and reads go on; afterwards writes do, without a restart."""
    with receiving() as receiver:
        world = World(folder / "unsyncable", seed, receiver, disk.environ)
        try:
            keys = world.keys[0]
            keys.write(20)
            disk.fail(failing=True)
            refused = keys.try_to_write(TRIED, REFUSALS)
            if refused < TRIED:
                raise Broken(f"{TRIED - refused} writes were acknowledged that were not synced")
            keys.check()
            disk.fail(failing=False)
            until = time.monotonic() + 10
            while not keys.writable():
                if time.monotonic() > until:
                    raise Broken("writes are still refused 10 s after the disk was mended")
            keys.write(20)
            world.server.kill()
            world.restart()
        finally:
            world.server.stop()
        return f"{refused} writes refused, reads went on, {keys.acknowledged} acknowledged, 0 lost"
