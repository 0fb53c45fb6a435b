"""Real servers in threads of this process, and upstreams that reach them over loopback."""

from __future__ import annotations

import socket
import ssl
import threading
import time
from collections.abc import AsyncIterator, Callable, Iterator
from contextlib import asynccontextmanager, contextmanager
from pathlib import Path
from typing import Any

import uvicorn

from proxy.upstream.client import Client
from proxy.upstream.connection import Limits
from proxy.upstream.credentials import Credential, Fixed, Proof
from proxy.upstream.headers import Base
from proxy.upstream.http import HttpUpstream
from proxy.upstream.ledger import SqliteLedger
from proxy.upstream.parts import Clock, Parts
from proxy.upstream.relayed import RelayedUrls
from proxy.upstream.seal import Sealer

PUBLIC_URL = "http://tams.test"
KEYS = (b"c" * 32,)


@contextmanager
def serving(make: Callable[[str], Any], certificate: tuple[Path, Path] | None = None) -> Iterator[str]:
    """The application that `make` gives for its own URL, served until the context ends; yields the URL.
    `certificate`: with its key, for https."""
    scheme = "http" if certificate is None else "https"
    pem, key = certificate or (None, None)
    with socket.socket() as listener:
        listener.bind(("127.0.0.1", 0))
        url = f"{scheme}://127.0.0.1:{listener.getsockname()[1]}"
        config = uvicorn.Config(
            make(url),
            loop="uvloop",
            http="httptools",
            lifespan="on",
            log_config=None,
            access_log=False,
            timeout_graceful_shutdown=1,
            ssl_certfile=pem,
            ssl_keyfile=key,
        )
        server = uvicorn.Server(config)
        thread = threading.Thread(target=server.run, args=([listener],), daemon=True)
        thread.start()
        try:
            while not server.started:
                if not thread.is_alive():
                    raise RuntimeError("the server ended before it began")
                time.sleep(0.005)
            yield url
        finally:
            server.should_exit = True
            thread.join(10)


@asynccontextmanager
async def upstream(
    url: str,
    folder: Path,
    *,
    credential: Credential | None = None,
    limits: Limits | None = None,
    deadline_s: float = 20.0,
    clock: Callable[[], float] = time.monotonic,
    tls: ssl.SSLContext | None = None,
) -> AsyncIterator[HttpUpstream]:
    """An upstream at a URL."""
    base = Base.of(url)
    client = Client(base, credential or Fixed(Proof()), limits or Limits(), clock, tls)
    ledger = SqliteLedger(folder / "upstream.sqlite", base.origin, time.time)
    urls = RelayedUrls(Sealer(KEYS, "media"), base, PUBLIC_URL, "", 900)
    at = Clock(time.time, clock, lambda: "2026-01-01T00:00:00Z")
    found = HttpUpstream(
        Parts(client, ledger, Sealer(KEYS, "cursors"), urls, PUBLIC_URL, at), deadline_s=deadline_s
    )
    try:
        yield found
    finally:
        await found.close()
        ledger.close()
