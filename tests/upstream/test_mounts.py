"""Several upstreams behind one address, each with policies of its own."""

from __future__ import annotations

from collections.abc import AsyncIterator, Iterator
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import httpx
import pytest

from proxy.app import Settings, run_proxy
from proxy.asgi import App
from proxy.errors import InvalidSettings
from proxy.identity.secrets import read_clear
from proxy.mounts import Mount, Mounts, mounted
from store.settings import parse
from tests.proxy.support import Client, environment, flow_document, full, write_policy
from tests.upstream.plain import Plain
from tests.upstream.serving import serving

ONE = {"me": Client(full("a")), "admin": Client(admin=True, scopes=("read", "admin"))}
TWO = {"me": Client(full("v"))}


@pytest.fixture
def plains() -> Iterator[tuple[Plain, Plain]]:
    one, two = Plain(), Plain()
    with ExitStack() as stack:
        stack.enter_context(serving(one.application))
        stack.enter_context(serving(two.application))
        yield one, two


def settings(folder: Path, plains: tuple[Plain, Plain], **second: Any) -> Settings:
    write_policy(folder / "policies")
    write_policy(folder / "one", ONE)
    write_policy(folder / "two", TWO)
    upstreams = [
        {"name": "one", "url": plains[0].url, "policies": str(folder / "one"), "prefix": "/x/one"},
        {
            "name": "two",
            "url": plains[1].url,
            "policies": str(folder / "two"),
            "host": "two.test",
            "public_url": "http://two.test",
            **second,
        },
    ]
    return parse(Settings, environment(folder, upstreams=upstreams))


@dataclass
class Mounted:
    http: httpx.AsyncClient
    data: Path

    async def token(self, base: str, name: str, who: str) -> str:
        secret = read_clear(self.data / "upstreams" / name)[who]
        form = {"grant_type": "client_credentials"}
        answer = await self.http.post(f"{base}/token", data=form, auth=(who, secret))
        return str(answer.json()["access_token"])

    async def get(self, url: str, token: str) -> httpx.Response:
        return await self.http.get(url, headers={"authorization": f"Bearer {token}"})


@pytest.fixture
async def both(tmp_path: Path, plains: tuple[Plain, Plain]) -> AsyncIterator[Mounted]:
    chosen = settings(tmp_path, plains)
    async with mounted(chosen, run_proxy) as app:
        transport = httpx.ASGITransport(app)
        async with httpx.AsyncClient(transport=transport) as http:
            yield Mounted(http, chosen.data)


BASES = ("http://tams.test/x/one", "http://two.test")


async def test_each_has_its_own_upstream_and_policy(both: Mounted, plains: tuple[Plain, Plain]) -> None:
    flow = flow_document(["a"])
    for plain in plains:
        plain.flows[flow["id"]] = flow
    statuses = []
    for base, name in zip(BASES, ("one", "two"), strict=True):
        answer = await both.get(f"{base}/flows/{flow['id']}", await both.token(base, name, "me"))
        statuses.append(answer.status_code)
    assert statuses == [200, 404]


async def test_a_token_of_one_is_nothing_to_another(both: Mounted) -> None:
    one = await both.token(BASES[0], "one", "me")
    assert (await both.get(f"{BASES[0]}/flows", one)).status_code == 200
    assert (await both.get(f"{BASES[1]}/flows", one)).status_code == 401
    assert (await both.get("http://tams.test/flows", one)).status_code == 401


async def test_links_carry_the_prefix(both: Mounted, plains: tuple[Plain, Plain]) -> None:
    documents = [flow_document(["a"]) for _ in range(3)]
    plains[0].flows = {document["id"]: document for document in documents}
    token = await both.token(BASES[0], "one", "me")
    answer = await both.get(f"{BASES[0]}/flows?limit=2", token)
    link = answer.headers["link"].partition("<")[2].partition(">")[0]
    assert link.startswith(f"{BASES[0]}/flows?limit=2&page=")
    answer = await both.get(link, token)
    assert [flow["id"] for flow in answer.json()] == [documents[2]["id"]]


async def test_mounts_that_collide_are_refused(tmp_path: Path, plains: tuple[Plain, Plain]) -> None:
    said = {"name": "one", "policies": str(tmp_path / "none")}
    with pytest.raises(InvalidSettings) as caught:
        async with mounted(settings(tmp_path, plains, **said), run_proxy):
            pytest.fail("it must not start")
    assert len(caught.value.problems) == 2


@pytest.mark.parametrize(
    ("host", "path", "answers", "rest"),
    [
        (b"tams.test", b"/a/flows", "a", b"/flows"),
        (b"tams.test", b"/a", "a", b"/"),
        (b"tams.test", b"/a/b/flows", "b", b"/flows"),
        (b"tams.test", b"/a/b%2Fflows", "a", b"/b%2Fflows"),
        (b"tams.test", b"/ab/flows", "main", b"/ab/flows"),
        (b"tams.test", b"/%61/flows", "main", b"/%61/flows"),
        (b"tams.test", b"/A/flows", "main", b"/A/flows"),
        (b"tams.test", b"//a/flows", "main", b"//a/flows"),
        (b"Other.Test", b"/a/flows", "host", b"/a/flows"),
        (b"other.test.evil", b"/flows", "main", b"/flows"),
    ],
)
async def test_a_request_goes_to_the_mount_it_names(
    host: bytes, path: bytes, answers: str, rest: bytes
) -> None:
    seen: list[tuple[str, bytes]] = []

    def app(name: str) -> App:
        async def answer(scope: Any, receive: Any, send: Any) -> None:
            seen.append((name, scope["raw_path"]))

        return answer

    mounts = [
        Mount(app("a"), b"/a", None),
        Mount(app("b"), b"/a/b", None),
        Mount(app("host"), None, b"other.test"),
    ]

    async def nothing(*_: Any) -> Any:
        return None

    scope = {"type": "http", "raw_path": path, "headers": [(b"host", host)]}
    await Mounts(app("main"), mounts)(scope, nothing, nothing)
    assert seen == [(answers, rest)]
