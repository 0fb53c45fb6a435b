"""Who may push, pull and name streams, through the proxy and on the wire."""

from __future__ import annotations

import asyncio
import base64
import json
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from websockets.asyncio.client import connect

from proxy.streams import STREAM_RULES
from store.streams import sockets
from store.streams.doors import PATHS
from store.streams.flows import flow_id_of
from tests.proxy.support import CLIENTS, Proxy, running, write_policy
from tests.streams.support import Wire, closed, served, soon, taken, taken_all

CLASSES = """
classes:
  v: {label: V, description: Victims, default_for: {clients: [victim], groups: []}, key_prefixes: []}
  a: {label: A, description: Others, default_for: {clients: [attacker], groups: []}, key_prefixes: []}
  t: {label: T, description: Tests, default_for: {clients: [owner], groups: []}, key_prefixes: []}
"""


@asynccontextmanager
async def world(folder: Path) -> AsyncIterator[tuple[Proxy, str]]:
    """A proxy, and where it is."""

    write_policy(folder / "policies", classes=CLASSES)
    async with running(folder) as proxy, served(proxy.app) as address:
        yield proxy, address


@pytest.fixture
async def house(tmp_path: Path) -> AsyncIterator[tuple[Proxy, str]]:
    async with world(tmp_path) as found:
        yield found


async def wire_of(house: tuple[Proxy, str], who: str, prefix: str = "") -> Wire:
    proxy, address = house
    return Wire(address, {"authorization": f"Bearer {await proxy.token(who)}"}, prefix)


async def shared(house: tuple[Proxy, str]) -> list[str]:
    """A stream of class t with an entry, which the owner made."""
    owner = await wire_of(house, "owner")
    return await owner.pushed("s", b"x")


def test_every_operation_has_one_row_and_every_row_an_operation() -> None:
    operations = {operation for methods in PATHS.values() for operation in methods.values()}
    assert operations == set(STREAM_RULES)
    assert all(rule.operation == name for name, rule in STREAM_RULES.items())
    assert {name for name, rule in STREAM_RULES.items() if not rule.scopes} == {"GET_ping"}


HTTP = [
    ("GET", "/streams", {}),
    ("GET", "/streams/s", {}),
    ("PUT", "/streams/s", {}),
    ("DELETE", "/streams/s", {}),
    ("GET", "/data/s", {}),
    ("POST", "/data/s", {}),
    ("GET", "/nothing", {}),
]


@pytest.mark.parametrize("prefix", ["", "/ptg"])
async def test_nobody_gets_nothing(house: tuple[Proxy, str], prefix: str) -> None:
    await shared(house)
    nobody = Wire(house[1], prefix=prefix)
    for method, path, more in HTTP:
        if prefix or path != "/nothing":
            answer = await nobody.http(method, path, **more)
            assert answer.status_code == 401 and answer.headers["www-authenticate"], (method, path)
            assert answer.json() == {"detail": "Not authenticated"}
    for way in ("push", "pull"):
        assert await nobody.refused(f"/data/s/{way}") == (401, {"detail": "Not authenticated"})
    assert await nobody.made("GET", "/ping") is True
    wrong = Wire(house[1], {"authorization": "Bearer nonsense"}, prefix)
    assert (await wrong.refused("/data/s/pull"))[0] == 401


@pytest.mark.parametrize(
    ("method", "path"),
    [
        ("GET", "/streams/{}"),
        ("GET", "/data/{}"),
        ("GET", "/data/{}?count=9&last_entry_id=0"),
        ("DELETE", "/streams/{}"),
    ],
)
@pytest.mark.parametrize("prefix", ["", "/ptg"])
async def test_another_teams_stream_is_as_absent(
    house: tuple[Proxy, str], method: str, path: str, prefix: str
) -> None:
    await (await wire_of(house, "victim")).pushed("secret", b"x")
    attacker = await wire_of(house, "attacker", prefix)
    hidden = await attacker.http(method, path.format("secret"))
    absent = await attacker.http(method, path.format("absent"))
    assert hidden.status_code == absent.status_code == 404
    assert hidden.content == absent.content

    def plain(headers: Any) -> dict[str, str]:
        return {name: value for name, value in headers.items() if name not in ("date", "x-request-id")}

    assert plain(hidden.headers) == plain(absent.headers)
    assert await attacker.refused("/data/secret/pull") == await attacker.refused("/data/absent/pull")
    assert await attacker.made("GET", "/streams") == []


async def test_another_teams_stream_takes_nothing(house: tuple[Proxy, str]) -> None:
    victim, attacker = await wire_of(house, "victim"), await wire_of(house, "attacker")
    ids = await victim.pushed("secret", b"x")
    assert (await attacker.refused("/data/secret/push"))[0] == 404
    assert (await attacker.http("POST", "/data/secret", files=[("a", b"y")])).status_code == 404
    assert (await attacker.http("PUT", "/streams/secret?override=true")).status_code == 404
    assert (await attacker.http("DELETE", "/streams/secret?force=true")).status_code == 200
    answer = await victim.http("GET", "/data/secret?count=9&last_entry_id=0")
    assert json.loads(answer.headers["entry-offset"]) == [[ids[0], 0]]


@pytest.mark.parametrize(
    ("who", "pull", "push", "delete"),
    [
        ("reader", 101, 403, 403),
        ("writer", 403, 101, 403),
        ("deleter", 403, 403, 200),
        ("editor", 101, 101, 403),
        ("owner", 101, 101, 200),
        ("admin", 101, 101, 200),
        ("nobody", 404, 403, 404),
        ("reading", 101, 403, 403),
        ("writing", 403, 101, 403),
        ("deleting", 403, 403, 200),
    ],
)
async def test_each_permission_opens_its_door(
    house: tuple[Proxy, str], who: str, pull: int, push: int, delete: int
) -> None:
    await shared(house)
    wire = await wire_of(house, who)
    for way, status in (("pull", pull), ("push", push)):
        if status == 101:
            async with wire.socket(f"/data/s/{way}"):
                continue
        found, body = await wire.refused(f"/data/s/{way}")
        # Who has no permission at all is told of no stream, and may make none.
        assert found in {status, 404 if who == "nobody" else status} and body["detail"]
    status = (await wire.http("GET", "/data/s")).status_code
    assert status == (200 if pull == 101 else pull)
    assert (await wire.http("DELETE", "/streams/s")).status_code == delete


async def test_only_who_may_make_flows_makes_streams(house: tuple[Proxy, str]) -> None:
    reader = await wire_of(house, "reader")
    for answer in (
        await reader.http("PUT", "/streams/new"),
        await reader.http("POST", "/data/new", files=[("a", b"y")]),
    ):
        assert answer.status_code == 403
    assert (await reader.refused("/data/new/push"))[0] == 403
    assert await (await wire_of(house, "admin")).made("GET", "/streams") == []


async def test_a_new_stream_has_its_makers_class(house: tuple[Proxy, str]) -> None:
    victim = await wire_of(house, "victim")
    await victim.pushed("mine", b"x")
    flow = await victim.made("GET", f"/flows/{flow_id_of('mine')}")
    assert flow["tags"]["auth_classes"] == ["v"]
    await victim.made("PUT", "/streams/mine?override=true&desc=new")
    flow = await victim.made("GET", f"/flows/{flow_id_of('mine')}")
    assert flow["tags"]["auth_classes"] == ["v"] and flow["description"] == "new"


async def test_of_several_streams_each_is_decided(house: tuple[Proxy, str]) -> None:
    await (await wire_of(house, "victim")).pushed("secret", b"x")
    attacker = await wire_of(house, "attacker", "/ptg")
    await attacker.pushed("own", b"x")
    assert await attacker.refused("/data/own+secret/pull") == await attacker.refused("/data/own+absent/pull")
    assert (await attacker.http("GET", "/data/own+secret")).status_code == 404
    async with attacker.socket("/data/*/push?batch=true") as push:
        await push.send('[["secret",1]]')
        await push.send(b"x")
        hidden = await closed(push)
    async with attacker.socket("/data/*/push?batch=true") as push:
        await push.send('[["absent",1]]')
        await push.send(b"x")
        assert await closed(push) == hidden


@pytest.mark.parametrize("way", ["pull", "push"])
async def test_a_revocation_closes_sockets(
    house: tuple[Proxy, str], way: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(sockets, "RECHECK_S", 0.05)
    await shared(house)
    editor, owner = await wire_of(house, "editor"), await wire_of(house, "owner")
    async with editor.socket(f"/data/s/{way}") as socket, owner.socket(f"/data/s/{way}") as other:
        clients = {**CLIENTS, "editor": replace(CLIENTS["editor"], grants=())}
        await house[0].change_policy(clients, lambda: None)
        assert (await closed(socket))[0] == 1008
        await asyncio.wait_for(await other.ping(), 20)


def test_sockets_are_asked_about_often_enough() -> None:
    """A snapshot of permissions is at most 7 s old, and a revocation is to be felt within 10 s."""
    assert sockets.RECHECK_S + 7 < 10


async def test_a_class_that_is_taken_away_closes_sockets(
    house: tuple[Proxy, str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(sockets, "RECHECK_S", 0.05)
    await shared(house)
    reader, admin = await wire_of(house, "reader"), await wire_of(house, "admin")
    async with reader.socket("/data/s/pull") as pull:
        path = f"/flows/{flow_id_of('s')}/tags/auth_classes"
        assert (await admin.http("PUT", path, json=["v"])).status_code == 204
        assert await closed(pull) == (1008, "No such stream.")


async def test_web_pages_of_others_may_not_connect(house: tuple[Proxy, str]) -> None:
    await shared(house)
    wire = await wire_of(house, "owner")
    evil = replace(wire, headers={**wire.headers, "origin": "https://evil.example"})
    for way in ("push", "pull"):
        assert (await evil.refused(f"/data/s/{way}"))[0] == 403
    assert (await replace(evil, prefix="/ptg").http("GET", "/streams")).status_code == 403
    ours = replace(wire, headers={**wire.headers, "origin": "http://tams.test"})
    async with ours.socket("/data/s/pull"):
        pass


async def test_the_later_wire_takes_a_cookie_over_http_alone(house: tuple[Proxy, str]) -> None:
    await shared(house)
    proxy, address = house
    form = {"username": "owner", "password": proxy.secrets["owner"]}
    plain = Wire(address)
    answer = await plain.http("POST", "/ptg/token", data=form)
    granted = answer.json()
    cookie = answer.headers["set-cookie"]
    assert granted["token_type"] == "bearer" and granted["expires_in"] > 0
    assert cookie.startswith(f'authorization="Bearer {granted["access_token"]}"; Path=/ptg; ')
    assert {"HttpOnly", "SameSite=Strict"} <= {piece.strip() for piece in cookie.split(";")}
    claims = json.loads(base64.b64decode(granted["access_token"].split(".")[1] + "==", validate=True))
    assert claims["exp"] > 0
    by_cookie = Wire(address, {"cookie": cookie.split(";")[0]}, "/ptg")
    assert await by_cookie.made("GET", "/streams") == ["s"]
    assert (await by_cookie.refused("/data/s/pull"))[0] == 401
    assert (await replace(by_cookie, prefix="").http("GET", "/streams")).status_code == 401
    assert (await plain.http("POST", "/ptg/token", data={**form, "password": "x"})).status_code in (400, 401)
    evil = {"origin": "https://evil.example"}
    assert "set-cookie" not in (await plain.http("POST", "/ptg/token", data=form, headers=evil)).headers
    same = {"username": "owner", "password": "owner"}
    assert (await plain.http("POST", "/token", data=same)).json()["detail"]


async def test_the_later_wire_takes_a_token_in_the_url_of_a_socket(house: tuple[Proxy, str]) -> None:
    ids = await shared(house)
    proxy, address = house
    token = await proxy.token("owner")
    plain = Wire(address, prefix="/ptg")
    async with plain.socket(f"/data/s/pull?token={token}&last_entry_id=0") as pull:
        assert await taken(pull) == [("s", ids[0], b"x")]
    async with plain.socket(f"/data/s/pull?token=Bearer%20{token}&last_entry_id=0") as pull:
        assert await taken_all(pull, 1)
    assert (await plain.http("GET", f"/data/s?token={token}")).status_code == 401
    assert (await replace(plain, prefix="").refused(f"/data/s/pull?token={token}"))[0] == 401
    twice = replace(plain, headers={"authorization": f"Bearer {token}"})
    assert (await twice.refused(f"/data/s/pull?token={token}"))[0] == 400
    assert (await plain.refused("/data/s/pull?token=nonsense"))[0] == 401


async def test_streams_count_towards_a_callers_rate(tmp_path: Path) -> None:
    write_policy(tmp_path / "policies", classes=CLASSES)
    limits = {"rate_per_s": 0.01, "burst": 3}
    async with running(tmp_path, limits=limits) as proxy, served(proxy.app) as address:
        owner = Wire(address, {"authorization": f"Bearer {await proxy.token('owner')}"})
        assert [(await owner.http("GET", "/streams")).status_code for _ in range(3)] == [200] * 3
        answer = await owner.http("GET", "/streams")
        assert answer.status_code == 429 and int(answer.headers["retry-after"]) > 0
        assert (await owner.refused("/data/s/pull"))[0] == 429


async def test_recordings_are_their_makers(house: tuple[Proxy, str]) -> None:
    victim, attacker = await wire_of(house, "victim", "/ptg"), await wire_of(house, "attacker", "/ptg")
    await victim.made("PUT", "/recordings/start?rec_id=take")
    await victim.pushed("secret", b"x")
    await attacker.pushed("own", b"y")
    done = await victim.made("PUT", "/recordings/stop")
    assert done["streams"] == ["secret"]
    assert await attacker.made("GET", "/recordings") == []
    assert (await attacker.http("GET", "/recordings/take")).status_code == 404
    assert (await attacker.http("DELETE", "/recordings/take")).status_code == 404
    assert (await attacker.http("PUT", "/recordings/take/rename/mine")).status_code == 404
    assert (await attacker.refused("/recordings/replay?rec_id=take"))[0] == 404
    async with victim.socket("/recordings/replay?rec_id=take&fullspeed=true") as replayed:
        assert [data for _, _, data in await taken_all(replayed, 1)] == [b"x"]


async def test_no_token_is_written_down(house: tuple[Proxy, str], caplog: pytest.LogCaptureFixture) -> None:
    await shared(house)
    proxy, address = house
    token = await proxy.token("owner")
    async with connect(f"ws://{address}/ptg/data/s/pull?token={token}") as socket:
        await soon(await socket.ping())
    assert token not in caplog.text
