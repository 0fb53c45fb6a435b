"""`/`, `/service` and `/service/storage-backends`."""

from __future__ import annotations

from store.core import Store
from store.domain.service import describe_service, update_service
from store.domain.urls import describe, readable_by, tags_match
from store.http import Facts, Request, Response, ok, read_position
from store.media.protocol import Backend
from store.metadata.query import Position, Sort, sort_key
from store.models.parsing import load, validate
from store.models.service import ServicePost

ROOT = ["service", "flows", "sources", "objects", "flow-delete-requests"]


async def get_root(store: Store, request: Request) -> Response:
    """GET /"""
    return ok(ROOT, Facts())


async def get_service(store: Store, request: Request) -> Response:
    """GET /service"""
    return ok(await describe_service(store.metadata, store.service), Facts())


async def post_service(store: Store, request: Request) -> Response:
    """POST /service"""
    said = validate(ServicePost, load(request.body)).document()
    await update_service(store.metadata, said, store.now_ns())
    return Response(200, [])


async def get_storage_backends(store: Store, request: Request) -> Response:
    """GET /service/storage-backends"""
    tags, tag_exists = request.query.tags()
    reverse = request.query.flag("reverse_order") or False
    limit = store.limit(request)
    paging = store.paging(request)
    after = paging.position(read_position)
    backends = [
        media.backend
        for media in store.backends.values()
        if readable_by(request.view, media.backend) and tags_match(media.backend.tags, tags, tag_exists)
    ]
    backends.sort(key=_key, reverse=reverse)
    if after is not None:
        last = sort_key(Sort.LABEL, after)
        backends = [b for b in backends if (_key(b) < last if reverse else _key(b) > last)]
    page, rest = backends[:limit], backends[limit:]
    position = [page[-1].label, page[-1].id] if rest else None
    headers = paging.headers(limit, len(page), position, reverse=reverse)
    return Response(200, headers, ok([describe(b) for b in page]).body, Facts())


def _key(backend: Backend) -> tuple[bool, int | str, str]:
    return sort_key(Sort.LABEL, Position(backend.label, backend.id))
