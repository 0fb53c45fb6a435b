"""How the emulator can be reached: over TLS, at several addresses, by many at once."""

import threading
from pathlib import Path
from typing import Any

import pyarrow as pa
import pytest
from vastdb import errors

from tests.vast.support import COLUMNS, ROW_ID, create, flows, once
from tests.vast_emulator import Options


def test_a_trusted_certificate_is_accepted_and_another_is_not(
    certificate: tuple[Path, Path], start: Any, connect: Any
) -> None:
    emulator = start(tls=certificate)
    session = connect(emulator, ssl_verify=str(certificate[0]))
    metadata = create(session, flows("a"))
    with session.transaction() as tx:
        found = tx.table_from_metadata(metadata).select(columns=["id"], config=once(emulator)).read_all()
    assert found["id"].to_pylist() == ["a"]
    with pytest.raises(errors.ConnectionError):
        connect(emulator, max_tries=1)


def test_a_process_serves_tls_too(certificate: tuple[Path, Path], start_process: Any, connect: Any) -> None:
    emulator = start_process(Options(tls=certificate))
    create(connect(emulator, ssl_verify=str(certificate[0])))
    assert emulator.tally().requests["create_table"] == 1


def test_endpoints_share_their_data_and_fail_one_by_one(start: Any, connect: Any) -> None:
    emulator = start(endpoints=2)
    first, second = (connect(emulator, endpoint=endpoint, max_tries=1) for endpoint in emulator.endpoints)
    metadata = create(first, flows("a"))
    emulator.close_endpoint(0)
    with pytest.raises(errors.ConnectionError), first.transaction():
        pytest.fail("a transaction began at a closed endpoint")
    with second.transaction() as tx:
        table = tx.table_from_metadata(metadata)
        config = once(emulator, data_endpoints=[emulator.endpoints[1]])
        assert table.select(columns=["id"], config=config).read_all().num_rows == 1
        emulator.open_endpoint(0)
        assert table.select(columns=["id"], config=once(emulator)).read_all().num_rows == 1


def test_a_request_outside_transactions_commits_by_itself(emulator: Any, connect: Any) -> None:
    session = connect(emulator)
    session.api.create_schema("vastdb", "alone")
    assert [name for name, _ in session.api.list_schemas("vastdb")[1]] == ["alone"]
    with pytest.raises(errors.Conflict):
        session.api.create_schema("vastdb", "alone")
    assert emulator.open_transactions == 0


@pytest.mark.parametrize("command", ["partitions", "blob-expansion", "nonsense"])
def test_what_is_not_emulated_says_so(emulator: Any, connect: Any, command: str) -> None:
    api = connect(emulator).api
    with pytest.raises(errors.NotImplemented):
        api._single_request(method="DELETE", url=api._url("vastdb", "media", "flows", command=command))


COUNTER = pa.schema([("id", pa.string()), ("count", pa.int64())])


@pytest.mark.parametrize("mode", ["update", "commit"])
def test_no_update_is_lost_among_many_writers(start: Any, connect: Any, mode: str) -> None:
    emulator = start(conflicts=mode)
    session = connect(emulator)
    metadata = create(session, pa.table([["a"], [0]], schema=COUNTER), COUNTER)
    added: list[int] = []

    def add(times: int) -> None:
        while times:
            try:
                with session.transaction() as tx:
                    table = tx.table_from_metadata(metadata)
                    row = table.select(config=once(emulator), internal_row_id=True).read_all()
                    table.update(pa.table({ROW_ID: row[ROW_ID], "count": [row["count"][0].as_py() + 1]}))
            except errors.Conflict:
                continue
            times -= 1
            added.append(1)

    threads = [threading.Thread(target=add, args=(5,)) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    with session.transaction() as tx:
        found = tx.table_from_metadata(metadata).select(config=once(emulator)).read_all()
    assert found["count"].to_pylist() == [len(added)] == [20]
    assert emulator.open_transactions == 0


def test_many_writers_insert_at_once(emulator: Any, connect: Any) -> None:
    session = connect(emulator)
    metadata = create(session, columns=COLUMNS, sorting_key=["id", "start"])

    def add(writer: int) -> None:
        for place in range(10):
            with session.transaction() as tx:
                tx.table_from_metadata(metadata).insert(flows(f"w{writer}", start=place))

    threads = [threading.Thread(target=add, args=(writer,)) for writer in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    with session.transaction() as tx:
        table = tx.table_from_metadata(metadata)
        found = table.select(columns=["id", "start"], config=once(emulator), internal_row_id=True).read_all()
    rows = set(zip(found["id"].to_pylist(), found["start"].to_pylist(), strict=True))
    assert rows == {(f"w{writer}", place) for writer in range(8) for place in range(10)}
    assert len(set(found[ROW_ID].to_pylist())) == 80
