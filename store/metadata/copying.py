"""Copying all metadata from an SQLite file into VAST DB, resumable and verified.

The file must not be written meanwhile. What has been copied is remembered in the same transactions that
copy it, so that nothing is lost or doubled however often the copying is interrupted.
"""

from __future__ import annotations

import asyncio
import sqlite3
from collections.abc import Awaitable, Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from hashlib import sha256
from pathlib import Path
from typing import Any, Final

import orjson

from store import errors
from store.metadata.rows import Kind, Put
from store.metadata.sqlite_schema import BUSY_S, VERSION, connect
from store.metadata.tables import objects_of
from store.metadata.vast_events import SEQUENCE
from store.metadata.vast_objects import COLUMNS as OBJECT_COLUMNS
from store.metadata.vast_predicates import above, equal
from store.metadata.vast_rows import EMPTY, Span, columns_of_put
from store.metadata.vast_session import Database
from store.metadata.vast_terms import rewrite
from store.metadata.vast_tx import Tx
from store.timerange import MAX_NS

BATCH: Final = 500
"""How many records are written in one transaction."""
BATCH_S: Final = 60.0
VERIFY_S: Final = 3_600.0
WATCH_S: Final = 4.0
"""How long it is watched whether anybody else writes."""
COMMITS_NS: Final = 120_000_000_000
"""How old commits are that are looked at."""
PREFIX: Final = "copied:"
DONE: Final = f"{PREFIX}everything"

Record = tuple[Any, ...]
Report = Callable[[str, int, int], None]
"""Told of progress: what, how many of it, of how many."""


class NotEqual(errors.Error):
    """The copy is not what it was made from."""


@dataclass(frozen=True, slots=True)
class Section:
    """Records of one kind. `select`: the columns, in the order of `columns` of the table in VAST, and where
    from; `key`: SQL expressions that order and tell apart."""

    table: str
    columns: tuple[str, ...]
    select: str
    key: tuple[str, ...]

    def page(self, connection: sqlite3.Connection, after: Sequence[Any] | None) -> list[Record]:
        """The next records behind a key, each with its own key in front."""
        key = ", ".join(self.key)
        behind = f"WHERE ({key}) > ({', '.join('?' * len(self.key))})" if after else ""
        sql = f"SELECT {key}, {self.select} {behind} ORDER BY {key} LIMIT {BATCH}"
        return connection.execute(sql, tuple(after or ())).fetchall()

    def records(self, connection: sqlite3.Connection) -> Iterator[Record]:
        """All records."""
        yield from connection.execute(f"SELECT {self.select}")

    def count(self, connection: sqlite3.Connection) -> int:
        """How many there are."""
        source = self.select[self.select.rindex("FROM ") :]
        (count,) = connection.execute(f"SELECT count(*) {source}").fetchone()
        return int(count)


_INIT = "(SELECT i.id FROM objects i WHERE i.number = o.init)"
SECTIONS: Final = (
    Section(
        "objects",
        ("id", "version", "role", "flow_id", "created_ns", "init_object_id", "document"),
        f"o.id, o.version, o.role, o.flow_id, o.created_ns, {_INIT}, o.document FROM objects o",
        ("o.number",),
    ),
    Section(
        "resources",
        ("kind", "id", "version", "created_ns", "updated_ns", "segments_updated_ns", "private", "document"),
        """r.kind, r.id, r.version, -r.created_rank, -r.updated_rank, r.segments_updated_ns, r.private,
            r.document FROM resources r""",
        ("r.rowid",),
    ),
    Section(
        "segments",
        ("flow_id", "start_ns", "stop_ns", "object_id", "init_object_id", "timerange", "document"),
        f"""s.flow_id, s.start_ns, s.stop_ns, o.id, {_INIT}, s.timerange, s.document
            FROM segments s CROSS JOIN objects o ON o.number = s.object""",
        ("s.flow_id", "s.start_ns"),
    ),
    Section(
        "uses",
        ("object_id", "flow_id", "count"),
        "o.id, u.flow_id, u.count FROM uses u CROSS JOIN objects o ON o.number = u.object",
        ("u.object", "u.flow_id"),
    ),
    Section(
        "accesses",
        ("object_id", "urls", "last_ns"),
        "o.id, a.urls, a.last_ns FROM accesses a CROSS JOIN objects o ON o.number = a.object",
        ("a.object",),
    ),
    Section(
        "holds",
        ("object_id", "reference", "holder"),
        "o.id, h.reference, h.holder FROM holds h CROSS JOIN objects o ON o.number = h.object",
        ("h.object", "h.reference", "h.holder"),
    ),
    Section(
        "suspects",
        ("object_id", "after_ns"),
        "o.id, p.after_ns FROM suspects p CROSS JOIN objects o ON o.number = p.object",
        ("p.object",),
    ),
    Section(
        "doomed",
        ("number", "backend_id", "key"),
        "d.number, d.backend_id, d.key FROM doomed d",
        ("d.number",),
    ),
    Section(
        "events",
        ("sequence", "time_ns", "document"),
        "e.sequence, e.time_ns, e.document FROM events e",
        ("e.sequence",),
    ),
    Section(
        "keys",
        ("name", "version", "created_ns", "size_bytes", "content_type", "object_id", "data"),
        """k.name, k.version, k.created_ns, k.size_bytes, k.content_type,
            (SELECT o.id FROM objects o WHERE o.number = k.object), k.data FROM keys k""",
        ("k.number",),
    ),
)


async def refuse_in_use(database: Database, wait: Callable[[], Awaitable[None]]) -> None:
    """Nobody writes to the tables for a while: a server does every second, for its jobs.

    Raises `errors.BadRequest` where somebody does, `errors.Unavailable`.
    """
    before = await database.read(lambda tx: _newest(tx, database.stamps.now_ns()))
    await wait()
    if await database.read(lambda tx: _newest(tx, database.stamps.now_ns())) > before:
        raise errors.BadRequest("A server runs on the tables in VAST: stop all servers first.")


def _newest(tx: Tx, now_ns: int) -> int:
    """The stamp of the newest commit, 0 where there is none."""
    found = tx.select("commits", ("stamp",), above("stamp", now_ns - COMMITS_NS))
    return max((stamp for (stamp,) in found), default=0)


async def copy(path: Path, target: Database, report: Report) -> None:
    """Copy everything, from where an earlier attempt was interrupted, and verify it.

    The tables of `target` have to be there, and to hold nothing but such an attempt's. Raises
    `errors.BadRequest` where they do, `NotEqual`, `errors.Unavailable`.
    """
    source = await asyncio.to_thread(_opened, path)
    try:
        if await target.read(_is_used):
            raise errors.BadRequest("The tables in VAST hold something already.")
        for section in SECTIONS:
            await _copy(source, target, section, report)
        await target.write(lambda tx: _finish(tx, source), within_s=BATCH_S)
        for section in SECTIONS:
            await _verify(source, target, section, report)
        await target.write(lambda tx: _mark(tx, DONE, None, 0))
    finally:
        source.close()


def _opened(path: Path) -> sqlite3.Connection:
    """The file, in one snapshot. Raises `errors.Unavailable`."""
    if not path.is_file():
        raise errors.Unavailable(f"There is no file {path}.")
    try:
        connection = connect(path, busy_s=BUSY_S)
        connection.execute("PRAGMA query_only = ON")
        connection.execute("BEGIN")
        (found,) = connection.execute("SELECT max(version) FROM schema_version").fetchone()
    except sqlite3.Error as exc:
        raise errors.Unavailable(f"{path} cannot be read: {exc}") from exc
    if found != VERSION:
        connection.close()
        raise errors.Unavailable(f"{path} has schema version {found}: start this version on it once.")
    return connection


def _is_used(tx: Tx) -> bool:
    """Whether the tables hold anything that no unfinished copying put there."""
    marks = {name for (name,) in tx.select("settings", ("name",)) if name.startswith(PREFIX)}
    if marks:
        return DONE in marks
    return any(tx.count(section.table, limit=1) for section in SECTIONS)


async def _copy(source: sqlite3.Connection, target: Database, section: Section, report: Report) -> None:
    total = await asyncio.to_thread(section.count, source)
    after, done = await target.read(lambda tx: _reached(tx, section))
    report(section.table, done, total)
    while page := await asyncio.to_thread(section.page, source, after):
        width = len(section.key)
        after, done = page[-1][:width], done + len(page)
        records = [record[width:] for record in page]
        spans = await asyncio.to_thread(_spans, source, section, records)
        mark = (PREFIX + section.table, after, done)
        await target.write(partial(_put, section, records, spans, mark), within_s=BATCH_S)
        report(section.table, done, total)


def _reached(tx: Tx, section: Section) -> tuple[Record | None, int]:
    found = tx.select("settings", ("value", "number"), equal("name", PREFIX + section.table))
    for value, number in found:
        return tuple(orjson.loads(value)), number
    return None, 0


def _mark(tx: Tx, name: str, after: Record | None, done: int) -> None:
    found = tx.select("settings", (), equal("name", name), row_ids=True)
    tx.delete("settings", [row_id for (row_id,) in found])
    tx.insert("settings", [{"name": name, "number": done, "value": orjson.dumps(after).decode()}])


def _put(
    section: Section,
    records: Sequence[Record],
    spans: Mapping[str, Span],
    mark: tuple[str, Record, int],
    tx: Tx,
) -> None:
    rows = [dict(zip(section.columns, record, strict=True)) for record in records]
    if section.table == "resources":
        rows = _resources(tx, rows, spans)
    elif section.table == "objects":
        rows = _objects(tx, rows)
    tx.insert(section.table, rows)
    _mark(tx, *mark)


def _resources(tx: Tx, rows: Sequence[dict[str, Any]], spans: Mapping[str, Span]) -> list[dict[str, Any]]:
    puts = [
        Put(
            Kind(row["kind"]),
            row["id"],
            0,
            orjson.loads(row["document"]),
            row["created_ns"],
            row["updated_ns"],
            row["private"],
        )
        for row in rows
    ]
    rewrite(tx, (), puts)
    return [
        {
            **columns_of_put(put),
            **row,
            **(spans.get(put.id, EMPTY)._asdict() if put.kind is Kind.FLOW else {}),
        }
        for put, row in zip(puts, rows, strict=True)
    ]


def _spans(source: sqlite3.Connection, section: Section, records: Iterable[Record]) -> dict[str, Span]:
    """What the flows among records know of their segments."""
    if section.table != "resources":
        return {}
    ids = [record[1] for record in records if record[0] == Kind.FLOW]
    sql = """SELECT flow_id, count(*), sum(stop_ns / 1000000000 - start_ns / 1000000000),
        sum(stop_ns % 1000000000 - start_ns % 1000000000), min(start_ns), max(stop_ns),
        max(stop_ns - start_ns)
        FROM segments WHERE flow_id IN (SELECT value FROM json_each(?)) GROUP BY flow_id"""
    return {
        id: Span(count, min(MAX_NS, s * 1_000_000_000 + ns), first, last, min(MAX_NS, int(longest)))
        for id, count, s, ns, first, last, longest in source.execute(sql, (orjson.dumps(ids).decode(),))
    }


def _objects(tx: Tx, rows: Sequence[dict[str, Any]]) -> list[dict[str, Any]]:
    objects = objects_of([row[name] for name in OBJECT_COLUMNS] for row in rows)
    places = {(i.backend_id, i.key, row.id) for row in objects for i in row.instances}
    tx.insert("instances", [{"backend_id": b, "key": k, "object_id": id} for b, k, id in sorted(places)])
    return [{**row, "size_bytes": found.size_bytes} for row, found in zip(rows, objects, strict=True)]


def _finish(tx: Tx, source: sqlite3.Connection) -> None:
    """Let numbers of events go on behind those that were ever given."""
    sql = "SELECT seq FROM sqlite_sequence WHERE name = 'events'"
    (last,) = source.execute(sql).fetchone() or (0,)
    found = tx.select("settings", (), equal("name", SEQUENCE), row_ids=True)
    tx.update("settings", [row_id for (row_id,) in found], {"number": [last] * len(found)})


async def _verify(source: sqlite3.Connection, target: Database, section: Section, report: Report) -> None:
    """Raises `NotEqual` unless both hold the same records."""
    report(f"verifying {section.table}", 0, 1)
    ours = await asyncio.to_thread(lambda: digest(section.records(source)))
    theirs = await target.read(lambda tx: digest(streamed(tx, section)), within_s=VERIFY_S)
    if ours != theirs:
        raise NotEqual(
            f"{section.table}: {ours[0]} records in the file, {theirs[0]} in VAST, or not the same. Was the "
            "file written meanwhile? Drop the schema and copy again."
        )
    report(f"verifying {section.table}", 1, 1)


def streamed(tx: Tx, section: Section) -> Iterator[Record]:
    """All records of a table in VAST, in no order, in bounded memory."""
    for chunk in tx.stream(section.table, section.columns):
        yield from zip(*(column.to_pylist() for column in chunk.columns), strict=True)


def digest(records: Iterable[Record]) -> tuple[int, int]:
    """How many records, and a sum of their hashes, which no order changes."""
    count, total = 0, 0
    for record in records:
        text = repr(tuple(record)).encode()
        count, total = count + 1, (total + int.from_bytes(sha256(text).digest(), "big")) % 2**256
    return count, total
