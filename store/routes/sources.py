"""`/sources` and everything below a source."""

from __future__ import annotations

from dataclasses import replace

from store.core import Store
from store.domain.sources import edit_source
from store.http import JSON, Facts, Request, Response
from store.metadata.query import Sort
from store.metadata.rows import Kind
from store.routes.listing import FORMATS, listing, query_of, sort_of
from store.routes.properties import Apply, load_row

SORTS = {"created": Sort.CREATED, "updated": Sort.UPDATED, "label": Sort.LABEL}


async def get_sources(store: Store, request: Request) -> Response:
    """GET /sources"""
    query = request.query
    return await listing(
        store,
        request,
        replace(
            query_of(Kind.SOURCE, request),
            sort=sort_of(query, SORTS),
            label=query.text("label"),
            format=query.choice("format", FORMATS),
            collected_by=query.uuids("collected_by_ids", may_be_empty=True),
        ),
    )


async def get_source(store: Store, request: Request) -> Response:
    """GET /sources/{sourceId}"""
    row = await load_row(store, Kind.SOURCE, request.params["sourceId"])
    return Response(200, [JSON], row.document, Facts(row.classes, row.related))


async def edit(store: Store, request: Request, apply: Apply) -> None:
    """Edit the source that the request names."""
    await edit_source(store.metadata, request.params["sourceId"], store.edit(request), apply)
