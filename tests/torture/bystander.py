"""A client that minds its own business while others attack: it must be served, and rightly."""

from __future__ import annotations

import http.client
import threading
import time
from pathlib import Path
from types import TracebackType
from typing import Self
from urllib.parse import urlsplit

from tests.torture.report import Broken


def resident_mb(pid: int) -> float:
    """The memory that a process holds, in megabytes (Linux; 0 elsewhere)."""
    status = Path(f"/proc/{pid}/status")
    if not status.exists():
        return 0.0
    lines = (line for line in status.read_text().splitlines() if line.startswith("VmRSS:"))
    return int(next(lines).split()[1]) / 1024


class Bystander:
    """Reads what it may and what it may not over one kept connection, all the time it is open.

    `expected`: the status for each path. `grown_mb`: by how much the server's memory grew at most meanwhile.
    """

    def __init__(self, url: str, pid: int, token: str, expected: dict[str, int]) -> None:
        self._where = urlsplit(url)
        self._headers = {"Authorization": f"Bearer {token}"}
        self._expected = expected
        self._pid = pid
        self._before_mb = resident_mb(pid)
        self._stop = threading.Event()
        self._thread = threading.Thread(target=self._live)
        self._wrong = ""
        self.answers = 0
        self.slowest_s = 0.0
        self.grown_mb = 0.0

    def __enter__(self) -> Self:
        self._thread.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, value: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._stop.set()
        self._thread.join()

    def figure(self, most_mb: float) -> str:
        """How it fared. Raises `Broken` when it was not served rightly, or memory grew by more than that."""
        if self._wrong:
            raise Broken(self._wrong)
        if not self.answers:
            raise Broken("nobody else was served")
        if self.grown_mb > most_mb:
            raise Broken(f"memory grew by {self.grown_mb:.0f} MB")
        slowest_ms = self.slowest_s * 1000
        return f"{self.answers} others right, slowest {slowest_ms:.0f} ms, {self.grown_mb:+.0f} MB"

    def _live(self) -> None:
        connection = http.client.HTTPConnection(self._where.hostname or "", self._where.port, timeout=60)
        try:
            while not self._stop.is_set() and not self._wrong:
                for path, status in self._expected.items():
                    self._ask(connection, path, status)
                self.grown_mb = max(self.grown_mb, resident_mb(self._pid) - self._before_mb)
                time.sleep(0.01)
        except (OSError, http.client.HTTPException) as exc:
            self._wrong = f"another client lost its connection: {exc!r}"
        finally:
            connection.close()

    def _ask(self, connection: http.client.HTTPConnection, path: str, status: int) -> None:
        began = time.monotonic()
        connection.request("GET", path, headers=self._headers)
        answer = connection.getresponse()
        answer.read()
        self.slowest_s = max(self.slowest_s, time.monotonic() - began)
        if answer.status != status:
            self._wrong = f"{path} is answered {answer.status}, not {status}, to another client"
        self.answers += 1
