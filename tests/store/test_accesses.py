"""Signed reading URLs are counted by object, and told by the analytics."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from store.domain.accesses import Accesses
from store.errors import Unavailable
from tests.store.harness import ARCHIVE, Tams, object_path, running_tams, seconds


async def reads(tams: Tams) -> dict[str, int]:
    """How many signed URLs of which objects the analytics tell of, once counts are written down."""
    await tams.store.accesses.flush(tams.store.metadata, tams.store.now_ns())
    access = (await tams.get("/analytics/storage-usage"))["access"]
    return {each["object_id"]: each["signed_urls"] for each in access["most_read"]}


async def test_only_signed_urls_that_were_given_out_count(tams: Tams) -> None:
    flow = await tams.flow()
    path = f"/flows/{flow['id']}/segments"
    init = await tams.upload(flow["id"])
    one = await tams.segment(flow["id"], seconds(0, 1), init_object_id=init)
    other = await tams.segment(flow["id"], seconds(1, 2))
    assert await reads(tams) == {}
    for query in ("?accept_get_urls=", "?presigned=false", "?accept_get_urls=archive"):
        await tams.get(path + query)
    assert await reads(tams) == {}
    for _ in range(3):
        await tams.get(path)
    await tams.get(f"{path}?timerange={seconds(0, 1)}&presigned=true")
    await tams.get(object_path(other))
    assert await reads(tams) == {one: 4, init: 4, other: 4}
    await tams.post(f"{object_path(other)}/instances", {"storage_id": ARCHIVE})
    await tams.work()
    await tams.get(object_path(other))
    assert await reads(tams) == {one: 4, init: 4, other: 6}


async def test_counts_are_written_down_at_the_end(tmp_path: Path) -> None:
    async with running_tams(tmp_path) as tams:
        flow = await tams.flow()
        object_id = await tams.segment(flow["id"], seconds(0, 1))
        await tams.get(object_path(object_id))
    async with running_tams(tmp_path) as tams:
        assert await reads(tams) == {object_id: 1}


class Flaky:
    """Metadata that take counts only while they are up."""

    def __init__(self) -> None:
        self.up = False
        self.counts: dict[str, int] = {}

    async def count_accesses(self, counts: Mapping[str, int], at_ns: int) -> None:
        if not self.up:
            raise Unavailable("down")
        self.counts |= counts


async def test_counts_outlive_an_outage_and_take_bounded_memory() -> None:
    accesses, metadata = Accesses(most=2), Flaky()
    given: Any = metadata
    for name in ("a", "b", "a", "c"):
        accesses.add((name,))
    await accesses.flush(given, 0)
    accesses.add(("b",))
    metadata.up = True
    await accesses.flush(given, 0)
    assert metadata.counts == {"a": 2, "b": 2}
    assert accesses.take() == {}
