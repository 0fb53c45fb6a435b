"""What the contract suite of the metadata protocol is made of: engines, builders, the oracle's inputs."""

from __future__ import annotations

import time
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import orjson

from store.errors import Error
from store.metadata.protocol import AddSegments, DeleteSegments, Metadata, Registration
from store.metadata.query import Query, position
from store.metadata.rows import (
    Change,
    DeletedSegments,
    Document,
    Event,
    Instance,
    Kind,
    NewSegment,
    ObjectRow,
    Put,
    Ref,
    Role,
    Row,
)
from store.metadata.sqlite import open_sqlite
from store.timerange import ETERNITY, TimeRange
from store.view import View

ENGINES = ("sqlite", "vast-5.5", "vast-5.4")


async def open_metadata(place: str) -> Metadata:
    """The metadata at a place, written engine:rest, so that another process can open it too."""
    engine, _, rest = place.partition(":")
    if engine == "sqlite":
        return await open_sqlite(Path(rest))
    if engine == "vast":
        return await open_on_cluster(*rest.split(" "))
    raise ValueError(engine)


async def open_on_cluster(endpoint: str, access_key: str, secret_key: str, schema: str) -> Metadata:
    """The metadata in a schema of a VAST cluster. It takes seconds to import what that needs."""
    from store.metadata.vast import open_vast
    from store.metadata.vast_api import VastConfig

    # How long calls may take is tested apart, where this machine's load does not matter.
    config = VastConfig((endpoint,), "vastdb", schema, access_key, secret_key, timeout_s=30, deadline_s=60)
    return await open_vast(config, now_ns=time.time_ns)


@dataclass
class Database:
    """Opens one engine's metadata: `fresh` on a place of its own, `again` on that same place.

    `cluster`: where a VAST cluster is and its keys, for that engine.
    """

    engine: str
    folder: Path
    cluster: str = ""
    _opened: list[Metadata] = field(default_factory=list)
    _places: int = 0

    @property
    def place(self) -> str:
        """Where the last fresh one is."""
        if self.engine == "vast":
            return f"vast:{self.cluster} {self.folder.name}-{self._places}"
        return f"{self.engine}:{self.folder / f'{self._places}.db'}"

    async def fresh(self) -> Metadata:
        """Empty metadata."""
        self._places += 1
        return await self.again()

    async def again(self) -> Metadata:
        """The last fresh one, opened once more."""
        opened = await open_metadata(self.place)
        self._opened.append(opened)
        return opened

    async def close(self) -> None:
        """Close all that were opened."""
        while self._opened:
            await self._opened.pop().close()


def flow(id: str, *classes: str, **properties: Any) -> Document:
    """A flow's document."""
    tags = (
        {"auth_classes": list(classes), **properties.pop("tags", {})}
        if classes
        else properties.pop("tags", {})
    )
    return {"id": id, "source_id": "source", "tags": tags, **properties}


def put(document: Document, version: int = 0, *, kind: Kind = Kind.FLOW, at_ns: int = 1_000) -> Put:
    """The writing of a document, made and updated at `at_ns`."""
    return Put(kind, document["id"], version, document, at_ns, at_ns)


async def put_all(metadata: Metadata, puts: Iterable[Put]) -> None:
    """Write documents that are not there yet."""
    await metadata.write(Change(puts=tuple(puts)))


async def get(metadata: Metadata, id: str, kind: Kind = Kind.FLOW) -> Row:
    """A row that is there."""
    return (await metadata.rows([Ref(kind, id)]))[Ref(kind, id)]


async def new_flow(metadata: Metadata, id: str = "flow", *classes: str) -> Row:
    """A flow that has been written."""
    await put_all(metadata, [put(flow(id, *classes))])
    return await get(metadata, id)


def media_object(id: str, flow_id: str = "flow", **properties: Any) -> ObjectRow:
    """An object as it is allocated: one instance, its key made of its id."""
    instances = (Instance("backend", f"key/{id}", "video/mp2t"),)
    return ObjectRow(id, Role.UNUSED, flow_id, 500, **{"instances": instances, **properties})


def segment(object_id: str, start_ns: int, stop_ns: int, **properties: Any) -> NewSegment:
    """A segment to be registered."""
    text = str(TimeRange(start_ns, stop_ns))
    document = orjson.dumps({"object_id": object_id, "timerange": text})
    return NewSegment(object_id, start_ns, stop_ns, document, text, **properties)


def accept(new: NewSegment, obj: ObjectRow | None, init: ObjectRow | None) -> Registration | Error:
    """A judge that registers whatever comes, objects that are unknown too."""
    changed = None
    if obj is None or obj.role is Role.UNUSED:
        obj = obj or media_object(new.object_id)
        changed = obj._replace(role=Role.MEDIA, init_object_id=new.init_object_id)
    unused = init is not None and init.role is Role.UNUSED
    return Registration(changed, init._replace(role=Role.INIT) if init is not None and unused else None)


def quiet(*_: object) -> Sequence[Event]:
    """An announcement of nothing."""
    return ()


def adding(row: Row, *segments: NewSegment, **properties: Any) -> AddSegments:
    """A request to add segments to a flow as it was read."""
    given = {"judge": accept, "announce": quiet, "now_ns": 2_000, **properties}
    return AddSegments(row.id, row.version, segments, **given)


def deleting(flow_id: str, timerange: TimeRange = ETERNITY, **properties: Any) -> DeleteSegments:
    """A request to delete segments."""
    given = {"object_id": None, "limit": 100, "announce": quiet, "now_ns": 3_000, **properties}
    return DeleteSegments(flow_id, timerange, **given)


async def delete_all(metadata: Metadata, flow_id: str) -> DeletedSegments:
    """Delete all segments of a flow."""
    return await metadata.delete_segments(deleting(flow_id, limit=10_000))


def view(*allow: str, deny: Iterable[str] = (), default_class: str | None = None) -> View:
    """A view of a caller who is no administrator."""
    return View(False, frozenset(allow), frozenset(deny), default_class)


def event(number: int) -> Event:
    """An event, told apart by its number."""
    return Event("flows/updated", number, {"number": number}, frozenset(("news",)), flow_id="flow")


async def walk(metadata: Metadata, query: Query) -> list[Row]:
    """All rows of a listing, page by page."""
    found: list[Row] = []
    while True:
        rows, more = await metadata.page(query)
        assert len(rows) == query.limit or not more
        found += rows
        if not more:
            return found
        query = replace(query, after=position(query.sort, rows[-1]))
