"""What only the proxy remembers of a store that it reaches over HTTP: whose objects are whose."""

from __future__ import annotations

from collections.abc import AsyncIterator
from pathlib import Path

import httpx
import pytest

from store.app import with_lifespan
from tests.proxy.support import Proxy, flow_document
from tests.proxy.support import running as proxied
from tests.upstream.over_http import running, store_settings
from tests.upstream.serving import serving


@pytest.fixture
async def proxy(tmp_path: Path) -> AsyncIterator[Proxy]:
    async with running(tmp_path) as found:
        yield found


def whole(object_id: str) -> dict[str, str]:
    return {"object_id": object_id, "timerange": "[0:0_1:0)"}


async def register(proxy: Proxy, flow_id: str, object_id: str) -> httpx.Response:
    return await proxy.call("attacker", "POST", f"/flows/{flow_id}/segments", whole(object_id))


async def remade(proxy: Proxy, flow_id: str) -> str:
    """A flow is deleted, and the attacker makes another one of its id."""
    await proxy.made("admin", "DELETE", f"/flows/{flow_id}")
    mine = flow_document(["a"], id=flow_id)
    await proxy.made("attacker", "PUT", f"/flows/{flow_id}", mine)
    return flow_id


async def test_12_a_new_flow_under_the_id_of_one_that_is_gone_inherits_no_allocation(proxy: Proxy) -> None:
    theirs = await proxy.flow(["v", "shared"])
    (allocated,) = await proxy.allocated("victim", theirs["id"])
    mine = await remade(proxy, theirs["id"])
    answer = await register(proxy, mine, allocated["object_id"])
    assert answer.status_code == 400, answer.text
    (own,) = await proxy.allocated("attacker", mine)
    assert (await register(proxy, mine, own["object_id"])).status_code == 201


async def test_12_nor_the_say_over_what_that_flow_was_the_first_to_use(proxy: Proxy) -> None:
    theirs, other = await proxy.flow(["v", "shared"]), await proxy.flow(["v", "shared"])
    registered = await proxy.segment(theirs["id"])
    await proxy.made("admin", "POST", f"/flows/{other['id']}/segments", whole(registered))
    mine = await remade(proxy, theirs["id"])
    assert (await register(proxy, mine, registered)).status_code == 201
    url = {"url": "https://evil.example/x", "label": "evil"}
    answer = await proxy.call("attacker", "POST", f"/objects/{registered}/instances", url)
    assert answer.status_code == 403
    allowed = await proxy.call("admin", "POST", f"/objects/{registered}/instances", url)
    assert allowed.status_code == 201


async def test_12_what_was_allocated_is_remembered_over_a_restart(tmp_path: Path) -> None:
    behind = tmp_path / "store"
    behind.mkdir()
    with serving(lambda url: with_lifespan(store_settings(behind, url), secret=b"s" * 32)) as url:
        async with proxied(tmp_path, upstream=url) as before:
            flow = await before.flow(["a"])
            (allocated,) = await before.allocated("attacker", flow["id"])
        async with proxied(tmp_path, upstream=url) as after:
            other = await after.flow(["a"])
            assert (await register(after, other["id"], allocated["object_id"])).status_code == 400
            assert (await register(after, flow["id"], allocated["object_id"])).status_code == 201
