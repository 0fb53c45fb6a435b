"""Webhooks: who wants to be told of what. Rules 57-60; delivering is another matter.

The row's private part holds the owner, on whose behalf events are authorised, and the secret.
"""

from __future__ import annotations

import orjson

from store.domain.draft import Draft, settled, without
from store.domain.flows import Edit
from store.errors import BadRequest, NotFound
from store.metadata.protocol import Metadata
from store.metadata.rows import Document, Kind, Ref
from store.models.webhook import WebhookPost, WebhookPut

SECRET = "api_key_value"


def webhook_ref(webhook_id: str) -> Ref:
    """Names a webhook."""
    return Ref(Kind.WEBHOOK, webhook_id)


def private_part(edit: Edit, secret: str | None) -> bytes:
    """What is kept beside a webhook and never returned. Its owner is what the proxy says; there is none on
    the store alone."""
    return orjson.dumps({"owner": None if edit.owner is None else edit.owner.decode(), "secret": secret})


async def create_webhook(metadata: Metadata, webhook_id: str, post: WebhookPost, edit: Edit) -> Document:
    """Register a webhook; what GET will return."""
    body = post.document()
    secret = body.pop(SECRET, None)
    document = {"status": "created", **body, "id": webhook_id}
    draft = Draft(metadata, edit.expect)
    ref = webhook_ref(webhook_id)
    await draft.load([ref])
    draft.put(ref, document, private_part(edit, secret))
    await draft.commit(edit.now_ns)
    return document


async def replace_webhook(metadata: Metadata, webhook_id: str, put: WebhookPut, edit: Edit) -> Document:
    """Replace a webhook; what GET will return. Whoever does it becomes its owner.

    Raises `NotFound`, and `BadRequest` for a body of another id, a status that cannot follow (rule 58), and
    a new URL that would be sent a secret which its writer did not show to know.
    """
    if put.id != webhook_id:
        raise BadRequest("`id` differs from the webhook's id in the path.")

    async def step() -> Document:
        draft = Draft(metadata, edit.expect)
        ref = webhook_ref(webhook_id)
        await draft.load([ref])
        before, row = draft.get(ref), draft.row(ref)
        if before is None or row is None:
            raise NotFound("No such webhook.")
        if before["status"] == "error" and put.status == "disabled":
            raise BadRequest("A webhook in error is enabled again by `created`; it cannot be disabled.")
        kept = orjson.loads(row.private or b"{}").get("secret")
        document = put.document()
        draft.put(ref, without(document, SECRET), private_part(edit, _secret(before, put, kept)))
        await draft.commit(edit.now_ns)
        return without(document, SECRET)

    return await settled(step)


def _secret(before: Document, put: WebhookPut, kept: str | None) -> str | None:
    """The secret from now on: the one given, else the one that is there, which stays with its URL."""
    if put.api_key_value is not None or put.api_key_name is None:
        return put.api_key_value
    if kept is not None and put.url != before["url"]:
        raise BadRequest(f"A new `url` needs `{SECRET}` again.")
    return kept


async def remove_webhook(metadata: Metadata, webhook_id: str, edit: Edit) -> None:
    """Delete a webhook. Raises `NotFound`."""

    async def step() -> None:
        draft = Draft(metadata, edit.expect)
        ref = webhook_ref(webhook_id)
        await draft.load([ref])
        if draft.get(ref) is None:
            raise NotFound("No such webhook.")
        draft.remove(ref)
        await draft.commit(edit.now_ns)

    await settled(step)
