"""The decision record: one structured line per request. No tokens, no signed URLs, no queries."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime
from typing import Any

from proxy.decide import Caller
from proxy.rules import Rule

FLUSH_S = 0.2
MOST_PENDING = 500


@dataclass(slots=True)
class Decision:
    """Who asked for what, and what came of it.

    `time_s` is Unix seconds. `rule`: the row that was decided by. `classes` are the resource's, where one
    was found. `calls`: how often the store was asked, for `store_ns` altogether. `peer`: the address of who
    calls: the connection's, or whom a trusted front speaks for. `is_known`: whether its credential had been
    verified before. `propagated`: what followed a change of classes. `began_ns`, `asked_ns` (the store,
    first) and `ended_ns` are of a clock that only goes forward. `trace_parent`: what the caller says this is
    part of.
    """

    request_id: str
    method: str
    path: str
    time_s: float
    rule: Rule | None = None
    principal: str = ""
    client: str | None = None
    caller: Caller | None = None
    classes: frozenset[str] | None = None
    status: int = 0
    reason: str = ""
    calls: int = 0
    propagated: list[dict[str, Any]] | None = None
    peer: str = ""
    is_known: bool | None = None
    store_ns: int = 0
    began_ns: int = field(default_factory=time.perf_counter_ns)
    asked_ns: int = 0
    ended_ns: int = 0
    trace_parent: str | None = None

    @property
    def verdict(self) -> str:
        """What came of it: allow, deny or error."""
        return _verdict(self.status)

    def record(self) -> dict[str, Any]:
        """The record as it is written down."""
        found: dict[str, Any] = {
            "time": datetime.fromtimestamp(self.time_s, UTC),
            "request_id": self.request_id,
            "method": self.method,
            "path": self.path,
            "operation": "" if self.rule is None else self.rule.operation,
            "principal": self.principal,
            "client": self.client,
            "classes": None if self.classes is None else sorted(self.classes),
            "verdict": self.verdict,
            "status": self.status,
            "reason": self.reason or self._ground(),
            "policy": "" if self.caller is None else self.caller.permissions.policy,
            "store_calls": self.calls,
            "peer": self.peer,
            "took_us": max(0, self.ended_ns - self.began_ns) // 1000,
        }
        if self.propagated is not None:
            found["propagated"] = self.propagated
        return found

    def _ground(self) -> str:
        """Why it was allowed."""
        if self.caller is None or self.rule is None or self.status >= 400:
            return ""
        if self.caller.admin:
            return "administrator"
        if self.classes is None:
            return ""
        action = self.rule.action
        through = self.caller.held(action) & self.caller.effective(self.classes)
        return f"{action.value} through {', '.join(sorted(through))}" if through else ""


def _verdict(status: int) -> str:
    if status in (401, 403, 404):
        return "deny"
    return "allow" if status < 400 else "error"


class Journal:
    """Takes decisions and writes them in batches, at the latest `FLUSH_S` after the first of a batch.

    `write` gets the records of a batch, in order; `told` gets the decisions, before.
    """

    def __init__(
        self,
        write: Callable[[list[dict[str, Any]]], None],
        told: Sequence[Callable[[list[Decision]], None]] = (),
    ) -> None:
        self._write = write
        self._told = told
        self._pending: list[Decision] = []

    def add(self, decision: Decision) -> None:
        """Take a decision, on the running loop; it is over."""
        decision.ended_ns = time.perf_counter_ns()
        self._pending.append(decision)
        if len(self._pending) == 1:
            asyncio.get_running_loop().call_later(FLUSH_S, self.flush)
        elif len(self._pending) >= MOST_PENDING:
            self.flush()

    def flush(self) -> None:
        """Write what is pending."""
        pending, self._pending = self._pending, []
        if pending:
            for told in self._told:
                told(pending)
            self._write([decision.record() for decision in pending])
