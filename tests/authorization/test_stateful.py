"""Many requests of several principals, one after the other: the proxy answers as the plain model says.

CI runs at least 20,000 steps, the same each time:  pytest -m slow tests/authorization/test_stateful.py
Longer, with examples of chance and whatever fails made small (some 100,000 steps, ten minutes):
    HYPOTHESIS_PROFILE=search pytest -m slow tests/authorization/test_stateful.py
`tests/upstream/test_authorization_stateful.py` does the same before a store that is reached over HTTP.
"""

from __future__ import annotations

import asyncio
import copy
import json
import shutil
import tempfile
import time
from collections.abc import Coroutine
from contextlib import AsyncExitStack
from pathlib import Path
from types import SimpleNamespace
from typing import Any, TypeVar
from unittest import mock

import httpx
import pytest
from hypothesis import HealthCheck, note, settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, rule, run_state_machine_as_test

from tests.authorization.model import CLASSES, RELATIONS, Grant, Media, Model
from tests.authorization.world import INSIDE
from tests.proxy.support import URL, Client, Proxy, flow_document, new_id, write_policy

T = TypeVar("T")
WORLD = INSIDE
PEOPLE = ("alice", "bob", "carol", "dave", "admin")
CREATORS = frozenset(("alice", "bob"))
DEFAULTS = {"alice": "a", "bob": "v"}
LABELS = "classes: {a: {default_for: {clients: [alice]}}, v: {default_for: {clients: [bob]}}}"
GRANTS = frozenset(
    [(who, r, c) for who, c in (("alice", "a"), ("bob", "v")) for r in ("reader", "writer", "deleter")]
    + [("alice", "granter", "shared"), ("bob", "reader", "shared"), ("bob", "writer", "shared")]
    + [("carol", "reader", "a"), ("carol", "writer", "shared"), ("carol", "deleter", "v")]
    + [
        ("dave", "reader", "shared"),
        ("dave", "denied", "x"),
        ("bob", "granter", "x"),
        ("dave", "reader", "b"),
    ]
)

who = st.sampled_from(PEOPLE)
some = st.integers(0, 10**6)
class_sets = st.sets(st.sampled_from(CLASSES), max_size=3)
maybe_classes = st.none() | class_sets
picks = st.lists(some, max_size=3)


def clients_of(grants: set[Grant]) -> dict[str, Client]:
    scopes = ("read", "write", "delete")
    return {
        name: Client(
            tuple(f"{relation} {c}" for person, relation, c in sorted(grants) if person == name),
            scopes=(*scopes, "admin") if name == "admin" else scopes,
            creator=name in CREATORS,
            admin=name == "admin",
        )
        for name in PEOPLE
    }


class Clock:
    """Real time, and more where a test says so: for what the proxy looks at once a second."""

    def __init__(self) -> None:
        self.ahead_s = 0.0

    def hurry(self) -> None:
        self.ahead_s += 2

    def time(self) -> float:
        return time.time() + self.ahead_s


class Machine(RuleBasedStateMachine):
    """The running proxy beside the model. `calls`: how many requests there were, of all examples."""

    calls = 0

    def __init__(self) -> None:
        super().__init__()
        self.model = Model(set(GRANTS), CREATORS, DEFAULTS)
        self.folder = Path(tempfile.mkdtemp(prefix="tams-model-"))
        self.clock = Clock()
        self.runner = asyncio.Runner()
        self.stack = AsyncExitStack()
        self.labels = 0
        self.slots = 0

    @initialize()
    def start(self) -> None:
        self.stack.enter_context(
            mock.patch("proxy.app.time", SimpleNamespace(time=self.clock.time, monotonic=time.monotonic))
        )
        self.proxy: Proxy = self.run(self._start())

    async def _start(self) -> Proxy:
        policies = self.folder / "policies"
        write_policy(policies, clients_of(self.model.grants), LABELS)
        return await self.stack.enter_async_context(WORLD.running(self.folder))

    def teardown(self) -> None:
        self.run(self.stack.aclose())
        self.runner.close()
        shutil.rmtree(self.folder)

    def run(self, coroutine: Coroutine[Any, Any, T]) -> T:
        return self.runner.run(coroutine)

    def call(self, person: str, method: str, path: str, body: object = None) -> httpx.Response:
        type(self).calls += 1
        answer = self.run(self.proxy.call(person, method, path, body))
        note(f"{person} {method} {path} {json.dumps(body)} -> {answer.status_code}")
        return answer

    def check(self, answer: httpx.Response, status: int) -> None:
        assert answer.status_code == status, (answer.status_code, status, answer.text)

    # Choices: by number, so that they stay the same when an example shrinks.

    def flow(self, number: int) -> str:
        """A flow, sometimes one that does not exist."""
        known = list(self.model.flows)
        return known[number % len(known)] if known and number % 17 else new_id()

    def source(self, number: int) -> str:
        known = list(self.model.sources)
        return known[number % len(known)] if known and number % 3 else new_id()

    def object(self, number: int) -> str:
        known = list(self.model.media)
        return known[number % len(known)] if known and number % 13 else new_id()

    def members(self, numbers: list[int]) -> list[str]:
        return list(dict.fromkeys(self.flow(n) for n in numbers))

    # Writes

    def applied(self, method: str, person: str, path: str, body: object, before: Model, status: int) -> None:
        """Make a request whose outcome the model has foreseen in `self.model`, from the state `before`.

        What the rules allow, the store may yet refuse for reasons of its own: collections that would be
        circular, or be in another order for two flows of a source.
        """
        answer = self.call(person, method, path, body)
        if status < 300 and answer.status_code == 400:
            assert "does not exist" not in answer.text, answer.text
            before.grants = self.model.grants
            self.model = before
            return
        self.check(answer, status)

    def _put(
        self, person: str, flow_id: str, source: str, classes: set[str] | None, members: list[str]
    ) -> None:
        before = copy.deepcopy(self.model)
        self.labels += 1
        label = f"label {self.labels}"
        status = self.model.put(person, flow_id, source, classes, members, label)
        said: dict[str, Any] = {"flow_collection": [{"id": m} for m in members]} if members else {}
        given = None if classes is None else sorted(classes)
        document = flow_document(given, id=flow_id, source_id=source, label=label, **said)
        self.applied("PUT", person, f"/flows/{flow_id}", document, before, status)

    @rule(person=who, source=some, classes=maybe_classes, members=picks)
    def create(self, person: str, source: int, classes: set[str] | None, members: list[int]) -> None:
        self._put(person, new_id(), self.source(source), classes, self.members(members))

    @rule(person=who, number=some, classes=maybe_classes, members=picks, source=st.none() | some)
    def replace(
        self, person: str, number: int, classes: set[str] | None, members: list[int], source: int | None
    ) -> None:
        flow_id = self.flow(number)
        known = self.model.flows.get(flow_id)
        stays = known is not None and source is None
        target = known.source if known is not None and stays else self.source(source or 0)
        self._put(person, flow_id, target, classes, self.members(members))

    @rule(person=who, number=some, kind=st.sampled_from(("flow", "source")), classes=class_sets)
    def share_or_revoke(self, person: str, number: int, kind: str, classes: set[str]) -> None:
        name = self.flow(number) if kind == "flow" else self.source(number)
        status = self.model.tag(person, kind, name, classes)
        self.check(self.call(person, "PUT", f"/{kind}s/{name}/tags/auth_classes", sorted(classes)), status)

    @rule(person=who, number=some)
    def drop_the_tag(self, person: str, number: int) -> None:
        flow_id = self.flow(number)
        held = self.model.flows.get(flow_id)
        absent = held is not None and not held.classes
        status = self.model.tag(person, "flow", flow_id, set())
        answer = self.call(person, "DELETE", f"/flows/{flow_id}/tags/auth_classes")
        # An administrator may have left an empty list, or no tag at all.
        assert answer.status_code == status or (absent and answer.status_code == 404)

    @rule(person=who, number=some, members=st.none() | picks)
    def collect(self, person: str, number: int, members: list[int] | None) -> None:
        flow_id = self.flow(number)
        before = copy.deepcopy(self.model)
        wanted = None if members is None else self.members(members)
        status = self.model.put_collection(person, flow_id, wanted)
        body = None if wanted is None else [{"id": m} for m in wanted]
        method = "DELETE" if wanted is None else "PUT"
        self.applied(method, person, f"/flows/{flow_id}/flow_collection", body, before, status)

    @rule(person=who, number=some)
    def allocate(self, person: str, number: int) -> None:
        flow_id = self.flow(number)
        flow = self.model.flows.get(flow_id)
        status = self.model.status(person, "writer", flow.classes if flow else None)
        answer = self.call(person, "POST", f"/flows/{flow_id}/storage", {"limit": 1})
        self.check(answer, 201 if status == 200 else status)
        if flow is not None and status == 200:
            self.slots += 1
            (entry,) = answer.json()["media_objects"]
            self.model.media[entry["object_id"]] = Media(entry["object_id"], self.slots, flow)

    @rule(person=who, number=some, object_number=some)
    def register(self, person: str, number: int, object_number: int) -> None:
        object_id = self.object(object_number)
        self._register(person, self.flow(number), object_id)

    @rule(person=who, object_number=some)
    def register_where_allocated(self, person: str, object_number: int) -> None:
        object_id = self.object(object_number)
        found = self.model.media.get(object_id)
        self._register(person, found.owner.id if found else new_id(), object_id)

    def _register(self, person: str, flow_id: str, object_id: str) -> None:
        status = self.model.register(person, flow_id, object_id)
        found = self.model.media.get(object_id)
        slot = found.slot if found else 0
        body = {"object_id": object_id, "timerange": f"[{slot}:0_{slot + 1}:0)"}
        self.check(self.call(person, "POST", f"/flows/{flow_id}/segments", body), status)

    @rule(person=who, number=some, adds=st.booleans())
    def change_instances(self, person: str, number: int, adds: bool) -> None:
        object_id = self.object(number)
        status = self.model.instance(person, object_id)
        path = f"/objects/{object_id}/instances"
        found = self.model.media.get(object_id)
        if adds or found is None or not found.labels:
            self.labels += 1
            body = {"url": "https://example.org/copy", "label": f"copy {self.labels}"}
            full = found is not None and len(found.labels) >= 10
            if full:
                return
            answer = self.call(person, "POST", path, body)
            self.check(answer, WORLD.status("POST_objects-instances", 201 if status == 200 else status))
            if found is not None and answer.status_code == 201:
                found.labels.append(body["label"])
            return
        label = found.labels[-1]
        answer = self.call(person, "DELETE", f"{path}?label={label.replace(' ', '%20')}")
        self.check(answer, 204 if status == 200 else status)
        if status == 200:
            found.labels.pop()

    @rule(person=who, number=some, segments_only=st.booleans())
    def delete(self, person: str, number: int, segments_only: bool) -> None:
        flow_id = self.flow(number)
        status = self.model.delete(person, flow_id, segments_only=segments_only)
        path = f"/flows/{flow_id}/segments" if segments_only else f"/flows/{flow_id}"
        self.check(self.call(person, "DELETE", path), status)

    @rule(
        person=st.sampled_from(PEOPLE[:-1]),
        relation=st.sampled_from(RELATIONS),
        name=st.sampled_from(CLASSES),
    )
    def change_the_policy(self, person: str, relation: str, name: str) -> None:
        self.model.grants ^= {(person, relation, name)}
        note(f"policy: {person} {relation} {name} {(person, relation, name) in self.model.grants}")
        self.run(self.proxy.change_policy(clients_of(self.model.grants), self.clock.hurry))

    # Reads

    @rule(person=who, number=some)
    def read(self, person: str, number: int) -> None:
        flow_id = self.flow(number)
        flow = self.model.flows.get(flow_id)
        status = self.model.status(person, "reader", flow.classes if flow else None)
        answer = self.call(person, "GET", f"/flows/{flow_id}")
        self.check(answer, status)
        head = self.call(person, "HEAD", f"/flows/{flow_id}")
        assert (head.status_code, head.headers["content-length"]) == (
            status,
            answer.headers["content-length"],
        )
        if flow is not None and status == 200:
            document = answer.json()
            assert document["source_id"] == flow.source
            assert document.get("label") == flow.label
            assert set(document["tags"].get("auth_classes", ())) == flow.classes
            members = [m["id"] for m in document.get("flow_collection", ())]
            assert members == self.model.members_seen(person, flow_id)
            assert set(document.get("collected_by", ())) == self.model.parents_seen(person, flow_id)

    @rule(person=who, number=some)
    def read_segments(self, person: str, number: int) -> None:
        flow_id = self.flow(number)
        flow = self.model.flows.get(flow_id)
        status = self.model.status(person, "reader", flow.classes if flow else None)
        answer = self.call(person, "GET", f"/flows/{flow_id}/segments")
        self.check(answer, 200 if person == "admin" else status)
        if answer.status_code == 200:
            expected = [flow.segments[slot] for slot in sorted(flow.segments)] if flow else []
            assert [s["object_id"] for s in answer.json()] == expected

    @rule(person=who, number=some)
    def read_object(self, person: str, number: int) -> None:
        object_id = self.object(number)
        status = self.model.object_status(person, object_id)
        answer = self.call(person, "GET", f"/objects/{object_id}")
        self.check(answer, status)
        if status == 200:
            seen = {f for f in self.model.referring(object_id) if self.model.sees(person, f)}
            assert set(answer.json()["referenced_by_flows"]) == seen
            first = answer.json().get("first_referenced_by_flow")
            assert first is None or self.model.sees(person, first) or person == "admin"

    @rule(person=who, number=some)
    def read_source(self, person: str, number: int) -> None:
        source = self.source(number)
        held = self.model.sources.get(source)
        self.check(self.call(person, "GET", f"/sources/{source}"), self.model.status(person, "reader", held))

    @rule(person=who, limit=st.integers(1, 5), kind=st.sampled_from(("flows", "sources")))
    def page(self, person: str, limit: int, kind: str) -> None:
        listed = self.model.listed(person) if kind == "flows" else self.model.listed_sources(person)
        found = [item["id"] for item in self._pages(person, f"/{kind}?limit={limit}", limit)]
        assert found == WORLD.listed(listed[::-1])

    @rule(person=who, number=some, name=st.sampled_from(CLASSES), which=st.integers(0, 2))
    def filter(self, person: str, number: int, name: str, which: int) -> None:
        model = self.model
        parent, source = self.flow(number), self.source(number)
        collected = model.members_seen(person, parent) if model.sees(person, parent) else []
        query, wanted = (
            (f"tag.auth_classes={name}", {f for f, flow in model.flows.items() if name in flow.classes}),
            (
                f"collected_by_ids={parent}",
                set(collected),
            ),
            (f"source_id={source}", {f for f, flow in model.flows.items() if flow.source == source}),
        )[which]
        found = [item["id"] for item in self._pages(person, f"/flows?limit=3&{query}", 3)]
        listed = [f for f in model.listed(person) if f in wanted]
        assert found == WORLD.listed(listed[::-1])

    def _pages(self, person: str, path: str, limit: int) -> list[dict[str, Any]]:
        found: list[dict[str, Any]] = []
        while path:
            answer = self.call(person, "GET", path)
            self.check(answer, 200)
            page = answer.json()
            found += page
            assert answer.headers["x-paging-count"] == str(len(page))
            path = answer.links["next"]["url"].removeprefix(URL) if "link" in answer.headers else ""
            assert len(page) == limit or not path
        return found


LONGER = settings.default.max_examples // 100 if settings.default is not None else 1
"""By how much the profile wants more examples than usual."""


def explore(examples: int, steps: int, least_calls: int = 0) -> None:
    Machine.calls = 0
    run_state_machine_as_test(  # type: ignore[no-untyped-call]
        Machine,
        settings=settings(
            max_examples=examples,
            stateful_step_count=steps,
            deadline=None,
            suppress_health_check=list(HealthCheck),
        ),
    )
    assert least_calls <= Machine.calls


def test_the_proxy_answers_as_the_rules_say() -> None:
    explore(12, 50)


@pytest.mark.slow
def test_the_proxy_answers_as_the_rules_say_for_20_000_steps() -> None:
    explore(250 * max(LONGER // 2, 1), 100, 20_000)
