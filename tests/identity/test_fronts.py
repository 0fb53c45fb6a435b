"""Whose failures to log in are counted behind a front; and how little a stranger can say about it."""

from __future__ import annotations

from ipaddress import ip_network

import httpx
import pytest
from starlette.applications import Starlette

from proxy.errors import TooManyRequests, Unauthenticated
from proxy.identity.authenticate import create
from proxy.identity.credentials import Credential
from proxy.identity.endpoint import routes
from proxy.identity.fronts import client_of
from proxy.identity.throttle import MAX_BY_PEER
from tests.identity.support import NOW_S, House

FRONTS = (ip_network("10.0.0.0/24"), ip_network("2001:db8::/32"))


@pytest.mark.parametrize(
    ("peer", "said", "client"),
    [
        ("10.0.0.5", "192.0.2.7", "192.0.2.7"),
        ("::ffff:10.0.0.5", "192.0.2.7", "192.0.2.7"),
        ("10.0.0.5", "198.51.100.1, 192.0.2.7", "192.0.2.7"),
        ("10.0.0.5", "192.0.2.7, 10.0.0.9", "192.0.2.7"),
        ("10.0.0.5", "192.0.2.7:4711", "192.0.2.7"),
        ("2001:db8::1", "[2001:470::7]:4711", "2001:470::7"),
        ("2001:db8::1", "2001:470::7", "2001:470::7"),
        ("10.0.0.5", "10.0.0.8, 10.0.0.9", "10.0.0.8"),
        ("10.0.0.5", "", "10.0.0.5"),
        ("10.0.0.5", "unknown", "10.0.0.5"),
        ("10.0.0.5", "192.0.2.7, unknown, 10.0.0.9", "10.0.0.9"),
        ("10.0.0.5", ", " * 5000, "10.0.0.5"),
        ("10.0.0.5", "é\xff", "10.0.0.5"),
        ("192.0.2.1", "198.51.100.1", "192.0.2.1"),
        ("", "198.51.100.1", ""),
        ("testclient", "198.51.100.1", "testclient"),
    ],
)
def test_the_last_address_that_is_no_fronts_is_the_callers(peer: str, said: str, client: str) -> None:
    assert client_of([(b"x-forwarded-for", said.encode("latin-1"))], peer, FRONTS) == client


def test_several_headers_are_one_list() -> None:
    headers = [(b"x-forwarded-for", b"198.51.100.1"), (b"x-forwarded-for", b"192.0.2.7, 10.0.0.9")]
    assert client_of(headers, "10.0.0.5", FRONTS) == "192.0.2.7"


def test_without_fronts_nobody_is_believed() -> None:
    assert client_of([(b"x-forwarded-for", b"192.0.2.7")], "10.0.0.5", ()) == "10.0.0.5"


def asks(secret: str) -> dict[str, str]:
    return {"grant_type": "client_credentials", "client_id": "newsroom", "client_secret": secret}


@pytest.mark.parametrize(("front", "others"), [("10.0.0.5", 200), ("10.0.1.5", 429)])
async def test_one_callers_guesses_stop_the_others_only_behind_a_front_that_nobody_trusts(
    house: House, client: httpx.AsyncClient, front: str, others: int
) -> None:
    local = create(house.config(fronts=FRONTS), client).local
    assert local is not None
    app = Starlette(routes=routes(local, clock=lambda: NOW_S))
    transport = httpx.ASGITransport(app=app, client=(front, 1))
    async with httpx.AsyncClient(transport=transport, base_url="http://t") as behind:

        async def status(address: str, secret: str) -> int:
            answer = await behind.post("/token", data=asks(secret), headers={"X-Forwarded-For": address})
            return answer.status_code

        guesses = [await status("192.0.2.66", f"wrong {number}") for number in range(11)]
        assert guesses[0] == 401 and guesses[-1] == 429
        assert await status("192.0.2.66", house.secrets["newsroom"]) == 429
        assert await status("192.0.2.7", house.secrets["newsroom"]) == others


async def test_a_stranger_cannot_take_another_address_for_each_guess(
    house: House, client: httpx.AsyncClient
) -> None:
    who = create(house.config(fronts=FRONTS), client)
    wrong = Credential("basic", "bmV3c3Jvb206d3Jvbmc=")  # newsroom:wrong
    failures: list[type[Exception]] = []
    for number in range(MAX_BY_PEER):
        headers = [(b"x-forwarded-for", f"203.0.113.{number}, 192.0.2.66".encode())]
        peer = who.client_address(headers, "10.0.0.5")
        with pytest.raises((Unauthenticated, TooManyRequests)) as failed:
            await who.authenticate(wrong, peer, NOW_S)
        failures.append(failed.type)
    assert failures[-1] is TooManyRequests
