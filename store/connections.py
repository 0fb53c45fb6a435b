"""How many connections a process may have, and those that nobody has taken yet."""

from __future__ import annotations

import contextlib
import resource
import socket
from collections.abc import Iterator

MOST_FILES = 65_536


def waiting_at(listening: socket.socket) -> Iterator[socket.socket]:
    """Connections that nobody has taken yet."""
    while True:
        try:
            connection, _ = listening.accept()
        except OSError:
            return
        connection.setblocking(False)
        yield connection


def allow_connections(wanted: int) -> None:
    """Raise this process's limit of open files, as far as it may be, so that many can be connected."""
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    most = MOST_FILES if hard == resource.RLIM_INFINITY else min(hard, MOST_FILES)
    asked = max(soft, min(wanted + 1024, most))
    if soft != resource.RLIM_INFINITY and asked > soft:
        # A container may forbid what the limit allows; then the limit stays.
        with contextlib.suppress(ValueError, OSError):
            resource.setrlimit(resource.RLIMIT_NOFILE, (asked, hard))
