"""What the adapter takes for granted about the SDK; a new release of the SDK that changes it fails here."""

import uuid
from pathlib import Path
from typing import Any

import certifi
import ibis
import pyarrow as pa
import pytest
from vastdb import _internal, errors, util
from vastdb.config import QueryConfig
from vastdb.transaction import TransactionNotActiveError

from tests.vast.support import COLUMNS, ROW_ID, create, flows, once, path
from tests.vast_emulator import Fault

TYPED = pa.schema(
    [
        ("id", pa.string()),
        ("n", pa.int64()),
        ("m", pa.int64()),
        ("ready", pa.bool_()),
        ("tag", pa.struct([("key", pa.string())])),
        ("many", pa.list_(pa.int64())),
    ]
)
ROWS = pa.table(
    [
        ["a", "ab", "b", None],
        [1, 5, 6, None],
        [1, 4, 6, 7],
        [True, False, None, True],
        [{"key": "x"}, {"key": None}, None, {"key": "y"}],
        [[1], [], None, [2]],
    ],
    schema=TYPED,
)


@pytest.fixture
def select(emulator: Any, connect: Any) -> Any:
    """Selects from a table of `ROWS` and returns the column `m`."""
    session = connect(emulator)
    metadata = create(session, ROWS, TYPED)

    def _select(choose: Any, **given: Any) -> list[int]:
        with session.transaction() as tx:
            table = tx.table_from_metadata(metadata)
            found = table.select(
                columns=["m"], predicate=choose(table), config=once(emulator), **given
            ).read_all()
        return list(found["m"].to_pylist())

    return _select


@pytest.mark.parametrize(
    ("choose", "expected"),
    [
        (lambda t: t["n"] == 5, [4]),
        (lambda t: t["n"] != 5, [1, 6]),
        (lambda t: t["n"] < 5, [1]),
        (lambda t: t["n"] <= 5, [1, 4]),
        (lambda t: t["n"] > 5, [6]),
        (lambda t: t["n"] >= 5, [4, 6]),
        (lambda t: t["n"].between(1, 5), [1, 4]),
        (lambda t: t["n"].isin([6, 1, 9]), [1, 6]),
        (lambda t: t["n"].isnull(), [7]),
        (lambda t: t["n"] == None, [7]),  # noqa: E711
        (lambda t: ~t["n"].isnull(), [1, 4, 6]),
        (lambda t: t["id"].contains("b"), [4, 6]),
        (lambda t: t["id"].startswith("a"), [1, 4]),
        (lambda t: t["id"].startswith(""), [1, 4, 6]),
        (lambda t: t["ready"].isin([True]), [1, 7]),
        (lambda t: t["tag"]["key"] == "x", [1]),
        (lambda t: t["tag"]["key"].isnull(), [4, 6]),
        (lambda t: (t["n"] == 1) | (t["n"] > 5) | t["n"].isnull(), [1, 6, 7]),
        (lambda t: t["n"].between(1, 2) | (t["n"] == 6), [1, 6]),
        (lambda t: (t["n"] > 1) & (t["m"] > 4) & (t["id"] == "b"), [6]),
        (lambda t: ((t["n"] == 1) | (t["n"] == 5)) & ((t["m"] == 4) | (t["m"] == 6)), [4]),
        (lambda t: True, [1, 4, 6, 7]),
        (lambda t: False, []),
    ],
)
def test_these_predicates_work(select: Any, choose: Any, expected: list[int]) -> None:
    assert select(choose) == expected


@pytest.mark.parametrize(
    "choose",
    [
        lambda t: t["n"].notnull(),
        lambda t: ~t["n"].isin([1]),
        lambda t: t["n"].notin([1]),
        lambda t: ~(t["n"] == 1),
        lambda t: ~t["id"].contains("a"),
        lambda t: t["n"].isin([]),
        lambda t: t["ready"],
        lambda t: ~t["ready"],
        lambda t: (t["n"] == 1) | (t["m"] == 4),
        lambda t: ((t["n"] > 1) & (t["n"] < 6)) | (t["n"] == 1),
        lambda t: t["id"].like("a%"),
        lambda t: t["id"].endswith("b"),
        lambda t: t["id"].upper() == "A",
        lambda t: t["n"] == t["m"],
        lambda t: t["n"] + 1 == 2,
        lambda t: ibis.literal(5) == t["n"],
        lambda t: t["many"].isnull(),
        lambda t: t["tag"].isnull(),
    ],
)
def test_these_predicates_raise(select: Any, choose: Any) -> None:
    with pytest.raises(NotImplementedError):
        select(choose)


def test_a_null_among_the_values_of_isin_raises(select: Any) -> None:
    with pytest.raises(TypeError):
        select(lambda t: t["n"].isin([1, None]))


@pytest.mark.parametrize(
    ("choose", "wrong"),
    [(lambda t: t["n"] < 5.5, [1]), (lambda t: t["n"] == 5.5, [4]), (lambda t: t["n"] > 5.5, [6])],
)
def test_a_fraction_against_an_integer_column_is_cut_off_silently(
    select: Any, choose: Any, wrong: list[int]
) -> None:
    assert select(choose) == wrong


@pytest.mark.parametrize(("limit", "rows"), [(1, 1), (3, 3), (9, 4), (None, 4), (0, 4)])
def test_a_limit_of_rows_is_kept_but_zero_is_none(select: Any, limit: int | None, rows: int) -> None:
    assert len(select(lambda t: True, limit_rows=limit)) == rows


def test_a_negative_limit_raises(select: Any) -> None:
    with pytest.raises(ValueError, match="limit_rows"):
        select(lambda t: True, limit_rows=-1)


def test_about_31000_uuids_fit_into_one_query() -> None:
    table = ibis.table(ibis.Schema.from_pyarrow(COLUMNS), "flows")

    def size(count: int) -> int:
        ids = [str(uuid.UUID(int=place)) for place in range(count)]
        return len(_internal.build_query_data_request(COLUMNS, table["id"].isin(ids), ["id"]).serialized)

    each = (size(600) - size(100)) / 500
    assert 30_000 * each < util.MAX_QUERY_DATA_REQUEST_SIZE < 40_000 * each


def test_too_large_a_query_is_refused_before_it_is_sent(emulator: Any, connect: Any) -> None:
    session = connect(emulator)
    metadata = create(session)
    before = emulator.tally()
    with pytest.raises(errors.TooLargeRequest), session.transaction() as tx:
        table = tx.table_from_metadata(metadata)
        table.select(columns=["id"], predicate=table["id"] == "x" * 5_000_000, config=once(emulator))
    assert "query" not in (emulator.tally() - before).requests


def test_no_columns_count_the_filtered_rows(emulator: Any, connect: Any) -> None:
    session = connect(emulator)
    metadata = create(session, flows("a", "b", "c"))
    with session.transaction() as tx:
        table = tx.table_from_metadata(metadata)
        found = table.select(columns=[], predicate=table["start"] > 0, config=once(emulator)).read_all()
    assert (found.num_rows, found.num_columns) == (2, 0)


def test_row_ids_are_added_to_the_list_that_the_caller_passed(emulator: Any, connect: Any) -> None:
    session = connect(emulator)
    metadata = create(session, flows("a"))
    columns = ["id"]
    with session.transaction() as tx:
        table = tx.table_from_metadata(metadata)
        found = table.select(columns=columns, config=once(emulator), internal_row_id=True).read_all()
    assert columns == found.column_names == ["id", ROW_ID]


def test_an_insert_returns_the_row_ids_that_updates_and_deletes_name(emulator: Any, connect: Any) -> None:
    session = connect(emulator)
    metadata = create(session)
    with session.transaction() as tx:
        table = tx.table_from_metadata(metadata)
        ids = table.insert(flows("a", "b"))
        table.update(pa.table({ROW_ID: ids.slice(0, 1), "label": ["new"]}))
        table.delete(pa.table({ROW_ID: ids.slice(1, 1)}))
        left = table.select(config=once(emulator)).read_all().to_pylist()
    assert left == [{"id": "a", "start": 0, "label": "new"}]


@pytest.mark.parametrize("name", ["update", "delete"])
def test_rows_without_ids_cannot_be_written(emulator: Any, connect: Any, name: str) -> None:
    session = connect(emulator)
    metadata = create(session, flows("a"))
    with pytest.raises(errors.MissingRowIdColumn), session.transaction() as tx:
        getattr(tx.table_from_metadata(metadata), name)(flows("a"))


def test_an_exception_in_a_transaction_rolls_back_and_is_raised(emulator: Any, connect: Any) -> None:
    session = connect(emulator)
    metadata = create(session)
    before = emulator.tally()
    with pytest.raises(KeyError), session.transaction() as tx:
        tx.table_from_metadata(metadata).insert(flows("a"))
        raise KeyError
    assert (emulator.tally() - before).requests == {"begin": 1, "insert": 1, "rollback": 1}


def test_a_failed_commit_is_not_rolled_back(emulator: Any, connect: Any) -> None:
    session = connect(emulator)
    metadata = create(session)
    emulator.faults.add(Fault("drop", "commit"))
    before = emulator.tally()
    with pytest.raises(errors.ConnectionError) as failed, session.transaction() as tx:
        tx.table_from_metadata(metadata).insert(flows("a"))
    assert failed.value.may_retry is False
    assert (emulator.tally() - before).requests == {"begin": 1, "insert": 1, "commit": 1}
    assert emulator.open_transactions == 1


def test_a_failed_rollback_hides_the_first_error(emulator: Any, connect: Any) -> None:
    session = connect(emulator)
    emulator.faults.add(Fault("conflict", "rollback"))
    with pytest.raises(errors.Conflict) as failed, session.transaction():
        raise KeyError
    assert isinstance(failed.value.__context__, KeyError)


def test_a_result_has_to_be_read_within_its_transaction(emulator: Any, connect: Any) -> None:
    session = connect(emulator)
    metadata = create(session, flows("a"))
    with session.transaction() as tx:
        table = tx.table_from_metadata(metadata)
        reader = table.select(columns=["id"], config=once(emulator))
    with pytest.raises(errors.MissingTransaction):
        reader.read_all()
    with pytest.raises(TransactionNotActiveError):
        table.insert(flows("b"))


def test_loaded_metadata_saves_the_way_to_a_table(emulator: Any, connect: Any) -> None:
    session = connect(emulator)
    metadata = create(session, flows("a"))
    start = emulator.tally()
    with session.transaction() as tx:
        schema = tx.bucket("vastdb").schema("media")
        schema.table("flows").select(columns=["id"]).read_all()
    between = emulator.tally()
    with session.transaction() as tx:
        tx.table_from_metadata(metadata).select(columns=["id"], config=once(emulator)).read_all()
    assert (emulator.tally() - between).requests == {"begin": 1, "query": 1, "commit": 1}
    assert (between - start).total_requests >= 10


def test_without_data_endpoints_the_addresses_of_the_cluster_are_asked(start: Any, connect: Any) -> None:
    emulator = start(vips=("127.0.0.1",))
    session = connect(emulator)
    metadata = create(session, flows("a"))
    before = emulator.tally()
    with session.transaction() as tx:
        table = tx.table_from_metadata(metadata)
        table.select(columns=["id"], config=QueryConfig(num_splits=1, num_sub_splits=1)).read_all()
    assert (emulator.tally() - before).requests == {"begin": 2, "query": 1, "rollback": 1, "commit": 1}


def test_a_proxy_of_the_environment_is_used(
    emulator: Any, connect: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name in ("NO_PROXY", "no_proxy"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("http_proxy", "http://127.0.0.1:9")
    with pytest.raises(errors.ConnectionError):
        connect(emulator, max_tries=1)
    assert emulator.tally().total_requests == 0


def test_authorities_of_the_environment_win_over_those_configured(
    certificate: tuple[Path, Path], start: Any, connect: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    emulator = start(tls=certificate)
    monkeypatch.setenv("REQUESTS_CA_BUNDLE", certifi.where())
    with pytest.raises(errors.ConnectionError):
        connect(emulator, max_tries=1, ssl_verify=str(certificate[0]))


def test_wide_rows_are_an_insert_and_updates(emulator: Any, connect: Any) -> None:
    session = connect(emulator)
    columns = pa.schema([(f"c{place}", pa.string()) for place in range(60)])
    metadata = create(session, None, columns)
    row = pa.table([["x" * 100_000] for _ in columns], schema=columns)
    before = emulator.tally()
    with session.transaction() as tx:
        table = tx.table_from_metadata(metadata)
        table.insert(row)
        assert table.select(config=once(emulator)).read_all() == row
    done = emulator.tally() - before
    assert done.requests == {"begin": 1, "insert": 1, "update": 1, "query": 1, "commit": 1}
    assert done.rows_read == {path(): 1}
