"""Answers to bulk registrations of which the gate itself refused a part. Pure."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

import orjson

from proxy.asked import Authorised
from proxy.body import Use
from proxy.errors import BadRequest
from proxy.upstream.protocol import Response

Refusals = Mapping[int, tuple[Use, str]]
Stamp = Callable[[], str]


@dataclass(slots=True)
class Answer:
    """An answer that the proxy makes itself."""

    status: int
    headers: list[tuple[str, str]]
    body: bytes
    facts: None = None

    @classmethod
    def of(cls, status: int, document: object) -> Answer:
        """With a JSON body."""
        return cls(status, [("content-type", "application/json")], orjson.dumps(document))


def count(document: object) -> int:
    """How many segments a body has."""
    return len(document) if isinstance(document, list) else 1


def all_refused(document: object, refused: Refusals, stamp: Stamp) -> Response:
    """The answer when nothing is left to forward. Raises `BadRequest` for a single segment, as the store
    does."""
    if count(document) == 1:
        raise BadRequest(next(iter(refused.values()))[1])
    return Answer.of(200, {"failed_segments": _failures(refused, stamp)})


def with_refused(response: Response, allowed: Authorised, stamp: Stamp) -> Response:
    """The answer to the segments that were forwarded, together with those that were not."""
    failed = _failures(allowed.refused, stamp)
    if response.status == 200:
        failed += orjson.loads(response.body)["failed_segments"]
    elif response.status != 201:
        forwarded = orjson.loads(allowed.body)
        if response.status != 400 or len(forwarded) != 1:
            return response
        # The store answers a list of one as it answers that one.
        failed.append({"object_id": forwarded[0]["object_id"], "error": orjson.loads(response.body)})
    return Answer.of(200, {"failed_segments": failed})


def _failures(refused: Refusals, stamp: Stamp) -> list[dict[str, Any]]:
    """Entries of flow-segment-bulk-failure.json, as the store itself would write them."""
    return [_failure(use, problem, stamp()) for use, problem in refused.values()]


def _failure(use: Use, summary: str, time: str) -> dict[str, Any]:
    error = {"type": "BadRequest", "summary": summary, "message": summary, "time": time}
    timerange = {} if use.timerange is None else {"timerange": use.timerange}
    return {"object_id": use.object_id, **timerange, "error": error}
