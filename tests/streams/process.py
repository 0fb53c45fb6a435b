"""A store in a process of its own, whose hot files are small and soon sealed. Run: folder, port."""

from __future__ import annotations

import asyncio
import socket
import sys
from dataclasses import replace
from pathlib import Path

from store.app import StoreApp, run_store
from store.server import server
from store.serving import StopSettings
from store.streams.alone import Served
from store.streams.doors import Doors
from store.streams.hot import Sizes
from store.streams.streams import Options, Streams
from tests.store.harness import KEY, settings_of
from tests.streams.support import alive

SIZES = Sizes(entries=25, file_bytes=20_000)
SEAL_NS = 30_000_000


async def run(folder: Path, port: int) -> None:
    """Serve until killed."""
    settings = settings_of(folder)
    keys = (KEY,)
    opened = run_store(settings, media_keys=keys, cursor_keys=keys, webhook_keys=keys, jobs=())
    async with opened as running:
        options = Options(folder / "hot", sizes=SIZES, seal_ns=SEAL_NS)
        streams = Streams(running.store, options)
        streams.start()
        doors = Doors(streams, settings.max_body_bytes)
        running = replace(running, streams=Served(streams, doors))
        made = server(
            alive(StoreApp(running, settings.max_body_bytes)), "127.0.0.1", port, stop=StopSettings(drain_s=0)
        )
        with socket.socket() as listener:
            listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            listener.bind(("127.0.0.1", port))
            await made._serve([listener])
        await streams.stop()


if __name__ == "__main__":
    asyncio.run(run(Path(sys.argv[1]), int(sys.argv[2])))
