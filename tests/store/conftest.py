"""The store as it runs, in this process: real SQLite, real files, the real application over ASGI."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

from tests.store.harness import Tams, running_tams
from tests.store.proxied import Admission, admitted, running_behind_proxy

BOTH_WAYS = ("test_rules", "test_examples", "test_compatibility")
"""Modules whose tests hold the store directly and an administrator's view of it through the proxy alike."""


def pytest_generate_tests(metafunc: pytest.Metafunc) -> None:
    """Run what speaks of the API's behaviour both ways."""
    if "tams" in metafunc.fixturenames:
        both = metafunc.module.__name__.rpartition(".")[2].startswith(BOTH_WAYS)
        metafunc.parametrize("tams", ["store", "proxy"] if both else ["store"], indirect=True)


@pytest.fixture(scope="session")
def admission(tmp_path_factory: pytest.TempPathFactory) -> Admission:
    """An administrator's token, and the keyring that it is good with."""
    folder = tmp_path_factory.mktemp("admission")
    # In a thread: the test that asks first has a loop running in this one.
    with ThreadPoolExecutor(1) as pool:
        return pool.submit(lambda: asyncio.run(admitted(folder))).result()


@pytest.fixture
async def tams(request: pytest.FixtureRequest, tmp_path: Path) -> AsyncIterator[Tams]:
    """A store of its own, with three storage backends, whose background work is done when asked for."""
    if request.param == "store":
        async with running_tams(tmp_path) as found:
            yield found
        return
    admission: Admission = request.getfixturevalue("admission")
    with pytest.MonkeyPatch.context() as patch:
        async with running_behind_proxy(tmp_path, admission, patch) as found:
            yield found
