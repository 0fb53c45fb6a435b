"""`/objects/{objectId}` and its instances."""

from __future__ import annotations

from store.core import Store
from store.domain.copies import remove_copy, request_copy
from store.domain.objects import add_url, object_body, remove_url
from store.domain.segments import check_url
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
    urls = store.url_writer(request)
    flows = Query(Kind.FLOW, request.view, limit, tags=tags, tag_exists=tag_exists)
    page = await store.metadata.object_page(request.params["objectId"], flows, after)
    if page is None:
        raise NotFound("No such object.")
    last = page.flow_ids[-1] if page.more else None
    headers = paging.headers(limit, len(page.flow_ids), last, reverse=False)
    facts = Facts(None, page.classes, page.readable)
    return Response(200, headers, object_body(page, urls), facts)


async def post_instance(store: Store, request: Request) -> Response:
    """POST /objects/{objectId}/instances"""
    post = validate(INSTANCES_POST, load(request.body))
    object_id = request.params["objectId"]
    if isinstance(post, ControlledInstance):
        await request_copy(
            store.metadata,
            store.backends,
            object_id,
            post.storage_id,
            now_ns=store.now_ns(),
            new_id=store.new_id,
            expect=request.expect,
        )
        return created(None)
    check_url(store.addresses, post.url)
    labels = {media.backend.label for media in store.backends.values()}
    await add_url(store.metadata, object_id, UncontrolledUrl(post.url, post.label), labels, request.expect)
    return created(None)


async def delete_instance(store: Store, request: Request) -> Response:
    """DELETE /objects/{objectId}/instances"""
    object_id = request.params["objectId"]
    storage_id, label = request.query.uuid("storage_id"), request.query.text("label")
    if (storage_id is None) is (label is None):
        raise BadRequest("Either `storage_id` or `label` must name the instance to delete.")
    if storage_id is None:
        storage_id = next((m.backend.id for m in store.backends.values() if m.backend.label == label), None)
    if storage_id is not None:
        await remove_copy(store.metadata, object_id, storage_id, request.expect)
    elif label is not None:
        await remove_url(store.metadata, object_id, label, request.expect)
    return no_content()
