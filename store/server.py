"""The HTTP server: uvicorn with httptools and uvloop, and what it lets through that it should not."""

from __future__ import annotations

import asyncio
import logging
from typing import Any

import uvicorn
from uvicorn.protocols.http.httptools_impl import HttpToolsProtocol
from uvicorn.protocols.websockets.websockets_sansio_impl import WebSocketsSansIOProtocol

from store.asgi import App
from store.http import error_body, utc_now

HEADER_TIMEOUT_S = 20
KEEP_ALIVE_S = 75
MAX_HEADERS_BYTES = 64 * 1024
MAX_MESSAGE_BYTES = 16 << 20
_quiet = logging.getLogger("store.websocket")
_quiet.setLevel(logging.WARNING)


class StrictProtocol(HttpToolsProtocol):
    """Refuses what RFC 9112 3.2 does: no Host, or several; and heads that are too long or never end.

    Refusals are in the TAMS error schema, and close the connection.
    """

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        self._head_timer: asyncio.TimerHandle | None = None
        self._head_bytes = 0

    def connection_made(self, transport: asyncio.Transport) -> None:  # type: ignore[override]
        """Give the first head a deadline."""
        super().connection_made(transport)
        self._expect_head()

    def connection_lost(self, exc: Exception | None) -> None:
        """Let go of the deadline."""
        self._head_arrived()
        super().connection_lost(exc)

    def data_received(self, data: bytes) -> None:
        """Count the head's bytes while one is being received."""
        if self._head_timer is not None:
            self._head_bytes += len(data)
        super().data_received(data)
        if self._head_timer is not None and self._head_bytes > MAX_HEADERS_BYTES:
            self._refuse("The request's head is too long.")

    def on_message_begin(self) -> None:
        """A head begins."""
        super().on_message_begin()
        if self._head_timer is None:
            self._expect_head()

    def on_headers_complete(self) -> None:
        """A head is whole: of a version that we speak, with exactly one Host."""
        self._head_arrived()
        if self.parser.get_http_version() not in ("1.0", "1.1"):
            self._refuse("The request is not HTTP/1.1.")
            return
        hosts = sum(name == b"host" for name, _ in self.headers)
        if hosts != 1:
            self._refuse("A request must have exactly one Host header.")
            return
        super().on_headers_complete()

    def send_400_response(self, msg: str) -> None:
        """What the parser refuses."""
        self._refuse("The request is not valid HTTP/1.1.")

    def _expect_head(self) -> None:
        self._head_bytes = 0
        self._head_timer = self.loop.call_later(HEADER_TIMEOUT_S, self._head_late)

    def _head_late(self) -> None:
        self._head_timer = None
        if self._head_bytes and not self.transport.is_closing():
            self._refuse("The request's head took too long.")

    def _head_arrived(self) -> None:
        if self._head_timer is not None:
            self._head_timer.cancel()
            self._head_timer = None

    def _refuse(self, summary: str) -> None:
        self._head_arrived()
        if self.transport.is_closing():
            return
        body = error_body("BadRequest", summary, utc_now())
        self.transport.write(
            b"HTTP/1.1 400 Bad Request\r\ncontent-type: application/json\r\nconnection: close\r\n"
            b"content-length: %d\r\n\r\n" % len(body) + body
        )
        self.transport.close()


class QuietWebSocket(WebSocketsSansIOProtocol):
    """A WebSocket whose URL, and a token in it, is not logged."""

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        self.logger = _quiet


def server(app: App, host: str, port: int) -> uvicorn.Server:
    """A server for one process; nothing of the client's headers changes who it is taken for."""
    config = uvicorn.Config(
        app,
        host=host,
        port=port,
        http=StrictProtocol,
        loop="uvloop",
        ws=QuietWebSocket,
        ws_max_size=MAX_MESSAGE_BYTES,
        ws_per_message_deflate=False,
        lifespan="on",
        log_config=None,
        access_log=False,
        proxy_headers=False,
        server_header=False,
        date_header=True,
        timeout_keep_alive=KEEP_ALIVE_S,
        timeout_graceful_shutdown=5,
    )
    return uvicorn.Server(config)
