"""The composition root: builds everything, owns the lifespan; it alone knows the store."""

from __future__ import annotations

import time
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import AbstractAsyncContextManager, AsyncExitStack, asynccontextmanager
from dataclasses import dataclass

import httpx
from pydantic import Field

import store.errors
import store.settings
from proxy import __version__
from proxy.adapters import LocalFiles, LocalKeys, Plumbing
from proxy.asgi import App, Doors, Files, ProxyApp, Refusals
from proxy.asked import Limits
from proxy.audit import Journal
from proxy.banner import banner
from proxy.cors import Cors
from proxy.errors import (
    Error,
    InvalidSettings,
)
from proxy.events import OwnerLapsed, Watcher
from proxy.figures import Figures
from proxy.gate import Gate
from proxy.health import Engine, Facts, Operations, Operator, dependencies
from proxy.identity.authenticate import create
from proxy.identity.keyring import Keyring
from proxy.keyvalue import KeyValue
from proxy.live import LiveEvents, Streams, origin_of
from proxy.metrics import ProxySource
from proxy.mounts import mounted, problems_of, settings_of
from proxy.openings import open_doors
from proxy.policy.files import InvalidPolicy
from proxy.policy.folder import FolderPolicy
from proxy.policy.open import open_decisions
from proxy.propagate import Propagation
from proxy.settings import ProxySettings
from proxy.sights import PolicySights
from proxy.start import KEYRING_NAME, first_start, policy_folder, start_problems
from proxy.streams import StreamDoors
from proxy.traces import Traced, tracing
from proxy.upstream.embedded import Embedded
from proxy.upstream.leaving import UntilGone
from proxy.upstream.open import open_upstream
from proxy.upstream.parts import Clock
from proxy.upstream.protocol import Upstream
from proxy.upstream.receiver import Receiver
from proxy.upstream.webhooks import deciding_of, listened, receiver_doors, relaying
from store.app import Running, run_store
from store.checks import problems as store_problems
from store.docs.document import describe
from store.docs.pages import documentation
from store.domain.webhooks import refresh_owner
from store.door import Door
from store.events.admission import deciding
from store.events.desk import Desk as Desk
from store.events.desk import open_desk as open_desk
from store.exposition import CONTENT_TYPE, Alone, Exposition, Source, Together, measured, of_server
from store.files import SettingsFiles as SettingsFiles
from store.http import utc_now
from store.keeping import Backends
from store.logs import lines
from store.older_surface import surface
from store.process import Process
from store.readiness import Check, Readiness
from store.relaying import relay_settings as relay_settings
from store.reload import Replaceable
from store.routes.events import EventRoutes
from store.serve import Service, serve
from store.settings import StoreSettings, parse

RESOURCE_PATH = "/.well-known/oauth-protected-resource"


class Settings(StoreSettings, ProxySettings):
    """All settings of the proxy with its embedded store."""

    demo: bool = Field(False, description="Make secrets for the policy's clients, and an archive.")

    def backends(self) -> Backends:
        """As in the store; the demo has an archive of the newsroom's class too."""
        return self.with_archive("news") if self.demo else super().backends()


@asynccontextmanager
async def run_proxy(settings: Settings, process: Process | None = None) -> AsyncIterator[App]:
    """The proxy with its embedded store, for as long as the context lasts, in a process that serves it.

    Raises `InvalidSettings` with everything that is wrong, `store.errors.Unavailable` for what cannot be
    reached.
    """
    first_start(settings)
    folder = policy_folder(settings)
    public_url = settings.base_url()
    try:
        policy = FolderPolicy(folder, time.time)
        keyring = Keyring.load(settings.data / KEYRING_NAME)
    except InvalidPolicy as exc:
        raise InvalidSettings([f"{folder}: {problem}" for problem in exc.problems]) from exc
    except ValueError as exc:
        raise InvalidSettings([str(exc)]) from exc
    async with AsyncExitStack() as stack:
        client = await stack.enter_async_context(httpx.AsyncClient(timeout=10))
        opened = _remote(settings, keyring, client) if settings.upstream else _embedded(settings, keyring)
        try:
            behind = await stack.enter_async_context(opened)
        except store.settings.InvalidSettings as exc:
            raise InvalidSettings(exc.problems) from exc
        try:
            authenticator = create(settings.identity(settings.data, folder, public_url), client)
        except ValueError as exc:
            raise InvalidSettings(str(exc).split("; ")) from exc
        stack.push_async_callback(authenticator.close)
        try:
            opening = open_decisions(settings.openfga, policy, settings.data, client)
            decisions = await stack.enter_async_context(opening)
        except (OSError, ValueError) as exc:
            raise InvalidSettings([f"openfga: {exc}"]) from exc
        figures = Figures()
        tracer = await stack.enter_async_context(tracing(settings.traces, settings.name, __version__))
        told = [figures.take] if tracer is None else [figures.take, tracer.take]
        journal = Journal(lines(settings.log_format), told)
        stack.callback(journal.flush)
        process = process or Process()
        sources: list[Source] = [
            ProxySource(figures, policy, decisions, journal.flush),
            of_server(process.lines, __version__),
            *measured(behind.running.measures if behind.running is not None else ()),
        ]
        teller = await stack.enter_async_context(process.telling(Exposition(sources)))
        engine = Engine(policy, decisions, authenticator, journal)
        if behind.running is not None:
            stack.enter_context(process.lines.ending(behind.running.events.live.end))
        app = _assemble(settings, behind, engine, process, teller)
        yield app if tracer is None else Traced(app)


@dataclass(frozen=True, slots=True)
class Behind:
    """What the proxy stands before. `check` raises `errors.Error`, or one of the store's, when it is down."""

    upstream: Upstream
    media: App
    files: Files | None
    check: Callable[[], Awaitable[object]]
    keys: LocalKeys | None = None
    running: Running | None = None
    relay: Running | None = None
    receiver: Receiver | None = None


def _store(settings: Settings, keyring: Keyring) -> AbstractAsyncContextManager[Running]:
    return run_store(
        settings,
        media_keys=keyring.secrets("media"),
        cursor_keys=keyring.secrets("cursors"),
        webhook_keys=keyring.secrets("webhooks"),
    )


@asynccontextmanager
async def _embedded(settings: Settings, keyring: Keyring) -> AsyncIterator[Behind]:
    async with _store(settings, keyring) as running:
        upstream, files = Embedded(Door(running.store), store.errors.Error), LocalFiles(running.media)
        keys = LocalKeys(running.keys)
        yield Behind(upstream, running.media, files, running.store.metadata.check, keys, running)


@asynccontextmanager
async def _remote(settings: Settings, keyring: Keyring, http: httpx.AsyncClient) -> AsyncIterator[Behind]:
    opening = open_upstream(settings, keyring, http, Clock(time.time, time.monotonic, utc_now))
    async with opening as opened, _store(relay_settings(settings), keyring) as relay:
        door, mechanisms = Door(relay.store), relay.store.service.event_mechanisms
        here, keys = Embedded(door, store.errors.Error), keyring.secrets("webhooks")
        async with relaying(opened, here, door, keys, mechanisms) as (upstream, receiver):
            check = opened.upstream.check
            yield Behind(upstream, opened.media, None, check, relay=relay, receiver=receiver)


def _assemble(
    settings: Settings, behind: Behind, engine: Engine, process: Process, teller: Alone | Together
) -> App:
    policy, decisions = engine.policy, engine.decisions
    authenticator, journal = engine.authenticator, engine.journal

    plumbing = Plumbing(settings.max_body_bytes)
    sights = PolicySights(decisions, lambda who: policy.current().defaults(who), settings.default_class)
    gate = Gate(
        sights,
        decisions,
        behind.upstream,
        plumbing.load,
        plumbing.stamp,
        limits=Limits(settings.bulk_segments),
        propagation=Propagation() if settings.propagate_classes else None,
    )
    keys, live, seen, pushed = None, None, None, None
    limiter = settings.limits.rate()
    if behind.keys is not None:
        rate = settings.keys.rate()
        keys = KeyValue(behind.keys, authenticator, sights, lambda: policy.current().classes, rate, journal)
    metadata_url = f"{settings.base_url()}{RESOURCE_PATH}"
    refusals = Refusals(authenticator, metadata_url, plumbing.stamp)
    telling = behind.running or behind.relay
    if telling is not None:
        watcher, streams = _events(telling, behind, sights)
        origins, seen = (*settings.cors_origins, origin_of(settings.base_url())), watcher.seen
        ready = behind.receiver.ensure if behind.receiver else None
        live = LiveEvents(streams, authenticator, refusals, journal, origins, seen, ready)
        if behind.running is not None:
            logs = behind.running.streams
            pushed = StreamDoors(logs, gate, sights, behind.upstream, engine, origins, seen, limiter)
    facts = _facts(settings, behind, engine, process, teller)
    operations = Operations(facts, Operator(authenticator, sights), refusals, journal)
    openings = open_doors(authenticator, settings.base_url(), refusals)
    openings |= operations.doors() | _pages(settings) | receiver_doors(behind.receiver, plumbing)
    older = surface(settings.base_url(), settings.max_body_bytes)
    doors = Doors(openings, behind.media, behind.files, keys, live, pushed, older)
    app: App = ProxyApp(gate, authenticator, plumbing, doors, metadata_url, journal, seen, limiter)
    if behind.running is None:
        app = UntilGone(app)
    named = (settings.api_key_header,) if settings.api_key_header else ()
    return Cors(app, settings.cors_origins, origin_of(settings.base_url()), refusals, named)


def _events(running: Running, behind: Behind, sights: PolicySights) -> tuple[Watcher, Streams]:
    """Begin to deliver events to those who may see them, and say who may listen."""
    metadata, now_ns = running.store.metadata, running.store.now_ns

    async def refresh(webhook_id: str, known: bytes, fresh: bytes) -> None:
        await refresh_owner(metadata, webhook_id, known, fresh, now_ns())

    watcher = Watcher(sights, behind.upstream, time.time, refresh)
    admit = deciding(deciding_of(watcher, behind.receiver), OwnerLapsed, Error)
    running.events.deliver(admit, watcher.know)
    return watcher, listened(EventRoutes(running.events.live, admit), behind.receiver)


def _facts(
    settings: Settings, behind: Behind, engine: Engine, process: Process, teller: Alone | Together
) -> Facts:
    """What operators are told."""
    checks = _checks(behind, engine)
    return Facts(
        __version__,
        utc_now,
        engine.policy,
        process.vitals.system,
        {"tracing_enabled": settings.traces.endpoint is not None, "metrics_enabled": True},
        Readiness(checks).find,
        lambda: process.lines.draining,
        teller.text,
        CONTENT_TYPE,
    )


def _checks(behind: Behind, engine: Engine) -> list[Check]:
    """What requests depend on. What has a last good state, or is needed by a few, is told and no more."""
    down = (store.errors.Error, Error)
    asks = dependencies(behind.check, engine)
    checks = [Check(name, ask, down, vital) for name, ask, vital in asks]
    return checks if behind.running is None else [*checks, behind.running.check()]


def _pages(settings: Settings) -> dict[bytes, App]:
    """The documentation."""
    if not settings.documentation:
        return {}
    name, url = settings.name, settings.base_url()
    return documentation(name, lambda: describe(name, __version__, url, authorization=True))


def application(settings: Settings) -> App:
    """The proxy as one ASGI application that opens on start-up and closes on shutdown."""
    return Replaceable(lambda: opened(settings, Process()), (), 0)


def opened(settings: Settings, process: Process) -> AbstractAsyncContextManager[App]:
    """The proxy with all that is mounted beside it, in a process that serves it."""
    return mounted(settings, lambda each: run_proxy(each, process if each is settings else None))


def load_settings(files: SettingsFiles | None = None) -> Settings:
    """The settings of this process; `files` when they are read again. Raises `InvalidSettings` with every
    problem."""
    files = files or SettingsFiles()
    try:
        found = parse(Settings, files=files)
        # A policy folder that counted once is as good as named: the shipped policy never takes its place.
        known = {"policies": found.policies} if files.met(found.policies) else {}
        return found.model_copy(update=known)
    except store.settings.InvalidSettings as exc:
        raise InvalidSettings(exc.problems) from exc
    except OSError as exc:
        raise InvalidSettings([f"TAMS_POLICIES: {exc}"]) from exc


def check_usable(settings: Settings) -> None:
    """Raise `InvalidSettings` with everything that keeps a server from starting with these settings, as far
    as that can be seen without opening the store or asking anybody."""
    found = [*store_problems(settings), *start_problems(settings), *problems_of(settings.upstreams)]
    for each in settings.upstreams:
        if each.policies.is_dir():
            found += start_problems(settings_of(settings, each))
    if found:
        raise InvalidSettings(list(dict.fromkeys(found)))


def run(settings: Settings, read: Callable[[], Settings], tell: Callable[[str], None]) -> int:
    """Serve until stopped; `tell` gets the welcome, `read` reads the settings again. Returns the exit status.

    Raises `InvalidSettings`.
    """
    check_usable(settings)
    first_start(settings)
    failures = (InvalidSettings, store.errors.Error, Error, OSError)
    welcome = banner(settings.base_url(), settings.data, demo=settings.demo)
    try:
        return serve(settings, Service(read, opened, failures), lambda: tell(welcome))
    except store.settings.InvalidSettings as exc:
        raise InvalidSettings(exc.problems) from exc
