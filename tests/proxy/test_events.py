"""Who hears of what, through the running proxy: webhooks and live streams."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Iterable, Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

import proxy.app
from proxy.decide import Caller
from proxy.errors import Unavailable
from proxy.events import KEPT_S, REFRESH_S, OwnerLapsed, Watcher, renewed
from proxy.gate import Gathered, Sight
from proxy.identity.principal import Principal
from proxy.owner import Owner, owner_of, read_owner
from proxy.policy.protocol import Permissions
from proxy.sights import sight_of
from proxy.upstream.protocol import Ref
from store.events.live import Live
from store.metadata.rows import Event
from tests.events.listeners import Listening, listen
from tests.events.support import QUICK, Recorder, until
from tests.proxy.support import CLIENTS, Client, Proxy, flow_document, full, running, write_policy

WEBHOOKS = "/service/webhooks"
ALL = ["flows/created", "flows/updated", "flows/deleted", "flows/segments_added"]
READER = Principal("local", "s", "c", frozenset(("g",)), frozenset(("tams-api/read",)), False, 9)


class Sights:
    """Sights of one caller, or none at all while the engine is down."""

    def __init__(self, *read: str, denied: Iterable[str] = (), admin: bool = False) -> None:
        nothing = frozenset[str]()
        self.permissions = Permissions(
            frozenset(read), nothing, nothing, nothing, frozenset(denied), admin, False, "v"
        )
        self.asked: list[Principal] = []
        self.down = False

    async def sight(self, principal: Principal, *, fresh: bool = False) -> Sight:
        self.asked.append(principal)
        if self.down:
            raise Unavailable("down")
        return sight_of(Caller(self.permissions))


class Facts:
    """An upstream that knows the classes of some resources."""

    def __init__(self, **classes: str) -> None:
        self.classes: dict[Ref, frozenset[str]] = {
            ("flow" if name[0] == "f" else "source", name): frozenset(value.split())
            for name, value in classes.items()
        }

    async def look_up(self, refs: Iterable[Ref], objects: object, view: object) -> Gathered:
        return Gathered({ref: self.classes[ref] for ref in refs if ref in self.classes}, {}, {}, {})


def watcher(sights: Sights, facts: Facts, *, now_s: float = 1_000) -> tuple[Watcher, list[tuple[str, bytes]]]:
    written: list[tuple[str, bytes]] = []

    async def refresh(webhook_id: str, known: bytes, fresh: bytes) -> None:
        written.append((webhook_id, fresh))

    return Watcher(sights, facts, lambda: now_s, refresh), written  # type: ignore[arg-type]


def event(*classes: str, flow: dict[str, Any] | None = None, **more: Any) -> Event:
    body = {"flow": {"id": "f", "source_id": "s", **(flow or {})}}
    return Event("flows/updated", 0, body, frozenset(classes), "f", "s", **more)


OWNER = owner_of(READER, 1_000)


@pytest.mark.parametrize(
    ("classes", "now", "admitted"),
    [
        ("a", "a", True),
        ("a b", "a b", True),
        ("v", "v", False),
        ("", "", False),
        ("a d", "a d", False),
        ("v", "a", False),
        ("a", "v", False),
        ("a", "a d", False),
        ("a", None, True),
        ("v", None, False),
    ],
)
async def test_an_event_must_be_readable_by_its_own_classes_and_by_those_of_now(
    classes: str, now: str | None, admitted: bool
) -> None:
    facts = Facts() if now is None else Facts(f=now)
    watch, _ = watcher(Sights("a", "d", denied=("d",)), facts)
    seen = await watch.admit(OWNER, event(*classes.split()))
    assert (seen is not None) is admitted


async def test_ids_that_the_owner_does_not_see_are_taken_out_of_body_and_collections() -> None:
    watch, _ = watcher(Sights("a"), Facts(f="a", f1="a", f2="v", s1="a", s2="v"))
    collection = [{"id": name, "role": "r"} for name in ("f1", "f2", "fgone")]
    told = event(
        "a",
        flow={"flow_collection": collection, "collected_by": ["f2"], "label": "x"},
        flow_collected_by=("f1", "f2", "fgone"),
        source_collected_by=("s1", "s2"),
    )
    seen = await watch.admit(OWNER, told)
    assert seen is not None
    assert seen.body["flow"] == {
        "id": "f", "source_id": "s", "label": "x", "flow_collection": [{"id": "f1", "role": "r"}],
    }  # fmt: skip
    assert (seen.flow_collected_by, seen.source_collected_by) == (("f1",), ("s1",))
    assert seen.view.allow == {"a"}
    assert told.body["flow"]["collected_by"] == ["f2"]


async def test_an_administrator_sees_everything_and_a_writer_without_the_scope_nothing() -> None:
    watch, _ = watcher(Sights(admin=True), Facts())
    told = event("v", flow={"collected_by": ["f2"]})
    seen = await watch.admit(OWNER, told)
    assert seen is not None and seen.body == told.body
    for scopes, admitted in ((frozenset(("tams-api/write",)), False), (None, True)):
        owner = owner_of(replace(READER, scopes=scopes), 1_000)
        assert (await watch.admit(owner, told) is not None) is admitted


async def test_an_engine_that_is_down_is_no_answer() -> None:
    sights = Sights("a")
    watch, _ = watcher(sights, Facts(f="a"))
    sights.down = True
    with pytest.raises(Unavailable):
        await watch.admit(OWNER, event("a"))


@pytest.mark.parametrize(
    ("principal", "lapses"),
    [
        (READER, True),
        (replace(READER, groups=frozenset()), False),
        (replace(READER, groups=frozenset(), scopes=frozenset(("tams-api/admin",)), scope_admin=True), True),
    ],
)
async def test_what_a_token_said_counts_for_thirty_days(principal: Principal, lapses: bool) -> None:
    written = owner_of(principal, 1_000)
    for age, gone in ((KEPT_S, False), (KEPT_S + 1, lapses)):
        watch, _ = watcher(Sights("a"), Facts(f="a"), now_s=1_000 + age)
        if gone:
            with pytest.raises(OwnerLapsed):
                await watch.admit(written, event("a"))
        else:
            assert await watch.admit(written, event("a")) is not None


@pytest.mark.parametrize("written", [None, b"", b"{}", b"[]", b'{"issuer": 1}'])
async def test_without_an_owner_that_can_be_read_nothing_is_told(written: bytes | None) -> None:
    watch, _ = watcher(Sights("a"), Facts(f="a"))
    with pytest.raises(OwnerLapsed):
        await watch.admit(written, event("a"))


async def test_an_owners_own_calls_bring_its_groups_up_to_date() -> None:
    watch, written = watcher(Sights("a"), Facts(), now_s=2_000)
    other = owner_of(replace(READER, subject="other"), 1_000)
    watch.know({"one": OWNER, "two": other})
    watch.seen(replace(READER, subject="nobody", groups=frozenset()))
    watch.seen(READER)
    watch.seen(replace(READER, groups=frozenset(("h",)), scopes=frozenset()))
    watch.seen(replace(READER, groups=frozenset(("h",)), scopes=frozenset()))
    await asyncio.sleep(0)
    ((webhook_id, fresh),) = written
    owner = read_owner(fresh)
    assert webhook_id == "one"
    assert (owner.principal.groups, owner.time_s) == (frozenset(("h",)), 2_000)
    assert owner.principal.scopes == READER.scopes


def test_only_what_is_worth_writing_is_written() -> None:
    owner = Owner(READER, 1_000)
    assert renewed(owner, READER, 1_000 + REFRESH_S - 1) is None
    later = renewed(owner, READER, 1_000 + REFRESH_S)
    assert later is not None and later.time_s == 1_000 + REFRESH_S
    scoped = replace(READER, scopes=frozenset(("tams-api/admin",)), scope_admin=True)
    assert renewed(Owner(scoped, 0), READER, 10**9) is None
    assert renewed(Owner(scoped, 0), scoped, 10**9) is not None


@pytest.fixture
async def recorder(monkeypatch: pytest.MonkeyPatch) -> Recorder:
    """Receives what the proxy delivers, in place of the network, and makes haste."""
    found = Recorder()
    assembled = proxy.app._events

    def hurried(running: Any, *more: Any) -> Any:
        running.events.sender = found
        running.events.schedule = QUICK
        live = running.events.live
        running.events.live = Live(replace(live._parts, beat_s=0.02))
        return assembled(running, *more)

    monkeypatch.setattr(proxy.app, "_events", hurried)
    return found


@pytest.fixture
async def house(recorder: Recorder, tmp_path: Path) -> AsyncIterator[Proxy]:
    async with running(tmp_path) as found:
        yield found


async def registered(house: Proxy, who: str, **said: Any) -> str:
    body = {"url": f"https://{who}.example/", "events": ALL, **said}
    webhook: str = (await house.made(who, "POST", WEBHOOKS, body)).json()["id"]
    return webhook


def told_to(recorder: Recorder, who: str) -> list[str]:
    """The ids of the flows that somebody was told of, in order."""
    found = [sent.message["event"] for sent in recorder.to(f"https://{who}.example/")]
    return [event["flow"]["id"] if "flow" in event else event["flow_id"] for event in found]


async def test_each_owner_hears_of_what_it_reads_and_of_nothing_else(
    house: Proxy, recorder: Recorder
) -> None:
    for who, classes in (("attacker", ["a"]), ("victim", ["v"]), ("admin", ["x"])):
        await registered(house, who, tags={"auth_classes": classes})
    mine, hidden, shared = [await house.flow(c) for c in (["a"], ["v"], ["shared"])]
    await house.made("admin", "DELETE", f"/flows/{hidden['id']}")
    await until(lambda: len(told_to(recorder, "admin")) == 4)
    await until(lambda: len(told_to(recorder, "victim")) == 3)
    await until(lambda: len(told_to(recorder, "attacker")) == 2)
    assert set(told_to(recorder, "attacker")) == {mine["id"], shared["id"]}
    assert set(told_to(recorder, "victim")) == {hidden["id"], shared["id"]}


async def test_a_class_change_is_told_by_the_classes_after_it(house: Proxy, recorder: Recorder) -> None:
    for who in ("attacker", "admin"):
        await registered(house, who, events=["flows/updated"])
    flow = await house.flow(["a"])
    path = f"/flows/{flow['id']}/tags/auth_classes"
    for classes in (["v"], ["a", "v"], ["a", "embargo"], ["a"]):
        await house.made("admin", "PUT", path, classes)
    await until(lambda: len(told_to(recorder, "admin")) == 4)
    await until(lambda: len(told_to(recorder, "attacker")) >= 1)
    seen = [
        set(sent.message["event"]["flow"]["tags"]["auth_classes"])
        for sent in recorder.to("https://attacker.example/")
    ]
    assert seen and all("a" in classes and "embargo" not in classes for classes in seen)


async def test_a_body_names_only_what_its_owner_sees(house: Proxy, recorder: Recorder) -> None:
    await registered(house, "attacker", events=["flows/created"])
    mine, hidden = await house.flow(["a"]), await house.flow(["v"])
    items = [{"id": mine["id"], "role": "x"}, {"id": hidden["id"], "role": "y"}]
    parent = await house.flow(["a"], flow_collection=items)
    await until(lambda: parent["id"] in told_to(recorder, "attacker"))
    assert not any(hidden["id"].encode() in sent.body for sent in recorder.sent)
    listed = (await house.made("attacker", "GET", f"/flows/{parent['id']}")).json()["flow_collection"]
    told = [s.message["event"]["flow"] for s in recorder.sent if parent["id"].encode() in s.body]
    assert told[0]["flow_collection"] == listed == items[:1]


async def test_revoked_rights_end_deliveries_and_streams(
    house: Proxy, recorder: Recorder, monkeypatch: pytest.MonkeyPatch
) -> None:
    await registered(house, "attacker")
    stream = await opened(house, "attacker")
    flow = await house.flow(["a"])
    await until(lambda: flow["id"] in told_to(recorder, "attacker"))
    await stream.came(2)
    fewer: Mapping[str, Client] = {**CLIENTS, "attacker": Client(full("b"))}
    write_policy(house.policies, fewer)
    await until_hidden(house, flow["id"])
    count = len(told_to(recorder, "attacker")), len(stream.events)
    await house.made("admin", "PUT", f"/flows/{flow['id']}/label", "secret")
    still = await house.flow(["b"])
    await until(lambda: still["id"] in told_to(recorder, "attacker"))
    await stream.came(count[1] + 1)
    assert not any(b"secret" in sent.body for sent in recorder.sent)
    assert not any("secret" in str(told) for told in stream.events)
    await stream.leave()


async def until_hidden(house: Proxy, flow_id: str) -> None:
    async with asyncio.timeout(20):
        while (await house.call("attacker", "GET", f"/flows/{flow_id}")).status_code != 404:
            await asyncio.sleep(0.05)


async def test_secrets_and_internal_receivers_stay_where_they_are(house: Proxy, recorder: Recorder) -> None:
    for url in (
        "http://127.0.0.1/",
        "http://169.254.169.254/latest",
        "http://[::1]:8000/",
        "http://localhost/",
    ):
        body = {"url": url, "events": ALL}
        assert (await house.call("attacker", "POST", WEBHOOKS, body)).status_code == 400
    flow = await house.flow(["a"])
    segment = {"object_id": "o", "timerange": "[0:0_1:0)", "get_urls": [{"url": "http://10.0.0.1/x"}]}
    answer = await house.call("attacker", "POST", f"/flows/{flow['id']}/segments", segment)
    assert answer.status_code == 400
    object_id = await house.segment(flow["id"])
    instance = {"url": "http://192.168.0.1/x", "label": "l"}
    answer = await house.call("attacker", "POST", f"/objects/{object_id}/instances", instance)
    assert answer.status_code == 400


async def opened(house: Proxy, who: str | None, query: str = "", **more: Any) -> Listening:
    headers = list(more.pop("headers", ()))
    if who is not None:
        headers.append((b"authorization", f"Bearer {await house.token(who)}".encode()))
    return await listen(house.app, query, headers=headers, **more)


@pytest.mark.parametrize("socket", [False, True], ids=["sse", "websocket"])
class TestListening:
    async def test_each_listener_hears_of_what_it_reads(self, house: Proxy, socket: bool) -> None:
        streams = {who: await opened(house, who, socket=socket) for who in ("attacker", "victim")}
        mine, hidden = await house.flow(["a"]), await house.flow(["v"])
        for who, flow in (("attacker", mine), ("victim", hidden)):
            await streams[who].came(2)
            assert [e["event"].get("flow", {}).get("id") for e in streams[who].events] == [None, flow["id"]]
            await streams[who].leave()

    async def test_an_id_is_good_for_its_own_listener_alone(self, house: Proxy, socket: bool) -> None:
        stream = await opened(house, "attacker", socket=socket)
        await house.flow(["a"])
        await stream.came(1)
        await stream.leave()
        after = f"after={stream.ids[0]}"
        again = await opened(house, "attacker", after, socket=socket)
        assert again.status == (101 if socket else 200)
        await again.leave()
        assert (await opened(house, "victim", after, socket=socket)).status == 400

    @pytest.mark.parametrize(
        ("who", "headers", "status"),
        [
            (None, [], 401),
            (None, [(b"authorization", b"Bearer nonsense")], 401),
            ("writing", [], 403),
            ("deleting", [], 403),
            ("reading", [], 200),
            ("nobody", [], 200),
        ],
    )
    async def test_listening_takes_a_token_that_reads(
        self, house: Proxy, socket: bool, who: str | None, headers: list[Any], status: int
    ) -> None:
        stream = await opened(house, who, socket=socket, headers=headers)
        assert stream.status == (101 if socket and status == 200 else status)
        if status == 200:
            await stream.leave()

    async def test_a_credential_that_counts_no_more_ends_the_stream(
        self, house: Proxy, socket: bool, tmp_path: Path
    ) -> None:
        stream = await opened(house, "attacker", socket=socket)
        rest = {name: client for name, client in CLIENTS.items() if name != "attacker"}
        write_policy(house.policies, rest)
        await until(lambda: stream.ended)


async def test_sockets_of_other_pages_and_at_other_paths_are_refused(house: Proxy) -> None:
    foreign = [(b"origin", b"https://elsewhere.example")]
    assert (await opened(house, "reading", socket=True, headers=foreign)).status == 403
    own = await opened(house, "reading", socket=True, headers=[(b"origin", b"http://tams.test")])
    assert own.status == 101
    await own.leave()
    assert (await opened(house, "reading", socket=True, path="/flows")).status == 404
    assert (await opened(house, None, socket=True, path="/flows")).status == 401


async def test_a_put_of_somebody_else_changes_whose_sight_counts(house: Proxy, recorder: Recorder) -> None:
    """decisions.md 24: nobody gains another's sight by editing a URL."""
    webhook_id = await registered(house, "victim", tags={"auth_classes": ["shared"]})
    put = {
        "id": webhook_id, "url": "https://admin.example/", "events": ALL, "status": "created",
        "tags": {"auth_classes": ["shared"]},
    }  # fmt: skip
    await house.made("admin", "PUT", f"{WEBHOOKS}/{webhook_id}", put)
    document = flow_document(["a"])
    await house.made("admin", "PUT", f"/flows/{document['id']}", document)
    await until(lambda: document["id"] in told_to(recorder, "admin"))
    assert not told_to(recorder, "victim")
