"""The store as a proxy in its process sees it: what a view hides, the facts of answers, expectations."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import orjson
import pytest

from store.door import Door
from store.http import Response
from store.view import View
from tests.store.harness import (
    ARCHIVE,
    BACKENDS,
    LOCAL,
    VIDEO,
    Tams,
    multi,
    new_id,
    running_tams,
    seconds,
    video,
)

NEWS = View(False, frozenset({"news"}), frozenset())
SPORT = View(False, frozenset({"sport"}), frozenset({"embargo"}))
NOBODY = View(False, frozenset(), frozenset())
BOTH = View(False, frozenset({"news", "sport"}), frozenset())


@dataclass
class Expected:
    """What a write was authorised on, kinds as plain texts."""

    classes: Mapping[tuple[str, str], frozenset[str] | None] = field(default_factory=dict)
    members: Mapping[str, tuple[str, ...]] = field(default_factory=dict)
    references: frozenset[tuple[str, str]] = frozenset()
    unknown: frozenset[str] = frozenset()


@dataclass
class Asked:
    """A call as the proxy makes it."""

    operation: str
    params: Mapping[str, str] = field(default_factory=dict)
    query: tuple[tuple[str, str], ...] = ()
    body: bytes = b""
    view: View | None = None
    expect: Expected | None = None
    actor: str | None = "user:local/me"
    owner: bytes | None = None
    path: str = "/asked"


class Caller:
    """Calls operations through the door."""

    def __init__(self, tams: Tams) -> None:
        self.door = Door(tams.store)

    async def call(self, operation: str, view: View | None = None, **more: Any) -> Response:
        """The answer to a call."""
        if "document" in more:
            more["body"] = orjson.dumps(more.pop("document"))
        return await self.door.call(Asked(operation, view=view, **more))

    async def ids(self, operation: str, view: View | None, *query: tuple[str, str]) -> set[str]:
        """The ids of a listing."""
        answer = await self.call(operation, view, query=query)
        assert answer.status == 200, answer.body
        return {each["id"] for each in orjson.loads(answer.body)}


@pytest.fixture
def caller(tams: Tams) -> Caller:
    """Somebody at the store's door."""
    return Caller(tams)


def tagged(*classes: str) -> dict[str, Any]:
    """Tags of these classes."""
    return {"tags": {"auth_classes": list(classes)}}


async def test_listings_show_what_the_view_sees(tams: Tams, caller: Caller) -> None:
    news = await tams.flow(**tagged("news"))
    shared = await tams.flow(**tagged("news", "sport"))
    held = await tams.flow(**tagged("sport", "embargo"))
    bare = await tams.flow()
    for operation, key in (("GET_flows", "id"), ("GET_sources", "source_id")):
        assert await caller.ids(operation, NEWS) == {news[key], shared[key]}
        assert await caller.ids(operation, SPORT) == {shared[key]}
        assert await caller.ids(operation, NOBODY) == set()
        assert await caller.ids(operation, None) == {each[key] for each in (news, shared, held, bare)}
        assert await caller.ids(operation, NEWS, ("tag.auth_classes", "sport")) == {shared[key]}


async def test_members_tell_nothing_of_collections_that_are_hidden(tams: Tams, caller: Caller) -> None:
    """rule 11, for one who does not see everything"""
    member = await tams.flow(**tagged("news"))
    free = await tams.flow(**tagged("news"))
    hidden = await tams.collection(member, **tagged("sport"))
    for operation, key in (("GET_flows", "id"), ("GET_sources", "source_id")):
        empty = ("collected_by_ids", "")
        named = ("collected_by_ids", hidden[key])
        assert await caller.ids(operation, NEWS, empty) == {member[key], free[key]}
        assert await caller.ids(operation, NEWS, named) == set()
        assert await caller.ids(operation, BOTH, empty) == {free[key], hidden[key]}
        assert await caller.ids(operation, BOTH, named) == {member[key]}
        assert await caller.ids(operation, None, empty) == {free[key], hidden[key]}


async def test_answers_carry_the_classes_of_what_they_are_about(tams: Tams, caller: Caller) -> None:
    member = await tams.flow(**tagged("news"))
    parent = await tams.collection(member, **tagged("sport"))
    for name in ("", "-label", "-tags", "-flow-collection", "-read-only", "-max-bit-rate", "-segments"):
        answer = await caller.call(f"GET_flows-flowId{name}", NOBODY, params={"flowId": parent["id"]})
        assert answer.facts is not None and answer.facts.classes == {"sport"}, name
        assert answer.facts.related == {member["id"]: {"news"}}
    answer = await caller.call("GET_sources-sourceId", NEWS, params={"sourceId": member["source_id"]})
    assert answer.facts is not None and answer.facts.classes == {"news"}
    assert answer.facts.related == {parent["source_id"]: {"sport"}}
    listing = await caller.call("GET_flows", NEWS)
    assert listing.facts is not None and listing.facts.related == {parent["id"]: {"sport"}}
    absent = await caller.call("GET_flows-flowId", NEWS, params={"flowId": new_id()})
    assert (absent.status, absent.facts) == (404, None)
    unknown = await caller.call("GET_flows-flowId-segments", NEWS, params={"flowId": new_id()})
    assert unknown.facts is not None and unknown.facts.classes is None


async def test_untagged_profiles_are_everybodys_and_untagged_webhooks_nobodys(
    tams: Tams, caller: Caller
) -> None:
    """rule 29, rule 57"""
    technical = {"format": "urn:x-nmos:format:video", "codec": "video/h264", "essence_parameters": VIDEO}
    profiles = {}
    for name, more in (("bare", {}), ("news", tagged("news")), ("empty", {"tags": {"auth_classes": []}})):
        body = {"id": new_id(), "flow_metadata": technical, **more}
        await tams.post(f"/service/profiles/{body['id']}", body)
        profiles[name] = body["id"]
    assert await caller.ids("GET_profiles", NOBODY) == {profiles["bare"], profiles["empty"]}
    assert await caller.ids("GET_profiles", NEWS) == set(profiles.values())
    assert await caller.ids("GET_profiles", SPORT) == {profiles["bare"], profiles["empty"]}
    answer = await caller.call("GET_profiles-profileId", NOBODY, params={"profileId": profiles["news"]})
    assert answer.facts is not None and answer.facts.classes == {"news"}
    hook = {"url": "https://a.test/", "events": []}
    await tams.post("/service/webhooks", hook)
    seen = (await tams.post("/service/webhooks", {**hook, **tagged("news")})).json()["id"]
    assert await caller.ids("GET_webhooks", NEWS) == {seen}
    assert await caller.ids("GET_webhooks", SPORT) == set()
    answer = await caller.call("GET_webhooks-webhookId", NEWS, params={"webhookId": seen})
    assert answer.facts is not None and answer.facts.classes == {"news"}


async def test_urls_and_backends_are_those_that_the_view_sees(tmp_path: Path) -> None:
    tagged_backend = {**BACKENDS[0], "tags": {"auth_classes": ["news"]}}
    async with running_tams(tmp_path, backends=(tagged_backend, *BACKENDS[1:])) as tams:
        caller = Caller(tams)
        flow = await tams.flow(**tagged("news", "sport"))
        await tams.segment(flow["id"], seconds(0, 1))
        assert LOCAL in await caller.ids("GET_storage-backends", NEWS)
        assert LOCAL not in await caller.ids("GET_storage-backends", SPORT)
        assert ARCHIVE in await caller.ids("GET_storage-backends", NOBODY)
        for view, count in ((NEWS, 2), (SPORT, 0), (None, 2)):
            answer = await caller.call("GET_flows-flowId-segments", view, params={"flowId": flow["id"]})
            (segment,) = orjson.loads(answer.body)
            assert len(segment["get_urls"]) == count


async def test_objects_tell_who_may_read_them(tams: Tams, caller: Caller) -> None:
    """rule 53"""
    one, two = await tams.flow(**tagged("news")), await tams.flow(**tagged("sport"))
    object_id = await tams.segment(one["id"], seconds(0, 1))
    await tams.segment(two["id"], seconds(0, 1), object_id)
    for view, flows, readable in ((NEWS, [one], True), (SPORT, [two], True), (NOBODY, [], False)):
        answer = await caller.call("GET_objects", view, params={"objectId": object_id})
        assert answer.facts is not None and answer.facts.readable is readable
        body = orjson.loads(answer.body)
        assert body["referenced_by_flows"] == [flow["id"] for flow in flows]
        assert answer.facts.related[one["id"]] == {"news"}


async def test_a_write_whose_ground_has_gone_is_a_conflict_and_changes_nothing(
    tams: Tams, caller: Caller
) -> None:
    flow = await tams.flow(**tagged("news"))
    object_id = await tams.segment(flow["id"], seconds(0, 1))
    wrong = Expected({("flow", flow["id"]): frozenset({"sport"})})
    new, hook = video(), {"url": "https://a.test/", "events": []}
    profile = {
        "id": new_id(),
        "flow_metadata": {"format": "urn:x-tam:format:image", "codec": "image/png", "essence_parameters": {}},
    }
    profile["flow_metadata"]["essence_parameters"] = {"frame_width": 1, "frame_height": 1}
    in_flow = {"flowId": flow["id"]}
    writes: list[tuple[str, dict[str, str], Any]] = [
        ("PUT_flows-flowId", in_flow, {**flow, "label": "x"}),
        ("PUT_flows-flowId", {"flowId": new["id"]}, new),
        ("PUT_flows-flowId-label", in_flow, "x"),
        ("DELETE_flows-flowId-tags-name", {**in_flow, "name": "auth_classes"}, None),
        ("PUT_flows-flowId-read-only", in_flow, True),
        ("POST_flows-flowId-segments", in_flow, {"object_id": object_id, "timerange": seconds(5, 6)}),
        ("DELETE_flows-flowId-segments", in_flow, None),
        ("DELETE_flows-flowId", in_flow, None),
        ("POST_flows-flowId-storage", in_flow, {}),
        ("PUT_sources-sourceId-label", {"sourceId": flow["source_id"]}, "x"),
        ("POST_objects-instances", {"objectId": object_id}, {"url": "https://a.test/", "label": "l"}),
        ("POST_objects-instances", {"objectId": object_id}, {"storage_id": ARCHIVE}),
        ("POST_webhooks", {}, hook),
        ("POST_profiles-profileId", {"profileId": profile["id"]}, profile),
    ]
    before = await tams.contents()
    for operation, params, document in writes:
        if operation == "POST_flows-flowId-segments":
            document = {**document, "ts_offset": "5:0"}
        answer = await caller.call(operation, NEWS, params=params, document=document, expect=wrong)
        assert answer.status == 409, (operation, answer.body)
    assert await tams.contents() == before
    assert await tams.get("/service/webhooks") == await tams.get("/service/profiles") == []
    right = Expected({("flow", flow["id"]): frozenset({"news"})})
    answer = await caller.call("PUT_flows-flowId-label", NEWS, params=in_flow, document="x", expect=right)
    assert answer.status == 204


async def test_writers_are_told_from_their_actor(tams: Tams, caller: Caller) -> None:
    """rule 17: not from what a client says"""
    flow = video(created_by="somebody else", updated_by="somebody else")
    await caller.call("PUT_flows-flowId", params={"flowId": flow["id"]}, document=flow)
    await caller.call("PUT_flows-flowId-label", params={"flowId": flow["id"]}, document="x", actor="user:b")
    found = await tams.get(f"/flows/{flow['id']}")
    assert (found["created_by"], found["updated_by"]) == ("user:local/me", "user:b")
    source = await tams.get(f"/sources/{flow['source_id']}")
    assert source["created_by"] == "user:local/me"


async def test_facts_are_looked_up_for_several_at_once(tams: Tams, caller: Caller) -> None:
    member = await tams.flow(**tagged("news"))
    parent = multi(flow_collection=[{"id": member["id"]}], **tagged("sport"))
    await tams.put(f"/flows/{parent['id']}", parent, 201)
    object_id = await tams.segment(member["id"], seconds(0, 1))
    absent = new_id()
    refs = [("flow", member["id"]), ("flow", parent["id"]), ("source", member["source_id"]), ("flow", absent)]
    known = await caller.door.look_up(refs, [object_id, "none"], NEWS)
    assert known.classes == {refs[0]: {"news"}, refs[1]: {"sport"}, refs[2]: {"news"}}
    assert known.source_ids == {each["id"]: each["source_id"] for each in (member, parent)}
    assert known.collections == {parent["id"]: [{"id": member["id"]}]}
    assert set(known.objects) == {object_id} and known.objects[object_id].witness == member["id"]
