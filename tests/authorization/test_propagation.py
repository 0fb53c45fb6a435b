"""Changes of classes that go on to flows of a source and members of a collection."""

from __future__ import annotations

from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import pytest

from tests.authorization.world import INSIDE
from tests.proxy.support import Proxy, flow_document, new_id

WORLD = INSIDE


@pytest.fixture
async def proxy(tmp_path: Path) -> AsyncIterator[Proxy]:
    async with WORLD.running(tmp_path, propagate_classes=True) as found:
        yield found


async def held(proxy: Proxy, flow_id: str) -> set[str]:
    tags = (await proxy.made("admin", "GET", f"/flows/{flow_id}")).json()["tags"]
    return set(tags.get("auth_classes", ()))


async def collect(proxy: Proxy, parent: dict[str, Any], *members: dict[str, Any]) -> None:
    """Put members into a collection, as an administrator, and give each its own classes again."""
    items = [{"id": m["id"]} for m in members]
    await proxy.made("admin", "PUT", f"/flows/{parent['id']}/flow_collection", items)
    for member in members:
        tag = f"/flows/{member['id']}/tags/auth_classes"
        await proxy.made("admin", "PUT", tag, member["tags"]["auth_classes"])


async def share(proxy: Proxy, who: str, kind: str, name: str, *classes: str) -> int:
    answer = await proxy.call(who, "PUT", f"/{kind}s/{name}/tags/auth_classes", list(classes))
    return answer.status_code


async def test_flows_of_a_source_follow_it(proxy: Proxy) -> None:
    source = new_id()
    flows = [await proxy.flow(["v", "b"], source_id=source) for _ in range(3)]
    assert await share(proxy, "victim", "source", source, "v", "b", "shared") == 204
    assert [await held(proxy, f["id"]) for f in flows] == [{"v", "b", "shared"}] * 3
    assert await share(proxy, "victim", "source", source, "v", "b") == 204
    assert [await held(proxy, f["id"]) for f in flows] == [{"v", "b"}] * 3


async def test_members_follow_their_collection_all_the_way_down(proxy: Proxy) -> None:
    leaf, middle, top = [await proxy.flow(["v"]) for _ in range(3)]
    await collect(proxy, middle, leaf)
    await collect(proxy, top, middle)
    assert await share(proxy, "victim", "flow", top["id"], "v", "shared") == 204
    assert await held(proxy, middle["id"]) == await held(proxy, leaf["id"]) == {"v", "shared"}
    document = {**top, "tags": {"auth_classes": ["v"]}, "flow_collection": [{"id": middle["id"]}]}
    await proxy.made("victim", "PUT", f"/flows/{top['id']}", document)
    assert await held(proxy, leaf["id"]) == {"v"}


async def test_what_joins_follows_too(proxy: Proxy) -> None:
    first = await proxy.flow(["v", "shared"])
    joining = flow_document(["v"], source_id=first["source_id"])
    await proxy.made("victim", "PUT", f"/flows/{joining['id']}", joining)
    assert await held(proxy, joining["id"]) == {"v", "shared"}
    parent, member = await proxy.flow(["v", "shared"]), await proxy.flow(["v"])
    items = [{"id": member["id"]}]
    await proxy.made("victim", "PUT", f"/flows/{parent['id']}/flow_collection", items)
    assert await held(proxy, member["id"]) == {"v", "shared"}


async def test_it_stops_at_a_refusal_and_passes_over_what_is_hidden(proxy: Proxy) -> None:
    hidden, first, refusing, last = [await proxy.flow(c) for c in (["a"], ["v"], ["shared", "t"], ["v"])]
    parent = await proxy.flow(["v"])
    await collect(proxy, parent, hidden, first, refusing, last)
    # The victim may write through `shared`, but not put on a class for others' embargo: only v is lent.
    assert await share(proxy, "victim", "flow", parent["id"], "v", "embargo") == 204
    assert await held(proxy, hidden["id"]) == {"a"}
    assert await held(proxy, first["id"]) == {"v", "embargo"}
    assert await held(proxy, refusing["id"]) == {"shared", "t", "embargo"}
    assert await held(proxy, last["id"]) == {"v", "embargo"}
    # Taking off what denies somebody is refused, on the parent already.
    assert await share(proxy, "victim", "flow", parent["id"], "v") == 403


async def test_a_child_that_is_only_read_ends_it(proxy: Proxy) -> None:
    first, read_only, last = await proxy.flow(["v"]), await proxy.flow(["shared"]), await proxy.flow(["v"])
    parent = await proxy.flow(["a"])
    tag = f"/flows/{first['id']}/tags/auth_classes"
    await proxy.made("admin", "PUT", tag, ["a"])
    await proxy.made("admin", "PUT", f"/flows/{last['id']}/tags/auth_classes", ["a"])
    first["tags"], last["tags"] = {"auth_classes": ["a"]}, {"auth_classes": ["a"]}
    await collect(proxy, parent, first, read_only, last)
    # A colleague's change of a class that both hold; `shared` is for reading only.
    document = {**parent, "flow_collection": [{"id": m["id"]} for m in (first, read_only, last)]}
    document["tags"] = {"auth_classes": ["a", "b"]}
    await proxy.made("admin", "PUT", f"/flows/{parent['id']}", document)
    assert await held(proxy, last["id"]) == {"a", "b"}
    assert await share(proxy, "attacker", "flow", parent["id"], "a") == 403


async def test_a_read_only_flow_ends_it(proxy: Proxy) -> None:
    first, locked, last = [await proxy.flow(["v"]) for _ in range(3)]
    parent = await proxy.flow(["v"])
    await collect(proxy, parent, first, locked, last)
    await proxy.made("admin", "PUT", f"/flows/{locked['id']}/read_only", True)
    assert await share(proxy, "victim", "flow", parent["id"], "v", "shared") == 204
    assert await held(proxy, first["id"]) == {"v", "shared"}
    assert await held(proxy, locked["id"]) == await held(proxy, last["id"]) == {"v"}


async def test_it_is_off_unless_configured(tmp_path: Path) -> None:
    async with WORLD.running(tmp_path / "off") as proxy:
        source = new_id()
        flow = await proxy.flow(["v"], source_id=source)
        assert await share(proxy, "victim", "source", source, "v", "shared") == 204
        assert await held(proxy, flow["id"]) == {"v"}
