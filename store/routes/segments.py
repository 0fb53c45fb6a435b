"""`/flows/{flowId}/segments` and `/flows/{flowId}/storage`."""

from __future__ import annotations

import asyncio
from typing import Final

import orjson

from store.core import Store
from store.domain.segments import Registering, add_segments
from store.domain.storage import allocate
from store.domain.urls import UrlWriter, segment_bodies
from store.errors import BadRequest, Error, NotFound
from store.http import Facts, Request, Response, array, created, error_body, ok, utc_now
from store.metadata.query import SegmentQuery
from store.metadata.rows import SegmentPage
from store.models.common import BULK_SEGMENTS
from store.models.parsing import load, validate
from store.models.segment import SEGMENT_POST, SegmentPost
from store.models.storage import StoragePost
from store.params import is_uuid
from store.routes.flows import deletion
from store.timerange import ETERNITY, TimeRange

AT_ONCE: Final = 250
"""Segments whose URLs may be signed in one go: not a millisecond."""


async def get_segments(store: Store, request: Request) -> Response:
    """GET /flows/{flowId}/segments"""
    flow_id = request.params["flowId"]
    if not is_uuid(flow_id):
        raise NotFound("No such flow.")
    query = request.query
    paging = store.paging(request)
    limit = store.limit(request)
    reverse = query.flag("reverse_order") or False
    after = paging.position(_start)
    urls = store.url_writer(request)
    with_timerange = query.flag("include_object_timerange") or False
    page = await store.metadata.segments(
        SegmentQuery(
            flow_id,
            limit,
            query.timerange("timerange"),
            query.text("object_id"),
            reverse,
            after,
            request.view,
        )
    )
    facts = Facts(page.flow.classes, page.flow.related) if page.flow else Facts()
    body = array(await _bodies(page, urls, with_timerange))
    last = page.starts_ns[-1] if page.more else None
    headers = paging.headers(limit, len(page.documents), last, reverse=reverse)
    headers.append(("x-paging-timerange", _extent(page)))
    return Response(200, headers, body, facts)


async def _bodies(page: SegmentPage, urls: UrlWriter, with_timerange: bool) -> list[bytes]:
    """Segments as they are listed. Between signatures others get their turn."""
    found: list[bytes] = []
    for first in range(0, len(page.documents), AT_ONCE):
        before, some = urls.fresh, slice(first, first + AT_ONCE)
        documents, objects = page.documents[some], page.objects[some]
        found += segment_bodies(documents, objects, page.init_objects, urls, with_timerange)
        if urls.fresh > before:
            await asyncio.sleep(0)
    return found


def _start(value: object) -> int:
    """Where the segment before this page starts."""
    assert isinstance(value, int)
    return value


def _extent(page: SegmentPage) -> str:
    """The timerange that a page's segments span (rule 46)."""
    if not page.documents:
        return "()"
    ends = page.documents[0], page.documents[-1]
    one, other = (TimeRange.parse(orjson.loads(document)["timerange"]) for document in ends)
    return str(one.span(other))


async def post_segments(store: Store, request: Request) -> Response:
    """POST /flows/{flowId}/segments"""
    posts = _posts(load(request.body))
    using = Registering(
        store.metadata,
        store.backends,
        store.now_ns(),
        store.verify_uploads,
        request.expect,
        store.addresses,
        store.claims,
    )
    outcomes = await add_segments(using, request.params["flowId"], [post for _, post in posts])
    failed = [(said, error) for (said, _), error in zip(posts, outcomes, strict=True) if error]
    if not failed:
        return created(None)
    if len(posts) == 1:
        raise failed[0][1]
    return ok({"failed_segments": [_failed(said, error) for said, error in failed]})


def _posts(body: object) -> list[tuple[object, SegmentPost | Error]]:
    """The segments of a body, each with what is wrong with it. Raises `BadRequest` for a body that is
    no segment and no list of objects that each name their object."""
    if not isinstance(body, list):
        return [(body, validate(SEGMENT_POST, body))]
    if not body:
        raise BadRequest("The list of segments is empty.")
    if len(body) > BULK_SEGMENTS:
        raise BadRequest(f"At most {BULK_SEGMENTS} segments can be registered at once.")
    if not all(isinstance(item, dict) and isinstance(item.get("object_id"), str) for item in body):
        raise BadRequest("Every segment must be an object with an `object_id` that is a string.")
    return [(item, _validated(item)) for item in body]


def _validated(item: object) -> SegmentPost | Error:
    try:
        return validate(SEGMENT_POST, item)
    except BadRequest as exc:
        return exc


def _failed(said: object, error: Error) -> dict[str, object]:
    """One entry of flow-segment-bulk-failure.json; a timerange that is none is left out."""
    assert isinstance(said, dict)
    entry: dict[str, object] = {"object_id": said["object_id"]}
    try:
        entry["timerange"] = str(TimeRange.parse(said["timerange"]))
    except (KeyError, TypeError, ValueError):
        entry.pop("timerange", None)
    body = error_body(type(error).__name__, error.summary, utc_now())
    return {**entry, "error": orjson.loads(body)}


async def delete_segments(store: Store, request: Request) -> Response:
    """DELETE /flows/{flowId}/segments"""
    timerange = request.query.timerange("timerange") or ETERNITY
    return await deletion(store, request, timerange, request.query.text("object_id"), delete_flow=False)


async def post_storage(store: Store, request: Request) -> Response:
    """POST /flows/{flowId}/storage"""
    post = validate(StoragePost, load(request.body) if request.body else {})
    allocated = await allocate(
        store.metadata,
        store.backends,
        request.params["flowId"],
        post,
        now_ns=store.now_ns(),
        new_id=store.new_id,
        expect=request.expect,
    )
    return created({"media_objects": allocated})
