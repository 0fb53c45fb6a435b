"""A WebSocket's protocol: uvicorn's, and what it does that it should not."""

from __future__ import annotations

import asyncio
import logging
from typing import Any

from uvicorn.protocols.websockets.websockets_sansio_impl import WebSocketsSansIOProtocol
from websockets.http11 import Request

from store.sending import Gathering
from store.tls import tls_of

_quiet = logging.getLogger(__name__)
_quiet.setLevel(logging.WARNING)


class QuietWebSocket(WebSocketsSansIOProtocol):
    """A WebSocket whose URL, and a token in it, is not logged."""

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        self.logger = _quiet

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """Let frames that are sent together go out together: each write wakes the other side."""
        super().connection_made(transport)
        self.transport = Gathering(self.transport, self.loop)  # type: ignore[assignment]

    def handle_connect(self, event: Request) -> None:
        """The handshake is whole: let the application know the client's certificate, as over HTTP."""
        super().handle_connect(event)
        tls = tls_of(self.transport)
        if tls is not None and not self.close_sent:
            self.scope["extensions"] |= {"tls": tls}

    async def send(self, message: Any) -> None:
        """A handshake that was answered as a plain request is over; uvicorn would log that as a failure."""
        await super().send(message)
        if message["type"] == "websocket.http.response.body" and self.close_sent:
            self.handshake_complete = True
