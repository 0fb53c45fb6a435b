"""A small TAMS client that behaves as the BBC's example clients do.

OAuth2 client credentials, renewed once when a call is answered 401; `Content-Type: application/json` on
every call; pages by `Link`, on the configured origin only; media by signed URLs, sent with `Content-Type`
and without authorization.
"""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping
from types import TracebackType
from typing import Any, Self
from urllib.parse import quote, urlsplit

import httpx

from proxy.commands.token import fetch

SCOPES = ["tams-api/read", "tams-api/write", "tams-api/delete"]
TIMEOUT_S = 30


class Refused(Exception):
    """The server answered what ends the work. `status` is 0 where there was no answer to speak of."""

    def __init__(self, summary: str, status: int = 0) -> None:
        super().__init__(summary)
        self.status = status


class Client:
    """One client of a TAMS service. Failures to connect are `httpx.TransportError`.

    `client_id` names it; `expires_in_s` is what the token endpoint said last.
    """

    def __init__(
        self, url: str, client_id: str, secret: str, transport: httpx.BaseTransport | None = None
    ) -> None:
        self.url = url.rstrip("/")
        self.client_id = client_id
        self.expires_in_s = 0
        self._secret = secret
        self._token = ""
        self._transport = transport
        self._http = httpx.Client(timeout=TIMEOUT_S, transport=transport)

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, value: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._http.close()

    def login(self) -> None:
        """Get a token. Raises `Refused`."""
        try:
            answer = fetch(self.url, self.client_id, self._secret, SCOPES, self._transport)
        except ValueError as exc:
            raise Refused(str(exc)) from exc
        self._token, self.expires_in_s = answer["access_token"], answer["expires_in"]

    def call(
        self, method: str, path: str, body: object = None, query: Mapping[str, str] | None = None
    ) -> httpx.Response:
        """One call of the API; `path` starts with a slash, its pieces are percent-encoded already."""
        return self._call(method, self.url + path, body, query)

    def expect(self, status: int, method: str, path: str, body: object = None) -> Any:
        """A call that must be answered with this status; its JSON, None where there is none.

        Raises `Refused`.
        """
        return _checked(self.call(method, path, body), status)

    def listing(self, path: str, query: Mapping[str, str] | None = None) -> list[dict[str, Any]]:
        """All pages of a listing. Raises `Refused`, also for a next page that is elsewhere."""
        found: list[dict[str, Any]] = []
        answer = self.call("GET", path, query=query)
        while True:
            found += _checked(answer, 200)
            following = answer.links.get("next", {}).get("url")
            if following is None:
                return found
            following = str(answer.url.join(following))
            if _origin(following) != _origin(self.url):
                raise Refused(
                    f"the next page is at {_origin(following)}, not {_origin(self.url)}: use the server's URL"
                )
            answer = self._call("GET", following, None, None)

    def upload(self, place: Mapping[str, Any], data: bytes | Iterable[bytes], size: int) -> httpx.Response:
        """PUT an object to where the store said: `put_url`, with nothing but its content type."""
        headers = {"Content-Type": place["put_url"]["content-type"], "Content-Length": str(size)}
        return self._http.put(place["put_url"]["url"], content=data, headers=headers)

    def download(self, url: str) -> bytes:
        """GET an object by a signed URL. Raises `Refused`."""
        answer = self._http.get(url)
        if answer.status_code != 200:
            raise Refused(f"a download is answered {answer.status_code}", answer.status_code)
        return answer.content

    def _call(self, method: str, url: str, body: object, query: Mapping[str, str] | None) -> httpx.Response:
        if not self._token:
            self.login()
        answer = self._send(method, url, body, query)
        if answer.status_code == 401:
            self.login()
            answer = self._send(method, url, body, query)
        return answer

    def _send(self, method: str, url: str, body: object, query: Mapping[str, str] | None) -> httpx.Response:
        headers = {"Authorization": f"Bearer {self._token}", "Content-Type": "application/json"}
        content = None if body is None else json.dumps(body)
        return self._http.request(method, url, params=query, content=content, headers=headers)


def path(*pieces: str) -> str:
    """A path of the API from its pieces, each percent-encoded."""
    return "".join("/" + quote(piece, safe="") for piece in pieces)


def _checked(answer: httpx.Response, status: int) -> Any:
    if answer.status_code != status:
        request = answer.request
        raise Refused(
            f"{request.method} {request.url.path} is answered {answer.status_code}: {answer.text[:300]}",
            answer.status_code,
        )
    return answer.json() if answer.content else None


def _origin(url: str) -> str:
    parts = urlsplit(url)
    return f"{parts.scheme}://{parts.netloc}"
