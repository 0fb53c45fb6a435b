"""Every change of a database as a value: applied, replayed at commit, written to the journal."""

from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import Protocol

import pyarrow as pa

from tests.vast_emulator.catalog import Database, Projection, SchemaKey, Table, TableKey
from tests.vast_emulator.errors import bad_request, conflict, not_found
from tests.vast_emulator.rows import ROW_ID, Ids, conformed, ids_of


class Operation(Protocol):
    """A change. `apply` refuses what is not possible; two open transactions never share a key."""

    @property
    def keys(self) -> frozenset[object]: ...

    def apply(self, database: Database) -> Database: ...


@dataclass(frozen=True)
class CreateSchema:
    bucket: str
    path: str
    properties: str

    @property
    def keys(self) -> frozenset[object]:
        return frozenset([(self.bucket, self.path)])

    def apply(self, database: Database) -> Database:
        if (self.bucket, self.path) in database.schemas:
            raise conflict("SchemaAlreadyExists", self.path)
        parent = self.path.rpartition("/")[0]
        if parent:
            database.require_schema(self.bucket, parent)
        return replace(database, schemas={**database.schemas, (self.bucket, self.path): self.properties})


@dataclass(frozen=True)
class DropSchema:
    bucket: str
    path: str

    @property
    def keys(self) -> frozenset[object]:
        return frozenset([(self.bucket, self.path)])

    def apply(self, database: Database) -> Database:
        if database.children(self.bucket, self.path) or database.tables_in(self.bucket, self.path):
            raise conflict("SchemaNotEmpty", self.path)
        own = (self.bucket, self.path)
        return replace(database, schemas={k: v for k, v in database.schemas.items() if k != own})


@dataclass(frozen=True)
class RenameSchema:
    """Gives a schema, and with it all below it, another path."""

    bucket: str
    path: str
    new_path: str

    @property
    def keys(self) -> frozenset[object]:
        return frozenset([(self.bucket, self.path), (self.bucket, self.new_path)])

    def apply(self, database: Database) -> Database:
        database.require_schema(self.bucket, self.path)
        if (self.bucket, self.new_path) in database.schemas:
            raise conflict("SchemaAlreadyExists", self.new_path)

        def moved(bucket: str, path: str) -> SchemaKey:
            inside = bucket == self.bucket and (path == self.path or path.startswith(f"{self.path}/"))
            return (bucket, self.new_path + path[len(self.path) :]) if inside else (bucket, path)

        return replace(
            database,
            schemas={moved(*key): properties for key, properties in database.schemas.items()},
            names={(*moved(*key[:2]), key[2]): handle for key, handle in database.names.items()},
        )


def _named(names: Mapping[TableKey, int], key: TableKey, handle: int) -> dict[TableKey, int]:
    if key in names:
        raise conflict("TableAlreadyExists", "/".join(key))
    return {**{k: h for k, h in names.items() if h != handle}, key: handle}


@dataclass(frozen=True)
class CreateTable:
    key: TableKey
    table: Table

    @property
    def keys(self) -> frozenset[object]:
        return frozenset([self.key])

    def apply(self, database: Database) -> Database:
        database.require_schema(*self.key[:2])
        names = _named(database.names, self.key, self.table.handle)
        return replace(database, names=names).with_table(self.table)


@dataclass(frozen=True)
class DropTable:
    handle: int

    @property
    def keys(self) -> frozenset[object]:
        return frozenset([self.handle])

    def apply(self, database: Database) -> Database:
        database.by_handle(self.handle)
        return replace(
            database,
            names={k: h for k, h in database.names.items() if h != self.handle},
            tables={h: t for h, t in database.tables.items() if h != self.handle},
        )


@dataclass(frozen=True)
class RenameTable:
    handle: int
    key: TableKey

    @property
    def keys(self) -> frozenset[object]:
        return frozenset([self.handle, self.key])

    def apply(self, database: Database) -> Database:
        database.by_handle(self.handle)
        database.require_schema(*self.key[:2])
        return replace(database, names=_named(database.names, self.key, self.handle))


@dataclass(frozen=True)
class SetColumns:
    """Gives a table other columns; `renamed` maps old names to new ones."""

    handle: int
    before: pa.Schema
    after: pa.Schema
    renamed: tuple[tuple[str, str], ...] = ()

    @property
    def keys(self) -> frozenset[object]:
        return frozenset([self.handle])

    def apply(self, database: Database) -> Database:
        table = database.by_handle(self.handle)
        if table.columns != self.before:
            raise conflict("TabularSchemaChanged", f"handle {self.handle}")
        names = dict(self.renamed)
        held = set(table.sort_key).union(*(projection.columns for projection in table.projections))
        gone = held - set(names) - set(self.after.names)
        if gone:
            raise bad_request("InvalidArgument", f"columns in use: {sorted(gone)}")

        def told(own: tuple[str, ...]) -> tuple[str, ...]:
            return tuple(names.get(name, name) for name in own)

        return database.with_table(
            replace(
                table,
                columns=self.after,
                rows=table.rows.mapped(self.after, names),
                sort_key=told(table.sort_key),
                projections=tuple(
                    replace(p, sorted=told(p.sorted), unsorted=told(p.unsorted)) for p in table.projections
                ),
            )
        )


@dataclass(frozen=True)
class SetSortKey:
    handle: int
    sort_key: tuple[str, ...]

    @property
    def keys(self) -> frozenset[object]:
        return frozenset([self.handle])

    def apply(self, database: Database) -> Database:
        table = database.by_handle(self.handle)
        if table.sort_key:
            raise bad_request("InvalidArgument", "the table has a sorting key")
        return database.with_table(replace(table, sort_key=self.sort_key))


@dataclass(frozen=True)
class SetProjection:
    """Creates, replaces or, with `projection` None, drops the projection `name`."""

    handle: int
    name: str
    projection: Projection | None
    create: bool = False

    @property
    def keys(self) -> frozenset[object]:
        return frozenset([(self.handle, self.name)])

    def apply(self, database: Database) -> Database:
        table = database.by_handle(self.handle)
        others = tuple(p for p in table.projections if p.name != self.name)
        if self.create and len(others) != len(table.projections):
            raise conflict("ProjectionAlreadyExists", self.name)
        if not self.create and len(others) == len(table.projections):
            raise not_found("NoSuchProjection", self.name)
        new = self.projection
        if new is not None:
            unknown = set(new.columns) - set(table.columns.names)
            if unknown or not new.sorted:
                raise bad_request("InvalidArgument", f"columns of a projection: {sorted(unknown)}")
            if any(p.name == new.name for p in others):
                raise conflict("ProjectionAlreadyExists", new.name)
        return database.with_table(replace(table, projections=others + ((new,) if new is not None else ())))


@dataclass(frozen=True)
class Insert:
    """New rows: `$row_id` and all the columns of the table."""

    handle: int
    batch: pa.RecordBatch
    external_ids: bool = False

    @property
    def keys(self) -> frozenset[object]:
        return frozenset()

    def apply(self, database: Database) -> Database:
        table = database.by_handle(self.handle)
        added = conformed(self.batch, table.columns)
        return database.with_table(
            replace(
                table, rows=table.rows.appended(added), external_ids=table.external_ids or self.external_ids
            )
        )


@dataclass(frozen=True)
class Update:
    """Other cells for rows: `$row_id` and the columns to set."""

    handle: int
    batch: pa.RecordBatch

    @property
    def keys(self) -> frozenset[object]:
        return frozenset()

    @property
    def row_ids(self) -> Ids:
        return ids_of(self.batch)

    def apply(self, database: Database) -> Database:
        table = database.by_handle(self.handle)
        names = set(self.batch.schema.names) - {ROW_ID}
        if not names <= set(table.columns.names):
            raise conflict("TabularSchemaChanged", f"handle {self.handle}")
        return database.with_table(replace(table, rows=table.rows.updated(self.batch)))


@dataclass(frozen=True)
class Delete:
    handle: int
    row_ids: Ids

    @property
    def keys(self) -> frozenset[object]:
        return frozenset()

    def apply(self, database: Database) -> Database:
        table = database.by_handle(self.handle)
        return database.with_table(replace(table, rows=table.rows.without(self.row_ids)))
