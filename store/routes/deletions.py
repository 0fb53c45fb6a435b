"""`/flow-delete-requests`."""

from __future__ import annotations

import orjson

from store.core import Store
from store.http import JSON, Facts, Request, Response
from store.metadata.query import Query, Sort
from store.metadata.rows import Kind
from store.routes.listing import listing, page_of, sort_of
from store.routes.properties import load_row

SORTS = {"created": Sort.CREATED, "expiry": Sort.EXPIRY}


async def get_deletions(store: Store, request: Request) -> Response:
    """GET /flow-delete-requests"""
    sort = sort_of(request.query, SORTS)
    query = Query(Kind.DELETION, sort=sort, **page_of(store, request, request.view))
    return await listing(store, request, query)


async def get_deletion(store: Store, request: Request) -> Response:
    """GET /flow-delete-requests/{request-id}; its facts are the classes that the flow had."""
    row = await load_row(store, request, Kind.DELETION, request.params["request-id"])
    classes = frozenset(orjson.loads(row.private)["classes"]) if row.private else frozenset()
    return Response(200, [JSON], row.document, Facts(classes))
