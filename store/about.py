"""What whoever runs the store alone asks it: does it live, can it work, how does it fare."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from typing import Any, Final

import orjson

from store.asgi import App, Receive, Scope, Send, send_response
from store.errors import Error
from store.exposition import CONTENT_TYPE
from store.http import failure, utc_now
from store.process import Process
from store.readiness import Check, Readiness

JSON: Final = [("content-type", "application/json"), ("cache-control", "no-store")]
TEXT: Final = [("content-type", CONTENT_TYPE), ("cache-control", "no-store")]
Answer = tuple[int, list[tuple[str, str]], bytes]


class About:
    """`/health`, `/ready` and `/metrics`. `text` gives all figures, for Prometheus."""

    def __init__(
        self, process: Process, version: str, checks: tuple[Check, ...], text: Callable[[], Awaitable[bytes]]
    ) -> None:
        self._process = process
        self._version = version
        self._readiness = Readiness(checks)
        self._text = text

    def answers(self) -> dict[bytes, App]:
        """Applications by path."""
        return {
            b"/health": _answering(self._health),
            b"/ready": _answering(self._ready),
            b"/metrics": _answering(self._metrics),
        }

    async def _health(self) -> Answer:
        document: dict[str, Any] = {
            "status": "healthy",
            "version": self._version,
            "timestamp": utc_now(),
            "system": self._process.vitals.system(),
            "telemetry": {"tracing_enabled": False, "metrics_enabled": True},
        }
        return 200, JSON, orjson.dumps(document)

    async def _ready(self) -> Answer:
        found = await self._readiness.find()
        document = found.document(self._version, utc_now(), reasons=True)
        ready = found.ready
        if self._process.lines.draining:
            ready, document["status"] = False, "stopping"
        return 200 if ready else 503, JSON, orjson.dumps(document)

    async def _metrics(self) -> Answer:
        return 200, TEXT, await self._text()


def _answering(ask: Callable[[], Awaitable[Answer]]) -> App:
    async def app(scope: Scope, receive: Receive, send: Send) -> None:
        try:
            status, headers, body = await ask()
        except Error as exc:
            refused = failure(exc, utc_now())
            status, headers, body = refused.status, list(refused.headers), refused.body
        await send_response(send, status, headers, body, head=scope["method"] == "HEAD")

    return app
