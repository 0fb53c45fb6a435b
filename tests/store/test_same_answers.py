"""What the store answers, an administrator gets through the proxy, to the byte but for what README lists."""

from __future__ import annotations

import json
import re
from collections.abc import AsyncIterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any
from urllib.parse import quote

import httpx
import pytest

from store.app import StoreApp
from store.routes.table import ROUTES
from tests.store.harness import ARCHIVE, VIDEO, Tams, multi, new_id, seconds, video
from tests.store.proxied import Admission, running_behind_proxy

Step = tuple[str, str, Any]
CHANGES = re.compile(
    rb'"(time|created|updated|metadata_updated|segments_updated|expiry|metadata_version)":"[^"]*"'
    rb'|"(created_by|updated_by)":"[^"]*"|\?[^"]*?signature=[^"]*|/media/[^"]*'
)
"""What differs between two writes of the same: when, by whom, and where the bytes came to lie."""


@dataclass
class Ways:
    """One store, asked directly and through the proxy."""

    direct: httpx.AsyncClient
    proxied: httpx.AsyncClient
    tams: Tams
    made: list[str] = field(default_factory=list)


@pytest.fixture
async def ways(admission: Admission, tmp_path: Path) -> AsyncIterator[Ways]:
    with pytest.MonkeyPatch.context() as patch:
        async with running_behind_proxy(tmp_path, admission, patch, delete_inline=5) as tams:
            app = StoreApp(tams.running, tams.settings.max_body_bytes)
            async with httpx.AsyncClient(transport=httpx.ASGITransport(app=app), base_url=URL) as direct:
                yield Ways(direct, tams.client, tams)


URL = "http://tams.test"


def told(answer: httpx.Response) -> tuple[int, list[tuple[str, str]], bytes]:
    """All of an answer but what names this very request or its caller: its id, the time of an error, and page
    tokens, which are opaque and good for one caller alone."""
    token = answer.headers.get("x-paging-nextkey", "-")
    headers = sorted(
        (name, value.replace(token, "<page>"))
        for name, value in answer.headers.multi_items()
        if name != "x-request-id"
    )
    body = answer.content
    if answer.status_code >= 400:
        body = re.sub(rb'"time":"[^"]*"', b"", body)
    return answer.status_code, headers, body


def script(ids: list[str]) -> list[Step]:
    """Writes of every kind, good ones and bad, on resources that have these ids."""
    one, source, other, parent, item, profile, init, free, doomed = ids
    flow, path = video(one, source, tags={"t": ["a"], "auth_classes": ["k"]}, label="l"), f"/flows/{one}"
    segment = {"object_id": item, "timerange": seconds(0, 1), "init_object_id": init}
    technical = {"format": "urn:x-nmos:format:video", "codec": "video/h264", "essence_parameters": VIDEO}
    many = [{"object_id": item, "timerange": f"[{n}:0_{n}:1)", "ts_offset": f"{n}:0"} for n in range(10, 19)]
    return [
        ("PUT", path, flow),
        ("PUT", path, {**flow, "description": "d"}),
        ("PUT", path, {**flow, "id": other}),
        ("PUT", path, b"{"),
        ("PUT", path, {**flow, "frame_rate": 1, "essence_parameters": {}}),
        ("PUT", f"/flows/{other}", video(other, source)),
        ("PUT", f"/flows/{parent}", multi(parent, free, flow_collection=[{"id": one}])),
        ("PUT", f"/flows/{doomed}", video(doomed, source)),
        ("PUT", f"{path}/tags/x%2Fy", ["b", "c"]),
        ("PUT", f"{path}/label", "new"),
        ("PUT", f"{path}/max_bit_rate", 6000),
        ("PUT", f"{path}/max_bit_rate", "6000"),
        ("DELETE", f"{path}/avg_bit_rate", None),
        ("PUT", f"/sources/{source}/description", "of a source"),
        ("PUT", f"/sources/{free}/tags/auth_classes", ["k", "l"]),
        ("PUT", f"/flows/{parent}/flow_collection", [{"id": one, "role": "v"}, {"id": other}]),
        ("PUT", f"/flows/{one}/flow_collection", [{"id": parent}]),
        ("POST", f"{path}/storage", {"object_ids": [item, init]}),
        ("POST", f"{path}/storage", {"object_ids": [item]}),
        ("POST", f"{path}/storage", {"limit": 1, "object_ids": [free]}),
        ("POST", f"{path}/segments", segment),
        ("POST", f"{path}/segments", segment),
        ("POST", f"{path}/segments", [segment, {**segment, "timerange": seconds(1, 2)}]),
        ("POST", f"/flows/{other}/segments", many[:3]),
        ("POST", f"/flows/{doomed}/segments", many),
        ("POST", f"/objects/{item}/instances", {"storage_id": ARCHIVE}),
        ("POST", f"/objects/{item}/instances", {"storage_id": ARCHIVE}),
        ("POST", f"/objects/{item}/instances", {"url": "https://a.invalid/x", "label": "far"}),
        ("DELETE", f"/objects/{item}/instances?label=none", None),
        ("POST", f"/service/profiles/{profile}", {"id": profile, "flow_metadata": technical}),
        ("POST", f"/service/profiles/{profile}", {"id": profile, "flow_metadata": technical}),
        ("POST", "/service", {"name": "n", "description": "d"}),
        ("PUT", f"{path}/read_only", True),
        ("PUT", f"{path}/label", "no"),
        ("DELETE", path, None),
        ("PUT", f"{path}/read_only", False),
        ("DELETE", f"/flows/{other}/segments?timerange={seconds(10, 12)}", None),
        ("DELETE", f"/flows/{parent}", None),
        ("DELETE", f"/flows/{free}", None),
        ("PATCH", path, {}),
        ("GET", "/nothing", None),
    ]


async def said(client: httpx.AsyncClient, step: Step) -> httpx.Response:
    """The answer to a step."""
    method, path, body = step
    content = body if body is None or isinstance(body, bytes) else json.dumps(body).encode()
    return await client.request(method, path, content=content)


def alike(answer: httpx.Response, ids: list[str]) -> tuple[int, list[tuple[str, str]], bytes]:
    """What an answer to a write says, the ids of one way written as those of the other."""
    status, headers, body = told(answer)
    for number, name in enumerate(ids):
        body = body.replace(name.encode(), b"<id %d>" % number)
        headers = [(key, value.replace(name, f"<id {number}>")) for key, value in headers]
    body = CHANGES.sub(lambda found: b"<%b>" % (found[1] or found[2] or b"place"), body)
    # The actor's name is part of the length.
    return status, [item for item in headers if item[0] != "content-length"], body


async def test_writes_are_answered_alike(ways: Ways) -> None:
    ours, theirs = [[new_id() for _ in range(9)] for _ in "12"]
    statuses = set()
    for one, other in zip(script(ours), script(theirs), strict=True):
        direct, proxied = await said(ways.direct, one), await said(ways.proxied, other)
        assert alike(proxied, theirs) == alike(direct, ours), (one, direct.text, proxied.text)
        statuses.add(direct.status_code)
    assert statuses >= {200, 201, 204, 400, 403, 404, 405}
    for ids, client in ((ours, ways.direct), (theirs, ways.proxied)):
        answer = await client.delete(f"/flows/{ids[-1]}")
        assert answer.status_code == 202
        assert answer.headers["location"].endswith(answer.json()["id"])
        assert set(answer.json()) == set((await ways.direct.get(answer.headers["location"])).json())


QUERIES = (
    "?limit=1",
    "?reverse_order=true",
    "?tag.t=a",
    "?timerange=()",
    "?limit=x",
    "?unknown=1",
    "?format=urn:x-nmos:format:video&include_timerange=true&timerange=[0:0_1:0)",
    "?verbose_storage=true&accept_get_urls=local,far",
    "?storage_backend_tag.site=london",
    "?presigned=false",
    "?flow_tag.t=a",
    "?page=nonsense",
)


async def test_reads_are_answered_to_the_byte(ways: Ways) -> None:
    ids = [new_id() for _ in range(9)]
    for step in script(ids):
        await said(ways.direct, step)
    hook = {"url": "https://a.invalid/", "events": ["flows/created"]}
    webhook = (await ways.proxied.post("/service/webhooks", json=hook)).json()["id"]
    deletion = (await ways.direct.delete(f"/flows/{ids[8]}")).json()["id"]
    values = {
        "flowId": (ids[0], ids[2], new_id(), "x"),
        "sourceId": (ids[1], new_id()),
        "objectId": (ids[4], ids[6], new_id()),
        "profileId": (ids[5], new_id()),
        "webhookId": (webhook, new_id()),
        "request-id": (deletion, new_id()),
        "name": ("t", "x/y", "absent"),
    }
    asked = 0
    for template, methods in ROUTES.items():
        if "GET" not in methods:
            continue
        for path in filled(template, values):
            for query in ("", *QUERIES):
                for method in ("GET", "HEAD"):
                    direct = await ways.direct.request(method, path + query)
                    proxied = await ways.proxied.request(method, path + query)
                    assert told(proxied) == told(direct), (method, path + query)
                    asked += 1
    assert asked > 1000


def filled(template: str, values: dict[str, tuple[str, ...]]) -> list[str]:
    """The template with every value of each of its parameters."""
    found = [template]
    for name, known in values.items():
        place = f"{{{name}}}"
        found = [
            path.replace(place, quote(value, safe="")) if place in path else path
            for path in found
            for value in (known if place in path else known[:1])
        ]
    return found


async def test_a_flow_keeps_its_classes_where_it_would_lose_them(ways: Ways) -> None:
    """The one deviation that an administrator meets."""
    kept = {}
    for name, client in (("direct", ways.direct), ("proxied", ways.proxied)):
        flow = video(tags={"auth_classes": ["k"], "t": "v"})
        path = f"/flows/{flow['id']}"
        await client.put(path, json=flow)
        await client.put(path, json={**flow, "tags": {}})
        kept[name] = (await client.get(f"{path}/tags")).json()
    assert kept == {"direct": {}, "proxied": {"auth_classes": ["k"]}}


async def test_segments_of_an_unknown_flow_are_none_for_an_administrator(ways: Ways) -> None:
    for client in (ways.direct, ways.proxied):
        answer = await client.get(f"/flows/{new_id()}/segments")
        assert (answer.status_code, answer.json()) == (200, [])
