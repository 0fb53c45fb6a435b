"""Keys of the key-value API in SQLite."""

from __future__ import annotations

import sqlite3
from typing import Any, Final

from store.metadata import sqlite_objects
from store.metadata.keys import DeleteKey, KeyQuery, KeyRow, PutKey
from store.metadata.protocol import Stale
from store.metadata.rows import ObjectRow, Reference, Role
from store.metadata.sqlite_rows import SMALL_BYTES, next_versions

_GET: Final = """SELECT k.name, k.version, k.created_ns, k.size_bytes, k.content_type, k.data,
    (SELECT o.id FROM objects o WHERE o.number = k.object) FROM keys k WHERE k.name = ?"""
_PUT: Final = """INSERT INTO keys (name, version, created_ns, size_bytes, content_type, data, object)
    VALUES (?, ?, ?, ?, ?, ?, ?) ON CONFLICT (name) DO UPDATE SET
    (version, created_ns, size_bytes, content_type, data, object) = (excluded.version, excluded.created_ns,
    excluded.size_bytes, excluded.content_type, excluded.data, excluded.object)"""
# The index on the name holds all that a listing reads.
_LIST: Final = """SELECT name FROM keys WHERE name >= ?1 AND (?2 IS NULL OR name < ?2)
    AND (?3 IS NULL OR name > ?3) ORDER BY name LIMIT ?4"""


def get(connection: sqlite3.Connection, name: str) -> KeyRow | None:
    """One key. With an object this takes two statements: run it in a snapshot."""
    found = connection.execute(_GET, (name,)).fetchone()
    if found is None:
        return None
    *values, object_id = found
    return KeyRow._make((*values, _object(connection, object_id)))


def get_inline(connection: sqlite3.Connection, name: str) -> tuple[KeyRow | None, bool]:
    """One key by one statement, and whether its object is still to be read."""
    found = connection.execute(_GET, (name,)).fetchone()
    if found is None:
        return None, False
    return KeyRow._make((*found[:-1], None)), found[-1] is not None


def is_small(found: tuple[KeyRow | None, bool]) -> bool:
    """Whether a key may be kept by the thousand."""
    row, _ = found
    return row is None or row.data is None or len(row.data) <= SMALL_BYTES


def _object(connection: sqlite3.Connection, object_id: str | None) -> ObjectRow | None:
    if object_id is None:
        return None
    return sqlite_objects.load(connection, [object_id])[object_id].row


def listing(connection: sqlite3.Connection, query: KeyQuery) -> tuple[list[str], bool]:
    """A page of names and whether more follow."""
    found: list[str] = []
    for start, stop in query.ranges:
        wanted = query.limit + 1 - len(found)
        if wanted <= 0:
            break
        if query.after is None or stop is None or query.after < stop:
            found += [row[0] for row in connection.execute(_LIST, (start, stop, query.after, wanted))]
    return found[: query.limit], len(found) > query.limit


def put(connection: sqlite3.Connection, request: PutKey) -> KeyRow:
    """Point a key at bytes. Raises `Stale`."""
    before = _current(connection, request.name, request.version)
    version = next_versions(connection, 1)
    number, row = None, None
    if request.object is not None:
        number, row = _finish(connection, request.object)
    values = (request.created_ns, request.size_bytes, request.content_type, request.data)
    connection.execute(_PUT, (request.name, version, *values, number))
    if row is not None:
        sqlite_objects.hold(connection, [row.id], Reference.KEY, request.name, True)
    _release(connection, before, request.name, request.released_ns, keep=row)
    return KeyRow(request.name, version, *values, row)


def delete(connection: sqlite3.Connection, request: DeleteKey) -> bool:
    """Remove a key, False when there is none. Raises `Stale`."""
    before = _current(connection, request.name, request.version)
    if before is None:
        return False
    connection.execute("DELETE FROM keys WHERE name = ?", (request.name,))
    _release(connection, before, request.name, request.released_ns, keep=None)
    return True


def reserve(connection: sqlite3.Connection, row: ObjectRow) -> ObjectRow:
    """Create the row of an object for a key. Raises `Stale` when its id is taken."""
    if sqlite_objects.load(connection, [row.id]):
        raise Stale
    version = next_versions(connection, 1)
    sqlite_objects.save(connection, [row], {}, version)
    return row._replace(version=version)


def _current(connection: sqlite3.Connection, name: str, version: int | None) -> tuple[Any, ...] | None:
    """(version, object's number) of a key, None when there is none. Raises `Stale` for another version."""
    sql = "SELECT version, object FROM keys WHERE name = ?"
    found: tuple[Any, ...] | None = connection.execute(sql, (name,)).fetchone()
    if version is not None and version != (0 if found is None else found[0]):
        raise Stale
    return found


def _finish(connection: sqlite3.Connection, row: ObjectRow) -> tuple[int, ObjectRow]:
    """Write a reserved object's row as it is to be; its number. Raises `Stale` when it has changed."""
    held = sqlite_objects.load(connection, [row.id])
    if row.id not in held or held[row.id].row.version != row.version:
        raise Stale
    version = next_versions(connection, 1)
    numbers = sqlite_objects.save(connection, [row], held, version)
    return numbers[row.id], row._replace(version=version)


def _release(
    connection: sqlite3.Connection,
    before: tuple[Any, ...] | None,
    name: str,
    released_ns: int,
    *,
    keep: ObjectRow | None,
) -> None:
    """Drop the key's reference to the object that it pointed to before."""
    number = None if before is None else before[1]
    if number is None:
        return
    sql = "SELECT id FROM objects WHERE number = ?"
    (object_id,) = connection.execute(sql, (number,)).fetchone()
    if keep is not None and keep.id == object_id:
        return
    sqlite_objects.hold(connection, [object_id], Reference.KEY, name, False)
    held = sqlite_objects.load(connection, [object_id])
    row = held[object_id].row
    if row.role is Role.UNUSED:
        # Saving it anew makes it suspect from then on, though its own allocation may be younger.
        aged = row._replace(created_ns=released_ns)
        sqlite_objects.save(connection, [aged], held, next_versions(connection, 1))
