"""The HTTP server: uvicorn with httptools and uvloop, and what it lets through that it should not."""

from __future__ import annotations

import asyncio
import contextlib
import logging
import signal
import socket
import ssl
import threading
from collections.abc import Awaitable, Callable, Iterator
from dataclasses import dataclass, field
from functools import partial
from typing import Any

import uvicorn
from uvicorn.protocols.http.httptools_impl import HttpToolsProtocol

from store.asgi import App
from store.connections import waiting_at
from store.http import error_body, utc_now
from store.lingering import Lingering
from store.sending import Joining
from store.serving import LimitSettings, StopSettings
from store.tls import Certificates, InvalidCertificate, tls_of
from store.websocket import QuietWebSocket

HEADER_TIMEOUT_S = 20
KEEP_ALIVE_S = 75
TICK_S = 0.1
LINGER_S = 0.3
"""For so long after it stopped a server waits for requests that were on their way to it."""
CLOSE = (b"connection", b"close")
MAX_MESSAGE_BYTES = 16 << 20
_log = logging.getLogger(__name__)


@dataclass(slots=True)
class Lines:
    """The connections of one process: how many there are, how many were refused, and whether no more shall
    come. `draining`: the server stops soon, and tells every client so. `ends`: what ends answers that would
    not end by themselves, called when it stops."""

    open: int = 0
    refused: int = 0
    draining: bool = False
    ends: list[Callable[[], Awaitable[None]]] = field(default_factory=list)

    @contextlib.contextmanager
    def ending(self, end: Callable[[], Awaitable[None]]) -> Iterator[None]:
        """Let `end` be called, within a second or so, when the server stops meanwhile."""
        self.ends.append(end)
        try:
            yield
        finally:
            self.ends.remove(end)


class ServerConfig(uvicorn.Config):
    """uvicorn's, with what our protocols go by."""

    lines: Lines
    limits: LimitSettings


class StrictProtocol(HttpToolsProtocol):
    """Refuses what RFC 9112 3.2 does: no Host, or several; and heads that are too long or never end; and
    connections beyond the limit.

    Refusals are in the TAMS error schema, and close the connection.
    """

    _out: Joining

    def __init__(self, config: ServerConfig, *args: Any, **kwargs: Any) -> None:
        super().__init__(config, *args, **kwargs)
        self._lines = config.lines
        self._most = config.limits.connections
        self._most_head_bytes = config.limits.header_bytes
        self._tls: dict[object, object] | None = None
        self._is_in_head = False
        self._head_timer: asyncio.TimerHandle | None = None
        self._head_bytes = 0
        self._read_bytes = 0
        self._may_go_on = False
        self._lingering: Lingering | None = None

    def connection_made(self, transport: asyncio.Transport) -> None:  # type: ignore[override]
        """Give the first head a deadline."""
        super().connection_made(transport)
        self._out = Joining(transport, self.loop, self._over)
        self._tls = tls_of(transport)
        self._lines.open += 1
        if self._lines.open > self._most:
            self._lines.refused += 1
            self._refuse("There are too many connections. Try again later.", "503 Service Unavailable")
            return
        self._is_in_head = True
        self._await_head()

    def connection_lost(self, exc: Exception | None) -> None:
        """Let go of the deadline, and of the circle of references."""
        self._lines.open -= 1
        self._head_arrived()
        self._out.over = self.transport.close
        super().connection_lost(exc)

    def shutdown(self) -> None:
        """The server stops: what is being answered is; what may be on its way has a moment to arrive."""
        if self.cycle is None or self.cycle.response_complete:
            # Closed at once, a request that the client has sent already would be lost, and not be repeatable.
            self.loop.call_later(LINGER_S, self._close_idle)
        else:
            super().shutdown()

    def _close_idle(self) -> None:
        if self.cycle is None or self.cycle.response_complete:
            self.transport.close()

    def data_received(self, data: bytes) -> None:
        """Count a head's bytes, and give it a deadline, while it is not all there."""
        if self._lingering is not None:
            self._lingering.take(data)
            return
        self._read_bytes = len(data)
        if self._is_in_head:
            self._head_bytes += len(data)
        super().data_received(data)
        if not self._is_in_head:
            return
        if self._head_bytes > self._most_head_bytes:
            self._refuse("The request's head is too long.")
        elif self._head_timer is None:
            self._await_head()

    def on_message_begin(self) -> None:
        """A head begins."""
        super().on_message_begin()
        if self._tls is not None:
            self.scope["extensions"] = {"tls": self._tls}
        if not self._is_in_head:
            # How many of the bytes at hand are its own is not known: one at least.
            self._is_in_head, self._head_bytes = True, 1

    def on_headers_complete(self) -> None:
        """A head is whole: of a version that we speak, with exactly one Host."""
        self._head_arrived()
        if self.parser.get_http_version() not in ("1.0", "1.1"):
            self._refuse("The request is not HTTP/1.1.")
            return
        if [name for name, _ in self.headers].count(b"host") != 1:
            self._refuse("A request must have exactly one Host header.")
            return
        if self._is_long():
            self._refuse("The request's head is too long.")
            return
        if self._lines.draining and not self.parser.should_upgrade():
            # As if the client had asked for it: the answer is its last on this connection, and says so.
            self.headers.append(CLOSE)
        super().on_headers_complete()
        if self.cycle is not None:
            self.cycle.transport = self._out  # type: ignore[assignment]
            # An answer that does not wait for the whole body is the last on its connection, and says so.
            self._may_go_on, self.cycle.keep_alive = self.cycle.keep_alive, False

    def on_body(self, body: bytes) -> None:
        """Hand bytes on as they came where none wait to be taken: uvicorn copies them twice."""
        if self.transport.is_closing():
            # Of a request that was refused: the cycle at hand is the one before.
            return
        cycle = self.cycle
        if cycle is not None and not cycle.body:
            cycle.body, body = body, b""  # type: ignore[assignment]
        elif cycle is not None and isinstance(cycle.body, bytes):
            cycle.body = bytearray(cycle.body)
        super().on_body(body)

    def on_message_complete(self) -> None:
        """A body is whole: what it is answered with need not be the last."""
        if self.transport.is_closing():
            return
        super().on_message_complete()
        if self.cycle is not None and not (self.cycle.response_started or self._lines.draining):
            self.cycle.keep_alive = self._may_go_on

    def _is_long(self) -> bool:
        """Whether a whole head is beyond the limit; measured only where what was read could hold one."""
        most = self._most_head_bytes
        if max(self._head_bytes, self._read_bytes) <= most:
            return False
        return len(self.url) + sum(len(name) + len(value) for name, value in self.headers) > most

    def handle_websocket_upgrade(self) -> None:
        """A head that asks for one, unless it was refused."""
        if not self.transport.is_closing():
            super().handle_websocket_upgrade()

    def on_response_complete(self) -> None:
        """What is written next is of another answer."""
        self._out.end()
        super().on_response_complete()

    def _over(self) -> None:
        """The last answer is sent, or cannot be."""
        if self.cycle.response_complete and self.cycle.more_body and not self.transport.is_closing():
            self._lingering = Lingering(self.transport, self.loop)
        else:
            self.transport.close()

    def send_400_response(self, msg: str) -> None:
        """What the parser refuses."""
        self._refuse("The request is not valid HTTP/1.1.")

    def _await_head(self) -> None:
        self._head_timer = self.loop.call_later(HEADER_TIMEOUT_S, self._head_late)

    def _head_late(self) -> None:
        self._head_timer = None
        if self._head_bytes and not self.transport.is_closing():
            self._refuse("The request's head took too long.")

    def _head_arrived(self) -> None:
        self._is_in_head = False
        if self._head_timer is not None:
            self._head_timer.cancel()
            self._head_timer = None

    def _refuse(self, summary: str, status: str = "400 Bad Request") -> None:
        self._head_arrived()
        if self.transport.is_closing():
            return
        kind = status.partition(" ")[2].replace(" ", "")
        body = error_body(kind, summary, utc_now())
        later = "retry-after: 1\r\n" if status.startswith("503") else ""
        head = f"HTTP/1.1 {status}\r\ncontent-type: application/json\r\nconnection: close\r\n{later}"
        self.transport.write(b"%scontent-length: %d\r\n\r\n%s" % (head.encode(), len(body), body))
        self.transport.close()


class CountedWebSocket(QuietWebSocket):
    """A WebSocket, whose connection was counted as one of HTTP."""

    def __init__(self, config: ServerConfig, *args: Any, **kwargs: Any) -> None:
        super().__init__(config, *args, **kwargs)
        self._lines = config.lines

    def connection_lost(self, exc: Exception | None) -> None:
        """It is gone."""
        self._lines.open -= 1
        super().connection_lost(exc)


class Server(uvicorn.Server):
    """A server that can be told to take its settings anew (SIGHUP) and that stops without failing anybody.

    `reload`: what SIGHUP does. `certificates`: what TLS shows, None without TLS.
    `parent`: a descriptor at whose end the server stops too.
    """

    def __init__(
        self,
        config: ServerConfig,
        stop: StopSettings,
        certificates: Certificates | None,
        reload: Callable[[], Awaitable[None]] | None,
        parent: int | None,
    ) -> None:
        super().__init__(config)
        self._config = config
        self._parent = parent
        self._lines = config.lines
        self._stop = stop
        self._certificates = certificates
        self._reload = reload
        self._beside: set[asyncio.Task[None]] = set()
        self._others: list[tuple[ServerConfig, socket.socket]] = []

    def beside(self, app: App, sockets: list[socket.socket]) -> None:
        """Serve another application, in the clear, on sockets of its own; it has no lifespan."""
        config = _config(app, self.config.host, 0, StopSettings())
        config.limits, config.lines = LimitSettings(), self._lines
        self._others += [(config, each) for each in sockets]

    async def startup(self, sockets: list[socket.socket] | None = None) -> None:
        """Open the application, then the port."""
        await super().startup(sockets)
        loop = asyncio.get_running_loop()
        for config, each in self._others:
            config.load()
            protocol = partial(StrictProtocol, config, self.server_state, {})
            self.servers.append(await loop.create_server(protocol, sock=each))
        if self._parent is not None:
            loop.add_reader(self._parent, self._orphaned)
        if self._certificates is not None:
            self._spawn(self._certificates.watch())
        if threading.current_thread() is threading.main_thread():
            loop.add_signal_handler(signal.SIGHUP, lambda: self._spawn(self._reloaded()))

    async def shutdown(self, sockets: list[socket.socket] | None = None) -> None:
        """Take requests for a while yet, each the last on its connection; then stop.

        Another signal ends the waiting.
        """
        self._lines.draining = True
        ticks = round(self._stop.drain_s / TICK_S)
        while ticks > 0 and len(self._captured_signals) < 2 and not self.force_exit:
            ticks -= 1
            await self.on_tick(ticks)
            await asyncio.sleep(TICK_S)
        for task in self._beside:
            task.cancel()
        await self._stop_listening(sockets or [])
        await asyncio.gather(*(end() for end in self._lines.ends))
        await super().shutdown(sockets)

    async def _stop_listening(self, sockets: list[socket.socket]) -> None:
        """Listen no more, and take the connections that have been made: closing would reset those."""
        waiting = [each for listening in sockets for each in waiting_at(listening)]
        for running in self.servers:
            running.close()
        loop = asyncio.get_running_loop()
        protocol = partial(StrictProtocol, self._config, self.server_state, self.lifespan.state)
        for each in waiting:
            with contextlib.suppress(OSError):
                await loop.connect_accepted_socket(protocol, each, ssl=self._config.ssl)

    async def _reloaded(self) -> None:
        if self._certificates is not None:
            try:
                self._certificates.reload()
            except InvalidCertificate as exc:
                _log.error("The certificate is refused, the one before is still shown: %s", exc)
        if self._reload is not None:
            await self._reload()

    def _orphaned(self) -> None:
        if self._parent is not None:
            asyncio.get_running_loop().remove_reader(self._parent)
            self.should_exit = True

    def _spawn(self, work: Awaitable[None]) -> None:
        task = asyncio.ensure_future(work)
        self._beside.add(task)
        task.add_done_callback(self._beside.discard)


def server(
    app: App,
    host: str,
    port: int,
    *,
    limits: LimitSettings | None = None,
    stop: StopSettings | None = None,
    lines: Lines | None = None,
    certificates: Certificates | None = None,
    reload: Callable[[], Awaitable[None]] | None = None,
    parent: int | None = None,
) -> Server:
    """A server for one process; nothing of the client's headers changes who it is taken for."""
    stop = stop or StopSettings()
    config = _config(app, host, port, stop, None if certificates is None else certificates.context)
    config.limits = limits or LimitSettings()
    config.lines = lines or Lines()
    return Server(config, stop, certificates, reload, parent)


def _config(
    app: App, host: str, port: int, stop: StopSettings, context: ssl.SSLContext | None = None
) -> ServerConfig:
    return ServerConfig(
        app,
        host=host,
        port=port,
        http=StrictProtocol,
        loop="uvloop",
        ws=CountedWebSocket,
        ws_max_size=MAX_MESSAGE_BYTES,
        ws_per_message_deflate=False,
        lifespan="on",
        log_config=None,
        access_log=False,
        proxy_headers=False,
        server_header=False,
        date_header=True,
        timeout_keep_alive=KEEP_ALIVE_S,
        timeout_graceful_shutdown=stop.grace_s,
        ssl_context_factory=None if context is None else lambda config, default: context,
    )
