"""What refers to objects in SQLite: a page of flows, and the facts that authorising their use needs."""

from __future__ import annotations

import sqlite3
from collections.abc import Sequence

from store.metadata.query import Query
from store.metadata.rows import Kind, ObjectFact, ObjectPage, Ref, Role
from store.metadata.sqlite_list import condition_of, fetch_sql, joined, plan_of
from store.metadata.sqlite_objects import json_array, load
from store.metadata.sqlite_rows import classes_of, get, row_of
from store.view import View, visible

_FLOWS = """SELECT flow_id FROM uses WHERE object = (SELECT number FROM objects WHERE id = ?) AND flow_id > ?
    ORDER BY flow_id LIMIT ?"""
_FACTS = """SELECT o.id, o.role, o.flow_id, r.id IS NOT NULL FROM json_each(?) w
    CROSS JOIN objects o ON o.id = w.value
    LEFT JOIN resources r ON r.kind = 'flow' AND r.id = o.flow_id AND -r.created_rank <= o.created_ns"""
_USES = """SELECT o.id, u.flow_id, r.classes FROM json_each(?) w
    CROSS JOIN objects o ON o.id = w.value CROSS JOIN uses u ON u.object = o.number
    CROSS JOIN resources r ON r.kind = 'flow' AND r.id = u.flow_id ORDER BY o.number, u.flow_id"""


def object_page(
    connection: sqlite3.Connection, object_id: str, flows: Query, after: str | None
) -> ObjectPage | None:
    """An object with a page of the flows that refer to it; None when it is not registered."""
    held = load(connection, [object_id]).get(object_id)
    if held is None or held.row.role is Role.UNUSED:
        return None
    row = held.row
    inits = [] if row.init_object_id is None else [row.init_object_id]
    found = _flows(connection, object_id, flows, after or "")
    page = found[: flows.limit]
    classes = dict(page)
    if row.flow_id not in classes:
        first = get(connection, Ref(Kind.FLOW, row.flow_id))
        if first is not None:
            classes[row.flow_id] = first.classes
    return ObjectPage(
        row=row,
        init_object=next((init.row for init in load(connection, inits).values()), None),
        flow_ids=[id for id, _ in page],
        more=len(found) > flows.limit,
        readable=bool(page) or _readable(connection, object_id, flows.view),
        classes=classes,
    )


def _flows(
    connection: sqlite3.Connection, object_id: str, flows: Query, after: str
) -> list[tuple[str, frozenset[str]]]:
    """The flows behind `after` that refer to an object, pass and are seen, one more than the limit at
    most, with their classes."""
    plan = plan_of(flows)
    passes = joined((*plan.conditions, *map(condition_of, plan.facets)))
    sql = fetch_sql(passes)
    found: list[tuple[str, frozenset[str]]] = []
    size = flows.limit + 1
    while not plan.void and len(found) <= flows.limit:
        ids = [row[0] for row in connection.execute(_FLOWS, (object_id, after, size))]
        asked = ids if flows.ids is None else [id for id in ids if id in flows.ids]
        rows = map(row_of, connection.execute(sql, (json_array(asked), Kind.FLOW, *passes.values)))
        found += sorted((row.id, row.classes) for row in rows if visible(flows.view, row.classes))
        if len(ids) < size:
            break
        after, size = ids[-1], min(2 * size, 1_024)
    return found[: flows.limit + 1]


def _readable(connection: sqlite3.Connection, object_id: str, view: View | None) -> bool:
    if view is None or view.admin:
        return True
    uses = connection.execute(_USES, (json_array([object_id]),))
    return any(view.sees(classes_of(classes)) for *_, classes in uses)


def object_facts(
    connection: sqlite3.Connection, ids: Sequence[str], view: View | None
) -> dict[str, ObjectFact]:
    """For each object that exists: a flow that refers to it and is seen, and the flows that own it."""
    text = json_array(dict.fromkeys(ids))
    flows: dict[str, list[str]] = {}
    witnesses: dict[str, tuple[str, frozenset[str]]] = {}
    for object_id, flow_id, named in connection.execute(_USES, (text,)):
        flows.setdefault(object_id, []).append(flow_id)
        classes = classes_of(named)
        if object_id not in witnesses and visible(view, classes):
            witnesses[object_id] = flow_id, classes
    facts = {}
    for id, role, first, exists in connection.execute(_FACTS, (text,)):
        witness, classes = witnesses.get(id, (None, frozenset[str]()))
        referring = tuple(flows.get(id, ()))
        owned = exists and (role == Role.UNUSED or first in referring)
        owners = (first,) if owned else referring
        facts[id] = ObjectFact(id, Role(role), first, witness, owners, classes)
    return facts
