"""What outlives an emulator: with a journal every acknowledged commit, and nothing else."""

from pathlib import Path
from typing import Any

import pytest
from vastdb import errors

from tests.vast.support import create, flows, once
from tests.vast_emulator import Fault, Options


def ids(session: Any, emulator: Any, metadata: Any) -> list[str]:
    with session.transaction() as tx:
        found = tx.table_from_metadata(metadata).select(columns=["id"], config=once(emulator)).read_all()
    return sorted(found["id"].to_pylist())


def test_a_killed_emulator_comes_back_with_what_was_committed(
    tmp_path: Path, start_process: Any, connect: Any
) -> None:
    emulator = start_process(Options(journal=tmp_path / "journal"))
    session = connect(emulator)
    metadata = create(session, flows("a", "b"), sorting_key=["id"])
    with pytest.raises(errors.NotFound), session.transaction() as tx:
        tx.table_from_metadata(metadata).insert(flows("lost"))
        emulator.restart()
        tx.table_from_metadata(metadata).insert(flows("lost as well"))
    assert ids(session, emulator, metadata) == ["a", "b"]
    with session.transaction() as tx:
        table = tx.table_from_metadata(metadata)
        new = table.insert(flows("c")).to_pylist()
        known = table.select(columns=["id"], config=once(emulator), internal_row_id=True).read_all()
        table.delete(known.slice(0, 1))
    assert len(set(new) | set(known["$row_id"].to_pylist())) == 3
    emulator.restart()
    assert ids(session, emulator, metadata) == ["b", "c"]


def test_another_process_steers_faults_and_reads_counts(start_process: Any, connect: Any) -> None:
    emulator = start_process(Options())
    session = connect(emulator)
    metadata = create(session, flows("a"))
    emulator.add_faults([Fault("conflict", "commit", times=None)])
    with pytest.raises(errors.Conflict):
        ids(session, emulator, metadata)
    emulator.clear_faults()
    before = emulator.tally()
    assert ids(session, emulator, metadata) == ["a"]
    done = emulator.tally() - before
    assert (done.requests, done.rows_read) == (
        {"begin": 1, "query": 1, "commit": 1},
        {"vastdb/media/flows": 1},
    )
    assert emulator.open_transactions == 0


def test_a_restart_in_this_process_keeps_the_port(tmp_path: Path, start: Any, connect: Any) -> None:
    emulator = start(journal=tmp_path / "journal")
    session = connect(emulator)
    metadata = create(session, flows("a"))
    endpoint = emulator.endpoint
    emulator.restart()
    assert emulator.endpoint == endpoint
    assert ids(session, emulator, metadata) == ["a"]


def test_without_a_journal_a_restart_forgets(start: Any, connect: Any) -> None:
    emulator = start()
    session = connect(emulator)
    create(session, flows("a"))
    emulator.restart()
    with session.transaction() as tx:
        assert tx.bucket("vastdb").schemas() == []


@pytest.mark.parametrize("torn", [b"\x01", b"\xff\x00\x00\x00\x00\x00\x00\x00half a record"])
def test_a_record_torn_by_a_crash_is_cut_off(tmp_path: Path, start: Any, connect: Any, torn: bytes) -> None:
    journal = tmp_path / "journal"
    emulator = start(journal=journal)
    session = connect(emulator)
    metadata = create(session, flows("a"))
    emulator.stop()
    whole = journal.read_bytes()
    journal.write_bytes(whole + torn)
    emulator.start()
    assert ids(session, emulator, metadata) == ["a"]
    assert journal.read_bytes() == whole


def test_a_commit_that_was_not_acknowledged_may_still_have_happened(
    tmp_path: Path, start: Any, connect: Any
) -> None:
    emulator = start(journal=tmp_path / "journal")
    session = connect(emulator)
    metadata = create(session)
    emulator.faults.add(Fault("drop_after", "commit"))
    with pytest.raises(errors.ConnectionError), session.transaction() as tx:
        tx.table_from_metadata(metadata).insert(flows("a"))
    emulator.restart()
    assert ids(session, emulator, metadata) == ["a"]
