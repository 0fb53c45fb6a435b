"""Objects in SQLite: their rows, what refers to them, and collecting those that nothing refers to."""

from __future__ import annotations

import sqlite3
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from typing import Any, Final

import orjson

from store.errors import NotFound
from store.metadata.rows import Doomed, Instance, ObjectRow, Role, UncontrolledUrl
from store.timerange import MIN_NS

OBJECT: Final = "o.id, o.version, o.role, o.flow_id, o.created_ns, o.init_object_id, o.document"
BACKLOG: Final = 10
"""While more than this many times the limit of bytes are listed as doomed, no more objects are forgotten."""

LOOKS: Final = 20
"""How many times the limit of suspects are looked at in one go, most of which may turn out innocent."""

_SUSPECT = """INSERT INTO suspects VALUES (?, ?)
    ON CONFLICT DO UPDATE SET after_ns = min(after_ns, excluded.after_ns)"""
_ROLES: Final = {str(role): role for role in Role}
Uses = Counter[tuple[str, str]]
"""By (object id, flow id), by how much a count is to grow, or to shrink."""

_UNREFERENCED = """NOT EXISTS (SELECT 1 FROM uses u WHERE u.object_id = o.id)
    AND NOT EXISTS (SELECT 1 FROM objects m WHERE m.init_object_id = o.id)
    AND NOT EXISTS (SELECT 1 FROM holds h WHERE h.object_id = o.id)"""


def ids_text(ids: Iterable[str]) -> str:
    """Ids as a JSON array, for `json_each`."""
    return orjson.dumps(list(ids)).decode()


def object_of(record: tuple[Any, ...]) -> ObjectRow:
    """The object that a statement selected as `OBJECT`."""
    id, version, role, flow_id, created_ns, init_object_id, document = record
    instances, urls, timerange, key_frame_count, size_bytes = orjson.loads(document)
    return ObjectRow(
        id,
        _ROLES[role],
        flow_id,
        created_ns,
        tuple(Instance(*instance) for instance in instances),
        tuple(UncontrolledUrl(*url) for url in urls),
        timerange,
        key_frame_count,
        init_object_id,
        size_bytes,
        version,
    )


def _document(row: ObjectRow) -> bytes:
    return orjson.dumps(
        (
            [(i.backend_id, i.key, i.content_type, i.version, i.complete) for i in row.instances],
            [(u.url, u.label) for u in row.urls],
            row.timerange,
            row.key_frame_count,
            row.size_bytes,
        )
    )


def load(connection: sqlite3.Connection, ids: Iterable[str]) -> dict[str, ObjectRow]:
    """The objects that exist among `ids`."""
    sql = f"SELECT {OBJECT} FROM json_each(?) w CROSS JOIN objects o ON o.id = w.value"
    return {found[0]: object_of(found) for found in connection.execute(sql, (ids_text(ids),))}


def save(
    connection: sqlite3.Connection,
    rows: Iterable[ObjectRow],
    before: Mapping[str, ObjectRow],
    first_version: int,
) -> None:
    """Write objects with versions from `first_version` on. `before`: those of them that exist, as they are.

    Bytes of instances that a row loses are doomed; an init object that it loses may become garbage.
    """
    records, gained, lost, suspects = [], [], [], []
    for version, row in enumerate(rows, first_version):
        old = before.get(row.id)
        records.append(
            (row.id, version, row.role, row.flow_id, row.created_ns, row.init_object_id, _document(row))
        )
        had = {(i.backend_id, i.key) for i in old.instances} if old else set()
        has = {(i.backend_id, i.key) for i in row.instances}
        gained += [(*place, row.id) for place in has - had]
        lost += [(*place, row.id) for place in had - has]
        if row.role is Role.UNUSED and old is None:
            suspects.append((row.id, row.created_ns))
        if old is not None and old.init_object_id != row.init_object_id:
            _move_init(connection, row.id, old.init_object_id, row.init_object_id)
    connection.executemany("INSERT OR REPLACE INTO objects VALUES (?, ?, ?, ?, ?, ?, ?)", records)
    connection.executemany("INSERT OR IGNORE INTO instances VALUES (?, ?, ?)", gained)
    connection.executemany(_SUSPECT, suspects)
    _doom(connection, lost)


def _move_init(connection: sqlite3.Connection, id: str, old: str | None, new: str | None) -> None:
    """Let the flows that refer to an object refer to its new init object instead of the old one."""
    uses: Uses = Counter()
    for flow_id, count in connection.execute("SELECT flow_id, count FROM uses WHERE object_id = ?", (id,)):
        if old is not None:
            uses[old, flow_id] -= count
        if new is not None:
            uses[new, flow_id] += count
    count_uses(connection, uses)
    if old is not None:
        suspect(connection, [old])


def count_uses(connection: sqlite3.Connection, uses: Uses) -> None:
    """Add to the counts of uses; an object without any left in a flow may be garbage."""
    more = [(*pair, count) for pair, count in uses.items() if count > 0]
    fewer = [(count, *pair) for pair, count in uses.items() if count < 0]
    if more:
        connection.executemany(
            "INSERT INTO uses VALUES (?, ?, ?) ON CONFLICT DO UPDATE SET count = count + excluded.count", more
        )
    if fewer:
        sql = "UPDATE uses SET count = count + ? WHERE object_id = ? AND flow_id = ?"
        connection.executemany(sql, fewer)
        sql = "DELETE FROM uses WHERE object_id = ? AND flow_id = ? AND count <= 0"
        connection.executemany(sql, [pair for _, *pair in fewer])
        suspect(connection, {object_id for _, object_id, _ in fewer})


def suspect(connection: sqlite3.Connection, ids: Iterable[str]) -> None:
    """Remember objects that lost a reference, for `collect` to look at."""
    connection.executemany(_SUSPECT, [(id, MIN_NS) for id in ids])


def hold(
    connection: sqlite3.Connection, object_ids: Sequence[str], reference: str, holder: str, held: bool
) -> None:
    """Add or drop a reference by a holder outside the segments, to distinct objects."""
    rows = [(object_id, reference, holder) for object_id in object_ids]
    if held:
        if len(load(connection, object_ids)) < len(rows):
            raise NotFound("No such object.")
        connection.executemany("INSERT OR IGNORE INTO holds VALUES (?, ?, ?)", rows)
        return
    sql = "DELETE FROM holds WHERE object_id = ? AND reference = ? AND holder = ?"
    connection.executemany(sql, rows)
    suspect(connection, [object_id for object_id, *_ in rows])


def collect(connection: sqlite3.Connection, allocated_before_ns: int, limit: int) -> list[Doomed]:
    """Forget objects that nothing refers to; all bytes that are to be removed, earliest first."""
    (listed,) = connection.execute("SELECT count(*) FROM doomed").fetchone()
    room = min(limit, max(0, BACKLOG * limit - listed))
    for _ in range(LOOKS):
        if room <= 0:
            break
        looked_at, garbage = _look(connection, allocated_before_ns, room)
        _forget(connection, garbage)
        room -= len(garbage)
        if not looked_at:
            break
    rows = connection.execute("SELECT backend_id, key FROM doomed ORDER BY number")
    return [Doomed(*row) for row in rows]


def _look(connection: sqlite3.Connection, before_ns: int, limit: int) -> tuple[int, list[str]]:
    """Look at up to `limit` suspects that are due: how many there were, and those that are garbage.

    What was looked at is suspected no more, but for what was allocated too lately to be garbage yet.
    """
    sql = "SELECT object_id FROM suspects WHERE after_ns < ? ORDER BY after_ns LIMIT ?"
    due = [row[0] for row in connection.execute(sql, (before_ns, limit))]
    connection.executemany("DELETE FROM suspects WHERE object_id = ?", [(id,) for id in due])
    sql = f"""SELECT o.id, o.role = 'unused' AND o.created_ns >= ?, o.created_ns FROM json_each(?) w
        CROSS JOIN objects o ON o.id = w.value WHERE {_UNREFERENCED}"""
    found = connection.execute(sql, (before_ns, ids_text(due))).fetchall()
    connection.executemany(_SUSPECT, [(id, created_ns) for id, early, created_ns in found if early])
    return len(due), [id for id, early, _ in found if not early]


def _forget(connection: sqlite3.Connection, ids: list[str]) -> None:
    """Remove objects; their bytes are doomed, the init objects they used are suspects."""
    rows = load(connection, ids).values()
    connection.executemany("DELETE FROM objects WHERE id = ?", [(row.id,) for row in rows])
    suspect(connection, {row.init_object_id for row in rows if row.init_object_id is not None})
    _doom(connection, [(i.backend_id, i.key, row.id) for row in rows for i in row.instances])


def _doom(connection: sqlite3.Connection, places: Iterable[tuple[str, str, str]]) -> None:
    """List bytes as to be removed, unless another object has them too. `places`: with the object's id."""
    rows = list(places)
    sql = "DELETE FROM instances WHERE backend_id = ? AND key = ? AND object_id = ?"
    connection.executemany(sql, rows)
    connection.executemany(
        """INSERT OR IGNORE INTO doomed (backend_id, key) SELECT ?1, ?2
        WHERE NOT EXISTS (SELECT 1 FROM instances WHERE backend_id = ?1 AND key = ?2)""",
        [(backend_id, key) for backend_id, key, _ in rows],
    )


def strike_off(connection: sqlite3.Connection, doomed: Iterable[Doomed]) -> None:
    """Forget bytes that have been removed."""
    connection.executemany(
        "DELETE FROM doomed WHERE backend_id = ? AND key = ?", [(d.backend_id, d.key) for d in doomed]
    )
