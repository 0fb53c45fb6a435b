"""References of the key-value benchmark: `least`, files with the same fsyncs and nothing else; `single`, the
proxy whose every write has a commit of its own."""

from __future__ import annotations

import os
import sys
from pathlib import Path
from typing import Any

import uvicorn

from store.metadata import sqlite_writer
from tests.bench.media import Minimal


class Logged(Minimal):
    """And twice a line in a log, synced: that bytes are coming, and that they are there."""

    def __init__(self, folder: Path) -> None:
        super().__init__(folder)
        self._log = os.open(folder / "log", os.O_CREAT | os.O_WRONLY | os.O_APPEND)

    def _commit(self, fd: int, temporary: Path, path: Path) -> None:
        self._note(path)
        super()._commit(fd, temporary, path)
        self._note(path)

    def _note(self, path: Path) -> None:
        os.write(self._log, f"{path}\n".encode())
        os.fsync(self._log)


def least(folder: Path, port: int) -> None:
    """Serve PUT and GET of files in a folder."""
    minimal = Logged(folder)

    async def app(scope: Any, receive: Any, send: Any) -> None:
        if scope["path"] != "/health":
            await minimal(scope, receive, send)
            return
        await send({"type": "http.response.start", "status": 200, "headers": [(b"content-length", b"0")]})
        await send({"type": "http.response.body", "body": b""})

    uvicorn.run(app, port=port, log_level="error", access_log=False, lifespan="off", loop="uvloop")


def single() -> None:
    """The proxy, by its environment, without grouping commits."""
    from proxy.__main__ import app

    sqlite_writer.GROUP = 1  # type: ignore[misc]
    app(["serve"])


if __name__ == "__main__":
    if sys.argv[1] == "single":
        single()
    else:
        least(Path(sys.argv[2]), int(sys.argv[3]))
