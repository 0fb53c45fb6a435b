"""Whether it works, for anyone who asks."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from typing import Protocol

import orjson

from proxy.asgi import App, Receive, Scope, Send, request_id, send_answer


class PolicyState(Protocol):
    """The policy in force, and what is wrong with its files as they stand."""

    @property
    def problem(self) -> str | None: ...

    def current(self) -> object: ...


def health(
    check: Callable[[], Awaitable[object]],
    failures: tuple[type[Exception], ...],
    policy: PolicyState,
    version: str,
    stamp: Callable[[], str],
) -> App:
    """GET /health: 503 when `check` raises one of the failures."""

    async def app(scope: Scope, receive: Receive, send: Send) -> None:
        problems = []
        try:
            await check()
        except failures:
            problems.append("store")
        policy.current()
        document = {
            "status": "unhealthy" if problems else "healthy",
            "version": version,
            "timestamp": stamp(),
            "policy": "invalid" if policy.problem else "in force",
        }
        headers = [("content-type", "application/json")]
        status, body = 503 if problems else 200, orjson.dumps(document)
        await send_answer(send, scope["method"], status, headers, body, request_id(scope))

    return app
