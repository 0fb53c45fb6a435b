"""Metadata for benchmarks, written straight through the store's metadata protocol."""

from __future__ import annotations

import uuid
from pathlib import Path

import orjson

from store.metadata.protocol import AddSegments, Registration
from store.metadata.rows import Change, Document, Instance, Kind, NewSegment, ObjectRow, Put, Ref, Role
from store.metadata.sqlite import open_sqlite
from store.models.common import format_time
from store.settings import DEFAULT_BACKEND_ID
from store.timerange import TimeRange

START_NS = 1_700_000_000_000_000_000
STEP_NS = 2_000_000_000
BATCH = 1000


def identifier(number: int) -> str:
    """The n-th id."""
    return str(uuid.UUID(int=(0x4000_8000 << 64) + number, version=4))


def flow(number: int, classes: list[str]) -> Document:
    """A video flow as PUT leaves it."""
    time = format_time(START_NS + number * 1000)
    return {
        "id": identifier(number),
        "source_id": identifier(10**9 + number // 4),
        "label": f"camera {number}",
        "description": "A flow that was made for measuring",
        "format": "urn:x-nmos:format:video",
        "codec": "video/h264",
        "container": "video/mp2t",
        "essence_parameters": {
            "frame_width": 1920,
            "frame_height": 1080,
            "frame_rate": {"numerator": 25, "denominator": 1},
        },
        "tags": {"auth_classes": classes, "camera": str(number % 100)},
        "created_by": "bench",
        "updated_by": "bench",
        "created": time,
        "metadata_updated": time,
        "metadata_version": identifier(2 * 10**9 + number),
    }


async def seed(data: Path, flows: int, *, dense_every: int, sparse: int, segments: int) -> None:
    """A data folder with so many flows: every `dense_every`-th of class news, `sparse` of class sport, the
    others of a class that nobody has; the first flow with so many segments."""
    data.mkdir(parents=True, exist_ok=True)
    metadata = await open_sqlite(data / "metadata.sqlite")
    for first in range(0, flows, BATCH):
        puts = []
        for number in range(first, min(first + BATCH, flows)):
            is_sparse = sparse and number % (flows // sparse) == 1
            name = "sport" if is_sparse else "news" if number % dense_every == 0 else "nobody"
            at_ns = START_NS + number * 1000
            puts.append(Put(Kind.FLOW, identifier(number), 0, flow(number, [name]), at_ns, at_ns))
        await metadata.write(Change(tuple(puts)))
    ref = Ref(Kind.FLOW, identifier(0))
    version = (await metadata.rows([ref]))[ref].version
    for first in range(0, segments, BATCH):
        batch = [segment(n) for n in range(first, min(first + BATCH, segments))]
        added = AddSegments(ref.id, version, batch, _registered, lambda _flow, _added: (), START_NS)
        refused = [error for error in await metadata.add_segments(added) if error is not None]
        assert not refused, refused[0]
    await metadata.close()


def segment(number: int) -> NewSegment:
    """The n-th segment of two seconds."""
    start_ns = number * STEP_NS
    timerange = str(TimeRange(start_ns, start_ns + STEP_NS))
    object_id = f"object-{number}"
    body = {"object_id": object_id, "timerange": timerange}
    return NewSegment(object_id, start_ns, start_ns + STEP_NS, orjson.dumps(body), timerange)


def _registered(new: NewSegment, obj: ObjectRow | None, init: ObjectRow | None) -> Registration:
    key = f"2026/11/21/{identifier(0)}/{new.object_id}"
    instances = (Instance(DEFAULT_BACKEND_ID, key, "video/mp2t"),)
    row = ObjectRow(new.object_id, Role.MEDIA, identifier(0), START_NS, instances, timerange=new.timerange)
    return Registration(row, None)
