"""Paging over HTTP while the store changes, by random histories."""

from __future__ import annotations

import tempfile
from pathlib import Path
from typing import Any

import pytest
from hypothesis import HealthCheck, settings
from hypothesis import strategies as st
from hypothesis.stateful import (
    RuleBasedStateMachine,
    initialize,
    precondition,
    rule,
    run_state_machine_as_test,
)

from tests.store.harness import Tams, running_tams, video

LABELS = (None, "a", "b", "ü")


class Listing(RuleBasedStateMachine):
    """One listing is walked page by page while flows come and go. Those that were there from its first page
    to its last are on exactly one page, in order; nothing is on two."""

    def __init__(self) -> None:
        super().__init__()
        import asyncio

        self.loop = asyncio.new_event_loop()
        self.folder = tempfile.TemporaryDirectory()
        self.context = running_tams(Path(self.folder.name))
        self.tams: Tams = self.run(self.context.__aenter__())
        self.flows: dict[str, dict[str, Any]] = {}
        self.stayed: set[str] = set()
        self.came: set[str] = set()
        self.seen: list[str] = []
        self.url: str | None = None

    def run(self, work: Any) -> Any:
        """The result of something asynchronous."""
        return self.loop.run_until_complete(work)

    def teardown(self) -> None:
        """Walk to the end, and close."""
        try:
            while self.url:
                self.turn_a_page()
            assert len(self.seen) == len(set(self.seen))
            assert self.stayed <= set(self.seen)
            assert set(self.seen) <= self.came
            if self.order.startswith("created"):
                times = [self.flows[i]["created"] for i in self.seen if i in self.stayed]
                assert times == sorted(times, reverse="true" not in self.order)
        finally:
            self.run(self.context.__aexit__(None, None, None))
            self.loop.close()
            self.folder.cleanup()

    @initialize(
        count=st.integers(0, 9),
        order=st.sampled_from(("created", "label", "metadata_updated")),
        reverse=st.sampled_from(("true", "false")),
        limit=st.integers(1, 4),
    )
    def begin(self, count: int, order: str, reverse: str, limit: int) -> None:
        """Fill the store and ask for the first page."""
        self.order = f"{order}&reverse_order={reverse}"
        for n in range(count):
            self.add(LABELS[n % 4])
        self.stayed = set(self.flows)
        self.url = f"/flows?sort_by={self.order}&limit={limit}"
        self.limit = limit

    @rule(label=st.sampled_from(LABELS))
    def add(self, label: str | None) -> None:
        """A new flow."""
        flow = video(label=label)
        answer = self.run(self.tams.put(f"/flows/{flow['id']}", flow, 201))
        self.flows[flow["id"]] = answer.json()
        self.came.add(flow["id"])

    @precondition(lambda self: self.flows)
    @rule(data=st.data())
    def remove(self, data: st.DataObject) -> None:
        """One flow less, the last one seen perhaps."""
        near = [i for i in self.seen[-1:] if i in self.flows and data.draw(st.booleans())]
        gone = near[0] if near else data.draw(st.sampled_from(sorted(self.flows)))
        self.run(self.tams.delete(f"/flows/{gone}"))
        del self.flows[gone]
        self.stayed.discard(gone)

    @precondition(lambda self: self.url)
    @rule()
    def turn_a_page(self) -> None:
        """Read one page; only the last is short."""
        answer = self.run(self.tams.request("GET", self.url))
        assert answer.status_code == 200
        found = [flow["id"] for flow in answer.json()]
        self.seen += found
        self.url = answer.links.get("next", {}).get("url")
        assert len(found) == self.limit if self.url else len(found) <= self.limit


LEVEL = settings(
    max_examples=6, stateful_step_count=12, deadline=None, suppress_health_check=list(HealthCheck)
)


def test_walking_a_listing_while_it_changes() -> None:
    """rule 9"""
    run_state_machine_as_test(Listing, settings=LEVEL)


@pytest.mark.slow
def test_walking_many_listings_while_they_change() -> None:
    """rule 9"""
    run_state_machine_as_test(Listing, settings=settings(LEVEL, max_examples=80, stateful_step_count=30))
