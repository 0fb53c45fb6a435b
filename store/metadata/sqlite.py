"""The metadata in one SQLite file: WAL, every commit synced, several processes on one host.

Short reads are answered on the event loop, long ones on threads; one thread writes, and one commit
carries all the writes that are waiting.
"""

from __future__ import annotations

import asyncio
import sqlite3
from collections.abc import Callable, Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any, Final, TypeVar

import orjson

from store import errors
from store.errors import Error
from store.metadata import (
    sqlite_facts,
    sqlite_keys,
    sqlite_objects,
    sqlite_page,
    sqlite_rows,
    sqlite_segments,
    sqlite_survey,
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
    Role,
    Row,
    SegmentPage,
    StoredEvent,
)
from store.metadata.sqlite_objects import Cache, Held
from store.metadata.sqlite_reader import Readers
from store.metadata.sqlite_schema import VERSION, prepare
from store.metadata.sqlite_writer import Writer, translated
from store.metadata.survey import Subject
from store.metadata.tables import event_of
from store.timerange import TimeRange
from store.view import View, visible

T = TypeVar("T")

MANY_IDS: Final = 500
"""With more ids than this a read goes to a thread at once."""
FORGET_CHUNK: Final = 5_000
"""How many events are dropped in one transaction, so that other writes get their turn."""


async def open_sqlite(path: Path) -> Sqlite:
    """The database in the file at `path`, made or brought to this version's schema.

    Raises `errors.Unavailable` when it cannot be opened or a newer version made it, `errors.Full` when
    no space is left.
    """
    try:
        await asyncio.to_thread(prepare, path)
    except sqlite3.Error as exc:
        raise translated(exc) from exc
    return Sqlite(path)


class Sqlite:
    """`Metadata` in one SQLite file. Open it in the process that uses it, not before a fork."""

    def __init__(self, path: Path) -> None:
        self._path = path
        self._readers = Readers(path)
        self._writer = Writer(path)
        self._objects = Cache()
        self._seen = sqlite_page.Seen()
        self._listeners: list[Callable[[], None]] = []

    async def rows(self, refs: Iterable[Ref]) -> dict[Ref, Row]:
        """The rows that exist among `refs`."""
        wanted = list(refs)
        if len(wanted) == 1:
            ref = wanted[0]
            row = await self._readers.short(lambda connection: sqlite_rows.get(connection, ref))
            return {} if row is None else {ref: row}
        if not wanted:
            return {}
        read = self._readers.short if len(wanted) <= MANY_IDS else self._readers.long
        return await read(lambda connection: sqlite_rows.get_many(connection, wanted))

    async def row(self, ref: Ref, view: View | None) -> Row | None:
        """One row, kept for that view while nobody writes."""
        return await self._readers.known(
            (ref, view), lambda connection: sqlite_rows.get(connection, ref), sqlite_rows.is_small
        )

    async def page(self, query: Query) -> tuple[list[Row], bool]:
        """The rows of a listing in its order, and whether more follow."""
        return await self._readers.short(lambda connection: sqlite_page.page(connection, query, self._seen))

    async def write(self, change: Change) -> None:
        """Apply a change. Raises `Stale`, `errors.Expectation`."""
        await self._writer.run(lambda connection: sqlite_rows.apply(connection, change))
        if change.events:
            self._tell()

    async def timerange(self, flow_id: str, within: TimeRange) -> tuple[str, str] | None:
        """The timeranges of the first and the last segment that overlap `within`."""
        return await self._readers.short(
            lambda connection: sqlite_segments.timerange(connection, flow_id, within)
        )

    async def segments(self, query: SegmentQuery) -> SegmentPage:
        """A page of segments with their objects, and the flow's row, of one snapshot."""

        def read(connection: sqlite3.Connection) -> SegmentPage:
            flow = sqlite_rows.get(connection, Ref(Kind.FLOW, query.flow_id))
            if flow is None or not visible(query.view, flow.classes):
                return SegmentPage(flow)
            return sqlite_segments.page(connection, query, self._objects, flow)

        return await self._readers.short(read)

    async def add_segments(self, request: AddSegments) -> list[Error | None]:
        """Register segments; one entry per segment, None where it was written."""
        results = await self._writer.run(lambda connection: _add(connection, request, self._objects))
        self._tell()
        return results

    async def delete_segments(self, request: DeleteSegments) -> DeletedSegments:
        """Delete segments, bounded."""
        done = await self._writer.run(lambda connection: _delete(connection, request))
        self._tell()
        return done

    async def objects(self, ids: Iterable[str]) -> dict[str, ObjectRow]:
        """The object rows that exist among `ids`."""
        wanted = list(dict.fromkeys(ids))
        read = self._readers.short if len(wanted) <= MANY_IDS else self._readers.long
        held = await read(lambda connection: sqlite_objects.load(connection, wanted))
        rows = {id: each.row for id, each in held.items()}
        # Whoever is about to register them reads them first.
        self._objects.keep(rows.values())
        return rows

    async def object_page(self, object_id: str, flows: Query, after: str | None) -> ObjectPage | None:
        """An object with a page of the flows that refer to it."""
        return await self._readers.short(
            lambda connection: sqlite_facts.object_page(connection, object_id, flows, after)
        )

    async def object_facts(self, ids: Iterable[str], view: View | None) -> dict[str, ObjectFact]:
        """What authorising the use of objects needs."""
        wanted = list(dict.fromkeys(ids))
        read = self._readers.short if len(wanted) <= MANY_IDS else self._readers.long
        return await read(lambda connection: sqlite_facts.object_facts(connection, wanted, view))

    async def object_at(self, backend_id: str, key: str) -> str | None:
        """The id of the object that has an instance at this key."""
        sql = """SELECT o.id FROM instances i CROSS JOIN objects o ON o.number = i.object
            WHERE i.backend_id = ? AND i.key = ? LIMIT 1"""
        found = await self._readers.short(
            lambda connection: connection.execute(sql, (backend_id, key)).fetchone()
        )
        return None if found is None else str(found[0])

    async def allocate(
        self, objects: Sequence[ObjectRow], flow: Ref, flow_version: int, expect: Expect | None
    ) -> None:
        """Create rows of new objects, all or none."""

        def work(connection: sqlite3.Connection) -> None:
            _flow(connection, flow.id, flow_version)
            sqlite_rows.check(connection, expect)
            ids = {row.id for row in objects}
            if len(ids) < len(objects) or sqlite_objects.load(connection, ids):
                raise errors.BadRequest("An object id cannot be used.")
            _save(connection, objects, {})

        await self._writer.run(work)

    async def replace_object(self, row: ObjectRow, expect: Expect | None) -> None:
        """Write an object's row if it still has its version."""

        def work(connection: sqlite3.Connection) -> None:
            sqlite_rows.check(connection, expect)
            before = sqlite_objects.load(connection, [row.id])
            if row.id not in before or before[row.id].row.version != row.version:
                raise Stale
            _save(connection, [row], before)

        await self._writer.run(work)

    async def hold(self, object_ids: Iterable[str], reference: str, holder: str, held: bool) -> None:
        """Add or drop a reference from outside the segments."""
        wanted = list(dict.fromkeys(object_ids))
        await self._writer.run(
            lambda connection: sqlite_objects.hold(connection, wanted, reference, holder, held)
        )

    async def key(self, name: str) -> KeyRow | None:
        """A key with what it points to."""
        row, more = await self._readers.known(
            name, lambda connection: sqlite_keys.get_inline(connection, name), sqlite_keys.is_small
        )
        if not more:
            return row
        return await self._readers.short(lambda connection: sqlite_keys.get(connection, name))

    async def keys(self, query: KeyQuery) -> tuple[list[str], bool]:
        """The names of a listing in order, and whether more follow."""
        return await self._readers.short(lambda connection: sqlite_keys.listing(connection, query))

    async def reserve(self, row: ObjectRow) -> ObjectRow:
        """Create the row of an object that belongs to no flow."""
        return await self._writer.run(lambda connection: sqlite_keys.reserve(connection, row))

    async def put_key(self, request: PutKey) -> KeyRow:
        """Point a key at bytes."""
        return await self._writer.run(lambda connection: sqlite_keys.put(connection, request))

    async def delete_key(self, request: DeleteKey) -> bool:
        """Remove a key."""
        return await self._writer.run(lambda connection: sqlite_keys.delete(connection, request))

    async def count_accesses(self, counts: Mapping[str, int], at_ns: int) -> None:
        """Add to how often signed URLs of objects were given out."""
        await self._writer.run(lambda connection: sqlite_objects.count_accesses(connection, counts, at_ns))

    async def collect(self, allocated_before_ns: int, limit: int) -> list[Doomed]:
        """Forget objects that nothing refers to; the bytes to remove."""
        return await self._writer.run(
            lambda connection: sqlite_objects.collect(connection, allocated_before_ns, limit)
        )

    async def removed(self, doomed: Iterable[Doomed]) -> None:
        """The bytes are gone: strike them off."""
        gone = list(doomed)
        await self._writer.run(lambda connection: sqlite_objects.strike_off(connection, gone))

    async def events(self, after: int, limit: int) -> list[StoredEvent]:
        """Events behind a sequence number, in order."""
        sql = "SELECT sequence, document FROM events WHERE sequence > ? ORDER BY sequence LIMIT ?"
        found = await self._readers.short(
            lambda connection: connection.execute(sql, (after, limit)).fetchall()
        )
        return [StoredEvent(sequence, event_of(orjson.loads(document))) for sequence, document in found]

    async def last_event(self) -> int:
        """A sequence number that no event from now on has or goes below."""
        sql = "SELECT seq FROM sqlite_sequence WHERE name = 'events'"
        found = await self._readers.short(lambda connection: connection.execute(sql).fetchone())
        return 0 if found is None else int(found[0])

    def listen(self, heard: Callable[[], None]) -> None:
        """Call `heard` after every write of this process that put events into the outbox."""
        self._listeners.append(heard)

    def _tell(self) -> None:
        for heard in self._listeners:
            heard()

    async def forget_events(self, before_ns: int) -> None:
        """Drop events older than the given time."""
        sql = """DELETE FROM events WHERE sequence IN
            (SELECT sequence FROM events WHERE time_ns < ? LIMIT ?)"""
        values = (before_ns, FORGET_CHUNK)
        gone = FORGET_CHUNK
        while gone == FORGET_CHUNK:
            gone = await self._writer.run(lambda connection: connection.execute(sql, values).rowcount)

    async def lease(self, name: str, holder: str, now_ns: int, until_ns: int) -> bool:
        """Take, renew or give back a lease."""

        def work(connection: sqlite3.Connection) -> bool:
            sql = "SELECT holder, until_ns FROM leases WHERE name = ?"
            found = connection.execute(sql, (name,)).fetchone()
            if found is not None and found[0] != holder and found[1] > now_ns:
                return False
            if until_ns > now_ns:
                connection.execute("INSERT OR REPLACE INTO leases VALUES (?, ?, ?)", (name, holder, until_ns))
            else:
                connection.execute("DELETE FROM leases WHERE name = ?", (name,))
            return True

        return await self._writer.run(work)

    async def survey(self, subject: Subject, fold: Callable[[Iterable[Any]], T]) -> T:
        """What `fold` makes of all records of a subject."""
        return await self._readers.long(lambda connection: fold(sqlite_survey.records(connection, subject)))

    def place(self) -> Mapping[str, str]:
        """Where the database is."""
        return {"engine": "sqlite", "place": str(self._path)}

    async def check(self) -> Mapping[str, str]:
        """Facts for operators; raises `errors.Unavailable` when reading or writing does not work."""
        sql = "SELECT max(version) FROM schema_version"
        (found,) = await self._readers.long(lambda connection: connection.execute(sql).fetchone())
        await self._writer.run(lambda connection: None)
        if found != VERSION:
            raise errors.Unavailable("The metadata database has another schema version.")
        return {
            "engine": "sqlite",
            "version": sqlite3.sqlite_version,
            "place": str(self._path),
            "schema_version": str(found),
        }

    def hurry(self, within_s: float) -> None:
        """Nothing: a file is either there, or fails at once."""

    async def close(self) -> None:
        """Finish the writes in hand and let go of the database."""
        await self._writer.close()
        await self._readers.close()


def _flow(connection: sqlite3.Connection, flow_id: str, version: int) -> Row:
    """A flow's row. Raises `Stale` when it has another version."""
    row = sqlite_rows.get(connection, Ref(Kind.FLOW, flow_id))
    if row is None or row.version != version:
        raise Stale
    return row


def _save(
    connection: sqlite3.Connection,
    rows: Sequence[ObjectRow],
    known: Mapping[str, Held],
    unreferenced: tuple[Role, ...] = (Role.MEDIA, Role.INIT),
) -> dict[str, int]:
    """Write objects; the numbers of all. Those of the roles `unreferenced` may be garbage from the start."""
    first_version = sqlite_rows.next_versions(connection, len(rows)) if rows else 0
    numbers = sqlite_objects.save(connection, rows, known, first_version)
    sqlite_objects.suspect(connection, [numbers[row.id] for row in rows if row.role in unreferenced])
    return numbers


def _touch(connection: sqlite3.Connection, flow: Row, now_ns: int) -> Row:
    """A flow whose segments have changed; its version stays."""
    sql = "UPDATE resources SET segments_updated_ns = ? WHERE kind = 'flow' AND id = ?"
    connection.execute(sql, (now_ns, flow.id))
    return flow._replace(segments_updated_ns=now_ns)


def _add(connection: sqlite3.Connection, request: AddSegments, cache: Cache) -> list[Error | None]:
    flow = _flow(connection, request.flow_id, request.flow_version)
    sqlite_rows.check(connection, request.expect)
    if not request.segments:
        return []
    registrar, known = sqlite_segments.registrar(connection, request, cache)
    results = [registrar.register(segment) for segment in request.segments]
    if not registrar.accepted:
        return results
    changed = [registrar.objects[id] for id in registrar.changed]
    numbers = _save(connection, changed, known, unreferenced=(Role.INIT,))
    sqlite_segments.insert(connection, flow.id, registrar.accepted, numbers)
    sqlite_objects.count_uses(connection, sqlite_segments.uses(flow.id, registrar, numbers))
    flow = _touch(connection, flow, request.now_ns)
    sqlite_rows.append_events(connection, request.announce(flow, registrar.accepted))
    return results


def _delete(connection: sqlite3.Connection, request: DeleteSegments) -> DeletedSegments:
    flow = sqlite_rows.get(connection, Ref(Kind.FLOW, request.flow_id))
    version = request.flow_version
    if version is not None and (flow is None or flow.version != version):
        raise Stale
    sqlite_rows.check(connection, request.expect)
    if flow is None:
        return DeletedSegments(0, None, None, False)
    done = sqlite_segments.delete(connection, flow.id, request.timerange, request.object_id, request.limit)
    if done.start_ns is not None and done.stop_ns is not None:
        flow = _touch(connection, flow, request.now_ns)
        sqlite_rows.append_events(connection, request.announce(flow, done.start_ns, done.stop_ns))
    return done
