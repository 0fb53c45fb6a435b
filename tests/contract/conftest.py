from __future__ import annotations

import tempfile
from collections.abc import AsyncIterator, Iterator
from pathlib import Path

import pytest

from tests.contract.metadata_support import ENGINES, Database

_MEMORY = Path("/dev/shm")


@pytest.fixture
def folder() -> Iterator[Path]:
    """A folder for databases: in memory where that can be, since a suite of small ones mostly waits for
    the disk, and nothing here cuts the power."""
    with tempfile.TemporaryDirectory(dir=_MEMORY if _MEMORY.is_dir() else None) as name:
        yield Path(name)


@pytest.fixture(params=ENGINES)
async def metadata(request: pytest.FixtureRequest, folder: Path) -> AsyncIterator[Database]:
    """Opens metadata on each engine; what the test leaves open is closed."""
    database = Database(request.param, folder)
    yield database
    await database.close()
