"""Handlers of rows: insert, update, delete and query."""

import hashlib
from typing import cast

import numpy as np
import pyarrow as pa

from tests.vast_emulator import columns, operations, relation, rows, wire
from tests.vast_emulator import query as queries
from tests.vast_emulator.catalog import Table
from tests.vast_emulator.counts import Counts
from tests.vast_emulator.errors import bad_request
from tests.vast_emulator.mvcc import Store, Transaction
from tests.vast_emulator.options import Options
from tests.vast_emulator.wire import Reply, Request

EXTERNAL_ROW_ID = "vastdb_rowid"


class Data:
    """Answers requests for rows, within the transaction given."""

    def __init__(self, options: Options, store: Store, counts: Counts) -> None:
        self._options = options
        self._store = store
        self._counts = counts

    def insert(self, request: Request, transaction: Transaction) -> Reply:
        table = transaction.view.table(request.table_key())
        batch = wire.read_batch(request.body)
        columns.check_batch(batch, table.columns)
        if rows.ROW_ID in batch.schema.names:
            raise bad_request("InvalidArgument", "an insert names no row ids")
        external = EXTERNAL_ROW_ID in batch.schema.names
        ids = (
            self._chosen_ids(table, batch)
            if external
            else self._store.allocate_rows(table.handle, len(batch))
        )
        given = batch.add_column(0, pa.field(rows.ROW_ID, pa.uint64()), pa.array(ids, pa.uint64()))
        whole = rows.conformed(given, table.columns)
        self._store.write(transaction, operations.Insert(table.handle, whole, external))
        told = rows.encode_ids(ids, bool(table.sort_key))
        reply = pa.record_batch([told], names=[rows.ROW_ID])
        return Reply(body=wire.stream(reply.schema, [reply]))

    def _chosen_ids(self, table: Table, batch: pa.RecordBatch) -> rows.Ids:
        column = batch.column(EXTERNAL_ROW_ID)
        values = column.to_numpy(zero_copy_only=False)
        if column.null_count or len(set(values)) != len(values) or (len(values) and values.min() < 0):
            raise bad_request("InvalidArgument", "external row ids are unique and not negative")
        ids: rows.Ids = values.astype(np.uint64)
        if len(table.rows.missing(ids)) != len(ids):
            raise bad_request("InvalidArgument", "an external row id is taken")
        if len(ids):
            self._store.reserve_rows(table.handle, ids)
        return ids

    def update(self, request: Request, transaction: Transaction) -> Reply:
        table = transaction.view.table(request.table_key())
        batch = wire.read_batch(request.body)
        columns.check_batch(batch, table.columns)
        fixed = set(batch.schema.names) & set(table.sort_key)
        if fixed:
            raise bad_request("TabularCannotUpdateSortedColumn", ", ".join(sorted(fixed)))
        ids = self._row_ids(table, batch)
        place = batch.schema.get_field_index(rows.ROW_ID)
        plain = batch.set_column(place, pa.field(rows.ROW_ID, pa.uint64()), pa.array(ids, pa.uint64()))
        if len(ids):
            self._store.write(transaction, operations.Update(table.handle, plain))
        return Reply()

    def delete(self, request: Request, transaction: Transaction) -> Reply:
        table = transaction.view.table(request.table_key())
        ids = self._row_ids(table, wire.read_batch(request.body))
        if len(ids):
            self._store.write(transaction, operations.Delete(table.handle, ids))
        return Reply()

    def _row_ids(self, table: Table, batch: pa.RecordBatch) -> rows.Ids:
        if rows.ROW_ID not in batch.schema.names:
            raise bad_request("InvalidArgument", "no row ids")
        column = batch.column(rows.ROW_ID)
        ids = rows.decode_ids(column, bool(table.sort_key))
        if ids is None:
            raise bad_request("TabularMismatchColumnType", f"row ids of type {column.type}")
        if len(np.unique(ids)) != len(ids):
            raise bad_request("InvalidArgument", "a row id twice")
        return ids

    def query(self, request: Request, transaction: Transaction) -> Reply:
        key = request.table_key()
        table = transaction.view.table(key)
        if request.number("tabular-schedule-id", 0) < 0:
            raise bad_request("InvalidArgument", "tabular-schedule-id")
        layout = queries.layout(request)
        asked, prepared = self._prepared(request, transaction, table)
        if layout.split == wire.ESTIMATE_SPLIT:
            return Reply(body=queries.estimate(prepared), streamed=True)
        if layout.split >= layout.splits:
            raise bad_request("InvalidArgument", f"split {layout.split} of {layout.splits}")
        limit = request.number("tabular-limit-rows", 0) or queries.MAX_PAGE_ROWS
        frames: list[bytes] = []
        read = scanned = 0
        for sub, cursor in queries.cursors(request):
            if sub >= layout.subs:
                raise bad_request("InvalidArgument", f"sub-split {sub} of {layout.subs}")
            page = prepared.page(layout, sub, cursor, min(limit, queries.MAX_PAGE_ROWS))
            if self._options.scramble:
                page = queries.Page(page.indices[::-1], page.next_row_id, page.scanned)
            read += len(page.indices)
            scanned += page.scanned
            frames.extend(queries.body(table, asked, prepared, sub, page))
        self._counts.query("/".join(key), read, scanned)
        return Reply(body=b"".join([wire.keep_alive(), *frames, wire.completed()]), streamed=True)

    def _prepared(
        self, request: Request, transaction: Transaction, table: Table
    ) -> tuple[relation.Query, queries.Plan]:
        """The plan of a query, kept in the transaction for its further pages until the table changes."""
        name = request.query.get("name", "")
        automatic = request.flag("tabular-enable-sorted-projections")
        key = (table.handle, hashlib.sha256(request.body).digest(), name, automatic)
        known = transaction.plans.get(key)
        if known is None or known[0] is not table:
            asked = relation.read(request.body)
            known = (table, (asked, queries.plan(table, asked, name, automatic)))
            transaction.plans[key] = known
        return cast(tuple[relation.Query, queries.Plan], known[1])
