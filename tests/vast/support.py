"""What the tests with the real SDK share."""

import gc
import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import pyarrow as pa
import vastdb
import vastdb.config
from vastdb.config import QueryConfig
from vastdb.table_metadata import TableMetadata, TableRef

from tests.vast_emulator import Emulator, EmulatorProcess

SCHEMA = "media"
TABLE = "flows"
COLUMNS = pa.schema([("id", pa.string()), ("start", pa.int64()), ("label", pa.string())])
ROW_ID = "$row_id"


@contextmanager
def closing_session(
    emulator: Emulator | EmulatorProcess,
    *,
    access_key: str | None = None,
    secret_key: str | None = None,
    timeout_s: float = 10.0,
    max_tries: int = 3,
    ssl_verify: bool | str = True,
    endpoint: str | None = None,
) -> Iterator[Any]:
    """A session of the SDK whose connections are closed at the end."""
    backoff = vastdb.config.BackoffConfig(max_tries=max_tries, max_time=timeout_s, max_value=0.01)
    session = vastdb.connect(
        access=access_key or emulator.access_key,
        secret=secret_key or emulator.secret_key,
        endpoint=endpoint or emulator.endpoint,
        ssl_verify=ssl_verify,
        timeout=timeout_s,
        backoff_config=backoff,
    )
    with session.api:
        yield session
    # The SDK leaves the connection of a reply that broke off to the garbage collector.
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", ResourceWarning)
        gc.collect()


def once(emulator: Emulator | EmulatorProcess, **given: Any) -> QueryConfig:
    """A query in one split from the emulator's own address."""
    return QueryConfig(
        **{"data_endpoints": [emulator.endpoint], "num_splits": 1, "num_sub_splits": 1, **given}
    )


def create(
    session: Any, rows: pa.Table | None = None, columns: pa.Schema = COLUMNS, **given: Any
) -> TableMetadata:
    """Create the table of these tests with `rows` in it, and return its loaded metadata."""
    metadata = TableMetadata(TableRef("vastdb", SCHEMA, TABLE))
    with session.transaction() as tx:
        schema = tx.bucket("vastdb").create_schema(SCHEMA, fail_if_exists=False)
        table = schema.create_table(TABLE, columns, **given)
        if rows is not None:
            table.insert(rows)
        metadata.load(tx)
    return metadata


def flows(*ids: str, start: int = 0, label: str | None = None) -> pa.Table:
    values = [list(ids), [start + place for place in range(len(ids))], [label] * len(ids)]
    return pa.table(values, schema=COLUMNS)


def path(table: str = TABLE) -> str:
    """The name of a table in counts and faults."""
    return f"vastdb/{SCHEMA}/{table}"
