"""A store with streams, on the wire."""

from __future__ import annotations

from collections.abc import AsyncIterator, Iterator
from pathlib import Path
from typing import Any

import pytest

from store.app import StoreApp
from tests.store.harness import Tams, running_tams
from tests.streams.support import Wire, served


@pytest.fixture
async def tams(tmp_path: Path) -> AsyncIterator[Tams]:
    """A running store."""
    async with running_tams(tmp_path) as found:
        yield found


@pytest.fixture
async def wire(tams: Tams) -> AsyncIterator[Wire]:
    """A client of the store alone."""
    async with served(StoreApp(tams.running, tams.settings.max_body_bytes)) as address:
        yield Wire(address)


@pytest.fixture
def later(wire: Wire) -> Wire:
    """The same, on the later wire."""
    return Wire(wire.address, prefix="/ptg")


@pytest.fixture
def emulator() -> Iterator[Any]:
    """An emulated VAST cluster in a process of its own."""
    pytest.importorskip("vastdb", reason="vastdb is not installed: pip install -e '.[vast,vast-tests]'")
    from tests.vast_emulator import EmulatorProcess, Options

    with EmulatorProcess(Options()) as found:
        yield found
