"""Deletions that go on after their request was answered (TAMS 8.2 deletion-request.json)."""

from __future__ import annotations

from typing import Literal

from store.models.common import DateTime, Model, Opt, TimeRangeText, Uuid
from store.models.error import Error

DeletionStatus = Literal["created", "started", "done", "error"]


class DeletionRequest(Model):
    """How far a deletion has come."""

    id: Uuid
    flow_id: Uuid
    timerange_to_delete: TimeRangeText
    delete_flow: bool
    status: DeletionStatus
    timerange_remaining: Opt[TimeRangeText] = None
    created: Opt[DateTime] = None
    created_by: Opt[str] = None
    updated: Opt[DateTime] = None
    expiry: Opt[DateTime] = None
    error: Opt[Error] = None
