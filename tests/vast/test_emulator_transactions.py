"""What the emulator's transactions promise, seen through the real SDK."""

from typing import Any

import pyarrow as pa
import pytest
from vastdb import errors

from tests.vast.support import COLUMNS, ROW_ID, create, flows, once
from tests.vast_emulator.errors import Refusal
from tests.vast_emulator.mvcc import Store
from tests.vast_emulator.operations import CreateSchema

MODES = ["update", "commit", "locks", "none"]


class Rows:
    """One table in one transaction."""

    def __init__(self, tx: Any, metadata: Any, config: Any) -> None:
        self.table = tx.table_from_metadata(metadata)
        self.config = config

    def labels(self) -> dict[str, str]:
        found = self.table.select(columns=["id", "label"], config=self.config).read_all()
        return dict(zip(*found.to_pydict().values(), strict=True))

    def relabel(self, flow: str, label: str) -> None:
        found = self.table.select(
            columns=["id"], predicate=self.table["id"] == flow, config=self.config, internal_row_id=True
        ).read_all()
        self.table.update(pa.table({ROW_ID: found[ROW_ID], "label": [label]}))

    def delete(self, flow: str) -> None:
        self.table.delete(
            self.table.select(
                columns=["id"], predicate=self.table["id"] == flow, config=self.config, internal_row_id=True
            ).read_all()
        )


@pytest.fixture
def opened(start: Any, connect: Any) -> Any:
    def _opened(**options: Any) -> Any:
        emulator = start(**options)
        session = connect(emulator)
        metadata = create(session, flows("a", "b", label="old"))
        return emulator, session, lambda tx: Rows(tx, metadata, once(emulator))

    return _opened


def test_own_writes_are_seen_and_others_are_not_before_commit(opened: Any) -> None:
    _, session, rows = opened()
    with session.transaction() as reader:
        with session.transaction() as writer:
            rows(writer).table.insert(flows("c", label="new"))
            rows(writer).relabel("a", "new")
            rows(writer).delete("b")
            assert rows(writer).labels() == {"a": "new", "c": "new"}
            assert rows(reader).labels() == {"a": "old", "b": "old"}
        assert rows(reader).labels() == {"a": "old", "b": "old"}
    with session.transaction() as tx:
        assert rows(tx).labels() == {"a": "new", "c": "new"}


def test_an_exception_rolls_back(opened: Any) -> None:
    emulator, session, rows = opened()
    with pytest.raises(ZeroDivisionError), session.transaction() as tx:
        rows(tx).relabel("a", "new")
        raise ZeroDivisionError
    assert emulator.tally().requests["rollback"] == 1
    with session.transaction() as tx:
        assert rows(tx).labels() == {"a": "old", "b": "old"}


@pytest.mark.parametrize("mode", MODES)
def test_inserts_never_conflict(opened: Any, mode: str) -> None:
    _, session, rows = opened(conflicts=mode)
    with session.transaction() as first, session.transaction() as second:
        rows(first).table.insert(flows("c"))
        rows(second).table.insert(flows("d"))
    with session.transaction() as tx:
        assert set(rows(tx).labels()) == {"a", "b", "c", "d"}


@pytest.mark.parametrize("mode", MODES)
def test_writes_of_different_rows_never_conflict(opened: Any, mode: str) -> None:
    _, session, rows = opened(conflicts=mode)
    with session.transaction() as first, session.transaction() as second:
        rows(first).relabel("a", "first")
        rows(second).relabel("b", "second")
    with session.transaction() as tx:
        assert rows(tx).labels() == {"a": "first", "b": "second"}


@pytest.mark.parametrize("mode", ["update", "locks"])
def test_a_row_that_another_open_transaction_wrote_is_refused_at_update(opened: Any, mode: str) -> None:
    _, session, rows = opened(conflicts=mode)
    with session.transaction() as first:
        rows(first).relabel("a", "first")
        with pytest.raises(errors.Conflict), session.transaction() as second:
            rows(second).relabel("a", "second")
    with session.transaction() as tx:
        assert rows(tx).labels()["a"] == "first"


@pytest.mark.parametrize("mode", ["update", "locks"])
def test_a_rollback_frees_the_row(opened: Any, mode: str) -> None:
    _, session, rows = opened(conflicts=mode)
    with pytest.raises(ZeroDivisionError), session.transaction() as first:
        rows(first).relabel("a", "first")
        raise ZeroDivisionError
    with session.transaction() as second:
        rows(second).relabel("a", "second")
    with session.transaction() as tx:
        assert rows(tx).labels()["a"] == "second"


def test_the_first_to_commit_wins_where_conflicts_show_at_commit(opened: Any) -> None:
    emulator, session, rows = opened(conflicts="commit")
    with pytest.raises(errors.Conflict), session.transaction() as first:
        rows(first).relabel("a", "first")
        rows(first).table.insert(flows("c"))
        with session.transaction() as second:
            rows(second).relabel("a", "second")
    assert emulator.open_transactions == 0
    with session.transaction() as tx:
        assert rows(tx).labels() == {"a": "second", "b": "old"}


def test_a_delete_conflicts_with_an_update(opened: Any) -> None:
    _, session, rows = opened(conflicts="commit")
    with pytest.raises(errors.Conflict), session.transaction() as first:
        rows(first).relabel("a", "first")
        with session.transaction() as second:
            rows(second).delete("a")


@pytest.mark.parametrize(
    ("mode", "refused", "label"),
    [("update", True, "first"), ("commit", True, "first"), ("locks", False, "late"), ("none", False, "late")],
)
def test_whether_a_stale_snapshot_may_overwrite(opened: Any, mode: str, refused: bool, label: str) -> None:
    _, session, rows = opened(conflicts=mode)
    conflicts = []
    try:
        with session.transaction() as late:
            assert rows(late).labels()["a"] == "old"
            with session.transaction() as first:
                rows(first).relabel("a", "first")
            rows(late).relabel("a", "late")
    except errors.Conflict as exc:
        conflicts.append(exc)
    assert bool(conflicts) == refused
    with session.transaction() as tx:
        assert rows(tx).labels()["a"] == label


def test_an_idle_transaction_is_rolled_back() -> None:
    now = [0.0]
    store = Store("update", timeout_s=60, clock=lambda: now[0])
    store.write(store.transaction(store.begin()), CreateSchema("vastdb", "abandoned", ""))
    now[0] = 59.0
    used = store.begin()
    now[0] = 61.0
    with pytest.raises(Refusal):
        store.write(store.transaction(used), CreateSchema("vastdb", "abandoned/deeper", ""))
    store.write(store.transaction(used), CreateSchema("vastdb", "abandoned", ""))
    assert store.open_transactions == 1


def test_two_transactions_cannot_create_the_same_table(opened: Any) -> None:
    _, session, _ = opened()
    with session.transaction() as first:
        first.bucket("vastdb").schema("media").create_table("other", COLUMNS)
        with pytest.raises(errors.Conflict), session.transaction() as second:
            second.bucket("vastdb").schema("media").create_table("other", COLUMNS)


def test_rows_for_a_table_that_was_dropped_meanwhile_are_refused_at_commit(opened: Any) -> None:
    _, session, rows = opened()
    with pytest.raises(errors.Conflict), session.transaction() as writer:
        rows(writer).table.insert(flows("c"))
        with session.transaction() as dropper:
            dropper.bucket("vastdb").schema("media").table("flows").drop()


def test_a_row_can_be_written_twice_in_one_transaction(opened: Any) -> None:
    _, session, rows = opened()
    with session.transaction() as tx:
        rows(tx).relabel("a", "once")
        rows(tx).relabel("a", "twice")
    with session.transaction() as tx:
        assert rows(tx).labels() == {"a": "twice", "b": "old"}


def test_a_row_deleted_before_cannot_be_written(opened: Any) -> None:
    _, session, rows = opened()
    with pytest.raises(errors.BadRequest), session.transaction() as tx:
        own = rows(tx)
        found = own.table.select(columns=["id"], config=own.config, internal_row_id=True).read_all()
        own.delete("a")
        own.table.delete(found)
