"""Inserting many rows into SQLite with few statements."""

from __future__ import annotations

import sqlite3
from collections.abc import Sequence
from functools import lru_cache
from itertools import chain
from typing import Any, Final

SIZES: Final = (64, 8, 1)
"""How many rows one statement may carry. A statement of another size would have to be prepared anew."""


def insert_rows(
    connection: sqlite3.Connection, table: str, rows: Sequence[tuple[Any, ...]], on_conflict: str = ""
) -> None:
    """Insert rows with values of all columns, in order; `on_conflict` is the clause of that name.

    A row that is refused raises and leaves those before it: for transactions that are undone as a whole.
    Values that are exactly a `str`, `int` or `bytearray` are bound at once; for others, `bytes` and members
    of enumerations among them, the sqlite3 module first looks for a way to adapt them: 0.4 us each.
    """
    # Before each statement the writer takes turns with the event loop: many of them may take long.
    first, left = 0, len(rows)
    for size in SIZES:
        while left >= size:
            some = rows[first : first + size]
            connection.execute(_statement(table, len(some[0]), size, on_conflict), [*chain(*some)])
            first, left = first + size, left - size


@lru_cache(maxsize=64)
def _statement(table: str, columns: int, rows: int, on_conflict: str) -> str:
    # Without OR FAIL a statement of many rows copies each page that it changes, to take itself back.
    row = f"({', '.join('?' * columns)})"
    return f"INSERT OR FAIL INTO {table} VALUES {', '.join([row] * rows)} {on_conflict}"
