"""What becomes of a foreign upstream's answers: which statuses pass, and in what words. Pure."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field

import orjson

from proxy.errors import Error
from proxy.upstream.client import Reply
from proxy.upstream.documents import Classes
from proxy.upstream.headers import JSON, Base
from proxy.upstream.lookups import failure

SILENT = "The upstream refused the request."
MOST_SUMMARY = 500
_PASSING = frozenset((400, 403, 404, 409, 410, 411, 412, 413, 415, 422, 507))


@dataclass(frozen=True, slots=True)
class Facts:
    """As `protocol.Facts`."""

    classes: Classes | None = None
    related: Mapping[str, Classes] = field(default_factory=dict)
    readable: bool = False


@dataclass(slots=True)
class Answer:
    """As `protocol.Response`."""

    status: int
    headers: list[tuple[str, str]]
    body: bytes = b""
    facts: Facts | None = None


def answered(document: object, facts: Facts | None = None) -> Answer:
    """200 with a JSON body."""
    return Answer(200, [JSON], orjson.dumps(document), facts)


def refusal(status: int, summary: str, stamp: str, name: str = "BadRequest") -> Answer:
    """An error in the schema of TAMS 8.2 error.json."""
    document = {"type": name, "summary": summary, "message": summary, "time": stamp}
    return Answer(status, [JSON], orjson.dumps(document))


def refused(reply: Reply, base: Base, stamp: str) -> Answer | Error:
    """An error of the upstream as the client may read it, or what is to be raised instead.

    A 409 would say that `expect` did not hold; the upstream knows nothing of that, so it becomes a 400.
    """
    if reply.status not in _PASSING:
        return failure(reply)
    status = 400 if reply.status in (409, 410, 422) else reply.status
    return refusal(status, _summary(reply.body, base), stamp, _NAMES.get(status, "BadRequest"))


_NAMES = {403: "Forbidden", 404: "NotFound", 412: "PreconditionFailed", 413: "TooLarge", 507: "Full"}


def _summary(body: bytes, base: Base) -> str:
    """What an error says, unless it gives the upstream away."""
    try:
        document = orjson.loads(body)
    except orjson.JSONDecodeError:
        return SILENT
    if not isinstance(document, dict):
        return SILENT
    for name in ("summary", "message", "detail"):
        said = document.get(name)
        if isinstance(said, str) and said:
            return SILENT if base.host.decode() in said.lower() or len(said) > MOST_SUMMARY else said
    return SILENT
