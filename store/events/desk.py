"""What operators do with webhooks: see how they fare, try one, deliver again. It acts on the database, beside
whatever processes deliver now."""

from __future__ import annotations

import time
import uuid
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import asdict, dataclass
from typing import Any

import orjson

from store.domain.draft import Draft, settled, without
from store.domain.webhooks import private_part, webhook_ref
from store.errors import BadRequest, Error, NotFound
from store.events.delivery import rows_of
from store.events.hooks import Hook, opened_secret
from store.events.progress import Progress, Result, progress_ref
from store.events.schedule import NS
from store.events.sealing import Seal, Unreadable
from store.events.sender import Answer, HttpSender, Names, Sender
from store.events.signing import headers_of
from store.metadata.opening import open_metadata
from store.metadata.protocol import Metadata
from store.metadata.rows import Document, Kind, Row
from store.models.common import format_time
from store.settings import InvalidSettings, StoreSettings

PAGE = 1000
TEST = "webhooks/test"


@dataclass(frozen=True, slots=True)
class Fared:
    """A webhook, and how its deliveries go. `waiting`: events that failed and will be tried again."""

    id: str
    status: str
    url: str
    events: tuple[str, ...]
    waiting: int
    last: Result | None
    error: str | None

    def document(self) -> dict[str, Any]:
        """As JSON."""
        return {**asdict(self), "last": None if self.last is None else self.last._asdict()}


class Desk:
    """Acts on one database."""

    def __init__(self, metadata: Metadata, seal: Seal, sender: Sender) -> None:
        self._metadata = metadata
        self._seal = seal
        self._sender = sender

    async def webhooks(self) -> list[Fared]:
        """All of them, newest first."""
        rows = [row async for row in rows_of(self._metadata, Kind.WEBHOOK)]
        kept = await self._metadata.rows(progress_ref(row.id) for row in rows)
        return [_fared(row, kept.get(progress_ref(row.id))) for row in rows]

    async def deliveries(self, webhook_id: str) -> list[Result]:
        """The last attempts, oldest first. Raises `NotFound`."""
        await self._row(webhook_id)
        ref = progress_ref(webhook_id)
        row = (await self._metadata.rows([ref])).get(ref)
        return [] if row is None else list(Progress.of(orjson.loads(row.document)).results)

    async def test(self, webhook_id: str, now_ns: int) -> Answer:
        """Deliver a message that tells of nothing, once. Raises `NotFound`, `BadRequest`."""
        hook = Hook.of(await self._row(webhook_id))
        try:
            secret = opened_secret(self._seal, hook)
        except Unreadable:
            raise BadRequest("The secret cannot be read any more; it must be given again.") from None
        body = orjson.dumps(
            {
                "event_timestamp": format_time(now_ns),
                "event_type": TEST,
                "event": {"webhook_id": webhook_id},
            }
        )
        headers = headers_of(
            body, id=str(uuid.uuid4()), sent_s=now_ns // NS, key_name=hook.key_name, secret=secret
        )
        return await self._sender.send(hook.url, headers, body)

    async def replay(self, webhook_id: str, since_ns: int | None, now_ns: int) -> None:
        """Deliver what waits, or failed, at once; with `since_ns` also everything from that time on, as far
        as it is kept. A webhook in error is enabled again.

        Raises `NotFound`, and `BadRequest` for a disabled one.
        """
        start = None if since_ns is None else await self._before(since_ns)
        ref, mine = webhook_ref(webhook_id), progress_ref(webhook_id)

        async def step() -> None:
            draft = Draft(self._metadata)
            await draft.load([ref, mine])
            document, row = draft.get(ref), draft.row(ref)
            if document is None or row is None:
                raise NotFound("No such webhook.")
            if document["status"] == "disabled":
                raise BadRequest("The webhook is disabled: enable it first, by the status `created`.")
            hook, kept = Hook.of(row), draft.get(mine)
            progress = Progress(hook.start) if kept is None else Progress.of(kept)
            first = hook.start
            if start is not None:
                progress, first = progress.replayed(start), min(start, first)
            private = private_part(hook.owner, hook.sealed, first)
            draft.put(ref, {**without(document, "error"), "status": "created"}, private)
            draft.put(mine, progress.afresh().document(webhook_id))
            await draft.commit(now_ns)

        await settled(step)

    async def _before(self, since_ns: int) -> int:
        """The last sequence number before the first event of that time."""
        at = 0
        while found := await self._metadata.events(at, PAGE):
            for stored in found:
                if stored.event.time_ns >= since_ns:
                    return stored.sequence - 1
            at = found[-1].sequence
        return await self._metadata.last_event()

    async def _row(self, webhook_id: str) -> Row:
        ref = webhook_ref(webhook_id)
        row = (await self._metadata.rows([ref])).get(ref)
        if row is None:
            raise NotFound("No such webhook.")
        return row


@asynccontextmanager
async def open_desk(settings: StoreSettings, webhook_keys: tuple[bytes, ...]) -> AsyncIterator[Desk]:
    """The desk of a store, whether it runs or not. What it refuses, and what fails, is a ValueError here."""
    addresses = settings.events.addresses()
    try:
        async with AsyncExitStack() as stack:
            metadata = await open_metadata(settings)
            stack.push_async_callback(metadata.close)
            sender = HttpSender(addresses, Names(), time.time)
            stack.push_async_callback(sender.close)
            yield Desk(metadata, Seal(webhook_keys), sender)
    except Error as exc:
        raise ValueError(exc.summary) from exc
    except InvalidSettings as exc:
        raise ValueError(str(exc)) from exc


def _fared(row: Row, kept: Row | None) -> Fared:
    document: Document = orjson.loads(row.document)
    progress = Progress(0) if kept is None else Progress.of(orjson.loads(kept.document))
    error: dict[str, Any] = document.get("error") or {}
    return Fared(
        row.id,
        document["status"],
        document["url"],
        tuple(document["events"]),
        len(progress.retries),
        progress.results[-1] if progress.results else None,
        error.get("summary"),
    )
