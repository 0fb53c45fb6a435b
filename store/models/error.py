"""What a failure tells its caller (TAMS 8.2 error.json)."""

from __future__ import annotations

from store.models.common import DateTime, Model, Opt


class Error(Model):
    """`message` repeats `summary` for the clients of other stores, which read it."""

    type: str
    summary: str
    time: DateTime
    message: Opt[str] = None
    traceback: Opt[list[str]] = None
