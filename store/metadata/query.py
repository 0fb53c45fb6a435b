"""The one way to ask for a listing, and what it means.

`matches` and `in_order` are the oracle that every implementation is tested against.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from datetime import UTC, datetime
from enum import StrEnum
from typing import Any, NamedTuple

import orjson

from store.metadata.rows import Kind, Row
from store.timerange import TimeRange
from store.view import View, visible


class Sort(StrEnum):
    """What a listing is ordered by; `label` and `url` ascend, times descend (rule 10)."""

    CREATED = "created"
    UPDATED = "updated"
    LABEL = "label"
    URL = "url"
    EXPIRY = "expiry"

    @property
    def descends(self) -> bool:
        """Whether the default order, not reversed, is from high to low."""
        return self in (Sort.CREATED, Sort.UPDATED, Sort.EXPIRY)


class Position(NamedTuple):
    """Where a page ended: the sort value of its last row (None: unset, those sort by id) and its id."""

    value: int | str | None
    id: str


@dataclass(frozen=True, slots=True)
class Query:
    """A listing of one kind. Every filter that is set must hold.

    `tags`: for each name, any of the values is any element of the tag (rule 7). `collected_by`: any of the
    ids; the empty set means collected by nothing (rule 11); only collections that the view sees count, so
    that no filter tells of others. `timerange`: overlaps a segment of the flow;
    an empty one means a flow without segments (rule 24). `after`: strictly behind this position.
    Order: by `sort`, ties by id ascending; rows without the sort value come last, by id; `reverse` turns
    the whole order round.
    """

    kind: Kind
    view: View | None
    limit: int
    sort: Sort = Sort.CREATED
    reverse: bool = False
    after: Position | None = None
    ids: frozenset[str] | None = None
    label: str | None = None
    format: str | None = None
    codec: str | None = None
    source_id: str | None = None
    profile_id: str | None = None
    status: str | None = None
    frame_width: int | None = None
    frame_height: int | None = None
    init_segments: bool | None = None
    tags: tuple[tuple[str, frozenset[str]], ...] = ()
    tag_exists: tuple[tuple[str, bool], ...] = ()
    collected_by: frozenset[str] | None = None
    timerange: TimeRange | None = None


@dataclass(frozen=True, slots=True)
class SegmentQuery:
    """Segments of one flow that overlap `timerange` (None: all), in time order, `reverse` from the end.

    `after_ns`: the start of the last segment of the page before; the next one lies strictly behind it.
    `view`: none of a flow that it does not see are looked for, so that it costs what an absent flow does.
    """

    flow_id: str
    limit: int
    timerange: TimeRange | None = None
    object_id: str | None = None
    reverse: bool = False
    after_ns: int | None = None
    view: View | None = None


_EPOCH = datetime(1970, 1, 1, tzinfo=UTC)

EQUAL_COLUMNS = ("label", "format", "codec", "source_id", "profile_id", "status")
ESSENCE_COLUMNS = ("frame_width", "frame_height", "init_segments")


def tag_values(tags: dict[str, Any], name: str) -> frozenset[str]:
    """A tag's values: a plain string counts as a list of one, an absent tag as none."""
    value = tags.get(name)
    if value is None:
        return frozenset()
    return frozenset((value,)) if isinstance(value, str) else frozenset(value)


def matches(
    query: Query,
    document: dict[str, Any],
    segments: Iterable[tuple[int, int]] = (),
    parents: Mapping[str, frozenset[str]] | None = None,
) -> bool:
    """Whether a document belongs to a listing, paging aside.

    `segments`: the flow's segments as (start, exclusive stop), for `timerange`. `parents`: the classes of
    what collects the document, as far as that exists, for `collected_by`.
    """
    tags = document.get("tags") or {}
    if query.kind is Kind.PROFILE:
        document = {**document, **document.get("flow_metadata", {})}
    essence = document.get("essence_parameters") or {}
    return (
        visible(query.view, tag_values(tags, "auth_classes"))
        and (query.ids is None or document["id"] in query.ids)
        and all(
            getattr(query, name) is None or document.get(name) == getattr(query, name)
            for name in EQUAL_COLUMNS
        )
        and _essence_matches(query, essence)
        and all(not values.isdisjoint(tag_values(tags, name)) for name, values in query.tags)
        and all((name in tags) is wanted for name, wanted in query.tag_exists)
        and _collected_matches(query, document.get("collected_by") or (), parents or {})
        and _timerange_matches(query, list(segments))
    )


def _essence_matches(query: Query, essence: dict[str, Any]) -> bool:
    for name in ("frame_width", "frame_height"):
        wanted = getattr(query, name)
        if wanted is not None and essence.get(name) != wanted:
            return False
    if query.init_segments is None:
        return True
    return bool(essence.get("init_segments", False)) is query.init_segments


def _collected_matches(
    query: Query, collected_by: Iterable[str], parents: Mapping[str, frozenset[str]]
) -> bool:
    if query.collected_by is None:
        return True
    found = frozenset(collected_by)
    if query.view is not None and not query.view.admin:
        found = frozenset(id for id in found if id in parents and query.view.sees(parents[id]))
    return not found if not query.collected_by else not found.isdisjoint(query.collected_by)


def _timerange_matches(query: Query, segments: list[tuple[int, int]]) -> bool:
    if query.timerange is None:
        return True
    if query.timerange.is_empty:
        return not segments
    first, stop = query.timerange.first_ns, query.timerange.stop_ns
    return any((stop is None or s < stop) and (first is None or e > first) for s, e in segments)


def position(sort: Sort, row: Row) -> Position:
    """Where a row stands in a listing that is ordered by `sort`: the next page starts behind it."""
    if sort is Sort.CREATED:
        return Position(row.created_ns, row.id)
    if sort in (Sort.UPDATED, Sort.EXPIRY):
        return Position(row.updated_ns, row.id)
    return Position(orjson.loads(row.document).get(sort.value), row.id)


def sort_key(sort: Sort, position: Position) -> tuple[bool, int | str, str]:
    """A key that ascends in the default order of `sort`: unset values last, ties by id."""
    value = position.value
    if value is None:
        return (True, 0, position.id)
    return (False, -value if isinstance(value, int) else value, position.id)


def in_order(query: Query, positions: Iterable[Position]) -> list[Position]:
    """The positions in the query's order, those behind `after` only, cut to the limit."""
    keyed = sorted(((sort_key(query.sort, p), p) for p in positions), reverse=query.reverse)
    if query.after is not None:
        last = sort_key(query.sort, query.after)
        keyed = [k for k in keyed if (k[0] < last if query.reverse else k[0] > last)]
    return [position for _, position in keyed[: query.limit]]


_UPDATED = {Kind.FLOW: "metadata_updated", Kind.SOURCE: "updated", Kind.DELETION: "expiry"}


def updated_ns(kind: Kind, document: dict[str, Any], created_ns: int) -> int:
    """The time that `Sort.UPDATED` and `Sort.EXPIRY` go by, as the document says it."""
    text = document.get(_UPDATED.get(kind, ""))
    if not isinstance(text, str):
        return created_ns
    since = datetime.fromisoformat(text) - _EPOCH
    return (since.days * 86_400 + since.seconds) * 1_000_000_000 + since.microseconds * 1000
