"""The management script does what operators of an older deployment know."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
SERVER = """
import signal, sys, time
signal.signal(signal.SIGHUP, lambda *_: print("read again", flush=True))
signal.signal(signal.SIGTERM, lambda *_: sys.exit(0))
print("serving", flush=True)
while True:
    signal.pause()
"""


class Managed:
    def __init__(self, folder: Path) -> None:
        # A copy: beside the real one there may be servers of Compose.
        script = folder / "deploy" / "manage"
        script.parent.mkdir()
        shutil.copy(ROOT / "deploy" / "manage", script)
        (folder / "server.py").write_text(SERVER)
        self.folder, self.script = folder, script
        self.command = f"{sys.executable} {folder / 'server.py'}"

    def __call__(self, *arguments: str, stdin: str = "", **more: str) -> tuple[int, str]:
        env = {"PATH": os.environ["PATH"], "TAMS_COMMAND": self.command, "TAMS_UNIT": "none-such", **more}
        done = subprocess.run(
            ["sh", self.script, *arguments],
            cwd=self.folder,
            env=env,
            input=stdin,
            capture_output=True,
            text=True,
            timeout=60,
            check=False,
        )
        return done.returncode, done.stdout + done.stderr


@pytest.fixture
def manage(tmp_path: Path) -> Iterator[Managed]:
    managed = Managed(tmp_path)
    yield managed
    managed("stop")


def test_it_starts_tells_reloads_and_stops(manage: Managed) -> None:
    assert manage("status") == (3, "not running\n")
    code, said = manage("start")
    assert code == 0 and said.startswith("started, pid ")
    assert manage("status") == (0, said.replace("started", "running"))
    assert manage("start")[1].startswith("already running")
    assert manage("reload")[0] == 0
    before = (manage.folder / "data" / "server.pid").read_text()
    assert manage("restart")[0] == 0
    assert (manage.folder / "data" / "server.pid").read_text() != before
    code, said = manage("logs", "3")
    assert code == 0 and "serving" in said and len(said.splitlines()) <= 3
    assert manage("stop") == (0, "stopped\n")
    assert manage("stop") == (0, "not running\n")
    assert manage("reload")[0] == 3


def test_a_server_that_does_not_start_is_told_with_its_log(manage: Managed) -> None:
    manage.command = f"{sys.executable} -c raise(SystemExit('the_settings_cannot_be_used'))"
    code, said = manage("start")
    assert code == 1 and "the_settings_cannot_be_used" in said


def test_the_data_folder_is_that_of_the_settings(manage: Managed) -> None:
    (manage.folder / ".env").write_text('export TAMS_DATA="elsewhere"\n')
    manage("start")
    assert (manage.folder / "elsewhere" / "server.pid").exists()
    manage("stop", TAMS_DATA="other")
    assert manage("status")[0] == 0
    assert manage("stop")[1] == "stopped\n"


def test_a_shell_has_the_commands_at_hand(manage: Managed) -> None:
    scripts = manage.folder / ".venv" / "bin"
    scripts.mkdir(parents=True)
    (scripts / "tams-proxy").write_text("#!/bin/sh\necho here\n")
    (scripts / "tams-proxy").chmod(0o755)
    assert manage("shell", stdin="tams-proxy\n", SHELL="/bin/sh") == (0, "here\n")


@pytest.mark.parametrize("arguments", [(), ("nonsense",)])
def test_anything_else_is_told_what_there_is(manage: Managed, arguments: tuple[str, ...]) -> None:
    code, said = manage(*arguments)
    assert code == 2 and "status | logs [n] | start | stop | restart" in said
