"""Attacks that must fail, by their numbers in the list of what must hold: the attacker holds class `a`,
the victim `v`; the victim writes `shared`, which the attacker reads."""

from __future__ import annotations

import base64
import json
from collections.abc import AsyncIterator
from typing import Any
from urllib.parse import quote, urlsplit

import httpx
import pytest
import pytest_asyncio

from tests.authorization.world import INSIDE
from tests.proxy.support import (
    OPEN,
    SHARED,
    URL,
    VICTIMS,
    Proxy,
    flow_document,
    new_id,
    told,
)

pytestmark = pytest.mark.asyncio(loop_scope="module")
WORLD = INSIDE
MULTI = "urn:x-nmos:format:multi"


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def proxy(tmp_path_factory: pytest.TempPathFactory) -> AsyncIterator[Proxy]:
    async with WORLD.running(tmp_path_factory.mktemp("attacks")) as found:
        yield found


async def collection(
    proxy: Proxy, classes: list[str], members: list[dict[str, Any]], **said: Any
) -> dict[str, Any]:
    """A flow that collects others, made by an administrator."""
    document = {
        "id": new_id(),
        "source_id": new_id(),
        "format": MULTI,
        "tags": {"auth_classes": classes},
        "flow_collection": [{"id": m["id"], "role": f"part {n}"} for n, m in enumerate(members)],
        **said,
    }
    await proxy.made("admin", "PUT", f"/flows/{document['id']}", document)
    return document


async def classes_of(proxy: Proxy, flow_id: str) -> object:
    return (await proxy.made("admin", "GET", f"/flows/{flow_id}")).json()["tags"].get("auth_classes")


def same(*answers: httpx.Response) -> bool:
    """Whether all tell the same."""
    return len({str(told(answer)) for answer in answers}) == 1


# 5: groups never widen a filter, no readable class is an empty list


@pytest.mark.parametrize("client", ["victims", "nobody"])
async def test_5_groups_with_commas_blanks_or_alike_names_open_nothing(proxy: Proxy, client: str) -> None:
    await proxy.flow(["v"])
    for path in ("/flows", "/sources"):
        answer = await proxy.made(client, "GET", path)
        assert answer.json() == []
        assert answer.headers["x-paging-count"] == "0"
        assert "link" not in answer.headers


async def test_5_a_group_of_the_token_opens_what_the_policy_gives_it(proxy: Proxy) -> None:
    flow = await proxy.flow(["v"])
    assert (await proxy.call("grouped", "GET", f"/flows/{flow['id']}")).status_code == 200


# 6: names of roles match exactly; admin is bound to the mapping


async def test_6_no_group_or_class_of_a_telling_name_makes_an_administrator(proxy: Proxy) -> None:
    flow = await proxy.flow(["admin"])
    for client in ("attacker", "victims", "grouped"):
        assert (await proxy.call(client, "GET", f"/flows/{flow['id']}")).status_code == 404
        answer = await proxy.call(client, "POST", "/service", {"name": "mine"})
        assert answer.status_code == 403


# 7: every spelling of the path is the same operation, or 400

SPELLINGS = [
    "/flows/{id}/tags/auth_classes",
    "/flows/{id}/tags/auth%5Fclasses",
    "/flows/{id}/tags/%61uth_classes",
    "/flows/{id}/%74ags/auth_classes",
    "/%66lows/{id}/tags/auth_classes",
]
OTHERS = [
    "/flows/{id}/tags/auth%255Fclasses",
    "/flows/{id}/tags/auth_classes%00",
    "/flows/{id}/tags/auth_classes%20",
    "/flows/{id}/tags/auth_classes/",
    "/flows/{id}//tags/auth_classes",
    "//flows/{id}/tags/auth_classes",
    "/flows/{id}/tags%2Fauth_classes",
    "/flows/{id}/tags/..%2Ftags/auth_classes",
    "/flows/{id}/tags/%2E%2E/tags/auth_classes",
    "/flows/{id}/tags/auth_classes%ff",
    "/flows/{id}/tags/auth_classes%",
    "/flows/{id}/tags/AUTH_CLASSES",
    "/flows/{id}/tags/auth_classes;x=1",
    "/flows/{id}%2Ftags%2Fauth_classes",
    "/flows/{id}/tags/auth_classes%5C",
]


@pytest.mark.parametrize("spelling", SPELLINGS)
async def test_7_writing_classes_is_checked_however_the_path_is_spelt(proxy: Proxy, spelling: str) -> None:
    flow = await proxy.flow(["a"])
    path = spelling.format(id=flow["id"])
    assert (await proxy.call("attacker", "PUT", path, ["a", "v"])).status_code == 403
    assert (await proxy.call("attacker", "DELETE", path)).status_code == 403
    assert (await proxy.call("attacker", "PUT", path, [])).status_code == 403
    assert await classes_of(proxy, flow["id"]) == ["a"]
    assert (await proxy.call("admin", "PUT", path, ["v"])).status_code == 204
    assert await classes_of(proxy, flow["id"]) == ["v"]


@pytest.mark.parametrize("spelling", OTHERS)
async def test_7_a_path_that_is_only_alike_does_not_reach_the_classes(proxy: Proxy, spelling: str) -> None:
    flow = await proxy.flow(["a"])
    path = spelling.format(id=flow["id"])
    for method in ("PUT", "DELETE"):
        answer = await proxy.call("attacker", method, path, ["a", "v"] if method == "PUT" else None)
        assert answer.status_code in (204, 400, 404, 405), answer.text
        assert not answer.is_redirect
    assert await classes_of(proxy, flow["id"]) == ["a"]


# 8: nothing that a client sends reaches what decides


async def test_8_headers_do_not_change_who_asks_or_what_for(proxy: Proxy) -> None:
    flow = await proxy.flow(["v"])
    headers = {
        "x-http-method-override": "PUT",
        "x-forwarded-user": "local/admin",
        "x_forwarded_user": "local/admin",
        "x-original-url": "/service",
        "x-rewrite-url": "/service",
        "x-forwarded-for": "127.0.0.1",
        "forwarded": "for=127.0.0.1;host=admin",
        "tams-view": "admin",
    }
    answer = await proxy.call("attacker", "GET", f"/flows/{flow['id']}", headers=headers)
    assert same(answer, await proxy.call("attacker", "GET", f"/flows/{new_id()}"))


# 9: escalation


async def test_9_a_class_that_is_not_held_is_not_put_on(proxy: Proxy) -> None:
    flow = await proxy.flow(["a"])
    path = f"/flows/{flow['id']}"
    for classes in (["a", "v"], ["v"], ["a", "shared"], ["a", "granted"], "v", ["a", "embargo"]):
        assert (await proxy.call("attacker", "PUT", f"{path}/tags/auth_classes", classes)).status_code == 403
        document = {**flow, "tags": {"auth_classes": classes}}
        assert (await proxy.call("attacker", "PUT", path, document)).status_code == 403
    assert await classes_of(proxy, flow["id"]) == ["a"]


@pytest.mark.parametrize(
    "value", [None, 1, {}, [None], [["a"]], ["*"], [""], ["a b"], ["a,v"], "*", [1], ["é"]]
)
async def test_9_classes_of_the_wrong_form_are_refused(proxy: Proxy, value: object) -> None:
    flow = await proxy.flow(["a"])
    tag = await proxy.call(
        "attacker", "PUT", f"/flows/{flow['id']}/tags/auth_classes", content=json.dumps(value).encode()
    )
    document = flow_document(None, tags={"auth_classes": value})
    put = await proxy.call("attacker", "PUT", f"/flows/{document['id']}", document)
    assert (tag.status_code, put.status_code) == (400, 400)
    assert await classes_of(proxy, flow["id"]) == ["a"]


async def test_9_nothing_is_created_with_a_class_that_is_not_held(proxy: Proxy) -> None:
    for classes in (["v"], ["a", "v"], ["shared"], "v"):
        document = flow_document(classes)
        assert (await proxy.call("attacker", "PUT", f"/flows/{document['id']}", document)).status_code == 403
        assert (await proxy.call("admin", "GET", f"/flows/{document['id']}")).status_code == 404


async def test_9_a_body_with_another_id_changes_neither_flow(proxy: Proxy) -> None:
    mine, other = await proxy.flow(["a"]), await proxy.flow(["v"], label="victim's")
    body = {**other, "label": "attacked", "tags": {"auth_classes": ["a"]}}
    assert (await proxy.call("attacker", "PUT", f"/flows/{mine['id']}", body)).status_code in (400, 404)
    assert (await proxy.made("admin", "GET", f"/flows/{other['id']}/label")).json() == "victim's"
    assert (await proxy.call("admin", "GET", f"/flows/{mine['id']}/label")).status_code == 404


async def test_9_a_flow_does_not_come_to_a_source_that_its_writer_does_not_write(proxy: Proxy) -> None:
    hidden, visible = await proxy.flow(["v"]), await proxy.flow(["shared"])
    mine = await proxy.flow(["a"])
    for source, status in ((hidden["source_id"], 404), (visible["source_id"], 403)):
        moved = {**mine, "source_id": source}
        assert (await proxy.call("attacker", "PUT", f"/flows/{mine['id']}", moved)).status_code == status
        new = flow_document(["a"], source_id=source)
        assert (await proxy.call("attacker", "PUT", f"/flows/{new['id']}", new)).status_code == status
    stored = (await proxy.made("admin", "GET", f"/flows/{mine['id']}")).json()
    assert stored["source_id"] == mine["source_id"]


async def test_9_a_flow_that_cannot_be_read_is_not_put_into_a_collection(proxy: Proxy) -> None:
    hidden = await proxy.flow(["v"])
    parent = await collection(proxy, ["a"], [])
    path = f"/flows/{parent['id']}"
    answers = []
    for member in (hidden["id"], new_id()):
        items = [{"id": member, "role": "x"}]
        answers.append(await proxy.call("attacker", "PUT", f"{path}/flow_collection", items))
        answers.append(await proxy.call("attacker", "PUT", path, {**parent, "flow_collection": items}))
    assert [a.status_code for a in answers] == [400] * 4
    assert same(*answers)
    assert "collected_by" not in (await proxy.made("admin", "GET", f"/flows/{hidden['id']}")).json()


async def _register(proxy: Proxy, flow_id: str, body: object) -> httpx.Response:
    return await proxy.call("attacker", "POST", f"/flows/{flow_id}/segments", body)


ODD = "vic/tim %&?#é"


async def test_9_an_object_of_another_is_not_registered(proxy: Proxy) -> None:
    theirs, mine = await proxy.flow(["v"]), await proxy.flow(["a"])
    registered = await proxy.segment(theirs["id"])
    (allocated,) = await proxy.allocated("victim", theirs["id"])
    odd = f"{ODD} {new_id()}"
    (entry,) = await proxy.allocated("victim", theirs["id"], object_ids=[odd])
    segment = {"object_id": odd, "timerange": "[5:0_6:0)"}
    await proxy.made("victim", "POST", f"/flows/{theirs['id']}/segments", segment)
    (own,) = await proxy.allocated("attacker", mine["id"])
    answers = []
    for name in (registered, allocated["object_id"], entry["object_id"], new_id()):
        answers.append(await _register(proxy, mine["id"], {"object_id": name, "timerange": "[0:0_1:0)"}))
        body = {"object_id": own["object_id"], "init_object_id": name, "timerange": "[0:0_1:0)"}
        answers.append(await _register(proxy, mine["id"], body))
        bulk = [{"object_id": name, "timerange": f"[{n}:0_{n + 1}:0)"} for n in range(2)]
        bulk_answer = await _register(proxy, mine["id"], bulk)
        assert bulk_answer.status_code == 200
        failed = bulk_answer.json()["failed_segments"]
        assert [f["object_id"] for f in failed] == [name, name]
        assert {f["error"]["summary"] for f in failed} == {answers[0].json()["summary"]}
    assert {a.status_code for a in answers} == {400}
    assert same(*answers)
    assert (await proxy.made("attacker", "GET", f"/flows/{mine['id']}/segments")).json() == []


async def test_9_a_known_object_is_not_taken_over_by_bringing_urls_for_it(proxy: Proxy) -> None:
    theirs, mine = await proxy.flow(["v"]), await proxy.flow(["a"])
    urls = [{"url": "https://evil.example/x", "label": "evil"}]
    for name in (
        await proxy.segment(theirs["id"]),
        (await proxy.allocated("victim", theirs["id"]))[0]["object_id"],
    ):
        body = {"object_id": name, "timerange": "[0:0_1:0)", "get_urls": urls}
        assert (await _register(proxy, mine["id"], body)).status_code == 400


async def test_9_in_bulk_what_is_allowed_is_registered_and_the_rest_is_told(proxy: Proxy) -> None:
    theirs, mine = await proxy.flow(["v"]), await proxy.flow(["a"])
    hidden = await proxy.segment(theirs["id"])
    (own,) = await proxy.allocated("attacker", mine["id"])
    brought = new_id()
    urls = [{"url": "https://example.org/x", "label": "mine"}]
    body = [
        {"object_id": hidden, "timerange": "[0:0_1:0)"},
        {"object_id": own["object_id"], "timerange": "[1:0_2:0)"},
        {"object_id": brought, "timerange": "[2:0_3:0)", "get_urls": urls},
        {"object_id": brought, "timerange": "[2:0_3:0)", "ts_offset": "0:0"},
        {"object_id": own["object_id"], "timerange": "[4:0_5:0)", "init_object_id": 5},
    ]
    answer = await _register(proxy, mine["id"], body)
    assert answer.status_code == 200
    failed = answer.json()["failed_segments"]
    # What the gate refuses comes first; the fourth overlaps the third.
    assert [f["object_id"] for f in failed] == [hidden, own["object_id"], brought]
    assert failed[0]["timerange"] == "[0:0_1:0)"
    listed = (await proxy.made("attacker", "GET", f"/flows/{mine['id']}/segments")).json()
    assert [s["object_id"] for s in listed] == [own["object_id"], brought]


async def test_9_a_readable_object_may_be_used_again_by_who_reads_it(proxy: Proxy) -> None:
    theirs, mine = await proxy.flow(["shared"]), await proxy.flow(["a"])
    name = await proxy.segment(theirs["id"])
    answer = await _register(proxy, mine["id"], {"object_id": name, "timerange": "[0:0_1:0)"})
    assert answer.status_code == 201, answer.text


async def test_9_a_reader_changes_no_instances(proxy: Proxy) -> None:
    theirs = await proxy.flow(["shared"])
    name = await proxy.segment(theirs["id"])
    path = f"/objects/{name}/instances"
    url = {"url": "https://evil.example/x", "label": "evil"}
    refused = WORLD.status("POST_objects-instances", 403)
    assert (await proxy.call("attacker", "POST", path, url)).status_code == refused
    copied = await proxy.call("victim", "POST", path, {**url, "label": "copy"})
    is_copied = WORLD.done("POST_objects-instances", copied)
    assert (await proxy.call("attacker", "DELETE", f"{path}?label=copy")).status_code == refused
    labels = [u["label"] for u in (await proxy.made("victim", "GET", f"/objects/{name}")).json()["get_urls"]]
    assert ("copy" in labels) is is_copied and "evil" not in labels


async def test_9_using_an_object_again_gives_no_right_over_its_instances(proxy: Proxy) -> None:
    theirs, mine = await proxy.flow(["shared"]), await proxy.flow(["a"])
    name = await proxy.segment(theirs["id"])
    await proxy.made("attacker", "POST", f"/flows/{mine['id']}/segments", _whole(name))
    url = {"url": "https://evil.example/x", "label": "evil"}
    refused = WORLD.status("POST_objects-instances", 403)
    assert (await proxy.call("attacker", "POST", f"/objects/{name}/instances", url)).status_code == refused
    # Not even once the first flow is gone, while another of the victim's uses it.
    other = await proxy.flow(["shared"])
    await proxy.made("admin", "POST", f"/flows/{other['id']}/segments", _whole(name))
    await proxy.made("admin", "DELETE", f"/flows/{theirs['id']}")
    assert (await proxy.call("attacker", "POST", f"/objects/{name}/instances", url)).status_code == refused


def _whole(object_id: str) -> dict[str, str]:
    return {"object_id": object_id, "timerange": "[0:0_1:0)"}


async def test_9_a_new_flow_under_the_id_of_one_that_is_gone_inherits_no_objects(proxy: Proxy) -> None:
    theirs, other = await proxy.flow(["v", "shared"]), await proxy.flow(["v", "shared"])
    registered = await proxy.segment(theirs["id"])
    (allocated,) = await proxy.allocated("victim", theirs["id"], presigned=False)
    await proxy.made("admin", "POST", f"/flows/{other['id']}/segments", _whole(registered))
    await proxy.made("admin", "DELETE", f"/flows/{theirs['id']}")
    mine = flow_document(["a"], id=theirs["id"])
    await proxy.made("attacker", "PUT", f"/flows/{mine['id']}", mine)
    # Neither what was allocated for the one that is gone,
    claimed = await _register(proxy, mine["id"], _whole(allocated["object_id"]))
    assert claimed.status_code == 400, claimed.text
    if WORLD.unsigned_media:
        token = allocated["put_url"]["url"].rsplit("/", 1)[1]
        headers = {"content-type": "video/mp2t"}
        put = await proxy.call("attacker", "PUT", f"/media/{OPEN}/{token}", content=b"evil", headers=headers)
        assert put.status_code == 404
    # nor the say over what it was the first to use.
    assert (await _register(proxy, mine["id"], _whole(registered))).status_code == 201
    url = {"url": "https://evil.example/x", "label": "evil"}
    answer = await proxy.call("attacker", "POST", f"/objects/{registered}/instances", url)
    assert answer.status_code == WORLD.status("POST_objects-instances", 403)


async def test_9_a_class_that_denies_is_taken_off_by_an_administrator_only(proxy: Proxy) -> None:
    flow = await proxy.flow(["v", "embargo"])
    path = f"/flows/{flow['id']}"
    assert (await proxy.call("victim", "PUT", f"{path}/tags/auth_classes", ["v"])).status_code == 403
    put = await proxy.call("victim", "PUT", path, {**flow, "tags": {"auth_classes": ["v"]}})
    assert put.status_code == 403
    assert (await proxy.call("victim", "PUT", path, {**flow, "tags": {}})).status_code == 204
    assert await classes_of(proxy, flow["id"]) == ["embargo", "v"]
    assert (await proxy.call("admin", "PUT", f"{path}/tags/auth_classes", ["v"])).status_code == 204


async def test_9_who_may_grant_a_class_gives_and_takes_it_but_writes_nothing_else(proxy: Proxy) -> None:
    flow = await proxy.flow(["v"])
    tag = f"/flows/{flow['id']}/tags/auth_classes"
    assert (await proxy.call("victim", "PUT", tag, ["v", "shared"])).status_code == 204
    assert (await proxy.call("attacker", "GET", f"/flows/{flow['id']}")).status_code == 200
    assert (await proxy.call("granter", "PUT", tag, ["v", "shared", "t"])).status_code == 404
    assert (await proxy.call("victim", "PUT", tag, ["v"])).status_code == 204
    assert (await proxy.call("attacker", "GET", f"/flows/{flow['id']}")).status_code == 404


async def test_9_a_change_gives_its_author_no_more_than_there_was(proxy: Proxy) -> None:
    # The editor reads and writes t; deleter permission would come with class a, which is not held anyway;
    # the attacker is shut out by an embargo, and cannot write at all.
    flow = await proxy.flow(["a", "embargo"])
    tag = f"/flows/{flow['id']}/tags/auth_classes"
    assert (await proxy.call("attacker", "PUT", tag, ["a"])).status_code == 404


# 10: what reads may name


async def test_10_collections_name_what_is_seen_and_head_tells_the_same(proxy: Proxy) -> None:
    seen, hidden = await proxy.flow(["a"]), await proxy.flow(["v"])
    parent = await collection(proxy, ["a"], [hidden, seen])
    secret = await collection(proxy, ["v"], [seen])
    source, member = parent["source_id"], seen["source_id"]
    for path, expected in {
        f"/flows/{parent['id']}": {"flow_collection": [{"id": seen["id"], "role": "part 1"}]},
        f"/flows/{seen['id']}": {"collected_by": [parent["id"]]},
        f"/sources/{source}": {"source_collection": [{"id": member, "role": "part 1"}]},
        f"/sources/{member}": {"collected_by": [source]},
    }.items():
        answer = await proxy.made("attacker", "GET", path)
        assert expected.items() <= answer.json().items()
        assert hidden["id"] not in answer.text and secret["id"] not in answer.text
        assert hidden["source_id"] not in answer.text and secret["source_id"] not in answer.text
        head = await proxy.call("attacker", "HEAD", path)
        assert told(head)[:2] == told(answer)[:2]
        kind, _, name = path[1:].partition("/")
        listed = (await proxy.made("attacker", "GET", f"/{kind}?limit=1000")).json()
        assert answer.json() in listed, name
    members = await proxy.made("attacker", "GET", f"/flows/{parent['id']}/flow_collection")
    assert members.json() == [{"id": seen["id"], "role": "part 1"}]


async def test_10_a_collection_of_hidden_flows_alone_is_as_none(proxy: Proxy) -> None:
    hidden = await proxy.flow(["v"])
    parent, plain = await collection(proxy, ["a"], [hidden]), await collection(proxy, ["a"], [])
    full, empty = [(await proxy.made("attacker", "GET", f"/flows/{p['id']}")).json() for p in (parent, plain)]
    assert full.keys() == empty.keys()
    answers = [
        await proxy.made("attacker", "GET", f"/flows/{p['id']}/flow_collection") for p in (parent, plain)
    ]
    assert same(*answers) and answers[0].json() == []


async def test_10_objects_name_the_flows_that_are_seen(proxy: Proxy) -> None:
    first, mine, third = await proxy.flow(["v"]), await proxy.flow(["a"]), await proxy.flow(["v"])
    name = await proxy.segment(first["id"])
    for flow in (mine, third):
        await proxy.made("admin", "POST", f"/flows/{flow['id']}/segments", _whole(name))
    answer = await proxy.made("attacker", "GET", f"/objects/{name}?limit=1")
    assert answer.json()["referenced_by_flows"] == [mine["id"]]
    assert "first_referenced_by_flow" not in answer.json()
    assert answer.headers["x-paging-count"] == "1"
    assert "link" not in answer.headers and "x-paging-nextkey" not in answer.headers
    head = await proxy.call("attacker", "HEAD", f"/objects/{name}?limit=1")
    assert told(head)[:2] == told(answer)[:2]
    whole = (await proxy.made("admin", "GET", f"/objects/{name}")).json()
    assert whole["first_referenced_by_flow"] == first["id"]


async def test_10_urls_do_not_tell_for_which_flow_an_object_was_made(proxy: Proxy) -> None:
    first, mine = await proxy.flow(["v"]), await proxy.flow(["a"])
    name = await proxy.segment(first["id"])
    await proxy.made("admin", "POST", f"/flows/{mine['id']}/segments", _whole(name))
    answers = [
        await proxy.made("attacker", "GET", f"/objects/{name}"),
        await proxy.made("attacker", "GET", f"/flows/{mine['id']}/segments"),
    ]
    documents = [answers[0].json(), *answers[1].json()]
    urls = [each["url"] for document in documents for each in document["get_urls"]]
    assert urls
    for url in urls:
        pieces = [url, *(decoded(piece) for piece in urlsplit(url).path.split("/"))]
        assert not any(first["id"] in piece or first["source_id"] in piece for piece in pieces)


def decoded(piece: str) -> str:
    """What a piece of a path says in base64, if it does."""
    if len(piece) % 4 == 1:
        return ""
    return base64.b64decode(piece + "=" * (-len(piece) % 4), altchars=b"-_").decode("utf-8", "replace")


async def test_10_urls_come_from_readable_backends_only(proxy: Proxy) -> None:
    flow = await proxy.flow(["a", "v"])
    hidden = await proxy.segment(flow["id"], 0, storage_id=VICTIMS)
    shared = await proxy.segment(flow["id"], 1, storage_id=SHARED)
    listed = (await proxy.made("attacker", "GET", f"/flows/{flow['id']}/segments")).json()
    assert [s["object_id"] for s in listed] == [hidden, shared]
    assert listed[0]["get_urls"] == []
    assert {u["label"] for u in listed[1]["get_urls"]} == {"shared"}
    assert (await proxy.made("attacker", "GET", f"/objects/{hidden}")).json()["get_urls"] == []
    assert {
        u["label"] for u in (await proxy.made("victim", "GET", f"/objects/{hidden}")).json()["get_urls"]
    } == {"victims"}
    # Nor by asking for it.
    for query in (
        f"accept_storage_ids={VICTIMS}",
        "accept_get_urls=victims",
        "storage_backend_tag.auth_classes=v",
    ):
        answer = await proxy.call("attacker", "GET", f"/flows/{flow['id']}/segments?{query}")
        if WORLD.has_query(query, answer):
            assert all(s["get_urls"] == [] for s in answer.json())


async def test_10_storage_is_allocated_where_it_may_be_written(proxy: Proxy) -> None:
    flow = await proxy.flow(["a"])
    path = f"/flows/{flow['id']}/storage"
    answers = [
        await proxy.call("attacker", "POST", path, {"limit": 1, "storage_id": s}) for s in (VICTIMS, new_id())
    ]
    assert [a.status_code for a in answers] == [400, 400]
    assert same(*answers)
    visible = await proxy.call("attacker", "POST", path, {"limit": 1, "storage_id": SHARED})
    assert visible.status_code == 403
    for body in ({"limit": 1}, {"limit": 1, "storage_id": OPEN}, None):
        assert (await proxy.call("attacker", "POST", path, body)).status_code == 201


async def test_10_a_label_of_a_hidden_backend_is_as_one_of_none(proxy: Proxy) -> None:
    flow = await proxy.flow(["a"])
    name = await proxy.segment(flow["id"])
    answers = [
        await proxy.call("attacker", "DELETE", f"/objects/{name}/instances?label={label}")
        for label in ("victims", "none-such")
    ]
    assert same(*answers), [a.text for a in answers]
    refused = WORLD.status("DELETE_objects-instances", 400)
    assert answers[0].status_code == refused
    twice = await proxy.call("attacker", "DELETE", f"/objects/{name}/instances?label=open&label=victims")
    assert twice.status_code == refused


async def test_10_a_put_of_a_redacted_collection_keeps_what_its_writer_does_not_see(proxy: Proxy) -> None:
    one, hidden, two = await proxy.flow(["a"]), await proxy.flow(["v"]), await proxy.flow(["a"])
    parent = await collection(proxy, ["a"], [one, hidden, two])
    path = f"/flows/{parent['id']}"

    async def members() -> list[str]:
        return [m["id"] for m in (await proxy.made("admin", "GET", f"{path}/flow_collection")).json()]

    shown = (await proxy.made("attacker", "GET", path)).json()
    await proxy.made("attacker", "PUT", path, {**shown, "label": "changed"})
    assert await members() == [one["id"], hidden["id"], two["id"]]
    await proxy.made("attacker", "PUT", f"{path}/flow_collection", shown["flow_collection"][1:])
    assert await members() == [hidden["id"], two["id"]]
    await proxy.made("attacker", "PUT", f"{path}/flow_collection", [])
    assert await members() == [hidden["id"]]
    await proxy.made("attacker", "PUT", path, {k: v for k, v in parent.items() if k != "flow_collection"})
    assert await members() == [hidden["id"]]
    assert (await proxy.call("attacker", "DELETE", f"{path}/flow_collection")).status_code == 403
    assert await members() == [hidden["id"]]


# 11: no filter shows more than there is without it


async def _listed(proxy: Proxy, who: str, path: str, query: str) -> set[str] | None:
    """The ids on all pages, None where the query is refused, or names what is lacking."""
    found: set[str] = set()
    answer = await proxy.call(who, "GET", f"{path}?{query}")
    while answer.status_code == 200:
        found |= {item["id"] for item in answer.json()}
        if "link" not in answer.headers:
            return found
        answer = await proxy.call(who, "GET", answer.links["next"]["url"].removeprefix("http://tams.test"))
    if WORLD.has_query(query, answer):
        assert answer.status_code == 400, answer.text
    return None


SMUGGLED = [
    "tag.auth_classes=v",
    "tag.auth_classes=a,v",
    "tag.auth_classes=v&tag.auth_classes=a",
    "tag.auth_classes=a&tag.auth_classes=v",
    "TAG.auth_classes=v",
    "Tag.Auth_Classes=v",
    "tag%2Eauth_classes=v",
    "tag.auth%5Fclasses=v",
    "tag%252Eauth_classes=v",
    "tag.auth_classes=v;tag.auth_classes=a",
    "tag.auth_classes=v%26tag.x=1",
    "tag_exists.auth_classes=false",
    "tag_exists.auth_classes=true",
    "tag_exists.auth_classes=false&tag_exists.auth_classes=true",
    "flow_tag.auth_classes=v",
    "storage_backend_tag.auth_classes=v",
    "tag.auth_classes=",
    "tag.=v",
    "tag_exists.=true",
    "view=admin",
    "allow=v",
    "collected_by_ids=",
    "limit=1",
    "limit=100000",
    "sort_by=label&reverse_order=true",
    "tag.auth_classes=*",
    "tag.auth_classes=%2A",
    "tag.auth_classes=a'%20OR%20'1'='1",
    "page=x",
]


@pytest.mark.parametrize("query", SMUGGLED)
async def test_11_no_filter_widens_a_listing(proxy: Proxy, query: str) -> None:
    for classes in (["a"], ["v"], ["shared"], ["a", "embargo"], [], None):
        await proxy.flow(classes)
    for path in ("/flows", "/sources"):
        everything = await _listed(proxy, "attacker", path, "limit=1000")
        found = await _listed(proxy, "attacker", path, query)
        assert everything is not None
        assert found is None or found <= everything


async def test_11_asking_for_the_members_of_a_hidden_collection_finds_nothing(proxy: Proxy) -> None:
    seen = await proxy.flow(["a"])
    secret = await collection(proxy, ["v"], [seen])
    uncollected = await proxy.flow(["a"])
    for path, parent, member, other in (
        ("/flows", secret["id"], seen["id"], uncollected["id"]),
        ("/sources", secret["source_id"], seen["source_id"], uncollected["source_id"]),
    ):
        assert await _listed(proxy, "attacker", path, f"collected_by_ids={parent}") == set()
        assert await _listed(proxy, "admin", path, f"collected_by_ids={parent}") == {member}
        # As far as the attacker can see, it is collected by nothing.
        loose = await _listed(proxy, "attacker", path, "collected_by_ids=&limit=1000")
        assert loose is not None and {member, other} <= loose


# 14: cross-origin requests


async def test_14_a_preflight_is_answered_here_and_opens_nothing_unless_listed(proxy: Proxy) -> None:
    headers = {"origin": "https://evil.example", "access-control-request-method": "DELETE"}
    for path in ("/flows", f"/flows/{new_id()}", "/nowhere", "/token"):
        answer = await proxy.call(None, "OPTIONS", path, headers=headers)
        assert answer.status_code == 204
        assert not [name for name in answer.headers if name.startswith("access-control")]
    assert (await proxy.call(None, "OPTIONS", "/flows")).status_code == 401
    simple = await proxy.call("attacker", "GET", "/flows", headers={"origin": "https://evil.example"})
    assert "access-control-allow-origin" not in simple.headers


async def test_14_listed_origins_may_read_answers(tmp_path_factory: pytest.TempPathFactory) -> None:
    folder = tmp_path_factory.mktemp("cors")
    async with WORLD.running(folder, cors_origins=["https://player.example"]) as proxy:
        asks = {"access-control-request-method": "PUT", "access-control-request-headers": "authorization"}
        for origin, listed in (("https://player.example", True), ("https://player.example.evil", False)):
            preflight = await proxy.call(None, "OPTIONS", "/flows", headers={"origin": origin, **asks})
            assert preflight.status_code == 204
            assert ("access-control-allow-headers" in preflight.headers) is listed
            for who, path in (("attacker", "/flows"), (None, "/flows"), (None, "/health")):
                answer = await proxy.call(who, "GET", path, headers={"origin": origin})
                allowed = answer.headers.get("access-control-allow-origin")
                assert allowed == (origin if listed else None)
                assert answer.headers["vary"] == "Origin"
                assert "access-control-allow-credentials" not in answer.headers


FOREIGN_PAGES = [
    {"origin": "https://evil.example"},
    {"origin": "null"},
    {"origin": "https://evil.example", "sec-fetch-site": "cross-site"},
    {"origin": "http://evil.tams.test", "sec-fetch-site": "same-site"},
    {"sec-fetch-site": "cross-site"},
]
OWN_PAGES: list[dict[str, str]] = [
    {},
    {"origin": URL},
    {"origin": URL, "sec-fetch-site": "same-origin"},
    {"sec-fetch-site": "none"},
    {"origin": "https://player.example", "sec-fetch-site": "cross-site"},
]


async def test_14_a_page_of_another_origin_writes_nothing_with_what_a_browser_adds_by_itself(
    tmp_path_factory: pytest.TempPathFactory,
) -> None:
    """Browsers send names and secrets once typed, and certificates, with forms of any page: those need no
    preflight."""
    folder = tmp_path_factory.mktemp("forms")
    async with WORLD.running(folder, allow_basic=True, cors_origins=["https://player.example"]) as proxy:
        secret = base64.b64encode(f"attacker:{proxy.secrets['attacker']}".encode()).decode()
        sent = {"authorization": f"Basic {secret}", "content-type": "text/plain"}

        async def form(path: str, page: dict[str, str]) -> int:
            said = json.dumps({"flow_id": (await proxy.flow(["a"]))["id"]}).encode()
            return (await proxy.call(None, "POST", path, content=said, headers={**sent, **page})).status_code

        for path in ("/flow-delete-requests", "/api/v1/flow-delete-requests"):
            assert [await form(path, page) for page in FOREIGN_PAGES] == [403] * len(FOREIGN_PAGES)
            assert [await form(path, page) for page in OWN_PAGES] == [201] * len(OWN_PAGES)
            by_token = {**FOREIGN_PAGES[0], "authorization": f"Bearer {await proxy.token('attacker')}"}
            assert await form(path, by_token) == 201
        answer = await proxy.call(None, "GET", "/flows", headers={**sent, **FOREIGN_PAGES[0]})
        assert answer.status_code == 200 and "access-control-allow-origin" not in answer.headers


# 17: hidden is absent


HIDDEN_READS = [
    "",
    "/tags",
    "/tags/x",
    "/label",
    "/description",
    "/segments",
    "/flow_collection",
    "/read_only",
    "/hls.m3u8",
    "/hls/x",
]


@pytest.mark.parametrize("suffix", HIDDEN_READS)
@pytest.mark.parametrize(
    "query",
    ["", "?limit=0", "?limit=x", "?timerange=nonsense", "?include_timerange=true", "?live=2&of=a&of=b"],
)
async def test_17_a_hidden_flow_is_as_absent_whatever_is_asked_of_it(
    proxy: Proxy, suffix: str, query: str
) -> None:
    hidden = await proxy.flow(["v"], label="label", tags={"x": "y"})
    await proxy.segment(hidden["id"])
    for method in ("GET", "HEAD", "PUT", "DELETE", "POST", "PATCH"):
        if suffix == "" and method == "PUT":
            continue
        answers = [
            await proxy.call(
                "attacker", method, f"/flows/{name}{suffix}{query}", "x" if method == "PUT" else None
            )
            for name in (hidden["id"], new_id())
        ]
        assert same(*answers), (method, [told(a) for a in answers])


@pytest.mark.parametrize(
    "content",
    [
        b"",
        b"{",
        b"[]",
        b"null",
        b"{}",
        b'"x"',
        b"[null]",
        b'{"a":1,"a":2}',
        b"NaN",
        b"[" * 1000,
        b"\xff",
        b'"\\ud800"',
    ],
)
async def test_17_bad_bodies_tell_nothing_of_hidden_things(proxy: Proxy, content: bytes) -> None:
    hidden, mine = await proxy.flow(["v"]), await proxy.flow(["a"])
    name = await proxy.segment(hidden["id"])
    absent = new_id()
    for method, path in (
        ("PUT", "/flows/{}/label"),
        ("PUT", "/flows/{}/tags/auth_classes"),
        ("PUT", "/flows/{}/flow_collection"),
        ("POST", "/flows/{}/segments"),
        ("POST", "/flows/{}/storage"),
    ):
        answers = [
            await proxy.call("attacker", method, path.format(i), content=content)
            for i in (hidden["id"], absent)
        ]
        assert same(*answers) and answers[0].status_code == 404, (path, answers[0].text)
        own = await proxy.call("attacker", method, path.format(mine["id"]), content=content)
        assert own.status_code in (201, 204, 400, 403), (path, own.status_code, own.text)
    answers = [
        await proxy.call("attacker", "POST", f"/objects/{i}/instances", content=content)
        for i in (name, absent)
    ]
    assert same(*answers) and answers[0].status_code == WORLD.status("POST_objects-instances", 404)


async def test_17_pages_are_full_or_the_last_and_count_what_they_hold(proxy: Proxy) -> None:
    source = new_id()
    mine = []
    for n in range(12):
        flow = await proxy.flow(["b"] if n % 3 else ["v"], source_id=source)
        mine += [flow["id"]] if n % 3 else []
    client = "owner"
    shown = await proxy.flow(["t"], source_id=source)
    for name in mine:
        await proxy.made("admin", "PUT", f"/flows/{name}/tags/auth_classes", ["b", "t"])
    mine.append(shown["id"])
    found: list[str] = []
    path = f"/flows?source_id={source}&limit=4"
    while path:
        answer = await proxy.made(client, "GET", path)
        page = [item["id"] for item in answer.json()]
        found += page
        assert answer.headers["x-paging-count"] == str(len(page))
        path = (
            answer.links["next"]["url"].removeprefix("http://tams.test") if "link" in answer.headers else ""
        )
        assert len(page) == 4 or not path
    assert found == WORLD.listed(mine)


async def test_17_a_page_key_is_good_for_its_own_listing_and_caller_only(proxy: Proxy) -> None:
    for _ in range(3):
        await proxy.flow(["a"])
    answer = await proxy.made("attacker", "GET", "/flows?limit=1")
    key = quote(answer.headers["x-paging-nextkey"])
    assert (await proxy.call("attacker", "GET", f"/flows?limit=1&page={key}")).status_code == 200
    refused = [
        await proxy.call("colleague", "GET", f"/flows?limit=1&page={key}"),
        await proxy.call("admin", "GET", f"/flows?limit=1&page={key}"),
        await proxy.call("attacker", "GET", f"/sources?limit=1&page={key}"),
        await proxy.call("attacker", "GET", f"/flows?limit=1&label=x&page={key}"),
        await proxy.call("attacker", "GET", f"/flows?limit=1&page={key[:-4]}AAAA"),
    ]
    assert {a.status_code for a in refused} == {400}


# 21: warm caches never cross answers


async def test_21_callers_that_alternate_get_their_own_answers(proxy: Proxy) -> None:
    flows = {"attacker": await proxy.flow(["a"]), "victim": await proxy.flow(["v"])}
    for _ in range(20):
        for who in flows:
            for owner, flow in flows.items():
                answer = await proxy.call(who, "GET", f"/flows/{flow['id']}")
                assert answer.status_code == (200 if who == owner else 404)
                assert (await proxy.call("admin", "GET", f"/flows/{flow['id']}")).status_code == 200
                assert (await proxy.call(None, "GET", f"/flows/{flow['id']}")).status_code == 401
