"""Opening the tables on a cluster, and, where it takes that, being the only process that writes."""

from __future__ import annotations

import asyncio
import logging
import uuid
from collections.abc import Callable
from typing import Final

import vastdb.errors

from store import errors
from store.metadata import vast_probe
from store.metadata.vast_events import SEQUENCE
from store.metadata.vast_predicates import equal
from store.metadata.vast_probe import Conflicts
from store.metadata.vast_session import Database
from store.metadata.vast_tables import BUCKETS, VERSION, create, load
from store.metadata.vast_tx import Tx

_log = logging.getLogger(__name__)

START_S: Final = 60.0
SCHEMA_VERSION: Final = "schema_version"
CLAIM_NS: Final = 30_000_000_000
"""For how long a process that stopped without a word keeps others from writing."""
RENEW_S: Final = 8.0
WRITER: Final = "writer:"


async def start(database: Database) -> Conflicts:
    """Connect, make the tables if their schema is not there, and load them; how conflicts are detected.

    Raises `errors.Unavailable`.
    """
    await database.open()
    if not await database.read(lambda tx: _is_there(database, tx), within_s=START_S):
        await upgrade(database)
    else:
        await database.read(lambda tx: _load(database, tx), within_s=START_S)
    found = await database.read(vast_probe.recorded)
    if found is None:
        found = await vast_probe.find(database)
        verdict = found
        await database.write(lambda tx: vast_probe.record(tx, verdict))
    return found


async def open_existing(database: Database) -> None:
    """Connect to tables that are there, and load them. Raises `errors.Unavailable` for everything else."""
    await database.open()
    if not await database.read(lambda tx: _is_there(database, tx), within_s=START_S):
        config = database.config
        raise errors.Unavailable(f"There is no schema {config.schema!r} in the bucket {config.bucket!r}.")
    await database.read(lambda tx: _load(database, tx), within_s=START_S)


def _is_there(database: Database, tx: Tx) -> bool:
    config = database.config
    try:
        return tx.sdk.bucket(config.bucket).schema(config.schema, fail_if_missing=False) is not None
    except vastdb.errors.MissingBucket as exc:
        raise missing_bucket(config.bucket) from exc


def missing_bucket(bucket: str) -> errors.Unavailable:
    """What to do about a bucket that is not there."""
    return errors.Unavailable(
        f"There is no bucket {bucket!r}. Make a view on the cluster with this bucket name and the "
        "protocols S3 and DATABASE first."
    )


async def upgrade(database: Database) -> list[str]:
    """Make what is missing of the tables; what that was, in words. The database has to be open.

    Raises `errors.Unavailable` when a newer version of this software made them.
    """
    return await database.write(lambda tx: _upgrade(database, tx), within_s=START_S)


def _upgrade(database: Database, tx: Tx) -> list[str]:
    config = database.config
    try:
        done = create(tx.sdk, config.bucket, config.schema)
    except vastdb.errors.MissingBucket as exc:
        raise missing_bucket(config.bucket) from exc
    database.tables.update(load(tx.sdk, config.bucket, config.schema))
    settings = {name: row_id for name, row_id in tx.select("settings", ("name",), row_ids=True)}
    if SCHEMA_VERSION not in settings:
        tx.insert("guards", [{"bucket": place, "guard": ""} for place in range(BUCKETS)])
        tx.insert(
            "settings",
            [{"name": SCHEMA_VERSION, "number": VERSION}, {"name": SEQUENCE, "number": 0}],
        )
    else:
        _check_version(tx)
        tx.update("settings", [settings[SCHEMA_VERSION]], {"number": [VERSION]})
    return done


def _load(database: Database, tx: Tx) -> None:
    config = database.config
    database.tables.update(load(tx.sdk, config.bucket, config.schema))
    found = _check_version(tx)
    if found < VERSION:
        raise errors.Unavailable(f"The tables have version {found}: run tams-store upgrade.")


def _check_version(tx: Tx) -> int:
    ((found,),) = tx.select("settings", ("number",), equal("name", SCHEMA_VERSION)) or ((0,),)
    if found > VERSION:
        raise errors.Unavailable(
            f"The tables have version {found}; this software knows versions up to {VERSION}."
        )
    return int(found)


class Writer:
    """The claim of this process to be the only one that writes, renewed until it is given up.

    It rests on inserts alone, which every cluster keeps apart: whoever claims and then sees another claim
    gives up, so that of two at the same time none remains rather than both.
    """

    def __init__(self, database: Database, now_ns: Callable[[], int]) -> None:
        self._database = database
        self._now_ns = now_ns
        self._name = WRITER + uuid.uuid4().hex
        self._task: asyncio.Task[None] | None = None

    async def claim(self) -> None:
        """Raises `errors.Unavailable` when another process has a claim."""
        await self._database.write(self._renew)
        others = await self._database.read(self._others)
        if others:
            await self._database.write(self._drop)
            raise errors.Unavailable(
                "This cluster does not detect that two transactions write the same row, so that only one "
                "process may use these tables, and another one does."
            )
        self._task = asyncio.create_task(self._keep())

    async def release(self) -> None:
        """Give the claim up."""
        if self._task is not None:
            self._task.cancel()
            await asyncio.gather(self._task, return_exceptions=True)
            await self._database.write(self._drop)

    async def _keep(self) -> None:
        while True:
            await asyncio.sleep(RENEW_S)
            try:
                await self._database.write(self._renew)
            except errors.Error as exc:
                _log.error("the claim to be the only writer was not renewed: %s", exc)

    def _renew(self, tx: Tx) -> None:
        until_ns = self._now_ns() + CLAIM_NS
        found = tx.select("leases", (), equal("name", self._name), row_ids=True)
        if found:
            tx.update("leases", [row_id for (row_id,) in found], {"until_ns": [until_ns]})
        else:
            tx.insert("leases", [{"name": self._name, "holder": "", "until_ns": until_ns}])

    def _others(self, tx: Tx) -> list[str]:
        found = tx.select("leases", ("name", "until_ns"))
        now_ns = self._now_ns()
        return [
            name
            for name, until_ns in found
            if name.startswith(WRITER) and name != self._name and until_ns > now_ns
        ]

    def _drop(self, tx: Tx) -> None:
        found = tx.select("leases", (), equal("name", self._name), row_ids=True)
        tx.delete("leases", [row_id for (row_id,) in found])
