"""What is read and asked over a network: how often, which bytes, and what is said when it fails."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import httpx
import pytest

from store.client.protocol import Policy
from store.client.tams import Client, ClientCredentials, Fixed, Refused
from store.tools import ingest
from store.tools.connection import access
from store.tools.errors import ToolError, Unreadable
from store.tools.pieces import Reader, feeds
from store.tools.playlist import Part

URL = "https://media.test/a.ts"
Reply = httpx.Response | httpx.TransportError


class Script:
    """Prepared answers; what was asked, and how long it was waited."""

    def __init__(self, *replies: Reply) -> None:
        self._replies = list(replies)
        self.asked: list[httpx.Request] = []
        self.waits: list[float] = []

    def __call__(self, request: httpx.Request) -> httpx.Response:
        self.asked.append(request)
        reply = self._replies.pop(0)
        if isinstance(reply, httpx.TransportError):
            raise reply
        return reply

    @property
    def transport(self) -> httpx.MockTransport:
        return httpx.MockTransport(self)

    def reader(self) -> Reader:
        return Reader(httpx.Client(transport=self.transport), Policy(2, 1), self.waits.append)

    def client(self) -> Client:
        return Client("https://tams.test", Fixed("Bearer t"), self.transport, Policy(2, 1), self.waits.append)


BUSY = httpx.Response(503, headers={"Retry-After": "7"})


def test_a_busy_server_is_asked_again_when_it_says() -> None:
    script = Script(BUSY, httpx.ConnectError("no"), httpx.Response(200, content=b"media"))
    assert script.reader().content(Part(URL)) == b"media"
    assert script.waits == [7, 2]


@pytest.mark.parametrize(
    ("replies", "says"),
    [
        ([httpx.Response(404)], "is answered 404"),
        ([BUSY, BUSY, BUSY], "is answered 503"),
        ([httpx.ConnectError("no")] * 3, "cannot be reached"),
    ],
)
def test_what_cannot_be_read_is_said(replies: list[Reply], says: str) -> None:
    with pytest.raises(ToolError, match=says):
        Script(*replies).reader().content(Part(URL))


@pytest.mark.parametrize("status", [200, 206])
def test_bytes_of_a_file_are_those_that_were_asked_for(status: int) -> None:
    content = b"0123456789" if status == 200 else b"234"
    script = Script(httpx.Response(status, content=content))
    assert script.reader().content(Part(URL, (2, 5))) == b"234"
    assert script.asked[0].headers["range"] == "bytes=2-4"


def test_a_file_that_is_too_short_is_said(tmp_path: Path) -> None:
    (tmp_path / "a.ts").write_bytes(b"0123")
    with pytest.raises(Unreadable, match="shorter"):
        Script().reader().content(Part(str(tmp_path / "a.ts"), (2, 9)))
    with pytest.raises(Unreadable, match="shorter"):
        Script(httpx.Response(206, content=b"1")).reader().content(Part(URL, (2, 9)))


def test_an_init_segment_is_read_once() -> None:
    script = Script(httpx.Response(200, content=b"init"))
    reader = script.reader()
    assert [reader.init(Part(URL)) for _ in range(3)] == [b"init"] * 3
    assert len(script.asked) == 1


HEAD = "#EXTM3U\n#EXT-X-TARGETDURATION:4\n"
LIST = "https://media.test/index.m3u8"


def followed(*playlists: str) -> tuple[Script, Iterator[str]]:
    """The names of a live playlist's pieces, as it is read again and again."""
    replies = []
    for number, text in enumerate(playlists):
        replies.append(httpx.Response(200, text=HEAD + text))
        before = set() if number == 0 else set(playlists[number - 1].split())
        fresh = [line for line in text.split() if not line.startswith("#") and line not in before]
        replies += [httpx.Response(200, content=b"x")] * len(fresh)
    script = Script(*replies)

    def names() -> Iterator[str]:
        with feeds(LIST, script.reader(), live=True, container="auto", seconds=2, whole=False) as (feed,):
            for piece in feed.pieces():
                yield piece.name.split()[0]

    return script, names()


def test_a_window_that_moves_is_followed() -> None:
    script, names = followed(
        "a.ts\nb.ts", "#EXT-X-MEDIA-SEQUENCE:1\nb.ts\nc.ts", "#EXT-X-MEDIA-SEQUENCE:2\nc.ts\n#EXT-X-ENDLIST"
    )
    assert list(names) == ["a.ts", "b.ts", "c.ts"]
    assert script.waits == [4, 4]


def test_segments_that_were_missed_are_said() -> None:
    _, names = followed("a.ts", "#EXT-X-MEDIA-SEQUENCE:5\nf.ts")
    with pytest.raises(ToolError, match="segments 1 to 4 were gone"):
        list(names)


def test_a_playlist_that_stands_still_is_left() -> None:
    _, names = followed(*["a.ts"] * 20)
    with pytest.raises(ToolError, match="has not grown"):
        list(names)


def test_calls_of_the_api_are_repeated_and_refusals_are_not() -> None:
    script = Script(BUSY, httpx.Response(200, json=[]))
    with script.client() as client:
        assert client.listing("/flows") == []
    assert script.waits == [7]
    refused = Script(httpx.Response(403, json={"summary": "Not you."}))
    with refused.client() as client, pytest.raises(Refused, match=r"GET /flows is answered 403: Not you\."):
        client.listing("/flows")
    assert refused.waits == []


def test_a_given_token_is_not_renewed() -> None:
    script = Script(httpx.Response(401, json={"summary": "Token expired"}))
    with script.client() as client, pytest.raises(Refused) as caught:
        client.expect(200, "GET", "/flows")
    assert caught.value.status == 401
    assert script.asked[0].headers["authorization"] == "Bearer t"


@pytest.mark.parametrize(
    ("given", "header"),
    [
        ({"user": "me", "password": "p:w"}, "Basic bWU6cDp3"),
        ({"token": "abc"}, "Bearer abc"),
        ({}, ""),
    ],
)
def test_who_calls_is_said_as_the_options_have_it(given: dict[str, str], header: str) -> None:
    names = ("client_id", "secret", "token_url", "scope", "user", "password", "token")
    assert access("https://tams.test", **{name: given.get(name) for name in names}).header() == header


def test_client_credentials_ask_where_they_are_told_to() -> None:
    script = Script(httpx.Response(200, json={"access_token": "t", "expires_in": 9}))
    found = ClientCredentials("https://id.test", "me", "s", ["a", "b"], script.transport)
    assert (found.header(), found.expires_in_s) == ("Bearer t", 9)
    assert str(script.asked[0].url) == "https://id.test/token"
    assert b"scope=a+b" in script.asked[0].content


def test_an_input_is_known_again_by_where_or_what_it_is(tmp_path: Path) -> None:
    one, other = tmp_path / "a.mp4", tmp_path / "b.mp4"
    one.write_bytes(b"x" * 10)
    other.write_bytes(b"x" * 10)
    assert ingest.fingerprint(str(one)) == ingest.fingerprint(str(other))
    other.write_bytes(b"y" * 10)
    assert ingest.fingerprint(str(one)) != ingest.fingerprint(str(other))
    assert ingest.fingerprint(LIST + "?signature=1") == ingest.fingerprint(LIST)
    assert ingest.fingerprint(LIST) != ingest.fingerprint(LIST.replace("index", "other"))
