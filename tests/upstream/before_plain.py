"""The proxy before the plain upstream, for proofs that were written for the store inside."""

from __future__ import annotations

from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

from tests.authorization.world import World
from tests.proxy import support
from tests.upstream.over_http import METHODS, OVER_HTTP
from tests.upstream.plain import Plain
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
    **settings: Any,
) -> AsyncIterator[support.Proxy]:
    """As `support.running`, before a plain upstream of its own."""
    plain = Plain(backends=backends(), inline=delete_inline, webhooks={})
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
)
"""What TAMS 7.0 has not, by the words that refuse it."""
