"""What keeps a server from starting is told in words, all of it at once, and never as a traceback."""

from __future__ import annotations

import asyncio
import json
import os
import shutil
import socket
import subprocess
import sys
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path

import pytest
from typer.testing import CliRunner

from proxy.__main__ import app
from store.__main__ import app as store_app
from store.asgi import App
from store.errors import Unavailable
from store.reload import Replaceable
from tests.bench.servers import ROOT
from tests.end_to_end.server import environment


@pytest.fixture(autouse=True)
def elsewhere(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)


def refused(*arguments: str, of: object = app) -> str:
    result = CliRunner().invoke(of, arguments)  # type: ignore[arg-type]
    assert isinstance(result.exception, SystemExit), result.exception
    assert (result.exit_code, result.stdout) == (2, "")
    return result.stderr


@pytest.mark.parametrize("command", ["serve", "config"])
def test_all_that_is_wrong_is_told_at_once(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, command: str
) -> None:
    shutil.copytree(ROOT / "policies", tmp_path / "policies")
    (tmp_path / "policies" / "model.fga").unlink()
    (tmp_path / "data").mkdir()
    (tmp_path / "data" / "keyring.json").write_text("{}")
    (tmp_path / "data" / "keyring.json").chmod(0o644)
    (tmp_path / "keys.json").write_text("[")
    monkeypatch.setenv("TAMS_API_KEYS", "keys.json")
    monkeypatch.setenv("TAMS_KEYS__BACKEND", "nope")
    monkeypatch.setenv("TAMS_STREAMS__BACKEND", "none")
    monkeypatch.setenv("TAMS_URLS__LIFETIME_S", "10")
    monkeypatch.setenv("TAMS_TOKEN_ENDPOINT", "false")
    monkeypatch.setenv("TAMS_ALLOW_BASIC", "true")
    told = refused(command)
    for word in (
        "model.fga: is not in",
        "mode 644",
        "keys.json",
        "'nope'",
        "'none'",
        "Basic",
        "URLS__LIFETIME_S",
    ):
        assert word in told
    assert len(told.splitlines()) == 8
    assert not (tmp_path / "data" / "metadata.sqlite").exists()


@pytest.mark.parametrize("of", [app, store_app], ids=["proxy", "store"])
@pytest.mark.parametrize("value", ["file", "file/below", "/dev/null/x"])
def test_data_have_to_be_a_folder(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, value: str, of: object
) -> None:
    (tmp_path / "file").touch()
    monkeypatch.setenv("TAMS_DATA", value)
    told = refused("serve", of=of)
    assert "TAMS_DATA" in told and "is no folder" in told
    assert len(told.splitlines()) == 2


def test_a_keyring_that_has_to_be_shared_is_missed_at_once(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("ACCESS_KEY", "SECRET_KEY", "BUCKET"):
        monkeypatch.setenv(f"TAMS_VAST__{name}", "x")
    monkeypatch.setenv("TAMS_VAST__ENDPOINTS", '["http://127.0.0.1:9"]')
    monkeypatch.setenv("TAMS_METADATA", "vast")
    assert "keyring.json is missing" in refused("config")


def test_what_fails_when_it_is_opened_is_told_to_the_server_in_one_line() -> None:
    @asynccontextmanager
    async def opening() -> AsyncIterator[App]:
        raise Unavailable("It is\nbroken.") from OSError("no disk")
        yield

    sent: list[dict[str, object]] = []

    async def receive() -> dict[str, object]:
        return {"type": "lifespan.startup"}

    async def send(message: dict[str, object]) -> None:
        sent.append(message)

    replaceable = Replaceable(opening, (Unavailable,), 0)
    asyncio.run(replaceable({"type": "lifespan"}, receive, send))  # type: ignore[arg-type]
    assert sent == [{"type": "lifespan.startup.failed", "message": "It is; broken. (no disk)"}]


@pytest.mark.slow
@pytest.mark.parametrize("module", ["proxy", "store"])
def test_a_database_that_is_none_ends_the_start_in_words(tmp_path: Path, module: str) -> None:
    (tmp_path / "data").mkdir()
    (tmp_path / "data" / "metadata.sqlite").write_text("this is no database\n" * 100)
    ended = _served(tmp_path, module, 0)
    assert ended.returncode == 3
    assert "file is not a database" in ended.stderr and "Traceback" not in ended.stderr
    messages = [json.loads(line) for line in ended.stderr.splitlines() if line.startswith("{")]
    assert not any("exception" in message for message in messages)


@pytest.mark.slow
def test_a_port_that_is_taken_is_not_welcomed_at(tmp_path: Path) -> None:
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        taken.listen()
        ended = _served(tmp_path, "proxy", taken.getsockname()[1])
    assert ended.returncode == 3
    assert "Cannot listen" in ended.stderr and "TAMS 8.2 at" not in ended.stderr


def _served(folder: Path, module: str, port: int) -> subprocess.CompletedProcess[str]:
    given = {"PYTHONPATH": str(ROOT), "TAMS_PORT": str(port), "TAMS_LOG_FORMAT": "json"}
    return subprocess.run(
        [sys.executable, "-m", module, "serve"],
        cwd=folder,
        env=environment() | given | {"TAMS_CONFIG": os.devnull},
        capture_output=True,
        text=True,
        check=False,
    )
