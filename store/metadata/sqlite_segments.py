"""Segments in SQLite: pages of them, registering and deleting them."""

from __future__ import annotations

import sqlite3
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence, Set
from dataclasses import dataclass, replace
from typing import Final

from store.errors import BadRequest, Error
from store.metadata.protocol import AddSegments, Judge, Registration
from store.metadata.query import SegmentQuery
from store.metadata.registrar import Registrar
from store.metadata.rows import DeletedSegments, NewSegment, ObjectRow, Row, SegmentPage
from store.metadata.sqlite_insert import insert_rows
from store.metadata.sqlite_objects import (
    NUL,
    OBJECT,
    Cache,
    Held,
    Uses,
    count_uses,
    json_array,
    load,
    load_known,
)
from store.timerange import MAX_NS, MIN_NS, TimeRange

DROP_CHUNK: Final = 5_000


@dataclass(frozen=True, slots=True)
class Extent:
    """The starts that segments overlapping a timerange have, [low, high), and what they must end behind."""

    low_ns: int
    high_ns: int
    behind_ns: int


def extent(connection: sqlite3.Connection, flow_id: str, within: TimeRange | None) -> Extent | None:
    """Where the segments of a flow that overlap `within` lie; None when it is empty.

    Segments of a flow never overlap, so that at most one that starts before `within` reaches into it.
    """
    if within is None:
        return Extent(MIN_NS, MAX_NS, MIN_NS)
    if within.is_empty:
        return None
    high = MAX_NS if within.stop_ns is None else within.stop_ns
    if within.first_ns is None:
        return Extent(MIN_NS, high, MIN_NS)
    sql = "SELECT max(start_ns) FROM segments WHERE flow_id = ? AND start_ns <= ?"
    (low,) = connection.execute(sql, (flow_id, within.first_ns)).fetchone()
    return Extent(within.first_ns if low is None else low, high, within.first_ns)


def timerange(connection: sqlite3.Connection, flow_id: str, within: TimeRange) -> tuple[str, str] | None:
    """The timeranges of the first and the last segment that overlap `within`."""
    found = extent(connection, flow_id, within)
    if found is None:
        return None
    sql = """SELECT timerange FROM segments WHERE flow_id = ? AND start_ns >= ? AND start_ns < ?
        AND stop_ns > ? ORDER BY start_ns {} LIMIT 1"""
    values = (flow_id, found.low_ns, found.high_ns, found.behind_ns)
    first = connection.execute(sql.format("ASC"), values).fetchone()
    last = connection.execute(sql.format("DESC"), values).fetchone()
    return None if first is None else (first[0], last[0])


def page(connection: sqlite3.Connection, query: SegmentQuery, cache: Cache, flow: Row | None) -> SegmentPage:
    """A page of segments of a flow with their objects."""
    found = _bounds(extent(connection, query.flow_id, query.timerange), query)
    if found is None:
        return SegmentPage(flow)
    table, which, values = _those(query.flow_id, query.object_id)
    source = f"""FROM {table} CROSS JOIN objects o ON o.number = s.object
        WHERE {which} AND s.start_ns >= ? AND s.start_ns < ? AND s.stop_ns > ?"""
    # Of a page of a thousand, a column more takes a twelfth of the time.
    sql = f"""SELECT s.start_ns, s.document, o.version {source}
        ORDER BY s.start_ns {"DESC" if query.reverse else "ASC"} LIMIT ?"""
    within = found.low_ns, found.high_ns, found.behind_ns
    records = connection.execute(sql, (*values, *within, query.limit + 1)).fetchall()
    if not records:
        return SegmentPage(flow)
    starts, documents, versions = zip(*records[: query.limit], strict=True)

    def read(first_version: int, last_version: int) -> sqlite3.Cursor:
        """Objects of the page, each perhaps more than once."""
        sql = f"SELECT {OBJECT} {source} AND o.version >= ? AND o.version <= ?"
        first, last = sorted((starts[0], starts[-1]))
        within = first, last + 1, found.behind_ns
        return connection.execute(sql, (*values, *within, first_version, last_version))

    known = cache.rows(set(versions), read)
    objects = [known[version] for version in versions]
    inits = _by_id(connection, {row.init_object_id for row in objects})
    return SegmentPage(flow, len(records) > query.limit, starts, documents, objects, inits)


def _bounds(found: Extent | None, query: SegmentQuery) -> Extent | None:
    """What of an extent lies behind where the page starts; None when nothing does."""
    if found is None or query.after_ns is None:
        return found
    if query.reverse:
        found = replace(found, high_ns=min(found.high_ns, query.after_ns))
    else:
        found = replace(found, low_ns=max(found.low_ns, query.after_ns + 1))
    return found if found.low_ns < found.high_ns else None


def _those(flow_id: str, object_id: str | None) -> tuple[str, str, tuple[str, ...]]:
    """Segments `s` of a flow, of one object where it is given, in SQL: table, condition and its values."""
    if object_id is None:
        return "segments s", "s.flow_id = ?", (flow_id,)
    which = "s.flow_id = ? AND s.object = (SELECT number FROM objects WHERE id = ?)"
    return "segments s INDEXED BY segments_of_object", which, (flow_id, object_id)


def _by_id(connection: sqlite3.Connection, ids: Set[str | None]) -> dict[str, ObjectRow]:
    """Init objects as they are now: many segments share one, so that there are few."""
    wanted = [id for id in ids if id is not None]
    return {id: each.row for id, each in load(connection, wanted).items()} if wanted else {}


def registrar(
    connection: sqlite3.Connection, request: AddSegments, cache: Cache
) -> tuple[Registrar, dict[str, Held]]:
    """What decides about a request, and all the objects that it names, loaded at once."""
    segments = request.segments
    # In their order, in which objects of one upload mostly lie.
    named = dict.fromkeys(s.object_id for s in segments)
    named |= dict.fromkeys(s.init_object_id for s in segments if s.init_object_id)
    held = load_known(connection, named, cache)
    inits = {each.row.init_object_id for each in held.values() if each.row.init_object_id} - named.keys()
    if inits:
        held |= load_known(connection, inits, cache)
    start, stop = min(s.start_ns for s in segments), max(s.stop_ns for s in segments)
    clear = not occupied(connection, request.flow_id, start, stop)
    objects = {id: each.row for id, each in held.items()}

    def taken(start_ns: int, stop_ns: int) -> bool:
        return occupied(connection, request.flow_id, start_ns, stop_ns)

    judge = _storable(request.judge) if NUL in "".join(named) else request.judge
    return Registrar(judge, objects, None if clear else taken), held


def uses(flow_id: str, registrar: Registrar, numbers: Mapping[str, int]) -> dict[tuple[int, str], int]:
    """By how much the accepted segments use objects. `numbers`: by object id."""
    return {(numbers[id], flow_id): count for id, count in registrar.uses().items()}


def _storable(judge: Judge) -> Judge:
    """A judge that also refuses what could not be found again."""

    def judged(new: NewSegment, obj: ObjectRow | None, init: ObjectRow | None) -> Registration | Error:
        if NUL in new.object_id:
            return BadRequest("An object id has a NUL character.")
        return judge(new, obj, init)

    return judged


def occupied(connection: sqlite3.Connection, flow_id: str, start_ns: int, stop_ns: int) -> bool:
    """Whether a segment of the flow overlaps [start_ns, stop_ns)."""
    sql = "SELECT stop_ns FROM segments WHERE flow_id = ? AND start_ns < ? ORDER BY start_ns DESC LIMIT 1"
    found = connection.execute(sql, (flow_id, stop_ns)).fetchone()
    return found is not None and found[0] > start_ns


def insert(
    connection: sqlite3.Connection, flow_id: str, segments: Iterable[NewSegment], numbers: Mapping[str, int]
) -> None:
    """Write segments. `numbers`: of their objects, by id."""
    insert_rows(
        connection,
        "segments",
        [
            (flow_id, s.start_ns, s.stop_ns, numbers[s.object_id], s.timerange, bytearray(s.document))
            for s in segments
        ],
    )


def delete(
    connection: sqlite3.Connection, flow_id: str, within: TimeRange, object_id: str | None, limit: int
) -> DeletedSegments:
    """Delete up to `limit` segments that lie wholly inside `within`, earliest first."""
    if within.is_empty:
        return DeletedSegments(0, None, None, False)
    low = MIN_NS if within.first_ns is None else within.first_ns
    high = MAX_NS if within.stop_ns is None else within.stop_ns
    table, which, values = _those(flow_id, object_id)
    sql = f"""SELECT s.start_ns, s.stop_ns, s.object FROM {table}
        WHERE {which} AND s.start_ns >= ? AND s.start_ns < ? AND s.stop_ns <= ? ORDER BY s.start_ns LIMIT ?"""
    found = connection.execute(sql, (*values, low, high, high, limit + 1)).fetchall()
    gone = found[:limit]
    if not gone:
        return DeletedSegments(0, None, None, len(found) > limit)
    remove(connection, flow_id, gone)
    return DeletedSegments(len(gone), gone[0][0], gone[-1][1], len(found) > limit)


def remove(connection: sqlite3.Connection, flow_id: str, gone: Sequence[tuple[int, int, int]]) -> None:
    """Remove segments, given as (start, stop, object's number), and what they referred to."""
    connection.executemany(
        "DELETE FROM segments WHERE flow_id = ? AND start_ns = ?", [(flow_id, start) for start, *_ in gone]
    )
    used = Counter(number for *_, number in gone)
    sql = """SELECT o.number, o.init FROM json_each(?) w CROSS JOIN objects o ON o.number = w.value
        WHERE o.init IS NOT NULL"""
    uses: Uses = Counter({(number, flow_id): -count for number, count in used.items()})
    for number, init in connection.execute(sql, (json_array(used),)):
        uses[init, flow_id] -= used[number]
    count_uses(connection, uses)


def drop_flow(connection: sqlite3.Connection, flow_id: str) -> None:
    """Remove all segments of a flow that is going."""
    sql = "SELECT start_ns, stop_ns, object FROM segments WHERE flow_id = ? LIMIT ?"
    while gone := connection.execute(sql, (flow_id, DROP_CHUNK)).fetchall():
        remove(connection, flow_id, gone)
