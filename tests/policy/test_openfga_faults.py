"""An OpenFGA server that is down, slow, cut short or out of its mind: no answer, never an allow, and back."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import httpx
import pytest
from aiohttp import web

from proxy.commands.token import clear_secret
from proxy.errors import Unavailable
from proxy.identity.principal import READ, Principal
from proxy.policy.openfga import PIN_NAME, ServerDecisions, dump_pin
from proxy.policy.openfga_api import Api, Pin
from proxy.upstream.credentials import Fixed, Proof
from tests.identity.serving import serving
from tests.ports import free_port

STORE, MODEL = "01ARZ3NDEKTSV4RRFFQ69G5FAV", "01ARZ3NDEKTSV4RRFFQ69G5FAW"
PIN = Pin(STORE, MODEL)
NEWSROOM = Principal("local", "newsroom", None, frozenset(), frozenset((READ,)), False, 2**40)
Answer = Callable[[str], Awaitable[web.StreamResponse | None]]


@dataclass
class Fake:
    """A server that lists one class for everybody; `fault` answers instead, or None to let it."""

    fault: Answer | None = None
    asked: list[str] = field(default_factory=list)
    bodies: list[dict[str, Any]] = field(default_factory=list)
    groups: tuple[str, ...] = ()

    async def answer(self, request: web.Request) -> web.StreamResponse:
        what = request.path.rpartition("/")[2]
        self.asked.append(what)
        if request.method == "POST":
            self.bodies.append(await request.json())
        if self.fault is broken_off and request.transport is not None:
            request.transport.close()
        answer = await self.fault(what) if self.fault is not None else None
        return web.json_response(self.good(what, request)) if answer is None else answer

    def good(self, what: str, request: web.Request) -> dict[str, Any]:
        if what == "changes":
            first = "continuation_token" not in request.query
            named = [
                {"user": f"group:{g}#member", "relation": "reader", "object": "auth_class:a"}
                for g in self.groups
            ]
            written = [{"tuple_key": key, "operation": "TUPLE_OPERATION_WRITE"} for key in named]
            return {"changes": written if first else [], "continuation_token": "t"}
        if what == "batch-check":
            relations = ("can-administer", "can-create")
            return {"result": {each: {"allowed": False} for each in relations}}
        return {"objects": ["auth_class:news"]}


@asynccontextmanager
async def running(fake: Fake, port: int = 0) -> AsyncIterator[int]:
    app = web.Application()
    app.router.add_route("*", "/{path:.*}", fake.answer)
    runner = web.AppRunner(app, shutdown_timeout=0)
    await runner.setup()
    site = web.TCPSite(runner, "127.0.0.1", port, reuse_address=True)
    await site.start()
    try:
        yield int(runner.addresses[0][1])
    finally:
        await runner.cleanup()


@asynccontextmanager
async def deciding(port: int, **options: Any) -> AsyncIterator[ServerDecisions]:
    timeout_s = options.pop("timeout_s", 20.0)
    api = Api(f"http://127.0.0.1:{port}", Fixed(Proof("Bearer k")), timeout_s=timeout_s)
    now = options.pop("now", lambda: 1e9)
    try:
        yield ServerDecisions(api, lambda: PIN, now, timeout_s=timeout_s, **options)
    finally:
        await api.close()


def status(code: int) -> Answer:
    async def answer(what: str) -> web.StreamResponse | None:
        return web.json_response({"code": "x", "message": "no"}, status=code, headers={"Retry-After": "900"})

    return answer


def raw(body: bytes, where: str | None = None) -> Answer:
    async def answer(what: str) -> web.StreamResponse | None:
        if where is not None and what != where:
            return None
        return web.Response(body=body, content_type="application/json")

    return answer


def cut_off() -> bytes:
    names = ", ".join(f'"auth_class:c{n}"' for n in range(1000))
    return f'{{"objects": [{names}]}}'.encode()


async def broken_off(what: str) -> web.StreamResponse | None:
    """The server closes the connection instead of an answer."""
    return web.Response()


FAULTS: dict[str, Answer] = {
    "500": status(500),
    "503 that asks for a quarter of an hour": status(503),
    "429": status(429),
    "400": status(400),
    "401": status(401),
    "404": status(404),
    "garbage": raw(b"<html>hello"),
    "no text": raw(b"\xff\xfe\x00"),
    "another document": raw(b'{"hello": "world"}'),
    "a list": raw(b"[]"),
    "objects of another type": raw(b'{"objects": ["group:news"]}', "list-objects"),
    "objects that are none": raw(b'{"objects": [1]}', "list-objects"),
    "no objects": raw(b"{}", "list-objects"),
    "as many as the limit": raw(cut_off(), "list-objects"),
    "a check that failed": raw(b'{"result": {"can-create": {"error": {}}}}', "batch-check"),
    "a check that is no check": raw(b'{"result": {"can-create": []}}', "batch-check"),
    "changes that are none": raw(b'{"changes": [{}], "continuation_token": "t"}', "changes"),
    "changes without a token": raw(b'{"changes": []}', "changes"),
    "broken off": broken_off,
}


@pytest.mark.parametrize("name", FAULTS)
async def test_a_fault_gives_no_answer_and_passes_by_itself(name: str) -> None:
    fake = Fake()
    fake.fault = FAULTS[name]
    async with running(fake) as port, deciding(port) as decisions:
        with pytest.raises(Unavailable) as caught:
            await decisions.permissions(NEWSROOM)
        assert caught.value.retry_after_s
        fake.fault = None
        assert (await decisions.permissions(NEWSROOM)).read == {"news"}


async def test_down_gives_no_answer_and_it_comes_back_when_the_server_does() -> None:
    port = free_port()
    async with deciding(port) as decisions:
        with pytest.raises(Unavailable):
            await decisions.permissions(NEWSROOM)
        with pytest.raises(Unavailable):
            await decisions.denying()
        async with running(Fake(), port):
            assert (await decisions.permissions(NEWSROOM)).read == {"news"}


@pytest.mark.parametrize("where", ["changes", "batch-check", "list-objects"])
async def test_slow_gives_no_answer_in_time_and_passes(where: str) -> None:
    release = asyncio.Event()

    async def slow(what: str) -> web.StreamResponse | None:
        if what == where:
            await release.wait()
        return None

    fake = Fake(slow)
    async with running(fake) as port, deciding(port, timeout_s=0.3) as decisions:
        with pytest.raises(Unavailable):
            await decisions.permissions(NEWSROOM)
        release.set()
        fake.fault = None
    async with running(fake) as port, deciding(port) as decisions:
        assert (await decisions.permissions(NEWSROOM)).read == {"news"}


async def test_what_was_known_is_not_used_past_its_time() -> None:
    now = [1e9]
    fake = Fake()
    async with running(fake) as port, deciding(port, now=lambda: now[0]) as decisions:
        known = await decisions.permissions(NEWSROOM)
        fake.fault = status(500)
        now[0] += 6.9
        assert await decisions.permissions(NEWSROOM) is known
        now[0] += 0.2
        with pytest.raises(Unavailable):
            await decisions.permissions(NEWSROOM)


async def test_callers_at_once_share_one_question_and_later_ones_ask_none() -> None:
    fake = Fake()
    async with running(fake) as port, deciding(port) as decisions:
        await asyncio.gather(*(decisions.permissions(NEWSROOM) for _ in range(20)))
        assert sorted(fake.asked) == sorted(["changes", "batch-check", *["list-objects"] * 5])
        await decisions.permissions(NEWSROOM)
        assert len(fake.asked) == 7


async def test_a_new_token_of_the_same_caller_asks_nothing() -> None:
    fake = Fake(groups=("a",))
    async with running(fake) as port, deciding(port) as decisions:
        for number in range(5):
            groups = frozenset(("a", f"unknown{number}"))
            await decisions.permissions(
                Principal("local", "x", "x", groups, frozenset((READ,)), False, 2**40 + number)
            )
        assert fake.asked.count("batch-check") == 1


async def test_fresh_asks_again_and_for_consistency_under_the_pinned_model() -> None:
    fake = Fake()
    async with running(fake) as port, deciding(port) as decisions:
        await decisions.permissions(NEWSROOM)
        fake.bodies.clear()
        await decisions.permissions(NEWSROOM, fresh=True)
    assert len(fake.bodies) == 6
    assert {body["consistency"] for body in fake.bodies} == {"HIGHER_CONSISTENCY"}
    assert {body["authorization_model_id"] for body in fake.bodies} == {MODEL}


@pytest.mark.parametrize(("count", "answered"), [(100, True), (101, False)])
async def test_more_groups_than_a_server_takes_are_refused_not_asked_in_parts(
    count: int, answered: bool
) -> None:
    names = tuple(f"g{n}" for n in range(count))
    who = Principal("local", "x", "x", frozenset((*names, "unknown")), None, False, 2**40)
    fake = Fake(groups=names)
    async with running(fake) as port, deciding(port) as decisions:
        if answered:
            await decisions.permissions(who)
            sent = [body["contextual_tuples"]["tuple_keys"] for body in fake.bodies if "type" in body]
            assert [len(each) for each in sent] == [100] * 5
        else:
            with pytest.raises(Unavailable):
                await decisions.permissions(who)
            assert "list-objects" not in fake.asked


@pytest.fixture
async def proxy(tmp_path: Path, name: str) -> AsyncIterator[tuple[Fake, httpx.AsyncClient]]:
    """The whole proxy before a fake engine that will have the fault of this name, and a client of it."""
    fake, data = Fake(), tmp_path / "data"
    # Only who waits for an answer in vain has to give up; all others have as long as can be set.
    timeout_s = "1" if name == "slow" else "2"
    data.mkdir()
    (data / PIN_NAME).write_bytes(dump_pin(PIN))
    async with running(fake) as port:
        environ = {"TAMS_OPENFGA__URL": f"http://127.0.0.1:{port}", "TAMS_OPENFGA__TIMEOUT_S": timeout_s}
        environ |= {"TAMS_DEMO": "true", "TAMS_ALLOW_BASIC": "true"}
        async with serving(tmp_path, environ) as url:
            secret = ("newsroom", clear_secret(data, "newsroom"))
            async with httpx.AsyncClient(base_url=url, auth=secret, timeout=60, trust_env=False) as client:
                yield fake, client


@pytest.mark.parametrize("name", ["500", "429", "garbage", "as many as the limit", "broken off", "slow"])
async def test_the_proxy_is_unavailable_and_says_when_to_come_back(
    proxy: tuple[Fake, httpx.AsyncClient], name: str
) -> None:
    """As in the table of faults: 503, no allows, and back by itself."""
    fake, client = proxy
    flow = "/flows/00000000-0000-4000-8000-000000000001"
    held = asyncio.Event()

    async def slow(what: str) -> web.StreamResponse | None:
        async with asyncio.timeout(20):
            await held.wait()
        return None

    fake.fault = FAULTS.get(name, slow)
    for method, path in (("GET", flow), ("GET", "/flows"), ("PUT", f"{flow}/label"), ("DELETE", flow)):
        answer = await client.request(method, path, json="x" if method == "PUT" else None)
        assert answer.status_code == 503, answer.text
        assert int(answer.headers["retry-after"]) >= 1
        assert "auth_class" not in answer.text
    assert (await client.get("/health")).status_code == 200
    fake.fault = None
    held.set()
    assert (await client.get("/flows")).json() == []
