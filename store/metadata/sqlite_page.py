"""Listings in SQLite: which index leads to a page at least cost, and walking along it.

Measured: merging one limited ordered walk per value costs 0.3 ms where `IN` with `DISTINCT` costs 600.
"""

from __future__ import annotations

import sqlite3
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from operator import itemgetter
from typing import Final

from store.metadata.query import Position, Query, Sort, sort_key
from store.metadata.rows import Row
from store.metadata.sqlite_list import (
    HEAD,
    SORT_COLUMN,
    Condition,
    Facet,
    Plan,
    allowed,
    condition_of,
    fetch_sql,
    joined,
    plan_of,
    ranked_sql,
    seen_among,
    versions_sql,
    visible,
)
from store.metadata.sqlite_objects import json_array
from store.metadata.sqlite_rows import Record, at_present, classes_of, row_of
from store.metadata.sqlite_scan import Walk, along, by_facet, by_sort, key_of
from store.view import View

SMALL: Final = 500
"""Up to so many candidates are looked at one by one, whatever the order."""
PATIENCE: Final = 2_000
"""After so many candidates of a sort's own index, most of them hidden, another way is taken."""
COUNTED: Final = 4_000
"""How far facets are counted to tell which is the narrower."""
SETS: Final = 300
"""Up to so many sets of classes are told apart for a view that is denied some."""
KEPT: Final = 4_096
"""So many rows of listings are kept at most, which is more than the pages that many readers share."""
KEPT_BYTES: Final = 4_096
"""The longest document that is kept."""

FOUND: Final = """SELECT {} FROM json_each(?) w
    CROSS JOIN terms t ON t.kind = ? AND t.facet = ? AND t.value = w.value LIMIT ?"""
# From each value the index leads to the next one, past all of its entries.
CLASS_SETS: Final = """WITH RECURSIVE sets (value) AS (
        SELECT min(value) FROM terms WHERE kind = ?1 AND facet = 'classes'
        UNION ALL SELECT (SELECT min(value) FROM terms WHERE kind = ?1 AND facet = 'classes'
            AND value > sets.value) FROM sets WHERE sets.value IS NOT NULL)
    SELECT value FROM sets WHERE value IS NOT NULL LIMIT ?2"""


Found = tuple[Row, str | None]
"""A row with its text to sort by."""


class Seen:
    """Rows of listings as they were read, by version: no two rows, nor states of one, share a version.

    Bounded, and without documents of unusual length. For reads of what is committed only: a transaction that
    writes may yet be undone, its versions with it.
    """

    def __init__(self) -> None:
        self._rows: dict[int, Found] = {}

    def __len__(self) -> int:
        return len(self._rows)

    def rows(self, connection: sqlite3.Connection, kind: str, heads: Sequence[Record]) -> Mapping[int, Found]:
        """Rows by version: at least those that were selected as `HEAD`. `related` and `segments_updated_ns`
        are those of any time."""
        known = self._rows
        missing = [head[1] for head in heads if head[0] not in known]
        if not missing:
            return known
        values = (json_array(missing), kind)
        read = {
            record[2]: (row_of(record), record[-1])
            for record in connection.execute(fetch_sql(Condition("")), values)
        }
        found = {head[0]: known[head[0]] for head in heads if head[0] in known} | read
        kept = {version: each for version, each in read.items() if len(each[0].document) <= KEPT_BYTES}
        if len(known) + len(kept) > KEPT:
            self._rows = known = {}
        known.update(kept)
        return found


@dataclass(frozen=True, slots=True)
class Reading:
    """Where rows are read, and which were read before."""

    connection: sqlite3.Connection
    seen: Seen


def page(connection: sqlite3.Connection, query: Query, seen: Seen) -> tuple[list[Row], bool]:
    """The rows of a listing in its order, and whether more follow."""
    query = _by_seen_collections(connection, query)
    plan = plan_of(query)
    after = query.after
    if after is not None and after.value is None and SORT_COLUMN[query.sort] != "sort_text":
        # Every row has a time: all come before such a position.
        if not query.reverse:
            return [], False
        query = replace(query, after=None)
    rows = [] if plan.void else _rows(Reading(connection, seen), query, plan)
    return rows[: query.limit], len(rows) > query.limit


def _by_seen_collections(connection: sqlite3.Connection, query: Query) -> Query:
    """A query for members of certain collections, without those that its view does not see."""
    if not query.collected_by or query.view is None or query.view.admin:
        return query
    among = seen_among(query.view)
    values = (json_array(sorted(query.collected_by)), query.kind, *among.values)
    seen = frozenset(row[0] for row in connection.execute(among.sql, values))
    # To ask for none at all would be to ask for what is not collected.
    return replace(query, collected_by=seen) if seen else replace(query, collected_by=None, ids=frozenset())


def _rows(reading: Reading, query: Query, plan: Plan) -> list[Row]:
    """The rows in order, one more than the limit at least where there are so many."""
    connection = reading.connection
    if query.ids is not None:
        return _chosen(reading, query, plan, sorted(query.ids))
    sight, exact = _sight(connection, query.kind, plan.view)
    ways = plan.facets if sight is None else (*plan.facets, sight)
    way, ids = _way(connection, query, ways)
    if ids is not None:
        return _chosen(reading, query, plan, ids)
    view = None if way is sight and exact else plan.view
    walk = Walk(query.kind, query.reverse, query.limit + 1)
    left = [*plan.conditions, *(condition_of(f) for f in plan.facets if f is not way)]
    others = joined(left)
    if way is None:
        candidates = by_sort(connection, walk, query.sort, query.after)
        return _fill(reading, walk, candidates, others, view)
    if query.sort is Sort.CREATED:
        if view is None and not left and len(way.values) == 1:
            heads = along(connection, walk, way, query.after, HEAD)
            return [row for row, _ in _of_heads(reading, walk.kind, heads, None)]
        candidates = by_facet(connection, walk, way, query.after)
        return _fill(reading, walk, candidates, others, view)
    everything = joined((*plan.conditions, *map(condition_of, plan.facets)))
    candidates = _up_to(PATIENCE, by_sort(connection, walk, query.sort, query.after))
    rows = _fill(reading, walk, candidates, everything, plan.view)
    if len(rows) >= walk.wanted:
        return rows
    return _ranked(
        reading, query, way, others if view is None else joined((*left, *visible(view))), plan.view
    )


def _sight(connection: sqlite3.Connection, kind: str, view: View | None) -> tuple[Facet | None, bool]:
    """What finds all that a view sees, and whether it finds nothing else.

    Where classes are denied, the sets of classes that occur are told apart, so that what is hidden is not
    even walked past; unless they are too many.
    """
    if view is None:
        return None, True
    if not view.deny:
        return allowed(view), True
    sets = [row[0] for row in connection.execute(CLASS_SETS, (kind, SETS + 1))]
    if len(sets) > SETS:
        return allowed(view), False
    return Facet("classes", tuple(text for text in sets if view.sees(classes_of(text)))), True


def _way(
    connection: sqlite3.Connection, query: Query, ways: Sequence[Facet]
) -> tuple[Facet | None, list[str] | None]:
    """The facet that finds the fewest rows, and the ids it finds where these are few.

    What is asked for comes before what is seen, for it is narrower more often.
    """
    if not ways or (len(ways) == 1 and query.sort is Sort.CREATED):
        return (ways[0] if ways else None), None
    for way in ways:
        if _count(connection, query.kind, way, SMALL + 1) <= SMALL:
            values = (way.values_text, query.kind, way.name, SMALL)
            return way, [row[0] for row in connection.execute(FOUND.format("DISTINCT t.id"), values)]
    if len(ways) == 1:
        return ways[0], None
    return min(ways, key=lambda way: _count(connection, query.kind, way, COUNTED)), None


def _count(connection: sqlite3.Connection, kind: str, way: Facet, most: int) -> int:
    sql = f"SELECT count(*) FROM ({FOUND.format('1')})"
    (count,) = connection.execute(sql, (way.values_text, kind, way.name, most)).fetchone()
    return int(count)


def _up_to(most: int, candidates: Iterable[list[str]]) -> Iterator[list[str]]:
    """Candidates, until there were that many."""
    count = 0
    for ids in candidates:
        yield ids
        count += len(ids)
        if count >= most:
            return


def _fill(
    reading: Reading,
    walk: Walk,
    candidates: Iterable[list[str]],
    passes: Condition,
    view: View | None,
) -> list[Row]:
    """Of candidates in order, the rows that pass and are seen, until there are enough."""
    rows: list[Row] = []
    count = 0
    for ids in candidates:
        while ids and len(rows) < walk.wanted:
            # As many as are missing; more at a time the more turn out not to belong.
            size = max(walk.wanted - len(rows), count)
            some, ids = ids[:size], ids[size:]
            count += len(some)
            found = {row.id: row for row, _ in _fetch(reading, walk.kind, some, passes, view)}
            rows += [found[id] for id in some if id in found]
        if len(rows) >= walk.wanted:
            break
    return rows


def _fetch(
    reading: Reading, kind: str, ids: Sequence[str], passes: Condition, view: View | None
) -> list[Found]:
    """Of candidates the rows that pass and are seen."""
    values = (json_array(ids), kind, *passes.values)
    return _of_heads(reading, kind, reading.connection.execute(versions_sql(passes), values).fetchall(), view)


def _of_heads(reading: Reading, kind: str, heads: Sequence[Record], view: View | None) -> list[Found]:
    """The rows that were selected as `HEAD` and are seen, in their order."""
    known = reading.seen.rows(reading.connection, kind, heads)
    found = list[Found]()
    for version, _, related, segments_updated_ns in heads:
        each = row, text = known[version]
        if view is None or view.sees(row.classes):
            is_present = related is None and segments_updated_ns == row.segments_updated_ns
            found.append(each if is_present else (at_present(row, related, segments_updated_ns), text))
    return found


def _chosen(reading: Reading, query: Query, plan: Plan, ids: Sequence[str]) -> list[Row]:
    """All that pass of candidates in any order, in order."""
    passes = joined((*plan.conditions, *map(condition_of, plan.facets)))
    keyed = []
    for row, text in _fetch(reading, query.kind, ids, passes, plan.view):
        value = {"created_rank": row.created_ns, "updated_rank": row.updated_ns, "sort_text": text}
        key = sort_key(query.sort, Position(value[SORT_COLUMN[query.sort]], row.id))
        keyed.append((key, row))
    keyed.sort(key=itemgetter(0), reverse=query.reverse)
    if query.after is not None:
        last = sort_key(query.sort, query.after)
        keyed = [each for each in keyed if (each[0] < last if query.reverse else each[0] > last)]
    return [row for _, row in keyed]


def _ranked(reading: Reading, query: Query, way: Facet, passes: Condition, view: View | None) -> list[Row]:
    """A page in an order that the facet has no index for: all it finds is sorted.

    `passes` includes what the view asks for; rows are held against it all the same.
    """
    start: tuple[int | str | bytes, ...] = ()
    if query.after is not None:
        value = query.after.value
        start = (1, "", query.after.id) if value is None else (0, *key_of(query.sort, query.after))
    sql = ranked_sql(query.sort, passes, after=bool(start), reverse=query.reverse)
    values = (way.values_text, query.kind, way.name, *passes.values, *start, query.limit + 1)
    ids = [record[2] for record in reading.connection.execute(sql, values)]
    walk = Walk(query.kind, query.reverse, query.limit + 1)
    return _fill(reading, walk, [ids], Condition(""), view)
