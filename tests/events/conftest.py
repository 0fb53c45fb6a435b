from __future__ import annotations

import importlib.util
import os
from collections.abc import AsyncIterator, Callable, Iterator
from contextlib import AbstractAsyncContextManager, ExitStack
from functools import cache
from pathlib import Path
from typing import Any

import pytest
from pydantic import SecretStr

from store.keeping import VastSettings
from tests.store.harness import Tams, running_tams

Running = Callable[[], AbstractAsyncContextManager[Tams]]


@pytest.fixture(scope="session")
def cluster() -> Iterator[Callable[[], Any]]:
    """An emulated VAST cluster, started when it is first asked for."""
    with ExitStack() as stack:

        @cache
        def started() -> Any:
            from tests.vast_emulator import EmulatorProcess, Options

            return stack.enter_context(EmulatorProcess(Options()))

        yield started


@pytest.fixture(params=["sqlite", pytest.param("vast", marks=pytest.mark.slow)])
def running(request: pytest.FixtureRequest, tmp_path: Path, cluster: Callable[[], Any]) -> Running:
    """Opens stores on one database: another one is another process, or, after the first, a restart."""
    if request.param == "sqlite":
        return lambda: running_tams(tmp_path)
    if importlib.util.find_spec("vastdb") is None and os.environ.get("CI") != "true":
        pytest.skip("vastdb is not installed: pip install -e '.[vast,vast-tests]'")
    at = cluster()
    vast = VastSettings(
        endpoints=(at.endpoint,),
        bucket=at.bucket,
        db_schema=tmp_path.name,
        access_key=SecretStr(at.access_key),
        secret_key=SecretStr(at.secret_key),
        timeout_s=30,
        deadline_s=60,
    )
    return lambda: running_tams(tmp_path, metadata="vast", vast=vast)


@pytest.fixture
async def tams(running: Running) -> AsyncIterator[Tams]:
    """A running store."""
    async with running() as found:
        yield found
