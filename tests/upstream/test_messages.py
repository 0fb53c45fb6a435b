"""Events as an upstream tells of them: what they are about, and what they are authorised by."""

from __future__ import annotations

from typing import Any

import pytest

from proxy.errors import BadRequest
from proxy.upstream.messages import Remembered, happened, message_in, remembered_of
from store.events.bodies import Options, told_elsewhere

FLOW = {"id": "f", "source_id": "s", "tags": {"auth_classes": "a"}, "collected_by": ["p"]}
NOW_NS = 1_700_000_000_000_000_000


def said(event_type: str, event: object, **more: Any) -> dict[str, Any]:
    return {"event_type": event_type, "event": event, **more}


@pytest.mark.parametrize(
    "given",
    [
        None,
        [],
        "flows/created",
        {},
        {"event_type": 5},
        said("flows/created", None),
        said("flows/created", {}),
        said("flows/created", {"flow": "f"}),
        said("flows/created", {"flow": {}}),
        said("flows/created", {"flow": {"id": 5}}),
        said("sources/updated", {"flow": FLOW}),
        said("flows/deleted", {}),
        said("flows/deleted", {"flow_id": ["f"]}),
        said("flows/segments_added", {"flow_id": "f"}),
        said("flows/segments_added", {"flow_id": "f", "segments": [{}]}),
        said("flows/segments_added", {"flow_id": "f", "segments": {"object_id": "o"}}),
    ],
)
def test_what_is_no_event_is_refused(given: object) -> None:
    with pytest.raises(BadRequest):
        message_in(given)


def test_events_of_later_versions_are_passed_over() -> None:
    assert message_in(said("flows/renamed", {})) is None


def test_an_event_goes_by_the_classes_in_it_after_a_change() -> None:
    message = message_in(said("flows/updated", {"flow": FLOW}, event_timestamp="2023-11-14T22:13:21.5Z"))
    assert message is not None and message.document is not None
    found = happened(message, remembered_of("flow", message.document), Remembered(frozenset("b")), NOW_NS)
    assert found.classes == frozenset("a")
    assert (found.flow_id, found.source_id, found.flow_collected_by) == ("f", "s", ("p",))
    assert found.time_ns == NOW_NS + 1_500_000_000


@pytest.mark.parametrize("stamp", [None, 5, "", "soon", "1999-01-01T00:00:00Z", "2023-11-14T22:13:21"])
def test_a_time_that_cannot_be_is_now(stamp: object) -> None:
    message = message_in(said("sources/deleted", {"source_id": "s"}, event_timestamp=stamp))
    assert message is not None and message.is_deletion
    about = Remembered(frozenset("a"), None, ("above",))
    found = happened(message, about, None, NOW_NS)
    assert found.time_ns == NOW_NS
    assert (found.source_id, found.flow_id, found.source_collected_by) == ("s", None, ("above",))


URLS = [
    {"url": "u1", "label": "one", "presigned": True, "storage_id": "1", "controlled": True},
    {"url": "u2", "label": "two", "presigned": False, "storage_id": "2"},
    {"url": "u3"},
]


@pytest.mark.parametrize(
    ("webhook", "left"),
    [
        ({}, ["u1", "u2", "u3"]),
        ({"accept_get_urls": []}, []),
        ({"accept_get_urls": ["two"]}, ["u2"]),
        ({"accept_storage_ids": ["1"]}, ["u1"]),
        ({"accept_storage_ids": []}, ["u1", "u2", "u3"]),
        ({"presigned": True}, ["u1"]),
        ({"presigned": False}, ["u2", "u3"]),
    ],
)
def test_urls_are_those_that_the_webhook_asks_for(webhook: dict[str, Any], left: list[str]) -> None:
    segment = {"object_id": "o", "get_urls": URLS, "init_object": {"object_id": "i", "get_urls": URLS}}
    found = told_elsewhere(segment, Options.of(webhook))
    assert [entry["url"] for entry in found["get_urls"]] == left
    assert found["init_object"] == {"object_id": "i", "get_urls": found["get_urls"]}
    assert not any("storage_id" in entry or "controlled" in entry for entry in found["get_urls"])


def test_details_are_told_where_they_are_asked_for() -> None:
    segment = {"object_id": "o", "get_urls": URLS, "object_timerange": "_"}
    webhook = {"verbose_storage": True, "include_object_timerange": True}
    assert told_elsewhere(segment, Options.of(webhook)) == segment
    assert "object_timerange" not in told_elsewhere(segment, Options.of({}))
