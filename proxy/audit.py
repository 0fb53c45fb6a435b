"""The decision record: one structured line per request. No tokens, no signed URLs, no queries."""

from __future__ import annotations

import logging
from dataclasses import dataclass
from typing import Any

_log = logging.getLogger("tams.decisions")


@dataclass(slots=True)
class Decision:
    """Who asked for what, and what came of it. `classes` are the resource's, where one was found."""

    request_id: str
    method: str
    path: str
    operation: str = ""
    principal: str = ""
    client: str | None = None
    classes: frozenset[str] | None = None
    policy: str = ""
    status: int = 0
    reason: str = ""

    def record(self) -> dict[str, Any]:
        """The record as it is logged."""
        return {
            "request_id": self.request_id,
            "method": self.method,
            "path": self.path,
            "operation": self.operation,
            "principal": self.principal,
            "client": self.client,
            "classes": None if self.classes is None else sorted(self.classes),
            "verdict": "deny"
            if self.status in (401, 403, 404)
            else "allow"
            if self.status < 400
            else "error",
            "status": self.status,
            "reason": self.reason,
            "policy": self.policy,
        }


def log(decision: Decision) -> None:
    """Write the record down."""
    if _log.isEnabledFor(logging.INFO):
        _log.info("decision", extra={"fields": decision.record()})
