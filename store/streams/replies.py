"""What handlers of the doors are given, and what they give back."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

import orjson

from store.errors import STATUS, Error, MethodNotAllowed
from store.params import Params
from store.streams.asked import Wire
from store.streams.flows import check_sid
from store.streams.visiting import Refused, Visitor

JSON = ("content-type", "application/json")


@dataclass(frozen=True, slots=True)
class Found:
    """A request to one of the doors. `refusal`: why there is no operation."""

    operation: str
    wire: Wire
    params: Mapping[str, str]
    refusal: Refused | None = None


@dataclass(frozen=True, slots=True)
class Reply:
    """An answer over HTTP."""

    status: int
    headers: list[tuple[str, str]]
    body: bytes


@dataclass(frozen=True, slots=True)
class Asked:
    found: Found
    visitor: Visitor
    query: Params
    body: bytes
    content_type: bytes

    @property
    def sid(self) -> str:
        """The one stream that is named."""
        return check_sid(self.found.params["sid"])


def reply(document: object) -> Reply:
    """200 with JSON."""
    return Reply(200, [JSON], orjson.dumps(document))


def refusal(exc: Refused | Error) -> Reply:
    """An error in the form of these wires."""
    if isinstance(exc, Refused):
        return Reply(exc.status, [JSON, *exc.headers], orjson.dumps({"detail": exc.detail}))
    headers = [JSON]
    if isinstance(exc, MethodNotAllowed):
        headers.append(("allow", ", ".join(exc.allow)))
    return Reply(STATUS[type(exc)], headers, orjson.dumps({"detail": exc.summary}))
