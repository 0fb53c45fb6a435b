"""`/objects/{objectId}` and its instances."""

from __future__ import annotations

from store.core import Store
from store.domain.objects import add_url, object_body, remove_url
from store.domain.urls import UrlFilter, UrlWriter
from store.errors import BadRequest, NotFound
from store.http import Facts, Request, Response, created, no_content
from store.metadata.query import Query
from store.metadata.rows import Kind, UncontrolledUrl
from store.models.object import INSTANCES_POST, ControlledInstance
from store.models.parsing import load, validate


async def get_object(store: Store, request: Request) -> Response:
    """GET /objects/{objectId}"""
    paging = store.paging(request)
    limit = store.limit(request)
    after = paging.position(str)
    tags, tag_exists = request.query.tags("flow_")
    wanted = UrlFilter.of(request.query)
    flows = Query(Kind.FLOW, request.view, limit, tags=tags, tag_exists=tag_exists)
    page = await store.metadata.object_page(request.params["objectId"], flows, after)
    if page is None:
        raise NotFound("No such object.")
    urls = UrlWriter(store.backends, request.view, wanted, store.now_ns() // 1_000_000_000)
    last = page.flow_ids[-1] if page.more else None
    headers = paging.headers(limit, len(page.flow_ids), last, reverse=False)
    facts = Facts(None, page.classes, page.readable)
    return Response(200, headers, object_body(page, urls), facts)


async def post_instance(store: Store, request: Request) -> Response:
    """POST /objects/{objectId}/instances"""
    post = validate(INSTANCES_POST, load(request.body))
    object_id = request.params["objectId"]
    if isinstance(post, ControlledInstance):
        raise BadRequest("Copies to another storage backend are not supported.")
    labels = {media.backend.label for media in store.backends.values()}
    await add_url(store.metadata, object_id, UncontrolledUrl(post.url, post.label), labels, request.expect)
    return created(None)


async def delete_instance(store: Store, request: Request) -> Response:
    """DELETE /objects/{objectId}/instances"""
    label = request.query.text("label")
    if label is None:
        raise BadRequest("`label` must name the instance to delete.")
    await remove_url(store.metadata, request.params["objectId"], label, request.expect)
    return no_content()
