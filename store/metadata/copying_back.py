"""Copying all metadata from VAST DB into a new SQLite file, resumable and verified.

No server may write meanwhile. The file gets its name when everything is in it and was compared; until then
it is called `<name>.copying` and says itself what it has. What an interrupted attempt left is not written
again, though the table that it was at is read again.
"""

from __future__ import annotations

import asyncio
import os
import sqlite3
from collections.abc import Iterator, Mapping, Sequence
from contextlib import closing, contextmanager
from dataclasses import replace
from itertools import count, islice
from pathlib import Path
from typing import Final

import orjson

from store import errors
from store.metadata import sqlite_rows
from store.metadata.copying import SECTIONS, NotEqual, Record, Report, Section, digest, streamed
from store.metadata.rows import Kind, Put
from store.metadata.sqlite_schema import BUSY_S, connect, prepare
from store.metadata.tables import objects_of
from store.metadata.vast_events import number
from store.metadata.vast_session import Database
from store.metadata.vast_tx import Tx

BATCH: Final = 2_000
"""How many records are written in one transaction."""
COPY_S: Final = 3_600.0
"""How long one table may take."""

# Objects are numbered in the order they were made, once they are all here.
_SCRATCH: Final = (
    "CREATE TABLE IF NOT EXISTS copied (section TEXT PRIMARY KEY) WITHOUT ROWID",
    """CREATE TABLE IF NOT EXISTS copied_objects (
        id TEXT PRIMARY KEY, version INTEGER, role TEXT, flow_id TEXT, created_ns INTEGER,
        init_object_id TEXT, document BLOB) WITHOUT ROWID""",
)
_STATEMENTS: Final[Mapping[str, str]] = {
    "objects": "INSERT OR IGNORE INTO copied_objects VALUES (?, ?, ?, ?, ?, ?, ?)",
    "segments": """INSERT OR IGNORE INTO segments
        SELECT ?1, ?2, ?3, o.number, ?6, ?7 FROM objects o WHERE o.id = ?4""",
    "uses": "INSERT OR IGNORE INTO uses SELECT o.number, ?2, ?3 FROM objects o WHERE o.id = ?1",
    "holds": "INSERT OR IGNORE INTO holds SELECT o.number, ?2, ?3 FROM objects o WHERE o.id = ?1",
    "accesses": "INSERT OR IGNORE INTO accesses SELECT o.number, ?2, ?3 FROM objects o WHERE o.id = ?1",
    "suspects": """INSERT INTO suspects SELECT o.number, ?2 FROM objects o WHERE o.id = ?1
        ON CONFLICT DO UPDATE SET after_ns = min(after_ns, excluded.after_ns)""",
    "doomed": "INSERT OR IGNORE INTO doomed VALUES (?, ?, ?)",
    "events": "INSERT OR IGNORE INTO events VALUES (?, ?, ?)",
    "keys": """INSERT OR IGNORE INTO keys
        (name, version, created_ns, size_bytes, content_type, object, data)
        VALUES (?, ?, ?, ?, ?, (SELECT number FROM objects WHERE id = ?), ?)""",
}
_SUSPECT: Final = """SELECT 1 FROM objects o LEFT JOIN suspects p ON p.object = o.number AND p.after_ns <= ?2
    WHERE o.id = ?1 AND p.object IS NULL"""
_GREATEST: Final = """SELECT max(greatest) FROM (SELECT max(version) greatest FROM resources UNION ALL
    SELECT max(version) FROM objects UNION ALL SELECT max(version) FROM keys UNION ALL
    SELECT max(number) FROM objects UNION ALL SELECT value FROM counters WHERE name = 'version')"""


async def copy_back(source: Database, path: Path, report: Report) -> None:
    """Copy everything into a file that is not there yet, from where an earlier attempt was interrupted, and
    verify it.

    The tables of `source` have to be loaded. Raises `errors.BadRequest` where the file is there, `NotEqual`,
    `errors.Unavailable`.
    """
    if path.exists():
        raise errors.BadRequest(f"{path} is there already: move it away first.")
    partial = path.with_name(f"{path.name}.copying")
    try:
        file = await asyncio.to_thread(_opened, partial)
        with closing(file):
            sequence = await _number_events(source)
            for section in SECTIONS:
                await _copy(source, file, section, report)
            await asyncio.to_thread(_go_on_from, file, sequence)
            for section in SECTIONS:
                await _verify(source, file, section, report)
            await asyncio.to_thread(_clean, file)
        await asyncio.to_thread(_name, partial, path)
    except (sqlite3.Error, OSError) as exc:
        raise errors.Unavailable(f"{partial} cannot be written: {exc}") from exc


def _opened(path: Path) -> sqlite3.Connection:
    path.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
    prepare(path)
    file = connect(path, busy_s=BUSY_S)
    with _transaction(file):
        for statement in _SCRATCH:
            file.execute(statement)
    return file


@contextmanager
def _transaction(file: sqlite3.Connection) -> Iterator[None]:
    file.execute("BEGIN IMMEDIATE")
    try:
        yield
    except BaseException:
        file.rollback()
        raise
    file.execute("COMMIT")


async def _number_events(source: Database) -> int:
    """Give events that no reader has numbered yet their numbers; the last one."""
    last, more = 0, True
    while more:
        last, more = await source.write(number)
    return last


async def _copy(source: Database, file: sqlite3.Connection, section: Section, report: Report) -> None:
    def work(tx: Tx) -> None:
        if file.execute("SELECT 1 FROM copied WHERE section = ?", (section.table,)).fetchone():
            return
        total, done = tx.count(section.table), 0
        report(section.table, done, total)
        for records in _batches(streamed(tx, section)):
            with _transaction(file):
                _write(file, section, records)
            done += len(records)
            report(section.table, done, max(done, total))
        with _transaction(file):
            if section.table == "objects":
                _number_objects(file)
            file.execute("INSERT INTO copied VALUES (?)", (section.table,))

    await source.read(work, within_s=COPY_S)


def _batches(records: Iterator[Record]) -> Iterator[list[Record]]:
    while batch := list(islice(records, BATCH)):
        yield batch


def _write(file: sqlite3.Connection, section: Section, records: Sequence[Record]) -> None:
    if section.table != "resources":
        file.executemany(_STATEMENTS[section.table], records)
        return
    for record in records:
        row = dict(zip(section.columns, record, strict=True))
        document, times = row["document"], (row["created_ns"], row["updated_ns"])
        put = Put(Kind(row["kind"]), row["id"], 0, orjson.loads(document), *times, row["private"])
        sqlite_rows.restore(file, put, row["version"], document, row["segments_updated_ns"])


def _number_objects(file: sqlite3.Connection) -> None:
    file.execute(
        """INSERT INTO objects SELECT row_number() OVER (ORDER BY created_ns, id), id, version, role, flow_id,
        created_ns, NULL, document FROM copied_objects ORDER BY created_ns, id"""
    )
    file.execute(
        """UPDATE objects SET init = (SELECT i.number FROM copied_objects c CROSS JOIN objects i
        ON i.id = c.init_object_id WHERE c.id = objects.id)"""
    )
    sql = "SELECT o.id, o.version, o.role, o.flow_id, o.created_ns, NULL, o.document, o.number FROM objects o"
    for record in file.execute(sql):
        (row,) = objects_of([record])
        places = {(i.backend_id, i.key, record[-1]) for i in row.instances}
        file.executemany("INSERT INTO instances VALUES (?, ?, ?)", places)
    file.execute("DELETE FROM copied_objects")


def _go_on_from(file: sqlite3.Connection, sequence: int) -> None:
    """Let versions, and numbers of events, go on behind those that were ever given."""
    with _transaction(file):
        file.execute(f"UPDATE counters SET value = ({_GREATEST}) WHERE name = 'version'")
        if not file.execute("UPDATE sqlite_sequence SET seq = ? WHERE name = 'events'", (sequence,)).rowcount:
            file.execute("INSERT INTO sqlite_sequence VALUES ('events', ?)", (sequence,))


async def _verify(source: Database, file: sqlite3.Connection, section: Section, report: Report) -> None:
    """Raises `NotEqual` unless both hold the same records."""
    report(f"verifying {section.table}", 0, 1)
    if section.table == "suspects":
        # In VAST an object may be suspected several times; the earliest is what counts.
        lost = await source.read(
            lambda tx: sum(
                file.execute(_SUSPECT, (id, after_ns)).fetchone() is not None
                for id, after_ns in streamed(tx, section)
            ),
            within_s=COPY_S,
        )
        if lost:
            raise NotEqual(_different(section.table, f"{lost} are missing"))
    else:
        if section.table == "segments":
            section = _without_init(section)
        ours = await asyncio.to_thread(lambda: digest(section.records(file)))
        theirs = await source.read(lambda tx: digest(streamed(tx, section)), within_s=COPY_S)
        if ours != theirs:
            said = f"{theirs[0]} records in VAST, {ours[0]} in the file, or not the same"
            raise NotEqual(_different(section.table, said))
    report(f"verifying {section.table}", 1, 1)


def _different(table: str, said: str) -> str:
    return f"{table}: {said}. Were servers running? Remove the file `.copying` and copy again."


def _without_init(segments: Section) -> Section:
    """Segments without their init objects, which are the objects' to say."""
    columns = tuple(name for name in segments.columns if name != "init_object_id")
    select = """s.flow_id, s.start_ns, s.stop_ns, o.id, s.timerange, s.document
        FROM segments s CROSS JOIN objects o ON o.number = s.object"""
    return replace(segments, columns=columns, select=select)


def _set_apart(file: sqlite3.Connection) -> None:
    """Give resources, and objects, that share a version new ones: here, what is read is kept by version.

    Processes that write to one VAST number by their clocks, which hardly ever agree, but may.
    """
    for table, name in (("resources", "rowid"), ("objects", "number")):
        place = f"row_number() OVER (PARTITION BY version ORDER BY {name})"
        sql = f"SELECT {name} FROM (SELECT {name}, {place} place FROM {table}) WHERE place > 1"
        shared = [found for (found,) in file.execute(sql)]
        fresh = count(sqlite_rows.next_versions(file, len(shared)))
        file.executemany(f"UPDATE {table} SET version = ? WHERE {name} = ?", zip(fresh, shared, strict=False))


def _clean(file: sqlite3.Connection) -> None:
    with _transaction(file):
        _set_apart(file)
        file.execute("DROP TABLE copied")
        file.execute("DROP TABLE copied_objects")
    file.execute("PRAGMA wal_checkpoint(TRUNCATE)")


def _name(partial: Path, path: Path) -> None:
    """Give the file its name, unless another has it meanwhile; it is durable when this returns."""
    os.link(partial, path)
    partial.unlink()
    folder = os.open(path.parent, os.O_RDONLY)
    try:
        os.fsync(folder)
    finally:
        os.close(folder)
