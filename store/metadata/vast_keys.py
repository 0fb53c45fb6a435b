"""Keys of the key-value API in VAST DB."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, Final, NamedTuple

from store.metadata import vast_objects
from store.metadata.keys import DeleteKey, KeyQuery, KeyRow, PutKey
from store.metadata.protocol import Stale
from store.metadata.rows import ObjectRow, Reference, Role
from store.metadata.vast_predicates import Condition, at_least, below, equal
from store.metadata.vast_rows import guard_absent
from store.metadata.vast_tx import Tx
from store.metadata.vast_walk import Fetch, Way, ahead

COLUMNS: Final = ("name", "version", "created_ns", "size_bytes", "content_type", "data", "object_id")


class _Held(NamedTuple):
    """A key that is there, to be written in this transaction."""

    version: int
    object_id: str | None
    row_id: Any


def get(tx: Tx, name: str) -> KeyRow | None:
    """One key with what it points to."""
    for *values, object_id in tx.select("keys", COLUMNS, equal("name", name)):
        row = None if object_id is None else vast_objects.get_many(tx, [object_id])[object_id]
        return KeyRow._make((*values, row))
    return None


def listing(tx: Tx, query: KeyQuery) -> tuple[list[str], bool]:
    """A page of names and whether more follow."""
    found: list[str] = []
    for start, stop in query.ranges:
        wanted = query.limit + 1 - len(found)
        if wanted <= 0:
            break
        if query.after is not None and stop is not None and query.after >= stop:
            continue
        bounds = [at_least("name", start), *([] if stop is None else [below("name", stop)])]

        def fetch(
            more: tuple[Condition, ...], most: int | None, bounds: list[Condition] = bounds
        ) -> list[Any]:
            return tx.select("keys", ("name",), *bounds, *more, limit=most)

        found += [name for (name,) in ahead(fetch, Way("name", 0, False, query.after), wanted)[0]]
    return found[: query.limit], len(found) > query.limit


def _fetcher(tx: Tx, bounds: Sequence[Condition]) -> Fetch:
    def fetch(more: tuple[Condition, ...], most: int | None) -> list[Any]:
        return tx.select("keys", ("name",), *bounds, *more, limit=most)

    return fetch


def reserve(tx: Tx, row: ObjectRow) -> ObjectRow:
    """Create the row of an object for a key. Raises `Stale` when its id is taken."""
    if vast_objects.load(tx, [row.id]):
        raise Stale
    vast_objects.save(tx, [row], {})
    return vast_objects.get_many(tx, [row.id])[row.id]


def put(tx: Tx, request: PutKey) -> KeyRow:
    """Point a key at bytes. Raises `Stale`."""
    before = _current(tx, request.name, request.version)
    version = max(tx.number(), before.version + 1 if before else 0)
    row = None if request.object is None else _finish(tx, request.object)
    values = {
        "version": version,
        "created_ns": request.created_ns,
        "size_bytes": request.size_bytes,
        "content_type": request.content_type,
        "data": request.data,
        "object_id": None if row is None else row.id,
    }
    if before is None:
        guard_absent(tx, [f"key:{request.name}"])
        tx.insert("keys", [{"name": request.name, **values}])
    else:
        tx.update("keys", [before.row_id], {name: [value] for name, value in values.items()})
    if row is not None:
        vast_objects.hold(tx, [row.id], Reference.KEY, request.name, True)
    _release(tx, before, request.name, request.released_ns, keep=row)
    return KeyRow(
        request.name, version, request.created_ns, request.size_bytes, request.content_type, request.data, row
    )


def delete(tx: Tx, request: DeleteKey) -> bool:
    """Remove a key, False when there is none. Raises `Stale`."""
    before = _current(tx, request.name, request.version)
    if before is None:
        return False
    tx.delete("keys", [before.row_id])
    _release(tx, before, request.name, request.released_ns, keep=None)
    return True


def _current(tx: Tx, name: str, version: int | None) -> _Held | None:
    found = tx.select("keys", ("version", "object_id"), equal("name", name), row_ids=True)
    held = next((_Held(*record) for record in found), None)
    if version is not None and version != (0 if held is None else held.version):
        raise Stale
    return held


def _finish(tx: Tx, row: ObjectRow) -> ObjectRow:
    """Write a reserved object's row as it is to be. Raises `Stale` when it has changed."""
    held = vast_objects.load(tx, [row.id])
    if row.id not in held or held[row.id].row.version != row.version:
        raise Stale
    vast_objects.save(tx, [row], held)
    return vast_objects.get_many(tx, [row.id])[row.id]


def _release(tx: Tx, before: _Held | None, name: str, released_ns: int, *, keep: ObjectRow | None) -> None:
    """Drop the key's reference to the object that it pointed to before."""
    if before is None or before.object_id is None or (keep is not None and keep.id == before.object_id):
        return
    vast_objects.hold(tx, [before.object_id], Reference.KEY, name, False)
    held = vast_objects.load(tx, [before.object_id])
    row = held[before.object_id].row
    if row.role is Role.UNUSED:
        # Saving it anew makes it suspect from then on, though its own allocation may be younger.
        vast_objects.save(tx, [row._replace(created_ns=released_ns)], held)
