"""What refers to objects in VAST DB: a page of flows, and the facts that authorising their use needs."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Any, Final

from store.metadata import vast_list, vast_objects
from store.metadata.query import Query
from store.metadata.rows import Kind, ObjectFact, ObjectPage, Role
from store.metadata.vast_predicates import Condition, equal
from store.metadata.vast_rows import classes_of
from store.metadata.vast_tx import Tx
from store.metadata.vast_walk import Way, ahead
from store.view import View, visible

LARGEST: Final = 1_024


def object_page(tx: Tx, object_id: str, flows: Query, after: str | None) -> ObjectPage | None:
    """An object with a page of the flows that refer to it; None when it is not registered."""
    objects = vast_objects.get_many(tx, [object_id])
    row = objects.get(object_id)
    if row is None or row.role is Role.UNUSED:
        return None
    if row.init_object_id is not None:
        objects |= vast_objects.get_many(tx, [row.init_object_id])
    found = []
    for ids in _referring(tx, object_id, flows.limit + 1, after):
        found += vast_list.passing(tx, flows, ids)
        if len(found) > flows.limit:
            break
    classes = {each.id: each.classes for each in found[: flows.limit]}
    page = list(classes)
    if row.flow_id not in classes:
        classes.update(_classes(tx, [row.flow_id]))
    return ObjectPage(
        row=row,
        init_object=None if row.init_object_id is None else objects.get(row.init_object_id),
        flow_ids=page,
        more=len(found) > flows.limit,
        readable=bool(page) or _readable(tx, object_id, flows.view),
        classes=classes,
    )


def _referring(tx: Tx, object_id: str, wanted: int, after: str | None) -> Iterator[list[str]]:
    """The ids of the flows that refer to an object, in order, a piece at a time."""

    def fetch(conditions: tuple[Condition, ...], most: int | None) -> list[Any]:
        return tx.select("uses", ("flow_id",), equal("object_id", object_id), *conditions, limit=most)

    ended = False
    while not ended:
        found, ended = ahead(fetch, Way("flow_id", 0, False, after), wanted)
        if found:
            yield [id for (id,) in found]
            after = found[-1][0]
        wanted = min(2 * wanted, LARGEST)


def _classes(tx: Tx, flow_ids: Sequence[str]) -> dict[str, frozenset[str]]:
    found = tx.select_among("resources", ("id", "classes"), "id", flow_ids, equal("kind", Kind.FLOW.value))
    return {id: classes_of(text) for id, text in found}


def _readable(tx: Tx, object_id: str, view: View | None) -> bool:
    if view is None or view.admin:
        return True
    return any(
        view.sees(classes)
        for ids in _referring(tx, object_id, LARGEST, None)
        for classes in _classes(tx, ids).values()
    )


def object_facts(tx: Tx, ids: Sequence[str], view: View | None) -> dict[str, ObjectFact]:
    """For each object that exists: a flow that refers to it and is seen, and the flows that own it."""
    columns = ("id", "role", "flow_id", "created_ns")
    objects = tx.select_among("objects", columns, "id", sorted(ids))
    known = [id for id, *_ in objects]
    uses = sorted(tx.select_among("uses", ("object_id", "flow_id"), "object_id", known))
    flow_ids = sorted({flow_id for _, flow_id in uses} | {first for _, _, first, _ in objects})
    flows = _flows(tx, flow_ids)
    referring: dict[str, list[str]] = {}
    for object_id, flow_id in uses:
        if flow_id in flows:
            referring.setdefault(object_id, []).append(flow_id)
    facts = {}
    for id, role, first, created_ns in objects:
        mine = tuple(referring.get(id, ()))
        witness = next((each for each in mine if visible(view, flows[each][0])), None)
        # A flow younger than the object has the id of the one that is meant, and is not it.
        exists = first in flows and flows[first][1] <= created_ns
        owned = exists and (role == Role.UNUSED or first in mine)
        classes = frozenset[str]() if witness is None else flows[witness][0]
        facts[id] = ObjectFact(id, Role(role), first, witness, (first,) if owned else mine, classes)
    return facts


def _flows(tx: Tx, ids: Sequence[str]) -> dict[str, tuple[frozenset[str], int]]:
    """The classes of flows, and when they were made."""
    columns, flows = ("id", "classes", "created_ns"), equal("kind", Kind.FLOW.value)
    found = tx.select_among("resources", columns, "id", ids, flows)
    return {id: (classes_of(text), created_ns) for id, text, created_ns in found}
