"""The demo's client behaves as the BBC's example clients do."""

from __future__ import annotations

from collections.abc import Callable
from urllib.parse import parse_qs

import httpx
import pytest

from proxy.demo.client import Client, Refused, path

URL = "https://tams.example.org"
Answer = Callable[[httpx.Request], httpx.Response]


class Service:
    """A service that gives numbered tokens and keeps what it was asked."""

    def __init__(self, answer: Answer) -> None:
        self._answer = answer
        self.tokens = 0
        self.asked: list[httpx.Request] = []

    def __call__(self, request: httpx.Request) -> httpx.Response:
        if request.url.path == "/token":
            self.tokens += 1
            return httpx.Response(200, json={"access_token": f"t{self.tokens}", "expires_in": 60})
        self.asked.append(request)
        return self._answer(request)

    def client(self) -> Client:
        return Client(URL + "/", "newsroom", "secret", httpx.MockTransport(self))


def test_it_logs_in_when_it_first_calls_and_says_json_even_on_get() -> None:
    service = Service(lambda _: httpx.Response(200, json={}))
    with service.client() as client:
        client.call("GET", "/service")
        client.call("GET", "/flows")
    assert service.tokens == 1
    assert client.expires_in_s == 60
    for request in service.asked:
        assert request.headers["content-type"] == "application/json"
        assert request.headers["authorization"] == "Bearer t1"


def test_a_token_is_renewed_once_when_it_is_refused() -> None:
    def answer(request: httpx.Request) -> httpx.Response:
        return httpx.Response(200 if request.headers["authorization"] == "Bearer t2" else 401)

    service = Service(answer)
    with service.client() as client:
        assert client.call("PUT", "/flows/f/label", "new").status_code == 200
    assert [request.content for request in service.asked] == [b'"new"', b'"new"']

    hopeless = Service(lambda _: httpx.Response(401))
    with hopeless.client() as client:
        assert client.call("GET", "/flows").status_code == 401
    assert (hopeless.tokens, len(hopeless.asked)) == (2, 2)


def test_the_scopes_of_the_api_are_asked_for_by_basic() -> None:
    seen: list[httpx.Request] = []

    def answer(request: httpx.Request) -> httpx.Response:
        seen.append(request)
        return httpx.Response(200, json={"access_token": "t", "expires_in": 60})

    with Client(URL, "newsroom", "secret", httpx.MockTransport(answer)) as client:
        client.login()
    form = parse_qs(seen[0].content.decode())
    assert form["scope"] == ["tams-api/read tams-api/write tams-api/delete"]
    assert seen[0].headers["authorization"].startswith("Basic ")


def test_a_refused_login_ends_the_work() -> None:
    transport = httpx.MockTransport(lambda _: httpx.Response(401, json={"error": "invalid_client"}))
    with (
        Client(URL, "newsroom", "wrong", transport) as client,
        pytest.raises(Refused, match="invalid_client"),
    ):
        client.login()


def test_pages_are_followed_by_their_links() -> None:
    def answer(request: httpx.Request) -> httpx.Response:
        page = int(request.url.params.get("page", "1"))
        following = {"Link": f'<{URL}/flows?page={page + 1}>; rel="next"'} if page < 3 else {}
        return httpx.Response(200, json=[{"id": page}], headers=following)

    with Service(answer).client() as client:
        assert [item["id"] for item in client.listing("/flows", {"limit": "1"})] == [1, 2, 3]


@pytest.mark.parametrize("elsewhere", ["https://evil.example.org/flows", "http://tams.example.org/flows"])
def test_a_link_to_another_origin_is_not_followed(elsewhere: str) -> None:
    service = Service(lambda _: httpx.Response(200, json=[], headers={"Link": f'<{elsewhere}>; rel="next"'}))
    with service.client() as client, pytest.raises(Refused, match="server's URL"):
        client.listing("/flows")
    assert len(service.asked) == 1


def test_an_upload_says_its_type_and_nothing_of_who_it_is() -> None:
    service = Service(lambda _: httpx.Response(200))
    place = {"put_url": {"url": "https://media.example.org/o?signature=x", "content-type": "video/mp2t"}}
    with service.client() as client:
        client.login()
        client.upload(place, iter([b"ab", b"c"]), 3)
    (request,) = service.asked
    assert request.headers["content-type"] == "video/mp2t"
    assert request.headers["content-length"] == "3"
    assert "authorization" not in request.headers
    assert request.url == place["put_url"]["url"]


def test_a_download_carries_no_token_and_must_be_given() -> None:
    service = Service(lambda request: httpx.Response(200 if request.url.path == "/there" else 403, text="x"))
    with service.client() as client:
        client.login()
        assert client.download("https://media.example.org/there") == b"x"
        with pytest.raises(Refused) as caught:
            client.download("https://media.example.org/expired")
    assert caught.value.status == 403
    assert all("authorization" not in request.headers for request in service.asked)


def test_an_unexpected_status_is_told_with_what_was_asked() -> None:
    with (
        Service(lambda _: httpx.Response(400, text="no")).client() as client,
        pytest.raises(Refused, match=r"PUT /flows/f is answered 400: no"),
    ):
        client.expect(201, "PUT", "/flows/f", {})


def test_pieces_of_a_path_are_encoded_each() -> None:
    assert path("objects", "a/b %") == "/objects/a%2Fb%20%25"
