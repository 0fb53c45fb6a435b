"""`/service/webhooks`."""

from __future__ import annotations

from store.core import Store
from store.domain.webhooks import create_webhook, remove_webhook, replace_webhook
from store.errors import BadRequest
from store.http import JSON, Facts, Request, Response, created, no_content
from store.metadata.query import Query, Sort
from store.metadata.rows import Document, Kind
from store.models.common import classes_of
from store.models.parsing import load, validate
from store.models.webhook import WebhookPost, WebhookPut
from store.routes.listing import listing, page_of, tagged
from store.routes.properties import load_row


async def get_webhooks(store: Store, request: Request) -> Response:
    """GET /service/webhooks"""
    filters = tagged(request.query) | page_of(store, request, request.view)
    return await listing(store, request, Query(Kind.WEBHOOK, sort=Sort.URL, **filters))


async def get_webhook(store: Store, request: Request) -> Response:
    """GET /service/webhooks/{webhookId}"""
    row = await load_row(store, request, Kind.WEBHOOK, request.params["webhookId"])
    return Response(200, [JSON], row.document, Facts(row.classes))


async def post_webhook(store: Store, request: Request) -> Response:
    """POST /service/webhooks"""
    post = validate(WebhookPost, load(request.body))
    _check_url(store, post.url)
    edit = store.edit(request)
    return _told(await create_webhook(store.metadata, store.seal, store.new_id(), post, edit))


async def put_webhook(store: Store, request: Request) -> Response:
    """PUT /service/webhooks/{webhookId}; 201, as the specification has it."""
    put = validate(WebhookPut, load(request.body))
    _check_url(store, put.url)
    webhook_id, edit = request.params["webhookId"], store.edit(request)
    return _told(await replace_webhook(store.metadata, store.seal, webhook_id, put, edit))


async def delete_webhook(store: Store, request: Request) -> Response:
    """DELETE /service/webhooks/{webhookId}"""
    await remove_webhook(store.metadata, request.params["webhookId"], store.edit(request))
    return no_content()


def _check_url(store: Store, url: str) -> None:
    """Refuse what plainly may not be called; names are asked for at each delivery. Raises `BadRequest`."""
    problem = store.addresses.problem(url)
    if problem is not None:
        raise BadRequest(f"`url` {problem}.")


def _told(webhook: Document) -> Response:
    return created(webhook, Facts(classes_of(webhook.get("tags", {}))))
