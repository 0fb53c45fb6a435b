"""The store as it runs, in this process: real SQLite, real files, the real application over ASGI."""

from __future__ import annotations

from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from tests.store.harness import Tams, running_tams


@pytest.fixture
async def tams(tmp_path: Path) -> AsyncIterator[Tams]:
    """A store of its own, with three storage backends, whose background work is done when asked for."""
    async with running_tams(tmp_path) as found:
        yield found
