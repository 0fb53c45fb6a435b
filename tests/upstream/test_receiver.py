"""Webhooks and live events before a store elsewhere: its events come in once, and go to whoever may know."""

from __future__ import annotations

import json
import queue
from collections.abc import Iterator
from pathlib import Path

import httpx
import pytest
from websockets.exceptions import InvalidStatus
from websockets.sync.client import ClientConnection, connect

from proxy.upstream.receiver import KEY_NAME, PATH
from tests.end_to_end.receiver import Receiver, receiving
from tests.proxy.support import flow_document, new_id
from tests.upstream.here import WAIT_S, WEBHOOKS, Here, plainly, proxied, stored, told, until
from tests.upstream.plain import Plain


@pytest.fixture(params=["store", "plain"])
def here(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[Here]:
    """Before our own store, and before an upstream of TAMS 7.0, whose webhooks have no ids."""
    if request.param == "plain":
        with plainly(Plain(webhooks={}, delivers=True), tmp_path) as found:
            yield found
        return
    with stored(tmp_path / "store") as behind, proxied(tmp_path, behind) as found:
        yield found


@pytest.fixture
def receiver() -> Iterator[Receiver]:
    with receiving() as found:
        yield found


class TestWebhooks:
    def test_events_of_the_upstream_reach_who_may_see_them_and_nobody_else(
        self, here: Here, receiver: Receiver
    ) -> None:
        here.hook("victim", receiver, events=["flows/created", "flows/updated", "flows/deleted"])
        here.flow("attacker")
        mine = here.flow("victim")
        first = told(receiver)
        assert first["event_type"] == "flows/created" and first["event"]["flow"]["id"] == mine
        here.made("victim", "PUT", f"/flows/{mine}/label", "changed")
        assert told(receiver)["event"]["flow"]["label"] == "changed"

    def test_a_deletion_is_told_to_who_saw_the_flow_before(self, here: Here, receiver: Receiver) -> None:
        hidden, mine = here.flow("attacker"), here.flow("victim")
        here.hook("victim", receiver, events=["flows/deleted", "sources/deleted"])
        here.made("attacker", "DELETE", f"/flows/{hidden}")
        here.made("victim", "DELETE", f"/flows/{mine}")
        found = [told(receiver), told(receiver)]
        assert {f["event_type"] for f in found} == {"flows/deleted", "sources/deleted"}
        (deleted,) = [f["event"] for f in found if f["event_type"] == "flows/deleted"]
        assert deleted == {"flow_id": mine}

    def test_segments_come_with_the_urls_that_their_owner_may_have(
        self, here: Here, receiver: Receiver
    ) -> None:
        flow = here.flow("victim")
        events = ["flows/segments_added"]
        here.hook("victim", receiver, events=events)
        (entry,) = here.made("victim", "POST", f"/flows/{flow}/storage", {"limit": 1})["media_objects"]
        body = {"object_id": entry["object_id"], "timerange": "[0:0_1:0)"}
        here.made("victim", "POST", f"/flows/{flow}/segments", body)
        (segment,) = told(receiver)["event"]["segments"]
        assert segment["object_id"] == entry["object_id"] and segment["timerange"] == "[0:0_1:0)"
        urls = [found["url"] for found in segment["get_urls"]]
        assert urls and all(url.startswith(f"{here.url}/media/relay/") for url in urls)
        assert not {"storage_id", "controlled", "store_type"} & set(segment["get_urls"][0])

    def test_one_registration_at_the_upstream_serves_all_and_goes_with_the_last(
        self, here: Here, receiver: Receiver
    ) -> None:
        assert here.registered() == []
        hooks = [here.hook(who, receiver) for who in ("victim", "attacker")]
        (ours,) = here.registered()
        assert ours["url"] == here.url + PATH and len(ours["events"]) == 8
        here.made("victim", "DELETE", f"{WEBHOOKS}/{hooks[0]}")
        until(lambda: len(here.registered()) == 1)
        here.made("attacker", "DELETE", f"{WEBHOOKS}/{hooks[1]}")
        until(lambda: here.registered() == [])

    def test_webhooks_and_their_registration_survive_a_restart(
        self, tmp_path: Path, receiver: Receiver
    ) -> None:
        with stored(tmp_path / "store") as behind:
            with proxied(tmp_path, behind) as before:
                hook = before.hook("victim", receiver)
            with proxied(tmp_path, behind) as after:
                # The port is another one, and with it the URL: the new one is registered, and used.
                until(lambda: any(h["url"] == after.url + PATH for h in after.registered()))
                assert after.made("victim", "GET", f"{WEBHOOKS}/{hook}")["url"] == receiver.url
                flow = after.flow("victim")
                assert told(receiver)["event"]["flow"]["id"] == flow

    def test_others_webhooks_are_hidden_as_ever(self, here: Here, receiver: Receiver) -> None:
        hook = here.hook("victim", receiver)
        assert here.call("attacker", "GET", f"{WEBHOOKS}/{hook}").status_code == 404
        assert here.made("attacker", "GET", WEBHOOKS) == []
        assert [found["id"] for found in here.made("victim", "GET", WEBHOOKS)] == [hook]

    def test_the_service_tells_of_the_proxys_own_mechanisms(self, here: Here) -> None:
        found = here.made("victim", "GET", "/service")["event_stream_mechanisms"]
        assert [way["name"] for way in found] == ["webhooks", "server-sent-events", "websocket"]
        assert found[1]["config"]["url"] == f"{here.url}/events"


def listening(here: Here, who: str) -> ClientConnection:
    """A WebSocket that is told of new flows."""
    here.made(who, "GET", "/service")
    headers = {"authorization": f"Bearer {here.tokens[who]}"}
    url = f"{here.url.replace('http', 'ws')}/events?events=flows/created"
    return connect(url, additional_headers=headers, open_timeout=WAIT_S)


class TestLiveEvents:
    def test_live_events_come_from_the_upstream_too(self, here: Here) -> None:
        here.made("victim", "GET", "/service")
        headers = {"authorization": f"Bearer {here.tokens['victim']}"}
        url = f"{here.url}/events?events=flows/created"
        with httpx.stream("GET", url, headers=headers, timeout=WAIT_S) as stream:
            lines = stream.iter_lines()
            assert next(lines) == ": listening"
            here.flow("attacker")
            mine = here.flow("victim")
            data = next(json.loads(line[6:]) for line in lines if line.startswith("data: "))
        assert data["event"]["flow"]["id"] == mine

    def test_and_over_websockets(self, here: Here) -> None:
        with listening(here, "victim") as mine, listening(here, "attacker") as theirs:
            flows = {who: here.flow(who) for who in ("attacker", "victim")}
            for who, socket in (("victim", mine), ("attacker", theirs)):
                found = json.loads(socket.recv(timeout=WAIT_S))
                assert found["event"]["flow"]["id"] == flows[who]


def test_an_upstream_without_webhooks_is_named(tmp_path: Path, receiver: Receiver) -> None:
    with plainly(Plain(), tmp_path) as here:
        tags = {"auth_classes": ["v"]}
        body = {"url": receiver.url, "events": ["flows/created"], "tags": tags}
        answers = [
            here.call("victim", "POST", WEBHOOKS, body),
            here.call("victim", "GET", "/events"),
        ]
        assert [a.status_code for a in answers] == [501, 501]
        assert {a.json()["summary"] for a in answers} == {"The upstream lacks webhooks."}
        assert here.made("victim", "GET", WEBHOOKS) == []
        with pytest.raises(InvalidStatus) as refused:
            listening(here, "victim")
        assert refused.value.response.status_code == 501


class TestTheDoor:
    @pytest.mark.parametrize("key", [None, "", "x" * 64, "é"])
    def test_nobody_but_the_upstream_tells_of_events(
        self, here: Here, receiver: Receiver, key: str | None
    ) -> None:
        here.hook("victim", receiver)
        document = flow_document(["v"])
        body = {"event_type": "flows/created", "event": {"flow": document}, "event_timestamp": ""}
        headers = {} if key is None else {KEY_NAME: key.encode("latin-1")}
        answer = httpx.post(here.url + PATH, json=body, headers=headers, timeout=WAIT_S)  # type: ignore[arg-type]
        assert answer.status_code == 401
        mine = here.flow("victim")
        assert told(receiver)["event"]["flow"]["id"] == mine

    def test_other_methods_find_nothing_to_do(self, here: Here) -> None:
        assert httpx.get(here.url + PATH, timeout=WAIT_S).status_code == 405


def test_what_was_never_seen_is_told_to_administrators_alone(tmp_path: Path, receiver: Receiver) -> None:
    with stored(tmp_path / "store") as behind, proxied(tmp_path, behind) as here:
        document = flow_document(["v"])
        httpx.put(f"{behind}/flows/{document['id']}", json=document, timeout=WAIT_S).raise_for_status()
        with receiving() as admins:
            here.hook("victim", receiver, events=["flows/deleted", "flows/created"])
            here.hook("admin", admins, events=["flows/deleted"])
            httpx.delete(f"{behind}/flows/{document['id']}", timeout=WAIT_S).raise_for_status()
            assert told(admins)["event"] == {"flow_id": document["id"]}
        seen = here.flow("victim")
        assert told(receiver)["event"]["flow"]["id"] == seen
        with pytest.raises(queue.Empty):
            receiver.taken.get_nowait()


def test_a_hook_for_what_cannot_be_read_is_refused(here: Here, receiver: Receiver) -> None:
    hidden = here.flow("attacker")
    for name in (hidden, new_id()):
        tags = {"auth_classes": ["v"]}
        body = {"url": receiver.url, "events": ["flows/created"], "flow_ids": [name], "tags": tags}
        answer = here.call("victim", "POST", WEBHOOKS, body)
        assert answer.status_code == 400
    assert here.registered() == []
