"""A real server process on a data folder of its own, on loopback, that can be killed and started again."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from collections.abc import Mapping
from pathlib import Path

from proxy.commands.token import clear_secret
from proxy.demo.client import Client
from tests.bench.servers import ROOT, first_answer
from tests.ports import free_port


def environment() -> dict[str, str]:
    """This process's own, without settings of a server."""
    kept = {name: value for name, value in os.environ.items() if not name.startswith("TAMS_")}
    return kept | {"PYTHONPATH": str(ROOT)}


class Server:
    """`tams-proxy serve --demo` in `folder`: data in its `data`, policy in its `policies` or else the shipped
    one. `environ`: what is added to its environment."""

    def __init__(self, folder: Path, environ: Mapping[str, str] | None = None) -> None:
        self.folder = folder
        self.environ = dict(environ or {})
        self.data = folder / "data"
        self.port = free_port()
        self.url = f"http://127.0.0.1:{self.port}"
        self._process: subprocess.Popen[bytes] | None = None

    @property
    def pid(self) -> int:
        """The process that was started last."""
        assert self._process is not None
        return self._process.pid

    def start(self) -> float:
        """Start it, and return when it answers: after how many seconds."""
        settings = {"TAMS_PORT": str(self.port), "TAMS_DATA": str(self.data)}
        began = time.perf_counter()
        with (self.folder / "server.log").open("ab") as log:
            self._process = subprocess.Popen(
                [sys.executable, "-m", "proxy", "serve", "--demo"],
                cwd=self.folder,
                env=environment() | settings | self.environ,
                stdout=log,
                stderr=log,
            )
        return first_answer(self._process, self.port, began)

    def kill(self) -> None:
        """End it at once, as a crash would, and return when it is gone."""
        self._end(signal.SIGKILL)

    def stop(self) -> None:
        """End it in good order."""
        self._end(signal.SIGTERM)

    def _end(self, how: signal.Signals) -> None:
        if self._process is not None:
            self._process.send_signal(how)
            self._process.wait(30)

    def client(self, name: str) -> Client:
        """A client of the policy, logged in when it first calls."""
        return Client(self.url, name, clear_secret(self.data, name))
