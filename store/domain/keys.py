"""Keys: names that point to immutable bytes, small ones in the metadata, long ones on a storage backend.

Other clients' section 2 of the design: overwriting makes a new version, deleting a name never removes bytes
that anything else refers to.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncGenerator, AsyncIterator, Callable, Mapping
from dataclasses import dataclass, replace

from store.domain.accesses import Accesses
from store.domain.draft import settled
from store.domain.storage import object_key, resolve_backend
from store.errors import BadRequest, NotFound, PreconditionFailed, Unavailable
from store.media.conditions import write_allowed
from store.media.protocol import Media
from store.metadata.keys import INLINE_BYTES, DeleteKey, KeyRow, PutKey
from store.metadata.protocol import Metadata
from store.metadata.rows import Instance, ObjectRow, Role

LONGEST_NAME_BYTES = 1024
NS_PER_S = 1_000_000_000
FOLDER = "keys"
"""What keys of objects have in place of a flow's id."""


@dataclass(frozen=True, slots=True)
class Keys:
    """What keys are kept with. `backend_id`: where long bytes go, None for the default backend. An object
    that lost its key is removed an hour after: `object_timeout_ns` is the store's time for allocated ones.
    `accesses` counts signed URLs."""

    metadata: Metadata
    backends: Mapping[str, Media]
    backend_id: str | None
    object_timeout_ns: int
    now_ns: Callable[[], int]
    new_id: Callable[[], str]
    accesses: Accesses

    def released_ns(self) -> int:
        """From when on an object that loses its key now counts as allocated."""
        return self.now_ns() - self.object_timeout_ns


@dataclass(frozen=True, slots=True)
class Upload:
    """Bytes on their way in. `fields`: the request's headers, for its conditions (RFC 9110 13)."""

    name: str
    chunks: AsyncGenerator[bytes, None]
    size_bytes: int | None
    content_type: str
    fields: dict[str, str]


def check_name(name: str) -> str:
    """The name, if it can be a key's. Raises `BadRequest`."""
    if not name:
        raise BadRequest("A key must not be empty.")
    if len(name) * 4 > LONGEST_NAME_BYTES and len(name.encode()) > LONGEST_NAME_BYTES:
        raise BadRequest(f"A key is at most {LONGEST_NAME_BYTES} bytes long.")
    return name


def etag_of(row: KeyRow) -> str:
    """What names this very version. The time is in it for databases that were made anew."""
    return f'"{row.created_ns:x}-{row.version:x}"'


def modified_s(row: KeyRow) -> int:
    """When this version was written, in Unix seconds."""
    return row.created_ns // NS_PER_S


async def get(keys: Keys, name: str) -> KeyRow:
    """A key. Raises `NotFound`."""
    row = await keys.metadata.key(check_name(name))
    if row is None:
        raise NotFound("Object not found")
    return row


async def put(keys: Keys, upload: Upload) -> KeyRow:
    """Point a key at new bytes, whole or not at all, durable when it returns.

    Raises `BadRequest`, `PreconditionFailed`, and what the backend and the upload's chunks raise.
    """
    check_name(upload.name)
    if _is_conditional(upload.fields):
        await _expected(keys, upload.name, upload.fields)
    pieces, more = await _begun(upload.chunks)
    if more:
        return await _put_long(keys, upload, pieces)
    data = pieces[0] if len(pieces) == 1 else b"".join(pieces)
    request = PutKey(
        upload.name, len(data), upload.content_type, keys.now_ns(), keys.released_ns(), data=data
    )
    return await _point(keys, request, upload.fields)


async def delete(keys: Keys, name: str, fields: dict[str, str]) -> None:
    """Remove a key. Raises `NotFound`, `PreconditionFailed`."""
    check_name(name)

    async def step() -> bool:
        version = None
        if _is_conditional(fields):
            await get(keys, name)
            version = await _expected(keys, name, fields)
        return await keys.metadata.delete_key(DeleteKey(name, keys.released_ns(), version))

    if not await settled(step):
        raise NotFound("Object not found")


def place_of(keys: Keys, row: ObjectRow) -> tuple[Media, Instance]:
    """Where an object's bytes are to be had. Raises `Unavailable` when no backend of theirs is configured."""
    for instance in row.instances:
        if instance.complete and instance.backend_id in keys.backends:
            return keys.backends[instance.backend_id], instance
    raise Unavailable("The storage backend of this object is not available.")


def read(keys: Keys, row: KeyRow, start: int, end: int) -> AsyncGenerator[bytes, None]:
    """The bytes from `start` up to `end`, in bounded chunks."""
    if row.object is None:
        return _piece((row.data or b"")[start:end])
    media, instance = place_of(keys, row.object)
    return media.read(instance.key, version=instance.version, start=start, end=end)


async def _piece(data: bytes) -> AsyncGenerator[bytes, None]:
    yield data


async def _begun(chunks: AsyncIterator[bytes]) -> tuple[list[bytes], bool]:
    """The first pieces, and whether they are more than is kept in the metadata; else they are all."""
    pieces: list[bytes] = []
    size_bytes = 0
    async for piece in chunks:
        pieces.append(piece)
        size_bytes += len(piece)
        if size_bytes > INLINE_BYTES:
            return pieces, True
    return pieces, False


class _Reserving:
    """The row of an object being reserved while its bytes arrive: it is known before they are in place, so
    that those of an upload that breaks off are found again."""

    def __init__(self, keys: Keys, row: ObjectRow) -> None:
        self._keys = keys
        self.row = row

    async def behind(self, pieces: list[bytes], chunks: AsyncIterator[bytes]) -> AsyncGenerator[bytes, None]:
        """The pieces, then the chunks; ends once the row is reserved, begins to be as the first is taken."""
        reserving = asyncio.ensure_future(self._keys.metadata.reserve(self.row))
        reserving.add_done_callback(lambda task: task.cancelled() or task.exception())
        while pieces:
            yield pieces.pop(0)
        async for piece in chunks:
            yield piece
        self.row = await reserving


async def _put_long(keys: Keys, upload: Upload, pieces: list[bytes]) -> KeyRow:
    media = resolve_backend(keys.backends, keys.backend_id)
    now_ns = keys.now_ns()
    place = Instance(media.backend.id, object_key(FOLDER, keys.new_id(), now_ns), upload.content_type)
    row = ObjectRow(keys.new_id(), Role.UNUSED, "", now_ns, (place,))
    reserving = _Reserving(keys, row)
    stat = await media.write(
        place.key,
        reserving.behind(pieces, upload.chunks),
        content_type=upload.content_type,
        size_bytes=upload.size_bytes,
    )
    place = place._replace(version=stat.version)
    row = reserving.row._replace(instances=(place,), size_bytes=stat.size_bytes)
    request = PutKey(
        upload.name, stat.size_bytes, upload.content_type, keys.now_ns(), keys.released_ns(), object=row
    )
    return await _point(keys, request, upload.fields)


async def _point(keys: Keys, request: PutKey, fields: dict[str, str]) -> KeyRow:
    if not _is_conditional(fields):
        return await settled(lambda: keys.metadata.put_key(request))

    async def step() -> KeyRow:
        version = await _expected(keys, request.name, fields)
        return await keys.metadata.put_key(replace(request, version=version))

    return await settled(step)


def _is_conditional(fields: dict[str, str]) -> bool:
    return not fields.keys().isdisjoint(("if-match", "if-none-match", "if-unmodified-since"))


async def _expected(keys: Keys, name: str, fields: dict[str, str]) -> int:
    """The version that a conditional write goes on from. Raises `PreconditionFailed`."""
    row = await keys.metadata.key(name)
    etag = None if row is None else etag_of(row)
    if not write_allowed(fields, etag=etag, modified_s=0 if row is None else modified_s(row)):
        raise PreconditionFailed("The object is not as the request expects it.")
    return 0 if row is None else row.version
