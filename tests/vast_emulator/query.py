"""Answers queries: which rows match, in which order, cut into splits, sub-splits and pages."""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

from tests.vast_emulator import wire
from tests.vast_emulator.catalog import Table
from tests.vast_emulator.errors import bad_request
from tests.vast_emulator.predicates import Conjunct, Mask, Node, nodes, read_filter
from tests.vast_emulator.relation import Query, type_tag
from tests.vast_emulator.rows import ROW_ID, encode_ids, id_type

ROW_GROUP_BITS = 16
MAX_PAGE_ROWS = 128 * 1024

Indices = NDArray[np.int64]


@dataclass(frozen=True)
class Layout:
    """How a query is divided: `splits` of `subs` sub-splits each, over runs of `groups` row groups."""

    split: int
    splits: int
    groups: int
    subs: int

    def lane(self, sub: int) -> int:
        return self.split * self.subs + sub

    def lanes(self, ranks: NDArray[np.uint64]) -> NDArray[np.uint64]:
        runs = (ranks >> np.uint64(ROW_GROUP_BITS)) // np.uint64(self.groups)
        return runs % np.uint64(self.splits * self.subs)


@dataclass(frozen=True)
class Page:
    """Rows of one sub-split, where the next page starts, and how many rows were looked at for it."""

    indices: Indices
    next_row_id: int
    scanned: int


@dataclass(frozen=True)
class Plan:
    """A prepared query: `data` in the order of its access path, where `ranks` rise, and masks of it."""

    data: pa.Table
    ranks: NDArray[np.uint64]
    matched: Mask
    scanned: Mask
    lanes: dict[tuple[int, int, int], tuple[Indices, Indices]] = field(default_factory=dict)

    def page(self, layout: Layout, sub: int, cursor: int, limit: int) -> Page:
        """At most `limit` rows of a sub-split, from the row with the id `cursor` on."""
        matched, scanned = self._lane(layout, layout.lane(sub))
        start = int(np.searchsorted(self.ranks[matched], cursor))
        taken = matched[start : start + limit]
        rest = matched[start + limit : start + limit + 1]
        following = int(self.ranks[rest[0]]) if len(rest) else wire.INVALID_ROW_ID
        low, high = np.searchsorted(self.ranks[scanned], [cursor, following])
        return Page(taken, following, int(high - low))

    def _lane(self, layout: Layout, lane: int) -> tuple[Indices, Indices]:
        """The matching and the scanned rows of one lane."""
        key = (layout.splits * layout.subs, layout.groups, lane)
        if key not in self.lanes:
            mine = layout.lanes(self.ranks) == lane
            self.lanes[key] = (np.flatnonzero(self.matched & mine), np.flatnonzero(self.scanned & mine))
        return self.lanes[key]


def plan(table: Table, query: Query, projection: str, automatic: bool) -> Plan:
    """Prepare a query; by the projection named, or if `automatic` by one that serves the filter."""
    fields = [_field(table, name, tag) for name, tag in query.columns]
    filters = read_filter(query.filter, nodes(fields))
    data = table.rows.table(table.columns)
    masks = {conjunct: conjunct.mask(data) for conjunct in set(filters)}
    everything = np.ones(data.num_rows, np.bool_)
    matched = np.logical_and.reduce([everything, *masks.values()])
    scanned = _scanned(table.sort_key, masks, everything)
    order = _order(table, query, filters, projection, automatic)
    if not order:
        return Plan(data, data.column(ROW_ID).to_numpy(), matched, scanned)
    scanned = min(scanned, _scanned(order, masks, everything), key=np.count_nonzero)
    keys = [(name, "ascending") for name in order]
    places = pa.compute.sort_indices(data, sort_keys=keys).to_numpy()
    ranks = np.arange(data.num_rows, dtype=np.uint64)
    return Plan(data.take(pa.array(places)), ranks, matched[places], scanned[places])


def _field(table: Table, name: str, tag: int) -> pa.Field:
    if name == ROW_ID:
        known = pa.field(ROW_ID, id_type(bool(table.sort_key)))
    elif name in table.columns.names:
        known = table.columns.field(name)
    else:
        raise bad_request("TabularNoSuchColumn", name)
    if type_tag(known.type) != tag:
        raise bad_request("TabularMismatchColumnType", f"{name} is {known.type}")
    return known


def _order(
    table: Table, query: Query, filters: Sequence[Conjunct], projection: str, automatic: bool
) -> tuple[str, ...]:
    """The sort columns of the projection to use, none for the table itself."""
    if projection:
        return table.projection(projection).sorted
    filtered = {conjunct.node.column for conjunct in filters if not conjunct.node.path}
    needed = {name for name, _ in query.columns}
    for candidate in table.projections if automatic else ():
        if candidate.sorted[0] in filtered and needed <= set(candidate.columns):
            return candidate.sorted
    return ()


def _scanned(order: tuple[str, ...], masks: Mapping[Conjunct, Mask], everything: Mask) -> Mask:
    """The rows that an order on these columns leaves to look at: equalities on a prefix, then one range."""
    found = everything
    for name in order:
        own = {c: mask for c, mask in masks.items() if c.node.column == name and not c.node.path}
        for mask in own.values():
            found = found & mask
        if not any(conjunct.exact for conjunct in own):
            break
    return found


def cursors(request: wire.Request) -> list[tuple[int, int]]:
    """The sub-splits that a request asks for, each with the row id to go on from."""
    found = []
    for name, value in request.headers.items():
        if name.startswith("tabular-start-row-id-"):
            sub, _, cursor = value.partition(",")
            found.append((int(sub), int(cursor)))
    return sorted(found)


def layout(request: wire.Request) -> Layout:
    parts = request.headers.get("tabular-split", "0,1,8").split(",")
    try:
        split, splits, groups = (int(part) for part in parts)
    except ValueError as exc:
        raise bad_request("InvalidArgument", f"tabular-split: {parts}") from exc
    subs = request.number("tabular-num-of-subsplits", 1)
    if splits < 1 or groups < 1 or subs < 1:
        raise bad_request("InvalidArgument", f"tabular-split: {parts}, {subs} sub-splits")
    return Layout(split, splits, groups, subs)


def body(table: Table, query: Query, prepared: Plan, sub: int, page: Page) -> Iterator[bytes]:
    """One page of a sub-split as frames; leaves go in the order of the query's projection."""
    rows = prepared.data.take(pa.array(page.indices))
    if not query.projection:
        yield from wire.frames(sub, page.next_row_id, _counted(len(page.indices)))
        return
    places = nodes([_field(table, name, tag) for name, tag in query.columns])
    cached: dict[str, list[pa.Array]] = {}
    for position in query.projection:
        node = places[position]
        if node.column not in cached:
            cached[node.column] = list(wire.leaves(_whole(rows, node.column, bool(table.sort_key))))
        leaf = cached[node.column][_leaf_index(places, position)]
        batch = pa.RecordBatch.from_arrays([leaf], names=[node.column])
        yield from wire.frames(sub, page.next_row_id, batch)


def _leaf_index(places: Sequence[Node], position: int) -> int:
    own = [at for at, node in enumerate(places) if node.column == places[position].column and node.leaf]
    if position not in own:
        raise bad_request("InvalidArgument", f"position {position} is not a leaf")
    return own.index(position)


def _whole(rows: pa.Table, name: str, sorted_: bool) -> pa.Array:
    column = rows.column(name)
    if name == ROW_ID:
        return encode_ids(column.to_numpy(), sorted_)
    array = column.combine_chunks()
    if isinstance(array, pa.ChunkedArray):
        array = array.chunk(0) if array.num_chunks else pa.array([], column.type)
    return array if array.offset == 0 else array.take(pa.array(np.arange(len(array))))


def _counted(num_rows: int) -> pa.RecordBatch:
    """A batch without columns that still has rows: the answer to a query for no column."""
    return pa.record_batch({"n": pa.nulls(num_rows)}).select([])


def estimate(prepared: Plan) -> bytes:
    """How many row groups a sorted table has for a filter, as the rows of a batch without columns."""
    rows = int(np.count_nonzero(prepared.scanned))
    groups = -(-rows >> ROW_GROUP_BITS)
    return b"".join(wire.frames(0, wire.INVALID_ROW_ID, _counted(groups))) + wire.completed()
