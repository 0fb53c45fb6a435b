"""Requests and responses of the store, apart from any server."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime
from typing import TypeVar
from urllib.parse import quote, urlencode

import orjson

from store import cursor
from store.errors import STATUS, Error, MethodNotAllowed
from store.metadata.query import Position
from store.metadata.rows import Expect
from store.params import Params
from store.view import View

JSON = ("content-type", "application/json")
Headers = list[tuple[str, str]]
T = TypeVar("T")


@dataclass(slots=True)
class Request:
    """One call of an operation of the API.

    `operation`: its operationId, that of the GET for a HEAD. `path`: as the client spelt it, for `Link`.
    `params`: decoded path parameters. `view`: what the caller may see, None for everything. `expect`: what
    the caller was authorised on. `actor`: who calls, for `created_by` and to bind cursors to. `owner`: who
    a webhook is to belong to, opaque text.
    """

    operation: str
    path: str
    params: Mapping[str, str]
    query: Params
    body: bytes = b""
    view: View | None = None
    expect: Expect | None = None
    actor: str | None = None
    owner: bytes | None = None


@dataclass(slots=True)
class Facts:
    """What deciding about an answer needs, of the same snapshot as the answer.

    `classes`: those of the resource, None where there is none. `related`: classes of the ids that the body
    names. `readable`: for an object, whether the view sees a flow that refers to it.
    """

    classes: frozenset[str] | None = None
    related: Mapping[str, frozenset[str]] = field(default_factory=dict)
    readable: bool = False


@dataclass(slots=True)
class Response:
    """Status, headers (lower-case names) and the whole body."""

    status: int
    headers: Headers
    body: bytes = b""
    facts: Facts | None = None


def ok(document: object, facts: Facts | None = None) -> Response:
    """200 with a JSON body."""
    return Response(200, [JSON], orjson.dumps(document), facts)


def created(document: object | None, facts: Facts | None = None) -> Response:
    """201, with a JSON body if there is one."""
    if document is None:
        return Response(201, [], b"", facts)
    return Response(201, [JSON], orjson.dumps(document), facts)


def array(items: Iterable[bytes]) -> bytes:
    """The JSON array of items that are JSON.

    Of a large body, brackets around the joined items would be a copy, for which finding memory takes ten
    times as long as joining.
    """
    parts = list(items)
    if not parts:
        return b"[]"
    parts[0] = b"[" + parts[0]
    parts[-1] += b"]"
    return b",".join(parts)


def no_content() -> Response:
    """204."""
    return Response(204, [])


def failure(error: Error, time: str) -> Response:
    """An error as TAMS 8.2 error.json, with `message` beside `summary` for other stores' clients."""
    headers = [JSON]
    if isinstance(error, MethodNotAllowed):
        headers.append(("allow", ", ".join(error.allow)))
    return Response(STATUS[type(error)], headers, error_body(type(error).__name__, error.summary, time))


def fault(time: str) -> Response:
    """500: a mistake of ours, of which the caller learns nothing."""
    return Response(
        500, [JSON], error_body("InternalError", "Something went wrong here; it was logged.", time)
    )


def error_document(name: str, summary: str, time: str) -> dict[str, str]:
    """TAMS 8.2 error.json."""
    return {"type": name, "summary": summary, "message": summary, "time": time}


def error_body(name: str, summary: str, time: str) -> bytes:
    """The JSON of TAMS 8.2 error.json."""
    return orjson.dumps(error_document(name, summary, time))


def utc_now() -> str:
    """The time of an error, RFC 3339."""
    return datetime.now(UTC).isoformat()


@dataclass(frozen=True, slots=True)
class Paging:
    """Makes and reads the page tokens of one request."""

    request: Request
    public_url: str
    keys: tuple[bytes, ...]

    def bound_to(self) -> bytes:
        """What this request's tokens are bound to: everything but where the page starts and its size."""
        pairs = sorted(p for p in self.request.query.pairs if p[0] not in ("page", "limit"))
        return cursor.fingerprint(
            self.request.operation,
            *(f"{k}={v}" for k, v in self.request.params.items()),
            *(f"{k}={v}" for k, v in pairs),
            self.request.actor or "",
        )

    def position(self, read: Callable[[object], T]) -> T | None:
        """Where the page starts, None for the first."""
        token = self.request.query.text("page")
        if token is None:
            return None
        return read(cursor.unseal(token, self.bound_to(), self.keys))

    def headers(self, limit: int, count: int, last: object | None, *, reverse: bool) -> Headers:
        """Paging headers (rule 9); `last` is the position to go on from, None on the last page."""
        headers = [
            JSON,
            ("x-paging-limit", str(limit)),
            ("x-paging-count", str(count)),
            ("x-paging-reverse-order", "true" if reverse else "false"),
        ]
        if last is not None:
            token = cursor.seal(last, self.bound_to(), self.keys)
            pairs: Sequence[tuple[str, str]] = [p for p in self.request.query.pairs if p[0] != "page"]
            query = urlencode([*pairs, ("page", token)], quote_via=quote)
            headers.append(("link", f'<{self.public_url}{self.request.path}?{query}>; rel="next"'))
            headers.append(("x-paging-nextkey", token))
        return headers


def read_position(value: object) -> Position:
    """A Position from a page token of a listing."""
    assert isinstance(value, list)
    return Position(value[0], value[1])
