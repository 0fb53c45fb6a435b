"""One transaction on a VAST cluster: reading and writing rows in it."""

from __future__ import annotations

import random
import threading
import uuid
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import closing
from typing import Any, Final, TypeVar

import pyarrow as pa
import urllib3
from vastdb import _internal, util
from vastdb.transaction import Transaction

from store import errors
from store.metadata.vast_api import Transient, VastConfig, VastSession
from store.metadata.vast_predicates import Condition, among, chunks, expression
from store.metadata.vast_tables import CELL_BYTES, ROW_ID, Table

T = TypeVar("T")
Record = tuple[Any, ...]
Ids = list[Any]

NUMBERS: Final = 1 << 20
"""How many numbers a call may use for what it writes: a thousandth of a second of the clock's."""
PAGE_ROWS: Final = 64 * 1024
FIRST_PAUSE_S: Final = 0.004
LONGEST_PAUSE_S: Final = 0.4

# The SDK's own, where a reply ends early or makes no sense.
_BROKEN = (
    urllib3.exceptions.HTTPError,
    _internal.QueryDataInternalError,
    EOFError,
    OSError,
    pa.ArrowException,
    _internal.struct.error,
)


class Tx:
    """One transaction under way, for one thread. `nonce` is unique to the call, the same in every attempt.

    `attempt` counts from 0; `stamp` is taken when it begins. Columns come in the order asked for; row ids,
    last, are opaque.
    """

    def __init__(
        self,
        session: VastSession,
        config: VastConfig,
        tables: Mapping[str, Table],
        nonce: str,
        stamp: int,
        now_ns: int,
        attempt: int,
    ) -> None:
        self._session = session
        self._config = config
        self._api = session.api
        self._tables = tables
        self.nonce = nonce
        self.attempt = attempt
        self.wrote = False
        self.stamp = stamp
        self.now_ns = now_ns
        self._numbers = 0
        txid = _txid(self._api.begin_transaction().headers)
        self.sdk = Transaction(_rpc=session, _session_context=session._context, txid=txid)
        self.txid = txid

    def number(self) -> int:
        """The next of this transaction's numbers: greater than those of all that ended, in this process,
        before it began."""
        self._numbers += 1
        return self.stamp + self._numbers - 1

    def select(
        self,
        table: str,
        columns: Sequence[str],
        *conditions: Condition,
        limit: int | None = None,
        row_ids: bool = False,
    ) -> list[Record]:
        """Rows that meet the conditions, in no order; any `limit` of them where more do."""
        rows: list[Record] = []
        for chunk in self.stream(table, columns, *conditions, limit=limit, row_ids=row_ids):
            rows.extend(zip(*(column.to_pylist() for column in chunk.columns), strict=True))
        return rows if limit is None else rows[:limit]

    def select_among(
        self,
        table: str,
        columns: Sequence[str],
        column: str,
        values: Sequence[str | int],
        *conditions: Condition,
        row_ids: bool = False,
    ) -> list[Record]:
        """Rows whose column is any of many values."""
        return [
            row
            for piece in chunks(values)
            for row in self.select(table, columns, among(column, piece), *conditions, row_ids=row_ids)
        ]

    def count(self, table: str, *conditions: Condition, limit: int | None = None) -> int:
        """How many rows meet the conditions, up to the limit."""
        found = 0
        for chunk in self.stream(table, (), *conditions, limit=limit):
            found += chunk.num_rows
        return found if limit is None else min(found, limit)

    def stream(
        self,
        table: str,
        columns: Sequence[str],
        *conditions: Condition,
        limit: int | None = None,
        row_ids: bool = False,
    ) -> Iterator[pa.Table]:
        """Rows page by page, in bounded memory. To be drained before the transaction ends."""
        if any(condition.is_void for condition in conditions) or limit == 0:
            return
        known = self._tables[table]
        names = [*columns, ROW_ID] if row_ids else list(columns)
        request = _internal.build_query_data_request(
            known.schema, expression(known.rows, known.schema, conditions), names
        )
        if len(request.serialized) > util.MAX_QUERY_DATA_REQUEST_SIZE:
            raise errors.BadRequest("Too much is asked for at once.")
        cursor, left = 0, limit
        while cursor != _internal.TABULAR_INVALID_ROW_ID and (left is None or left > 0):
            size = PAGE_ROWS if left is None else min(left, PAGE_ROWS)
            for following, chunk in self._page(known, request, cursor, size):
                cursor = following
                left = None if left is None else left - chunk.num_rows
                if chunk.num_rows:
                    yield chunk

    def _page(self, table: Table, request: Any, cursor: int, size: int) -> list[tuple[int, pa.Table]]:
        ref = table.metadata.ref
        response = self._api.query_data(
            bucket=ref.bucket,
            schema=ref.schema,
            table=ref.table,
            params=request.serialized,
            split=(0, 1, 8),
            num_sub_splits=1,
            txid=self.txid,
            limit_rows=size,
            sub_split_start_row_ids=[(0, cursor)],
        )
        with closing(response):
            try:
                found = _internal.parse_query_data_response(
                    conn=response.raw, schema=request.response_schema, parser=request.response_parser
                )
                pages = [(next_row_id, chunk) for _, next_row_id, chunk in found]
            except _BROKEN as exc:
                raise Transient(f"an answer about {ref.table} broke off") from exc
        if not pages:
            raise Transient(f"an answer about {ref.table} was empty")
        return pages

    def insert(self, table: str, rows: Sequence[Mapping[str, Any]]) -> None:
        """Write new rows; columns that a row does not name are null."""
        if not rows:
            return
        known = self._tables[table]
        fields = [field for field in known.schema if field.name != ROW_ID]
        arrays = [_array([row.get(field.name) for row in rows], field.type) for field in fields]
        self._write(table).insert(pa.record_batch(arrays, schema=pa.schema(fields)))

    def update(self, table: str, ids: Sequence[Any], columns: Mapping[str, Sequence[Any]]) -> None:
        """Set columns of rows. Raises the SDK's Conflict when another transaction wrote one."""
        if not ids:
            return
        known = self._tables[table]
        fields = [known.row_id, *(known.schema.field(name) for name in columns)]
        arrays = [pa.array(ids, known.row_id.type)]
        arrays += [_array(values, known.schema.field(name).type) for name, values in columns.items()]
        self._write(table).update(pa.table(arrays, schema=pa.schema(fields)))

    def touch(self, table: str, ids: Sequence[Any]) -> None:
        """Write rows that this transaction relies on, so that none can change them meanwhile."""
        self.update(table, ids, {"guard": [self.nonce] * len(ids)})

    def delete(self, table: str, ids: Sequence[Any]) -> None:
        """Remove rows."""
        if ids:
            known = self._tables[table]
            schema = pa.schema([known.row_id])
            self._write(table).delete(pa.table([pa.array(ids, known.row_id.type)], schema=schema))

    @property
    def bucket(self) -> str:
        """The bucket that the tables are in."""
        return self._config.bucket

    def another(self) -> Tx:
        """Another transaction, to be ended by the caller."""
        return Tx(
            self._session, self._config, self._tables, uuid.uuid4().hex, self.stamp, self.now_ns, self.attempt
        )

    def commit(self) -> None:
        """Commit without more ado, as only a probe may: an unanswered commit is not looked into."""
        self._api.commit_transaction(self.txid)
        self.wrote = False

    def roll_back(self) -> None:
        """End the transaction, as if it had never been."""
        self._api.rollback_transaction(self.txid)

    def _write(self, table: str) -> Any:
        self.wrote = True
        return self.sdk.table_from_metadata(self._tables[table].metadata)


def _array(values: Sequence[Any], kind: pa.DataType) -> pa.Array:
    """A column. Raises `errors.BadRequest` for what no cell holds."""
    try:
        made = pa.array(values, kind)
    except (OverflowError, UnicodeError, pa.ArrowException) as exc:
        raise errors.BadRequest("A value cannot be stored: beyond 64 bits, or not valid Unicode.") from exc
    if kind != pa.int64() and made.nbytes > CELL_BYTES:
        longest = max((len(v if isinstance(v, bytes) else v.encode()) for v in values if v), default=0)
        if longest > CELL_BYTES:
            raise errors.BadRequest(f"A document or value is larger than the {CELL_BYTES} bytes of a cell.")
    return made


class Stamps:
    """Numbers that grow with every one taken, in this process by order, elsewhere by its clock.

    The lowest bits are random, so that two processes hardly ever take the same.
    """

    def __init__(self, now_ns: Callable[[], int]) -> None:
        self.now_ns = now_ns
        self._last = 0
        self._lock = threading.Lock()

    def take(self) -> int:
        """The first of `NUMBERS` that follow each other."""
        with self._lock:
            first = max((self.now_ns() & ~0xFFF) | random.getrandbits(12), self._last + 1)
            self._last = first + NUMBERS - 1
            return first


def _txid(headers: Mapping[str, str]) -> int:
    """The transaction that has begun. Raises `Transient` where an answer that was cut short does not say."""
    try:
        return int(headers["tabular-txid"])
    except (KeyError, ValueError) as exc:
        raise Transient("the cluster does not say which transaction has begun") from exc
