"""Whatever a client sends, the answer is 4xx in the schema of errors, and nothing has changed (attack 15)."""

from __future__ import annotations

import json
from typing import Any
from urllib.parse import quote

import pytest

from store.app import StoreApp
from store.models.error import Error
from store.routes.table import ROUTES
from tests.store.harness import ARCHIVE, VIDEO, Tams, new_id, object_path, seconds, video

ABSENT = "99999999-9999-4999-8999-999999999999"
DEEP = b"[" * 200_000
NESTED = b'{"a":' * 100 + b"1" + b"}" * 100

# Bodies that no operation takes.
BODIES: dict[str, bytes] = {
    "nothing": b"",
    "white space": b" \n\t",
    "cut off": b'{"id": "',
    "not JSON": b"hello",
    "two documents": b"{} {}",
    "single quotes": b"{'a': 1}",
    "trailing comma": b'{"a": 1,}',
    "NaN": b'{"a": NaN}',
    "infinity": b"Infinity",
    "minus infinity": b"[-Infinity]",
    "too large a number": b"1e400",
    "too large an integer": b"18446744073709551616",
    "an endless integer": b"9" * 5000,
    "duplicate keys": b'{"label": "a", "label": "b"}',
    "nested duplicate keys": b'[{"a": {"b": 1, "b": 1}}]',
    "NUL in a text": b'"a\\u0000b"',
    "NUL in a key": b'{"a\\u0000": 1}',
    "raw NUL": b'"a\0b"',
    "lone high surrogate": b'"\\ud800"',
    "lone low surrogate": b'{"label": "\\udc00"}',
    "surrogate in a key": b'{"\\ud800": 1}',
    "not UTF-8": b'"\xff\xfe"',
    "UTF-16": '{"a": 1}'.encode("utf-16"),
    "surrogate in UTF-8": b'"\xed\xa0\x80"',
    "deep": DEEP,
    "nested": NESTED,
    "null": b"null",
    "a list of null": b"[null]",
    "a list of lists": b"[[]]",
    "BOM": b"\xef\xbb\xbf{}",
    "many keys": json.dumps({str(n): n for n in range(5000)}).encode(),
}

# Values of types that no property of these names has.
WRONG: tuple[Any, ...] = (None, 1.5, {"a": {"b": []}}, [None], [[1]], "\u0001" * 40_000, -1, True)


# Objects that may have any properties.
OPEN = ("container_mapping",)


async def furnished(tams: Tams) -> dict[str, str]:
    """A value for every path parameter, each of something that exists."""
    flow = await tams.flow(tags={"name": "value"})
    object_id = await tams.segment(flow["id"], seconds(0, 1))
    profile = {
        "id": new_id(),
        "flow_metadata": {
            "format": "urn:x-nmos:format:video",
            "codec": "video/h264",
            "essence_parameters": VIDEO,
        },
    }
    await tams.post(f"/service/profiles/{profile['id']}", profile)
    webhook = (await tams.post("/service/webhooks", {"url": "https://a.test/", "events": []})).json()
    return {
        "sourceId": flow["source_id"],
        "flowId": flow["id"],
        "name": "name",
        "objectId": object_id,
        "profileId": profile["id"],
        "webhookId": webhook["id"],
        "request-id": ABSENT,
    }


def filled(template: str, values: dict[str, str]) -> str:
    """A path template with its parameters filled in."""
    for name, value in values.items():
        template = template.replace(f"{{{name}}}", quote(value, safe=""))
    return template


async def state(tams: Tams) -> tuple[Any, ...]:
    """All that a client can see."""
    return (
        *(await tams.contents()),
        await tams.get("/service/profiles"),
        await tams.get("/service/webhooks"),
    )


async def refused(tams: Tams, method: str, path: str, body: bytes | None, told: object) -> None:
    """The call is answered by an error of the caller's."""
    answer = await tams.request(method, path, content=body)
    assert 400 <= answer.status_code < 500, (method, path, told, answer.status_code, answer.text)
    assert answer.headers["content-type"] == "application/json"
    Error.model_validate(answer.json())
    assert len(answer.content) < 10_000


WRITES = [(template, method) for template, ms in ROUTES.items() for method in ms if method in ("PUT", "POST")]
READS = [
    (template, method) for template, ms in ROUTES.items() for method in ms if method in ("GET", "DELETE")
]


@pytest.mark.parametrize(("template", "method"), WRITES, ids=lambda value: str(value))
async def test_bodies_that_are_no_decent_json_change_nothing(tams: Tams, template: str, method: str) -> None:
    path = filled(template, await furnished(tams))
    before = await state(tams)
    for told, body in BODIES.items():
        if template.endswith("/storage") and told == "nothing":
            continue
        await refused(tams, method, path, body, told)
    assert await state(tams) == before


def spoilt(document: dict[str, Any]) -> list[dict[str, Any]]:
    """A document with, one at a time, a property of a wrong type, a nested one too."""
    found = []
    for name, value in document.items():
        for wrong in WRONG:
            if not (isinstance(wrong, bool) and isinstance(value, bool)) and not (
                isinstance(wrong, dict) and name in OPEN
            ):
                found.append({**document, name: wrong})
        if isinstance(value, dict):
            found += [{**document, name: inner} for inner in spoilt(value)]
        if isinstance(value, list) and value and isinstance(value[0], dict):
            found += [{**document, name: [inner]} for inner in spoilt(value[0])]
    return found


async def test_flows_with_properties_of_wrong_types_change_nothing(tams: Tams) -> None:
    values = await furnished(tams)
    member = values["flowId"]
    flow = video(
        label="l",
        description="d",
        tags={"t": ["v"]},
        generation=1,
        status="ingesting",
        max_bit_rate=1,
        avg_bit_rate=1,
        metadata_version="v",
        read_only=False,
        flow_collection=[{"id": member, "role": "r"}],
        segment_duration={"numerator": 1, "denominator": 2},
        container_mapping={"track_index": 1},
    )
    before = await state(tams)
    for body in spoilt(flow):
        encoded = json.dumps(body).encode()
        await refused(tams, "PUT", f"/flows/{flow['id']}", encoded, encoded[:200])
    assert await state(tams) == before


@pytest.mark.parametrize("many", [False, True])
async def test_segments_with_properties_of_wrong_types_change_nothing(tams: Tams, many: bool) -> None:
    values = await furnished(tams)
    object_id = await tams.upload(values["flowId"])
    segment = {
        "object_id": object_id,
        "timerange": seconds(5, 6),
        "ts_offset": "0:1",
        "object_timerange": seconds(5, 6),
        "last_duration": "0:1",
        "sample_offset": 0,
        "sample_count": 1,
        "key_frame_count": 1,
        "init_object_id": object_id,
        "get_urls": [{"url": "https://a.test/x", "label": "l"}],
    }
    before = await state(tams)
    path = f"/flows/{values['flowId']}/segments"
    for body in spoilt(segment):
        encoded = json.dumps([body] if many else body).encode()
        await refused(tams, "POST", path, encoded, encoded[:200])
    assert await state(tams) == before


async def test_other_bodies_with_properties_of_wrong_types_change_nothing(tams: Tams) -> None:
    values = await furnished(tams)
    bodies: list[tuple[str, str, dict[str, Any]]] = [
        ("POST", "/service", {"name": "n", "description": "d"}),
        (
            "POST",
            f"/flows/{values['flowId']}/storage",
            {"object_ids": ["x"], "storage_id": ARCHIVE, "content_type": "video/mp4", "presigned": True},
        ),
        ("POST", f"{object_path(values['objectId'])}/instances", {"url": "https://a.test/", "label": "l"}),
        ("POST", f"{object_path(values['objectId'])}/instances", {"storage_id": ARCHIVE}),
        ("POST", "/service/webhooks", {"url": "https://a.test/", "events": [], "tags": {}, "flow_ids": []}),
    ]
    before = await state(tams)
    for method, path, document in bodies:
        for body in spoilt(document):
            encoded = json.dumps(body).encode()
            await refused(tams, method, path, encoded, (path, encoded[:200]))
    assert await state(tams) == before


BAD_QUERIES = (
    "limit=0",
    "limit=x",
    "page=x",
    "page=%00",
    "timerange=[",
    "timerange=(5:0)",
    "timerange=[99999999999999999999:0_",
    "reverse_order=2",
    "sort_by=colour",
    "tag.=x",
    "tag_exists.x=2",
    "flow_tag_exists.x=2",
    "storage_backend_tag_exists.x=2",
    "accept_get_urls=,",
    "accept_storage_ids=x",
    "presigned=2",
    "include_timerange=2",
    "collected_by_ids=x",
    "label=%ff",
    "x=%ED%A0%80",
    "%00=x",
    "x=%",
    "limit=1&limit=1",
)


@pytest.mark.parametrize(("template", "method"), READS, ids=lambda value: str(value))
async def test_bad_queries_never_fail_and_change_nothing(tams: Tams, template: str, method: str) -> None:
    path = filled(template, await furnished(tams))
    before = await state(tams)
    listing = template in ("/flows", "/sources", "/service/webhooks") or template.endswith("/segments")
    for query in BAD_QUERIES:
        if method == "DELETE" and not query.startswith(("timerange", "label=%", "x=", "%00")):
            continue
        answer = await tams.request(method, f"{path}?{query}")
        assert answer.status_code < 500, query
        if query in ("label=%ff", "x=%ED%A0%80", "%00=x", "x=%"):
            assert answer.status_code == 400, query
        if listing and method == "GET" and query.startswith(("limit", "page", "reverse")):
            assert answer.status_code == 400, query
        if answer.status_code >= 400:
            Error.model_validate(answer.json())
    if method == "GET":
        assert await state(tams) == before


BAD_NAMES = (
    "x",
    "%00",
    "%ff",
    "%ED%A0%80",
    "%F4%90%80%80",
    "..%2F..%2Fetc%2Fpasswd",
    "%252e",
    "'%20OR%201=1--",
    "a" * 5000,
    "%E2%80%8B",
    "0",
    "-1",
    "null",
    "%0d%0aSet-Cookie:x",
)


@pytest.mark.parametrize(
    ("template", "method"),
    [(t, m) for t, m in (*READS, *WRITES) if "{" in t],
    ids=lambda value: str(value),
)
async def test_names_that_nothing_has_are_refused(tams: Tams, template: str, method: str) -> None:
    values = await furnished(tams)
    before = await state(tams)
    parameter = template[template.index("{") + 1 : template.index("}")]
    for name in (*BAD_NAMES, ABSENT):
        marked = template.replace(f"{{{parameter}}}", "\0")
        path = filled(marked, values).replace("\0", name)
        if template == "/flows/{flowId}/segments" and method == "GET" and name == ABSENT:
            continue
        if parameter == "name" or (method == "PUT" and template == "/flows/{flowId}"):
            continue
        body = json.dumps({"storage_id": ARCHIVE} if "instances" in path else "text").encode()
        if method == "DELETE" and "instances" in path:
            path = f"{path}?label=x"
        await refused(tams, method, path, body if method in ("PUT", "POST") else None, name)
    assert await state(tams) == before


async def test_tag_names_that_cannot_be_are_refused(tams: Tams) -> None:
    values = await furnished(tams)
    before = await state(tams)
    for stem in (f"/flows/{values['flowId']}", f"/sources/{values['sourceId']}"):
        for name in ("%00", "%ff", "%ED%A0%80", "a" * 257, "%C3%A9" * 129):
            await refused(tams, "PUT", f"{stem}/tags/{name}", b'"v"', name)
        await refused(tams, "PUT", f"{stem}/tags/auth_classes", b'["not a class"]', "class")
        await refused(tams, "PUT", f"{stem}/tags/", b'"v"', "empty")
    assert await state(tams) == before


async def test_bytes_that_are_no_url_are_refused(tams: Tams) -> None:
    sent: list[dict[str, Any]] = []

    async def send(message: Any) -> None:
        sent.append(message)

    async def receive() -> dict[str, Any]:
        return {"type": "http.request", "body": b""}

    app = StoreApp(tams.running, 1024)
    for path, query in ((b"/flows/\xc3\xa9", b""), (b"/flows", b"label=\xff"), (b"/objects/\xff", b"")):
        sent.clear()
        scope = {"type": "http", "method": "GET", "raw_path": path, "query_string": query, "headers": []}
        await app(scope, receive, send)
        assert sent[0]["status"] == 400


async def test_a_fault_of_ours_is_told_in_the_schema_of_errors_and_logged(
    tams: Tams, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    async def broken(*_: object) -> None:
        raise KeyError("secret detail")

    monkeypatch.setattr(type(tams.running.store.metadata), "page", broken)
    answer = await tams.request("GET", "/flows")
    assert answer.status_code == 500
    Error.model_validate(answer.json())
    assert "secret" not in answer.text and "secret detail" in caplog.text
