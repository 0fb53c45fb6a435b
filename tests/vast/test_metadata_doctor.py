"""`tams-store doctor` and `upgrade`: what they say about a cluster, and what of it binds the store."""

from __future__ import annotations

import os
import time
from typing import Any

import pytest
from typer.testing import CliRunner

from store.__main__ import app
from store.metadata import vast_tables
from tests.contract.metadata_support import get, new_flow
from tests.vast.metadata_support import SCHEMA, opened
from tests.vast_emulator import Fault


@pytest.fixture
def run(monkeypatch: pytest.MonkeyPatch, tmp_path: Any) -> Any:
    """Runs a command on an emulator by the environment's settings: (exit status, output)."""

    def _run(emulator: Any, *words: str, **given: str) -> tuple[int, str]:
        for name, value in {
            "CONFIG": os.devnull,
            "VAST__ENDPOINTS": f'["{emulator.endpoint}"]',
            "VAST__BUCKET": emulator.bucket,
            "VAST__DB_SCHEMA": SCHEMA,
            "VAST__ACCESS_KEY": emulator.access_key,
            "VAST__SECRET_KEY": emulator.secret_key,
            **given,
        }.items():
            monkeypatch.setenv(f"TAMS_{name}", value)
        result = CliRunner().invoke(app, list(words))
        return result.exit_code, result.output

    return _run


@pytest.mark.parametrize("version", ["5.4", "5.5"])
@pytest.mark.parametrize(
    ("conflicts", "told"),
    [("update", "at once"), ("commit", "commits"), ("locks", "NOT found"), ("none", "NOT found")],
)
def test_the_doctor_says_what_a_cluster_does(
    start: Any, run: Any, version: str, conflicts: str, told: str
) -> None:
    emulator = start(version=version, conflicts=conflicts)
    status, output = run(emulator, "doctor")
    assert status == 0
    assert f"version: {version}" in output
    assert "sorted tables: work" in output
    assert told in output
    assert "latency of query" in output
    assert "FAIL" not in output
    assert run(emulator, "doctor", "--tables") == (0, "")


def test_the_doctor_leaves_the_tables_as_they_are(emulator: Any, run: Any) -> None:
    import asyncio

    async def fill() -> None:
        async with opened(emulator) as vast:
            await new_flow(vast)

    asyncio.run(fill())
    assert run(emulator, "doctor")[0] == 0
    status, output = run(emulator, "doctor", "--tables")
    assert status == 0
    assert "resources: 1 rows" in output
    assert "sorted by flow_id, start_ns" in output
    assert output.splitlines()[0] == SCHEMA


@pytest.mark.parametrize(
    ("given", "told"),
    [
        ({"VAST__SECRET_KEY": "wrong"}, "refuses the credentials"),
        ({"VAST__BUCKET": "absent"}, "DATABASE"),
        ({"VAST__ENDPOINTS": '["http://127.0.0.1:9"]'}, "cannot be reached"),
    ],
)
def test_the_doctor_fails_where_the_metadata_could_not_be_kept(
    emulator: Any, run: Any, given: dict[str, str], told: str
) -> None:
    status, output = run(emulator, "doctor", **given)
    assert status == 1
    assert told in output


def test_settings_that_name_no_cluster_are_refused(monkeypatch: pytest.MonkeyPatch, tmp_path: Any) -> None:
    monkeypatch.setenv("TAMS_CONFIG", os.devnull)
    result = CliRunner().invoke(app, ["doctor"])
    assert result.exit_code == 2
    assert "TAMS_VAST__ENDPOINTS" in result.output


def test_what_the_doctor_finds_binds_the_next_start(emulator: Any, run: Any) -> None:
    import asyncio

    async def told() -> str:
        async with opened(emulator) as vast:
            return (await vast.check())["conflicts"]

    assert asyncio.run(told()) == "update"
    # A cluster that no longer refuses what it refused when the tables were made.
    object.__setattr__(emulator.options, "conflicts", "none")
    emulator._core.store._conflicts = "none"
    assert run(emulator, "doctor")[0] == 0
    assert asyncio.run(told()) == "unseen"


def test_an_upgrade_adds_what_is_missing(emulator: Any, run: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    import asyncio

    older = dict(vast_tables.TABLES)
    spec = older["resources"]
    older["resources"] = vast_tables.Spec(
        {name: kind for name, kind in spec.columns.items() if name != "codec"}, spec.sort
    )
    del older["keys"]
    with monkeypatch.context() as patch:
        patch.setattr(vast_tables.create, "__defaults__", (older,))
        patch.setattr(vast_tables.load, "__defaults__", (older,))
        status, output = run(emulator, "upgrade")
    assert (status, "made table resources" in output) == (0, True)

    async def use() -> None:
        async with opened(emulator) as vast:
            await new_flow(vast)
            assert (await get(vast, "flow")).id == "flow"

    with pytest.raises(Exception, match="tams-store upgrade"):
        asyncio.run(use())
    status, output = run(emulator, "upgrade")
    assert (status, output) == (0, "made column resources.codec\nmade table keys\n")
    asyncio.run(use())
    assert run(emulator, "upgrade") == (0, "nothing was missing\n")


def test_a_cluster_that_fails_later_is_told_of(emulator: Any, run: Any) -> None:
    emulator.faults.add(Fault("status", "create_table", times=None, status=403))
    begun = time.monotonic()
    status, output = run(emulator, "doctor")
    assert status == 1
    assert "FAIL" in output
    assert time.monotonic() - begun < 60
