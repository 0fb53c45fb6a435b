"""A segment that comes with its media, as a form: media may be longer than what is held of a request.

What is held is bounded; of a longer form `segment` has to come first, and the media pass on as they come.
"""

from __future__ import annotations

import asyncio
import errno
import os
import tempfile
from collections.abc import AsyncGenerator, AsyncIterator
from contextlib import aclosing, asynccontextmanager
from dataclasses import dataclass
from typing import IO, Final

from store.asgi import BODY_IDLE_S, Receive, Scope, check_encoding, piece_of
from store.errors import BadRequest, Full, TooLarge, Unavailable
from store.media.serve import MOST_BYTES
from store.streams.multipart import Fields, Piece

SEGMENT: Final = "segment"
FILE: Final = "file"
LIMIT: Final = "TAMS_MAX_BODY_BYTES"
_CHUNK_BYTES: Final = 1 << 18


@dataclass(frozen=True, slots=True)
class Content:
    """A body to be sent; `size_bytes` None: until it ends."""

    pieces: AsyncGenerator[bytes, None]
    size_bytes: int | None


def content_of(body: bytes) -> Content:
    """Bytes as a body."""

    async def pieces() -> AsyncGenerator[bytes, None]:
        yield body

    return Content(pieces(), len(body))


async def incoming(scope: Scope, receive: Receive) -> AsyncGenerator[bytes, None]:
    """The body of a request as it comes. Raises `UnsupportedEncoding`, `TooSlow`, `TooLarge` for more than
    any media may have, and `Disconnected`."""
    check_encoding(scope["headers"])
    size_bytes, more = 0, True
    while more:
        data, more = await piece_of(receive, BODY_IDLE_S)
        size_bytes += len(data)
        if size_bytes > MOST_BYTES:
            raise TooLarge(f"The body is longer than {MOST_BYTES} bytes.")
        yield data


class Form:
    """The fields `segment` and `file` of a form, as it comes in. At most `most_bytes` of it, and one piece,
    are held."""

    def __init__(self, pieces: AsyncGenerator[bytes, None], content_type: bytes, most_bytes: int) -> None:
        self._pieces = pieces
        self._fields = Fields(content_type)
        self._most_bytes = most_bytes
        self._numbers: dict[str, int] = {}
        self._held: dict[str, list[bytes]] = {SEGMENT: [], FILE: []}
        self._said_bytes = 0
        self._has_segment = False
        self._is_whole = False

    async def segment(self) -> bytes:
        """What the form says of the segment. A form that can be held is read, and found to be whole, before.

        Raises `BadRequest`, `TooLarge`, and as what it is read from.
        """
        held_bytes = 0
        async for data in self._pieces:
            self._take(data)
            held_bytes += len(data)
            if held_bytes > self._most_bytes:
                break
        else:
            self._end()
        if not self._has_segment:
            raise TooLarge(
                f"In a form longer than {self._most_bytes} bytes ({LIMIT}), `segment` comes before `file`."
            )
        return b"".join(self._held[SEGMENT])

    def content(self) -> Content:
        """The media; reading them raises as `segment` does where the rest of the form is none."""
        if self._is_whole:
            return content_of(b"".join(self._held[FILE]))
        return Content(self._media(), None)

    async def _media(self) -> AsyncGenerator[bytes, None]:
        for piece in self._let_go():
            yield piece
        async for data in self._pieces:
            self._take(data)
            for piece in self._let_go():
                yield piece
        self._end()

    def _let_go(self) -> list[bytes]:
        held, self._held[FILE] = self._held[FILE], []
        return held

    def _take(self, data: bytes) -> None:
        for piece in self._fields.feed(data):
            self._check(piece)
            if piece.name in self._held:
                self._held[piece.name].append(piece.content)

    def _check(self, piece: Piece) -> None:
        if piece.name in self._held and self._numbers.setdefault(piece.name, piece.number) != piece.number:
            raise BadRequest(f"The form has the field `{piece.name}` twice.")
        if piece.name != FILE:
            self._said_bytes += len(piece.content)
            if self._said_bytes > self._most_bytes:
                raise TooLarge(f"All but `file` is longer than {self._most_bytes} bytes ({LIMIT}).")
        self._has_segment |= piece.name == SEGMENT and piece.is_last

    def _end(self) -> None:
        self._fields.end()
        if self._numbers.keys() != self._held.keys():
            raise BadRequest("The form must have the fields `segment` and `file`.")
        self._is_whole = True


@asynccontextmanager
async def sized(content: Content) -> AsyncIterator[Content]:
    """The same body with its length known: one without is kept in a temporary file meanwhile.

    Raises as reading it does, and `Full`, `Unavailable` for the file.
    """
    if content.size_bytes is not None:
        yield content
        return
    try:
        file: IO[bytes] = await asyncio.to_thread(tempfile.TemporaryFile)
    except OSError as exc:
        raise _unwritten(exc) from exc
    with file:
        size_bytes = await _fill(file, content)
        await asyncio.to_thread(file.seek, 0)
        async with aclosing(_read(file)) as pieces:
            yield Content(pieces, size_bytes)


async def _fill(file: IO[bytes], content: Content) -> int:
    size_bytes = 0
    async with aclosing(content.pieces) as pieces:
        async for piece in pieces:
            size_bytes += len(piece)
            try:
                await asyncio.to_thread(file.write, piece)
            except OSError as exc:
                raise _unwritten(exc) from exc
    try:
        await asyncio.to_thread(file.flush)
    except OSError as exc:
        raise _unwritten(exc) from exc
    return size_bytes


async def _read(file: IO[bytes]) -> AsyncGenerator[bytes, None]:
    while piece := await asyncio.to_thread(file.read, _CHUNK_BYTES):
        yield piece


def _unwritten(exc: OSError) -> Full | Unavailable:
    if exc.errno in (errno.ENOSPC, errno.EDQUOT):
        return Full(f"There is no room for the media in a temporary file: {os.strerror(exc.errno)}.")
    return Unavailable("The media could not be kept in a temporary file.")
