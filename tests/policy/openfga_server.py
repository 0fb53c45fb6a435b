"""A real OpenFGA server, for suites that run on it."""

from __future__ import annotations

import contextlib
import socket
import subprocess
import time
from collections.abc import Iterator

from tests.contract.media_servers import absent
from tests.installed import binary
from tests.ports import free_port

_START_S = 60


@contextlib.contextmanager
def running(*options: str) -> Iterator[str]:
    """The URL of a server with an empty memory; skips where there is none, fails where there must be."""
    found = binary("openfga")
    if found is None:
        absent("no OpenFGA server in the test cache")
    http, grpc = free_port(), free_port()
    command = [str(found), "run", "--datastore-engine", "memory", "--playground-enabled=false"]
    command += [
        "--http-addr",
        f"127.0.0.1:{http}",
        "--grpc-addr",
        f"127.0.0.1:{grpc}",
        "--metrics-enabled=false",
    ]
    process = subprocess.Popen(
        [*command, "--log-level", "none", *options], stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL
    )
    try:
        _await_port(process, http)
        yield f"http://127.0.0.1:{http}"
    finally:
        process.kill()
        process.wait()


def _await_port(process: subprocess.Popen[bytes], port: int) -> None:
    give_up = time.monotonic() + _START_S
    while time.monotonic() < give_up:
        assert process.poll() is None, "the OpenFGA server ended at once"
        with contextlib.suppress(OSError), socket.create_connection(("127.0.0.1", port), timeout=1):
            return
        time.sleep(0.05)
    raise AssertionError("the OpenFGA server does not answer")
