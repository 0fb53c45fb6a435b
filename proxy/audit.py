"""The decision record: one structured line per request. No tokens, no signed URLs, no queries."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any

FLUSH_S = 0.2
MOST_PENDING = 500


@dataclass(slots=True)
class Decision:
    """Who asked for what, and what came of it. `classes` are the resource's, where one was found. `time_s`
    is Unix seconds."""

    request_id: str
    method: str
    path: str
    time_s: float
    operation: str = ""
    principal: str = ""
    client: str | None = None
    classes: frozenset[str] | None = None
    policy: str = ""
    status: int = 0
    reason: str = ""

    def record(self) -> dict[str, Any]:
        """The record as it is written down."""
        return {
            "time": datetime.fromtimestamp(self.time_s, UTC).isoformat(),
            "request_id": self.request_id,
            "method": self.method,
            "path": self.path,
            "operation": self.operation,
            "principal": self.principal,
            "client": self.client,
            "classes": None if self.classes is None else sorted(self.classes),
            "verdict": _verdict(self.status),
            "status": self.status,
            "reason": self.reason,
            "policy": self.policy,
        }


def _verdict(status: int) -> str:
    if status in (401, 403, 404):
        return "deny"
    return "allow" if status < 400 else "error"


class Journal:
    """Takes decisions and writes them in batches, at the latest `FLUSH_S` after the first of a batch.

    `write` gets the records of a batch, in order.
    """

    def __init__(self, write: Callable[[list[dict[str, Any]]], None]) -> None:
        self._write = write
        self._pending: list[Decision] = []

    def add(self, decision: Decision) -> None:
        """Take a decision, on the running loop."""
        self._pending.append(decision)
        if len(self._pending) == 1:
            asyncio.get_running_loop().call_later(FLUSH_S, self.flush)
        elif len(self._pending) >= MOST_PENDING:
            self.flush()

    def flush(self) -> None:
        """Write what is pending."""
        pending, self._pending = self._pending, []
        if pending:
            self._write([decision.record() for decision in pending])
