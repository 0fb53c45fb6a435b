"""Webhooks in front of a foreign upstream: kept here, beside everything else, which is kept there."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import AsyncIterator, Awaitable, Callable, Iterable, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass, field, replace
from typing import Any, Protocol

import orjson

from proxy.asgi import App, Receive, Scope, Send
from proxy.errors import STATUS, Error, MethodNotAllowed
from proxy.events import Happening, Seen, Watcher
from proxy.live import Listening, Streams
from proxy.upstream.answers import Answer, refusal
from proxy.upstream.headers import JSON
from proxy.upstream.http import HttpUpstream
from proxy.upstream.messages import Happened
from proxy.upstream.open import Opened
from proxy.upstream.protocol import (
    BackendFact,
    Known,
    MediaFact,
    ObjectFact,
    Ref,
    Request,
    Response,
    Upstream,
    View,
)
from proxy.upstream.reads import MECHANISMS
from proxy.upstream.receiver import KEY_NAME, PATH, Receiver

_log = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True)
class _Both:
    """Facts from here and from there."""

    classes: dict[Ref, frozenset[str]]
    source_ids: dict[str, str] = field(default_factory=dict)
    profile_ids: dict[str, str] = field(default_factory=dict)
    collections: dict[str, list[dict[str, Any]]] = field(default_factory=dict)
    objects: dict[str, ObjectFact] = field(default_factory=dict)


class WithWebhooks:
    """An `Upstream`: `there` for everything but webhooks, which are `here`. `mechanisms`: what `/service`
    says of events, where the upstream tells of them at all."""

    def __init__(
        self,
        there: HttpUpstream,
        here: Upstream,
        receiver: Receiver,
        mechanisms: Sequence[object],
    ) -> None:
        self._there = there
        self._here = here
        self._receiver = receiver
        self._mechanisms = list(mechanisms)
        self._tasks: set[asyncio.Task[None]] = set()

    async def call(self, request: Request) -> Response:
        """As `protocol.Upstream.call`. Nothing is registered here of which the upstream would not tell."""
        operation = request.operation
        if "_webhooks" not in operation:
            found = await self._there.call(request)
            return self._described(found) if operation == "GET_service" else found
        if operation in ("POST_webhooks", "PUT_webhooks"):
            await self._receiver.ensure()
        answer = await self._here.call(request)
        if operation == "DELETE_webhooks-webhookId":
            task = asyncio.create_task(self._settle())
            self._tasks.add(task)
            task.add_done_callback(self._tasks.discard)
        return answer

    async def _settle(self) -> None:
        """Whoever deletes a webhook does not wait for the upstream; what fails is tried again."""
        try:
            await self._receiver.settle()
        except Error as exc:
            _log.warning("events of the upstream: %s", exc)

    def _described(self, answer: Answer) -> Answer:
        """The upstream's ways to tell of events, replaced by those of here."""
        document = orjson.loads(answer.body)
        if answer.status == 200 and MECHANISMS in document:
            answer.body = orjson.dumps({**document, MECHANISMS: self._mechanisms})
        return answer

    async def look_up(self, refs: Iterable[Ref], objects: Iterable[str], view: View | None) -> Known:
        """As `protocol.Upstream.look_up`."""
        asked, wanted = list(refs), list(objects)
        ours = [ref for ref in asked if ref[0] == "webhook"]
        if not ours:
            return await self._there.look_up(asked, wanted, view)
        classes = dict((await self._here.look_up(ours, (), view)).classes)
        theirs = [ref for ref in asked if ref[0] != "webhook"]
        if not theirs and not wanted:
            return _Both(classes)
        found = await self._there.look_up(theirs, wanted, view)
        return _Both(
            {**classes, **found.classes},
            dict(found.source_ids),
            dict(found.profile_ids),
            dict(found.collections),
            dict(found.objects),
        )

    async def media_at(self, backend_id: str, key: str) -> MediaFact | None:
        """As `protocol.Upstream.media_at`."""
        return await self._there.media_at(backend_id, key)

    async def backends(self) -> Sequence[BackendFact]:
        """As `protocol.Upstream.backends`."""
        return await self._there.backends()

    async def lacks(self, operation: str) -> str | None:
        """As `protocol.Upstream.lacks`; whether the upstream tells of events is found out by asking it to."""
        return None if "_webhooks" in operation else await self._there.lacks(operation)


class Relayed:
    """Who may see an event, and what of it: with media URLs as the listener may have them."""

    def __init__(self, watcher: Watcher, receiver: Receiver) -> None:
        self._watcher = watcher
        self._receiver = receiver

    async def admit(self, owner: bytes | None, event: Happening) -> Seen | None:
        """As `Watcher.admit`."""
        seen = await self._watcher.admit(owner, event)
        if seen is None:
            return None
        return replace(seen, body=await self._receiver.shown(seen.body, seen.view))


class Listened:
    """Live streams that the receiver knows of."""

    def __init__(self, streams: Streams, receiver: Receiver) -> None:
        self._streams = streams
        self._receiver = receiver

    async def __call__(self, caller: Listening, scope: Scope, receive: Receive, send: Send, /) -> None:
        """As `Streams`."""
        async with self._receiver.listening():
            await self._streams(caller, scope, receive, send)


class Plumbing(Protocol):
    """The strict reading of a body; raises as `asgi.Plumbing`."""

    async def body(self, scope: Scope, receive: Receive) -> bytes: ...

    def load(self, body: bytes) -> object: ...

    def stamp(self) -> str: ...


class ReceiverDoor:
    """The ASGI application that the upstream's deliveries come to."""

    def __init__(self, receiver: Receiver, plumbing: Plumbing) -> None:
        self._receiver = receiver
        self._plumbing = plumbing

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Answer one delivery: 204 once the event is written down."""
        try:
            if scope["method"] != "POST":
                raise MethodNotAllowed("This path does not take this method.", allow=("POST",))
            keys = [value for name, value in scope["headers"] if name == KEY_NAME.lower().encode()]
            self._receiver.check(keys[0].decode("latin-1") if len(keys) == 1 else None)
            await self._receiver.take(self._plumbing.load(await self._plumbing.body(scope, receive)))
        except Error as exc:
            await self._refuse(exc, scope, send)
            return
        except ConnectionError:
            return
        await send({"type": "http.response.start", "status": 204, "headers": []})
        await send({"type": "http.response.body", "body": b""})

    async def _refuse(self, error: Error, scope: Scope, send: Send) -> None:
        status = STATUS[type(error)]
        answer = refusal(status, error.summary, self._plumbing.stamp(), type(error).__name__)
        headers = [(name.encode(), value.encode()) for name, value in (JSON,)]
        if isinstance(error, MethodNotAllowed):
            headers.append((b"allow", b"POST"))
        if status == 503:
            headers.append((b"retry-after", b"2"))
        headers.append((b"content-length", b"%d" % len(answer.body)))
        await send({"type": "http.response.start", "status": status, "headers": headers})
        body = b"" if scope["method"] == "HEAD" else answer.body
        await send({"type": "http.response.body", "body": body})


class Outbox(Protocol):
    """Where events are written down, beside the webhooks. Failures are exceptions of its own."""

    async def has_webhooks(self) -> bool:
        """Whether there are any."""
        ...

    async def tell(self, told: Happened, /) -> None:
        """Write down an event; durable on return."""
        ...


@asynccontextmanager
async def relaying(
    opened: Opened, here: Upstream, outbox: Outbox, keys: tuple[bytes, ...], mechanisms: Sequence[object]
) -> AsyncIterator[tuple[WithWebhooks, Receiver]]:
    """An upstream together with webhooks kept `here`, its events coming in as long as the context lasts."""
    receiver = Receiver(opened.parts, keys, outbox.has_webhooks, outbox.tell)
    receiver.start()
    try:
        yield WithWebhooks(opened.upstream, here, receiver, mechanisms), receiver
    finally:
        await receiver.stop()


def listened(streams: Streams, receiver: Receiver | None) -> Streams:
    """Streams of events, with the receiver that they depend on, if there is one."""
    return streams if receiver is None else Listened(streams, receiver)


def deciding_of(
    watcher: Watcher, receiver: Receiver | None
) -> Callable[[bytes | None, Happening], Awaitable[Seen | None]]:
    """Who may see an event, whether it came through a receiver or not."""
    return watcher.admit if receiver is None else Relayed(watcher, receiver).admit


def receiver_doors(receiver: Receiver | None, plumbing: Plumbing) -> dict[bytes, App]:
    """The paths that the upstream calls."""
    return {} if receiver is None else {PATH.encode(): ReceiverDoor(receiver, plumbing)}
