"""Who gets which answer from which operation: every cell is tried on the running proxy, HEAD with GET.

An answer of 404 must be, byte for byte, the answer about something that does not exist.
"""

from __future__ import annotations

from collections.abc import AsyncIterator, Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import httpx
import pytest
import pytest_asyncio

from tests.authorization.world import INSIDE, LACKING
from tests.proxy.support import (
    OPEN,
    OWN,
    Proxy,
    flow_document,
    new_id,
    told,
)

pytestmark = pytest.mark.asyncio(loop_scope="module")

WORLD = INSIDE
ACTORS = ("nobody", "reader", "writer", "deleter", "admin")
Params = dict[str, str]
TYPE = {"content-type": "video/mp2t"}


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def proxy(tmp_path_factory: pytest.TempPathFactory) -> AsyncIterator[Proxy]:
    folder: Path = tmp_path_factory.mktemp("table")
    # Of two segments, one is left for the background: so a DELETE may become a deletion request.
    async with WORLD.running(folder, delete_inline=1) as found:
        yield found


async def _flow(proxy: Proxy) -> Params:
    flow = await proxy.flow(
        ["t"],
        label="label",
        description="text",
        max_bit_rate=9,
        avg_bit_rate=8,
        read_only=False,
        tags={"colour": "red"},
    )
    # A source inherits what it may have of its flow.
    return {"flowId": flow["id"], "sourceId": flow["source_id"]}


async def _object(proxy: Proxy) -> Params:
    params = await _flow(proxy)
    return {**params, "objectId": await proxy.segment(params["flowId"])}


async def _copied(proxy: Proxy) -> Params:
    params = await _object(proxy)
    url = {"url": "https://example.org/copy", "label": "copy"}
    made = await proxy.call("admin", "POST", f"/objects/{params['objectId']}/instances", url)
    WORLD.done("POST_objects-instances", made)
    return params


async def _deletion(proxy: Proxy) -> Params:
    """A request that outlives its flow."""
    params = await _flow(proxy)
    for start_s in range(2):
        await proxy.segment(params["flowId"], start_s)
    answer = await proxy.made("admin", "DELETE", f"/flows/{params['flowId']}")
    assert answer.status_code == 202
    return {"request-id": answer.json()["id"]}


async def _nothing(proxy: Proxy) -> Params:
    return {}


async def _allocated(proxy: Proxy) -> Params:
    params = await _flow(proxy)
    (entry,) = await proxy.allocated("admin", params["flowId"])
    return {**params, "allocated": entry["object_id"]}


async def _place(proxy: Proxy) -> Params:
    """Where the bytes of an object are to be uploaded, by an unsigned URL."""
    params = await _flow(proxy)
    if not WORLD.unsigned_media:
        return {"token": new_id()}
    (entry,) = await proxy.allocated("admin", params["flowId"], storage_id=OWN, presigned=False)
    return {**params, "objectId": entry["object_id"], "token": entry["put_url"]["url"].rsplit("/", 1)[1]}


async def _uploaded(proxy: Proxy) -> Params:
    params = await _place(proxy)
    if not WORLD.unsigned_media:
        return params
    put = await proxy.call("admin", "PUT", f"/media/{OWN}/{params['token']}", content=b"media", headers=TYPE)
    assert put.status_code == 200, put.text
    segment = {"object_id": params["objectId"], "timerange": "[0:0_1:0)"}
    await proxy.made("admin", "POST", f"/flows/{params['flowId']}/segments", segment)
    return params


def _profile_document(params: Params) -> object:
    metadata = {
        "format": "urn:x-nmos:format:data",
        "codec": "application/json",
        "essence_parameters": {"data_type": "urn:x-tam:data:test"},
    }
    tags = {"auth_classes": ["t"]}
    return {"id": params["profileId"], "label": "profile", "tags": tags, "flow_metadata": metadata}


async def _new_profile(proxy: Proxy) -> Params:
    return {"profileId": new_id()}


async def _profile(proxy: Proxy) -> Params:
    params = await _new_profile(proxy)
    path = f"/service/profiles/{params['profileId']}"
    made = await proxy.call("admin", "POST", path, _profile_document(params))
    WORLD.done("POST_profiles-profileId", made)
    return params


def _webhook_document(params: Params) -> object:
    return {
        "id": params.get("webhookId", ""),
        "status": "created",
        "url": "https://receiver.example/",
        "events": ["flows/created"],
        "tags": {"auth_classes": ["t"]},
    }


async def _webhook(proxy: Proxy) -> Params:
    answer = await proxy.made("admin", "POST", "/service/webhooks", _webhook_document({}))
    return {"webhookId": answer.json()["id"]}


async def _joined(proxy: Proxy) -> Params:
    """An id for a new flow on a source that exists."""
    return {"flowId": new_id(), "sourceId": (await _flow(proxy))["sourceId"]}


async def _source(proxy: Proxy) -> Params:
    """A source without flows."""
    params = {"sourceId": new_id()}
    made = await proxy.call("admin", "POST", "/sources", _source_document(params))
    return params if WORLD.done("POST_sources", made) else await _flow(proxy)


def _source_document(params: Params) -> object:
    return {
        "id": params.get("sourceId", new_id()),
        "format": "urn:x-nmos:format:data",
        "tags": {"auth_classes": ["t"]},
    }


Setup = Callable[[Proxy], Any]
Body = Callable[[Params], object]


@dataclass(frozen=True)
class Row:
    """One operation: what nobody, a reader, a writer, a deleter and an administrator get."""

    operation: str
    method: str
    path: str
    statuses: tuple[int, int, int, int, int]
    setup: Setup = _flow
    body: Body | None = None
    name: str = ""
    # What the answer about something absent is compared with; a new flow has nothing to be compared with.
    absent: bool = True
    content: bytes | None = None

    @property
    def label(self) -> str:
        return self.name or self.operation


ALL = (200, 200, 200, 200, 200)
READS = (404, 200, 403, 403, 200)
WRITES = (404, 403, 204, 403, 204)
MAKES = (404, 403, 201, 403, 201)
DELETES = (404, 403, 403, 204, 204)

PROPERTIES: dict[str, object] = {
    "description": "other",
    "label": "other",
    "max_bit_rate": 5,
    "avg_bit_rate": 5,
    "flow_collection": [],
    "read_only": True,
}


def _constant(value: object) -> Body:
    return lambda params: value


def _properties(kind: str, names: tuple[str, ...]) -> list[Row]:
    rows = []
    for name in names:
        path, stem = f"/{kind}s/{{{kind}Id}}/{name}", f"{kind}s-{kind}Id-{name.replace('_', '-')}"
        rows.append(Row(f"GET_{stem}", "GET", path, READS))
        rows.append(Row(f"PUT_{stem}", "PUT", path, WRITES, body=_constant(PROPERTIES[name])))
        if name != "read_only":
            rows.append(Row(f"DELETE_{stem}", "DELETE", path, WRITES))
    tags = f"/{kind}s/{{{kind}Id}}/tags"
    stem = f"{kind}s-{kind}Id-tags"
    rows += [
        Row(f"GET_{stem}", "GET", tags, READS),
        Row(f"GET_{stem}-name", "GET", f"{tags}/colour", READS),
        Row(f"PUT_{stem}-name", "PUT", f"{tags}/colour", WRITES, body=_constant(["blue"])),
        Row(f"DELETE_{stem}-name", "DELETE", f"{tags}/colour", WRITES),
    ]
    return rows


def _put(params: Params) -> object:
    return flow_document(["t"], id=params["flowId"], source_id=params["sourceId"])


def _new_segment(params: Params) -> object:
    return {"object_id": params.get("allocated", "gone"), "timerange": "[0:0_1:0)"}


TABLE = [
    Row("GET_root", "GET", "/", ALL, _nothing),
    Row("GET_service", "GET", "/service", ALL, _nothing),
    Row("GET_storage-backends", "GET", "/service/storage-backends", ALL, _nothing),
    Row(
        "POST_service",
        "POST",
        "/service",
        (403, 403, 403, 403, 200),
        _nothing,
        lambda params: {"name": "Other"},
    ),
    Row("GET_profiles", "GET", "/service/profiles", ALL, _nothing),
    Row("GET_profiles-profileId", "GET", "/service/profiles/{profileId}", READS, _profile),
    Row(
        "POST_profiles-profileId",
        "POST",
        "/service/profiles/{profileId}",
        (403, 403, 403, 403, 400),
        _profile,
        _profile_document,
    ),
    Row(
        "POST_profiles-profileId",
        "POST",
        "/service/profiles/{profileId}",
        (403, 403, 403, 403, 201),
        _new_profile,
        _profile_document,
        name="POST new profile",
    ),
    Row("GET_webhooks", "GET", "/service/webhooks", ALL, _nothing),
    Row("POST_webhooks", "POST", "/service/webhooks", (403, 403, 201, 403, 201), _nothing, _webhook_document),
    Row("GET_webhooks-webhookId", "GET", "/service/webhooks/{webhookId}", READS, _webhook),
    Row("PUT_webhooks", "PUT", "/service/webhooks/{webhookId}", MAKES, _webhook, _webhook_document),
    Row("DELETE_webhooks-webhookId", "DELETE", "/service/webhooks/{webhookId}", DELETES, _webhook),
    Row("GET_sources", "GET", "/sources", ALL, _nothing),
    Row("GET_sources-sourceId", "GET", "/sources/{sourceId}", READS),
    Row("POST_sources", "POST", "/sources", (403, 403, 403, 403, 201), _nothing, _source_document),
    Row("PUT_sources-sourceId", "PUT", "/sources/{sourceId}", WRITES, _source, _source_document),
    Row("DELETE_sources-sourceId", "DELETE", "/sources/{sourceId}", DELETES, _source),
    *_properties("source", ("description", "label")),
    Row("GET_flows", "GET", "/flows", ALL, _nothing),
    Row("GET_flows-flowId", "GET", "/flows/{flowId}", READS),
    Row("PUT_flows-flowId", "PUT", "/flows/{flowId}", WRITES, body=_put, absent=False),
    Row(
        "PUT_flows-flowId",
        "PUT",
        "/flows/{flowId}",
        MAKES,
        _joined,
        _put,
        name="PUT new flow, source exists",
        absent=False,
    ),
    Row("DELETE_flows-flowId", "DELETE", "/flows/{flowId}", DELETES),
    *_properties("flow", tuple(PROPERTIES)),
    Row("GET_flows-flowId-segments", "GET", "/flows/{flowId}/segments", READS, _object),
    Row("POST_flows-flowId-segments", "POST", "/flows/{flowId}/segments", MAKES, _allocated, _new_segment),
    Row("DELETE_flows-flowId-segments", "DELETE", "/flows/{flowId}/segments", DELETES, _object),
    Row("GET_flow-hls", "GET", "/flows/{flowId}/hls.m3u8", READS, _object),
    Row("GET_flow-hls-media", "GET", "/flows/{flowId}/hls/{objectId}", (404, 307, 403, 403, 307), _object),
    Row("GET_source-hls", "GET", "/sources/{sourceId}/hls.m3u8", READS, _object),
    Row("POST_flows-flowId-storage", "POST", "/flows/{flowId}/storage", MAKES, body=_constant({"limit": 1})),
    Row("GET_objects", "GET", "/objects/{objectId}", (404, 200, 404, 404, 200), _object),
    Row(
        "POST_objects-instances",
        "POST",
        "/objects/{objectId}/instances",
        MAKES,
        _object,
        _constant({"url": "https://example.org/other", "label": "other"}),
    ),
    Row("DELETE_objects-instances", "DELETE", "/objects/{objectId}/instances?label=copy", WRITES, _copied),
    # These clients' tokens lack the scope of administrators; with it the answer is 404 (test_gate.py).
    Row("GET_flow-delete-requests", "GET", "/flow-delete-requests", (403, 403, 403, 403, 200), _nothing),
    Row("GET_analytics-flow-usage", "GET", "/analytics/flow-usage", (403, 403, 403, 403, 200), _nothing),
    Row(
        "GET_analytics-storage-usage", "GET", "/analytics/storage-usage", (403, 403, 403, 403, 200), _nothing
    ),
    Row(
        "GET_analytics-time-range-analysis",
        "GET",
        "/analytics/time-range-analysis",
        (403, 403, 403, 403, 200),
        _nothing,
    ),
    Row(
        "GET_analytics-catalogue-summary",
        "GET",
        "/analytics/catalogue-summary",
        (403, 403, 403, 403, 200),
        _nothing,
    ),
    Row("GET_vast-status", "GET", "/vast/status", (403, 403, 403, 403, 200), _nothing),
    Row("GET_vast-buckets", "GET", "/vast/buckets", (403, 403, 403, 403, 200), _nothing),
    Row("GET_api-v1-vast-buckets", "GET", "/api/v1/vast/buckets", (403, 403, 403, 403, 200), _nothing),
    Row(
        "GET_flow-delete-requests-request-id",
        "GET",
        "/flow-delete-requests/{request-id}",
        (404, 403, 403, 200, 200),
        _deletion,
    ),
    Row("GET_media", "GET", f"/media/{OWN}/{{token}}", (404, 200, 404, 404, 200), _uploaded),
    Row("PUT_media", "PUT", f"/media/{OWN}/{{token}}", (404, 403, 200, 403, 200), _place, content=b"media"),
]

CELLS = [
    pytest.param(row, actor, status, id=f"{row.label}-{actor}-{status}")
    for row in TABLE
    for actor, status in zip(ACTORS, row.statuses, strict=True)
]


@pytest.mark.parametrize(("row", "actor", "status"), CELLS)
async def test_every_actor_gets_the_answer_of_the_table(
    proxy: Proxy, row: Row, actor: str, status: int
) -> None:
    status = WORLD.status(row.operation, status)
    params = await row.setup(proxy)
    answer = await _tried(proxy, actor, row, params)
    assert answer.status_code == status, answer.text
    if status == LACKING:
        WORLD.told(row.operation, answer)
    if row.method == "GET":
        head = await proxy.call(actor, "HEAD", _spelt(row.path, params))
        assert head.content == b""
        assert told(head)[:2] == told(answer)[:2]
    if status == 404 and row.absent:
        absent = await _tried(proxy, actor, row, {name: new_id() for name in params})
        assert told(answer) == told(absent)


async def _tried(proxy: Proxy, actor: str | None, row: Row, params: Params) -> httpx.Response:
    body = row.body(params) if row.body else None
    headers = TYPE if row.content else {}
    return await proxy.call(
        actor, row.method, _spelt(row.path, params), body, content=row.content, headers=headers
    )


def _spelt(path: str, params: Params) -> str:
    for name, value in params.items():
        path = path.replace(f"{{{name}}}", value)
    return path


@pytest.mark.parametrize("row", TABLE, ids=[row.label for row in TABLE])
async def test_nobody_gets_anything_without_a_token(proxy: Proxy, row: Row) -> None:
    params = await row.setup(proxy)
    answer = await _tried(proxy, None, row, params)
    assert answer.status_code == 401
    assert answer.headers["www-authenticate"].startswith("Bearer realm=")
    assert told(answer) == told(await _tried(proxy, None, row, {name: new_id() for name in params}))


async def test_admin_sees_no_segments_of_an_unknown_flow_and_others_are_told_that_there_is_none(
    proxy: Proxy,
) -> None:
    path = f"/flows/{new_id()}/segments"
    assert (await proxy.call("admin", "GET", path)).json() == []
    hidden = (await _object(proxy))["flowId"]
    answers = [await proxy.call("nobody", "GET", p) for p in (path, f"/flows/{hidden}/segments")]
    assert [a.status_code for a in answers] == [404, 404]
    assert told(answers[0]) == told(answers[1])


async def test_a_new_source_needs_the_permission_to_create(proxy: Proxy) -> None:
    for actor, status in (("owner", 201), ("editor", 403), ("nobody", 403), ("admin", 201)):
        document = flow_document(["t"])
        answer = await proxy.call(actor, "PUT", f"/flows/{document['id']}", document)
        assert answer.status_code == status, (actor, answer.text)


@pytest.mark.parametrize("actor", ["nobody", "reader", "writer", "deleter"])
async def test_listings_name_what_may_be_read(proxy: Proxy, actor: str) -> None:
    params = await _flow(proxy)
    listed = {"nobody": False, "reader": True, "writer": False, "deleter": False}[actor]
    for path, name in (("/flows", "flowId"), ("/sources", "sourceId")):
        page = (await proxy.made(actor, "GET", f"{path}?limit=1000")).json()
        assert (params[name] in [item["id"] for item in page]) is listed


@pytest.mark.parametrize(
    ("actor", "labels"),
    [
        ("nobody", ["open"]),
        ("reader", ["open", "own"]),
        ("writer", ["open", "own"]),
        ("deleter", ["open", "own"]),
        ("attacker", ["open", "shared"]),
        ("admin", ["open", "own", "shared", "victims"]),
    ],
)
async def test_any_permission_lists_a_storage_backend(proxy: Proxy, actor: str, labels: list[str]) -> None:
    answer = await proxy.call(actor, "GET", "/service/storage-backends")
    if not WORLD.done("GET_storage-backends", answer):
        return
    assert [backend["label"] for backend in answer.json()] == labels
    assert answer.headers["x-paging-count"] == str(len(labels))


async def test_the_scope_of_a_token_bounds_what_its_bearer_may_do(proxy: Proxy) -> None:
    allowed = {
        "reading": {"GET_flows-flowId", "GET_sources-sourceId", "GET_flows-flowId-segments"},
        "writing": {"PUT_flows-flowId-label", "DELETE_flows-flowId-label", "POST_flows-flowId-storage"},
        "deleting": {"DELETE_flows-flowId", "DELETE_flows-flowId-segments"},
    }
    tried = set().union(*allowed.values())
    for row in (row for row in TABLE if row.operation in tried):
        for actor, operations in allowed.items():
            params = await row.setup(proxy)
            answer = await _tried(proxy, actor, row, params)
            assert answer.is_success is (row.operation in operations), (actor, row, answer.text)
            if not answer.is_success:
                assert answer.status_code == 403
                assert 'error="insufficient_scope"' in answer.headers["www-authenticate"]


async def test_backend_of_the_table_is_the_default(proxy: Proxy) -> None:
    params = await _flow(proxy)
    body = {"limit": 1, "storage_id": OPEN}
    answer = await proxy.call("writer", "POST", f"/flows/{params['flowId']}/storage", body)
    assert answer.status_code == (201 if WORLD.has("GET_storage-backends") else 400)
