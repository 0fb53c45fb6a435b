"""The adapter of the metadata on an emulated cluster, for the tests of what only it promises."""

from __future__ import annotations

import gc
import time
import warnings
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from typing import Any

from store.metadata.vast import Vast, open_vast
from store.metadata.vast_api import VastConfig
from tests.vast_emulator import Emulator, EmulatorProcess, Tally

SCHEMA = "tams"


def config(emulator: Emulator | EmulatorProcess, **given: Any) -> VastConfig:
    """How to reach an emulator, by all of its endpoints; with time enough on a machine that is busy."""
    endpoints = emulator.endpoints if isinstance(emulator, Emulator) else (emulator.endpoint,)
    said = {
        "endpoints": endpoints,
        "bucket": emulator.bucket,
        "schema": SCHEMA,
        "timeout_s": 30.0,
        "deadline_s": 60.0,
        "access_key": emulator.access_key,
        "secret_key": emulator.secret_key,
        **given,
    }
    return VastConfig(**said)


@asynccontextmanager
async def opened(
    emulator: Emulator | EmulatorProcess, now_ns: Callable[[], int] = time.time_ns, **given: Any
) -> AsyncIterator[Vast]:
    """The metadata on an emulator."""
    vast = await open_vast(config(emulator, **given), now_ns=now_ns)
    try:
        yield vast
    finally:
        await vast.close()
        # A connection whose other end broke off is left to the garbage collector by the HTTP client.
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", ResourceWarning)
            gc.collect()


def path(table: str) -> str:
    """The name of a table in counts and faults."""
    return f"vastdb/{SCHEMA}/{table}"


class Watch:
    """What an emulator was asked since `begin`."""

    def __init__(self, emulator: Emulator) -> None:
        self._emulator = emulator
        self._before = emulator.tally()

    def begin(self) -> None:
        self._before = self._emulator.tally()

    @property
    def tally(self) -> Tally:
        return self._emulator.tally() - self._before

    @property
    def queries(self) -> int:
        return sum(self.tally.queries.values())

    @property
    def scanned(self) -> int:
        return sum(self.tally.rows_scanned.values())
