"""Ordered walks along the indexes of SQLite, in pieces: what feeds a listing with candidates."""

from __future__ import annotations

import sqlite3
from bisect import bisect_left, bisect_right, insort
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Final

from store.metadata.query import Position, Sort
from store.metadata.sqlite_list import SORT_COLUMN, Facet
from store.metadata.sqlite_rows import Record
from store.timerange import MAX_NS, MIN_NS

Key = tuple[int | str | bytes, str]
"""Where an index entry stands: (rank or text, id)."""

LARGEST: Final = 1_024
"""How many index entries are read at once at most."""
FEW: Final = 8
"""Up to so many values of a facet are walked along without asking first where each begins."""
LAST_ID: Final = "\U0010ffff"
_FIRST_RANK: Final[Key] = (MIN_NS, "")
_LAST_RANK: Final[Key] = (MAX_NS, LAST_ID)
_FIRST_TEXT: Final[Key] = ("", "")
# A blob sorts behind every text.
_LAST_TEXT: Final[Key] = (b"", LAST_ID)


@dataclass(frozen=True, slots=True)
class Walk:
    """Which way to go, and how many candidates will probably do."""

    kind: str
    reverse: bool
    wanted: int

    @property
    def onward(self) -> str:
        """The SQL that goes on behind a key, to be completed by the columns of the key."""
        return (
            "({0}, id) < (?, ?) ORDER BY {0} DESC, id DESC"
            if self.reverse
            else ("({0}, id) > (?, ?) ORDER BY {0}, id")
        )


def by_sort(
    connection: sqlite3.Connection, walk: Walk, sort: Sort, after: Position | None
) -> Iterator[list[str]]:
    """All ids of a kind in the order of a sort, those without a value last (reversed: first)."""
    column = SORT_COLUMN[sort]
    if column != "sort_text":
        start = (_LAST_RANK if walk.reverse else _FIRST_RANK) if after is None else key_of(sort, after)
        yield from _set(connection, walk, column, start)
        return
    among_unset = after is not None and after.value is None
    among_set = after is not None and not among_unset
    first = _LAST_TEXT if walk.reverse else _FIRST_TEXT
    first_id = LAST_ID if walk.reverse else ""
    if walk.reverse and not among_set:
        yield from _unset(connection, walk, after.id if after is not None else first_id)
    if walk.reverse or not among_unset:
        yield from _set(connection, walk, column, key_of(sort, after) if after and among_set else first)
    if not walk.reverse:
        yield from _unset(connection, walk, after.id if after is not None and among_unset else first_id)


def key_of(sort: Sort, position: Position) -> Key:
    """The key of an index entry at a position that has a value."""
    value = position.value
    if value is None:
        raise ValueError("a position without a value has no key")
    return (-value if isinstance(value, int) else value, position.id)


def _set(connection: sqlite3.Connection, walk: Walk, column: str, start: Key) -> Iterator[list[str]]:
    sql = f"SELECT {column}, id FROM resources WHERE kind = ? AND {walk.onward.format(column)} LIMIT ?"
    size, key = walk.wanted, start
    while found := connection.execute(sql, (walk.kind, *key, size)).fetchall():
        yield [id for _, id in found]
        if len(found) < size:
            return
        size, key = min(2 * size, LARGEST), found[-1]


def _unset(connection: sqlite3.Connection, walk: Walk, start: str) -> Iterator[list[str]]:
    onward = "< ? ORDER BY id DESC" if walk.reverse else "> ? ORDER BY id"
    sql = f"SELECT id FROM resources WHERE kind = ? AND sort_text IS NULL AND id {onward} LIMIT ?"
    size, id = walk.wanted, start
    while found := [row[0] for row in connection.execute(sql, (walk.kind, id, size))]:
        yield found
        if len(found) < size:
            return
        size, id = min(2 * size, LARGEST), found[-1]


@dataclass(frozen=True, slots=True)
class _Stream:
    """The entries of one value of a facet that lie behind `key`, to be read `size` at a time."""

    key: Key
    value: str | int
    size: int


def by_facet(
    connection: sqlite3.Connection, walk: Walk, facet: Facet, after: Position | None
) -> Iterator[list[str]]:
    """Ids of all that a facet finds, newest first, each once: one ordered walk per value, merged.

    Of many values, only those are walked along whose entries are due.
    """
    start = (_LAST_RANK if walk.reverse else _FIRST_RANK) if after is None else key_of(Sort.CREATED, after)
    waiting = _streams(connection, walk, facet, start)
    sql = f"""SELECT rank, id FROM terms WHERE kind = ? AND facet = ? AND value = ?
        AND {walk.onward.format("rank")} LIMIT ?"""
    pending: list[Key] = []
    last: Key | None = None
    while waiting:
        stream = waiting.pop(-1 if walk.reverse else 0)
        values = (walk.kind, facet.name, stream.value, *stream.key, stream.size)
        found = connection.execute(sql, values).fetchall()
        pending += found
        pending.sort()
        if len(found) == stream.size:
            rest = _Stream(found[-1], stream.value, min(2 * stream.size, LARGEST))
            insort(waiting, rest, key=lambda each: each.key)
        due, pending = _due(walk, pending, waiting)
        ids = []
        for key in due:
            if key != last:
                ids.append(key[1])
            last = key
        if ids:
            yield ids


def along(
    connection: sqlite3.Connection, walk: Walk, facet: Facet, after: Position | None, columns: str
) -> list[Record]:
    """Columns of the resources `r`, as many as are wanted, that the one value of a facet finds, newest first:
    by one statement, which spares looking for each of the ids by itself."""
    start = (_LAST_RANK if walk.reverse else _FIRST_RANK) if after is None else key_of(Sort.CREATED, after)
    comparison, order = ("<", "DESC") if walk.reverse else (">", "ASC")
    sql = f"""SELECT {columns} FROM terms t CROSS JOIN resources r ON r.kind = t.kind AND r.id = t.id
        WHERE t.kind = ? AND t.facet = ? AND t.value = ? AND (t.rank, t.id) {comparison} (?, ?)
        ORDER BY t.rank {order}, t.id {order} LIMIT ?"""
    return connection.execute(sql, (walk.kind, facet.name, facet.values[0], *start, walk.wanted)).fetchall()


def _due(walk: Walk, pending: list[Key], waiting: list[_Stream]) -> tuple[list[Key], list[Key]]:
    """Of sorted entries, in order those that no waiting stream can come before, and the others."""
    if walk.reverse:
        at = bisect_left(pending, waiting[-1].key) if waiting else 0
        return pending[at:][::-1], pending[:at]
    at = bisect_right(pending, waiting[0].key) if waiting else len(pending)
    return pending[:at], pending[at:]


def _streams(connection: sqlite3.Connection, walk: Walk, facet: Facet, start: Key) -> list[_Stream]:
    """A stream for each value, ascending by where its next entry may be at the earliest."""
    count = len(facet.values)
    size = walk.wanted if count == 1 else max(16, 2 * walk.wanted // max(count, 1))
    if count <= FEW:
        return [_Stream(start, value, size) for value in facet.values]
    comparison, order = ("<=", "DESC") if walk.reverse else (">=", "ASC")
    sql = f"""SELECT value, head FROM (SELECT w.value AS value, (SELECT t.rank FROM terms t
            WHERE t.kind = ? AND t.facet = ? AND t.value = w.value AND t.rank {comparison} ?
            ORDER BY t.rank {order} LIMIT 1) AS head FROM json_each(?) w)
        WHERE head IS NOT NULL ORDER BY head"""
    heads = connection.execute(sql, (walk.kind, facet.name, start[0], facet.values_text))
    # An entry at the head's rank may still lie before the start by its id.
    if walk.reverse:
        return [_Stream(min(start, (head, LAST_ID)), value, size) for value, head in heads]
    return [_Stream(max(start, (head, "")), value, size) for value, head in heads]
