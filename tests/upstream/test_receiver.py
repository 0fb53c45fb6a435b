"""Webhooks and live events before a store elsewhere: its events come in once, and go to whoever may know."""

from __future__ import annotations

import asyncio
import json
import queue
from collections.abc import AsyncIterator, Callable, Iterator
from contextlib import asynccontextmanager, contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import httpx
import pytest

from proxy.app import Settings, application
from proxy.identity.secrets import read_clear
from proxy.upstream.receiver import KEY_NAME, PATH
from store.app import with_lifespan
from store.settings import parse
from tests.end_to_end.receiver import Receiver, receiving
from tests.proxy.support import environment, flow_document, new_id, write_policy
from tests.upstream.over_http import store_settings
from tests.upstream.plain import Plain
from tests.upstream.serving import serving

LOOPBACK = {"receivers": ["127.0.0.0/8", "::1"]}
WEBHOOKS = "/service/webhooks"
WAIT_S = 30
CLASSES = {"victim": ["v"], "attacker": ["a"], "admin": ["v"]}


@dataclass
class Here:
    """A proxy on a port of its own, and what is behind it."""

    url: str
    behind: str
    folder: Path
    tokens: dict[str, str] = field(default_factory=dict)

    def call(self, who: str, method: str, path: str, body: object = None) -> httpx.Response:
        if who not in self.tokens:
            secret = read_clear(self.folder / "data")[who]
            form = {"grant_type": "client_credentials"}
            answer = httpx.post(f"{self.url}/token", data=form, auth=(who, secret))
            self.tokens[who] = answer.json()["access_token"]
        headers = {"authorization": f"Bearer {self.tokens[who]}"}
        return httpx.request(method, self.url + path, json=body, headers=headers, timeout=WAIT_S)

    def made(self, who: str, method: str, path: str, body: object = None) -> Any:
        answer = self.call(who, method, path, body)
        assert answer.is_success, (answer.status_code, answer.text)
        return answer.json() if answer.content else None

    def flow(self, who: str = "victim", **said: Any) -> str:
        """A flow of its writer's class; its id."""
        document = flow_document(CLASSES[who], **said)
        self.made(who, "PUT", f"/flows/{document['id']}", document)
        return str(document["id"])

    def hook(self, who: str, receiver: Receiver, **said: Any) -> str:
        body = {"url": receiver.url, "events": ["flows/created", "flows/deleted"], **said}
        body["tags"] = {"auth_classes": CLASSES[who]}
        return str(self.made(who, "POST", WEBHOOKS, body)["id"])

    def registered(self) -> list[dict[str, Any]]:
        """The webhooks at the upstream."""
        found: list[dict[str, Any]] = httpx.get(self.behind + WEBHOOKS).json()
        return found


@contextmanager
def proxied(folder: Path, behind: str) -> Iterator[Here]:
    """A proxy before a URL, served."""
    if not (folder / "policies").exists():
        write_policy(folder / "policies")

    def made(url: str) -> Any:
        given = environment(folder, upstream=behind, public_url=url, events=LOOPBACK)
        return application(parse(Settings, given))

    with serving(made) as url:
        yield Here(url, behind, folder)


@contextmanager
def stored(folder: Path) -> Iterator[str]:
    """A store on a port of its own; its URL."""
    folder.mkdir(exist_ok=True)

    def made(url: str) -> Any:
        return with_lifespan(store_settings(folder, url, events=LOOPBACK), secret=b"s" * 32)

    with serving(made) as url:
        yield url


@pytest.fixture
def here(tmp_path: Path) -> Iterator[Here]:
    with stored(tmp_path / "store") as behind, proxied(tmp_path, behind) as found:
        yield found


@pytest.fixture
def receiver() -> Iterator[Receiver]:
    with receiving() as found:
        yield found


def told(receiver: Receiver) -> dict[str, Any]:
    """The next delivery."""
    found: dict[str, Any] = json.loads(receiver.taken.get(timeout=WAIT_S)[1])
    return found


def until(condition: Callable[[], bool]) -> None:
    """Wait for what happens in the background."""

    async def wait() -> None:
        async with asyncio.timeout(WAIT_S):
            while not condition():
                await asyncio.sleep(0.02)

    asyncio.run(wait())


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


@asynccontextmanager
async def plainly(plain: Plain, folder: Path) -> AsyncIterator[Here]:
    with serving(plain.application), proxied(folder, plain.url) as found:
        yield found


async def test_an_upstream_without_webhooks_is_named(tmp_path: Path, receiver: Receiver) -> None:
    async with plainly(Plain(), tmp_path) as here:
        tags = {"auth_classes": ["v"]}
        body = {"url": receiver.url, "events": ["flows/created"], "tags": tags}
        answers = [
            await asyncio.to_thread(here.call, "victim", "POST", WEBHOOKS, body),
            await asyncio.to_thread(here.call, "victim", "GET", "/events"),
        ]
        assert [a.status_code for a in answers] == [501, 501]
        assert {a.json()["summary"] for a in answers} == {"The upstream lacks webhooks."}
        assert (await asyncio.to_thread(here.made, "victim", "GET", WEBHOOKS)) == []


class TestTheDoor:
    @pytest.mark.parametrize("key", [None, "", "x" * 64, "é"])
    def test_nobody_but_the_upstream_tells_of_events(
        self, here: Here, receiver: Receiver, key: str | None
    ) -> None:
        here.hook("victim", receiver)
        document = flow_document(["v"])
        body = {"event_type": "flows/created", "event": {"flow": document}, "event_timestamp": ""}
        headers = {} if key is None else {KEY_NAME: key.encode("latin-1")}
        answer = httpx.post(here.url + PATH, json=body, headers=headers)  # type: ignore[arg-type]
        assert answer.status_code == 401
        mine = here.flow("victim")
        assert told(receiver)["event"]["flow"]["id"] == mine

    def test_other_methods_find_nothing_to_do(self, here: Here) -> None:
        assert httpx.get(here.url + PATH).status_code == 405


def test_what_was_never_seen_is_told_to_administrators_alone(tmp_path: Path, receiver: Receiver) -> None:
    with stored(tmp_path / "store") as behind, proxied(tmp_path, behind) as here:
        document = flow_document(["v"])
        httpx.put(f"{behind}/flows/{document['id']}", json=document).raise_for_status()
        with receiving() as admins:
            here.hook("victim", receiver, events=["flows/deleted", "flows/created"])
            here.hook("admin", admins, events=["flows/deleted"])
            httpx.delete(f"{behind}/flows/{document['id']}").raise_for_status()
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
