"""Real servers in processes of their own, on loopback, for a benchmark to load."""

from __future__ import annotations

import os
import socket
import subprocess
import sys
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import httpx

from tests.ports import free_port

ROOT = Path(__file__).parents[2]


@dataclass(frozen=True, slots=True)
class Started:
    """A server process, and the seconds from its start to its first answer."""

    pid: int
    first_answer_s: float

    def resident_mb(self) -> float:
        """The memory that it has now."""
        lines = Path(f"/proc/{self.pid}/status").read_text().splitlines()
        return next(int(line.split()[1]) for line in lines if line.startswith("VmRSS:")) / 1024

    def cpu_s(self) -> float:
        """The CPU time that it took so far."""
        fields = Path(f"/proc/{self.pid}/stat").read_text().rpartition(")")[2].split()
        return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")


@contextmanager
def process(arguments: list[str], environ: dict[str, str], port: int) -> Iterator[Started]:
    """A server process, stopped in the end."""
    began = time.perf_counter()
    running = subprocess.Popen(
        [sys.executable, *arguments],
        cwd=ROOT,
        env={**os.environ, **environ},
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
    )
    try:
        yield Started(running.pid, first_answer(running, port, began))
    finally:
        running.terminate()
        running.wait(20)


def first_answer(running: subprocess.Popen[bytes], port: int, began: float) -> float:
    """The seconds from `began` to the first answer of a process. RuntimeError when it ends before."""
    while time.perf_counter() - began < 60:
        if running.poll() is not None:
            raise RuntimeError(f"the server ended with status {running.returncode}")
        try:
            with socket.create_connection(("127.0.0.1", port), 1) as connection:
                connection.sendall(b"GET /health HTTP/1.1\r\nHost: bench\r\nConnection: close\r\n\r\n")
                if connection.recv(16).startswith(b"HTTP/1.1 200"):
                    return time.perf_counter() - began
        except OSError:
            time.sleep(0.005)
    raise RuntimeError("the server never answered")


@contextmanager
def proxy(
    data: Path, upstream: str | None = None, workers: int = 1, environ: Mapping[str, str] | None = None
) -> Iterator[tuple[str, Started]]:
    """The proxy on a data folder, before an upstream if one is given; yields its URL too. `environ`: settings
    besides."""
    port = free_port()
    settings = {
        "TAMS_PORT": str(port),
        "TAMS_DATA": str(data),
        "TAMS_LOG_FORMAT": "json",
        "TAMS_WORKERS": str(workers),
        **(environ or {}),
    }
    if upstream is not None:
        settings["TAMS_UPSTREAM"] = upstream
    with process(["-m", "proxy", "serve", "--demo"], settings, port) as started:
        yield f"http://127.0.0.1:{port}", started


@contextmanager
def store(data: Path) -> Iterator[str]:
    """The store alone on a data folder; yields its URL."""
    port = free_port()
    environ = {"TAMS_PORT": str(port), "TAMS_DATA": str(data), "TAMS_LOG_FORMAT": "json"}
    with process(["-m", "store", "serve"], environ, port):
        yield f"http://127.0.0.1:{port}"


@contextmanager
def bare(folder: Path, bodies: dict[str, bytes]) -> Iterator[str]:
    """A bare Starlette application that returns given bytes at given paths; yields its URL."""
    for name, body in bodies.items():
        (folder / name).write_bytes(body)
    port = free_port()
    with process(["-m", "tests.bench.bare", str(folder), str(port)], {}, port):
        yield f"http://127.0.0.1:{port}"


def token(url: str, data: Path, client: str) -> str:
    """An access token of the built-in endpoint."""
    import json

    secret = json.loads((data / "clients.secret").read_text())[client]
    form = {"grant_type": "client_credentials"}
    answer = httpx.post(f"{url}/token", data=form, auth=(client, secret), timeout=60)
    return str(answer.json()["access_token"])
