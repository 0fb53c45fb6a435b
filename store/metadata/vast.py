"""The metadata in VAST DB: any number of processes and hosts on one cluster.

The SDK blocks, so that every call runs on one of a few threads. Writers of one flow, or one document, in a
process take turns; what other processes write meanwhile is found out by the cluster, and then the call is
repeated from its start.
"""

from __future__ import annotations

import asyncio
import logging
import time
import uuid
from collections.abc import Callable, Coroutine, Iterable, Mapping, Sequence
from contextlib import AsyncExitStack
from typing import Any, Final, TypeVar

from store import errors
from store.errors import Error
from store.metadata import (
    vast_events,
    vast_facts,
    vast_keys,
    vast_list,
    vast_objects,
    vast_rows,
    vast_segments,
    vast_survey,
)
from store.metadata.keys import DeleteKey, KeyQuery, KeyRow, PutKey
from store.metadata.protocol import AddSegments, DeleteSegments, Stale
from store.metadata.query import Query, SegmentQuery
from store.metadata.rows import (
    Change,
    DeletedSegments,
    Doomed,
    Expect,
    Kind,
    ObjectFact,
    ObjectPage,
    ObjectRow,
    Ref,
    Row,
    SegmentPage,
    StoredEvent,
)
from store.metadata.survey import Subject
from store.metadata.vast_api import VastConfig
from store.metadata.vast_predicates import equal
from store.metadata.vast_probe import Conflicts
from store.metadata.vast_session import Database
from store.metadata.vast_start import Writer, start
from store.metadata.vast_tables import VERSION
from store.metadata.vast_tx import Stamps, Tx
from store.timerange import TimeRange
from store.view import View

_log = logging.getLogger(__name__)
T = TypeVar("T")
TURNS: Final = 256


async def open_vast(config: VastConfig, *, now_ns: Callable[[], int]) -> Vast:
    """The database on a cluster; its tables are made when their schema is not there.

    `now_ns`: the time, for versions. Raises `errors.Unavailable`, in words for operators, when it cannot be
    reached, when its tables are of another version, and when this cluster lets only one process write and
    another one does.
    """
    database = Database(config, Stamps(now_ns))
    try:
        conflicts = await start(database)
        writer = Writer(database, now_ns) if conflicts is Conflicts.UNSEEN else None
        if writer is not None:
            await writer.claim()
    except BaseException:
        await database.close()
        raise
    return Vast(database, conflicts, writer)


class Vast:
    """`Metadata` in VAST DB. To be used from one event loop, and opened behind a fork."""

    def __init__(self, database: Database, conflicts: Conflicts, writer: Writer | None) -> None:
        self.database = database
        self._conflicts = conflicts
        self._writer = writer
        # A cluster that lets a stale transaction overwrite sees one at a time.
        self._turns = [asyncio.Lock() for _ in range(TURNS if writer is None else 1)]
        self._in_hand: set[asyncio.Future[Any]] = set()
        self._closed = False
        self._listeners: list[Callable[[], None]] = []

    async def _read(self, work: Callable[[Tx], T]) -> T:
        return await self._kept(self.database.read(work))

    async def _write(self, names: Iterable[str], work: Callable[[Tx], T]) -> T:
        """Write, after those in this process that write any of the same."""
        return await self._kept(
            self._in_turn(sorted({hash(name) % len(self._turns) for name in names}), work)
        )

    async def _kept(self, call: Coroutine[None, None, T]) -> T:
        """A call that is let end, should the caller go away or this be closed meanwhile."""
        if self._closed:
            call.close()
            raise errors.Unavailable("The metadata database is closed.")
        task = asyncio.ensure_future(call)
        self._in_hand.add(task)
        task.add_done_callback(self._over)
        return await asyncio.shield(task)

    def _over(self, task: asyncio.Future[Any]) -> None:
        """A call has ended. Its failure is looked at, since its caller may have gone away."""
        self._in_hand.discard(task)
        if not task.cancelled():
            task.exception()

    async def _in_turn(self, turns: Sequence[int], work: Callable[[Tx], T]) -> T:
        deadline = time.monotonic() + self.database.config.deadline_s
        async with AsyncExitStack() as stack:
            try:
                async with asyncio.timeout_at(
                    asyncio.get_running_loop().time() + self.database.config.deadline_s
                ):
                    for turn in turns or (0,):
                        await stack.enter_async_context(self._turns[turn])
            except TimeoutError as exc:
                raise errors.Unavailable("The metadata database is busy.") from exc
            return await self.database.write(work, within_s=deadline - time.monotonic())

    async def rows(self, refs: Iterable[Ref]) -> dict[Ref, Row]:
        """The rows that exist among `refs`."""
        wanted = list(refs)
        return await self._read(lambda tx: vast_rows.get_many(tx, wanted)) if wanted else {}

    async def row(self, ref: Ref, view: View | None) -> Row | None:
        """One row; nothing is kept of it."""
        return (await self.rows([ref])).get(ref)

    async def page(self, query: Query) -> tuple[list[Row], bool]:
        """The rows of a listing in its order, and whether more follow."""
        return await self._read(lambda tx: vast_list.page(tx, query))

    async def write(self, change: Change) -> None:
        """Apply a change. Raises `Stale`, `errors.Expectation`."""
        refs = {put.ref for put in change.puts} | {delete.ref for delete in change.deletes}
        await self._write(
            (vast_rows.named(ref) for ref in refs | change.unchanged.keys()), lambda tx: _apply(tx, change)
        )
        if change.events:
            self._tell()

    async def timerange(self, flow_id: str, within: TimeRange) -> tuple[str, str] | None:
        """The timeranges of the first and the last segment that overlap `within`."""
        return await self._read(lambda tx: vast_segments.timerange(tx, flow_id, within))

    async def segments(self, query: SegmentQuery) -> SegmentPage:
        """A page of segments with their objects, and the flow's row, of one snapshot."""
        return await self._read(lambda tx: vast_segments.page(tx, query))

    async def add_segments(self, request: AddSegments) -> list[Error | None]:
        """Register segments; one entry per segment, None where it was written."""
        results = await self._write(_flow(request.flow_id), lambda tx: vast_segments.add(tx, request))
        self._tell()
        return results

    async def delete_segments(self, request: DeleteSegments) -> DeletedSegments:
        """Delete segments, bounded."""
        done = await self._write(_flow(request.flow_id), lambda tx: vast_segments.delete(tx, request))
        self._tell()
        return done

    async def objects(self, ids: Iterable[str]) -> dict[str, ObjectRow]:
        """The object rows that exist among `ids`."""
        wanted = list(dict.fromkeys(ids))
        return await self._read(lambda tx: vast_objects.get_many(tx, wanted)) if wanted else {}

    async def object_page(self, object_id: str, flows: Query, after: str | None) -> ObjectPage | None:
        """An object with a page of the flows that refer to it."""
        return await self._read(lambda tx: vast_facts.object_page(tx, object_id, flows, after))

    async def object_facts(self, ids: Iterable[str], view: View | None) -> dict[str, ObjectFact]:
        """What authorising the use of objects needs."""
        wanted = list(dict.fromkeys(ids))
        return await self._read(lambda tx: vast_facts.object_facts(tx, wanted, view)) if wanted else {}

    async def object_at(self, backend_id: str, key: str) -> str | None:
        """The id of the object that has an instance at this key."""
        place = (equal("backend_id", backend_id), equal("key", key))
        found = await self._read(lambda tx: tx.select("instances", ("object_id",), *place, limit=1))
        return next((str(id) for (id,) in found), None)

    async def allocate(
        self, objects: Sequence[ObjectRow], flow: Ref, flow_version: int, expect: Expect | None
    ) -> None:
        """Create rows of new objects, all or none."""
        names = [f"object:{row.id}" for row in objects]
        await self._write(
            names, lambda tx: vast_segments.allocate(tx, objects, flow.id, flow_version, expect)
        )

    async def replace_object(self, row: ObjectRow, expect: Expect | None) -> None:
        """Write an object's row if it still has its version."""
        await self._write([f"object:{row.id}"], lambda tx: _replace(tx, row, expect or Expect()))

    async def hold(self, object_ids: Iterable[str], reference: str, holder: str, held: bool) -> None:
        """Add or drop a reference from outside the segments."""
        wanted = list(dict.fromkeys(object_ids))
        names = [f"object:{id}" for id in wanted]
        await self._write(names, lambda tx: vast_objects.hold(tx, wanted, reference, holder, held))

    async def key(self, name: str) -> KeyRow | None:
        """A key with what it points to."""
        return await self._read(lambda tx: vast_keys.get(tx, name))

    async def keys(self, query: KeyQuery) -> tuple[list[str], bool]:
        """The names of a listing in order, and whether more follow."""
        return await self._read(lambda tx: vast_keys.listing(tx, query))

    async def reserve(self, row: ObjectRow) -> ObjectRow:
        """Create the row of an object that belongs to no flow."""
        return await self._write([f"object:{row.id}"], lambda tx: vast_keys.reserve(tx, row))

    async def put_key(self, request: PutKey) -> KeyRow:
        """Point a key at bytes."""
        return await self._write([f"key:{request.name}"], lambda tx: vast_keys.put(tx, request))

    async def delete_key(self, request: DeleteKey) -> bool:
        """Remove a key."""
        return await self._write([f"key:{request.name}"], lambda tx: vast_keys.delete(tx, request))

    async def count_accesses(self, counts: Mapping[str, int], at_ns: int) -> None:
        """Add to how often signed URLs of objects were given out."""
        if counts:
            await self._write(["accesses"], lambda tx: vast_objects.count_accesses(tx, counts, at_ns))

    async def collect(self, allocated_before_ns: int, limit: int) -> list[Doomed]:
        """Forget objects that nothing refers to; the bytes to remove."""
        return await self._write(["collect"], lambda tx: vast_objects.collect(tx, allocated_before_ns, limit))

    async def removed(self, doomed: Iterable[Doomed]) -> None:
        """The bytes are gone: strike them off."""
        gone = list(doomed)
        if gone:
            await self._write(["collect"], lambda tx: vast_objects.strike_off(tx, gone))

    async def events(self, after: int, limit: int) -> list[StoredEvent]:
        """Events behind a sequence number, in order."""
        return await self._write(["events"], lambda tx: vast_events.events(tx, after, limit))

    async def last_event(self) -> int:
        """The greatest sequence number of an event so far."""
        more = True
        while more:
            last, more = await self._write(["events"], vast_events.number)
        return last

    def listen(self, heard: Callable[[], None]) -> None:
        """Call `heard` after every write of this process that put events into the outbox."""
        self._listeners.append(heard)

    def _tell(self) -> None:
        for heard in self._listeners:
            heard()

    async def forget_events(self, before_ns: int) -> None:
        """Drop events older than the given time."""
        while await self._write(["events"], lambda tx: vast_events.forget(tx, before_ns)):
            await asyncio.sleep(0)

    async def lease(self, name: str, holder: str, now_ns: int, until_ns: int) -> bool:
        """Take, renew or give back a lease."""
        return await self._write(
            [f"lease:{name}"], lambda tx: vast_events.lease(tx, name, holder, now_ns, until_ns)
        )

    async def survey(self, subject: Subject, fold: Callable[[Iterable[Any]], T]) -> T:
        """What `fold` makes of all records of a subject."""
        work = self.database.read(
            lambda tx: fold(vast_survey.records(tx, subject)), within_s=vast_survey.SURVEY_S
        )
        return await self._kept(work)

    def place(self) -> Mapping[str, str]:
        """Where the database is."""
        config = self.database.config
        place = f"{config.endpoints[0]}/{config.bucket}/{config.schema}"
        return {"engine": "vast", "place": place, "endpoint": config.endpoints[0], "bucket": config.bucket}

    async def check(self) -> Mapping[str, str]:
        """Facts for operators; raises `errors.Unavailable` when reading or writing does not work."""
        mark = uuid.uuid4().hex
        await self._write([], lambda tx: tx.insert("commits", [{"stamp": tx.stamp, "nonce": mark}]))
        session = self.database.session
        return {
            **self.place(),
            "version": ".".join(map(str, session.api.vast_version)) if session else "",
            "schema_version": str(VERSION),
            "conflicts": self._conflicts.value,
        }

    def hurry(self, within_s: float) -> None:
        """Answer all calls within so many seconds altogether, and after them none."""
        self.database.hurry(within_s)

    async def close(self) -> None:
        """Finish the writes in hand and let go of the cluster."""
        self._closed = True
        await asyncio.gather(*self._in_hand, return_exceptions=True)
        try:
            if self._writer is not None:
                await self._writer.release()
        except errors.Unavailable as exc:
            _log.warning("the claim to be the only writer was not given up, and runs out: %s", exc)
        finally:
            await self.database.close()


def _flow(flow_id: str) -> list[str]:
    return [vast_rows.named(Ref(Kind.FLOW, flow_id))]


def _apply(tx: Tx, change: Change) -> None:
    vast_rows.apply(tx, change)
    for delete in change.deletes:
        if delete.ref.kind is Kind.FLOW:
            vast_segments.drop_flow(tx, delete.ref.id)


def _replace(tx: Tx, row: ObjectRow, expect: Expect) -> None:
    vast_segments.relied(tx, expect)
    held = vast_objects.load(tx, [row.id])
    if row.id not in held or held[row.id].row.version != row.version:
        raise Stale
    vast_objects.save(tx, [row], held)
    vast_objects.suspect(tx, [row.id])
