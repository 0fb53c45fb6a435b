from __future__ import annotations

from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from tests.contract.metadata_support import ENGINES, Database


@pytest.fixture(params=ENGINES)
async def metadata(request: pytest.FixtureRequest, tmp_path: Path) -> AsyncIterator[Database]:
    """Opens metadata on each engine; what the test leaves open is closed."""
    database = Database(request.param, tmp_path)
    yield database
    await database.close()
