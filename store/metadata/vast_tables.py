"""The tables in VAST DB: their columns, what they are sorted by, and how they come to be."""

from __future__ import annotations

import logging
from collections.abc import Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Final

import pyarrow as pa
import vastdb.errors
from vastdb.table_metadata import TableMetadata, TableRef, TableType

from store import errors

if TYPE_CHECKING:
    from vastdb.transaction import Transaction

_log = logging.getLogger(__name__)

VERSION: Final = 1
BUCKETS: Final = 1_024
"""How many guard rows stand for all the ids that are not there yet."""
CELL_BYTES: Final = 126_000
"""What one cell holds."""
ROW_ID: Final = "$row_id"

_TYPES: Final = {"text": pa.string(), "int": pa.int64(), "bytes": pa.binary()}


@dataclass(frozen=True, slots=True)
class Spec:
    """A table. `columns`: name to type; `sort`: what it is sorted by, never updated; `projections`: more
    orders, each a name with the columns it is sorted by and those it holds besides."""

    columns: Mapping[str, str]
    sort: tuple[str, ...] = ()
    projections: tuple[tuple[str, tuple[str, ...], tuple[str, ...]], ...] = ()

    @property
    def schema(self) -> pa.Schema:
        """The columns as Arrow has them."""
        return pa.schema([(name, _TYPES[kind]) for name, kind in self.columns.items()])


# `guard` is written by every transaction that relied on a row without changing it, so that two that must
# not both happen write one row. `resources` of flows keep bounds of their segments: every one starts at
# `first_ns` or later and stops at `last_ns` or earlier, none is longer than `longest_ns`.
TABLES: Final[dict[str, Spec]] = {
    "resources": Spec(
        {
            "kind": "text", "id": "text", "version": "int", "created_ns": "int", "updated_ns": "int",
            "segments_updated_ns": "int", "classes": "text", "related": "text", "sort_text": "text",
            "format": "text", "codec": "text", "source_id": "text", "frame_width": "int",
            "frame_height": "int", "private": "bytes", "document": "bytes", "guard": "text",
            "segments": "int", "media_ns": "int", "first_ns": "int", "last_ns": "int", "longest_ns": "int",
        },
        ("kind", "id"),
    ),
    "terms": Spec(
        {
            "kind": "text", "facet": "text", "value": "text", "created_key": "text", "id": "text",
            "updated_key": "text", "text_key": "text", "classes": "text",
        },
        ("kind", "facet", "value", "created_key"),
    ),
    "class_sets": Spec({"kind": "text", "classes": "text"}, ("kind", "classes")),
    "segments": Spec(
        {
            "flow_id": "text", "start_ns": "int", "stop_ns": "int", "object_id": "text",
            "init_object_id": "text", "timerange": "text", "document": "bytes",
        },
        ("flow_id", "start_ns"),
        (("by_object", ("object_id", "flow_id", "start_ns"), ("stop_ns",)),),
    ),
    "objects": Spec(
        {
            "id": "text", "version": "int", "role": "text", "flow_id": "text", "created_ns": "int",
            "init_object_id": "text", "size_bytes": "int", "document": "bytes", "guard": "text",
        },
        ("id",),
        (("by_init", ("init_object_id",), ("id",)),),
    ),
    "instances": Spec({"backend_id": "text", "key": "text", "object_id": "text"}, ("backend_id", "key")),
    "uses": Spec(
        {"object_id": "text", "flow_id": "text", "count": "int", "guard": "text"}, ("object_id", "flow_id")
    ),
    "holds": Spec({"object_id": "text", "reference": "text", "holder": "text"}, ("object_id",)),
    "accesses": Spec({"object_id": "text", "urls": "int", "last_ns": "int"}, ("object_id",)),
    "suspects": Spec({"after_ns": "int", "object_id": "text"}, ("after_ns",)),
    "doomed": Spec({"number": "int", "backend_id": "text", "key": "text"}, ("number",)),
    "outbox": Spec({"stamp": "int", "place": "int", "time_ns": "int", "document": "bytes"}, ("stamp",)),
    "events": Spec({"sequence": "int", "time_ns": "int", "document": "bytes"}, ("sequence",)),
    "leases": Spec({"name": "text", "holder": "text", "until_ns": "int"}),
    "guards": Spec({"bucket": "int", "guard": "text"}),
    "commits": Spec({"stamp": "int", "nonce": "text"}, ("stamp",)),
    "keys": Spec(
        {
            "name": "text", "version": "int", "created_ns": "int", "size_bytes": "int",
            "content_type": "text", "object_id": "text", "data": "bytes",
        },
        ("name",),
    ),
    "settings": Spec({"name": "text", "number": "int", "value": "text"}),
}  # fmt: skip


@dataclass(frozen=True, slots=True)
class Table:
    """A table as it was found: what the SDK needs to ask for its rows without looking it up again."""

    metadata: TableMetadata
    schema: pa.Schema
    row_id: pa.Field
    rows: Any


def load(tx: Transaction, bucket: str, schema: str, specs: Mapping[str, Spec] = TABLES) -> dict[str, Table]:
    """The tables. Raises `errors.Unavailable` for what is missing or has other columns."""
    return {name: _load(tx, TableRef(bucket, schema, name), spec) for name, spec in specs.items()}


def _load(tx: Transaction, ref: TableRef, spec: Spec) -> Table:
    metadata = TableMetadata(ref)
    try:
        metadata.load(tx)
    except vastdb.errors.NotFound as exc:
        raise errors.Unavailable(f"The table {ref.full_path} is missing: run tams-store upgrade.") from exc
    known = {field.name: field.type for field in metadata.arrow_schema}
    wrong = [field.name for field in spec.schema if known.get(field.name) != field.type]
    if wrong:
        raise errors.Unavailable(
            f"The table {ref.full_path} lacks the columns {', '.join(wrong)}: run tams-store upgrade."
        )
    ordered = metadata.table_type is not TableType.Regular
    kind = pa.decimal128(38, 0) if ordered else pa.uint64()
    row_id = pa.field(ROW_ID, kind)
    plain = pa.schema([field.remove_metadata() for field in metadata.arrow_schema])
    return Table(metadata, pa.schema([row_id, *plain]), row_id, metadata.ibis_table)


def create(tx: Transaction, bucket: str, schema: str, specs: Mapping[str, Spec] = TABLES) -> list[str]:
    """Make what is missing of the schema, its tables and their columns; what that was, in words.

    Raises the SDK's MissingBucket.
    """
    place = tx.bucket(bucket)
    done = []
    found = place.schema(schema, fail_if_missing=False)
    if found is None:
        found = place.create_schema(schema)
        done.append(f"schema {schema}")
    there = set(found.tablenames())
    for name, spec in specs.items():
        if name not in there:
            _create(tx, TableRef(bucket, schema, name), spec)
            done.append(f"table {name}")
        else:
            done += _extend(found.table(name), spec)
    return done


def _create(tx: Transaction, ref: TableRef, spec: Spec) -> None:
    """Make a table: sorted, or, where the cluster does not sort, with a projection in that order."""
    where = (ref.bucket, ref.schema, ref.table)
    api, columns = tx._rpc.api, spec.schema
    projections = spec.projections
    try:
        places = [columns.get_field_index(name) for name in spec.sort]
        api.create_table(*where, columns, txid=tx.active_txid, sorting_key=places)
    except (vastdb.errors.NotImplemented, vastdb.errors.BadRequest, vastdb.errors.NotSupported) as exc:
        if not spec.sort:
            raise
        _log.warning("the cluster does not sort %s (%s): a projection has to do", ref.table, exc)
        api.create_table(*where, columns, txid=tx.active_txid)
        rest = tuple(name for name in columns.names if name not in spec.sort)
        projections = (("in_order", spec.sort, rest), *projections)
    for name, ordered, others in projections:
        held = [(each, "Sorted") for each in ordered] + [(each, "Unsorted") for each in others]
        api.create_projection(*where, name, columns=held, txid=tx.active_txid)


def _extend(table: Any, spec: Spec) -> list[str]:
    missing = [field for field in spec.schema if field.name not in table.columns().names]
    if missing:
        table.add_column(pa.schema(missing))
    return [f"column {table.name}.{field.name}" for field in missing]
