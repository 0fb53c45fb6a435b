"""Objects in VAST DB: their rows, what refers to them, and collecting those that nothing refers to."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from typing import Any, Final, NamedTuple

from store.errors import NotFound
from store.metadata.rows import Doomed, ObjectRow, Role
from store.metadata.tables import object_document, objects_of
from store.metadata.vast_predicates import among, below, chunks, equal
from store.metadata.vast_rows import guard_absent
from store.metadata.vast_tx import Tx
from store.timerange import MIN_NS

COLUMNS: Final = ("id", "version", "role", "flow_id", "created_ns", "init_object_id", "document")
BACKLOG: Final = 10
"""While more than this many times the limit of bytes are listed as doomed, no more objects are forgotten."""
LOOKS: Final = 20
"""How many times the limit of suspects are looked at in one go, most of which may turn out innocent."""

Uses = Counter[tuple[str, str]]
"""By (object id, flow id), by how much a count is to grow, or to shrink."""


class Held(NamedTuple):
    """An object that is there, to be written in this transaction."""

    row: ObjectRow
    row_id: Any


def get_many(tx: Tx, ids: Iterable[str]) -> dict[str, ObjectRow]:
    """The objects that exist."""
    found = tx.select_among("objects", COLUMNS, "id", sorted(set(ids)))
    return {row.id: row for row in objects_of(found)}


def load(tx: Tx, ids: Iterable[str]) -> dict[str, Held]:
    """The objects that exist, to be written."""
    found = tx.select_among("objects", COLUMNS, "id", sorted(set(ids)), row_ids=True)
    return {row.id: Held(row, record[-1]) for record, row in zip(found, objects_of(found), strict=True)}


def save(tx: Tx, rows: Sequence[ObjectRow], held: Mapping[str, Held]) -> None:
    """Write objects, each with a new version. `held`: those among them that exist.

    Bytes of instances that a row loses are doomed; an init object that it loses may become garbage.
    """
    inits = {row.init_object_id for row in rows if row.init_object_id is not None}
    missing = inits - held.keys() - {row.id for row in rows}
    if missing - load(tx, missing).keys():
        raise ValueError("an object names an init object that does not exist")
    fresh = [row for row in rows if row.id not in held]
    guard_absent(tx, (f"object:{row.id}" for row in fresh))
    columns = [{"id": row.id, **_columns(tx, row)} for row in rows]
    tx.insert("objects", [each for each in columns if each["id"] not in held])
    changed = [each for each in columns if each["id"] in held]
    values = (
        {name: [each[name] for each in changed] for name in columns[0] if name != "id"} if columns else {}
    )
    tx.update("objects", [held[each["id"]].row_id for each in changed], values)
    _place(tx, rows, held)
    suspect_after(tx, [(row.id, row.created_ns) for row in rows if row.role is Role.UNUSED])


def _columns(tx: Tx, row: ObjectRow) -> dict[str, Any]:
    return {
        "version": max(tx.number(), row.version + 1),
        "role": row.role.value,
        "flow_id": row.flow_id,
        "created_ns": row.created_ns,
        "init_object_id": row.init_object_id,
        "size_bytes": row.size_bytes,
        "document": object_document(row),
        "guard": tx.nonce,
    }


def _place(tx: Tx, rows: Iterable[ObjectRow], held: Mapping[str, Held]) -> None:
    """Follow what rows that were written have gained and lost: bytes, and init objects."""
    gained, lost = [], []
    for row in rows:
        old = held[row.id].row if row.id in held else None
        had = set() if old is None else {(i.backend_id, i.key) for i in old.instances}
        has = {(i.backend_id, i.key) for i in row.instances}
        gained += [(*place, row.id) for place in sorted(has - had)]
        lost += [(*place, row.id) for place in sorted(had - has)]
        # Nothing refers yet to what is registered only now.
        if old is not None and old.init_object_id != row.init_object_id and old.role is not Role.UNUSED:
            _move_init(tx, row.id, old.init_object_id, row.init_object_id)
    tx.insert("instances", [{"backend_id": b, "key": k, "object_id": id} for b, k, id in gained])
    doom(tx, lost)


def _move_init(tx: Tx, object_id: str, old: str | None, new: str | None) -> None:
    """Let the flows that refer to an object refer to its new init object instead of the old one."""
    tx.touch("objects", [held.row_id for held in load(tx, [id for id in (old, new) if id]).values()])
    uses: Uses = Counter()
    for flow_id, count in tx.select("uses", ("flow_id", "count"), equal("object_id", object_id)):
        if old is not None:
            uses[old, flow_id] -= count
        if new is not None:
            uses[new, flow_id] += count
    count_uses(tx, uses)
    if old is not None:
        suspect(tx, [old])


def count_uses(tx: Tx, uses: Uses) -> None:
    """Add to the counts of uses; an object without any left in a flow may be garbage."""
    changes = {pair: count for pair, count in uses.items() if count}
    if not changes:
        return
    ids = sorted({object_id for object_id, _ in changes})
    flows = among("flow_id", sorted({flow_id for _, flow_id in changes}))
    found = tx.select_among("uses", ("object_id", "flow_id", "count"), "object_id", ids, flows, row_ids=True)
    held = {
        (id, flow_id): (count, row_id) for id, flow_id, count, row_id in found if (id, flow_id) in changes
    }
    left = {pair: held[pair][0] + changes[pair] for pair in held}
    kept = [pair for pair, count in left.items() if count > 0]
    gone = [pair for pair, count in left.items() if count <= 0]
    tx.update(
        "uses",
        [held[pair][1] for pair in kept],
        {"count": [left[pair] for pair in kept], "guard": [tx.nonce] * len(kept)},
    )
    tx.delete("uses", [held[pair][1] for pair in gone])
    made = [(pair, count) for pair, count in changes.items() if pair not in held and count > 0]
    tx.insert(
        "uses",
        [
            {"object_id": id, "flow_id": flow_id, "count": count, "guard": tx.nonce}
            for (id, flow_id), count in made
        ],
    )
    suspect(tx, {id for (id, _), count in changes.items() if count < 0})


def suspect(tx: Tx, ids: Iterable[str]) -> None:
    """Remember objects that lost a reference, for `collect` to look at."""
    suspect_after(tx, [(id, MIN_NS) for id in sorted(set(ids))])


def suspect_after(tx: Tx, ids: Iterable[tuple[str, int]]) -> None:
    """Remember objects to be looked at once a time has passed."""
    tx.insert("suspects", [{"object_id": id, "after_ns": after_ns} for id, after_ns in ids])


def hold(tx: Tx, object_ids: Sequence[str], reference: str, holder: str, held: bool) -> None:
    """Add or drop a reference by a holder outside the segments, to distinct objects."""
    known = load(tx, object_ids)
    if held and len(known) < len(object_ids):
        raise NotFound("No such object.")
    mine = (equal("reference", str(reference)), equal("holder", holder))
    found = tx.select_among("holds", ("object_id",), "object_id", sorted(known), *mine, row_ids=True)
    tx.touch("objects", [each.row_id for each in known.values()])
    if held:
        there = {id for id, _ in found}
        rows = [{"object_id": id, "reference": str(reference), "holder": holder} for id in object_ids]
        tx.insert("holds", [row for row in rows if row["object_id"] not in there])
    else:
        tx.delete("holds", [row_id for _, row_id in found])
        suspect(tx, known)


def count_accesses(tx: Tx, counts: Mapping[str, int], at_ns: int) -> None:
    """Add to how often URLs of objects were given out."""
    ids = sorted(counts)
    columns = ("object_id", "urls", "last_ns")
    held = tx.select_among("accesses", columns, "object_id", ids, row_ids=True)
    tx.update(
        "accesses",
        [record[-1] for record in held],
        {
            "urls": [urls + counts[id] for id, urls, *_ in held],
            "last_ns": [max(last_ns, at_ns) for _, _, last_ns, _ in held],
        },
    )
    new = set(ids) - {record[0] for record in held}
    there = sorted(id for (id,) in tx.select_among("objects", ("id",), "id", sorted(new)))
    if there:
        # One guard for all: of two that count an object for the first time, one has to look again.
        guard_absent(tx, ["accesses"])
    tx.insert("accesses", [{"object_id": id, "urls": counts[id], "last_ns": at_ns} for id in there])


def collect(tx: Tx, allocated_before_ns: int, limit: int) -> list[Doomed]:
    """Forget objects that nothing refers to; all bytes that are to be removed, earliest first."""
    listed = tx.count("doomed")
    room = min(limit, max(0, BACKLOG * limit - listed))
    for _ in range(LOOKS):
        if room <= 0:
            break
        looked_at, garbage = _look(tx, allocated_before_ns, room)
        _forget(tx, garbage)
        room -= len(garbage)
        if not looked_at:
            break
    rows = sorted(tx.select("doomed", ("number", "backend_id", "key")))
    return [Doomed(backend_id, key) for _, backend_id, key in rows]


def _look(tx: Tx, before_ns: int, limit: int) -> tuple[int, list[Held]]:
    """Look at up to `limit` suspects that are due: how many there were, and those that are garbage.

    What was looked at is suspected no more, but for what was allocated too lately to be garbage yet.
    """
    due = tx.select("suspects", ("object_id",), below("after_ns", before_ns), limit=limit, row_ids=True)
    tx.delete("suspects", [row_id for _, row_id in due])
    found = load(tx, [id for id, _ in due])
    needed = _referred(tx, list(found))
    free = [each for id, each in found.items() if id not in needed]
    early = [each for each in free if each.row.role is Role.UNUSED and each.row.created_ns >= before_ns]
    suspect_after(tx, [(each.row.id, each.row.created_ns) for each in early])
    return len(due), [each for each in free if each not in early]


def _referred(tx: Tx, ids: Sequence[str]) -> set[str]:
    """Those of the objects that anything refers to."""
    found: set[str] = set()
    for table, column in (("uses", "object_id"), ("holds", "object_id"), ("objects", "init_object_id")):
        for piece in chunks(ids):
            left = [str(id) for id in piece if id not in found]
            # One object may have any number of references: any rows, then any of those not seen yet.
            while left:
                most = len(left) + 200
                rows = tx.select(table, (column,), among(column, left), limit=most)
                found.update(id for (id,) in rows)
                left = [id for id in left if id not in found] if len(rows) == most else []
    return found


def _forget(tx: Tx, garbage: Sequence[Held]) -> None:
    """Remove objects; their bytes are doomed, the init objects they used are suspects."""
    tx.delete("objects", [held.row_id for held in garbage])
    ids = sorted(held.row.id for held in garbage)
    accesses = tx.select_among("accesses", (), "object_id", ids, row_ids=True)
    tx.delete("accesses", [row_id for (row_id,) in accesses])
    suspect(tx, [held.row.init_object_id for held in garbage if held.row.init_object_id is not None])
    doom(tx, [(i.backend_id, i.key, held.row.id) for held in garbage for i in held.row.instances])


def doom(tx: Tx, places: Iterable[tuple[str, str, str]]) -> None:
    """List bytes as to be removed, unless another object has them too. `places`: with the object's id."""
    gone = set(places)
    if not gone:
        return
    backends = among("backend_id", sorted({backend_id for backend_id, _, _ in gone}))
    keys = sorted({key for _, key, _ in gone})
    found = tx.select_among(
        "instances", ("backend_id", "key", "object_id"), "key", keys, backends, row_ids=True
    )
    tx.delete("instances", [record[-1] for record in found if record[:3] in gone])
    kept = {record[:2] for record in found if record[:3] not in gone}
    listed = tx.select_among("doomed", ("backend_id", "key"), "key", keys, backends)
    lost = sorted({place[:2] for place in gone} - kept - set(listed))
    tx.insert("doomed", [{"number": tx.number(), "backend_id": b, "key": k} for b, k in lost])


def strike_off(tx: Tx, doomed: Iterable[Doomed]) -> None:
    """Forget bytes that have been removed."""
    gone = {(each.backend_id, each.key) for each in doomed}
    backends = among("backend_id", sorted({backend_id for backend_id, _ in gone}))
    keys = sorted({key for _, key in gone})
    found = tx.select_among("doomed", ("backend_id", "key"), "key", keys, backends, row_ids=True)
    tx.delete("doomed", [record[-1] for record in found if record[:2] in gone])
