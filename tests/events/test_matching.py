"""Which event is for whom."""

from __future__ import annotations

from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from store.errors import BadRequest
from store.events.matching import LISTS, Filters, names, wants
from store.events.values import EVENT_TYPES
from store.metadata.rows import Event
from store.models.parsing import validate
from store.models.webhook import EVENT_ALIASES, WebhookPost
from store.params import Params

A, B, C = (f"0000000{n}-0000-4000-8000-000000000000" for n in range(3))
ids = st.sampled_from((A, B, C))
listed = st.none() | st.lists(ids, max_size=3, unique=True)
types = st.sampled_from(sorted(EVENT_TYPES))


@st.composite
def events(draw: st.DrawFn) -> Event:
    """Any event; only those about flows have a flow and its collections."""
    kind = draw(types)
    collected = draw(st.lists(ids, unique=True))
    of_flow = kind.startswith("flows/")
    return Event(
        type=kind,
        time_ns=0,
        body={},
        classes=frozenset(),
        flow_id=draw(ids) if of_flow else None,
        source_id=draw(ids),
        flow_collected_by=tuple(collected) if of_flow else (),
        source_collected_by=tuple(draw(st.lists(ids, unique=True))),
    )


@st.composite
def webhooks(draw: st.DrawFn) -> dict[str, Any]:
    """Any webhook's filters; a list may be absent, empty or not."""
    found: dict[str, Any] = {"url": "https://a.test/", "events": draw(st.lists(types, unique=True))}
    for name in LISTS:
        value = draw(listed)
        if value is not None:
            found[name] = value
    return found


def expected(webhook: dict[str, Any], event: Event) -> bool:
    """The specification's sentences, one by one."""
    of_flow = event.type.startswith("flows/")
    reasons = [event.type in webhook["events"]]
    if "flow_ids" in webhook and of_flow:
        reasons.append(event.flow_id in webhook["flow_ids"])
    if "source_ids" in webhook:
        reasons.append(event.source_id in webhook["source_ids"])
    if "flow_collected_by_ids" in webhook and of_flow:
        wanted = webhook["flow_collected_by_ids"]
        found = event.flow_collected_by
        reasons.append(any(w in found for w in wanted) if wanted else len(found) == 0)
    if "source_collected_by_ids" in webhook:
        wanted = webhook["source_collected_by_ids"]
        found = event.source_collected_by
        reasons.append(any(w in found for w in wanted) if wanted else len(found) == 0)
    return all(reasons)


@given(webhooks(), events())
def test_an_event_reaches_who_asked_for_it_and_nobody_else(webhook: dict[str, Any], event: Event) -> None:
    filters = Filters.of(webhook)
    assert wants(filters, event) is expected(webhook, event)
    assert names(filters, event) or not wants(filters, event)


@given(webhooks(), events())
def test_a_query_means_what_the_same_webhook_means(webhook: dict[str, Any], event: Event) -> None:
    pairs = [(name, ",".join(webhook[name])) for name in ("events", *LISTS) if name in webhook]
    assert wants(Filters.of_query(Params(pairs)), event) is expected(webhook, event)


def test_a_query_without_events_asks_for_all() -> None:
    assert Filters.of_query(Params([])).events == EVENT_TYPES


@pytest.mark.parametrize(("older", "ours"), sorted(EVENT_ALIASES.items()))
def test_older_names_mean_the_current_ones(older: str, ours: str) -> None:
    assert Filters.of_query(Params([("events", older)])).events == {ours}
    posted = validate(WebhookPost, {"url": "https://a.test/", "events": [older, ours]}).document()
    assert posted["events"] == [ours]
    assert Filters.of(posted).events == {ours}


@pytest.mark.parametrize(
    "pair", [("events", "flows/exploded"), ("flow_ids", "x"), ("source_ids", "A,,B"), ("events", "a,,b")]
)
def test_a_query_that_names_nothing_known_is_refused(pair: tuple[str, str]) -> None:
    with pytest.raises(BadRequest):
        Filters.of_query(Params([pair]))
