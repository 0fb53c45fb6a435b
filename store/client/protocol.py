"""What both clients agree on with the server: paths, bodies, retries, and which exception an answer is.

Pure: `exchange` says what to do next, and the clients do it, each in its own way.
"""

from __future__ import annotations

from collections.abc import Generator, Mapping
from dataclasses import dataclass, field
from typing import Any, Final, NamedTuple
from urllib.parse import quote, urlencode, urljoin

import httpx
import orjson

CHUNK_BYTES: Final = 1 << 20
PAGE: Final = 1000
LONGEST_WAIT_S: Final = 60.0
REPEATABLE: Final = frozenset((408, 425, 429, 500, 502, 503, 504))
_REDIRECTS: Final = frozenset((302, 303, 307, 308))
_NO_LISTING: Final = frozenset((405, 501))


class StoreError(Exception):
    """The server refused or failed. `status` is that of its answer, 0 where there was none."""

    def __init__(self, message: str, status: int) -> None:
        super().__init__(message)
        self.message = message
        self.status = status


@dataclass(frozen=True, slots=True)
class Policy:
    """How often a call is repeated, and how long to wait before the first time; twice as long each time."""

    retries: int
    delay_s: float

    def wait_s(self, attempt: int, headers: Mapping[str, str]) -> float:
        """How long to wait after a failed attempt (0 is the first): what the server said, if it did."""
        said = headers.get("retry-after", "")
        if said.isascii() and said.isdigit():
            return min(float(said), LONGEST_WAIT_S)
        return float(min(self.delay_s * 2**attempt, LONGEST_WAIT_S))


@dataclass(frozen=True, slots=True)
class Call:
    """One call. `key`: what it is about, None for a listing. `once`: the body cannot be sent again."""

    method: str
    url: str
    key: str | None
    headers: Mapping[str, str] = field(default_factory=dict)
    once: bool = False


@dataclass(frozen=True, slots=True)
class Send:
    """Send a request, and come back with its answer or with why there is none."""

    method: str
    url: str
    headers: Mapping[str, str]


@dataclass(frozen=True, slots=True)
class Wait:
    """Wait."""

    seconds: float


Steps = Generator[Send | Wait, httpx.Response | httpx.TransportError | None, httpx.Response]


def exchange(call: Call, policy: Policy) -> Steps:
    """The way from a call to its answer. Raises what `failure` makes of any other."""
    last = 0 if call.once else policy.retries
    for attempt in range(last + 1):
        answer = yield Send(call.method, call.url, call.headers)
        if isinstance(answer, httpx.Response) and _leads_on(call.method, answer):
            # The signed URL is all that it takes, and the key is nobody else's business.
            headers = {name: value for name, value in call.headers.items() if name != "Authorization"}
            answer = yield Send(call.method, urljoin(call.url, answer.headers["location"]), headers)
        if isinstance(answer, httpx.Response):
            # What was deleted by an attempt whose answer was lost is no missing key.
            done_before = call.method == "DELETE" and attempt > 0 and answer.status_code == 404
            if answer.is_success or done_before:
                return answer
            if attempt == last or answer.status_code not in REPEATABLE:
                raise failure(answer.status_code, answer.content, key=call.key)
            yield Wait(policy.wait_s(attempt, answer.headers))
        elif attempt < last:
            yield Wait(policy.wait_s(attempt, {}))
        else:
            raise StoreError(f"The server cannot be reached: {answer}", 0)
    raise AssertionError("unreachable")


def _leads_on(method: str, answer: httpx.Response) -> bool:
    return method in ("GET", "HEAD") and answer.status_code in _REDIRECTS and "location" in answer.headers


def part(start: int, end: int | None) -> dict[str, str]:
    """The header that asks for the bytes from `start` up to `end`; none for all."""
    if start == 0 and end is None:
        return {}
    return {"Range": f"bytes={start}-{'' if end is None else end - 1}"}


class Page(NamedTuple):
    """A page of names, and the cursor of the next one; None at the end."""

    keys: list[str]
    cursor: str | None


def object_path(key: str) -> str:
    """The path of a key below the base URL. Dots are escaped too: `..` would be taken for a step up."""
    escaped = quote(key, safe="/").replace(".", "%2E").replace("//", "/%2F")
    return "/objects/" + ("%2F" + escaped[1:] if escaped.startswith("/") else escaped)


def page_path(prefix: str, cursor: str | None) -> str:
    """The path of a page of names."""
    pairs = [("prefix", prefix), ("limit", str(PAGE)), *((("cursor", cursor),) if cursor else ())]
    return "/objects?" + urlencode(pairs, quote_via=quote)


def page_of(body: bytes) -> Page:
    """A page of names. Raises `StoreError` for what is none."""
    try:
        document = orjson.loads(body)
        return Page([str(key) for key in document["keys"]], document["next_cursor"] or None)
    except (ValueError, KeyError, TypeError) as exc:
        raise StoreError("The server's answer is no page of keys.", 200) from exc


def document_of(body: bytes) -> dict[str, Any]:
    """What the server tells of an object that was put. Raises `StoreError`."""
    try:
        document = orjson.loads(body)
    except ValueError as exc:
        raise StoreError("The server's answer is not JSON.", 200) from exc
    return dict(document) if isinstance(document, dict) else {}


def failure(status: int, body: bytes, *, key: str | None) -> Exception:
    """The exception that an answer is. `key`: what was asked for, None for a listing."""
    if status == 404 and key is not None:
        return KeyError(key)
    if key is None and status in _NO_LISTING:
        return NotImplementedError("This storage backend cannot list its keys.")
    return StoreError(_message(body) or f"The server answered {status}.", status)


def _message(body: bytes) -> str:
    try:
        document = orjson.loads(body)
        return str(document["error"]["message"])
    except (ValueError, KeyError, TypeError):
        return ""
