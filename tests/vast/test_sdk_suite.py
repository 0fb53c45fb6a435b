"""The conformance gate: the cluster tests that the SDK ships pass against the emulator."""

import importlib.util
import re
import subprocess
import sys
import xml.etree.ElementTree as ElementTree
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

IGNORED = {
    "test_adbc_integration.py": "needs VAST's ADBC driver, which is not on PyPI",
    "test_blob_expansion.py": "skipped as a whole by VAST itself",
    "test_duckdb.py": "tests an older DuckDB rather than the server",
    "test_imports.py": "imports Parquet objects, for which the emulator would have to be an object store",
    "test_vector_search.py": "vector search goes through the ADBC driver",
}
DESELECTED = {
    "test_tables.py::test_elysium_splits": "sleeps for 300 s",
    "test_tables.py::test_catalog_select": "reads a cluster's own catalogue",
    "test_tables.py::test_catalog_snapshots_select": "reads snapshots of a cluster's own catalogue",
    "test_tables.py::test_audit_log_select": "reads a cluster's own audit log",
    "test_vector_index.py::test_create_table_with_vector_index_basic_metadata": "vector indexes",
    "test_vector_index.py::test_create_table_with_invalid_vector_index": "vector indexes",
    "test_vector_index.py::test_vector_index_metadata_from_stats": "vector indexes",
    "test_vector_index.py::test_vector_index_quantization_values": "vector indexes",
}
EXPECTED = 560
"""How many tests at least are to pass."""


def sdk_tests() -> Path:
    spec = importlib.util.find_spec("vastdb")
    assert spec is not None and spec.origin is not None
    return Path(spec.origin).parent / "tests"


@pytest.mark.parametrize("left_out", [*IGNORED, *DESELECTED])
def test_what_is_left_out_exists(left_out: str) -> None:
    file, _, name = left_out.partition("::")
    assert re.search(rf"^def {name}\(" if name else "", (sdk_tests() / file).read_text(), re.MULTILINE)


def run(emulator: Any, folder: Path) -> tuple[dict[str, int], str]:
    """Run the SDK's tests in a process of their own; return how many ended in which way, and their output."""
    root = sdk_tests().parent
    settings, report = folder / "pytest.ini", folder / "report.xml"
    settings.write_text("[pytest]\nasyncio_default_fixture_loop_scope = function\n")
    command = [
        sys.executable,
        "-m",
        "pytest",
        str(sdk_tests()),
        "-q",
        "-p",
        "no:cacheprovider",
        "--tb=short",
        "--disable-warnings",
    ]
    command += ["-c", str(settings), "--rootdir", str(root), f"--junitxml={report}", "-n", "0"]
    command += ["--tabular-endpoint-url", emulator.endpoint, "--tabular-access-key", emulator.access_key]
    command += ["--tabular-secret-key", emulator.secret_key, "--tabular-bucket-name", emulator.bucket]
    command += [f"--ignore={sdk_tests() / file}" for file in IGNORED]
    command += [f"--deselect=tests/{test}" for test in DESELECTED]
    done = subprocess.run(command, cwd=folder, capture_output=True, text=True, check=False)
    output = done.stdout[-20_000:] + done.stderr[-2_000:]
    assert report.exists(), output
    suite = ElementTree.parse(report).getroot().find("testsuite")
    assert suite is not None, output
    counts = {name: int(suite.attrib[name]) for name in ("tests", "failures", "errors", "skipped")}
    return counts, output


@pytest.mark.slow
@pytest.mark.parametrize("version", ["5.4", "5.5"])
def test_the_sdk_finds_nothing_wrong(start_process: Callable[..., Any], tmp_path: Path, version: Any) -> None:
    from tests.vast_emulator import Options

    emulator = start_process(Options(version=version))
    counts, output = run(emulator, tmp_path)
    assert (counts["failures"], counts["errors"], counts["skipped"]) == (0, 0, 0), output
    assert counts["tests"] >= EXPECTED
