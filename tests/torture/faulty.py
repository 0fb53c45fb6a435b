"""A TCP relay that misbehaves on demand, between the server and what it depends on."""

from __future__ import annotations

import asyncio
import random
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Literal, get_args

Mode = Literal[
    "well", "refuses", "hangs", "is late", "trickles", "resets", "is cut short", "says nothing", "garbles"
]
MODES: tuple[Mode, ...] = get_args(Mode)[1:]
LATE_S = 30.0
CHUNK_BYTES = 1 << 16


class Relay:
    """Relays connections to a port of this machine; `mode` may change at any time, also for those open."""

    def __init__(self, port: int, seed: int) -> None:
        self._to = port
        self._random = random.Random(seed)
        self.mode: Mode = "well"
        self.port = 0

    @property
    def url(self) -> str:
        """Where it listens."""
        return f"http://127.0.0.1:{self.port}"

    @contextmanager
    def running(self) -> Iterator[Relay]:
        """It relays meanwhile, in a thread of its own."""
        loop, ready = asyncio.new_event_loop(), threading.Event()
        thread = threading.Thread(target=self._run, args=(loop, ready.set), daemon=True)
        thread.start()
        ready.wait()
        try:
            yield self
        finally:
            loop.call_soon_threadsafe(loop.stop)
            thread.join()

    def _run(self, loop: asyncio.AbstractEventLoop, ready: Callable[[], None]) -> None:
        asyncio.set_event_loop(loop)
        server = loop.run_until_complete(asyncio.start_server(self._serve, "127.0.0.1", 0))
        self.port = server.sockets[0].getsockname()[1]
        ready()
        loop.run_forever()
        server.close()
        tasks = asyncio.all_tasks(loop)
        for task in tasks:
            task.cancel()
        loop.run_until_complete(asyncio.gather(*tasks, return_exceptions=True))
        loop.close()

    async def _serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        if self.mode == "refuses":
            writer.transport.abort()
            return
        try:
            there, back = await asyncio.open_connection("127.0.0.1", self._to)
        except OSError:
            writer.transport.abort()
            return
        ends = [
            asyncio.create_task(self._forward(reader, back)),
            asyncio.create_task(self._answer(there, writer)),
        ]
        try:
            await asyncio.wait(ends, return_when=asyncio.FIRST_COMPLETED)
        except asyncio.CancelledError:
            # The relay ends; asyncio would print the end of whoever serves a connection.
            return
        finally:
            for end in ends:
                end.cancel()
            back.transport.abort()
            writer.close()

    async def _forward(self, reader: asyncio.StreamReader, back: asyncio.StreamWriter) -> None:
        while piece := await _read(reader):
            if self.mode == "refuses":
                return
            back.write(piece)

    async def _answer(self, there: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        while piece := await _read(there):
            match self.mode:
                case "well":
                    writer.write(piece)
                case "hangs":
                    await asyncio.Event().wait()
                case "is late":
                    await asyncio.sleep(LATE_S)
                    writer.write(piece)
                case "trickles":
                    for byte in piece:
                        writer.write(bytes([byte]))
                        await asyncio.sleep(0.1)
                case "is cut short":
                    writer.write(piece[: len(piece) // 2])
                    return
                case "says nothing":
                    writer.write_eof()
                    await asyncio.sleep(LATE_S)
                case "garbles":
                    writer.write(self._random.randbytes(len(piece)))
                case _:
                    writer.transport.abort()
                    return


async def _read(reader: asyncio.StreamReader) -> bytes:
    try:
        return await reader.read(CHUNK_BYTES)
    except ConnectionError:
        return b""
