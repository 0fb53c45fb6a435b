"""Ports for servers that are told theirs: in processes of their own, or started again where they were."""

from __future__ import annotations

import contextlib
import os
import random
import socket
from collections.abc import Iterator
from functools import cache
from itertools import cycle, islice

APART = 8
"""So many workers of one run never get the same port."""
PORTS = range(20_000, 32_000)
"""Below those that the system gives to connections and to whoever binds to port 0: one that is given up for
a moment is still free after it."""


def free_port() -> int:
    """A port of loopback that nothing listens on, and that this process did not get lately."""
    for port in islice(_mine(), len(PORTS) // APART):
        with socket.socket() as probe, contextlib.suppress(OSError):
            probe.bind(("127.0.0.1", port))
            return port
    raise RuntimeError("no port is free")


@cache
def _mine() -> Iterator[int]:
    """This worker's ports again and again, in an order of its own: another run may be beside it."""
    worker = int(os.environ.get("PYTEST_XDIST_WORKER", "gw0").removeprefix("gw"))
    ports = PORTS[worker % APART :: APART]
    # Not the generator of all, which tests may have seeded.
    return cycle(random.SystemRandom().sample(ports, len(ports)))
