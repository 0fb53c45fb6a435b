"""A query as SQL: what its rows can be found by, and the conditions that are left. Pure."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any, Final

from store import errors
from store.metadata.query import Query, Sort
from store.metadata.sqlite_objects import json_array
from store.metadata.sqlite_rows import CLASSES, NONE, RELATED, ROW
from store.timerange import TimeRange
from store.view import View

Value = str | int

MOST_TAGS: Final = 100
COLUMNS: Final = ("format", "codec", "profile_id", "status", "frame_width", "frame_height", "init_segments")
SORT_COLUMN: Final = {
    Sort.CREATED: "created_rank",
    Sort.UPDATED: "updated_rank",
    Sort.EXPIRY: "updated_rank",
    Sort.LABEL: "sort_text",
    Sort.URL: "sort_text",
}

HEAD: Final = f"r.version, r.id, {RELATED}, r.segments_updated_ns"
"""A row's version, and what changes without it."""

_HAS = """EXISTS (SELECT 1 FROM terms t
    WHERE t.kind = {1}.kind AND t.id = {1}.id AND t.facet = ? AND t.value {0})"""
_HAS_NOT = f"NOT {_HAS}"
_ANY = "IN (SELECT value FROM json_each(?))"


@dataclass(frozen=True, slots=True)
class Facet:
    """Rows that have any of the values under a name: an index leads to them in the default order."""

    name: str
    values: tuple[Value, ...]

    @property
    def values_text(self) -> str:
        """The values as `json_each` takes them."""
        return json_array(self.values)


@dataclass(frozen=True, slots=True)
class Condition:
    """An SQL condition on a row `r`, with its parameters."""

    sql: str
    values: tuple[Any, ...] = ()


@dataclass(frozen=True, slots=True)
class Plan:
    """What a listing amounts to: all facets and conditions hold, and the view sees it.

    `view`: None where everything is seen, so that nothing is left to check. `void`: nothing can match.
    """

    facets: tuple[Facet, ...]
    conditions: tuple[Condition, ...]
    view: View | None
    void: bool


def plan_of(query: Query) -> Plan:
    """How to find what a query asks for, its view and ids left aside.

    Raises `errors.BadRequest` for more filters than one statement should carry.
    """
    if len(query.tags) + len(query.tag_exists) > MOST_TAGS:
        raise errors.BadRequest(f"More than {MOST_TAGS} filters by tag are not supported.")
    facets = [Facet(f"tag.{name}", tuple(sorted(values))) for name, values in query.tags]
    facets += [Facet("tag_exists", (name,)) for name, wanted in query.tag_exists if wanted]
    if query.source_id is not None:
        facets.append(Facet("source_id", (query.source_id,)))
    view = None if query.view is None or query.view.admin else query.view
    if query.collected_by is not None and (query.collected_by or view is None):
        facets.append(Facet("collected_by", tuple(sorted(query.collected_by)) or (NONE,)))
    if query.label is not None:
        facets.append(Facet("label", (query.label,)))
    void = any(not facet.values for facet in facets) or (view is not None and not allowed(view).values)
    return Plan(tuple(facets), tuple(_conditions(query)), view, void)


def allowed(view: View) -> Facet:
    """What a row must have for a view to see it; that it has nothing denied is to be checked besides."""
    classes: tuple[Value, ...] = tuple(sorted(view.allow - view.deny))
    return Facet(CLASSES, (*classes, NONE) if view.sees_untagged else classes)


def _conditions(query: Query) -> list[Condition]:
    found = []
    for name in COLUMNS:
        value = getattr(query, name)
        if value is not None:
            found.append(Condition(f"r.{name} = ?", (value,)))
    for name, wanted in query.tag_exists:
        if not wanted:
            found.append(Condition(_HAS_NOT.format("= ?", "r"), ("tag_exists", name)))
    if query.collected_by == frozenset() and query.view is not None and not query.view.admin:
        found.append(_uncollected(query.view))
    if query.timerange is not None:
        found.append(_timerange(query.timerange))
    return found


def _timerange(within: TimeRange) -> Condition:
    """Segments of a flow do not overlap: of those that start before the end, the last reaches furthest."""
    if within.is_empty:
        return Condition("NOT EXISTS (SELECT 1 FROM segments s WHERE s.flow_id = r.id)")
    before, values = "", []
    if within.stop_ns is not None:
        before = "AND s.start_ns < ?"
        values.append(within.stop_ns)
    behind = "IS NOT NULL"
    if within.first_ns is not None:
        behind = "> ?"
        values.append(within.first_ns)
    last = (
        f"SELECT s.stop_ns FROM segments s WHERE s.flow_id = r.id {before} ORDER BY s.start_ns DESC LIMIT 1"
    )
    return Condition(f"({last}) {behind}", tuple(values))


def condition_of(facet: Facet, row: str = "r") -> Condition:
    """A facet as a condition on rows that were found by something else."""
    if len(facet.values) == 1:
        return Condition(_HAS.format("= ?", row), (facet.name, facet.values[0]))
    return Condition(_HAS.format(_ANY, row), (facet.name, facet.values_text))


def visible(view: View, row: str = "r") -> list[Condition]:
    """A view as conditions."""
    found = [condition_of(allowed(view), row)]
    if view.deny:
        denied = Facet(CLASSES, tuple(sorted(view.deny)))
        found.append(Condition(_HAS_NOT.format(_ANY, row), (CLASSES, denied.values_text)))
    return found


def _uncollected(view: View) -> Condition:
    """Collected by nothing that the view sees."""
    seen = joined(visible(view, "p"))
    sql = f"""NOT EXISTS (SELECT 1 FROM terms c CROSS JOIN resources p
        ON p.kind = c.kind AND p.id = c.value
        WHERE c.kind = r.kind AND c.id = r.id AND c.facet = 'collected_by'{seen.sql})"""
    return Condition(sql, seen.values)


def seen_among(view: View) -> Condition:
    """Of ids, those that the view sees: a whole statement. Parameters: the ids (a JSON array), the kind,
    then these values."""
    passes = joined(visible(view))
    sql = f"""SELECT r.id FROM json_each(?) w
        CROSS JOIN resources r ON r.kind = ? AND r.id = w.value{passes.sql}"""
    return Condition(sql, passes.values)


def joined(conditions: Iterable[Condition]) -> Condition:
    """Conditions as one, to stand behind another one."""
    found = list(conditions)
    return Condition(
        "".join(f" AND {condition.sql}" for condition in found),
        tuple(value for condition in found for value in condition.values),
    )


def versions_sql(passes: Condition) -> str:
    """Of candidates, the versions of those that pass, with what changes without them. Parameters as of
    `fetch_sql`."""
    return f"""SELECT {HEAD} FROM json_each(?) w
        CROSS JOIN resources r ON r.kind = ? AND r.id = w.value{passes.sql}"""


def fetch_sql(passes: Condition) -> str:
    """Of candidates, the rows that pass. Parameters: ids (a JSON array), kind, those of `passes`."""
    return f"""SELECT {ROW}, r.sort_text FROM json_each(?) w
        CROSS JOIN resources r ON r.kind = ? AND r.id = w.value{passes.sql}"""


def ranked_sql(sort: Sort, passes: Condition, *, after: bool, reverse: bool) -> str:
    """Ids, in the order of a sort no facet is indexed by, of all that a facet finds and that pass.

    Parameters: the facet's values (a JSON array), kind, the facet's name, those of `passes`, the key
    (is unset, value, id) to start behind if `after`, how many.
    """
    column = f"r.{SORT_COLUMN[sort]}"
    key = f"{column} IS NULL, ifnull({column}, ''), r.id"
    behind = f"AND ({key}) {'<' if reverse else '>'} (?, ?, ?)" if after else ""
    order = "DESC" if reverse else "ASC"
    return f"""SELECT DISTINCT {key} FROM json_each(?) w
        CROSS JOIN terms t ON t.kind = ? AND t.facet = ? AND t.value = w.value
        CROSS JOIN resources r ON r.kind = t.kind AND r.id = t.id{passes.sql} {behind}
        ORDER BY 1 {order}, 2 {order}, 3 {order} LIMIT ?"""
