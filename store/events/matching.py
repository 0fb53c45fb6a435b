"""Which event is for whom: the filters of a webhook, or of a live stream. Pure. Rules 59 and 60."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass

from store.errors import BadRequest
from store.events.values import EVENT_TYPES
from store.metadata.rows import Document, Event
from store.models.webhook import EVENT_ALIASES
from store.params import Params

LISTS = ("flow_ids", "source_ids", "flow_collected_by_ids", "source_collected_by_ids")
Ids = frozenset[str] | None


@dataclass(frozen=True, slots=True)
class Filters:
    """What somebody wants to hear of; all of it must hold, and None filters nothing.

    The flow's filters limit events about flows and segments, the source's those about sources too (TAMS 8.2
    webhook.json). An empty set of ids lets nothing pass. `flow_collected_by` and `source_collected_by`: any
    of the collections at the time of the event; the empty set means collected by nothing.
    """

    events: frozenset[str]
    flow_ids: Ids = None
    source_ids: Ids = None
    flow_collected_by: Ids = None
    source_collected_by: Ids = None

    @classmethod
    def of(cls, webhook: Document) -> Filters:
        """The filters of a webhook."""
        return cls(current_names(webhook["events"]), *(_ids(webhook.get(name)) for name in LISTS))

    @classmethod
    def of_query(cls, query: Params) -> Filters:
        """The filters in a query, named as a webhook's properties, lists with commas; without `events` it
        asks for all. Raises `BadRequest`.
        """
        asked = query.labels("events")
        events = EVENT_TYPES if asked is None else current_names(asked)
        if not events <= EVENT_TYPES:
            raise BadRequest(f"`events` must be a list of {', '.join(sorted(EVENT_TYPES))}.")
        ids = (query.uuids(name, may_be_empty=True) for name in LISTS)
        return cls(events, *ids)


def current_names(events: Iterable[str]) -> frozenset[str]:
    """Event types, the names of older deployments translated."""
    return frozenset(EVENT_ALIASES.get(name, name) for name in events)


def names(filters: Filters, event: Event) -> bool:
    """Whether type and ids of an event pass, whatever collects what it is about."""
    if event.type not in filters.events:
        return False
    if event.flow_id is not None and filters.flow_ids is not None and event.flow_id not in filters.flow_ids:
        return False
    return filters.source_ids is None or event.source_id in filters.source_ids


def wants(filters: Filters, event: Event) -> bool:
    """Whether an event passes all filters. Its collections are those that the listener may know of."""
    if not names(filters, event):
        return False
    if event.flow_id is not None and not _collected(filters.flow_collected_by, event.flow_collected_by):
        return False
    return _collected(filters.source_collected_by, event.source_collected_by)


def _collected(wanted: Ids, found: tuple[str, ...]) -> bool:
    if wanted is None:
        return True
    return not wanted.isdisjoint(found) if wanted else not found


def _ids(listed: list[str] | None) -> Ids:
    return None if listed is None else frozenset(listed)
