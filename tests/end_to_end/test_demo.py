"""The demo as a command, against a real server process."""

from __future__ import annotations

import shutil
import subprocess
import sys
from importlib import resources
from pathlib import Path

import pytest

from tests.end_to_end.server import Server, environment
from tests.ports import free_port

pytest.importorskip("av", reason="PyAV makes the demo's media")


def demo(url: str, data: Path, *more: str) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, "-m", "proxy", "demo", "--url", url, "--data", str(data), *more]
    return subprocess.run(
        command,
        cwd=data.parent,
        env=environment() | {"COLUMNS": "120"},
        capture_output=True,
        text=True,
        timeout=300,
        check=False,
    )


def test_a_minute_goes_as_it_should_and_can_be_repeated(server: Server) -> None:
    first = demo(server.url, server.data)
    assert first.returncode == 0, first.stdout + first.stderr
    for says in (
        "1500/1500",
        "201 x 30",
        "404 x 9",
        "403 x 3",
        "8 of 8 the same",
        "360 pictures",
        "no archive",
    ):
        assert says in first.stdout
    assert "3 of 3 the same" in first.stdout and "nowhere that it may read" in first.stdout
    assert "WRONG" not in first.stdout
    again = demo(server.url, server.data, "--segments", "2")
    assert again.returncode == 0, again.stdout + again.stderr


def test_a_policy_that_lets_sport_read_news_is_told_and_fails(tmp_path: Path) -> None:
    with resources.as_file(resources.files("policies")) as shipped:
        shutil.copytree(shipped, tmp_path / "policies")
    tuples = tmp_path / "policies" / "tuples.yaml"
    leak = "- user: group:sport#member\n  relation: reader\n  object: auth_class:news\n"
    tuples.write_text(tuples.read_text() + leak)
    server = Server(tmp_path)
    server.start()
    try:
        answer = demo(server.url, server.data, "--segments", "2")
    finally:
        server.stop()
    assert answer.returncode == 1
    assert "6 of them listed" in answer.stdout
    assert "WRONG" in answer.stdout


def test_without_a_server_it_says_so(server: Server) -> None:
    answer = demo(f"http://127.0.0.1:{free_port()}", server.data)
    assert answer.returncode == 2
    assert "make run" in answer.stderr


def test_without_secrets_it_says_where_they_would_be(tmp_path: Path) -> None:
    answer = demo("http://127.0.0.1:8000", tmp_path / "data")
    assert answer.returncode == 2
    assert "clients.secret" in answer.stderr
