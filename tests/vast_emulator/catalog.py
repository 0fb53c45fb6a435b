"""One version of the whole database: schemas, tables and projections, never changed in place."""

from collections.abc import Mapping
from dataclasses import dataclass, field, replace

import pyarrow as pa

from tests.vast_emulator.errors import bad_request, not_found
from tests.vast_emulator.rows import Rows

SchemaKey = tuple[str, str]
"""Bucket and path of a schema."""
TableKey = tuple[str, str, str]
"""Bucket, path of the schema and name of a table."""


@dataclass(frozen=True)
class Projection:
    """A second order of a table: `sorted` are its leading sort columns, `columns` all it holds."""

    name: str
    handle: int
    sorted: tuple[str, ...]
    unsorted: tuple[str, ...]

    @property
    def columns(self) -> tuple[str, ...]:
        return self.sorted + self.unsorted


@dataclass(frozen=True)
class Table:
    """A table under its handle, which outlives renames."""

    handle: int
    columns: pa.Schema
    sort_key: tuple[str, ...] = ()
    projections: tuple[Projection, ...] = ()
    external_ids: bool = False
    rows: Rows = field(default_factory=Rows)

    def projection(self, name: str) -> Projection:
        for projection in self.projections:
            if projection.name == name:
                return projection
        raise not_found("NoSuchProjection", name)

    def column_names(self, indices: list[int]) -> tuple[str, ...]:
        """The sorting key that these positions of columns mean."""
        if any(not 0 <= index < len(self.columns) for index in indices) or len(set(indices)) != len(indices):
            raise bad_request("InvalidArgument", f"sorting key {indices}")
        return tuple(self.columns.names[index] for index in indices)


@dataclass(frozen=True)
class Database:
    """Everything at one moment. `schemas` maps to the properties, `names` to handles."""

    schemas: Mapping[SchemaKey, str] = field(default_factory=dict)
    names: Mapping[TableKey, int] = field(default_factory=dict)
    tables: Mapping[int, Table] = field(default_factory=dict)

    def table(self, key: TableKey) -> Table:
        handle = self.names.get(key)
        if handle is None:
            raise not_found("NoSuchTable", "/".join(key))
        return self.tables[handle]

    def by_handle(self, handle: int) -> Table:
        table = self.tables.get(handle)
        if table is None:
            raise not_found("NoSuchTable", f"handle {handle}")
        return table

    def key_of(self, handle: int) -> TableKey:
        for key, own in self.names.items():
            if own == handle:
                return key
        raise not_found("NoSuchTable", f"handle {handle}")

    def require_schema(self, bucket: str, path: str) -> None:
        if (bucket, path) not in self.schemas:
            raise not_found("NoSuchSchema", f"{bucket}/{path}")

    def children(self, bucket: str, path: str) -> list[tuple[str, str]]:
        """Names and properties of the schemas directly below `path`, which is empty for a bucket."""
        if path:
            self.require_schema(bucket, path)
        prefix = f"{path}/" if path else ""
        return sorted(
            (own[len(prefix) :], properties)
            for (holder, own), properties in self.schemas.items()
            if holder == bucket and own.startswith(prefix) and "/" not in own[len(prefix) :]
        )

    def tables_in(self, bucket: str, path: str) -> list[tuple[str, Table]]:
        if path:
            self.require_schema(bucket, path)
        return sorted(
            (
                (name, self.tables[handle])
                for (*where, name), handle in self.names.items()
                if where == [bucket, path]
            ),
            key=lambda item: item[0],
        )

    def with_table(self, table: Table) -> "Database":
        return replace(self, tables={**self.tables, table.handle: table})
