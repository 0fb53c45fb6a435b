"""Handlers of schemas, tables, columns and projections."""

from collections.abc import Sequence
from dataclasses import replace

import pyarrow as pa
from vastdb.vast_flatbuf.tabular.AlterProjectionTableRequest import AlterProjectionTableRequest
from vastdb.vast_flatbuf.tabular.ColumnType import ColumnType
from vastdb.vast_flatbuf.tabular.CreateProjectionRequest import CreateProjectionRequest
from vastdb.vast_flatbuf.tabular.CreateSchemaRequest import CreateSchemaRequest

from tests.vast_emulator import columns, flat, listing, operations, wire
from tests.vast_emulator.catalog import Projection, Table
from tests.vast_emulator.errors import Refusal, bad_request, not_emulated, not_found
from tests.vast_emulator.mvcc import Store, Transaction
from tests.vast_emulator.options import MAX_LISTING_BYTES, Options
from tests.vast_emulator.wire import Reply, Request


class Definitions:
    """Answers requests that define or list things, within the transaction given."""

    def __init__(self, options: Options, store: Store) -> None:
        self._options = options
        self._store = store

    def create_schema(self, request: Request, transaction: Transaction) -> Reply:
        bucket, path = request.parts()
        properties = CreateSchemaRequest.GetRootAs(request.body).Properties() or b""
        self._store.write(transaction, operations.CreateSchema(bucket, path, properties.decode()))
        return Reply()

    def alter_schema(self, request: Request, transaction: Transaction) -> Reply:
        bucket, path = request.parts()
        new_path = request.query.get("tabular-new-schema-name")
        if not new_path:
            raise not_emulated("properties of schemas")
        self._store.write(transaction, operations.RenameSchema(bucket, path, new_path))
        return Reply()

    def drop_schema(self, request: Request, transaction: Transaction) -> Reply:
        self._store.write(transaction, operations.DropSchema(*request.parts()))
        return Reply()

    def list_schemas(self, request: Request, transaction: Transaction) -> Reply:
        bucket, path = request.parts()
        found = transaction.view.children(bucket, path)
        items, headers = listing.page(request, found, [name for name, _ in found])
        return Reply(
            headers=headers, body=flat.schemas(bucket, [flat.Details(n, properties=p) for n, p in items])
        )

    def create_table(self, request: Request, transaction: Transaction) -> Reply:
        schema = wire.read_schema(request.body)
        if any(key.startswith(b"VAST:table:partition") for key in schema.metadata or {}):
            raise not_emulated("partitioned tables")
        if "tabular-vector-index-column" in request.headers:
            raise not_emulated("vector indexes")
        table = Table(self._store.allocate_handle(), columns.check_columns(schema))
        table = replace(table, sort_key=self._sort_key(request, table))
        self._store.write(transaction, operations.CreateTable(request.table_key(), table))
        return Reply()

    def _sort_key(self, request: Request, table: Table) -> tuple[str, ...]:
        count = sum(name.startswith("tabular-sorted-column-") for name in request.headers)
        indices = [request.number(f"tabular-sorted-column-{place}", -1) for place in range(count)]
        try:
            return table.column_names(indices)
        except Refusal as exc:
            if self._options.version == "5.4":
                raise Refusal(500, "InternalError", "We encountered an internal error") from exc
            raise

    def alter_table(self, request: Request, transaction: Transaction) -> Reply:
        bucket, *_ = key = request.table_key()
        table = transaction.view.table(key)
        new_name = request.query.get("tabular-new-table-name")
        if new_name:
            schema, _, name = new_name.rpartition("/")
            self._store.write(transaction, operations.RenameTable(table.handle, (bucket, schema, name)))
        sort_key = self._sort_key(request, table)
        if sort_key:
            self._store.write(transaction, operations.SetSortKey(table.handle, sort_key))
        return Reply()

    def drop_table(self, request: Request, transaction: Transaction) -> Reply:
        table = transaction.view.table(request.table_key())
        self._store.write(transaction, operations.DropTable(table.handle))
        return Reply()

    def list_tables(self, request: Request, transaction: Transaction) -> Reply:
        bucket, path = request.parts()
        found = transaction.view.tables_in(bucket, path)
        items, headers = listing.page(request, found, [name for name, _ in found])
        details = [
            flat.Details(n, t.handle, t.rows.num_rows, t.rows.size_bytes, bool(t.sort_key)) for n, t in items
        ]
        return Reply(headers=headers, body=flat.tables(bucket, path, details))

    def list_columns(self, request: Request, transaction: Transaction) -> Reply:
        table = transaction.view.table(request.table_key())
        shown = columns.listed(table.columns, table.sort_key, self._options.partitions)
        return self._columns(request, list(shown))

    def list_sorted_columns(self, request: Request, transaction: Transaction) -> Reply:
        table = transaction.view.table(request.table_key())
        if not table.sort_key:
            raise bad_request("InvalidArgument", "Listing sorted columns without elysium being enabled")
        shown = columns.listed(table.columns, table.sort_key, self._options.partitions)
        return self._columns(request, [shown.field(name) for name in table.sort_key])

    def _columns(self, request: Request, fields: Sequence[pa.Field]) -> Reply:
        items, headers = listing.page(request, fields, [field.name for field in fields])
        body = wire.stream(pa.schema(items), [])
        names_only = self._options.version != "5.4" and "tabular-only-column-names" in request.headers
        if len(body) > MAX_LISTING_BYTES and not names_only:
            raise bad_request("InvalidArgument", f"list column result size {len(body)} is too long")
        return Reply(headers=headers, body=body)

    def add_columns(self, request: Request, transaction: Transaction) -> Reply:
        table = transaction.view.table(request.table_key())
        added = columns.check_columns(wire.read_schema(request.body))
        after = columns.check_columns(pa.schema([*table.columns, *added]))
        return self._set_columns(transaction, table, after)

    def drop_columns(self, request: Request, transaction: Transaction) -> Reply:
        table = transaction.view.table(request.table_key())
        gone = set(wire.read_schema(request.body).names)
        self._require_columns(table, gone)
        return self._set_columns(
            transaction, table, pa.schema([c for c in table.columns if c.name not in gone])
        )

    def rename_column(self, request: Request, transaction: Transaction) -> Reply:
        table = transaction.view.table(request.table_key())
        old, new = (request.query.get(f"tabular-{which}column-name", "") for which in ("", "new-"))
        self._require_columns(table, {old})
        after = columns.check_columns(
            pa.schema([c.with_name(new) if c.name == old else c for c in table.columns])
        )
        return self._set_columns(transaction, table, after, ((old, new),))

    def _require_columns(self, table: Table, names: set[str]) -> None:
        unknown = names - set(table.columns.names)
        if unknown:
            raise not_found("TabularNoSuchColumn", ", ".join(sorted(unknown)))

    def _set_columns(
        self,
        transaction: Transaction,
        table: Table,
        after: pa.Schema,
        renamed: tuple[tuple[str, str], ...] = (),
    ) -> Reply:
        change = operations.SetColumns(table.handle, table.columns, after, renamed)
        self._store.write(transaction, change)
        return Reply()

    def stats(self, request: Request, transaction: Transaction) -> Reply:
        table = transaction.view.table(request.table_key())
        rows = table.rows
        body = flat.table_stats(
            rows.num_rows, rows.size_bytes, table.external_ids, bool(table.sort_key), self._options.vips
        )
        return Reply(body=body)

    def create_projection(self, request: Request, transaction: Transaction) -> Reply:
        table = transaction.view.table(request.table_key())
        asked = CreateProjectionRequest.GetRootAs(request.body)
        chosen = [asked.Columns(index) for index in range(asked.ColumnsLength())]
        ordered = tuple(c.Name().decode() for c in chosen if c.Type() == ColumnType.Sorted)
        other = tuple(c.Name().decode() for c in chosen if c.Type() != ColumnType.Sorted)
        name = request.query.get("name", "")
        made = Projection(name, self._store.allocate_handle(), ordered, other)
        self._store.write(transaction, operations.SetProjection(table.handle, name, made, create=True))
        return Reply()

    def rename_projection(self, request: Request, transaction: Transaction) -> Reply:
        table = transaction.view.table(request.table_key())
        old = table.projection(request.query.get("name", ""))
        new_name = AlterProjectionTableRequest.GetRootAs(request.body).NewName()
        if not new_name:
            raise not_emulated("properties of projections")
        made = replace(old, name=new_name.decode())
        self._store.write(transaction, operations.SetProjection(table.handle, old.name, made))
        return Reply()

    def drop_projection(self, request: Request, transaction: Transaction) -> Reply:
        table = transaction.view.table(request.table_key())
        name = request.query.get("name", "")
        self._store.write(transaction, operations.SetProjection(table.handle, name, None))
        return Reply()

    def list_projections(self, request: Request, transaction: Transaction) -> Reply:
        bucket, schema, name = request.table_key()
        table = transaction.view.table((bucket, schema, name))
        items, headers = listing.page(request, table.projections, [p.name for p in table.projections])
        rows = table.rows
        details = [flat.Details(p.name, p.handle, rows.num_rows, rows.size_bytes, True) for p in items]
        return Reply(headers=headers, body=flat.projections(bucket, schema, name, details))

    def projection_columns(self, request: Request, transaction: Transaction) -> Reply:
        table = transaction.view.table(request.table_key())
        projection = table.projection(request.query.get("name", ""))
        shown = columns.listed(table.columns, projection.sorted, True)
        return self._columns(request, [shown.field(name) for name in projection.columns])

    def projection_stats(self, request: Request, transaction: Transaction) -> Reply:
        table = transaction.view.table(request.table_key())
        table.projection(request.query.get("name", ""))
        return Reply(body=flat.projection_stats(table.rows.num_rows, table.rows.size_bytes))
