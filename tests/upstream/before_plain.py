"""The proxy before the plain upstream, for proofs that were written for the store inside."""

from __future__ import annotations

from collections.abc import AsyncIterator, Callable, Mapping
from contextlib import asynccontextmanager
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Any

from starlette.responses import Response

from tests.authorization.world import World
from tests.proxy import support
from tests.upstream.over_http import METHODS, OVER_HTTP
from tests.upstream.plain import Call, Plain
from tests.upstream.serving import serving


def backends() -> list[dict[str, Any]]:
    """Those of `support.BACKENDS` as the upstream lists them."""
    found = []
    for name, said in support.BACKENDS.items():
        told = {key: value for key, value in said.items() if key != "default"}
        found.append({"id": name, **told, "default_storage": said.get("default", False)})
    return sorted(found, key=lambda backend: str(backend["label"]))


TRIED = ("POST_service", *(name for name in METHODS if name.startswith(("GET_analytics-", "GET_vast-"))))
OLDER = "GET_api-v1-vast-buckets"


@asynccontextmanager
async def running(
    folder: Path,
    clients: Mapping[str, support.Client] = support.CLIENTS,
    delete_inline: int = 1000,
    version: str = "7.0",
    trouble: Callable[[], Callable[[Call], Response | None]] | None = None,
    **settings: Any,
) -> AsyncIterator[support.Proxy]:
    """As `support.running`, before a plain upstream of its own. `trouble`: makes what it is like."""
    plain = Plain(backends=backends(), inline=delete_inline, webhooks={}, version=version)
    if trouble is not None:
        plain.trouble = trouble()
    with serving(plain.application) as url:
        async with support.running(folder, clients, upstream=url, **settings) as proxy:
            yield proxy


PLAIN = World(
    running,
    lacks={
        **OVER_HTTP.lacks,
        **{name: f"The upstream lacks {METHODS[name]}." for name in TRIED},
        "POST_objects-instances": "The upstream lacks object instances.",
        "DELETE_objects-instances": "The upstream lacks object instances.",
        # The older prefix leads to the same operation.
        OLDER: f"The upstream lacks {METHODS['GET_vast-buckets']}.",
        "GET_profiles": "The upstream lacks profiles.",
        "GET_profiles-profileId": "The upstream lacks profiles.",
        "POST_profiles-profileId": "The upstream lacks profiles.",
    },
    refuses=frozenset((*TRIED, OLDER)),
    lacks_queries={
        "sort_by": "The upstream lacks `sort_by` in lists.",
        "storage_backend_tag.auth_classes": "The upstream lacks `storage_backend_tag.auth_classes`.",
    },
    newest_first=False,
    unsigned_media=False,
    metadata=OVER_HTTP.metadata,
)
"""What TAMS 7.0 has not, by the words that refuse it."""


class _Cut(Response):
    """The beginning of an answer."""

    async def __call__(self, scope: Any, receive: Any, send: Any) -> None:
        headers = [(b"content-type", b"application/json"), (b"content-length", b"100")]
        await send({"type": "http.response.start", "status": 200, "headers": headers})
        await send({"type": "http.response.body", "body": b'{"id": "'})


class _Flaky:
    """Breaks off each answer to what may be asked again, until it is."""

    def __init__(self) -> None:
        self._broken: set[Call] = set()

    def __call__(self, call: Call) -> Response | None:
        asked = replace(call, headers={})
        if call.method == "POST" or call.target.startswith("/media/"):
            return None
        if asked in self._broken:
            self._broken.remove(asked)
            return None
        self._broken.add(asked)
        return _Cut()


SIX = replace(
    PLAIN,
    running=partial(running, version="6.0"),
    lacks={**PLAIN.lacks, "GET_storage-backends": "The upstream lacks a list of storage backends."},
)
"""TAMS 6.0, where nobody knows of storage backends."""
FLAKY = replace(PLAIN, running=partial(running, trouble=_Flaky))
"""The same, and no answer comes at the first time."""
