"""The key-value object API on the store alone: every call, every bad input, and what becomes of the bytes."""

from __future__ import annotations

import asyncio
import hashlib
import json
from collections.abc import AsyncIterator, Iterator
from pathlib import Path
from typing import Any
from urllib.parse import quote

import httpx
import pytest

from store.app import StoreApp
from store.keeping import BackendSettings
from store.metadata.keys import INLINE_BYTES
from store.rate import Rate
from store.routes.keys import KEY_ROUTES, find
from store.settings import InvalidSettings
from tests.contract.metadata_support import adding, get, segment
from tests.store.harness import LOCAL, Tams, running_tams

LONG = bytes(range(256)) * 1024
SIZES = [0, 1, 1024, INLINE_BYTES, INLINE_BYTES + 1, 3 << 20]
NAMES = [
    "a",
    "..",
    "../../etc/passwd",
    "a/./b",
    "a//b",
    "/a",
    "ü/日本/😀",
    "a b+c&d=e?f#g",
    "%41",
    "x" * 1024,
    "é" * 512,
]


def path(name: str) -> str:
    """The path of a key, all of it escaped."""
    return "/store/objects/" + quote(name, safe="").replace(".", "%2E")


async def call(tams: Tams, method: str, raw: str, **more: Any) -> httpx.Response:
    """A request whose path goes out as it is spelt."""
    raw_path, _, query = raw.partition("?")
    target = raw_path.encode() + (b"?" + query.encode() if query else b"")
    url = httpx.URL("http://tams.test").copy_with(raw_path=target)
    return await tams.client.request(method, url, **more)


async def put(tams: Tams, name: str, data: bytes = b"bytes", **more: Any) -> httpx.Response:
    """A PUT that must succeed."""
    answer = await call(tams, "PUT", path(name), content=data, **more)
    assert answer.status_code == 200, answer.text
    return answer


def refused(answer: httpx.Response, status: int) -> str:
    """The message of an error, which must have the API's shape."""
    assert answer.status_code == status, answer.text
    assert answer.headers["content-type"] == "application/json"
    document = answer.json()
    assert set(document) == {"error"}
    assert set(document["error"]) == {"code", "message"}
    assert document["error"]["code"] == str(status)
    message: str = document["error"]["message"]
    assert message
    return message


# One object


@pytest.mark.parametrize("size_bytes", SIZES)
async def test_what_is_put_is_got(tams: Tams, size_bytes: int) -> None:
    data = (LONG * 13)[:size_bytes]
    answer = await put(tams, "a/b", data)
    document = answer.json()
    assert document == {"key": "a/b", "size": size_bytes, "created_at": document["created_at"]}
    assert document["created_at"].endswith("Z")
    got = await call(tams, "GET", "/store/objects/a/b")
    assert (got.status_code, got.content) == (200, data)
    assert got.headers["content-length"] == str(size_bytes)
    assert got.headers["content-type"] == "application/octet-stream"
    assert got.headers["etag"] == answer.headers["etag"]
    head = await call(tams, "HEAD", "/store/objects/a/b")
    assert (head.status_code, head.content) == (200, b"")
    assert sorted(head.headers.items()) == sorted(got.headers.items())
    assert (await call(tams, "DELETE", "/store/objects/a/b")).status_code == 204
    for method in ("GET", "DELETE"):
        assert refused(await call(tams, method, "/store/objects/a/b"), 404) == "Object not found"
    assert (await call(tams, "HEAD", "/store/objects/a/b")).status_code == 404


@pytest.mark.parametrize("size_bytes", [10, INLINE_BYTES + 5])
async def test_an_upload_of_unknown_length_is_taken(tams: Tams, size_bytes: int) -> None:
    async def chunks() -> AsyncIterator[bytes]:
        for start in range(0, size_bytes, 1000):
            yield LONG[start : min(start + 1000, size_bytes)]

    answer = await call(tams, "PUT", path("k"), content=chunks(), headers={"transfer-encoding": "chunked"})
    assert answer.json()["size"] == size_bytes
    assert (await call(tams, "GET", path("k"))).content == LONG[:size_bytes]


@pytest.mark.parametrize("name", NAMES)
async def test_a_key_is_any_text_and_decoded_once(tams: Tams, name: str) -> None:
    assert (await put(tams, name, name.encode())).json()["key"] == name
    assert (await call(tams, "GET", path(name))).content == name.encode()
    assert (await call(tams, "GET", "/store/objects")).json()["keys"] == [name]
    assert (await call(tams, "DELETE", path(name))).status_code == 204


async def test_an_escaped_slash_is_a_slash(tams: Tams) -> None:
    await put(tams, "a/b", b"one")
    for spelt in (
        "/store/objects/a/b",
        "/store/objects/a%2Fb",
        "/store/objects/a%2fb",
        "/store/objects/%61/b",
    ):
        assert (await call(tams, "GET", spelt)).content == b"one"
    assert (await call(tams, "GET", "/store/objects/a%252Fb")).status_code == 404


async def test_the_type_is_kept_and_never_run(tams: Tams) -> None:
    await put(tams, "page", b"<script>", headers={"content-type": "text/html"})
    got = await call(tams, "GET", path("page"))
    assert got.headers["content-type"] == "text/html"
    assert got.headers["content-disposition"] == "attachment"
    assert got.headers["x-content-type-options"] == "nosniff"
    assert "sandbox" in got.headers["content-security-policy"]


BAD_REQUESTS: list[tuple[str, str, dict[str, Any], int]] = [
    ("PUT", path("x" * 1025), {"content": b""}, 400),
    ("PUT", path("é" * 513), {"content": b""}, 400),
    ("GET", path("x" * 1025), {}, 400),
    ("DELETE", path("x" * 1025), {}, 400),
    ("PUT", "/store/objects/", {"content": b""}, 405),
    ("GET", "/store/objects/%zz", {}, 400),
    ("GET", "/store/objects/%ff", {}, 400),
    ("GET", "/store/objects/a%00b", {}, 400),
    ("GET", "/store/objects/%ed%a0%80", {}, 400),
    ("POST", "/store/objects/a", {"content": b"x"}, 405),
    ("PATCH", "/store/objects/a", {"content": b"x"}, 405),
    ("PUT", "/store/objects", {"content": b"x"}, 405),
    ("DELETE", "/store/health", {}, 405),
    ("GET", "/store/nothing", {}, 404),
    ("GET", "/store/", {}, 404),
    ("GET", "/store/object", {}, 404),
    ("GET", "/store/objectsx", {}, 404),
    ("PUT", path("k"), {"content": b"x", "headers": {"content-encoding": "gzip"}}, 415),
    ("PUT", path("k"), {"content": b"x", "headers": {"content-range": "bytes 0-0/2"}}, 400),
    ("PUT", path("k"), {"content": b"x", "headers": {"content-length": "-1"}}, 400),
    ("PUT", path("k"), {"content": b"x", "headers": {"content-length": "2"}}, 400),
    ("PUT", path("k"), {"content": b"xxx", "headers": {"content-length": "2"}}, 400),
    ("PUT", path("k"), {"content": b"x", "headers": {"content-length": str(6 << 30)}}, 413),
    ("GET", "/store/objects?limit=0", {}, 400),
    ("GET", "/store/objects?limit=-3", {}, 400),
    ("GET", "/store/objects?limit=1001", {}, 400),
    ("GET", "/store/objects?limit=ten", {}, 400),
    ("GET", "/store/objects?limit=", {}, 400),
    ("GET", "/store/objects?limit=1&limit=2", {}, 400),
    ("GET", "/store/objects?limit=99999999999999999999999999", {}, 400),
    ("GET", "/store/objects?prefix=%ff", {}, 400),
    ("GET", "/store/objects?cursor=nonsense", {}, 400),
    ("GET", "/store/objects?cursor=%00", {}, 400),
    ("GET", "/store/objects?cursor=AAAAAAAAAAAAAAAAAAAAImEi", {}, 400),
]


@pytest.mark.parametrize(("method", "raw", "more", "status"), BAD_REQUESTS)
async def test_bad_input_is_an_error_in_the_api_s_shape(
    tams: Tams, method: str, raw: str, more: dict[str, Any], status: int
) -> None:
    refused(await call(tams, method, raw, **more), status)
    assert (await call(tams, "GET", "/store/objects")).json()["keys"] == []


async def test_an_upload_without_a_length_is_refused(tams: Tams) -> None:
    async def nothing() -> AsyncIterator[bytes]:
        yield b"x"

    request = tams.client.build_request("PUT", path("k"), content=nothing())
    del request.headers["transfer-encoding"]
    refused(await tams.client.send(request), 411)


async def test_other_methods_are_named(tams: Tams) -> None:
    answer = await call(tams, "POST", "/store/objects/a")
    assert set(answer.headers["allow"].split(", ")) == {"GET", "HEAD", "PUT", "DELETE"}


async def test_health_is_told_to_anybody(tams: Tams) -> None:
    for spelt in ("/store/health", "/store/health/"):
        answer = await call(tams, "GET", spelt)
        assert (answer.status_code, answer.json()["status"]) == (200, "healthy")
    assert (await call(tams, "HEAD", "/store/health")).content == b""
    await tams.store.metadata.close()
    refused(await call(tams, "GET", "/store/health"), 503)


# Parts and conditions

PARTS = [
    ("bytes=0-4", 206, (0, 5)),
    ("bytes=5-", 206, (5, None)),
    ("bytes=-3", 206, (-3, None)),
    ("bytes=7-7", 206, (7, 8)),
    ("bytes=0-99999999", 206, (0, None)),
    ("bytes=0-1,3-4", 200, (0, None)),
    ("lines=1-2", 200, (0, None)),
    ("bytes=4-2", 200, (0, None)),
]


@pytest.fixture(params=[b"0123456789", LONG], ids=["small", "long"])
def data(request: pytest.FixtureRequest) -> Iterator[bytes]:
    yield request.param


@pytest.mark.parametrize(("header", "status", "span"), PARTS)
async def test_a_part_is_served(
    tams: Tams, data: bytes, header: str, status: int, span: tuple[int, int | None]
) -> None:
    await put(tams, "k", data)
    got = await call(tams, "GET", path("k"), headers={"range": header})
    assert (got.status_code, got.content) == (status, data[span[0] : span[1]])
    assert got.headers["content-length"] == str(len(got.content))
    head = await call(tams, "HEAD", path("k"), headers={"range": header})
    assert (head.status_code, head.headers["content-length"]) == (status, got.headers["content-length"])


async def test_a_part_beyond_the_end_is_416(tams: Tams, data: bytes) -> None:
    await put(tams, "k", data)
    answer = await call(tams, "GET", path("k"), headers={"range": f"bytes={len(data)}-"})
    refused(answer, 416)
    assert answer.headers["content-range"] == f"bytes */{len(data)}"


async def test_conditional_reads(tams: Tams, data: bytes) -> None:
    etag = (await put(tams, "k", data)).headers["etag"]
    first = await call(tams, "GET", path("k"))
    cases = [
        ({"if-none-match": etag}, 304),
        ({"if-none-match": f'"x", W/{etag}'}, 304),
        ({"if-none-match": "*"}, 304),
        ({"if-none-match": '"x"'}, 200),
        ({"if-modified-since": first.headers["last-modified"]}, 304),
        ({"if-modified-since": "Thu, 01 Jan 1970 00:00:00 GMT"}, 200),
        ({"if-modified-since": "yesterday"}, 200),
        ({"if-match": etag}, 200),
        ({"if-match": f"W/{etag}"}, 412),
        ({"if-match": '"x"'}, 412),
        ({"if-unmodified-since": "Thu, 01 Jan 1970 00:00:00 GMT"}, 412),
        ({"if-range": etag, "range": "bytes=0-0"}, 206),
        ({"if-range": '"x"', "range": "bytes=0-0"}, 200),
    ]
    for headers, status in cases:
        answer = await call(tams, "GET", path("k"), headers=headers)
        assert answer.status_code == status, headers
        if status == 304:
            assert (answer.content, answer.headers["etag"]) == (b"", etag)


async def test_conditional_writes(tams: Tams, data: bytes) -> None:
    async def attempt(method: str, **headers: str) -> int:
        fields = {name.replace("_", "-"): value for name, value in headers.items()}
        content = data if method == "PUT" else None
        return (await call(tams, method, path("k"), content=content, headers=fields)).status_code

    assert await attempt("PUT", if_match="*") == 412
    assert await attempt("DELETE", if_match='"x"') == 404
    assert await attempt("PUT", if_none_match="*") == 200
    assert await attempt("PUT", if_none_match="*") == 412
    etag = (await call(tams, "HEAD", path("k"))).headers["etag"]
    assert await attempt("PUT", if_match='"x"') == 412
    assert await attempt("DELETE", if_match='"x"') == 412
    assert await attempt("PUT", if_match=etag) == 200
    assert await attempt("PUT", if_match=etag) == 412
    assert await attempt("DELETE", if_unmodified_since="Thu, 01 Jan 1970 00:00:00 GMT") == 412
    etag = (await call(tams, "HEAD", path("k"))).headers["etag"]
    assert await attempt("DELETE", if_match=etag) == 204


async def test_of_many_who_create_one_does(tams: Tams, data: bytes) -> None:
    answers = await asyncio.gather(
        *(call(tams, "PUT", path("k"), content=data, headers={"if-none-match": "*"}) for _ in range(8))
    )
    assert sorted(answer.status_code for answer in answers) == [200] + [412] * 7


# Overwriting, deleting, collecting


async def test_readers_get_one_version_or_another_while_writers_meet(tams: Tams) -> None:
    bodies = [bytes([65 + number]) * size for number, size in enumerate((10, 100_000, 1_000, 300_000))]
    await put(tams, "k", bodies[0])

    async def write() -> None:
        for body in bodies * 3:
            await put(tams, "k", body)

    async def read() -> None:
        for _ in range(20):
            got = await call(tams, "GET", path("k"))
            assert got.status_code == 200
            assert got.content in bodies
            assert got.headers["content-length"] == str(len(got.content))

    await asyncio.gather(write(), write(), read(), read())
    assert (await call(tams, "GET", path("k"))).content == bodies[-1]


def stored(tams: Tams) -> list[Path]:
    """The files of all objects."""
    return [
        file
        for folder in Path(tams.settings.data).glob("media-*/objects")
        for file in folder.rglob("*")
        if file.is_file()
    ]


async def test_overwritten_and_deleted_bytes_are_removed_when_readers_have_had_time(tams: Tams) -> None:
    await put(tams, "k", LONG)
    await put(tams, "k", LONG[::-1])
    assert len(stored(tams)) == 2
    await tams.work()
    assert len(stored(tams)) == 2
    tams.later_ns += 2 * 3600 * 10**9
    await tams.work()
    assert len(stored(tams)) == 1
    assert (await call(tams, "GET", path("k"))).content == LONG[::-1]
    assert (await call(tams, "DELETE", path("k"))).status_code == 204
    tams.later_ns += 2 * 3600 * 10**9
    await tams.work()
    assert stored(tams) == []


async def test_bytes_that_a_segment_refers_to_outlive_the_key(tams: Tams) -> None:
    await put(tams, "k", LONG)
    row = await tams.store.metadata.key("k")
    assert row is not None and row.object is not None
    flow = await tams.flow()
    flow_row = await get(tams.store.metadata, flow["id"])
    # No client may register it, since it was allocated for no flow; whoever does, it is kept.
    added = await tams.store.metadata.add_segments(adding(flow_row, segment(row.object.id, 0, 10**9)))
    assert added == [None]
    assert (await call(tams, "DELETE", path("k"))).status_code == 204
    tams.later_ns += 100 * 3600 * 10**9
    await tams.work()
    (found,) = await tams.segments(flow["id"])
    assert (await tams.client.get(found["get_urls"][0]["url"])).content == LONG


async def test_a_client_cannot_register_a_key_s_object(tams: Tams) -> None:
    await put(tams, "k", LONG)
    row = await tams.store.metadata.key("k")
    assert row is not None and row.object is not None
    flow = await tams.flow()
    body = {"object_id": row.object.id, "timerange": "[0:0_1:0)"}
    await tams.post(f"/flows/{flow['id']}/segments", body, 400)
    await tams.get(f"/objects/{row.object.id}", 404)


async def test_an_upload_that_breaks_off_changes_nothing_and_leaves_nothing(tams: Tams) -> None:
    await put(tams, "k", b"before")
    messages: list[dict[str, Any]] = [
        {"type": "http.request", "body": LONG, "more_body": True},
        {"type": "http.disconnect"},
    ]
    sent: list[dict[str, Any]] = []

    async def receive() -> dict[str, Any]:
        return messages.pop(0)

    async def send(message: Any) -> None:
        sent.append(message)

    headers = [(b"content-length", b"1048576")]
    scope = {"method": "PUT", "raw_path": b"/store/objects/k", "query_string": b"", "headers": headers}
    await StoreApp(tams.running, 1 << 20)({"type": "http", **scope}, receive, send)
    assert sent == []
    short = await call(tams, "PUT", path("k"), content=LONG, headers={"content-length": str(1 << 20)})
    refused(short, 400)
    assert (await call(tams, "GET", path("k"))).content == b"before"
    assert stored(tams) == []
    # Behind the rows that were being reserved when the uploads broke off.
    await put(tams, "k", b"after")
    tams.later_ns += 100 * 3600 * 10**9
    await tams.work()
    assert await tams.store.metadata.collect(2**62, 10) == []


async def test_keys_survive_a_restart(tmp_path: Path) -> None:
    async with running_tams(tmp_path) as tams:
        etags = [
            (await put(tams, name, data)).headers["etag"] for name, data in (("s", b"small"), ("l", LONG))
        ]
    async with running_tams(tmp_path) as tams:
        for name, data, etag in (("s", b"small", etags[0]), ("l", LONG, etags[1])):
            got = await call(tams, "GET", path(name))
            assert (got.content, got.headers["etag"]) == (data, etag)


async def test_missing_bytes_are_no_empty_object(tams: Tams) -> None:
    await put(tams, "k", LONG)
    (file,) = stored(tams)
    file.chmod(0o600)
    file.unlink()
    refused(await call(tams, "GET", path("k")), 503)


# Listings


async def test_pages_are_sorted_and_go_on_when_their_cursor_is_gone(tams: Tams) -> None:
    names = sorted(f"{letter}/{number}" for letter in "abc" for number in range(5)) + ["ü"]
    for name in reversed(names):
        await put(tams, name)
    found: list[str] = []
    cursor = ""
    while True:
        page = (await call(tams, "GET", f"/store/objects?limit=4&cursor={cursor}")).json()
        assert set(page) == {"keys", "next_cursor", "has_more"}
        found += page["keys"]
        if not page["has_more"]:
            assert page["next_cursor"] is None
            break
        assert (await call(tams, "DELETE", path(page["keys"][-1]))).status_code == 204
        cursor = page["next_cursor"]
    assert found == names


async def test_a_prefix_is_text_not_a_pattern(tams: Tams) -> None:
    names = ["a", "a%", "a%2", "a_b", "ab", "b", "ü", "üx"]
    for name in names:
        await put(tams, name)
    for prefix in ("", "a", "a%", "a_", "ü", "zz", "%", "b"):
        page = (await call(tams, "GET", f"/store/objects?prefix={quote(prefix)}")).json()
        assert page == {
            "keys": [name for name in names if name.startswith(prefix)],
            "next_cursor": None,
            "has_more": False,
        }


async def test_a_page_has_a_hundred_names_unless_it_says_otherwise(tams: Tams) -> None:
    for number in range(101):
        await put(tams, f"{number:03}", b"")
    for query, count, more in (("", 100, True), ("?limit=101", 101, False), ("?limit=1000", 101, False)):
        page = (await call(tams, "GET", f"/store/objects{query}")).json()
        assert (len(page["keys"]), page["has_more"]) == (count, more)
    slashed = await call(tams, "GET", "/store/objects/?limit=1")
    assert slashed.json()["keys"] == ["000"]


async def test_a_cursor_is_of_its_own_listing(tams: Tams) -> None:
    for name in ("a1", "a2", "b1", "b2"):
        await put(tams, name)
    cursor = (await call(tams, "GET", "/store/objects?prefix=a&limit=1")).json()["next_cursor"]
    refused(await call(tams, "GET", f"/store/objects?prefix=b&cursor={cursor}"), 400)
    page = (await call(tams, "GET", f"/store/objects?prefix=a&limit=7&cursor={cursor}")).json()
    assert page["keys"] == ["a2"]


# Configuration


async def test_long_objects_are_fetched_from_the_backend_where_that_is_configured(tmp_path: Path) -> None:
    async with running_tams(tmp_path, keys={"redirect_bytes": 100_000, "backend": "archive"}) as tams:
        for name, data in (("small", b"small"), ("middle", LONG[:99_999]), ("long", LONG)):
            await put(tams, name, data, headers={"content-type": "image/png"})
            got = await call(tams, "GET", path(name))
            if name != "long":
                assert (got.status_code, got.content) == (200, data)
                continue
            assert (got.status_code, got.content) == (307, b"")
            fetched = await tams.client.get(got.headers["location"])
            assert hashlib.sha256(fetched.content).digest() == hashlib.sha256(data).digest()
            assert fetched.headers["content-type"] == "image/png"
            head = await call(tams, "HEAD", path(name))
            assert (head.status_code, head.headers["content-length"]) == (200, str(len(data)))
            known = {"if-none-match": head.headers["etag"]}
            assert (await call(tams, "GET", path(name), headers=known)).status_code == 304
            assert list(tams.store.accesses.take().values()) == [1]
        assert all("media-1" in str(file) for file in stored(tams))


async def test_an_object_may_not_be_longer_than_configured(tmp_path: Path) -> None:
    async with running_tams(tmp_path, keys={"most_bytes": 10}) as tams:
        await put(tams, "k", b"0123456789")
        refused(await call(tams, "PUT", path("k"), content=b"0123456789x"), 413)

        async def chunks() -> AsyncIterator[bytes]:
            yield b"0123456789"
            yield b"x"

        headers = {"transfer-encoding": "chunked"}
        refused(await call(tams, "PUT", path("k"), content=chunks(), headers=headers), 413)
        assert (await call(tams, "GET", path("k"))).content == b"0123456789"


async def test_an_unknown_backend_is_refused_at_the_start(tmp_path: Path) -> None:
    with pytest.raises(InvalidSettings, match="TAMS_KEYS__BACKEND"):
        async with running_tams(tmp_path, keys={"backend": "attic"}):
            raise AssertionError


async def test_a_backend_is_named_by_its_id_too(tmp_path: Path) -> None:
    async with running_tams(tmp_path, keys={"backend": LOCAL}) as tams:
        await put(tams, "k", LONG)
        assert all("media-0" in str(file) for file in stored(tams))


async def test_too_many_requests_are_told_when_to_come_again(tmp_path: Path) -> None:
    async with running_tams(tmp_path, keys={"rate_per_s": 0.01, "burst": 3}) as tams:
        answers = [await call(tams, "GET", "/store/health") for _ in range(5)]
        assert [answer.status_code for answer in answers] == [200, 200, 200, 429, 429]
        refused(answers[3], 429)
        assert 1 <= int(answers[3].headers["retry-after"]) <= 100


def test_a_rate_refills_with_time_and_is_each_caller_s_own() -> None:
    rate = Rate(2.0, 2)
    assert [rate.wait_s("a", 0.0) for _ in range(3)] == [None, None, 1]
    assert rate.wait_s("b", 0.0) is None
    assert rate.wait_s("a", 0.5) is None
    assert rate.wait_s("a", 0.5) == 1
    assert [rate.wait_s("a", 100.0) for _ in range(3)] == [None, None, 1]
    slow = Rate(0.1, 1)
    assert [slow.wait_s("a", 0.0), slow.wait_s("a", 0.0), slow.wait_s("a", 4.0)] == [None, 10, 6]


def test_every_template_is_found() -> None:
    assert {find(template.replace("{key}", "k").encode()) for template in KEY_ROUTES} == {
        (template, "k" if "{key}" in template else "") for template in KEY_ROUTES
    }


async def test_json_of_an_answer_is_plain(tams: Tams) -> None:
    await put(tams, "ü")
    assert json.loads((await call(tams, "GET", "/store/objects")).content)["keys"] == ["ü"]


async def test_a_backend_in_memory_serves_keys_and_signed_urls(tmp_path: Path) -> None:
    backends = (BackendSettings(id=LOCAL, type="memory", default=True, quota_bytes=len(LONG) + 10),)
    async with running_tams(tmp_path, storage_backends=backends, keys={"redirect_bytes": len(LONG)}) as tams:
        await put(tams, "k", LONG)
        got = await call(tams, "GET", path("k"))
        assert (await tams.client.get(got.headers["location"])).content == LONG
        refused(await call(tams, "PUT", path("more"), content=LONG), 507)
        flow = await tams.flow()
        assert await tams.upload(flow["id"], b"bytes")
        assert not list(tmp_path.glob("media*"))
