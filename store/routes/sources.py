"""`/sources` and everything below a source."""

from __future__ import annotations

from store.core import Store
from store.domain.sources import create_source, delete_source, edit_source, replaced
from store.http import JSON, Facts, Request, Response, created, no_content
from store.metadata.query import Query, Sort
from store.metadata.rows import Document, Kind
from store.models.common import classes_of
from store.models.parsing import load, validate
from store.models.source import SourcePut
from store.routes.listing import FORMATS, listing, page_of, sort_of, tagged
from store.routes.properties import Apply, load_row

SORTS = {"created": Sort.CREATED, "updated": Sort.UPDATED, "label": Sort.LABEL}


async def get_sources(store: Store, request: Request) -> Response:
    """GET /sources"""
    query = request.query
    return await listing(
        store,
        request,
        Query(
            Kind.SOURCE,
            sort=sort_of(query, SORTS),
            label=query.text("label"),
            format=query.choice("format", FORMATS),
            collected_by=query.uuids("collected_by_ids", may_be_empty=True),
            **tagged(query),
            **page_of(store, request, request.view),
        ),
    )


async def get_source(store: Store, request: Request) -> Response:
    """GET /sources/{sourceId}"""
    row = await load_row(store, request, Kind.SOURCE, request.params["sourceId"])
    return Response(200, [JSON], row.document, Facts(row.classes, row.related))


async def post_source(store: Store, request: Request) -> Response:
    """POST /sources: a source without flows, its id in the body or a new one. Not of the specification."""
    document = load(request.body)
    if isinstance(document, dict) and "id" not in document:
        document = {**document, "id": store.new_id()}
    body: Document = validate(SourcePut, document).document()
    source = await create_source(store.metadata, body, store.edit(request))
    return created(source, Facts(classes_of(source["tags"])))


async def put_source(store: Store, request: Request) -> Response:
    """PUT /sources/{sourceId}: all that a client may say of it. Not of the specification."""
    body: Document = validate(SourcePut, load(request.body)).document()
    await edit_source(store.metadata, request.params["sourceId"], store.edit(request), replaced(body))
    return no_content()


async def remove_source(store: Store, request: Request) -> Response:
    """DELETE /sources/{sourceId}, once it has no flows. Not of the specification."""
    await delete_source(store.metadata, request.params["sourceId"], store.edit(request))
    return no_content()


async def edit(store: Store, request: Request, apply: Apply) -> None:
    """Edit the source that the request names."""
    await edit_source(store.metadata, request.params["sourceId"], store.edit(request), apply)
