"""Databases that earlier versions of this software made are brought forward, with all that is in them."""

from __future__ import annotations

import sqlite3
from pathlib import Path

import pytest

from store.metadata.keys import PutKey
from store.metadata.sqlite import open_sqlite
from store.metadata.sqlite_schema import MIGRATIONS, VERSION
from tests.contract.metadata_support import get, new_flow


def tables_of(path: Path) -> list[tuple[str, ...]]:
    """What the database is made of."""
    connection = sqlite3.connect(path)
    try:
        return connection.execute("SELECT type, name, sql FROM sqlite_master ORDER BY name").fetchall()
    finally:
        connection.close()


def made_by(version: int, path: Path) -> None:
    """A database as that version of the schema has it."""
    connection = sqlite3.connect(path, isolation_level=None)
    try:
        for step in range(version):
            connection.executescript(MIGRATIONS[step])
        connection.execute("INSERT INTO schema_version VALUES (?)", (version,))
    finally:
        connection.close()


@pytest.mark.parametrize("version", range(1, VERSION))
async def test_an_older_database_becomes_what_a_new_one_is(tmp_path: Path, version: int) -> None:
    made_by(version, tmp_path / "old.db")
    old, new = [await open_sqlite(tmp_path / name) for name in ("old.db", "new.db")]
    await new_flow(old)
    await old.put_key(PutKey("name", 1, "a/b", 1, 1, data=b"x"))
    assert (await get(old, "flow")).id == "flow"
    assert (await old.check())["schema_version"] == str(VERSION)
    await old.close()
    await new.close()
    assert tables_of(tmp_path / "old.db") == tables_of(tmp_path / "new.db")
