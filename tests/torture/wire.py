"""Raw requests on raw sockets, one connection each, and all that comes back."""

from __future__ import annotations

import asyncio
from dataclasses import dataclass
from urllib.parse import urlsplit

ANSWER_BYTES = 4 << 20
WAIT_S = 20
STREAM_S = 1.0


@dataclass(frozen=True)
class Wire:
    """A server on a port of this machine."""

    url: str

    async def exchange(self, request: bytes, patience_s: float = WAIT_S) -> bytes:
        """What is answered until the server closes, at most `ANSWER_BYTES`, empty when it closes at once.

        When nothing is said for `patience_s` the server is told that no more will come. `TimeoutError` when
        it does not close then either.
        """
        parts = urlsplit(self.url)
        reader, writer = await asyncio.open_connection(parts.hostname, parts.port)
        answer = b""
        try:
            async with asyncio.timeout(WAIT_S):
                writer.write(request)
                await writer.drain()
                while len(answer) < ANSWER_BYTES and (piece := await _next(reader, writer, patience_s)):
                    answer += piece
                    # What has begun may be a stream, which goes on until somebody hangs up.
                    patience_s = min(patience_s, STREAM_S)
        except ConnectionError:
            return answer
        finally:
            writer.transport.abort()
        return answer


async def _next(reader: asyncio.StreamReader, writer: asyncio.StreamWriter, patience_s: float) -> bytes:
    try:
        async with asyncio.timeout(patience_s):
            return await reader.read(1 << 16)
    except TimeoutError:
        writer.write_eof()
        return await reader.read(1 << 16)


def request_of(method: str, target: str, headers: dict[str, str], body: bytes | None) -> bytes:
    """A request in bytes, the last on its connection. What is not Latin-1 is sent as UTF-8."""
    lines = [f"{method} {target} HTTP/1.1", "Host: torture", "Connection: close"]
    lines += [f"{name}: {value}" for name, value in headers.items()]
    if body is not None:
        lines += ["Content-Type: application/json", f"Content-Length: {len(body)}"]
    return "\r\n".join(lines).encode("utf-8", "surrogatepass") + b"\r\n\r\n" + (body or b"")


def statuses_of(answer: bytes) -> list[int]:
    """The statuses of the answers in it: of the first, and of others behind it on the connection."""
    pieces = answer.split(b"HTTP/1.1 ")
    return [int(piece[:3]) for piece in pieces[1:] if piece[:3].isdigit()]
