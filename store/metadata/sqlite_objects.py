"""Objects in SQLite: their rows, what refers to them, and collecting those that nothing refers to."""

from __future__ import annotations

import sqlite3
from collections import Counter
from collections.abc import Callable, Collection, Iterable, Mapping, Sequence
from typing import Any, Final, NamedTuple

import orjson

from store.errors import BadRequest, NotFound
from store.metadata.rows import Doomed, ObjectRow, Role
from store.metadata.sqlite_insert import insert_rows
from store.metadata.tables import object_document, objects_of
from store.timerange import MIN_NS

OBJECT: Final = """o.id, o.version, o.role, o.flow_id, o.created_ns,
    iif(o.init IS NULL, NULL, (SELECT i.id FROM objects i WHERE i.number = o.init)), o.document"""
BACKLOG: Final = 10
"""While more than this many times the limit of bytes are listed as doomed, no more objects are forgotten."""
LOOKS: Final = 20
"""How many times the limit of suspects are looked at in one go, most of which may turn out innocent."""
CACHED: Final = 8_192
NUL: Final = "\0"

Record = tuple[Any, ...]
Uses = Counter[tuple[int, str]]
"""By (object's number, flow id), by how much a count is to grow, or to shrink."""

_BY_ID = f"SELECT {OBJECT}, o.number FROM json_each(?) w CROSS JOIN objects o ON o.id = w.value"
_VERSIONS = "SELECT o.id, o.number, o.version FROM json_each(?) w CROSS JOIN objects o ON o.id = w.value"
_BY_NUMBER = f"SELECT {OBJECT}, o.number FROM json_each(?) w CROSS JOIN objects o ON o.number = w.value"
_OVERWRITE = """ON CONFLICT (number) DO UPDATE SET
    version = excluded.version, role = excluded.role, flow_id = excluded.flow_id,
    created_ns = excluded.created_ns, init = excluded.init, document = excluded.document"""
_ADD = "ON CONFLICT DO UPDATE SET count = count + excluded.count"
_EARLIER = "ON CONFLICT DO UPDATE SET after_ns = min(after_ns, excluded.after_ns)"
_UNREFERENCED = """NOT EXISTS (SELECT 1 FROM uses u WHERE u.object = o.number)
    AND NOT EXISTS (SELECT 1 FROM objects m WHERE m.init = o.number)
    AND NOT EXISTS (SELECT 1 FROM holds h WHERE h.object = o.number)"""


class Held(NamedTuple):
    """An object that is there, and the number other tables know it by: its first version."""

    number: int
    row: ObjectRow


class Cache:
    """Objects as they were read, by version: no two objects, nor states of one, share a version.

    Filled by reads of what is committed only: a transaction that writes may yet be undone, its versions with
    it. For all threads.
    """

    def __init__(self) -> None:
        self._rows: dict[int, ObjectRow] = {}

    def get(self, version: int) -> ObjectRow | None:
        """The object of that version; None where none is kept."""
        return self._rows.get(version)

    def rows(self, wanted: set[int], read: Callable[[int, int], Iterable[Record]]) -> Mapping[int, ObjectRow]:
        """Objects by version: at least those that are wanted. `read` gives, as `OBJECT`, those among them
        whose versions lie from one to another."""
        known = self._rows
        missing = wanted.difference(known)
        if missing:
            # One for each: a page may have an object a thousand times.
            records = {record[1]: record for record in read(min(missing), max(missing))}
            return self._with(known, objects_of(records.values()), wanted)
        return known

    def keep(self, rows: Collection[ObjectRow]) -> None:
        """Add rows; none where there are more than may be kept."""
        if len(rows) <= CACHED:
            self._with(self._rows, rows, ())

    def _with(
        self, known: dict[int, ObjectRow], rows: Iterable[ObjectRow], wanted: Iterable[int]
    ) -> dict[int, ObjectRow]:
        fresh = {row.version: row for row in rows if row.version not in known}
        if len(known) + len(fresh) > CACHED:
            # Others may be reading by what was kept until now.
            self._rows = known = {version: known[version] for version in wanted if version in known}
        known.update(fresh)
        return known


def by_number(connection: sqlite3.Connection, numbers: Collection[int]) -> dict[int, ObjectRow]:
    """The objects that have these numbers."""
    if not numbers:
        return {}
    records = connection.execute(_BY_NUMBER, (json_array(numbers),)).fetchall()
    return {record[-1]: row for record, row in zip(records, objects_of(records), strict=True)}


def json_array(values: Iterable[str | int]) -> str:
    """A JSON array of what is looked for, for `json_each`, which cuts a text short at a NUL character.

    No text that is looked for is ever stored with one (`refuse_nul`), so that those may be left out.
    """
    return orjson.dumps([value for value in values if type(value) is not str or NUL not in value]).decode()


def refuse_nul(texts: Iterable[str | int | None]) -> None:
    """Raises `errors.BadRequest` when a text cannot be stored so that it is found again."""
    if any(type(text) is str and NUL in text for text in texts):
        raise BadRequest("A value has a NUL character.")


def load(connection: sqlite3.Connection, ids: Iterable[str]) -> dict[str, Held]:
    """The objects that exist among `ids`."""
    records = connection.execute(_BY_ID, (json_array(ids),)).fetchall()
    # As in `objects_of`: without the constructor of a named tuple.
    made = tuple.__new__
    rows = objects_of(records)
    return {row.id: made(Held, (record[-1], row)) for record, row in zip(records, rows, strict=True)}


def load_known(connection: sqlite3.Connection, ids: Iterable[str], cache: Cache) -> dict[str, Held]:
    """As `load`, which takes nearly twice as long for objects that have been read before."""
    found, unknown, made = {}, [], tuple.__new__
    for id, number, version in connection.execute(_VERSIONS, (json_array(ids),)).fetchall():
        row = cache.get(version)
        # Versions that came from elsewhere are hardly ever the same; who decides by a row makes sure.
        if row is None or row.id != id:
            unknown.append(id)
        else:
            found[id] = made(Held, (number, row))
    return found | load(connection, unknown) if unknown else found


def save(
    connection: sqlite3.Connection,
    rows: Sequence[ObjectRow],
    known: Mapping[str, Held],
    first_version: int,
) -> dict[str, int]:
    """Write objects with versions from `first_version` on; the numbers of all that were named.

    `known`: objects as they are, those among `rows` that exist for certain. Bytes of instances that a row
    loses are doomed; an init object that it loses may become garbage.
    """
    refuse_nul(row.id for row in rows if row.id not in known)
    numbers = {id: held.number for id, held in known.items()}
    for version, row in enumerate(rows, first_version):
        numbers.setdefault(row.id, version)
    inits = {row.init_object_id for row in rows if row.init_object_id is not None}
    left = {id for held in known.values() if (id := held.row.init_object_id) is not None}
    unknown = (inits | left) - numbers.keys()
    if unknown:
        numbers |= {id: held.number for id, held in load(connection, unknown).items()}
    if not inits <= numbers.keys():
        raise ValueError("an object names an init object that does not exist")
    fresh: list[Record] = []
    changed: list[Record] = []
    for version, row in enumerate(rows, first_version):
        init = None if row.init_object_id is None else numbers[row.init_object_id]
        document = bytearray(object_document(row))
        values = (version, str(row.role), row.flow_id, row.created_ns, init, document)
        (changed if row.id in known else fresh).append((numbers[row.id], row.id, *values))
    insert_rows(connection, "objects", fresh)
    insert_rows(connection, "objects", changed, _OVERWRITE)
    _place(connection, rows, known, numbers)
    unused = [(numbers[row.id], row.created_ns) for row in rows if row.role is Role.UNUSED]
    insert_rows(connection, "suspects", unused, _EARLIER)
    return numbers


def _place(
    connection: sqlite3.Connection,
    rows: Iterable[ObjectRow],
    known: Mapping[str, Held],
    numbers: Mapping[str, int],
) -> None:
    """Follow what rows that were written have gained and lost: bytes, and init objects."""
    gained, lost = [], []
    for row in rows:
        number, held = numbers[row.id], known.get(row.id)
        if held is None:
            gained += [(i.backend_id, i.key, number) for i in row.instances]
            continue
        old = held.row
        if old.instances != row.instances:
            had = [(i.backend_id, i.key, number) for i in old.instances]
            has = [(i.backend_id, i.key, number) for i in row.instances]
            # Most stay where they are, and only have their version frozen.
            if had != has:
                gained += [place for place in has if place not in had]
                lost += [place for place in had if place not in has]
        # Nothing refers yet to what is registered only now.
        if old.init_object_id != row.init_object_id and old.role is not Role.UNUSED:
            before, now = (
                None if id is None else numbers[id] for id in (old.init_object_id, row.init_object_id)
            )
            _move_init(connection, number, before, now)
    insert_rows(connection, "instances", gained, "ON CONFLICT DO NOTHING")
    if lost:
        _doom(connection, lost)


def _move_init(connection: sqlite3.Connection, number: int, old: int | None, new: int | None) -> None:
    """Let the flows that refer to an object refer to its new init object instead of the old one."""
    uses: Uses = Counter()
    for flow_id, count in connection.execute("SELECT flow_id, count FROM uses WHERE object = ?", (number,)):
        if old is not None:
            uses[old, flow_id] -= count
        if new is not None:
            uses[new, flow_id] += count
    count_uses(connection, uses)
    if old is not None:
        suspect(connection, [old])


def count_uses(connection: sqlite3.Connection, uses: Mapping[tuple[int, str], int]) -> None:
    """Add to the counts of uses; an object without any left in a flow may be garbage."""
    more = [(*pair, count) for pair, count in uses.items() if count > 0]
    fewer = [(count, *pair) for pair, count in uses.items() if count < 0]
    insert_rows(connection, "uses", more, _ADD)
    if fewer:
        sql = "UPDATE uses SET count = count + ? WHERE object = ? AND flow_id = ?"
        connection.executemany(sql, fewer)
        sql = "DELETE FROM uses WHERE object = ? AND flow_id = ? AND count <= 0"
        connection.executemany(sql, [pair for _, *pair in fewer])
        suspect(connection, {number for _, number, _ in fewer})


def suspect(connection: sqlite3.Connection, numbers: Iterable[int]) -> None:
    """Remember objects that lost a reference, for `collect` to look at."""
    insert_rows(connection, "suspects", [(number, MIN_NS) for number in numbers], _EARLIER)


def hold(
    connection: sqlite3.Connection, object_ids: Sequence[str], reference: str, holder: str, held: bool
) -> None:
    """Add or drop a reference by a holder outside the segments, to distinct objects."""
    numbers = [found.number for found in load(connection, object_ids).values()]
    rows = [(number, reference, holder) for number in numbers]
    if held:
        if len(rows) < len(object_ids):
            raise NotFound("No such object.")
        connection.executemany("INSERT OR IGNORE INTO holds VALUES (?, ?, ?)", rows)
        return
    sql = "DELETE FROM holds WHERE object = ? AND reference = ? AND holder = ?"
    connection.executemany(sql, rows)
    suspect(connection, numbers)


def count_accesses(connection: sqlite3.Connection, counts: Mapping[str, int], at_ns: int) -> None:
    """Add to how often URLs of objects were given out."""
    # One statement: between those of executemany the writer would wait for the event loop, again and again.
    connection.execute(
        """INSERT INTO accesses SELECT o.number, json_extract(w.value, '$[1]'), ? FROM json_each(?) w
        CROSS JOIN objects o ON o.id = json_extract(w.value, '$[0]') WHERE true ON CONFLICT DO UPDATE
        SET urls = urls + excluded.urls, last_ns = max(last_ns, excluded.last_ns)""",
        (at_ns, orjson.dumps(list(counts.items())).decode()),
    )


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


def _look(connection: sqlite3.Connection, before_ns: int, limit: int) -> tuple[int, list[int]]:
    """Look at up to `limit` suspects that are due: how many there were, and those that are garbage.

    What was looked at is suspected no more, but for what was allocated too lately to be garbage yet.
    """
    sql = "SELECT object FROM suspects WHERE after_ns < ? ORDER BY after_ns LIMIT ?"
    due = [row[0] for row in connection.execute(sql, (before_ns, limit))]
    connection.executemany("DELETE FROM suspects WHERE object = ?", [(number,) for number in due])
    sql = f"""SELECT o.number, o.role = 'unused' AND o.created_ns >= ?, o.created_ns FROM json_each(?) w
        CROSS JOIN objects o ON o.number = w.value WHERE {_UNREFERENCED}"""
    found = connection.execute(sql, (before_ns, json_array(due))).fetchall()
    early = [(number, created_ns) for number, is_early, created_ns in found if is_early]
    insert_rows(connection, "suspects", early, _EARLIER)
    return len(due), [number for number, is_early, _ in found if not is_early]


def _forget(connection: sqlite3.Connection, numbers: list[int]) -> None:
    """Remove objects; their bytes are doomed, the init objects they used are suspects."""
    text = json_array(numbers)
    sql = "SELECT DISTINCT o.init FROM json_each(?) w CROSS JOIN objects o ON o.number = w.value"
    inits = [init for (init,) in connection.execute(sql, (text,)) if init is not None]
    rows = by_number(connection, numbers)
    gone = [(number,) for number in numbers]
    connection.executemany("DELETE FROM objects WHERE number = ?", gone)
    connection.executemany("DELETE FROM accesses WHERE object = ?", gone)
    suspect(connection, inits)
    _doom(connection, [(i.backend_id, i.key, number) for number, row in rows.items() for i in row.instances])


def _doom(connection: sqlite3.Connection, places: Iterable[tuple[str, str, int]]) -> None:
    """List bytes as to be removed, unless another object has them too. `places`: with the object's number."""
    rows = list(places)
    sql = "DELETE FROM instances WHERE backend_id = ? AND key = ? AND object = ?"
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
