"""A client of a TAMS service, as the BBC's example clients are: what the tools and the demo are made of.

`Content-Type: application/json` on every call; pages by `Link`, on the configured origin only; media by
signed URLs, sent with `Content-Type` and without authorization; access renewed once when a call is
answered 401; calls repeated, after as long as `Retry-After` says, where the server is busy.
"""

from __future__ import annotations

import json
import threading
import time
from base64 import b64encode
from collections.abc import Callable, Iterable, Iterator, Mapping
from types import TracebackType
from typing import Any, BinaryIO, Protocol, Self
from urllib.parse import quote, quote_plus, urlsplit

import httpx

from store.client.protocol import CHUNK_BYTES, REPEATABLE, Policy

SCOPES = ("tams-api/read", "tams-api/write", "tams-api/delete")
TIMEOUT_S = 30
TOKEN_TIMEOUT_S = 10
ONCE = Policy(0, 0)
Query = Mapping[str, str]


class Refused(Exception):
    """The server answered what ends the work. `status` is 0 where there was no answer to speak of."""

    def __init__(self, summary: str, status: int = 0) -> None:
        super().__init__(summary)
        self.status = status


class Access(Protocol):
    """What says who calls. `name`: the caller's, where that is known."""

    @property
    def name(self) -> str: ...

    def header(self) -> str:
        """`Authorization` of a call; empty for none. Raises `Refused` when it cannot be got."""

    def renew(self, refused: str) -> bool:
        """Get another one after this one was refused; whether there is one. Raises `Refused`."""


class Fixed:
    """One `Authorization` for good: a token that was given, or HTTP Basic."""

    def __init__(self, header: str, name: str = "") -> None:
        self._header = header
        self.name = name

    @classmethod
    def basic(cls, user: str, password: str) -> Fixed:
        """HTTP Basic (RFC 7617)."""
        return cls("Basic " + b64encode(f"{user}:{password}".encode()).decode(), user)

    def header(self) -> str:
        """See `Access`."""
        return self._header

    def renew(self, refused: str) -> bool:
        """There is no other."""
        return False


class ClientCredentials:
    """OAuth2 client credentials (RFC 6749 4.4), by Basic. `expires_in_s` is what was said last."""

    def __init__(
        self,
        url: str,
        client_id: str,
        secret: str,
        scopes: Iterable[str] = SCOPES,
        transport: httpx.BaseTransport | None = None,
    ) -> None:
        self._arguments = (url, client_id, secret, list(scopes), transport)
        self._header = ""
        self._lock = threading.Lock()
        self.name = client_id
        self.expires_in_s = 0

    def login(self) -> None:
        """Get a token. Raises `Refused`."""
        try:
            answer = fetch(*self._arguments)
        except ValueError as exc:
            raise Refused(str(exc)) from exc
        self._header, self.expires_in_s = f"Bearer {answer['access_token']}", answer.get("expires_in", 0)

    def header(self) -> str:
        """See `Access`."""
        self.renew("")
        return self._header

    def renew(self, refused: str) -> bool:
        """See `Access`. Of threads that were refused together, one asks for the new token."""
        with self._lock:
            if self._header == refused:
                self.login()
        return True


class Client:
    """One client of a TAMS service, for several threads. Failures to connect are `httpx.TransportError`.

    `name`: who calls, where that is known.
    """

    def __init__(
        self,
        url: str,
        access: Access,
        transport: httpx.BaseTransport | None = None,
        policy: Policy = ONCE,
        sleep: Callable[[float], None] = time.sleep,
    ) -> None:
        self.url = url.rstrip("/")
        self.name = access.name
        self._access = access
        self._policy = policy
        self._sleep = sleep
        self._http = httpx.Client(timeout=TIMEOUT_S, transport=transport)

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, value: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._http.close()

    def call(self, method: str, path: str, body: object = None, query: Query | None = None) -> httpx.Response:
        """One call of the API; `path` starts with a slash, its pieces are percent-encoded already."""
        return self._call(method, self.url + path, body, query)

    def expect(
        self, status: int, method: str, path: str, body: object = None, query: Query | None = None
    ) -> Any:
        """A call that must be answered with this status; its JSON, None where there is none.

        Raises `Refused`.
        """
        return _checked(self.call(method, path, body, query), status)

    def listing(self, path: str, query: Query | None = None) -> list[dict[str, Any]]:
        """All pages of a listing. See `pages`."""
        return [item for page in self.pages(path, query) for item in page]

    def pages(self, path: str, query: Query | None = None) -> Iterator[list[dict[str, Any]]]:
        """The pages of a listing, each asked for when it is wanted.

        Raises `Refused`, also for a next page that is elsewhere.
        """
        answer = self.call("GET", path, query=query)
        while True:
            yield list(_checked(answer, 200))
            following = answer.links.get("next", {}).get("url")
            if following is None:
                return
            following = str(answer.url.join(following))
            if _origin(following) != _origin(self.url):
                raise Refused(
                    f"the next page is at {_origin(following)}, not {_origin(self.url)}: use the server's URL"
                )
            answer = self._call("GET", following, None, None)

    def upload(self, place: Mapping[str, Any], data: bytes | Iterable[bytes], size: int) -> httpx.Response:
        """PUT an object to where the store said: `put_url`, with nothing but its content type.

        Bytes are sent again where the store is busy, what comes piece by piece is sent once.
        """
        headers = {"Content-Type": place["put_url"]["content-type"], "Content-Length": str(size)}
        policy = self._policy if isinstance(data, bytes) else ONCE
        url = place["put_url"]["url"]
        return self._repeated(lambda: self._http.put(url, content=data, headers=headers), policy)

    def download(self, url: str) -> bytes:
        """GET an object by a signed URL. Raises `Refused`."""
        answer = self._repeated(lambda: self._http.get(url), self._policy)
        _given(answer)
        return answer.content

    def save(self, url: str, file: BinaryIO) -> None:
        """GET an object by a signed URL into an empty file. Raises `Refused`."""

        def attempt() -> httpx.Response:
            file.seek(0)
            file.truncate()
            with self._http.stream("GET", url) as answer:
                if answer.is_success:
                    for chunk in answer.iter_bytes(CHUNK_BYTES):
                        file.write(chunk)
            return answer

        _given(self._repeated(attempt, self._policy))

    def _call(self, method: str, url: str, body: object, query: Query | None) -> httpx.Response:
        header = self._access.header()
        answer = self._send(method, url, body, query, header)
        if answer.status_code == 401 and self._access.renew(header):
            answer = self._send(method, url, body, query, self._access.header())
        return answer

    def _send(self, method: str, url: str, body: object, query: Query | None, header: str) -> httpx.Response:
        headers = {"Content-Type": "application/json"} | ({"Authorization": header} if header else {})
        content = None if body is None else json.dumps(body)
        return self._repeated(
            lambda: self._http.request(method, url, params=query, content=content, headers=headers),
            self._policy,
        )

    def _repeated(self, attempt: Callable[[], httpx.Response], policy: Policy) -> httpx.Response:
        for number in range(policy.retries):
            try:
                answer = attempt()
            except httpx.TransportError:
                self._sleep(policy.wait_s(number, {}))
                continue
            if answer.status_code not in REPEATABLE:
                return answer
            self._sleep(policy.wait_s(number, answer.headers))
        return attempt()


def path(*pieces: str) -> str:
    """A path of the API from its pieces, each percent-encoded."""
    return "".join("/" + quote(piece, safe="") for piece in pieces)


def fetch(
    url: str, client_id: str, secret: str, scopes: list[str], transport: httpx.BaseTransport | None = None
) -> dict[str, Any]:
    """The answer of the token endpoint (RFC 6749 4.4). ValueError when it refuses or is not there."""
    form = {"grant_type": "client_credentials"} | ({"scope": " ".join(scopes)} if scopes else {})
    auth = httpx.BasicAuth(quote_plus(client_id), quote_plus(secret))
    try:
        with httpx.Client(transport=transport, timeout=TOKEN_TIMEOUT_S) as client:
            response = client.post(url.rstrip("/") + "/token", data=form, auth=auth)
    except (httpx.HTTPError, httpx.InvalidURL) as exc:
        raise ValueError(f"{url} cannot be reached: {exc}") from exc
    try:
        body = response.json()
    except ValueError as exc:
        raise ValueError(f"{url} answers {response.status_code}, and not with JSON") from exc
    if response.status_code != 200 or not isinstance(body, dict) or "access_token" not in body:
        reason = body.get("detail", body) if isinstance(body, dict) else body
        raise ValueError(f"{url} refuses a token ({response.status_code}): {reason}")
    return body


def said(answer: httpx.Response) -> str:
    """What an answer that refuses says: the summary of an error of TAMS, else the beginning of its text."""
    try:
        return str(answer.json()["summary"])
    except (ValueError, KeyError, TypeError):
        return answer.text[:300]


def _checked(answer: httpx.Response, status: int) -> Any:
    if answer.status_code != status:
        request = answer.request
        raise Refused(
            f"{request.method} {request.url.path} is answered {answer.status_code}: {said(answer)}",
            answer.status_code,
        )
    return answer.json() if answer.content else None


def _given(answer: httpx.Response) -> None:
    if answer.status_code != 200:
        raise Refused(f"a download is answered {answer.status_code}", answer.status_code)


def _origin(url: str) -> str:
    parts = urlsplit(url)
    return f"{parts.scheme}://{parts.netloc}"
