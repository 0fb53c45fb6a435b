"""The clients of the key-value API: what they send, how they repeat, and what they raise."""

from __future__ import annotations

import io
from collections.abc import AsyncIterator, Awaitable, Callable
from dataclasses import dataclass, field
from typing import Any

import httpx
import pytest

from store.client import AsyncRestStore, RestStore, StoreError
from store.client.protocol import Policy, object_path
from store.routes.keys import find

BASE = "http://media.test/store"
Reply = httpx.Response | httpx.TransportError


@dataclass
class Script:
    """A server that gives prepared answers, and what it was asked."""

    replies: list[Reply]
    requests: list[httpx.Request] = field(default_factory=list)
    bodies: list[bytes] = field(default_factory=list)
    waits: list[float] = field(default_factory=list)

    def answer(self, request: httpx.Request) -> httpx.Response:
        self.requests.append(request)
        reply = self.replies.pop(0)
        if isinstance(reply, httpx.TransportError):
            raise reply
        return reply

    def blocking(self, request: httpx.Request) -> httpx.Response:
        self.bodies.append(request.read())
        return self.answer(request)

    async def awaited(self, request: httpx.Request) -> httpx.Response:
        self.bodies.append(await request.aread())
        return self.answer(request)


Run = Callable[[Script, str, tuple[Any, ...], dict[str, Any]], Awaitable[Any]]


async def run_blocking(script: Script, name: str, given: tuple[Any, ...], named: dict[str, Any]) -> Any:
    http = httpx.Client(transport=httpx.MockTransport(script.blocking))
    with RestStore(BASE + "/", "secret", Policy(3, 1.0), http, script.waits.append) as store:
        if name == "stream":
            with store.stream(*given, **named) as chunks:
                return b"".join(chunks)
        found = getattr(store, name)(*given, **named)
        return list(found) if name == "keys" else found


async def run_async(script: Script, name: str, given: tuple[Any, ...], named: dict[str, Any]) -> Any:
    async def sleep(seconds: float) -> None:
        script.waits.append(seconds)

    http = httpx.AsyncClient(transport=httpx.MockTransport(script.awaited))
    async with AsyncRestStore(BASE + "/", "secret", Policy(3, 1.0), http, sleep) as store:
        if name == "stream":
            async with store.stream(*given, **named) as chunks:
                return b"".join([chunk async for chunk in chunks])
        if name == "keys":
            return [key async for key in store.keys(*given, **named)]
        return await getattr(store, name)(*given, **named)


@pytest.fixture(params=[run_blocking, run_async], ids=["blocking", "async"])
def run(request: pytest.FixtureRequest) -> Run:
    found: Run = request.param
    return found


def error(status: int, message: str = "why", **headers: str) -> httpx.Response:
    document = {"error": {"code": str(status), "message": message}}
    return httpx.Response(status, json=document, headers={k.replace("_", "-"): v for k, v in headers.items()})


PUT = {"key": "k", "size": 1, "created_at": "2026-11-21T09:00:00Z"}


async def test_what_is_sent(run: Run) -> None:
    script = Script([httpx.Response(200, json=PUT)])
    assert await run(script, "put", ("a b/ü", b"x"), {"content_type": "image/png"}) == PUT
    (request,) = script.requests
    assert request.method == "PUT"
    assert request.url.raw_path == b"/store/objects/a%20b/%C3%BC"
    assert request.headers["authorization"] == "Bearer secret"
    assert request.headers["content-type"] == "image/png"
    assert script.bodies == [b"x"]


@pytest.mark.parametrize(
    "key", ["..", "../x", "a/../b", "a//b", "a///b", "/a", "//", "%2F", "a?b#c", "😀", " ", "."]
)
async def test_a_key_arrives_as_it_is(run: Run, key: str) -> None:
    script = Script([httpx.Response(200, content=b"data")])
    assert await run(script, "get", (key,), {}) == b"data"
    path = script.requests[0].url.raw_path
    assert path == b"/store" + object_path(key).encode()
    assert find(path) == ("/store/objects/{key}", key)


@pytest.mark.parametrize(("name", "given"), [("get", ("k",)), ("delete", ("k",)), ("stream", ("k",))])
async def test_a_missing_key_is_a_key_error(run: Run, name: str, given: tuple[Any, ...]) -> None:
    script = Script([error(404)])
    with pytest.raises(KeyError, match="k"):
        await run(script, name, given, {})
    assert script.waits == []


@pytest.mark.parametrize(("status", "exists"), [(200, True), (404, False)])
async def test_whether_it_exists(run: Run, status: int, exists: bool) -> None:
    assert await run(Script([httpx.Response(status)]), "exists", ("k",), {}) is exists


@pytest.mark.parametrize("status", [400, 401, 403, 411, 412, 413, 507])
async def test_what_is_refused_is_told_at_once(run: Run, status: int) -> None:
    script = Script([error(status, "Token expired")])
    with pytest.raises(StoreError, match="Token expired") as caught:
        await run(script, "get", ("k",), {})
    assert caught.value.status == status
    assert script.waits == []


async def test_an_answer_that_is_not_json_is_an_error_too(run: Run) -> None:
    with pytest.raises(StoreError, match="403"):
        await run(Script([httpx.Response(403, text="<html>")]), "get", ("k",), {})
    with pytest.raises(StoreError, match="page"):
        await run(Script([httpx.Response(200, text="<html>")]), "keys", (), {})


@pytest.mark.parametrize("status", [429, 500, 502, 503, 504])
async def test_a_busy_server_is_asked_again_ever_later(run: Run, status: int) -> None:
    script = Script([error(status), error(status), httpx.Response(200, content=b"data")])
    assert await run(script, "get", ("k",), {}) == b"data"
    assert script.waits == [1.0, 2.0]


async def test_the_server_says_when_to_come_again(run: Run) -> None:
    script = Script([error(429, retry_after="7"), httpx.Response(200, json=PUT)])
    await run(script, "put", ("k", b"x"), {})
    assert script.waits == [7.0]
    assert script.bodies == [b"x", b"x"]


async def test_a_server_that_cannot_be_reached_is_tried_so_often(run: Run) -> None:
    script = Script([httpx.ConnectError("refused")] * 4)
    with pytest.raises(StoreError, match="cannot be reached") as caught:
        await run(script, "get", ("k",), {})
    assert (caught.value.status, script.waits) == (0, [1.0, 2.0, 4.0])


async def test_in_the_end_the_last_answer_counts(run: Run) -> None:
    script = Script([error(503, f"{number}") for number in range(4)])
    with pytest.raises(StoreError, match="3"):
        await run(script, "delete", ("k",), {})


async def test_a_deletion_whose_answer_was_lost_is_done(run: Run) -> None:
    script = Script([httpx.ReadError("reset"), error(404)])
    assert await run(script, "delete", ("k",), {}) is None


async def test_a_stream_is_sent_once(run: Run) -> None:
    script = Script([error(503)])
    with pytest.raises(StoreError):
        await run(script, "put", ("k", iter([b"a", b"b"])), {})
    assert (script.bodies, script.waits) == ([b"ab"], [])
    script = Script([httpx.Response(200, json=PUT)])
    await run(script, "put", ("k", io.BytesIO(b"file")), {})
    assert script.bodies == [b"file"]


async def test_an_asynchronous_stream_is_sent() -> None:
    async def pieces() -> AsyncIterator[bytes]:
        yield b"a"
        yield b"b"

    script = Script([httpx.Response(200, json=PUT)])
    await run_async(script, "put", ("k", pieces()), {})
    assert script.bodies == [b"ab"]


async def test_a_part_is_asked_for(run: Run) -> None:
    for given, header in (({"start": 5}, "bytes=5-"), ({"start": 5, "end": 9}, "bytes=5-8"), ({}, None)):
        script = Script([httpx.Response(206, content=b"data")])
        assert await run(script, "stream", ("k",), given) == b"data"
        assert script.requests[0].headers.get("range") == header


@pytest.mark.parametrize("name", ["get", "stream"])
@pytest.mark.parametrize("location", ["https://s3.test/bucket/x?signature=y", "/media/b/t?signature=y"])
async def test_a_signed_url_is_followed_without_the_key(run: Run, name: str, location: str) -> None:
    script = Script(
        [httpx.Response(307, headers={"location": location}), httpx.Response(200, content=b"data")]
    )
    assert await run(script, name, ("k",), {}) == b"data"
    assert "authorization" not in script.requests[1].headers
    assert str(script.requests[1].url) == (location if "s3" in location else f"http://media.test{location}")


async def test_pages_follow_one_another(run: Run) -> None:
    pages = [
        httpx.Response(200, json={"keys": ["a", "b"], "next_cursor": "c+1", "has_more": True}),
        httpx.Response(200, json={"keys": ["c"], "next_cursor": None, "has_more": False}),
    ]
    script = Script(list(pages))
    assert await run(script, "keys", ("p&q",), {}) == ["a", "b", "c"]
    assert [request.url.params.get("cursor") for request in script.requests] == [None, "c+1"]
    assert {request.url.params["prefix"] for request in script.requests} == {"p&q"}


@pytest.mark.parametrize("status", [405, 501])
async def test_what_cannot_list_says_so(run: Run, status: int) -> None:
    with pytest.raises(NotImplementedError):
        await run(Script([error(status)]), "keys", (), {})


async def test_both_are_created_alike() -> None:
    with RestStore.create(BASE, "key", timeout=5, max_retries=0, retry_delay=0.1) as store:
        assert isinstance(store, RestStore)
    async with AsyncRestStore.create(BASE, "key") as other:
        assert isinstance(other, AsyncRestStore)
