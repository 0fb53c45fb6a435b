"""What an operator may set: the default class, the size of bulk registrations."""

from __future__ import annotations

from pathlib import Path

from tests.authorization.world import INSIDE
from tests.proxy.support import CLIENTS, Client, flow_document, new_id, told

WORLD = INSIDE


async def test_untagged_resources_are_for_administrators_unless_there_is_a_default_class(
    tmp_path: Path,
) -> None:
    async with WORLD.running(tmp_path / "without") as proxy:
        for classes in (None, []):
            flow = await proxy.flow(classes)
            hidden = await proxy.call("owner", "GET", f"/flows/{flow['id']}")
            assert told(hidden) == told(await proxy.call("owner", "GET", f"/flows/{new_id()}"))
        assert (await proxy.made("owner", "GET", "/flows")).json() == []
        assert len((await proxy.made("admin", "GET", "/flows")).json()) == 2
    async with WORLD.running(tmp_path / "with", default_class="public") as proxy:
        flows = [await proxy.flow(classes) for classes in (None, [])]
        await proxy.flow(["v"])
        # Everybody reads `public`; nobody writes it.
        for who in ("nobody", "attacker"):
            page = (await proxy.made(who, "GET", "/flows")).json()
            assert [f["id"] for f in page] == WORLD.listed([f["id"] for f in flows])
            assert (await proxy.call(who, "PUT", f"/flows/{flows[0]['id']}/label", "x")).status_code == 403
        tag = f"/flows/{flows[0]['id']}/tags/auth_classes"
        assert (await proxy.call("attacker", "PUT", tag, ["a"])).status_code == 403


async def test_a_writer_of_the_default_class_makes_untagged_flows_and_may_tag_them(tmp_path: Path) -> None:
    clients = {
        **CLIENTS,
        "plain": Client(("reader b", "writer b", "reader t", "writer t"), creator=True),
        "half": Client(("reader t", "writer t"), creator=True),
    }
    async with WORLD.running(tmp_path, clients, default_class="b") as proxy:
        document = flow_document(None)
        made = await proxy.made("plain", "PUT", f"/flows/{document['id']}", document)
        assert "auth_classes" not in made.json()["tags"]
        tag = f"/flows/{document['id']}/tags/auth_classes"
        # Who holds the new class only may not take the default one away by it.
        assert (await proxy.call("half", "PUT", tag, ["t"])).status_code == 404
        assert (await proxy.call("plain", "PUT", tag, ["t"])).status_code == 204
        assert (await proxy.call("half", "GET", tag)).json() == ["t"]


async def test_bulk_registrations_are_as_long_as_is_set(tmp_path: Path) -> None:
    async with WORLD.running(tmp_path, bulk_segments=2) as proxy:
        mine, hidden = await proxy.flow(["a"]), await proxy.flow(["v"])
        urls = [{"url": "https://example.org/", "label": "x"}]
        body = [{"object_id": f"o{n}", "timerange": f"[{n}:0_{n + 1}:0)", "get_urls": urls} for n in range(3)]
        path = f"/flows/{mine['id']}/segments"
        for who in ("attacker", "admin"):
            assert (await proxy.call(who, "POST", path, body)).status_code == 400
        refused = await proxy.call("attacker", "POST", f"/flows/{hidden['id']}/segments", body)
        absent = await proxy.call("attacker", "POST", f"/flows/{new_id()}/segments", body)
        assert told(refused) == told(absent) and refused.status_code == 404
        assert (await proxy.call("attacker", "POST", path, body[:2])).status_code == 201
