"""What pushes and pulls have in common: frames in and out, and why a socket is closed."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Coroutine, Sequence
from typing import Any

from store.asgi import Receive, Send
from store.errors import BadRequest, Error, Forbidden, NotFound
from store.streams.flows import Stream
from store.streams.streams import Streams
from store.streams.visiting import Refused, Visitor

NORMAL, WRONG_TYPE, MALFORMED, REFUSED, FAULT, RESTART, LATER = 1000, 1003, 1007, 1008, 1011, 1012, 1013
RECHECK_S = 2.0
"""How often it is asked whether a socket may still do what it does."""
CLOSE_S = 2.0
_REASON_BYTES = 120
_log = logging.getLogger(__name__)


class Closed(Exception):
    """The socket is to be closed, and why (RFC 6455 7.4)."""

    def __init__(self, code: int, reason: str) -> None:
        super().__init__(reason)
        self.code = code
        self.reason = reason


class Gone(Exception):
    """The other side has closed."""


class Held:
    """The streams of one socket, as they were when it was last asked whether it may use them."""

    def __init__(self, streams: Streams, visitor: Visitor, found: Sequence[Stream], *, write: bool) -> None:
        self._streams = streams
        self._visitor = visitor
        self._write = write
        self.streams = {stream.id: stream for stream in found}

    async def admit(self, sid: str) -> Stream:
        """A stream that may be used. Raises `Refused`, and `errors.Error`."""
        stream = await self._streams.find(sid)
        await self._visitor.check(stream.flow_id, write=self._write)
        if self._write and stream.read_only:
            raise Forbidden("The stream is read-only.")
        return stream

    async def watch(self) -> None:
        """Ask again and again; ends by `Closed` when something may not go on."""
        while True:
            await asyncio.sleep(RECHECK_S)
            try:
                await self._visitor.still_known()
                for sid, before in list(self.streams.items()):
                    now = await self.admit(sid)
                    if now.key != before.key:
                        raise Closed(REFUSED, "The stream has been deleted.")
                    self.streams[sid] = now
            except (Refused, Error) as exc:
                raise closed_by(exc) from exc


def closed_by(exc: Refused | Error) -> Closed:
    """How a socket that is open ends by an error."""
    if isinstance(exc, Refused):
        return Closed(LATER if exc.status >= 500 or exc.status == 429 else REFUSED, exc.detail)
    if isinstance(exc, BadRequest | NotFound | Forbidden):
        return Closed(REFUSED, exc.summary)
    return Closed(LATER, exc.summary)


async def received(receive: Receive) -> str | bytes:
    """The next frame. Raises `Gone`."""
    message = await receive()
    if message["type"] != "websocket.receive":
        raise Gone
    data = message.get("bytes")
    if data is not None:
        return bytes(data)
    return str(message["text"])


async def served(send: Send, *work: Coroutine[Any, Any, None]) -> None:
    """Accept the socket, and serve it until any of the work ends; then close it."""
    tasks: list[asyncio.Task[None]] = []
    try:
        await send({"type": "websocket.accept"})
        tasks += [asyncio.create_task(each) for each in work]
        done, _ = await asyncio.wait(tasks, return_when=asyncio.FIRST_COMPLETED)
    except asyncio.CancelledError:
        # The server has no more time for it, and may have another that has.
        await _close(send, Closed(RESTART, "The server restarts. Come again."))
        raise
    finally:
        for task in tasks:
            task.cancel()
        for coroutine in work[len(tasks) :]:
            coroutine.close()
        await asyncio.gather(*tasks, return_exceptions=True)
    end = next((task.exception() for task in done if not task.cancelled()), None)
    if isinstance(end, Gone | OSError):
        return
    closed = _ended(end)
    if closed.code != NORMAL:
        _log.info("a socket of a stream was closed with %d: %s", closed.code, closed.reason)
    await _close(send, closed)


def _ended(end: BaseException | None) -> Closed:
    if isinstance(end, Closed):
        return end
    if isinstance(end, Refused | Error):
        return closed_by(end)
    if end is not None:
        _log.error("a socket of a stream failed", exc_info=end)
        return Closed(FAULT, "Something went wrong here; it was logged.")
    return Closed(NORMAL, "")


async def _close(send: Send, closed: Closed) -> None:
    reason = closed.reason.encode()[:_REASON_BYTES].decode(errors="ignore")
    try:
        async with asyncio.timeout(CLOSE_S):
            await send({"type": "websocket.close", "code": closed.code, "reason": reason})
    # The other side takes nothing, or has gone: the server then ends the connection.
    except (TimeoutError, OSError):
        return
