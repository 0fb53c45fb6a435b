"""Events of a foreign upstream: the proxy asks to be told of them, as long as anybody here wants to know.

One registration at the upstream feeds an outbox of our own, from which webhooks and live streams are served
as those of the store inside are. What an event is authorised by is looked up when it arrives; of what is
gone, it was remembered before.
"""

from __future__ import annotations

import asyncio
import hashlib
import hmac
import logging
from collections.abc import AsyncIterator, Awaitable, Callable, Iterable
from contextlib import asynccontextmanager, suppress
from typing import Any

import orjson

from proxy.errors import BadUpstream, Error, NotSupported, Unauthenticated
from proxy.upstream.client import Reply
from proxy.upstream.documents import NOBODYS, Document, list_in
from proxy.upstream.headers import Base, next_page, path_of, with_query
from proxy.upstream.lookups import failure
from proxy.upstream.messages import EVENTS, Happened, Message, Remembered, happened, message_in, remembered_of
from proxy.upstream.parts import Parts
from proxy.upstream.protocol import Pairs, Ref, View
from proxy.upstream.urls import UrlRule

PATH = "/relay/events"
KEY_NAME = "X-Relay-Key"
WEBHOOKS, WEBHOOK = "/service/webhooks", "/service/webhooks/{id}"
LOOK_S = 30.0
CHECK_S = 60.0
LISTENING_S = 120
"""For so long events are kept coming when the last listener has gone: it may come back."""
MOST_PAGES = 100
_NOT_THERE = (404, 405, 501)
_UNKNOWN = Remembered(frozenset((NOBODYS,)))
_log = logging.getLogger(__name__)


class Receiver:
    """Keeps one webhook of our own at an upstream, and turns what comes in into events.

    `keys`: secrets, newest first. `has_webhooks`: whether there are any here. `tell` writes an event down; it
    is durable when that returns.
    """

    def __init__(
        self,
        parts: Parts,
        keys: Iterable[bytes],
        has_webhooks: Callable[[], Awaitable[bool]],
        tell: Callable[[Happened], Awaitable[None]],
    ) -> None:
        self._parts = parts
        self._url = f"{parts.public_url}{PATH}"
        self._secrets = [_secret(key, parts.client.base, self._url) for key in keys]
        self._has_webhooks = has_webhooks
        self._tell = tell
        self._lock = asyncio.Lock()
        self._checked_s: float | None = None
        self._refreshed = False
        self._listeners = 0
        self._task: asyncio.Task[None] | None = None

    # What is registered at the upstream

    def start(self) -> None:
        """Begin to look after the registration, on the running loop."""
        self._task = asyncio.create_task(self._forever(), name="receiver of events")

    async def stop(self) -> None:
        """Stop looking; the registration stays, and with it what happens meanwhile, if the upstream tries
        again."""
        if self._task is not None:
            self._task.cancel()
            with suppress(asyncio.CancelledError):
                await self._task

    async def _forever(self) -> None:
        while True:
            try:
                if self._listeners:
                    await self._parts.ledger.listen(int(self._parts.clock.unix_s()) + LISTENING_S)
                await self.settle()
            except Error as exc:
                _log.warning("events of the upstream: %s", exc)
            await asyncio.sleep(LOOK_S)

    async def ensure(self) -> None:
        """See to it that the upstream tells of events. Raises `NotSupported` where it has no webhooks, and
        as `Client.send`."""
        await self._settle(True)

    async def settle(self) -> None:
        """Register, or take the registration back, as it is wanted now. Raises as `ensure`."""
        kept = await self._parts.ledger.receiving()
        wanted = kept.until_s > self._parts.clock.unix_s() or await self._has_webhooks()
        if wanted or kept.registered:
            await self._settle(wanted)

    @asynccontextmanager
    async def listening(self) -> AsyncIterator[None]:
        """Events are wanted for as long as the context lasts. `ensure` was called before."""
        self._listeners += 1
        try:
            await self._parts.ledger.listen(int(self._parts.clock.unix_s()) + LISTENING_S)
            yield
        finally:
            self._listeners -= 1

    async def _settle(self, wanted: bool) -> None:
        now_s = self._parts.clock.steady_s()
        if wanted and self._checked_s is not None and now_s < self._checked_s + CHECK_S:
            return
        async with self._lock:
            if wanted and self._checked_s is not None and now_s < self._checked_s + CHECK_S:
                return
            await self._agree(wanted)
            self._checked_s = self._parts.clock.steady_s() if wanted else None

    async def _agree(self, wanted: bool) -> None:
        found = [hook for hook in await self._registered(wanted) if hook.get("url") == self._url]
        if not wanted:
            for hook in found:
                await self._remove(hook)
            await self._parts.ledger.register(False)
            return
        # Before, so that a registration is found again whatever happens meanwhile.
        await self._parts.ledger.register(True)
        if not found:
            self._done(await self._parts.client.send("POST", WEBHOOKS, await self._body()))
        elif not self._refreshed or found[0].get("status") in ("error", "disabled"):
            await self._refresh(found[0])
        for hook in found[1:]:
            if "id" in hook:
                await self._remove(hook)
        self._refreshed = True

    async def _registered(self, wanted: bool) -> list[Document]:
        """All webhooks of the proxy's own client at the upstream."""
        found: list[Document] = []
        page: Pairs | None = ()
        for _ in range(MOST_PAGES):
            reply = await self._parts.client.send("GET", with_query(WEBHOOKS, page or ()))
            if reply.status in _NOT_THERE and not wanted:
                return found
            self._done(reply)
            found += [item for item in list_in(reply.body) if isinstance(item, dict)]
            page = next_page(page or (), reply.headers)
            if page is None:
                return found
        raise BadUpstream("The upstream's list of webhooks does not end.")

    async def _refresh(self, hook: Document) -> None:
        """Give the upstream the secret of now, and enable what it gave up."""
        if "id" not in hook:
            self._done(await self._parts.client.send("POST", WEBHOOKS, await self._body()))
            return
        path = path_of(WEBHOOK, {"id": str(hook["id"])})
        body = await self._body(id=hook["id"], status="created")
        self._done(await self._parts.client.send("PUT", path, body))

    async def _remove(self, hook: Document) -> None:
        if "id" in hook:
            path = path_of(WEBHOOK, {"id": str(hook["id"])})
            reply = await self._parts.client.send("DELETE", path)
            if reply.status not in (200, 202, 204, *_NOT_THERE):
                raise failure(reply)
            return
        # Before webhooks had ids, one was taken away by asking for no events.
        body = orjson.dumps({"url": self._url, "events": []})
        self._done(await self._parts.client.send("POST", WEBHOOKS, body))

    async def _body(self, **more: Any) -> bytes:
        body: Document = {
            "url": self._url,
            "events": list(EVENTS),
            "api_key_name": KEY_NAME,
            "api_key_value": self._secrets[0],
            **more,
        }
        if (await self._parts.features()).instances:
            # Which backend a URL is on decides who may have it.
            body |= {"verbose_storage": True, "include_object_timerange": True}
        return orjson.dumps(body)

    def _done(self, reply: Reply) -> None:
        if reply.status in _NOT_THERE:
            raise NotSupported("The upstream lacks webhooks.")
        if reply.status in (400, 403, 422):
            raise BadUpstream("The upstream refuses the proxy's own webhook: may it call the public URL?")
        if not 200 <= reply.status < 300:
            raise failure(reply)

    # What the upstream tells

    def check(self, key: str | None) -> None:
        """Raise `Unauthenticated` unless it is the key that the upstream was given."""
        given = (key or "").encode("latin-1")
        if not any([hmac.compare_digest(given, secret.encode()) for secret in self._secrets]):
            raise Unauthenticated("This is for the upstream.")

    async def take(self, given: object) -> None:
        """An event that the upstream tells of. Raises `BadRequest` for what is none, and while what it is
        authorised by cannot be looked up."""
        message = message_in(given)
        if message is None:
            return
        about = await self._about(message)
        source = None
        if about.source_id is not None:
            source = await self._now(("source", about.source_id))
        now_ns = int(self._parts.clock.unix_s() * 1_000_000_000)
        await self._tell(happened(message, about, source, now_ns))

    async def _about(self, message: Message) -> Remembered:
        """What an event is about: after a change as the message has it, before a deletion as remembered.
        What nobody here knows is for administrators."""
        kind = message.ref[0]
        if message.document is not None:
            said = remembered_of(kind, message.document)
            await self._parts.ledger.remember(message.ref, said)
            return said
        found = None if message.is_deletion else await self._now(message.ref)
        return found or await self._parts.ledger.remembered(message.ref) or _UNKNOWN

    async def _now(self, ref: Ref) -> Remembered | None:
        document = await self._parts.lookups.document(ref)
        if document is None:
            return await self._parts.ledger.remembered(ref)
        said = remembered_of(ref[0], document)
        await self._parts.ledger.remember(ref, said)
        return said

    async def shown(self, body: Document, view: View) -> Document:
        """The body of an event with the media URLs that a view sees, as they lead through the proxy."""
        segments = body.get("segments")
        if not isinstance(segments, list):
            return body
        listed = () if view.admin else await self._parts.backends()
        # What the listener itself asked for is left to whoever renders.
        rule = UrlRule.of(listed, view, [("verbose_storage", "true")], self._parts.relayed)
        return {**body, "segments": [{"get_urls": [], **rule.apply(item)} for item in segments]}


def _secret(key: bytes, base: Base, url: str) -> str:
    said = f"relay\n{base.origin}{base.path}\n{url}"
    return hmac.new(key, said.encode(), hashlib.sha256).hexdigest()
