"""Finding out what a cluster does when two transactions write one row: the adapter stands on it."""

from __future__ import annotations

import uuid
from enum import StrEnum
from typing import Final

import vastdb.errors

from store.metadata.vast_predicates import equal
from store.metadata.vast_session import Database
from store.metadata.vast_tx import Tx

PROBE: Final = "probe"
VERDICT: Final = "conflicts"


class Conflicts(StrEnum):
    """When the second of two transactions that write one row is refused. UNSEEN: never, so that it
    overwrites what it has not seen; then only one process may write."""

    UPDATE = "update"
    COMMIT = "commit"
    UNSEEN = "unseen"


async def find(database: Database) -> Conflicts:
    """Let two transactions write one row, the second from before the first one's commit."""
    await database.write(_prepare)
    return await database.read(_race)


def _prepare(tx: Tx) -> None:
    if not tx.select("settings", ("name",), equal("name", PROBE)):
        tx.insert("settings", [{"name": PROBE, "number": 0, "value": ""}])


def _race(late: Tx) -> Conflicts:
    """`late` has begun; another transaction writes and commits before it does."""
    early = late.another()
    ((row_id,),) = late.select("settings", (), equal("name", PROBE), row_ids=True)
    early.update("settings", [row_id], {"value": [uuid.uuid4().hex]})
    early.commit()
    try:
        late.update("settings", [row_id], {"value": [uuid.uuid4().hex]})
    except vastdb.errors.Conflict:
        return Conflicts.UPDATE
    try:
        late.commit()
    except vastdb.errors.Conflict:
        return Conflicts.COMMIT
    return Conflicts.UNSEEN


def recorded(tx: Tx) -> Conflicts | None:
    """What was found on this cluster."""
    for (value,) in tx.select("settings", ("value",), equal("name", VERDICT)):
        return Conflicts(value)
    return None


def record(tx: Tx, verdict: Conflicts) -> None:
    """Keep what was found; the adapter goes by it from its next start on."""
    found = tx.select("settings", (), equal("name", VERDICT), row_ids=True)
    tx.delete("settings", [row_id for (row_id,) in found])
    tx.insert("settings", [{"name": VERDICT, "number": 0, "value": verdict.value}])
