"""A server from settings, in one process or several; at SIGHUP it opens its application anew."""

from __future__ import annotations

import gc
import logging
import socket
from collections.abc import AsyncIterator, Callable
from contextlib import AbstractAsyncContextManager, AsyncExitStack, asynccontextmanager
from dataclasses import dataclass
from typing import Generic, TypeVar

from uvicorn.config import STARTUP_FAILURE

from store.asgi import App, Receive, Scope, Send, send_response
from store.connections import allow_connections
from store.errors import NotFound
from store.http import failure, utc_now
from store.logs import set_up
from store.process import Process
from store.reload import Replaceable
from store.server import server
from store.settings import InvalidSettings, StoreSettings
from store.tls import Certificates, InvalidCertificate
from store.workers import Member, Workers, listen

SIDE = "tams.side"
"""In the scope of a request that came by the port that is for operators alone."""
SIDE_PATHS = frozenset((b"/metrics", b"/health", b"/ready"))
FIXED = ("host", "port", "workers", "tls", "limits", "stop", "metrics")
"""Settings that a reload does not change."""
YOUNG = 10_000
"""So many objects are made before those are searched for cycles: some pages of a thousand segments."""
S = TypeVar("S", bound=StoreSettings)
_log = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True)
class Service(Generic[S]):
    """What to serve. `read` reads the settings again, and `open` makes the application of settings; either
    raises one of `failures` where it cannot."""

    read: Callable[[], S]
    open: Callable[[S, Process], AbstractAsyncContextManager[App]]
    failures: tuple[type[Exception], ...]


def serve(settings: S, service: Service[S], listening: Callable[[], None] = lambda: None) -> int:
    """Serve until stopped; `listening` is called once the port is ours. Returns the exit status.

    Raises `InvalidSettings` for what cannot be used.
    """
    set_up(settings.log_level, settings.log_format)
    allow_connections(settings.limits.connections)
    certificates = _certificates(settings)
    metrics = settings.metrics
    try:
        sockets = listen(settings.host, settings.port)
        side = [] if metrics.port is None else listen(metrics.host, metrics.port)
    except OSError as exc:
        places = [f"{settings.host} port {settings.port}", f"{metrics.host} port {metrics.port}"]
        wanted = places if metrics.port is not None else places[:1]
        _log.error("Cannot listen on %s: %s", " and ".join(wanted), exc)
        return STARTUP_FAILURE
    listening()

    def work(member: Member | None) -> int:
        return _run(settings, service, Process(member=member), certificates, (sockets, side))

    if settings.workers == 1:
        return work(None)
    return Workers(settings.workers, settings.stop, work).run()


def _certificates(settings: StoreSettings) -> Certificates | None:
    if settings.tls.certificate is None:
        return None
    try:
        return Certificates(settings.tls)
    except InvalidCertificate as exc:
        raise InvalidSettings([str(exc)]) from exc


def _run(
    settings: S,
    service: Service[S],
    process: Process,
    certificates: Certificates | None,
    sockets: tuple[list[socket.socket], list[socket.socket]],
) -> int:
    first = [settings]
    collect_less()

    @asynccontextmanager
    async def opening() -> AsyncIterator[App]:
        current = first.pop() if first else _again(settings, service)
        async with AsyncExitStack() as stack:
            yield await stack.enter_async_context(service.open(current, process))

    app = Replaceable(opening, service.failures, settings.stop.grace_s)
    running = server(
        app,
        settings.host,
        settings.port,
        limits=settings.limits,
        stop=settings.stop,
        lines=process.lines,
        certificates=certificates,
        reload=app.reload,
        parent=None if process.member is None else process.member.parent,
    )
    running.beside(_operators(app), sockets[1])
    running.run(sockets[0])
    return 0 if running.started else STARTUP_FAILURE


def collect_less() -> None:
    """Let the collector of garbage pass over the code, and look at the rest less often: what requests make
    goes by itself, and searching what is kept of it for cycles was a fifth of the time of a large page."""
    gc.freeze()
    gc.set_threshold(YOUNG)


def _again(settings: S, service: Service[S]) -> S:
    """The settings as they are now. Raises as `service.read`."""
    current = service.read()
    set_up(current.log_level, current.log_format)
    for name in FIXED:
        if getattr(current, name) != getattr(settings, name):
            _log.warning("the changed setting %s counts after a restart", name)
    return current


def _operators(app: App) -> App:
    """The application as it is on the port for operators: what they ask, and nothing else."""

    async def side(scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] == "http" and scope["raw_path"] in SIDE_PATHS:
            await app({**scope, SIDE: True}, receive, send)
        elif scope["type"] == "http":
            refused = failure(NotFound("There is nothing at this path."), utc_now())
            head = scope["method"] == "HEAD"
            await send_response(send, refused.status, refused.headers, refused.body, head=head)
        else:
            await send({"type": "websocket.close", "code": 1008})

    return side
