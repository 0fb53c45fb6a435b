"""Documents in SQLite: reading rows, and applying a change inside a transaction."""

from __future__ import annotations

import sqlite3
from collections.abc import Iterable, Mapping, Sequence
from functools import lru_cache
from itertools import chain
from typing import Any, Final

import orjson

from store import errors
from store.metadata.protocol import Stale
from store.metadata.rows import Change, Delete, Event, Expect, Kind, Put, Ref, Row
from store.metadata.sqlite_objects import json_array, refuse_nul
from store.metadata.sqlite_segments import drop_flow
from store.metadata.tables import Columns, collection_of, columns_of, event_document

Term = tuple[str, str | int]
Record = tuple[Any, ...]

SMALL_BYTES: Final = 4_096
SMALL_RELATED: Final = 32
NONE: Final = 0
"""A term's value where a document has none: an integer, which no client can write."""
CLASSES: Final = "tag.auth_classes"

# What a statement selects for `row_of`.
RELATED: Final = """CASE WHEN r.related IS NULL THEN NULL ELSE (
    SELECT json_group_object(q.id, q.classes) FROM json_each(r.related) j
    CROSS JOIN resources q ON q.kind = r.kind AND q.id = j.value) END"""
ROW: Final = f"""r.kind, r.id, r.version, r.document, r.classes, {RELATED},
    r.created_rank, r.segments_updated_ns, r.private, r.updated_rank"""

_GET = f"SELECT {ROW} FROM resources r WHERE r.kind = ? AND r.id = ?"
_GET_MANY = f"""SELECT {ROW} FROM json_each(?) w CROSS JOIN resources r
    ON r.kind = json_extract(w.value, '$[0]') AND r.id = json_extract(w.value, '$[1]')"""
_COLUMNS = """version, created_rank, updated_rank, classes, related, sort_text, format, codec, profile_id,
    status, frame_width, frame_height, init_segments, private, document"""
_INSERT = f"INSERT INTO resources (kind, id, {_COLUMNS}) VALUES ({', '.join('?' * 17)})"
_UPDATE = f"""UPDATE resources SET ({_COLUMNS}) = ({", ".join("?" * 15)})
    WHERE kind = ? AND id = ?"""
_KINDS: Final = {str(kind): kind for kind in Kind}


@lru_cache(maxsize=16_384)
def classes_of(text: str) -> frozenset[str]:
    """The classes that a `classes` column holds."""
    return frozenset(orjson.loads(text))


def row_of(record: Record) -> Row:
    """The row that a statement selected as `ROW`."""
    kind, id, version, document, classes, related, created, segments_updated, private, updated = record[:10]
    return Row(
        _KINDS[kind],
        id,
        version,
        document,
        classes_of(classes),
        _related(related) if related is not None else {},
        -created,
        segments_updated,
        private,
        -updated,
    )


def at_present(row: Row, related: str | None, segments_updated_ns: int | None) -> Row:
    """A row as it is now; what else is in it changes with its version alone."""
    return Row(
        row.kind,
        row.id,
        row.version,
        row.document,
        row.classes,
        _related(related) if related is not None else row.related,
        row.created_ns,
        segments_updated_ns,
        row.private,
        row.updated_ns,
    )


def _related(text: str) -> dict[str, frozenset[str]]:
    return {id: classes_of(classes) for id, classes in orjson.loads(text).items()}


def get(connection: sqlite3.Connection, ref: Ref) -> Row | None:
    """One row."""
    # A plain string is taken at once; for one of an enumeration a way to adapt it would be looked for.
    found = connection.execute(_GET, (str(ref.kind), ref.id)).fetchone()
    return None if found is None else row_of(found)


def is_small(row: Row | None) -> bool:
    """Whether a row may be kept by the thousand."""
    return row is None or (len(row.document) <= SMALL_BYTES and len(row.related) <= SMALL_RELATED)


def get_many(connection: sqlite3.Connection, refs: Iterable[Ref]) -> dict[Ref, Row]:
    """The rows that exist."""
    text = orjson.dumps([(ref.kind, ref.id) for ref in refs]).decode()
    rows = [row_of(found) for found in connection.execute(_GET_MANY, (text,))]
    return {row.ref: row for row in rows}


def apply(connection: sqlite3.Connection, change: Change) -> None:
    """Apply a change in the transaction at hand. Raises `Stale`, `errors.Expectation`."""
    check(connection, change.expect)
    for ref, version in change.unchanged.items():
        if _version(connection, ref) != version:
            raise Stale
    for delete in change.deletes:
        _delete(connection, delete)
    if change.puts:
        version = next_versions(connection, len(change.puts))
        for offset, put in enumerate(change.puts):
            _put(connection, put, version + offset)
    append_events(connection, change.events)


def next_versions(connection: sqlite3.Connection, count: int) -> int:
    """The first of `count` version numbers that no row has had before."""
    sql = "UPDATE counters SET value = value + ? WHERE name = 'version' RETURNING value"
    (last,) = connection.execute(sql, (count,)).fetchone()
    return int(last) - count + 1


def append_events(connection: sqlite3.Connection, events: Iterable[Event]) -> None:
    """Put events into the outbox, in order."""
    rows = [(event.time_ns, orjson.dumps(event_document(event))) for event in events]
    if rows:
        connection.executemany("INSERT INTO events (time_ns, document) VALUES (?, ?)", rows)


def _version(connection: sqlite3.Connection, ref: Ref) -> int:
    """The version of a row, 0 where there is none."""
    found = connection.execute("SELECT version FROM resources WHERE kind = ? AND id = ?", ref).fetchone()
    return 0 if found is None else int(found[0])


def _put(connection: sqlite3.Connection, put: Put, version: int) -> None:
    if _version(connection, put.ref) != put.version:
        raise Stale
    values, wanted = _stored(put, version, orjson.dumps(put.document))
    if put.version:
        connection.execute(_UPDATE, (*values, put.kind, put.id))
        _retag(connection, put, wanted)
    else:
        connection.execute(_INSERT, (put.kind, put.id, *values))
        _tag(connection, put, wanted)


def restore(
    connection: sqlite3.Connection,
    put: Put,
    version: int,
    document: bytes,
    segments_updated_ns: int | None,
) -> None:
    """Write a row as it was elsewhere, of that version, unless it is there already."""
    if _version(connection, put.ref):
        return
    values, wanted = _stored(put, version, document)
    connection.execute(_INSERT, (put.kind, put.id, *values))
    sql = "UPDATE resources SET segments_updated_ns = ? WHERE kind = ? AND id = ?"
    connection.execute(sql, (segments_updated_ns, *put.ref))
    _tag(connection, put, wanted)


def _stored(put: Put, version: int, document: bytes) -> tuple[Record, set[Term]]:
    """The columns of a row, as `_COLUMNS` has them, and its terms."""
    columns = columns_of(put)
    classes = json_array(columns.classes)
    values = (
        version,
        -put.created_ns,
        -put.updated_ns,
        classes,
        json_array(columns.related) if columns.related else None,
        columns.sort_text,
        columns.format,
        columns.codec,
        columns.profile_id,
        columns.status,
        columns.frame_width,
        columns.frame_height,
        columns.init_segments,
        put.private,
        document,
    )
    wanted = terms_of(columns, classes)
    refuse_nul((put.id, columns.sort_text, *columns.related, *chain.from_iterable(wanted)))
    return values, wanted


def terms_of(columns: Columns, classes: str) -> set[Term]:
    """What a document can be found by. `classes` is its set of classes as text, for callers to whom
    single classes do not say enough."""
    terms: set[Term] = {("classes", classes)}
    for name, value in columns.tags:
        terms.add((f"tag.{name}", value))
        terms.add(("tag_exists", name))
    terms.update(("tag_exists", name) for name in columns.empty_tags)
    if not columns.classes:
        terms.add((CLASSES, NONE))
    for facet, single in (("label", columns.label), ("source_id", columns.source_id)):
        if single is not None:
            terms.add((facet, single))
    terms.update(("collected_by", parent) for parent in columns.collected_by or (NONE,))
    return terms


def _tag(connection: sqlite3.Connection, put: Put, terms: Iterable[Term]) -> None:
    rank = -put.created_ns
    connection.executemany(
        "INSERT INTO terms (kind, facet, value, rank, id) VALUES (?, ?, ?, ?, ?)",
        [(put.kind, facet, value, rank, put.id) for facet, value in terms],
    )


def _retag(connection: sqlite3.Connection, put: Put, wanted: set[Term]) -> None:
    """Make the terms of a document those wanted, touching only what differs."""
    sql = "SELECT facet, value, rank FROM terms WHERE kind = ? AND id = ?"
    found = connection.execute(sql, put.ref).fetchall()
    rank = -put.created_ns
    kept = {(facet, value) for facet, value, at in found if at == rank} & wanted
    _untag(connection, put.ref, [term for term in found if (term[0], term[1]) not in kept])
    _tag(connection, put, wanted - kept)


def _untag(connection: sqlite3.Connection, ref: Ref, found: Sequence[tuple[str, str | int, int]]) -> None:
    connection.executemany(
        "DELETE FROM terms WHERE kind = ? AND facet = ? AND value = ? AND rank = ? AND id = ?",
        [(ref.kind, facet, value, rank, ref.id) for facet, value, rank in found],
    )


def _delete(connection: sqlite3.Connection, delete: Delete) -> None:
    sql = "DELETE FROM resources WHERE kind = ? AND id = ? AND version = ?"
    if not connection.execute(sql, (*delete.ref, delete.version)).rowcount:
        raise Stale
    sql = "SELECT facet, value, rank FROM terms WHERE kind = ? AND id = ?"
    _untag(connection, delete.ref, connection.execute(sql, delete.ref).fetchall())
    if delete.ref.kind is Kind.FLOW:
        drop_flow(connection, delete.ref.id)


def check(connection: sqlite3.Connection, expect: Expect | None) -> None:
    """Raises `errors.Expectation` unless everything expected is so, in the transaction at hand."""
    if expect is None:
        return
    if not (
        all(_classes(connection, ref) == classes for ref, classes in expect.classes.items())
        and all(_members(connection, flow) == tuple(ids) for flow, ids in expect.members.items())
        and all(_refers(connection, pair) for pair in expect.references)
        and not _known(connection, expect.unknown)
    ):
        raise errors.Expectation("What the request was authorised on has changed.")


def _classes(connection: sqlite3.Connection, ref: Ref) -> frozenset[str] | None:
    found = connection.execute("SELECT classes FROM resources WHERE kind = ? AND id = ?", ref).fetchone()
    return None if found is None else classes_of(found[0])


def _members(connection: sqlite3.Connection, flow_id: str) -> tuple[str, ...]:
    """The ids of a flow's collection in order; none for a flow that does not exist."""
    sql = "SELECT document FROM resources WHERE kind = 'flow' AND id = ?"
    found = connection.execute(sql, (flow_id,)).fetchone()
    document: Mapping[str, Any] = {} if found is None else orjson.loads(found[0])
    return tuple(item["id"] for item in collection_of(Kind.FLOW, dict(document)))


def _refers(connection: sqlite3.Connection, pair: tuple[str, str]) -> bool:
    sql = """SELECT 1 FROM uses WHERE object = (SELECT number FROM objects WHERE id = ?) AND flow_id = ?"""
    return connection.execute(sql, pair).fetchone() is not None


def _known(connection: sqlite3.Connection, ids: frozenset[str]) -> bool:
    """Whether any of the objects exists."""
    if not ids:
        return False
    sql = "SELECT 1 FROM json_each(?) w CROSS JOIN objects o ON o.id = w.value LIMIT 1"
    return connection.execute(sql, (json_array(ids),)).fetchone() is not None
