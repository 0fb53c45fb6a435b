"""When events may be forgotten: once every webhook has taken them, or when they are too old."""

from __future__ import annotations

import contextlib

import orjson

from store.events.delivery import rows_of
from store.events.hooks import Hook
from store.events.progress import Progress
from store.metadata.protocol import Metadata, Stale
from store.metadata.rows import Change, Delete, Kind

KEPT_NS = 86_400 * 1_000_000_000
"""For so long every event can be resumed from."""
SKEW_NS = 60 * 1_000_000_000
"""How far the times of events may differ from the order in which they were committed."""


async def forget_taken(metadata: Metadata, now_ns: int, most_ns: int) -> None:
    """Drop events of more than a day that nobody waits for, and all that are older than `most_ns`.

    Those that a webhook in error has not taken are kept, for it may be enabled again; those for a disabled
    one are not. What is left of webhooks that are gone goes too.
    """
    hooks = {row.id: Hook.of(row) async for row in rows_of(metadata, Kind.WEBHOOK)}
    reached = {id: hook.start for id, hook in hooks.items()}
    async for row in rows_of(metadata, Kind.DELIVERY):
        if row.id in hooks:
            reached[row.id] = max(reached[row.id], Progress.of(orjson.loads(row.document)).cursor)
            continue
        # It is a webhook's of a moment ago, or somebody else takes it away now.
        with contextlib.suppress(Stale):
            await metadata.write(Change(deletes=(Delete(row.ref, row.version),)))
    waiting = [reached[id] for id, hook in hooks.items() if hook.status != "disabled"]
    before_ns = now_ns - KEPT_NS
    if waiting:
        for stored in await metadata.events(min(waiting), 1):
            before_ns = min(before_ns, stored.event.time_ns - SKEW_NS)
    await metadata.forget_events(max(before_ns, now_ns - most_ns))
