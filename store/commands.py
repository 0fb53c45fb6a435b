"""What the commands of `tams-store` about VAST do and print; each returns the exit status."""

from __future__ import annotations

import asyncio
import time
from pathlib import Path

import typer

from store import doctor, errors
from store.metadata import copying, copying_back, vast_start
from store.metadata.vast_api import VastConfig
from store.metadata.vast_session import Database
from store.metadata.vast_tx import Stamps


async def examine(config: VastConfig) -> int:
    """Print what a cluster can do: 0 when the metadata can be kept there, else 1."""
    well = True
    async for finding in doctor.examine(config, time.time_ns):
        typer.echo(f"{'ok  ' if finding.ok else 'FAIL'}  {finding.subject}: {finding.answer}")
        well &= finding.ok
    return 0 if well else 1


async def list_tables(config: VastConfig) -> int:
    """Print the schemas, and the tables of the configured one."""
    try:
        found = await doctor.inventory(config, time.time_ns)
    except errors.Error as exc:
        typer.echo(exc.summary, err=True)
        return 1
    for schema, tables in found.items():
        typer.echo(schema)
        for table in tables:
            order = f", sorted by {', '.join(table.sort)}" if table.sort else ""
            typer.echo(f"  {table.name}: {table.rows} rows, {table.size_bytes} bytes{order}")
    return 0


async def upgrade(config: VastConfig) -> int:
    """Make what is missing of the tables, and print that."""
    database = Database(config, Stamps(time.time_ns))
    try:
        await database.open()
        done = await vast_start.upgrade(database)
    except errors.Error as exc:
        typer.echo(exc.summary, err=True)
        return 1
    finally:
        await database.close()
    typer.echo("\n".join(f"made {each}" for each in done) or "nothing was missing")
    return 0


async def migrate(path: Path, config: VastConfig) -> int:
    """Copy the metadata of an SQLite file into VAST, printing how far that is."""
    database = Database(config, Stamps(time.time_ns))
    try:
        await vast_start.start(database)
        await copying.refuse_in_use(database, _watch)
        await copying.copy(path, database, _progress)
    except errors.Error as exc:
        typer.echo(exc.summary, err=True)
        return 1
    finally:
        await database.close()
    typer.echo("everything was copied and is the same; set metadata to vast")
    return 0


async def migrate_back(config: VastConfig, path: Path) -> int:
    """Copy the metadata in VAST into a new SQLite file, printing how far that is."""
    database = Database(config, Stamps(time.time_ns))
    try:
        await vast_start.open_existing(database)
        await copying.refuse_in_use(database, _watch)
        await copying_back.copy_back(database, path, _progress)
    except errors.Error as exc:
        typer.echo(exc.summary, err=True)
        return 1
    finally:
        await database.close()
    typer.echo(f"everything was copied into {path} and is the same; set metadata to sqlite")
    return 0


async def _watch() -> None:
    await asyncio.sleep(copying.WATCH_S)


def _progress(subject: str, done: int, total: int) -> None:
    typer.echo(f"{subject}: {done} of {total}")
