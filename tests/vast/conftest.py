import importlib.util
import os
from collections.abc import Callable, Iterable, Iterator
from contextlib import ExitStack
from pathlib import Path
from typing import TYPE_CHECKING, Any, NoReturn

import pytest

if TYPE_CHECKING:
    from tests.vast_emulator import Emulator, EmulatorProcess, Options


class _WithoutSdk(pytest.Module):
    def collect(self) -> Iterable[NoReturn]:
        pytest.skip("vastdb is not installed: pip install -e '.[vast,vast-tests]'", allow_module_level=True)


def pytest_pycollect_makemodule(module_path: Path, parent: pytest.Collector) -> pytest.Module | None:
    """Skip where the SDK is missing; in CI it has to be there, and its import fails loudly."""
    if importlib.util.find_spec("vastdb") is None and os.environ.get("CI") != "true":
        return _WithoutSdk.from_parent(parent, path=module_path)
    return None


@pytest.fixture
def start() -> "Iterator[Callable[..., Emulator]]":
    """Starts emulators with the options given and stops them at the end."""
    from tests.vast_emulator import Emulator, Options

    with ExitStack() as stack:

        def started(**given: Any) -> Emulator:
            return stack.enter_context(Emulator(Options(**given)))

        yield started


@pytest.fixture
def emulator(start: "Callable[..., Emulator]") -> "Emulator":
    return start()


@pytest.fixture
def start_process() -> "Iterator[Callable[[Options], EmulatorProcess]]":
    """Starts emulators in processes of their own and kills them at the end."""
    from tests.vast_emulator import EmulatorProcess, Options

    with ExitStack() as stack:

        def started(options: Options) -> EmulatorProcess:
            return stack.enter_context(EmulatorProcess(options))

        yield started


@pytest.fixture
def connect() -> Iterator[Callable[..., Any]]:
    """Connects the real SDK to an emulator; by default with three tries and a timeout of 10 s."""
    from tests.vast.support import closing_session

    with ExitStack() as stack:

        def connected(emulator: "Emulator | EmulatorProcess", **given: Any) -> Any:
            return stack.enter_context(closing_session(emulator, **given))

        yield connected
