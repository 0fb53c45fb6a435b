"""What a VAST cluster can do, found out on a schema made for that and dropped afterwards."""

from __future__ import annotations

import time
import uuid
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager, suppress
from dataclasses import dataclass, replace
from statistics import median

import vastdb.errors

from store import errors
from store.metadata import vast_probe
from store.metadata.vast_api import VastConfig
from store.metadata.vast_inventory import TableStats, get_table_stats, list_schemas
from store.metadata.vast_predicates import equal
from store.metadata.vast_probe import Conflicts
from store.metadata.vast_session import Database
from store.metadata.vast_start import missing_bucket
from store.metadata.vast_tables import TABLES, Table, create, load
from store.metadata.vast_tx import Stamps, Tx

USED = ("settings", "commits", "segments")
ROUNDS = 5
LONG_S = 60.0
MEANING = {
    Conflicts.UPDATE: "found at once, when the second transaction writes the row",
    Conflicts.COMMIT: "found when the second transaction commits",
    Conflicts.UNSEEN: "NOT found: a transaction overwrites what it has not seen. Only one process may use "
    "the metadata; a second one refuses to start",
}


@dataclass(frozen=True, slots=True)
class Finding:
    """One answer, in plain words; `ok` False where the metadata cannot work."""

    ok: bool
    subject: str
    answer: str


async def examine(config: VastConfig, now_ns: Callable[[], int]) -> AsyncIterator[Finding]:
    """What can be said about a cluster, one thing after another; ends at the first that keeps all else
    from working. The verdict on conflicts is kept where the tables are, and then goes for the store."""
    database = Database(config, Stamps(now_ns))
    try:
        try:
            await database.open()
        except errors.Unavailable as exc:
            yield Finding(False, "reachable", exc.summary)
            return
        version = ".".join(map(str, database.session.api.vast_version)) if database.session else "?"
        yield Finding(True, "reachable", f"{', '.join(config.endpoints)} takes the credentials")
        yield Finding(True, "version", version)
        try:
            schemas = await database.read(_schemas)
        except errors.Unavailable as exc:
            yield Finding(False, "bucket", exc.summary)
            return
        yield Finding(True, "bucket", f"{config.bucket} is a database view with {len(schemas)} schemas")
        there = config.schema in schemas
        made = "is there" if there else "is not there yet; the first start makes it"
        yield Finding(True, "tables", f"the schema {config.schema} {made}")
        async for finding in _tried(config, now_ns, database if there else None):
            yield finding
    finally:
        await database.close()


def _schemas(tx: Tx) -> list[str]:
    try:
        return [schema.name for schema in tx.sdk.bucket(tx.bucket).schemas()]
    except (vastdb.errors.MissingBucket, vastdb.errors.NotFound) as exc:
        raise missing_bucket(tx.bucket) from exc


async def _tried(
    config: VastConfig, now_ns: Callable[[], int], kept: Database | None
) -> AsyncIterator[Finding]:
    """Findings that take tables. `kept`: the database whose tables are to remember the verdict."""
    scratch = replace(config, schema=f"{config.schema}_doctor_{uuid.uuid4().hex[:8]}")
    try:
        async with _scratch(scratch, now_ns) as database:
            ordered = database.tables["segments"].row_id.type != database.tables["settings"].row_id.type
            yield Finding(True, "sorted tables", "work" if ordered else "do not work: projections are used")
            verdict = await vast_probe.find(database)
            yield Finding(True, "conflicts", MEANING[verdict])
            for name, taken_s in (await database.read(_latencies, within_s=LONG_S)).items():
                yield Finding(True, f"latency of {name}", f"{taken_s * 1000:.1f} ms")
        if kept is not None:
            await _keep(kept, verdict)
            yield Finding(True, "verdict", "kept with the tables; it goes for servers that start from now on")
    except errors.Error as exc:
        yield Finding(False, "tables", exc.summary)


async def _keep(database: Database, verdict: Conflicts) -> None:
    config = database.config
    specs = {name: TABLES[name] for name in ("settings", "commits")}
    database.tables.update(
        await database.read(lambda tx: load(tx.sdk, config.bucket, config.schema, specs), within_s=LONG_S)
    )
    await database.write(lambda tx: vast_probe.record(tx, verdict))


@asynccontextmanager
async def _scratch(config: VastConfig, now_ns: Callable[[], int]) -> AsyncIterator[Database]:
    """A few of the tables in a schema of their own, for as long as the context lasts."""
    database = Database(config, Stamps(now_ns))
    specs = {name: TABLES[name] for name in USED}

    def make(tx: Tx) -> dict[str, Table]:
        create(tx.sdk, config.bucket, config.schema, specs)
        tables = load(tx.sdk, config.bucket, config.schema, specs)
        database.tables.update(tables)
        tx.wrote = True
        return tables

    try:
        await database.open()
        await database.write(make, within_s=LONG_S)
        try:
            yield database
        finally:
            await database.write(lambda tx: _drop(tx, config), within_s=LONG_S)
    finally:
        await database.close()


def _drop(tx: Tx, config: VastConfig) -> None:
    """Remove the schema; nothing of it has to be kept, so that its own marks of commits go too."""
    schema = tx.sdk.bucket(config.bucket).schema(config.schema, fail_if_missing=False)
    if schema is None:
        return
    for table in schema.tables():
        for projection in table.projections(include_stats=False):
            projection.drop()
        table.drop()
    schema.drop()
    tx.commit()


def _latencies(tx: Tx) -> dict[str, float]:
    """Medians of what a call is made of, in seconds."""
    row = {"flow_id": "f", "start_ns": 0, "stop_ns": 1, "object_id": "o", "timerange": "", "document": b"{}"}
    steps: dict[str, Callable[[], object]] = {
        "insert": lambda: tx.insert("segments", [row]),
        "query": lambda: tx.select("segments", ("start_ns",), equal("flow_id", "f"), limit=10),
        "update": lambda: tx.update("segments", _ids(tx), {"timerange": ["x"]}),
        "delete": lambda: tx.delete("segments", _ids(tx)),
    }
    taken: dict[str, list[float]] = {name: [] for name in ("begin and roll back", *steps)}
    for _ in range(ROUNDS):
        begun = time.perf_counter()
        with suppress(vastdb.errors.HttpError):
            tx.another().roll_back()
        taken["begin and roll back"].append(time.perf_counter() - begun)
        for name, step in steps.items():
            begun = time.perf_counter()
            step()
            taken[name].append(time.perf_counter() - begun)
    return {name: median(times) for name, times in taken.items()}


def _ids(tx: Tx) -> list[object]:
    return [row_id for (row_id,) in tx.select("segments", (), equal("flow_id", "f"), limit=1, row_ids=True)]


async def inventory(config: VastConfig, now_ns: Callable[[], int]) -> dict[str, list[TableStats]]:
    """The configured schema's tables with their figures, and the names of the other schemas, without.

    Raises `errors.Unavailable`.
    """
    database = Database(config, Stamps(now_ns))
    try:
        await database.open()
        found: dict[str, list[TableStats]] = {name: [] for name in await list_schemas(database)}
        if config.schema in found:
            found[config.schema] = await get_table_stats(database, config.schema)
        return found
    finally:
        await database.close()
