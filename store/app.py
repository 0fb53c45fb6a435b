"""The store's composition root: a running store from settings, and the application that serves it alone."""

from __future__ import annotations

import asyncio
import logging
import os
import socket
import time
import uuid
from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager
from dataclasses import dataclass
from typing import Any

from store import __version__
from store.about import About
from store.asgi import (
    App,
    Disconnected,
    Receive,
    Scope,
    Send,
    read_body,
    send_response,
)
from store.checks import backend_problems
from store.core import Limits, Store
from store.docs.document import describe
from store.docs.pages import documentation
from store.domain.accesses import flushing
from store.domain.keys import Keys
from store.domain.service import ServiceFacts
from store.errors import Error, MethodNotAllowed, NotFound
from store.events.admission import everybody
from store.events.bodies import Renderer
from store.events.sealing import Seal
from store.events.system import Events, run_events
from store.exposition import Alone, Exposition, Together, measured, of_server
from store.http import Request, Response, failure, fault, utc_now
from store.measures import Measure, of_jobs, of_streams, of_webhooks
from store.media.config import build
from store.media.files import Files
from store.media.protocol import Media
from store.media.serve import LocalMedia
from store.media.signing import Lifetime, Signer, key_of
from store.metadata.opening import open_metadata
from store.metadata.protocol import Metadata
from store.older_surface import surface
from store.params import Params
from store.process import Process
from store.rate import Rate
from store.readiness import Check
from store.reload import Replaceable
from store.routes.events import PATH, Anybody, EventRoutes, refuse_socket
from store.routes.keys import MOUNT, KeyRoutes, KeyValueApp
from store.routes.keys import Limits as KeyLimits
from store.routes.table import ROUTES, Operation
from store.routing import Router, decode, decode_query
from store.settings import InvalidSettings, StoreSettings
from store.streams.alone import Served, StreamApp, run_streams
from store.streams.doors import is_ours
from store.streams.flows import Retention
from store.streams.streams import Options
from store.work.jobs import JOBS
from store.work.worker import Job, Worker

_log = logging.getLogger(__name__)
MEDIA = b"/media/"
TITLE = "TAMS 8.2"
CLOSING_S = 5.0
"""How long what is known may take to reach the metadata when the store stops; leases run out otherwise."""
BACKENDS_FRESH_S = 30.0
"""For how long a storage backend is not asked again whether it works: it writes and reads for that."""


@dataclass(frozen=True, slots=True)
class Running:
    """A store with all that it needs to run."""

    store: Store
    media: LocalMedia
    worker: Worker
    keys: KeyRoutes
    key_rate: Rate | None
    events: Events
    streams: Served
    measures: tuple[Measure, ...] = ()

    def check(self) -> Check:
        """The storage backends: whoever needs none of them is still served while they are down."""
        backends = self.store.backends.values()

        async def ask() -> str | None:
            said = await asyncio.gather(*(media.check() for media in backends))
            found = [
                f"{media.backend.label or media.backend.id}: {problem}"
                for media, problems in zip(backends, said, strict=True)
                for problem in problems
            ]
            return "; ".join(found) or None

        return Check("storage backends", ask, (Error,), vital=False, fresh_s=BACKENDS_FRESH_S)


@asynccontextmanager
async def run_store(
    settings: StoreSettings,
    *,
    media_keys: tuple[bytes, ...],
    cursor_keys: tuple[bytes, ...],
    webhook_keys: tuple[bytes, ...],
    jobs: tuple[Job, ...] = JOBS,
) -> AsyncIterator[Running]:
    """Open everything, and close it at the end. Keys are secrets of 32 bytes, newest first; `jobs` go on
    in the background.

    Raises `InvalidSettings` for storage backends that cannot be, `errors.Unavailable` for what cannot be
    reached.
    """
    wrong = backend_problems(settings)
    if wrong:
        raise InvalidSettings(wrong)
    configs = settings.backends()
    lifetime = Lifetime(settings.urls.lifetime_s, settings.urls.shortest_s, settings.urls.interval_s)
    settings.data.mkdir(mode=0o700, parents=True, exist_ok=True)
    signer = Signer(media_keys)
    public_url = settings.base_url()
    backends: dict[str, Media] = {
        config.id: build(config, public_url=public_url, signer=signer, lifetime=lifetime, clock=time.time)
        for config in configs
    }
    local = {name: media for name, media in backends.items() if isinstance(media, Files)}
    metadata = await open_metadata(settings)
    store = _store(settings, metadata, backends, cursor_keys, Seal(webhook_keys))
    holder = f"{socket.gethostname()}-{os.getpid()}-{uuid.uuid4().hex[:8]}"
    worker = Worker(store, jobs, holder)
    await _report(backends)
    worker.start()
    served = LocalMedia(local, signer, time.time)
    try:
        keys = _key_routes(settings, store)
        async with (
            flushing(store.accesses, metadata, store.now_ns),
            run_events(
                metadata,
                Renderer(metadata, backends, store.now_ns),
                store.seal,
                store.addresses,
                holder=holder,
                streams=settings.events.streams,
            ) as events,
            run_streams(store, _streams(settings, store), settings.max_body_bytes) as streams,
        ):
            measures = (of_jobs(worker), of_webhooks(metadata), of_streams(streams.streams))
            try:
                yield Running(store, served, worker, keys, settings.keys.rate(), events, streams, measures)
            finally:
                # All that is written down and given back from here on: each alone would wait for a database
                # that is gone as long as a request does.
                metadata.hurry(CLOSING_S)
    finally:
        await worker.stop()
        for media in backends.values():
            await media.close()
        await metadata.close()


def _store(
    settings: StoreSettings,
    metadata: Metadata,
    backends: Mapping[str, Media],
    cursor_keys: tuple[bytes, ...],
    seal: Seal,
) -> Store:
    """The store, on what has been opened for it."""
    own = frozenset(name for name, media in backends.items() if isinstance(media, Files))
    return Store(
        metadata=metadata,
        backends=backends,
        service=_facts(settings),
        public_url=settings.base_url(),
        cursor_keys=cursor_keys,
        now_ns=time.time_ns,
        new_id=lambda: str(uuid.uuid4()),
        seal=seal,
        limits=Limits(settings.page, settings.page_most, settings.delete_inline),
        verify_uploads=settings.verify_uploads,
        trusted=settings.trust_created_by,
        own_backends=own if settings.collect_orphans else frozenset(),
        addresses=settings.events.addresses(),
        events_kept_ns=settings.events.kept_s * 1_000_000_000,
    )


async def _report(backends: dict[str, Media]) -> None:
    for name, media in backends.items():
        for problem in await media.check():
            _log.error("storage backend %s: %s", name, problem)


def _key_routes(settings: StoreSettings, store: Store) -> KeyRoutes:
    """The key-value API. Raises `InvalidSettings` for a backend that is not there."""
    named = settings.keys.backend
    ids = {media.backend.label: id for id, media in store.backends.items()} | {
        id: id for id in store.backends
    }
    if named is not None and named not in ids:
        raise InvalidSettings([f"TAMS_KEYS__BACKEND: there is no storage backend {named!r}"])
    keys = Keys(
        metadata=store.metadata,
        backends=store.backends,
        backend_id=None if named is None else _backend_id(store, named, "TAMS_KEYS__BACKEND"),
        object_timeout_ns=store.service.min_object_timeout_s * 1_000_000_000,
        now_ns=store.now_ns,
        new_id=store.new_id,
        accesses=store.accesses,
    )
    limits = KeyLimits(settings.keys.most_bytes, settings.keys.redirect_bytes)
    return KeyRoutes(keys, limits, store.cursor_keys)


def _backend_id(store: Store, named: str, setting: str) -> str:
    """The id of the backend of this id or label. Raises `InvalidSettings`."""
    for id, media in store.backends.items():
        if named in (id, media.backend.label):
            return id
    raise InvalidSettings([f"{setting}: there is no storage backend {named!r}"])


def _streams(settings: StoreSettings, store: Store) -> Options:
    """How streams are kept. Raises `InvalidSettings` for a backend that is not there."""
    chosen = settings.streams
    backend_id = (
        None if chosen.backend is None else _backend_id(store, chosen.backend, "TAMS_STREAMS__BACKEND")
    )
    retention = Retention(chosen.max_len, chosen.max_age_s, chosen.max_bytes)
    return Options(settings.data / "streams", backend_id, retention, shared=settings.metadata == "vast")


def _facts(settings: StoreSettings) -> ServiceFacts:
    return ServiceFacts(
        name=settings.name,
        description=settings.description,
        service_version=f"tams-proxy.{__version__}",
        min_object_timeout_s=settings.min_object_timeout_s,
        min_presigned_url_timeout_s=settings.urls.shortest_s,
        event_mechanisms=_mechanisms(settings.base_url()),
    )


def _mechanisms(public_url: str) -> tuple[dict[str, Any], ...]:
    """TAMS 8.2 event-stream-common.json: webhooks, and our own live streams with where they are."""
    live = public_url + PATH.decode()
    return (
        {"name": "webhooks"},
        {"name": "server-sent-events", "config": {"url": live}},
        {"name": "websocket", "config": {"url": f"ws{live.removeprefix('http')}"}},
    )


class StoreApp:
    """The store alone over HTTP: no authorization at all, for trusted use."""

    def __init__(self, running: Running, max_body_bytes: int, about: About | None = None) -> None:
        self._store = running.store
        self._about = (about or _about(running, Process(), Exposition(measured(running.measures)))).answers()
        self._media = running.media
        self._events = EventRoutes(running.events.live, everybody)
        self._keys = KeyValueApp(running.keys, running.key_rate, time.time)
        self._streams = StreamApp(running.streams.doors, running.store)
        self._router: Router[Operation] = Router(ROUTES)
        self._max_body_bytes = max_body_bytes
        self._older = surface(running.store.public_url, max_body_bytes)
        self._pages = documentation(
            TITLE, lambda: describe(TITLE, __version__, running.store.public_url, authorization=False)
        )

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Answer one HTTP request, or one WebSocket."""
        if self._older.takes(scope):
            await self._older(self, scope, receive, send)
            return
        path: bytes = scope["raw_path"]
        if path == PATH:
            await self._events(Anybody(), scope, receive, send)
            return
        if is_ours(path):
            await self._streams(scope, receive, send)
            return
        if scope["type"] == "websocket":
            await receive()
            await refuse_socket(scope, send, failure(NotFound("There is nothing at this path."), utc_now()))
            return
        method: str = scope["method"]
        if path.startswith(MEDIA):
            await self._serve_media(scope, receive, send)
            return
        if path.startswith(MOUNT):
            await self._keys(scope, receive, send)
            return
        page = self._about.get(path) or self._pages.get(path)
        if page is not None:
            await page(scope, receive, send)
            return
        try:
            response = await self._respond(scope, receive)
        except Disconnected:
            return
        except Error as exc:
            response = failure(exc, utc_now())
        # A fault of ours must still be an answer in the API's own form, and must be found in the log.
        except Exception:
            _log.exception("%s %s", method, path.decode("ascii", "replace"))
            response = fault(utc_now())
        await send_response(send, response.status, response.headers, response.body, head=method == "HEAD")

    async def _serve_media(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["query_string"]:
            await self._media(scope, receive, send)
            return
        try:
            backend_id, key, content_type = await self._place(scope["raw_path"])
        except Error as exc:
            response = failure(exc, utc_now())
            head = scope["method"] == "HEAD"
            await send_response(send, response.status, response.headers, response.body, head=head)
            return
        method, headers = scope["method"], scope["headers"]
        await self._media.respond(method, backend_id, key, headers, receive, send, content_type=content_type)

    async def _place(self, path: bytes) -> tuple[str, str, str]:
        """The backend id, key and content type that an unsigned media URL names. Raises `NotFound` for
        what is no object's, so that nothing is uploaded that nobody would ever collect."""
        pieces = path.split(b"/")
        if len(pieces) != 4:
            raise NotFound("There is nothing at this path.")
        backend_id, key = decode(pieces[2]), key_of(decode(pieces[3]))
        object_id = await self._store.metadata.object_at(backend_id, key)
        rows = await self._store.metadata.objects([object_id] if object_id is not None else [])
        for row in rows.values():
            for instance in row.instances:
                if (instance.backend_id, instance.key) == (backend_id, key):
                    return backend_id, key, instance.content_type
        raise NotFound("There is nothing at this path.")

    async def _respond(self, scope: Scope, receive: Receive) -> Response:
        method, path = scope["method"], scope["raw_path"]
        found = self._router.match(path)
        if found is None:
            raise NotFound("There is nothing at this path.")
        methods, params = found
        operation = methods.get("GET" if method == "HEAD" else method)
        if operation is None:
            allow = (*methods, "HEAD") if "GET" in methods else tuple(methods)
            raise MethodNotAllowed("This path does not take this method.", allow=allow)
        query = Params(decode_query(scope["query_string"]))
        body = b""
        if method in ("PUT", "POST"):
            body = await read_body(scope, receive, self._max_body_bytes)
        request = Request(operation.id, path.decode("ascii"), params, query, body)
        return await operation.handler(self._store, request)


def with_lifespan(settings: StoreSettings, *, secret: bytes) -> App:
    """The store alone as one ASGI application: opens on start-up, closes on shutdown."""
    return Replaceable(lambda: opened(settings, Process(), secret), (), 0)


@asynccontextmanager
async def opened(settings: StoreSettings, process: Process, secret: bytes) -> AsyncIterator[App]:
    """The store alone, in a process that serves it. Raises as `run_store`."""
    keys = (secret,)
    async with run_store(settings, media_keys=keys, cursor_keys=keys, webhook_keys=keys) as running:
        running.events.deliver(everybody)
        exposition = Exposition([of_server(process.lines, __version__), *measured(running.measures)])
        async with process.telling(exposition) as teller:
            with process.lines.ending(running.events.live.end):
                yield StoreApp(running, settings.max_body_bytes, _about(running, process, teller))


def _about(running: Running, process: Process, teller: Exposition | Alone | Together) -> About:
    async def database() -> None:
        await running.store.metadata.check()

    checks = (Check("store", database, (Error,)), running.check())
    return About(process, __version__, checks, teller.text)
