"""What is on a VAST cluster, for operators: schemas, tables and their statistics."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from store.metadata.vast_session import Database
from store.metadata.vast_tx import Tx


@dataclass(frozen=True, slots=True)
class TableStats:
    """A table in figures. `sort`: the columns it is sorted by, none where it is not."""

    name: str
    rows: int
    size_bytes: int
    sort: tuple[str, ...]
    columns: tuple[str, ...]


async def list_schemas(database: Database) -> list[str]:
    """The schemas in the configured bucket. Raises `errors.Unavailable`."""
    return await database.read(_schemas)


def _schemas(tx: Tx) -> list[str]:
    return sorted(schema.name for schema in tx.sdk.bucket(tx.bucket).schemas())


async def list_tables(database: Database, schema: str) -> list[str]:
    """The tables of a schema in the configured bucket. Raises `errors.Unavailable`."""
    return await database.read(lambda tx: sorted(tx.sdk.bucket(tx.bucket).schema(schema).tablenames()))


async def get_table_stats(database: Database, schema: str) -> list[TableStats]:
    """The tables of a schema with their figures. Raises `errors.Unavailable`."""
    return await database.read(lambda tx: _stats(tx, schema))


def _stats(tx: Tx, schema: str) -> list[TableStats]:
    found: list[Any] = tx.sdk.bucket(tx.bucket).schema(schema).tables()
    return [
        TableStats(
            name=table.name,
            rows=table.stats.num_rows,
            size_bytes=table.stats.size_in_bytes,
            sort=tuple(field.name for field in table._metadata._sorted_columns or ()),
            columns=tuple(table.arrow_schema.names),
        )
        for table in sorted(found, key=lambda table: str(table.name))
    ]
