"""The tables of the SQLite implementation, and how a connection to them is opened."""

from __future__ import annotations

import sqlite3
from pathlib import Path
from typing import Final, NamedTuple

from store import errors

VERSION: Final = 3
BUSY_S: Final = 10.0
"""How long a writer, or a reader off the event loop, waits for another process."""

# Times that listings sort by are kept negated (`*_rank`), so that newest first with ties by id ascending is
# one ascending index range. `terms` drives listings: one row per value a document can be found by.
# `uses` counts, per object and flow, the segments that need it, directly or as the init object of theirs.
# Objects are numbered in the order they were made, so that what refers to those of one upload lies together
# on a few pages, however random their ids: a commit writes whole pages. `suspects` are objects that may
# be garbage, each to be looked at once when `after_ns` has passed.
_TABLES: Final = """
CREATE TABLE schema_version (version INTEGER NOT NULL);
CREATE TABLE counters (name TEXT PRIMARY KEY, value INTEGER NOT NULL) WITHOUT ROWID;
INSERT INTO counters VALUES ('version', 0);

CREATE TABLE resources (
    kind TEXT NOT NULL, id TEXT NOT NULL, version INTEGER NOT NULL,
    created_rank INTEGER NOT NULL, updated_rank INTEGER NOT NULL, segments_updated_ns INTEGER,
    classes TEXT NOT NULL, related TEXT, sort_text TEXT, format TEXT, codec TEXT, profile_id TEXT,
    status TEXT, frame_width INTEGER, frame_height INTEGER, init_segments INTEGER NOT NULL,
    private BLOB, document BLOB NOT NULL,
    UNIQUE (kind, id)
);
CREATE INDEX resources_created ON resources (kind, created_rank, id);
CREATE INDEX resources_updated ON resources (kind, updated_rank, id);
CREATE INDEX resources_text ON resources (kind, sort_text, id);

CREATE TABLE terms (
    kind TEXT NOT NULL, facet TEXT NOT NULL, value NOT NULL, rank INTEGER NOT NULL, id TEXT NOT NULL,
    PRIMARY KEY (kind, facet, value, rank, id)
) WITHOUT ROWID;
CREATE INDEX terms_of ON terms (kind, id, facet, value);

CREATE TABLE segments (
    flow_id TEXT NOT NULL, start_ns INTEGER NOT NULL, stop_ns INTEGER NOT NULL,
    object INTEGER NOT NULL, timerange TEXT NOT NULL, document BLOB NOT NULL,
    PRIMARY KEY (flow_id, start_ns)
) WITHOUT ROWID;
CREATE INDEX segments_of_object ON segments (object, flow_id, start_ns);

CREATE TABLE objects (
    number INTEGER PRIMARY KEY, id TEXT NOT NULL UNIQUE, version INTEGER NOT NULL, role TEXT NOT NULL,
    flow_id TEXT NOT NULL, created_ns INTEGER NOT NULL, init INTEGER, document BLOB NOT NULL
);
CREATE INDEX objects_of_init ON objects (init) WHERE init IS NOT NULL;
CREATE TABLE instances (
    backend_id TEXT NOT NULL, key TEXT NOT NULL, object INTEGER NOT NULL,
    PRIMARY KEY (backend_id, key, object)
) WITHOUT ROWID;
CREATE TABLE uses (
    object INTEGER NOT NULL, flow_id TEXT NOT NULL, count INTEGER NOT NULL,
    PRIMARY KEY (object, flow_id)
) WITHOUT ROWID;
CREATE TABLE holds (
    object INTEGER NOT NULL, reference TEXT NOT NULL, holder TEXT NOT NULL,
    PRIMARY KEY (object, reference, holder)
) WITHOUT ROWID;
CREATE TABLE suspects (object INTEGER PRIMARY KEY, after_ns INTEGER NOT NULL);
CREATE INDEX suspects_due ON suspects (after_ns);
CREATE TABLE doomed (
    number INTEGER PRIMARY KEY AUTOINCREMENT, backend_id TEXT NOT NULL, key TEXT NOT NULL,
    UNIQUE (backend_id, key)
);

CREATE TABLE events (
    sequence INTEGER PRIMARY KEY AUTOINCREMENT, time_ns INTEGER NOT NULL, document BLOB NOT NULL
);
CREATE INDEX events_time ON events (time_ns);
CREATE TABLE leases (name TEXT PRIMARY KEY, holder TEXT NOT NULL, until_ns INTEGER NOT NULL) WITHOUT ROWID;
"""

# Small bytes lie in the row; the index that makes names unique is all that listings read.
_KEYS: Final = """
CREATE TABLE keys (
    number INTEGER PRIMARY KEY, name TEXT NOT NULL UNIQUE, version INTEGER NOT NULL,
    created_ns INTEGER NOT NULL, size_bytes INTEGER NOT NULL, content_type TEXT NOT NULL,
    object INTEGER, data BLOB
);
"""

# How often signed URLs of an object were given out: beside it, since it is no change of the object.
_ACCESSES: Final = """
CREATE TABLE accesses (object INTEGER PRIMARY KEY, urls INTEGER NOT NULL, last_ns INTEGER NOT NULL);
"""

MIGRATIONS: Final[dict[int, str]] = {0: _TABLES, 1: _KEYS, 2: _ACCESSES}
"""For each version, what leads from it to the next."""


class Reversal(NamedTuple):
    """What leads from a version back to the one before, and what counts the rows that are lost by it."""

    script: str
    lost: str


REVERSALS: Final[dict[int, Reversal]] = {
    2: Reversal("DROP TABLE keys;\n", "SELECT count(*) FROM keys"),
    3: Reversal("DROP TABLE accesses;\n", "SELECT count(*) FROM accesses"),
}
"""For each version but the first, the way back."""


def connect(path: Path, *, busy_s: float) -> sqlite3.Connection:
    """A connection in autocommit mode, usable by any one thread at a time. Raises `sqlite3.Error`."""
    connection = sqlite3.connect(
        path, timeout=busy_s, isolation_level=None, check_same_thread=False, cached_statements=256
    )
    try:
        connection.execute("PRAGMA synchronous = FULL")
        connection.execute("PRAGMA cache_size = -4096")
        connection.execute("PRAGMA journal_size_limit = 67108864")
        connection.execute("PRAGMA temp_store = MEMORY")
    except sqlite3.Error:
        connection.close()
        raise
    return connection


def prepare(path: Path) -> None:
    """Bring the file's tables to this version, making them when there are none.

    Raises `errors.Unavailable` when a newer version of this software made them, `sqlite3.Error` else.
    """
    connection = connect(path, busy_s=BUSY_S)
    try:
        connection.execute("PRAGMA journal_mode = WAL")
        connection.execute("BEGIN IMMEDIATE")
        found = _version(connection)
        if found > VERSION:
            raise errors.Unavailable(
                f"{path} has schema version {found}; this software knows versions up to {VERSION}."
            )
        for version in range(found, VERSION):
            _run(connection, MIGRATIONS[version])
        if found < VERSION:
            connection.execute("DELETE FROM schema_version")
            connection.execute("INSERT INTO schema_version VALUES (?)", (VERSION,))
        connection.execute("COMMIT")
    finally:
        connection.close()


def version_of(path: Path) -> int:
    """The version of a file's tables, 0 where there are none. Raises `sqlite3.Error`."""
    connection = connect(path, busy_s=BUSY_S)
    try:
        return _version(connection)
    finally:
        connection.close()


def revert(path: Path, version: int, *, lose: bool) -> int:
    """Bring the file's tables back to an earlier version, while no server runs on it. Returns how many rows
    were lost by that.

    Raises `errors.BadRequest` where rows would be lost and `lose` is not said, or where there is no way;
    `errors.Unavailable` while somebody else uses the file; `sqlite3.Error` else. Then nothing was changed.
    """
    connection = connect(path, busy_s=0)
    try:
        connection.execute("PRAGMA locking_mode = EXCLUSIVE")
        connection.execute("BEGIN EXCLUSIVE")
        found = _version(connection)
        if not 1 <= version <= found <= VERSION:
            raise errors.BadRequest(f"There is no way from schema version {found} back to {version}.")
        steps = [REVERSALS[each] for each in range(found, version, -1)]
        lost = sum(int(connection.execute(step.lost).fetchone()[0]) for step in steps)
        if lost and not lose:
            raise errors.BadRequest(f"{lost} rows have no place in schema version {version}.")
        for step in steps:
            _run(connection, step.script)
        connection.execute("DELETE FROM schema_version")
        connection.execute("INSERT INTO schema_version VALUES (?)", (version,))
        connection.execute("COMMIT")
        return lost
    except sqlite3.OperationalError as exc:
        if exc.sqlite_errorcode & 0xFF in (sqlite3.SQLITE_BUSY, sqlite3.SQLITE_LOCKED):
            raise errors.Unavailable("Somebody uses the database: stop all servers first.") from exc
        raise
    finally:
        connection.close()


def _version(connection: sqlite3.Connection) -> int:
    """The version of the tables that are there, 0 when there are none."""
    tables = connection.execute("SELECT count(*) FROM sqlite_master WHERE type = 'table'").fetchone()[0]
    if not tables:
        return 0
    row = connection.execute("SELECT max(version) FROM schema_version").fetchone()
    return int(row[0])


def _run(connection: sqlite3.Connection, script: str) -> None:
    """Each statement of a script, inside the transaction at hand (`executescript` would commit it)."""
    for statement in script.split(";\n"):
        if statement.strip():
            connection.execute(statement)
