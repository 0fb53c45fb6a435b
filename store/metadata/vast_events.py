"""The outbox and the leases in VAST DB.

Writers put events into the outbox without a number, so that they do not wait for each other; who reads
them numbers those that have come: what becomes visible later has the greater number.
"""

from __future__ import annotations

from typing import Any, Final

import orjson

from store.metadata.rows import StoredEvent
from store.metadata.tables import event_of
from store.metadata.vast_predicates import Condition, below, equal
from store.metadata.vast_rows import guard_absent
from store.metadata.vast_tx import Tx
from store.metadata.vast_walk import Way, ahead

PIECE: Final = 2_000
"""How many events are numbered at once, or so."""
FORGET_CHUNK: Final = 5_000
SEQUENCE: Final = "sequence"
KEPT_NS: Final = 3_600_000_000_000
"""For how long it is remembered that a transaction was committed; its answer is waited for 10 s at most."""


def events(tx: Tx, after: int, limit: int) -> list[StoredEvent]:
    """Events behind a sequence number, in order."""
    last, _ = number(tx)
    if after >= last:
        return []

    def fetch(conditions: tuple[Condition, ...], most: int | None) -> list[Any]:
        return tx.select("events", ("sequence", "document"), *conditions, limit=most)

    found, _ = ahead(fetch, Way("sequence", 0, False, after, last), limit, limit)
    return [StoredEvent(sequence, event_of(orjson.loads(document))) for sequence, document in found[:limit]]


def number(tx: Tx) -> tuple[int, bool]:
    """Number what has come into the outbox, in the order it came: the last number there is, and whether there
    may be more to number."""
    ((last, row_id),) = tx.select("settings", ("number",), equal("name", SEQUENCE), row_ids=True)
    columns = ("stamp", "place", "time_ns", "document")

    def fetch(conditions: tuple[Condition, ...], most: int | None) -> list[Any]:
        return tx.select("outbox", columns, *conditions, limit=most, row_ids=True)

    found, all_there_are = ahead(fetch, Way("stamp", 0), PIECE)
    came = sorted(found, key=lambda record: record[:2])
    if not came:
        return last, False
    # The row of the number keeps two readers from numbering the same events.
    tx.update("settings", [row_id], {"number": [last + len(came)], "value": [tx.nonce]})
    tx.insert(
        "events",
        [
            {"sequence": sequence, "time_ns": time_ns, "document": document}
            for sequence, (_, _, time_ns, document, _) in enumerate(came, last + 1)
        ],
    )
    tx.delete("outbox", [record[-1] for record in came])
    return last + len(came), not all_there_are


def forget(tx: Tx, before_ns: int) -> int:
    """Drop some events older than a time, and what is known of transactions long over; how many rows.

    All have their numbers first, so that whoever goes on from one that is gone can tell.
    """
    gone = int(number(tx)[1])
    for table, column, limit_ns in (
        ("events", "time_ns", before_ns),
        ("commits", "stamp", tx.stamp - KEPT_NS),
    ):
        found = tx.select(table, (), below(column, limit_ns), limit=FORGET_CHUNK, row_ids=True)
        tx.delete(table, [row_id for (row_id,) in found])
        gone += len(found)
    return gone


def lease(tx: Tx, name: str, holder: str, now_ns: int, until_ns: int) -> bool:
    """Take, renew or give back a lease."""
    found = tx.select("leases", ("holder", "until_ns"), equal("name", name), row_ids=True)
    for other, ends_ns, row_id in found:
        if other != holder and ends_ns > now_ns:
            return False
        if until_ns > now_ns:
            tx.update("leases", [row_id], {"holder": [holder], "until_ns": [until_ns]})
        else:
            tx.delete("leases", [row_id])
    if not found and until_ns > now_ns:
        guard_absent(tx, [f"lease:{name}"])
        tx.insert("leases", [{"name": name, "holder": holder, "until_ns": until_ns}])
    return True
