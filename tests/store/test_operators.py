"""What operators ask for, on SQLite: figures, and that there is no VAST."""

from __future__ import annotations

import pytest

from store import __version__
from tests.store.harness import Tams


async def test_figures_follow_what_there_is(tams: Tams) -> None:
    before = await tams.get("/analytics/catalogue-summary")
    flow = await tams.flow()
    await tams.segment(flow["id"], "[0:0_5:0)")
    after = await tams.get("/analytics/catalogue-summary")
    assert (after["flows"], after["segments"]) == (before["flows"] + 1, before["segments"] + 1)
    assert {"copies", "deletions", "deliveries", "flows", "profiles", "sources", "webhooks"} < after.keys()
    assert not {"copys", "deliverys", "services"} & after.keys()
    usage = await tams.get("/analytics/flow-usage")
    assert usage["formats"][0]["format"] == flow["format"]
    assert (await tams.get("/analytics/time-range-analysis"))["longest_ns"] == 5 * 10**9
    assert (await tams.get("/analytics/storage-usage"))["objects_by_role"]["media"] == 1


async def test_there_is_no_cluster(tams: Tams) -> None:
    status = await tams.get("/vast/status")
    assert status["metadata"]["engine"] == "sqlite"
    del status["metadata"]
    assert status == {"version": __version__, "vast_connected": False, "endpoint": None, "buckets": []}
    assert await tams.get("/vast/buckets") == {"buckets": []}
    assert await tams.get("/api/v1/vast/buckets") == {"buckets": []}


@pytest.mark.parametrize("path", ["/analytics/flow-usage", "/vast/status"])
async def test_figures_are_only_read(tams: Tams, path: str) -> None:
    assert (await tams.client.post(path)).status_code == 405
    assert (await tams.client.head(path)).status_code == 200
