from __future__ import annotations

import importlib.util
import os
import tempfile
from collections.abc import AsyncIterator, Callable, Iterator
from contextlib import ExitStack
from functools import cache
from pathlib import Path

import pytest
from hypothesis import is_hypothesis_test, settings

from tests.contract.metadata_support import ENGINES, Database

_MEMORY = Path("/dev/shm")
_EXAMPLES = {"vast-5.5": 0.06, "vast-5.4": 0.01}
"""Of the examples that SQLite is tried with, where each of them takes a hundred times as long."""
_LEAST_EXAMPLES = 3


@pytest.fixture
def folder() -> Iterator[Path]:
    """A folder for databases: in memory where that can be, since a suite of small ones mostly waits for
    the disk, and nothing here cuts the power."""
    with tempfile.TemporaryDirectory(dir=_MEMORY if _MEMORY.is_dir() else None) as name:
        yield Path(name)


@pytest.fixture
async def database(folder: Path) -> AsyncIterator[Database]:
    """One of SQLite."""
    opened = Database("sqlite", folder)
    yield opened
    await opened.close()


@pytest.fixture(scope="session")
def clusters() -> Iterator[Callable[[str], str]]:
    """Starts an emulated VAST cluster of a version when it is first asked for: where it is, and its keys."""
    with ExitStack() as stack:

        @cache
        def cluster(version: str) -> str:
            from tests.vast_emulator import EmulatorProcess, Options

            running = stack.enter_context(EmulatorProcess(Options(version=version)))  # type: ignore[arg-type]
            return f"{running.endpoint} {running.access_key} {running.secret_key}"

        yield cluster


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """On VAST, where each step takes milliseconds, only the quick tests are quick; one version does then."""
    for item in items:
        engine = getattr(item, "callspec", None) and item.callspec.params.get("metadata")  # type: ignore[attr-defined]
        if isinstance(engine, str) and engine.startswith("vast"):
            random = getattr(getattr(item, "obj", None), "is_hypothesis_test", False)
            if random or engine != "vast-5.5":
                item.add_marker("slow")


@pytest.fixture
def examples(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> None:
    """Fewer examples for a random test on VAST. Hypothesis reads their number when the test begins, from an
    attribute that has no public name."""
    share = _EXAMPLES.get(request.node.callspec.params.get("metadata"))
    if share is not None and is_hypothesis_test(request.function):
        name = "_hypothesis_internal_use_settings"
        given = getattr(request.function, name)
        few = max(_LEAST_EXAMPLES, int(share * given.max_examples))
        monkeypatch.setattr(request.function, name, settings(given, max_examples=few))


@pytest.fixture(params=ENGINES)
async def metadata(
    request: pytest.FixtureRequest, folder: Path, clusters: Callable[[str], str], examples: None
) -> AsyncIterator[Database]:
    """Opens metadata on each engine; what the test leaves open is closed."""
    engine, _, version = request.param.partition("-")
    if engine == "vast" and importlib.util.find_spec("vastdb") is None and os.environ.get("CI") != "true":
        pytest.skip("vastdb is not installed: pip install -e '.[vast,vast-tests]'")
    database = Database(engine, folder, clusters(version) if version else "")
    yield database
    await database.close()
