"""Figures about everything: the same from every database."""

from __future__ import annotations

import asyncio
import json
from typing import Any

from store.domain import analytics
from store.metadata.protocol import Metadata
from store.metadata.rows import Instance, Kind
from store.metadata.survey import Access, Subject
from tests.contract.metadata_support import (
    Database,
    adding,
    deleting,
    get,
    media_object,
    new_flow,
    put,
    put_all,
    segment,
)

S = 10**9


async def _fill(store: Metadata) -> None:
    await put_all(
        store,
        [
            put({"id": "v", "format": "video", "codec": "h264"}, at_ns=1_000 * S),
            put({"id": "w", "format": "video", "codec": "h265"}, at_ns=2_000 * S),
            put({"id": "a", "format": "audio"}, at_ns=-5),
            put({"id": "s", "format": "video"}, kind=Kind.SOURCE),
            put({"id": "t"}, kind=Kind.SOURCE),
            put({"id": "x"}, kind=Kind.SERVICE, at_ns=-(10**18)),
        ],
    )
    row = await get(store, "v")
    both = (Instance("b1", "k", "x/y"), Instance("b2", "k", "x/y"), Instance("b2", "l", "x/y"))
    await store.allocate(
        [
            media_object("sized", "v")._replace(size_bytes=7, instances=both),
            media_object("late", "v")._replace(created_ns=1_700_000_000 * S),
            media_object("beyond", "v")._replace(created_ns=2**62),
            media_object("init", "v"),
        ],
        row.ref,
        row.version,
        None,
    )
    spans = [(0, S), (S, 3 * S), (5 * S, 5 * S + 1), (-10 * S, -9 * S), (2**61, 2**61 + 900 * S)]
    named: dict[str, Any] = {"init_object_id": "init"}
    await store.add_segments(adding(row, *(segment("sized", a, b, **named) for a, b in spans)))
    other = await get(store, "w")
    await store.add_segments(adding(other, segment("sized", 0, S), segment("made", S, 2 * S)))
    await store.delete_segments(deleting("w", limit=1))


async def _figures(store: Metadata) -> dict[str, Any]:
    works = (
        analytics.flow_usage,
        analytics.storage_usage,
        analytics.time_range_analysis,
        analytics.catalogue_summary,
    )
    found = {work.__name__: await work(store) for work in works}
    assert json.loads(json.dumps(found)) == found
    return found


async def test_figures_are_those_of_what_was_written(metadata: Database) -> None:
    store = await metadata.fresh()
    await _fill(store)
    found = await _figures(store)
    video = 904 * S + 1
    assert found["flow_usage"] == {
        "total": {"flows": 3, "segments": 6, "duration_ns": video + S},
        "flows_without_segments": 1,
        "formats": [
            {"format": "video", "flows": 2, "segments": 6, "duration_ns": video + S},
            {"format": "audio", "flows": 1, "segments": 0, "duration_ns": 0},
        ],
        "codecs": [
            {"codec": "h264", "flows": 1, "segments": 5, "duration_ns": video},
            {"codec": "h265", "flows": 1, "segments": 1, "duration_ns": S},
            {"codec": "unknown", "flows": 1, "segments": 0, "duration_ns": 0},
        ],
    }
    assert found["storage_usage"] == {
        "objects": 5,
        "objects_by_role": {"init": 1, "media": 2, "unused": 2},
        "size_bytes": 7,
        "objects_of_known_size": 1,
        "backends": [
            {"storage_id": "b1", "objects": 1, "size_bytes": 7},
            {"storage_id": "b2", "objects": 1, "size_bytes": 7},
            {"storage_id": "backend", "objects": 4, "size_bytes": 0},
        ],
        "objects_by_month": {"1970-01": 3, "2023-11": 1, "2116-02": 1},
        "access": {
            "uses": 3,
            "references": 11,
            "repeated": 2,
            "most_references": 5,
            "signed_urls": 0,
            "objects_read": 0,
            "objects_by_last_month": {},
            "most_read": [],
        },
    }
    ranges = found["time_range_analysis"]
    assert (ranges["segments"], ranges["duration_ns"], ranges["longest_ns"]) == (6, video + S, 900 * S)
    assert (ranges["shortest_ns"], ranges["first_start_ns"]) == (1, -10 * S)
    assert ranges["last_stop_ns"] == 2**61 + 900 * S
    assert ranges["durations"] == {
        "up_to_1_s": 4, "up_to_2_s": 1, "up_to_5_s": 0, "up_to_10_s": 0, "up_to_60_s": 0, "up_to_600_s": 0,
        "over_600_s": 1,
    }  # fmt: skip
    summary = found["catalogue_summary"]
    assert (summary["flows"], summary["sources"], summary["segments"], summary["objects"]) == (3, 2, 6, 5)
    assert summary["sources_by_format"] == {"unknown": 1, "video": 1}
    assert (summary["first_created_ns"], summary["last_created_ns"]) == (-5, 2_000 * S)


async def test_there_are_figures_of_nothing(metadata: Database) -> None:
    found = await _figures(await metadata.fresh())
    assert found["flow_usage"]["total"] == {"flows": 0, "segments": 0, "duration_ns": 0}
    assert found["time_range_analysis"]["mean_ns"] is None
    assert found["catalogue_summary"]["first_created_ns"] is None


async def test_the_longest_segments_are_counted_as_far_as_64_bits_go(metadata: Database) -> None:
    store = await metadata.fresh()
    row = await new_flow(store)
    await store.add_segments(adding(row, segment("o", -(2**63), 0), segment("o", 0, 2**63 - 1)))
    usage = (await _figures(store))["flow_usage"]["total"]
    assert usage == {"flows": 1, "segments": 2, "duration_ns": 2**63 - 1}


async def test_the_place_is_known_without_asking(metadata: Database) -> None:
    store = await metadata.fresh()
    place = store.place()
    assert place.items() <= (await store.check()).items()
    await metadata.close()
    assert store.place() == place


async def _accesses(store: Metadata) -> list[Access]:
    return await store.survey(Subject.ACCESSES, sorted)


async def test_accesses_add_up_by_object_and_go_with_it(metadata: Database) -> None:
    store = await metadata.fresh()
    await _fill(store)
    version = (await store.objects(["sized"]))["sized"].version
    await store.count_accesses({"sized": 2, "init": 1, "no such object": 9}, 500)
    await store.count_accesses({"sized": 3, "made": 4}, 400)
    await store.count_accesses({}, 600)
    assert await _accesses(store) == [
        Access("init", 1, 500),
        Access("made", 4, 400),
        Access("sized", 5, 500),
    ]
    assert (await store.objects(["sized"]))["sized"].version == version
    access = (await analytics.storage_usage(store))["access"]
    assert (access["signed_urls"], access["objects_read"]) == (10, 3)
    assert access["most_read"][0] == {"object_id": "sized", "signed_urls": 5, "last_ns": 500}
    assert access["objects_by_last_month"] == {"1970-01": 3}
    await store.delete_segments(deleting("w", limit=9))
    await store.collect(-(2**62), 10)
    assert [each.object_id for each in await _accesses(store)] == ["init", "sized"]


async def test_accesses_counted_at_the_same_time_are_all_there(metadata: Database) -> None:
    store, other = await metadata.fresh(), await metadata.again()
    await _fill(store)
    each = [one.count_accesses({"sized": 1, "made": 2}, n) for n in range(4) for one in (store, other)]
    await asyncio.gather(*each)
    assert await _accesses(store) == [Access("made", 16, 3), Access("sized", 8, 3)]
