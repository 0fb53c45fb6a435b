"""Older requests through the proxy: the same rules, whatever way they come."""

from __future__ import annotations

import json

import pytest

from tests.proxy.support import Proxy, new_id

FORMAT = "urn:x-nmos:format:data"
FLOW = {
    "format": FORMAT,
    "codec": "application/json",
    "container": "video/mp2t",
    "essence_parameters": {"data_type": "urn:x-tam:data:test"},
}
FORM = {"content-type": "multipart/form-data; boundary=b"}


def form(segment: object, media: bytes) -> bytes:
    head = b'--b\r\nContent-Disposition: form-data; name="%s"\r\n\r\n'
    said = json.dumps(segment).encode()
    return head % b"segment" + said + b"\r\n" + head % b"file" + media + b"\r\n--b--\r\n"


async def test_a_flow_is_made_by_whom_it_may_be(proxy: Proxy) -> None:
    body = {**FLOW, "id": new_id(), "tags": {"auth_classes": ["t"]}}
    for who, status in (("reader", 403), ("attacker", 403), ("owner", 201), ("owner", 400)):
        assert (await proxy.call(who, "POST", "/flows", body)).status_code == status, who
    own = await proxy.made("owner", "POST", "/api/v1/flows", {**FLOW, "tags": {"auth_classes": ["t"]}})
    assert own.json()["tags"] == {"auth_classes": ["t"]}


async def test_an_id_that_is_hidden_is_refused_as_a_put_of_it(proxy: Proxy) -> None:
    hidden = await proxy.flow(["v"])
    body = {**hidden, "tags": {"auth_classes": ["a"]}}
    posted = await proxy.call("attacker", "POST", "/flows", body)
    put = await proxy.call("attacker", "PUT", f"/flows/{hidden['id']}", body)
    assert (posted.status_code, posted.json()["summary"]) == (put.status_code, put.json()["summary"])
    assert (await proxy.made("admin", "GET", f"/flows/{hidden['id']}")).json()["tags"] == hidden["tags"]


@pytest.mark.parametrize(
    ("who", "status"), [(None, 401), ("nobody", 404), ("reader", 403), ("writer", 201), ("admin", 201)]
)
async def test_media_come_with_their_segment_from_writers_alone(
    proxy: Proxy, who: str | None, status: int
) -> None:
    flow = await proxy.flow(["t"])
    body = form({"timerange": "[0:0_1:0)"}, b"media")
    path = f"/flows/{flow['id']}/segments"
    answer = await proxy.call(who, "POST", path, content=body, headers=FORM)
    assert answer.status_code == status, answer.text
    listed = (await proxy.made("admin", "GET", f"{path}?presigned=true")).json()
    assert len(listed) == (status == 201)
    if listed:
        url = listed[0]["get_urls"][0]["url"].removeprefix("http://tams.test")
        assert (await proxy.call(None, "GET", url)).content == b"media"


@pytest.mark.parametrize(("who", "status"), [(None, 401), ("nobody", 404), ("writer", 403), ("deleter", 201)])
async def test_a_flow_goes_for_those_who_may_delete_it(proxy: Proxy, who: str | None, status: int) -> None:
    flow = await proxy.flow(["t"])
    answer = await proxy.call(who, "POST", "/flow-delete-requests", {"flow_id": flow["id"]})
    assert answer.status_code == status, answer.text
    left = await proxy.call("admin", "GET", f"/flows/{flow['id']}")
    assert left.status_code == (404 if status == 201 else 200)


@pytest.mark.parametrize(("who", "status"), [("reader", 403), ("writer", 201), ("nobody", 404)])
async def test_room_is_made_for_writers(proxy: Proxy, who: str, status: int) -> None:
    flow = await proxy.flow(["t"])
    assert (await proxy.call(who, "POST", "/objects", {"flow_id": flow["id"]})).status_code == status


async def test_a_source_gets_its_makers_classes_and_no_others(proxy: Proxy) -> None:
    made = (await proxy.made("attacker", "POST", "/api/v1/sources", {"name": "x", "type": "data"})).json()
    assert made["tags"] == {"auth_classes": ["a"]}
    taken = {"format": FORMAT, "tags": {"auth_classes": ["v"]}}
    assert (await proxy.call("attacker", "POST", "/sources", taken)).status_code == 403
    path = f"/sources/{made['id']}"
    body = {"id": made["id"], "format": FORMAT, "label": "y"}
    await proxy.made("attacker", "PUT", path, body)
    found = (await proxy.made("admin", "GET", path)).json()
    assert (found["label"], found["tags"]) == ("y", {"auth_classes": ["a"]})
    gained = await proxy.call("attacker", "PUT", path, {**body, "tags": {"auth_classes": ["a", "v"]}})
    assert gained.status_code == 403
    hidden = await proxy.flow(["v"])
    for method in ("PUT", "DELETE"):
        answer = await proxy.call("attacker", method, f"/sources/{hidden['source_id']}", body)
        assert answer.status_code == 404


async def test_an_id_of_a_hidden_source_is_only_told_to_be_taken(proxy: Proxy) -> None:
    hidden = await proxy.flow(["v"])
    body = {"id": hidden["source_id"], "format": FORMAT}
    answer = await proxy.call("attacker", "POST", "/sources", body)
    assert answer.status_code == 400
    assert answer.json()["summary"] == "`id` is that of a source already."


async def test_nobodys_body_is_read(proxy: Proxy) -> None:
    answer = await proxy.call(None, "POST", "/flows", content=b"no json at all")
    assert answer.status_code == 401
