"""What operators ask for: `/analytics/...`, `/vast/status`, `/vast/buckets`. Not of the specification."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from typing import Any

from store import __version__
from store.core import Store
from store.domain import analytics
from store.errors import Unavailable
from store.http import Facts, Request, Response, ok
from store.metadata.protocol import Metadata

Figures = Callable[[Metadata], Awaitable[dict[str, Any]]]


def _figures(work: Figures) -> Callable[[Store, Request], Awaitable[Response]]:
    async def handler(store: Store, request: Request) -> Response:
        return ok(await work(store.metadata), Facts())

    return handler


get_flow_usage = _figures(analytics.flow_usage)
get_storage_usage = _figures(analytics.storage_usage)
get_time_range_analysis = _figures(analytics.time_range_analysis)
get_catalogue_summary = _figures(analytics.catalogue_summary)


async def get_vast_status(store: Store, request: Request) -> Response:
    """GET /vast/status: whether the metadata are in VAST, and whether that answers."""
    place = store.metadata.place()
    try:
        facts = await store.metadata.check()
    except Unavailable:
        facts = {}
    status = {
        "version": __version__,
        "vast_connected": place["engine"] == "vast" and bool(facts),
        "endpoint": place.get("endpoint"),
        "buckets": _buckets(store),
        "metadata": dict(facts),
    }
    return ok(status, Facts())


async def get_vast_buckets(store: Store, request: Request) -> Response:
    """GET /vast/buckets: the buckets that metadata are in."""
    return ok({"buckets": _buckets(store)}, Facts())


def _buckets(store: Store) -> list[str]:
    bucket = store.metadata.place().get("bucket")
    return [] if bucket is None else [bucket]
