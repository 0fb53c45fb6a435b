"""Bytes on a storage backend that no object has: uploaded again after their object was collected, or left by
a restore of older metadata."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncGenerator
from dataclasses import dataclass

from store.domain.storage import is_object_key
from store.media.protocol import Media
from store.metadata.protocol import Metadata

GRACE_NS = 3600 * 1_000_000_000
"""Beyond the time that an object may stay unregistered."""


@dataclass(slots=True)
class Seen:
    """What a scan has come across: `known` belongs to objects, `young` may still be on its way, `foreign` has
    keys that no store makes."""

    known: int = 0
    young: int = 0
    foreign: int = 0
    orphans: int = 0


def before_s(now_ns: int, object_timeout_s: int) -> int:
    """Bytes modified before this, in Unix seconds, are too old to wait for anything."""
    return (now_ns - object_timeout_s * 1_000_000_000 - GRACE_NS) // 1_000_000_000


async def orphans(
    metadata: Metadata, media: Media, modified_before_s: int, seen: Seen
) -> AsyncGenerator[str, None]:
    """The keys of orphans, and into `seen` what else there is. Only keys that a store makes: a bucket may be
    shared."""
    async for key, modified_s in media.keys():
        if not is_object_key(key):
            seen.foreign += 1
        elif modified_s >= modified_before_s:
            seen.young += 1
        elif await metadata.object_at(media.backend.id, key) is not None:
            seen.known += 1
        else:
            seen.orphans += 1
            yield key
        # Short reads are answered without giving way to anybody.
        await asyncio.sleep(0)
