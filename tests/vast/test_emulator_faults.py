"""Each fault does to the real SDK what the same mishap on a cluster would."""

from typing import Any

import pytest
import requests
from vastdb import _internal, errors

from tests.vast.support import create, flows, once, path
from tests.vast_emulator import Fault

SECONDS = 30.0
"""Longer than any client of these tests waits; stopping the emulator ends it."""


@pytest.fixture
def table(emulator: Any, connect: Any) -> Any:
    """One insert or one count of rows, each in a transaction of its own."""
    session = connect(emulator)
    metadata = create(session, flows("a"))

    class Table:
        def insert(self, flow: str) -> None:
            with session.transaction() as tx:
                tx.table_from_metadata(metadata).insert(flows(flow))

        def ids(self) -> list[str]:
            with session.transaction() as tx:
                own = tx.table_from_metadata(metadata)
                found = own.select(columns=["id"], config=once(emulator)).read_all()
            return sorted(found["id"].to_pylist())

    return Table()


@pytest.mark.parametrize("operation", ["begin", "insert", "commit"])
def test_slow_down_is_retried_by_the_sdk(emulator: Any, table: Any, operation: str) -> None:
    before = emulator.tally()
    emulator.faults.add(Fault("slow_down", operation, times=2))
    table.insert("b")
    assert (emulator.tally() - before).requests[operation] == 3
    assert table.ids() == ["a", "b"]


@pytest.mark.parametrize(
    ("fault", "error"),
    [
        (Fault("conflict", "insert"), errors.Conflict),
        (Fault("status", "insert", status=500), errors.InternalServerError),
        (Fault("status", "insert", status=503), errors.ServiceUnavailable),
        (Fault("status", "insert", status=507), errors.InsufficientCapacity),
        (Fault("status", "insert", status=502), ValueError),
        (Fault("status", "insert", status=504), ValueError),
        (Fault("status", "insert", status=429), ValueError),
        (Fault("drop", "insert"), errors.ConnectionError),
        (Fault("drop", "commit"), errors.ConnectionError),
        (Fault("conflict", "commit"), errors.Conflict),
    ],
)
def test_a_refused_write_is_told_and_not_kept(
    emulator: Any, table: Any, fault: Fault, error: type[Exception]
) -> None:
    emulator.faults.add(fault)
    with pytest.raises(error):
        table.insert("b")
    assert table.ids() == ["a"]
    assert emulator.faults.hits == 1


def test_a_commit_can_be_applied_without_the_client_knowing(emulator: Any, table: Any) -> None:
    emulator.faults.add(Fault("drop_after", "commit"))
    with pytest.raises(errors.ConnectionError):
        table.insert("b")
    assert table.ids() == ["a", "b"]


@pytest.mark.parametrize(("kind", "kept"), [("hang", ["a"]), ("hang_after", ["a", "b"])])
def test_a_hanging_commit_runs_into_the_timeout(
    emulator: Any, connect: Any, table: Any, kind: Any, kept: list[str]
) -> None:
    impatient = connect(emulator, timeout_s=1.5)
    metadata = create_handle(impatient)
    emulator.faults.add(Fault(kind, "commit", seconds=SECONDS))
    with pytest.raises(requests.exceptions.ReadTimeout), impatient.transaction() as tx:
        tx.table_from_metadata(metadata).insert(flows("b"))
    assert table.ids() == kept


def create_handle(session: Any) -> Any:
    from vastdb.table_metadata import TableMetadata, TableRef

    metadata = TableMetadata(TableRef("vastdb", "media", "flows"))
    with session.transaction() as tx:
        metadata.load(tx)
    return metadata


def test_a_delayed_reply_is_a_reply(emulator: Any, table: Any) -> None:
    emulator.faults.add(Fault("delay", "insert", seconds=0.05))
    table.insert("b")
    assert table.ids() == ["a", "b"]


def test_a_read_that_is_dropped_is_retried_by_the_sdk(emulator: Any, table: Any) -> None:
    emulator.faults.add(Fault("drop", "query"))
    before = emulator.tally()
    assert table.ids() == ["a"]
    assert (emulator.tally() - before).requests["query"] == 2


@pytest.mark.filterwarnings("ignore::ResourceWarning")
def test_a_query_cut_off_half_way_is_asked_again(emulator: Any, table: Any) -> None:
    emulator.faults.add(Fault("truncate", "query", times=2))
    before = emulator.tally()
    assert table.ids() == ["a"]
    assert (emulator.tally() - before).requests["query"] == 3


@pytest.mark.filterwarnings("ignore::ResourceWarning")
def test_a_query_cut_off_every_time_gives_no_partial_answer(emulator: Any, table: Any) -> None:
    emulator.faults.add(Fault("truncate", "query", times=None))
    with pytest.raises(errors.ConnectionError):
        table.ids()


@pytest.mark.filterwarnings("ignore::ResourceWarning")
def test_a_query_that_fails_on_the_server_raises(emulator: Any, table: Any) -> None:
    emulator.faults.add(Fault("fail_stream", "query"))
    with pytest.raises(_internal.QueryDataInternalError):
        table.ids()


def test_a_fault_waits_for_its_table_and_its_turn(emulator: Any, table: Any) -> None:
    emulator.faults.add(Fault("conflict", "insert", table=path("others")))
    emulator.faults.add(Fault("conflict", "insert", table=path(), skip=1))
    table.insert("b")
    with pytest.raises(errors.Conflict):
        table.insert("c")
    table.insert("d")
    emulator.faults.clear()
    assert table.ids() == ["a", "b", "d"]


def test_a_storm_of_conflicts_hits_by_chance(start: Any, connect: Any) -> None:
    emulator = start(seed=7)
    session = connect(emulator)
    metadata = create(session)
    emulator.faults.add(Fault("conflict", "commit", probability=0.5, times=None))
    kept = []
    for flow in (str(place) for place in range(20)):
        try:
            with session.transaction() as tx:
                tx.table_from_metadata(metadata).insert(flows(flow))
            kept.append(flow)
        except errors.Conflict:
            continue
    emulator.faults.clear()
    with session.transaction() as tx:
        found = tx.table_from_metadata(metadata).select(columns=["id"], config=once(emulator)).read_all()
    assert found["id"].to_pylist() == kept
    assert 0 < len(kept) < 20


@pytest.mark.parametrize("given", [{"probability": 0.0}, {"seconds": -1.0}, {"skip": -1}])
def test_nonsense_is_no_fault(given: dict[str, Any]) -> None:
    with pytest.raises(ValueError, match="not a fault"):
        Fault("drop", **given)
