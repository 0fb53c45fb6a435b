"""The whole product in this process, on loopback, as its settings have it."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager
from pathlib import Path

from proxy.app import Settings, application
from store.server import server
from store.settings import parse
from store.tls import Certificates
from store.workers import listen


@asynccontextmanager
async def serving(folder: Path, environ: Mapping[str, str]) -> AsyncIterator[str]:
    """Its URL, while it serves with these settings, data in a folder of its own."""
    settings = parse(Settings, {"TAMS_DATA": str(folder / "data"), **environ})
    held = Certificates(settings.tls) if settings.tls.certificate is not None else None
    made = server(application(settings), "127.0.0.1", 0, certificates=held)
    (bound,) = listen("127.0.0.1", 0)
    task = asyncio.create_task(made._serve([bound]))
    try:
        async with asyncio.timeout(30):
            while not made.started:
                await asyncio.sleep(0.01)
        yield f"http{'s' if held else ''}://127.0.0.1:{bound.getsockname()[1]}"
    finally:
        made.should_exit = True
        await task
