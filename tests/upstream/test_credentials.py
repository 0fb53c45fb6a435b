"""The proxy's own token: fetched once, renewed early, shared."""

from __future__ import annotations

import asyncio
from collections.abc import Callable

import httpx
import pytest

from proxy.errors import BadUpstream, Unavailable
from proxy.upstream.credentials import ClientCredentials

TOKEN_URL = "https://issuer.example/token"


class Issuer:
    """A token endpoint. `answer` makes its answers; `asked` are the requests."""

    def __init__(self) -> None:
        self.asked: list[httpx.Request] = []
        self.now_s = 1000.0
        self.answer: Callable[[int], httpx.Response] = lambda n: httpx.Response(
            200, json={"access_token": f"t{n}", "token_type": "Bearer", "expires_in": 600}
        )

    def credential(self) -> ClientCredentials:
        http = httpx.AsyncClient(transport=httpx.MockTransport(self._handle))
        return ClientCredentials(http, TOKEN_URL, ("me", "se cret"), "tams-api/read", lambda: self.now_s)

    def _handle(self, request: httpx.Request) -> httpx.Response:
        self.asked.append(request)
        return self.answer(len(self.asked))


async def test_a_token_is_fetched_once_for_many() -> None:
    issuer = Issuer()
    credential = issuer.credential()
    proofs = await asyncio.gather(*(credential.proof() for _ in range(20)))
    assert {proof.authorization for proof in proofs} == {"Bearer t1"}
    (request,) = issuer.asked
    assert request.content == b"grant_type=client_credentials&scope=tams-api%2Fread"
    assert request.headers["authorization"].startswith("Basic ")


async def test_it_is_renewed_before_it_ends_and_used_to_its_end() -> None:
    issuer = Issuer()
    credential = issuer.credential()
    await credential.proof()
    issuer.now_s += 539
    assert (await credential.proof()).authorization == "Bearer t1"
    issuer.now_s += 2
    working, issuer.answer = issuer.answer, lambda n: httpx.Response(503)
    assert (await credential.proof()).authorization == "Bearer t1"
    issuer.now_s += 60
    with pytest.raises(Unavailable):
        await credential.proof()
    issuer.answer = working
    assert (await credential.proof()).authorization == f"Bearer t{len(issuer.asked)}"


async def test_a_refused_token_is_forgotten_but_not_a_newer_one() -> None:
    issuer = Issuer()
    credential = issuer.credential()
    old = await credential.proof()
    assert credential.refused(old)
    new = await credential.proof()
    assert new.authorization == "Bearer t2"
    credential.refused(old)
    assert await credential.proof() is new


@pytest.mark.parametrize(
    ("answer", "error"),
    [
        (httpx.Response(500), Unavailable),
        (httpx.Response(429), Unavailable),
        (httpx.Response(401), BadUpstream),
        (httpx.Response(302, headers={"location": "https://evil.example"}), BadUpstream),
        (httpx.Response(200, text="nonsense"), BadUpstream),
        (httpx.Response(200, json=[]), BadUpstream),
        (httpx.Response(200, json={"access_token": ""}), BadUpstream),
        (httpx.Response(200, json={"access_token": "a\r\nX: y"}), BadUpstream),
        (httpx.Response(200, json={"access_token": "é"}), BadUpstream),
        (httpx.Response(200, json={"access_token": "t", "token_type": "mac"}), BadUpstream),
        (httpx.Response(200, json={"access_token": "t", "expires_in": 0}), BadUpstream),
        (httpx.Response(200, json={"access_token": "t", "expires_in": "x"}), BadUpstream),
        (httpx.Response(200, content=b" " * 70_000), BadUpstream),
    ],
)
async def test_what_is_no_token_is_an_error(answer: httpx.Response, error: type[Exception]) -> None:
    issuer = Issuer()
    issuer.answer = lambda n: answer
    with pytest.raises(error):
        await issuer.credential().proof()
