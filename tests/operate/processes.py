"""Real servers that share a data folder, and nginx before them."""

from __future__ import annotations

import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

import httpx

from tests.bench.servers import ROOT
from tests.end_to_end.server import environment
from tests.ports import free_port

NGINX = """
daemon off;
worker_processes 1;
pid {folder}/nginx.pid;
error_log {folder}/nginx-error.log;
events {{ worker_connections 256; }}
http {{
    access_log off;
    client_body_temp_path {folder}/body;
    proxy_temp_path {folder}/proxied;
    fastcgi_temp_path {folder}/unused1;
    uwsgi_temp_path {folder}/unused2;
    scgi_temp_path {folder}/unused3;
    upstream tams {{
        {servers}
        keepalive 16;
    }}
    server {{
        listen 127.0.0.1:{port};
        location / {{
            proxy_pass http://tams;
            proxy_http_version 1.1;
            proxy_set_header Connection "";
            proxy_set_header Host $http_host;
            proxy_next_upstream error timeout;
        }}
    }}
}}
"""


class Served:
    """`tams-proxy serve --demo` on a data folder, which others may use too."""

    def __init__(self, folder: Path, *arguments: str, **settings: str) -> None:
        self.folder = folder
        self.port = free_port()
        self.side_port = free_port()
        self.url = f"http://127.0.0.1:{self.port}"
        self._arguments = arguments
        self._settings = settings
        self._process: subprocess.Popen[bytes] | None = None

    @property
    def process(self) -> subprocess.Popen[bytes]:
        """The running one."""
        assert self._process is not None
        return self._process

    @property
    def log(self) -> str:
        """What it has logged."""
        return (self.folder / f"{self.port}.log").read_text()

    def start(self) -> None:
        """Start it, and return when it is ready."""
        given = {
            "TAMS_PORT": str(self.port),
            "TAMS_DATA": str(self.folder / "data"),
            "TAMS_METRICS__PORT": str(self.side_port),
            "TAMS_LOG_FORMAT": "json",
        }
        given |= {f"TAMS_{name.upper()}": value for name, value in self._settings.items()}
        with (self.folder / f"{self.port}.log").open("ab") as log:
            self._process = subprocess.Popen(
                [sys.executable, "-m", "proxy", "serve", "--demo", *self._arguments],
                cwd=self.folder,
                env=environment() | {"PYTHONPATH": str(ROOT)} | given,
                stdout=log,
                stderr=log,
            )
        self.wait_ready()

    def wait_ready(self) -> None:
        """Return when it is ready."""
        until(lambda: self.asked("/ready") == 200, "ready")

    def asked(self, path: str) -> int:
        """The status of a path on the port for operators; 0 where there is no answer."""
        assert self.process.poll() is None, self.log
        try:
            return httpx.get(f"http://127.0.0.1:{self.side_port}{path}", timeout=10).status_code
        except httpx.TransportError:
            return 0

    def figures(self) -> str:
        """Its figures."""
        return httpx.get(f"http://127.0.0.1:{self.side_port}/metrics", timeout=10).text

    def children(self) -> set[int]:
        """The pids of its worker processes."""
        path = Path(f"/proc/{self.process.pid}/task/{self.process.pid}/children")
        return {int(pid) for pid in path.read_text().split()}

    def stop(self, how: signal.Signals = signal.SIGTERM) -> int:
        """End it in good order; its exit status."""
        self.process.send_signal(how)
        return self.process.wait(60)


def until(true: Callable[[], bool], what: str, within_s: float = 60) -> None:
    """Return when it is true."""
    end_s = time.monotonic() + within_s
    while not true():
        assert time.monotonic() < end_s, f"not {what} in time"
        time.sleep(0.02)


@contextmanager
def nginx(program: Path, folder: Path, ports: list[int], port: int) -> Iterator[None]:
    """nginx at a port, before servers at others."""
    # Who is asked is tried, whatever it did a moment ago: else one that has just come back still counts as
    # gone when the next one goes.
    servers = " ".join(f"server 127.0.0.1:{each} max_fails=0;" for each in ports)
    conf = folder / "nginx.conf"
    conf.write_text(NGINX.format(folder=folder, servers=servers, port=port))
    running = subprocess.Popen([program, "-c", conf, "-e", folder / "nginx-error.log"], cwd=folder)
    try:
        yield
    finally:
        running.terminate()
        running.wait(20)
