"""What happens between deciding and doing: classes that go, permissions that go, others who write."""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncIterator, Awaitable, Callable, Iterable
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import orjson
import pytest

from proxy.upstream import embedded
from proxy.upstream.protocol import Known, Ref, Request, Response, View
from tests.proxy.support import CLIENTS, Client, Proxy, flow_document, running

Between = Callable[[], Awaitable[object]]


class Interrupted(embedded.Embedded):
    """The store inside, where somebody else gets in between deciding on a write and doing it.

    `between` happens once after each look-up while it is set; `calls` counts what the store was asked.
    """

    between: Between | None = None
    calls: list[str] = []

    def __init__(self, door: Any, failure: type[Exception]) -> None:
        super().__init__(door, failure)
        self._plain = self.call
        self.call = self._counted  # type: ignore[method-assign]

    async def _counted(self, request: Request) -> Response:
        Interrupted.calls.append(request.operation)
        return await self._plain(request)

    async def look_up(self, refs: Iterable[Ref], objects: Iterable[str], view: View | None) -> Known:
        Interrupted.calls.append("look_up")
        found = await super().look_up(refs, objects, view)
        between = Interrupted.between
        if between is not None:
            Interrupted.between = None
            await between()
            Interrupted.between = between if getattr(between, "again", False) else None
        return found


@pytest.fixture
async def proxy(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> AsyncIterator[Proxy]:
    monkeypatch.setattr("proxy.app.Embedded", Interrupted)
    monkeypatch.setattr(Interrupted, "between", None)
    monkeypatch.setattr(Interrupted, "calls", [])
    async with running(tmp_path) as found:
        yield found


def interrupt(proxy: Proxy, method: str, path: str, body: object = None) -> None:
    """Once, between a look-up and the write that rests on it, an administrator does this."""

    async def between() -> None:
        await proxy.made("admin", method, path, body)

    Interrupted.between = between


WRITES: list[tuple[str, str, object]] = [
    ("PUT", "/label", "late"),
    ("DELETE", "/label", None),
    ("PUT", "/tags/colour", "late"),
    ("PUT", "/flow_collection", []),
    ("POST", "/storage", {"limit": 1}),
    ("DELETE", "/segments", None),
    ("DELETE", "", None),
]


@pytest.mark.parametrize(("method", "suffix", "body"), WRITES)
async def test_16_no_write_succeeds_on_a_class_that_went_in_between(
    proxy: Proxy, method: str, suffix: str, body: object
) -> None:
    flow = await proxy.flow(["a"], label="early")
    path = f"/flows/{flow['id']}"
    before = (await proxy.made("admin", "GET", path)).json()
    interrupt(proxy, "PUT", f"{path}/tags/auth_classes", ["v"])
    answer = await proxy.call("attacker", method, f"{path}{suffix}", body)
    assert answer.status_code == 404
    after = (await proxy.made("admin", "GET", path)).json()
    assert (after["label"], after["tags"]) == (before["label"], {"auth_classes": ["v"]})


async def test_16_a_put_of_a_flow_is_decided_again_when_its_ground_moves(proxy: Proxy) -> None:
    flow, theirs = await proxy.flow(["a"]), await proxy.flow(["a"])
    path = f"/flows/{flow['id']}"
    # Its own classes,
    interrupt(proxy, "PUT", f"{path}/tags/auth_classes", ["a", "b"])
    assert (await proxy.call("attacker", "PUT", path, {**flow, "tags": {}})).status_code == 204
    kept = (await proxy.made("admin", "GET", path)).json()["tags"]["auth_classes"]
    assert kept == ["a", "b"]
    # a member's,
    interrupt(proxy, "PUT", f"/flows/{theirs['id']}/tags/auth_classes", ["v"])
    body = {**flow, "tags": {}, "flow_collection": [{"id": theirs["id"]}]}
    assert (await proxy.call("attacker", "PUT", path, body)).status_code == 400
    # the collection itself,
    interrupt(proxy, "PUT", f"{path}/flow_collection", [{"id": theirs["id"]}])
    assert (await proxy.call("attacker", "PUT", path, {**flow, "tags": {}})).status_code == 204
    members = (await proxy.made("admin", "GET", f"{path}/flow_collection")).json()
    assert [m["id"] for m in members] == [theirs["id"]]
    # and the source that it moves to.
    other = await proxy.flow(["a"])
    interrupt(proxy, "PUT", f"/sources/{other['source_id']}/tags/auth_classes", ["v"])
    moved = {**flow, "tags": {}, "source_id": other["source_id"]}
    assert (await proxy.call("attacker", "PUT", path, moved)).status_code == 404


async def test_16_a_new_flow_is_not_made_over_one_that_came_in_between(proxy: Proxy) -> None:
    document = flow_document(["a"])
    path = f"/flows/{document['id']}"
    interrupt(proxy, "PUT", path, {**document, "tags": {"auth_classes": ["v"]}, "label": "first"})
    assert (await proxy.call("attacker", "PUT", path, document)).status_code == 404
    assert (await proxy.made("admin", "GET", path)).json()["label"] == "first"


async def test_16_an_object_is_not_used_once_its_witness_is_hidden(proxy: Proxy) -> None:
    theirs, mine = await proxy.flow(["shared"]), await proxy.flow(["a"])
    name = await proxy.segment(theirs["id"])
    body = {"object_id": name, "timerange": "[0:0_1:0)"}
    interrupt(proxy, "PUT", f"/flows/{theirs['id']}/tags/auth_classes", ["v"])
    assert (await proxy.call("attacker", "POST", f"/flows/{mine['id']}/segments", body)).status_code == 400
    shown = await proxy.flow(["shared"])
    name = await proxy.segment(shown["id"])
    interrupt(proxy, "DELETE", f"/flows/{shown['id']}/segments")
    body["object_id"] = name
    assert (await proxy.call("attacker", "POST", f"/flows/{mine['id']}/segments", body)).status_code == 400
    assert (await proxy.made("attacker", "GET", f"/flows/{mine['id']}/segments")).json() == []


async def test_9_an_id_brought_with_urls_that_was_allocated_in_between_stays_with_its_flow(
    proxy: Proxy,
) -> None:
    theirs, mine = await proxy.flow(["v"]), await proxy.flow(["a"])
    urls = [{"url": "https://evil.example/", "label": "x"}]
    body = {"object_id": "wanted", "timerange": "[0:0_1:0)", "get_urls": urls}
    interrupt(proxy, "POST", f"/flows/{theirs['id']}/storage", {"object_ids": ["wanted"]})
    assert (await proxy.call("attacker", "POST", f"/flows/{mine['id']}/segments", body)).status_code == 400


async def test_a_write_that_is_always_overtaken_ends_in_503(proxy: Proxy) -> None:
    flow = await proxy.flow(["a"])
    tag = f"/flows/{flow['id']}/tags/auth_classes"
    names = iter("bcdefgh")

    class Always:
        again = True

        async def __call__(self) -> None:
            await proxy.made("admin", "PUT", tag, ["a", next(names)])

    Interrupted.between = Always()
    answer = await proxy.call("attacker", "PUT", f"/flows/{flow['id']}/label", "late")
    assert answer.status_code == 503
    assert answer.headers["retry-after"] == "1"
    Interrupted.between = None
    assert (await proxy.call("admin", "GET", f"/flows/{flow['id']}/label")).status_code == 404


async def test_16_no_read_succeeds_after_the_class_was_removed(proxy: Proxy) -> None:
    flow = await proxy.flow(["a", "v"])
    path = f"/flows/{flow['id']}"
    await proxy.segment(flow["id"])
    await asyncio.gather(*(proxy.token(who) for who in ("attacker", "admin")))
    removed = asyncio.Event()
    late: list[int] = []

    async def read(suffix: str) -> None:
        found: list[int] = []
        while len(found) < 10:
            gone = removed.is_set()
            answer = await proxy.call("attacker", "GET", path + suffix)
            assert answer.status_code in (200, 404)
            if gone:
                found.append(answer.status_code)
            # Nothing that a request does in this process need wait: let the others have a turn.
            await asyncio.sleep(0)
        late.extend(found)

    async def remove() -> None:
        await proxy.made("admin", "PUT", f"{path}/tags/auth_classes", ["v"])
        removed.set()

    await asyncio.gather(*(read(s) for s in ("", "/segments", "/tags", "/label")), remove())
    assert len(late) == 40
    assert set(late) == {404}


async def test_a_body_that_comes_late_is_decided_on_the_permissions_of_then(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    ahead_s = [0.0]
    clock = SimpleNamespace(time=lambda: time.time() + sum(ahead_s))
    monkeypatch.setattr("proxy.app.time", clock)
    async with running(tmp_path) as proxy:
        flow = await proxy.flow(["a"])
        token = await proxy.token("attacker")

        async def body() -> AsyncIterator[bytes]:
            yield b'"la'
            without = {**CLIENTS, "attacker": Client(creator=True)}
            await proxy.change_policy(without, lambda: ahead_s.append(2))
            yield b'te"'

        # The transport asks for the body piece by piece, as the proxy does.
        sent = await _streamed(proxy, f"/flows/{flow['id']}/label", token, body())
        assert sent == 404
        assert (await proxy.call("admin", "GET", f"/flows/{flow['id']}/label")).status_code == 404


async def _streamed(proxy: Proxy, path: str, token: str, body: AsyncIterator[bytes]) -> int:
    """The status of a PUT whose body arrives in pieces, with a look at the permissions in between."""
    pieces = aiter(body)
    statuses: list[int] = []

    async def receive() -> dict[str, Any]:
        try:
            return {"type": "http.request", "body": await anext(pieces), "more_body": True}
        except StopAsyncIteration:
            return {"type": "http.request", "body": b"", "more_body": False}

    async def send(message: Any) -> None:
        if message["type"] == "http.response.start":
            statuses.append(message["status"])

    scope = {
        "type": "http",
        "method": "PUT",
        "raw_path": path.encode(),
        "path": path,
        "query_string": b"",
        "headers": [(b"authorization", f"Bearer {token}".encode())],
        "client": ("192.0.2.7", 1),
    }
    await proxy.app(scope, receive, send)
    return statuses[0]


COSTS: list[tuple[str, str, object, list[str]]] = [
    ("GET", "/flows/{flow}", None, ["GET_flows-flowId"]),
    ("HEAD", "/flows/{flow}", None, ["GET_flows-flowId"]),
    ("GET", "/flows", None, ["GET_flows"]),
    ("GET", "/flows/{flow}/segments", None, ["GET_flows-flowId-segments"]),
    ("GET", "/objects/{object}", None, ["GET_objects"]),
    ("GET", "/service/storage-backends", None, ["GET_storage-backends"]),
    ("PUT", "/flows/{flow}/label", "x", ["look_up", "PUT_flows-flowId-label"]),
    ("PUT", "/flows/{flow}", "document", ["look_up", "PUT_flows-flowId"]),
    ("DELETE", "/flows/{flow}", None, ["look_up", "DELETE_flows-flowId"]),
    ("POST", "/flows/{flow}/segments", "bulk", ["look_up", "POST_flows-flowId-segments"]),
]


@pytest.mark.parametrize(("method", "path", "body", "calls"), COSTS)
async def test_a_read_asks_the_store_once_and_a_write_twice(
    proxy: Proxy, method: str, path: str, body: object, calls: list[str]
) -> None:
    flow = await proxy.flow(["a"])
    name = await proxy.segment(flow["id"])
    if body == "document":
        body = {**flow, "label": "changed"}
    if body == "bulk":
        urls = [{"url": "https://example.org/", "label": "x"}]
        body = [
            {"object_id": f"o{n}", "timerange": f"[{n}:0_{n + 1}:0)", "get_urls": urls} for n in range(1, 500)
        ]
    await proxy.token("attacker")
    Interrupted.calls.clear()
    answer = await proxy.call("attacker", method, path.format(flow=flow["id"], object=name), body)
    assert answer.is_success, answer.text
    assert Interrupted.calls == calls


async def test_the_cost_of_a_request_is_in_its_record(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    records: list[dict[str, Any]] = []
    monkeypatch.setattr("proxy.app.lines", lambda form: records.extend)
    async with running(tmp_path) as proxy:
        flow = await proxy.flow(["a"])
        await proxy.made("attacker", "GET", f"/flows/{flow['id']}?x=secret")
        await proxy.call("victim", "PUT", f"/flows/{flow['id']}/label", "x")
        await proxy.made("admin", "GET", "/flows")
    read, refused, listed = [each for each in records if each["path"] != "/token"][-3:]
    assert (read["store_calls"], read["verdict"], read["reason"]) == (1, "allow", "read through a")
    assert read["principal"] == "local/attacker" and read["classes"] == ["a"] and read["policy"]
    assert (refused["store_calls"], refused["verdict"], refused["status"]) == (1, "deny", 404)
    assert (listed["operation"], listed["reason"]) == ("GET_flows", "administrator")
    assert b"secret" not in orjson.dumps(records)
