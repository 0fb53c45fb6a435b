"""Transactions with snapshot isolation over immutable databases."""

import secrets
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field

import numpy as np

from tests.vast_emulator.catalog import Database, Table
from tests.vast_emulator.errors import Refusal, bad_request, conflict, not_found
from tests.vast_emulator.journal import Journal
from tests.vast_emulator.operations import CreateTable, Delete, Insert, Operation, Update
from tests.vast_emulator.options import Conflicts
from tests.vast_emulator.rows import Ids, ids_of


@dataclass
class Transaction:
    """An open transaction: `view` is its snapshot with its own writes; `plans` are its prepared queries."""

    txid: int
    sequence: int
    base: Database
    view: Database
    last_used: float
    log: list[Operation] = field(default_factory=list)
    plans: dict[object, tuple[Table, object]] = field(default_factory=dict)


class Store:
    """The committed database and the open transactions. Every method is atomic; `clock` counts seconds."""

    def __init__(
        self,
        conflicts: Conflicts,
        *,
        timeout_s: float,
        clock: Callable[[], float],
        journal: Journal | None = None,
    ) -> None:
        self._conflicts = conflicts
        self._timeout_s = timeout_s
        self._clock = clock
        self._journal = journal
        self._lock = threading.RLock()
        self._committed = Database()
        self._sequence = 0
        self._open: dict[int, Transaction] = {}
        self._next_txid = secrets.randbits(40) << 20
        self._next_handle = 1
        self._next_row: dict[int, int] = {}
        self._row_holders: dict[tuple[int, int], int] = {}
        self._row_commits: dict[tuple[int, int], int] = {}
        self._key_holders: dict[object, int] = {}
        self._key_commits: dict[object, int] = {}
        for operations in journal.replay() if journal else ():
            self._recover(operations)

    def _recover(self, operations: tuple[Operation, ...]) -> None:
        for operation in operations:
            self._committed = operation.apply(self._committed)
            if isinstance(operation, CreateTable):
                self._next_handle = max(self._next_handle, operation.table.handle + 1)
            elif isinstance(operation, Insert) and operation.batch.num_rows:
                highest = int(ids_of(operation.batch).max())
                self._next_row[operation.handle] = max(self._next_row.get(operation.handle, 0), highest + 1)

    @property
    def open_transactions(self) -> int:
        with self._lock:
            return len(self._open)

    def begin(self) -> int:
        with self._lock:
            self._expire()
            self._next_txid += 1
            view = self._committed
            self._open[self._next_txid] = Transaction(
                self._next_txid, self._sequence, view, view, self._clock()
            )
            return self._next_txid

    def transaction(self, txid: int) -> Transaction:
        with self._lock:
            self._expire()
            transaction = self._open.get(txid)
            if transaction is None:
                raise not_found("NoSuchTransaction", str(txid))
            transaction.last_used = self._clock()
            return transaction

    @contextmanager
    def using(self, txid: int) -> Iterator[Transaction]:
        """The transaction of a request; without one (0) the request is a transaction by itself."""
        if txid:
            yield self.transaction(txid)
            return
        own = self.begin()
        try:
            yield self.transaction(own)
        except BaseException:
            self.rollback(own)
            raise
        self.commit(own)

    def allocate_handle(self) -> int:
        with self._lock:
            self._next_handle += 1
            return self._next_handle - 1

    def allocate_rows(self, handle: int, count: int) -> Ids:
        """Row ids that no other transaction gets, also not after a rollback."""
        with self._lock:
            start = self._next_row.get(handle, 0)
            self._next_row[handle] = start + count
            return np.arange(start, start + count, dtype=np.uint64)

    def reserve_rows(self, handle: int, ids: Ids) -> None:
        """Keep row ids that the client chose from being allocated."""
        with self._lock:
            self._next_row[handle] = max(self._next_row.get(handle, 0), int(ids.max()) + 1)

    def write(self, transaction: Transaction, operation: Operation) -> None:
        """Apply a change to the view of a transaction; 409 where another transaction is in the way."""
        with self._lock:
            rows = _written_rows(operation)
            self._check_keys(transaction, operation)
            if isinstance(operation, Update | Delete):
                missing = transaction.view.by_handle(operation.handle).rows.missing(operation.row_ids)
                if len(missing):
                    raise bad_request(
                        "NoSuchRow", f"{len(missing)} row ids are of no row, as {int(missing[0])}"
                    )
            self._check_rows(transaction, rows)
            transaction.view = operation.apply(transaction.view)
            transaction.log.append(operation)
            self._key_holders.update(dict.fromkeys(operation.keys, transaction.txid))
            if self._conflicts in ("update", "locks"):
                self._row_holders.update(dict.fromkeys(rows, transaction.txid))

    def _check_keys(self, transaction: Transaction, operation: Operation) -> None:
        for key in operation.keys:
            if self._key_holders.get(key, transaction.txid) != transaction.txid:
                raise conflict("TabularConflict", f"another transaction changes {key}")
            if self._key_commits.get(key, 0) > transaction.sequence:
                raise conflict("TabularConflict", f"{key} changed since the transaction began")

    def _check_rows(self, transaction: Transaction, rows: list[tuple[int, int]]) -> None:
        if self._conflicts in ("update", "locks") and any(
            self._row_holders.get(row, transaction.txid) != transaction.txid for row in rows
        ):
            raise conflict("TabularConflict", "another transaction writes the row")
        if self._conflicts == "update":
            self._refuse_stale(transaction, rows)

    def _refuse_stale(self, transaction: Transaction, rows: list[tuple[int, int]]) -> None:
        if any(self._row_commits.get(row, 0) > transaction.sequence for row in rows):
            raise conflict("TabularConflict", "the row changed since the transaction began")

    def commit(self, txid: int) -> None:
        """Make a transaction's writes the newest version; refused with 409 it is rolled back."""
        with self._lock:
            transaction = self.transaction(txid)
            try:
                if transaction.log:
                    self._install(transaction)
            finally:
                self._end(txid)

    def _install(self, transaction: Transaction) -> None:
        rows = [row for operation in transaction.log for row in _written_rows(operation)]
        if self._conflicts == "commit":
            self._refuse_stale(transaction, rows)
        database = transaction.view
        if self._sequence != transaction.sequence:
            database = self._replayed(transaction)
        if self._journal:
            self._journal.append(tuple(transaction.log))
        self._committed = database
        self._sequence += 1
        self._row_commits.update(dict.fromkeys(rows, self._sequence))
        keys = (key for operation in transaction.log for key in operation.keys)
        self._key_commits.update(dict.fromkeys(keys, self._sequence))

    def _replayed(self, transaction: Transaction) -> Database:
        database = self._committed
        try:
            for operation in transaction.log:
                database = operation.apply(database)
        except Refusal as exc:
            raise conflict("TabularConflict", exc.message) from exc
        return database

    def rollback(self, txid: int) -> None:
        with self._lock:
            self.transaction(txid)
            self._end(txid)

    def _end(self, txid: int) -> None:
        del self._open[txid]
        self._row_holders = {row: holder for row, holder in self._row_holders.items() if holder != txid}
        self._key_holders = {key: holder for key, holder in self._key_holders.items() if holder != txid}
        if not self._open:
            self._row_commits.clear()
            self._key_commits.clear()

    def _expire(self) -> None:
        oldest = self._clock() - self._timeout_s
        for txid in [txid for txid, own in self._open.items() if own.last_used < oldest]:
            self._end(txid)


def _written_rows(operation: Operation) -> list[tuple[int, int]]:
    if isinstance(operation, Update | Delete):
        return [(operation.handle, int(row)) for row in operation.row_ids]
    return []
