"""Listings in VAST DB: which facet leads to a page at least cost, and walking along it in order."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from typing import Any, Final

import orjson

from store import errors
from store.metadata.query import Query, matches
from store.metadata.rows import Kind, Ref, Row
from store.metadata.vast_predicates import Condition, above, among, at_least, below, chunks, equal
from store.metadata.vast_rows import classes_of, earliest, get_many
from store.metadata.vast_terms import CLASSES, EVERYTHING, KEY_COLUMN, UNCOLLECTED, sort_key, value_of
from store.metadata.vast_tx import Tx
from store.metadata.vast_walk import Way, ahead
from store.timerange import MAX_NS, TimeRange
from store.view import View

SMALL: Final = 300
"""Up to so many candidates are looked at one by one, whatever the order."""
COUNTED: Final = 4_000
"""How far facets are counted to tell which is the narrower."""
SETS: Final = 3_000
"""Up to so many sets of classes are told apart; with more, what is hidden is walked past."""
MOST_TAGS: Final = 100
LARGEST: Final = 1_024

Entry = tuple[str, str, str]
"""Of a document: the key it is sorted by, its id, its classes as text."""


@dataclass(frozen=True, slots=True)
class Facet:
    """Documents that have any of the values under a name."""

    name: str
    values: tuple[str, ...]

    def conditions(self, kind: Kind) -> tuple[Condition, ...]:
        """The rows of `terms` that belong to it."""
        return equal("kind", kind.value), equal("facet", self.name), among("value", self.values)


def page(tx: Tx, query: Query) -> tuple[list[Row], bool]:
    """The rows of a listing in its order, and whether more follow.

    Raises `errors.BadRequest` for more filters than can be carried out.
    """
    if len(query.tags) + len(query.tag_exists) > MOST_TAGS:
        raise errors.BadRequest(f"More than {MOST_TAGS} filters by tag are not supported.")
    view = None if query.view is None or query.view.admin else query.view
    facets = _facets(query, view)
    if any(not facet.values for facet in facets) or (view is not None and not (view.allow - view.deny)):
        return [], False
    wanted = query.limit + 1
    rows: list[Row] = []
    for entries in _candidates(tx, query, view, facets):
        seen = [id for _, id, text in entries if view is None or view.sees(classes_of(text))]
        while seen and len(rows) < wanted:
            size = max(wanted - len(rows), 20)
            some, seen = seen[:size], seen[size:]
            rows += passing(tx, query, some)
        if len(rows) >= wanted:
            break
    return rows[: query.limit], len(rows) > query.limit


def passing(tx: Tx, query: Query, ids: Sequence[str]) -> list[Row]:
    """Of candidates, in their order, the rows that belong to a listing."""
    found = get_many(tx, [Ref(query.kind, id) for id in ids])
    untimed = replace(query, timerange=None)
    rows = [found[Ref(query.kind, id)] for id in ids if Ref(query.kind, id) in found]
    rows = [row for row in rows if matches(untimed, orjson.loads(row.document), (), row.related)]
    if query.timerange is None:
        return rows
    held = _overlapping(tx, [row.id for row in rows], query.timerange)
    return [row for row in rows if row.id in held]


def _overlapping(tx: Tx, flow_ids: Sequence[str], within: TimeRange) -> set[str]:
    """The flows that have a segment in a timerange; for an empty one those that have none at all.

    Any rows are read, then any of the flows that were not among these, until there are no more.
    """
    conditions = []
    if not within.is_empty and within.stop_ns is not None:
        conditions.append(below("start_ns", within.stop_ns))
    if not within.is_empty and within.first_ns is not None:
        conditions.append(above("stop_ns", within.first_ns))
        conditions.append(at_least("start_ns", _earliest(tx, flow_ids, within.first_ns)))
    found: set[str] = set()
    for piece in chunks(flow_ids):
        left = [str(id) for id in piece]
        while left:
            most = len(left) + LARGEST
            rows = tx.select("segments", ("flow_id",), among("flow_id", left), *conditions, limit=most)
            found.update(id for (id,) in rows)
            left = [id for id in left if id not in found] if len(rows) == most else []
    return set(flow_ids) - found if within.is_empty else found


def _earliest(tx: Tx, flow_ids: Sequence[str], first_ns: int) -> int:
    """Where a segment that reaches to `first_ns` starts at the earliest."""
    ids, flows = sorted(flow_ids), equal("kind", Kind.FLOW.value)
    found = tx.select_among("resources", ("longest_ns",), "id", ids, flows)
    return earliest(first_ns, max((longest or 0 for (longest,) in found), default=0))


def _facets(query: Query, view: View | None) -> list[Facet]:
    """What a query asks for as facets, those that are narrow most often first; the rest is left to
    `matches`."""
    found = []
    for name in ("label", "source_id", "profile_id"):
        value = getattr(query, name)
        if value is not None:
            found.append(_facet(name, (value,)))
    if query.collected_by:
        found.append(_facet("collected_by", query.collected_by))
    found += [_facet(f"tag.{name}", values) for name, values in query.tags]
    for name in ("status", "codec", "frame_width", "frame_height"):
        value = getattr(query, name)
        if value is not None:
            found.append(_facet(name, (str(value),)))
    found += [_facet("tag_exists", (name,)) for name, wanted in query.tag_exists if wanted]
    if query.format is not None:
        found.append(_facet("format", (query.format,)))
    if query.init_segments is not None:
        found.append(_facet("init_segments", (str(query.init_segments),)))
    if query.collected_by == frozenset() and view is None:
        found.append(Facet(UNCOLLECTED, ("",)))
    return found


def _facet(name: str, values: frozenset[str] | tuple[str, ...]) -> Facet:
    return Facet(value_of(name), tuple(sorted(value_of(value) for value in values)))


def _candidates(tx: Tx, query: Query, view: View | None, facets: Sequence[Facet]) -> Iterator[list[Entry]]:
    """Entries in order, a piece at a time, among them all that belong to the listing."""
    if query.ids is not None:
        yield _sorted(query, _by_ids(tx, query))
        return
    ways = list(facets)
    if view is not None:
        sight = _sight(tx, query.kind, view)
        if sight is not None:
            if not sight.values:
                return
            ways.append(sight)
    ways = ways or [Facet(EVERYTHING, ("",))]
    way = ways[0]
    if len(ways) > 1:
        for each in ways:
            entries = tx.select("terms", _entry(query), *_behind(query, each), limit=SMALL + 1)
            if len(entries) <= SMALL:
                yield _sorted(query, entries)
                return
        counts = [tx.count("terms", *each.conditions(query.kind), limit=COUNTED) for each in ways]
        way = ways[counts.index(min(counts))]
    yield from _walk(tx, query, way)


def _sight(tx: Tx, kind: Kind, view: View) -> Facet | None:
    """All that a view sees, and nothing else; None when there are too many sets of classes to tell."""
    found = tx.select("class_sets", ("classes",), equal("kind", kind.value), limit=SETS + 1)
    if len(found) > SETS:
        return None
    seen = sorted({value_of(text) for (text,) in found if view.sees(classes_of(text))})
    return Facet(CLASSES, tuple(seen))


def _entry(query: Query) -> tuple[str, str, str]:
    return KEY_COLUMN[query.sort], "id", "classes"


def _start(query: Query) -> str | None:
    return None if query.after is None else sort_key(query.sort, query.after.value, query.after.id)


def _behind(query: Query, facet: Facet) -> tuple[Condition, ...]:
    way = Way(KEY_COLUMN[query.sort], 0, query.reverse, _start(query))
    return *facet.conditions(query.kind), *way.conditions(way.start, None)


def _sorted(query: Query, entries: Sequence[Any]) -> list[Entry]:
    """Distinct entries in order: one document may have several values of a facet."""
    return sorted(set(entries), reverse=query.reverse)


def _walk(tx: Tx, query: Query, facet: Facet) -> Iterator[list[Entry]]:
    """The entries of a facet in order; pieces grow, since most may turn out not to belong."""
    wanted, start, ended = query.limit + 1, _start(query), False
    last: Entry | None = None
    while not ended:

        def fetch(conditions: tuple[Condition, ...], most: int | None) -> list[Any]:
            return tx.select("terms", _entry(query), *facet.conditions(query.kind), *conditions, limit=most)

        way = Way(KEY_COLUMN[query.sort], 0, query.reverse, start, front=_front(tx, query))
        # A document with several of the values comes once for each.
        found, ended = ahead(fetch, way, wanted * min(len(facet.values), 8))
        entries = [entry for entry in _sorted(query, found) if entry != last]
        if entries:
            yield entries
            last = entries[-1]
            start = last[0]
        wanted = min(2 * wanted, LARGEST)


def _front(tx: Tx, query: Query) -> int | None:
    """Where an order by time begins: nothing is made in the future."""
    if KEY_COLUMN[query.sort] == "text_key":
        return None
    return -(2**64) if query.reverse else MAX_NS - tx.now_ns


def _by_ids(tx: Tx, query: Query) -> list[Entry]:
    """Entries of documents that are named, read from the documents' own rows."""
    columns = ("id", "created_ns", "updated_ns", "sort_text", "classes")
    ids, kind = sorted(query.ids or ()), equal("kind", query.kind.value)
    start = _start(query)
    entries = []
    for id, created_ns, updated_ns, text, classes in tx.select_among("resources", columns, "id", ids, kind):
        value = {"created_key": created_ns, "updated_key": updated_ns, "text_key": text}
        key = sort_key(query.sort, value[KEY_COLUMN[query.sort]], id)
        if start is None or (key < start if query.reverse else key > start):
            entries.append((key, id, classes))
    return entries
