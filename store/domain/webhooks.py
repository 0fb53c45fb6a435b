"""Webhooks: who wants to be told of what. Rules 57-60; delivering is another matter.

The row's private part holds the owner, on whose behalf events are authorised, and the secret.
"""

from __future__ import annotations

import orjson

from store.domain.draft import Draft, settled, without
from store.domain.flows import Edit
from store.errors import BadRequest, NotFound
from store.events.hooks import sealed_secret
from store.events.sealing import Seal
from store.metadata.protocol import Metadata
from store.metadata.rows import Document, Kind, Ref
from store.models.webhook import WebhookPost, WebhookPut

SECRET = "api_key_value"


def webhook_ref(webhook_id: str) -> Ref:
    """Names a webhook."""
    return Ref(Kind.WEBHOOK, webhook_id)


def private_part(owner: bytes | None, sealed: str | None, start: int) -> bytes:
    """What is kept beside a webhook and never returned. Its owner is what the proxy says; there is none on
    the store alone. `start`: events behind this sequence number are for it."""
    said = None if owner is None else owner.decode()
    return orjson.dumps({"owner": said, "sealed": sealed, "start": start})


async def create_webhook(
    metadata: Metadata, seal: Seal, webhook_id: str, post: WebhookPost, edit: Edit
) -> Document:
    """Register a webhook; what GET will return. Its secret is kept sealed."""
    body = post.document()
    sealed = sealed_secret(seal, webhook_id, body.pop(SECRET, None))
    document = {"status": "created", **body, "id": webhook_id}
    start = await metadata.last_event()
    draft = Draft(metadata, edit.expect)
    ref = webhook_ref(webhook_id)
    await draft.load([ref])
    draft.put(ref, document, private_part(edit.owner, sealed, start))
    await draft.commit(edit.now_ns)
    return document


async def replace_webhook(
    metadata: Metadata, seal: Seal, webhook_id: str, put: WebhookPut, edit: Edit
) -> Document:
    """Replace a webhook; what GET will return. Whoever does it becomes its owner.

    One in error goes on where it stopped, one that was disabled begins with what happens from now on.
    Raises `NotFound`, and `BadRequest` for a body of another id, a status that cannot follow (rule 58), and a
    new URL that would be sent a secret which its writer did not show to know.
    """
    if put.id != webhook_id:
        raise BadRequest("`id` differs from the webhook's id in the path.")
    given = sealed_secret(seal, webhook_id, put.api_key_value)

    async def step() -> Document:
        draft = Draft(metadata, edit.expect)
        ref = webhook_ref(webhook_id)
        await draft.load([ref])
        before, row = draft.get(ref), draft.row(ref)
        if before is None or row is None:
            raise NotFound("No such webhook.")
        if before["status"] == "error" and put.status == "disabled":
            raise BadRequest("A webhook in error is enabled again by `created`; it cannot be disabled.")
        kept = orjson.loads(row.private or b"{}")
        start = kept.get("start", 0)
        if before["status"] == "disabled":
            start = await metadata.last_event()
        document = without(put.document(), SECRET)
        sealed = _secret(before, put, given, kept.get("sealed"))
        draft.put(ref, document, private_part(edit.owner, sealed, start))
        await draft.commit(edit.now_ns)
        return document

    return await settled(step)


def _secret(before: Document, put: WebhookPut, given: str | None, kept: str | None) -> str | None:
    """The secret from now on: the one given, else the one that is there, which stays with its URL."""
    if put.api_key_value is not None or put.api_key_name is None:
        return given
    if kept is not None and put.url != before["url"]:
        raise BadRequest(f"A new `url` needs `{SECRET}` again.")
    return kept


async def refresh_owner(metadata: Metadata, webhook_id: str, known: bytes, fresh: bytes, now_ns: int) -> None:
    """Bring what is kept of an owner up to date, if it is still this one."""

    async def step() -> None:
        draft = Draft(metadata)
        ref = webhook_ref(webhook_id)
        await draft.load([ref])
        document, row = draft.get(ref), draft.row(ref)
        if document is None or row is None:
            return
        kept = orjson.loads(row.private or b"{}")
        if kept.get("owner") == known.decode():
            draft.put(ref, document, private_part(fresh, kept.get("sealed"), kept.get("start", 0)))
            await draft.commit(now_ns)

    await settled(step)


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
