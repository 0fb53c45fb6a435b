"""Documents in VAST DB: reading rows, and applying a change inside a transaction."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable, Mapping, Sequence
from functools import lru_cache
from hashlib import blake2b
from typing import Any, Final, NamedTuple

import orjson

from store import errors
from store.metadata.protocol import Stale
from store.metadata.rows import Change, Document, Event, Expect, Kind, Put, Ref, Row
from store.metadata.tables import collection_of, columns_of, event_document
from store.metadata.vast_predicates import among
from store.metadata.vast_tables import BUCKETS
from store.metadata.vast_terms import rewrite
from store.metadata.vast_tx import Tx
from store.timerange import MAX_NS, MIN_NS

COLUMNS: Final = (
    "kind", "id", "version", "document", "classes", "related", "created_ns", "segments_updated_ns", "private",
    "updated_ns",
)  # fmt: skip
SPAN: Final = ("segments", "media_ns", "first_ns", "last_ns", "longest_ns")


class Span(NamedTuple):
    """What a flow's row knows of its segments: how many, how long together, and bounds (None: none ever)."""

    segments: int
    media_ns: int
    first_ns: int | None
    last_ns: int | None
    longest_ns: int


EMPTY: Final = Span(0, 0, None, None, 0)


class Held(NamedTuple):
    """A row with what a transaction needs to write it. `row.related` is empty, `names` what it would have."""

    row: Row
    names: tuple[str, ...]
    span: Span
    row_id: Any


@lru_cache(maxsize=16_384)
def classes_of(text: str) -> frozenset[str]:
    """The classes that a column of them holds."""
    return frozenset(orjson.loads(text))


def text_of(values: Iterable[str]) -> str:
    """A JSON array. Raises `errors.BadRequest` for what is no Unicode."""
    return packed(list(values)).decode()


def packed(value: object) -> bytes:
    """JSON. Raises `errors.BadRequest` for what it cannot say."""
    try:
        return orjson.dumps(value)
    except orjson.JSONEncodeError as exc:
        raise errors.BadRequest("A value cannot be stored: beyond 64 bits, or not valid Unicode.") from exc


def get_many(tx: Tx, refs: Iterable[Ref]) -> dict[Ref, Row]:
    """The rows that exist."""
    found = []
    related: defaultdict[str, set[str]] = defaultdict(set)
    for record in _records(tx, refs, COLUMNS):
        ids = orjson.loads(record[5]) if record[5] else ()
        found.append((_row(record), ids))
        related[record[0]].update(ids)
    classes = {kind: _classes(tx, kind, ids) for kind, ids in related.items() if ids}
    return {
        row.ref: row._replace(related={id: classes[row.kind][id] for id in ids if id in classes[row.kind]})
        if ids
        else row
        for row, ids in found
    }


def get(tx: Tx, ref: Ref) -> Row | None:
    """One row."""
    return get_many(tx, [ref]).get(ref)


def load(tx: Tx, refs: Iterable[Ref]) -> dict[Ref, Held]:
    """The rows that exist, to be written in this transaction."""
    found = {}
    for record in _records(tx, refs, (*COLUMNS, *SPAN), row_ids=True):
        row = _row(record)
        names = tuple(orjson.loads(record[5])) if record[5] else ()
        found[row.ref] = Held(row, names, span_of(record[len(COLUMNS) : -1]), record[-1])
    return found


def completed(tx: Tx, held: Held) -> Row:
    """A row that was loaded, as readers get it."""
    if not held.names:
        return held.row
    return held.row._replace(related=_classes(tx, held.row.kind, held.names))


def span_of(values: Sequence[Any]) -> Span:
    """A span from its columns, as they are in a row that never had segments too."""
    segments, media_ns, first_ns, last_ns, longest_ns = values
    return Span(segments or 0, media_ns or 0, first_ns, last_ns, longest_ns or 0)


def earliest(first_ns: int, longest_ns: int) -> int:
    """Where a segment that reaches to `first_ns` starts at the earliest, where none is longer."""
    return MIN_NS if longest_ns == MAX_NS else max(MIN_NS, first_ns - longest_ns)


def with_span(tx: Tx, flow_id: str) -> tuple[Row, Span] | None:
    """A flow and what it knows of its segments."""
    ref = Ref(Kind.FLOW, flow_id)
    for record in _records(tx, [ref], (*COLUMNS, *SPAN)):
        row, ids = _row(record), orjson.loads(record[5]) if record[5] else ()
        if ids:
            row = row._replace(related=_classes(tx, row.kind, ids))
        return row, span_of(record[len(COLUMNS) :])
    return None


def _records(tx: Tx, refs: Iterable[Ref], columns: Sequence[str], *, row_ids: bool = False) -> list[Any]:
    wanted = frozenset(refs)
    if not wanted:
        return []
    kinds = among("kind", sorted({ref.kind.value for ref in wanted}))
    ids = sorted({ref.id for ref in wanted})
    found = tx.select_among("resources", columns, "id", ids, kinds, row_ids=row_ids)
    return [record for record in found if (record[0], record[1]) in wanted]


def _row(record: Sequence[Any]) -> Row:
    kind, id, version, document, classes, _, created_ns, touched_ns, private, updated_ns = record[:10]
    return Row(
        Kind(kind),
        id,
        version,
        document,
        classes_of(classes),
        {},
        created_ns,
        touched_ns,
        private,
        updated_ns,
    )


def _classes(tx: Tx, kind: str, ids: Iterable[str]) -> dict[str, frozenset[str]]:
    found = tx.select_among(
        "resources", ("id", "classes"), "id", sorted(set(ids)), among("kind", [Kind(kind).value])
    )
    return {id: classes_of(classes) for id, classes in found}


def bucket(name: str) -> int:
    """The guard row that stands for what is not there."""
    return int.from_bytes(blake2b(name.encode(errors="replace"), digest_size=4).digest(), "big") % BUCKETS


def guard_absent(tx: Tx, names: Iterable[str]) -> None:
    """Let no other transaction make any of these meanwhile. `names`: with their kind in front."""
    buckets = sorted({bucket(name) for name in names})
    if buckets:
        tx.touch(
            "guards", [row_id for (row_id,) in tx.select_among("guards", (), "bucket", buckets, row_ids=True)]
        )


def named(ref: Ref) -> str:
    """A reference as `guard_absent` takes it."""
    return f"{ref.kind.value}:{ref.id}"


def apply(tx: Tx, change: Change) -> None:
    """Apply a change, segments of deleted flows left aside. Raises `Stale`, `errors.Expectation`."""
    expect = change.expect or Expect()
    written = [*(put.ref for put in change.puts), *(delete.ref for delete in change.deletes)]
    relied = {*change.unchanged, *expected(expect)}
    held = load(tx, {*written, *relied})
    check(tx, expect, held)
    versions = [*change.unchanged.items(), *change.deletes, *((put.ref, put.version) for put in change.puts)]
    for ref, version in versions:
        if version != (held[ref].row.version if ref in held else 0):
            raise Stale
    if any(ref not in held for ref, _ in change.deletes):
        raise Stale
    touched = relied if not tx.attempt else {*relied, *written}
    tx.touch("resources", [held[ref].row_id for ref in sorted(touched) if ref in held])
    guard_absent(tx, (named(ref) for ref in {*written, *relied} if ref not in held))
    _remove(tx, [held[delete.ref] for delete in change.deletes])
    _put(tx, change.puts, held)
    append_events(tx, change.events)


def expected(expect: Expect) -> set[Ref]:
    """The rows that an expectation looks at."""
    return {*expect.classes, *(Ref(Kind.FLOW, id) for id in expect.members)}


def check(tx: Tx, expect: Expect, held: Mapping[Ref, Held]) -> None:
    """Raises `errors.Expectation` unless everything expected is so, and keeps it so. Rows, which are
    `held`, are for the caller to touch."""
    if not (
        all(
            (held[ref].row.classes if ref in held else None) == classes
            for ref, classes in expect.classes.items()
        )
        and all(_members(held.get(Ref(Kind.FLOW, id))) == tuple(ids) for id, ids in expect.members.items())
        and _referred(tx, expect.references)
        and not tx.select_among("objects", ("id",), "id", sorted(expect.unknown))
    ):
        raise errors.Expectation("What the request was authorised on has changed.")
    guard_absent(tx, (f"object:{id}" for id in expect.unknown))


def _members(held: Held | None) -> tuple[str, ...]:
    document: Document = {} if held is None else orjson.loads(held.row.document)
    return tuple(item["id"] for item in collection_of(Kind.FLOW, document))


def _referred(tx: Tx, references: Iterable[tuple[str, str]]) -> bool:
    wanted = set(references)
    if not wanted:
        return True
    flows = among("flow_id", sorted({flow_id for _, flow_id in wanted}))
    ids = sorted({object_id for object_id, _ in wanted})
    found = tx.select_among("uses", ("object_id", "flow_id"), "object_id", ids, flows, row_ids=True)
    uses = {(object_id, flow_id): row_id for object_id, flow_id, row_id in found}
    if not wanted <= uses.keys():
        return False
    tx.touch("uses", [uses[pair] for pair in sorted(wanted)])
    return True


def columns_of_put(put: Put) -> dict[str, Any]:
    """The columns of a document that is to be written, but for its name and version."""
    columns = columns_of(put)
    return {
        "created_ns": put.created_ns,
        "updated_ns": put.updated_ns,
        "classes": text_of(columns.classes),
        "related": text_of(columns.related) if columns.related else None,
        "sort_text": columns.sort_text,
        "format": columns.format,
        "codec": columns.codec,
        "source_id": columns.source_id,
        "frame_width": columns.frame_width,
        "frame_height": columns.frame_height,
        "private": put.private,
        "document": packed(put.document),
    }


def _put(tx: Tx, puts: Sequence[Put], held: Mapping[Ref, Held]) -> None:
    fresh, changed = [], []
    for put in puts:
        row = {**columns_of_put(put), "version": max(tx.number(), put.version + 1), "guard": tx.nonce}
        if put.ref in held:
            changed.append((held[put.ref].row_id, row))
        else:
            fresh.append({"kind": put.kind.value, "id": put.id, "segments": 0, **row})
    tx.insert("resources", fresh)
    if changed:
        names = changed[0][1]
        values = {name: [row[name] for _, row in changed] for name in names}
        tx.update("resources", [row_id for row_id, _ in changed], values)
    rewrite(tx, [_as_put(held[put.ref].row) for put in puts if put.ref in held], puts)


def _as_put(row: Row) -> Put:
    """The writing that made a row as it is."""
    return Put(row.kind, row.id, 0, orjson.loads(row.document), row.created_ns, row.updated_ns)


def _remove(tx: Tx, gone: Sequence[Held]) -> None:
    tx.delete("resources", [held.row_id for held in gone])
    rewrite(tx, [_as_put(held.row) for held in gone], ())


def append_events(tx: Tx, events: Iterable[Event]) -> None:
    """Put events into the outbox, in order."""
    rows = [(event.time_ns, packed(event_document(event))) for event in events]
    tx.insert(
        "outbox",
        [
            {"stamp": tx.stamp, "place": place, "time_ns": time_ns, "document": document}
            for place, (time_ns, document) in enumerate(rows)
        ],
    )
