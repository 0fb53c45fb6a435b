"""`/flows` and the properties of a flow."""

from __future__ import annotations

from store.core import Store
from store.domain.deletions import Deletion, delete
from store.domain.flows import edit_flow, put_flow
from store.http import JSON, Facts, Request, Response, created, no_content
from store.metadata.query import Query, Sort
from store.metadata.rows import Document, Kind
from store.models.common import classes_of
from store.models.flow import FLOW_PUT
from store.models.parsing import load, validate
from store.routes.listing import FORMATS, body_of, listing, page_of, sort_of, tagged
from store.routes.properties import Apply, load_row
from store.timerange import ETERNITY, TimeRange
from store.view import visible

SORTS = {"created": Sort.CREATED, "metadata_updated": Sort.UPDATED, "label": Sort.LABEL}
STATUSES = ("awaiting_content", "ingesting", "replication_in_progress", "closed_complete")


async def get_flows(store: Store, request: Request) -> Response:
    """GET /flows"""
    query = request.query
    timerange = query.timerange("timerange")
    return await listing(
        store,
        request,
        Query(
            Kind.FLOW,
            sort=sort_of(query, SORTS),
            label=query.text("label"),
            format=query.choice("format", FORMATS),
            codec=query.mime("codec"),
            source_id=query.uuid("source_id"),
            profile_id=query.uuid("profile_id"),
            status=query.choice("status", STATUSES),
            frame_width=query.integer("frame_width"),
            frame_height=query.integer("frame_height"),
            init_segments=query.flag("init_segments"),
            collected_by=query.uuids("collected_by_ids", may_be_empty=True),
            timerange=None if timerange == ETERNITY else timerange,
            **tagged(query),
            **page_of(store, request, request.view),
        ),
    )


async def get_flow(store: Store, request: Request) -> Response:
    """GET /flows/{flowId}"""
    flow_id = request.params["flowId"]
    within = request.query.timerange("timerange") or ETERNITY
    wanted = request.query.flag("include_timerange")
    row, ends = await load_row(store, request, Kind.FLOW, flow_id), None
    # Looking for segments of what is hidden would take time that tells of it.
    if wanted and not within.is_empty and visible(request.view, row.classes):
        ends = await store.metadata.timerange(flow_id, within)
        # The row comes last: whoever may read it now may read what was read before.
        row = await load_row(store, request, Kind.FLOW, flow_id)
    body = body_of(row)
    if wanted:
        body = body[:-1] + b',"timerange":"' + _span(ends).encode() + b'"}'
    return Response(200, [JSON], body, Facts(row.classes, row.related))


def _span(ends: tuple[str, str] | None) -> str:
    """From the start of the first segment to the end of the last."""
    if ends is None:
        return "()"
    return str(TimeRange.parse(ends[0]).span(TimeRange.parse(ends[1])))


async def put(store: Store, request: Request) -> Response:
    """PUT /flows/{flowId}"""
    body: Document = validate(FLOW_PUT, load(request.body)).document()
    flow = await put_flow(store.metadata, request.params["flowId"], body, store.edit(request))
    if flow is None:
        return no_content()
    return created(flow, Facts(classes_of(flow["tags"])))


async def delete_flow(store: Store, request: Request) -> Response:
    """DELETE /flows/{flowId}"""
    return await deletion(store, request, ETERNITY, None, delete_flow=True)


async def deletion(
    store: Store, request: Request, timerange: TimeRange, object_id: str | None, *, delete_flow: bool
) -> Response:
    """204 when all is gone, 202 with the deletion request when it goes on in the background."""
    asked = Deletion(
        flow_id=request.params["flowId"],
        timerange=timerange,
        object_id=object_id,
        delete_flow=delete_flow,
        inline=store.limits.delete_inline,
        edit=store.edit(request),
        new_id=store.new_id,
    )
    pending = await delete(store.metadata, asked)
    if pending is None:
        return no_content()
    response = created(pending)
    response.status = 202
    response.headers.append(("location", f"{store.public_url}/flow-delete-requests/{pending['id']}"))
    return response


async def edit(store: Store, request: Request, apply: Apply) -> None:
    """Edit the flow that the request names."""
    await edit_flow(store.metadata, request.params["flowId"], store.edit(request), apply)


async def edit_read_only(store: Store, request: Request, apply: Apply) -> None:
    """Edit the flow that the request names, a read-only one too."""
    flow_id = request.params["flowId"]
    await edit_flow(store.metadata, flow_id, store.edit(request), apply, read_only_too=False)
