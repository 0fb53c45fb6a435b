"""Tables, listings, statistics and queries of the emulator, seen through the real SDK."""

import struct
from collections.abc import Iterator
from typing import Any

import numpy as np
import pyarrow as pa
import pytest
from vastdb import _internal, errors
from vastdb.config import QueryConfig
from vastdb.table_metadata import TableMetadata, TableRef, TableType

from tests.vast.support import COLUMNS, ROW_ID, create, flows, once, path
from tests.vast_emulator import wire
from tests.vast_emulator.columns import MAX_CELL_BYTES

GROUP_ROWS = 1 << 16


@pytest.fixture
def numbers(emulator: Any, connect: Any) -> Any:
    """A session and a table of three and a half row groups."""
    session = connect(emulator)
    count = 3 * GROUP_ROWS + GROUP_ROWS // 2
    columns = pa.schema([("n", pa.int64()), ("even", pa.bool_())])
    rows = pa.table([np.arange(count), np.arange(count) % 2 == 0], schema=columns)
    return session, create(session, rows, columns), count


@pytest.mark.parametrize("splits", [1, 3])
@pytest.mark.parametrize("subs", [1, 4])
@pytest.mark.parametrize("groups", [1, 8])
@pytest.mark.parametrize("limit", [10_000, 128 * 1024])
def test_every_row_comes_exactly_once(
    emulator: Any, numbers: Any, splits: int, subs: int, groups: int, limit: int
) -> None:
    session, metadata, count = numbers
    config = once(
        emulator,
        num_splits=splits,
        num_sub_splits=subs,
        num_row_groups_per_sub_split=groups,
        limit_rows_per_sub_split=limit,
    )
    with session.transaction() as tx:
        found = tx.table_from_metadata(metadata).select(columns=["n"], config=config).read_all()
    assert np.array_equal(np.sort(found["n"].to_numpy()), np.arange(count))


def sub_splits(body: bytes) -> Iterator[tuple[int, int]]:
    """Stream ids and next row ids of a query's reply, read without the SDK."""
    at = 0
    while True:
        (stream_id,) = struct.unpack_from("<I", body, at)
        at += 4
        if stream_id == wire.KEEP_ALIVE:
            continue
        if stream_id == wire.COMPLETED:
            assert at == len(body)
            return
        (next_row_id,) = struct.unpack_from("<Q", body, at)
        yield stream_id, next_row_id
        message = pa.ipc.read_message(pa.BufferReader(body[at + 8 :])) if _size(body, at + 8) else None
        at += 16 + _size(body, at + 8) + (len(message.body) if message and message.body else 0)


def _size(body: bytes, at: int) -> int:
    return int(struct.unpack_from("<I", body, at + 4)[0])


@pytest.mark.parametrize("cursors", [[0, 0, 0, 0], [wire.INVALID_ROW_ID] * 4, [0, wire.INVALID_ROW_ID, 0, 0]])
def test_every_requested_sub_split_is_answered_even_empty(
    emulator: Any, connect: Any, cursors: list[int]
) -> None:
    session = connect(emulator)
    metadata = create(session, flows("a"))
    request = _internal.build_query_data_request(metadata.arrow_schema, None, ["id", "label"])
    with session.transaction() as tx:
        reply = session.api.query_data(
            "vastdb",
            "media",
            "flows",
            request.serialized,
            split=(0, 1, 8),
            num_sub_splits=4,
            txid=tx.txid,
            sub_split_start_row_ids=list(enumerate(cursors)),
        )
        answered = list(sub_splits(reply.content))
    assert {stream for stream, _ in answered} == {0, 1, 2, 3}
    assert {following for _, following in answered} == {wire.INVALID_ROW_ID}
    assert len(answered) == 4 * 2 * 3


@pytest.mark.parametrize("rows", [0, 3])
def test_no_columns_count_rows(emulator: Any, connect: Any, rows: int) -> None:
    session = connect(emulator)
    metadata = create(session, flows(*map(str, range(rows))) if rows else None)
    with session.transaction() as tx:
        found = tx.table_from_metadata(metadata).select(columns=[], config=once(emulator)).read_all()
    assert (found.num_rows, found.num_columns) == (rows, 0)


def test_rows_read_and_scanned_are_counted(emulator: Any, numbers: Any) -> None:
    session, metadata, count = numbers
    before = emulator.tally()
    with session.transaction() as tx:
        table = tx.table_from_metadata(metadata)
        table.select(columns=["n"], predicate=table["n"] < 10, config=once(emulator)).read_all()
    done = emulator.tally() - before
    assert done.requests == {"begin": 1, "query": 1, "commit": 1}
    assert (done.rows_read, done.rows_scanned) == ({path(): 10}, {path(): count})


def test_a_limit_ends_the_scan(emulator: Any, numbers: Any) -> None:
    session, metadata, _ = numbers
    before = emulator.tally()
    with session.transaction() as tx:
        table = tx.table_from_metadata(metadata)
        even = table["even"].isin([True])
        found = table.select(columns=["n"], predicate=even, config=once(emulator), limit_rows=5)
        assert found.read_all().num_rows == 5
    # The SDK asks for further pages until it has taken the first one.
    assert 10 <= (emulator.tally() - before).rows_scanned[path()] <= 50


SORTED_ROWS = pa.table(
    [[f"f{n // 100}" for n in range(1000)], [n % 100 for n in range(1000)], [str(n) for n in range(1000)]],
    schema=COLUMNS,
)


@pytest.mark.parametrize(
    ("choose", "read", "scanned"),
    [
        (lambda t: t["id"] == "f3", 100, 100),
        (lambda t: t["id"].isin(["f3", "f7"]), 200, 200),
        (lambda t: (t["id"] == "f3") & (t["start"] >= 40) & (t["start"] < 50), 10, 10),
        (lambda t: (t["id"] > "f7") & (t["start"] == 1), 2, 200),
        (lambda t: t["start"] == 1, 10, 1000),
        (lambda t: (t["id"] == "f3") & (t["label"] == "301"), 1, 100),
        (lambda t: t["id"].startswith("f3"), 100, 100),
    ],
)
def test_a_sorting_key_leaves_rows_out(
    emulator: Any, connect: Any, choose: Any, read: int, scanned: int
) -> None:
    session = connect(emulator)
    metadata = create(session, SORTED_ROWS, sorting_key=["id", "start"])
    before = emulator.tally()
    with session.transaction() as tx:
        table = tx.table_from_metadata(metadata)
        found = table.select(columns=["label"], predicate=choose(table), config=once(emulator)).read_all()
    assert found.num_rows == read
    assert (emulator.tally() - before).rows_scanned == {path(): scanned}


def test_a_projection_leaves_rows_out(emulator: Any, connect: Any) -> None:
    session = connect(emulator)
    metadata = create(session, SORTED_ROWS)
    with session.transaction() as tx:
        table = tx.bucket("vastdb").schema("media").table("flows")
        table.create_projection("by_label", ["label"], ["id"])
    before = emulator.tally()
    with session.transaction() as tx:
        table = tx.table_from_metadata(metadata)
        found = table.select(
            columns=["id"], predicate=table["label"] == "301", config=once(emulator)
        ).read_all()
    assert found["id"].to_pylist() == ["f3"]
    assert (emulator.tally() - before).rows_scanned == {path(): 1}


def test_row_ids_of_sorted_tables_do_not_fit_64_bits(emulator: Any, connect: Any) -> None:
    session = connect(emulator)
    metadata = create(session, flows("a", "b"), sorting_key=["id"])
    assert metadata.table_type is TableType.Elysium
    with session.transaction() as tx:
        table = tx.table_from_metadata(metadata)
        found = table.select(columns=["id"], config=once(emulator), internal_row_id=True).read_all()
        assert min(int(row) for row in found[ROW_ID].to_pylist()) >= 2**64
        table.update(pa.table({ROW_ID: found[ROW_ID], "label": ["x", "y"]}))
        table.delete(found.slice(0, 1))
        left = table.select(config=once(emulator)).read_all()
    assert left.to_pydict() == {"id": ["b"], "start": [1], "label": ["y"]}


def test_sort_columns_cannot_be_updated(emulator: Any, connect: Any) -> None:
    session = connect(emulator)
    metadata = create(session, flows("a"), sorting_key=["id"])
    with pytest.raises(errors.BadRequest), session.transaction() as tx:
        table = tx.table_from_metadata(metadata)
        table.update(table.select(columns=["id"], config=once(emulator), internal_row_id=True).read_all())


def test_wrongly_typed_row_ids_are_refused(emulator: Any, connect: Any) -> None:
    session = connect(emulator)
    create(session, flows("a"), sorting_key=["id"])
    unsorted = TableMetadata(TableRef("vastdb", "media", "flows"), COLUMNS, TableType.Regular)
    with pytest.raises(errors.BadRequest), session.transaction() as tx:
        table = tx.table_from_metadata(unsorted)
        table.select(columns=["id"], config=once(emulator), internal_row_id=True).read_all()


@pytest.mark.parametrize("version", ["5.4", "5.5"])
def test_both_versions_tell_sorted_from_unsorted_tables(start: Any, connect: Any, version: str) -> None:
    session = connect(start(version=version))
    assert session.api.vast_version[:2] == tuple(int(part) for part in version.split("."))
    create(session, sorting_key=["start", "id"])
    with session.transaction() as tx:
        schema = tx.bucket("vastdb").schema("media")
        assert [c.name for c in schema.table("flows")._metadata.sorted_columns] == ["start", "id"]
        schema.create_table("plain", COLUMNS)
        assert not schema.table("plain").sorted_table
        assert (schema.table("flows").sorting_done(), schema.table("plain").sorting_done()) == (True, False)


def test_a_sorted_table_tells_its_splits(emulator: Any, connect: Any) -> None:
    session = connect(emulator)
    columns = pa.schema([("n", pa.int64())])
    rows = pa.table([np.arange(5 * GROUP_ROWS) % 10], schema=columns)
    metadata = create(session, rows, columns, sorting_key=["n"])
    config = QueryConfig(
        data_endpoints=[emulator.endpoint], rows_per_split=GROUP_ROWS, num_row_groups_per_sub_split=1
    )
    with session.transaction() as tx:
        table = tx.table_from_metadata(metadata)
        before = emulator.tally()
        found = table.select(columns=["n"], predicate=table["n"] < 5, config=config).read_all()
    assert found.num_rows == 5 * GROUP_ROWS // 2
    assert (emulator.tally() - before).requests["query"] == 1 + 3


@pytest.mark.parametrize(("size", "fits"), [(MAX_CELL_BYTES, True), (MAX_CELL_BYTES + 1, False)])
def test_a_cell_has_a_limit(emulator: Any, connect: Any, size: int, fits: bool) -> None:
    session = connect(emulator)
    metadata = create(session)
    refused = []
    try:
        with session.transaction() as tx:
            tx.table_from_metadata(metadata).insert(flows("a", label="x" * size))
    except errors.BadRequest as exc:
        refused.append(exc)
    assert bool(refused) != fits


def test_statistics_follow_the_rows_and_tell_addresses(start: Any, connect: Any) -> None:
    emulator = start(vips=("203.0.113.7",))
    session = connect(emulator)
    metadata = create(session, flows("a", "b"))
    with session.transaction() as tx:
        metadata.load_stats(tx)
    assert metadata.stats is not None
    assert (metadata.stats.num_rows, metadata.stats.vips) == (2, ["203.0.113.7"])
    assert metadata.stats.size_in_bytes > 0


def test_scrambled_rows_are_the_same_in_another_order(start: Any, connect: Any) -> None:
    emulator = start(scramble=True)
    session = connect(emulator)
    metadata = create(session, flows("a", "b", "c"))
    with session.transaction() as tx:
        found = tx.table_from_metadata(metadata).select(columns=["id"], config=once(emulator)).read_all()
    assert found["id"].to_pylist() == ["c", "b", "a"]


def test_a_bucket_has_to_exist(emulator: Any, connect: Any) -> None:
    session = connect(emulator)
    with pytest.raises(errors.MissingBucket), session.transaction() as tx:
        tx.bucket("elsewhere")


def test_a_renamed_schema_takes_its_tables_along(emulator: Any, connect: Any) -> None:
    session = connect(emulator)
    create(session, flows("a"))
    with session.transaction() as tx:
        tx.bucket("vastdb").schema("media").rename("archive")
    with session.transaction() as tx:
        assert tx.bucket("vastdb").schema("archive").tablenames() == ["flows"]
        found = tx.bucket("vastdb").schema("archive").table("flows").select(config=once(emulator))
        assert found.read_all().num_rows == 1


def test_many_small_writes_leave_every_row(emulator: Any, connect: Any) -> None:
    session = connect(emulator)
    metadata = create(session)
    expected = {}
    with session.transaction() as tx:
        table = tx.table_from_metadata(metadata)
        for place in range(150):
            ids = table.insert(flows(str(place), start=place))
            expected[str(place)] = f"label {place}"
            table.update(pa.table({ROW_ID: ids, "label": [f"label {place}"]}))
    with session.transaction() as tx:
        found = (
            tx.table_from_metadata(metadata).select(columns=["id", "label"], config=once(emulator)).read_all()
        )
    assert dict(zip(*found.to_pydict().values(), strict=True)) == expected
