"""From hot files to media objects and segments, repeatable at every step.

An object's id follows from its first entry, its bytes from the file: whoever seals again after a crash writes
the same object, finds it registered, or its segment deleted, and removes the file.
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
from collections.abc import AsyncIterator, Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass

from store.domain.segments import Registering, add_segments
from store.domain.storage import allocate
from store.errors import BadRequest, Error, PreconditionFailed
from store.media.disk import translated
from store.media.protocol import Media
from store.metadata.protocol import Metadata
from store.metadata.rows import Instance, ObjectRow, Role
from store.models.segment import SEGMENT_POST, SegmentPost
from store.models.storage import StoragePost
from store.streams.flows import CONTAINER, Stream, object_id_of
from store.streams.hot_file import HotFile
from store.streams.log import HotLog
from store.streams.page import runs
from store.streams.records import sealed_head
from store.threads import Crew, to_its_end
from store.timerange import TimeRange

AT_ONCE = 16
"""Files that are registered together."""
CHUNK_BYTES = 1 << 20
_log = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True)
class Sealer:
    """What entries are sealed with. `backend_id`: where objects go, None for the default backend. `crew`: the
    threads that files are finished on."""

    metadata: Metadata
    backends: Mapping[str, Media]
    backend_id: str | None
    now_ns: Callable[[], int]
    new_id: Callable[[], str]
    crew: Crew

    async def seal(self, stream: Stream, log: HotLog) -> int:
        """Seal the files that nothing is appended to any more, oldest first; how many it were.

        Raises what the backend and the metadata raise, `errors.Forbidden` while the flow is read-only.
        """
        with log.sealing() as alone:
            # Whoever sealed before may have done so after the first read of this turn of the loop.
            await asyncio.sleep(0)
            files = log.files[:-1][:AT_ONCE] if alone else ()
            empty = [file for file in files if not file.count]
            full = [file for file in files if file.count]
            done = await self._registered(stream, full) if full else []
            if empty or done:
                await log.drop([*empty, *done])
            return len(done)

    async def _registered(self, stream: Stream, files: Sequence[HotFile]) -> list[HotFile]:
        """The files whose entries are sealed now, up to the first that is not."""
        named = {object_id_of(*stream.key, file.ids[0]): file for file in files}
        objects = await self.place(stream, list(named))
        new = [(objects[name], file) for name, file in named.items() if objects[name].role is Role.UNUSED]
        await asyncio.gather(*(self._write(row, file) for row, file in new))
        outcomes: dict[str, Error | None] = {}
        if new:
            posts = [segment(row.id, file.ids[0], file.last, file.count) for row, file in new]
            found = await self.register(stream, posts)
            outcomes = {row.id: outcome for (row, _), outcome in zip(new, found, strict=True)}
        done = []
        for name, file in named.items():
            error = outcomes.get(name)
            if error is not None:
                _log.error(
                    "entries of stream %s wait, for those from %s on cannot be sealed: %s",
                    stream.flow_id,
                    TimeRange(file.ids[0], file.last, True, True),
                    error.summary,
                )
                break
            done.append(file)
        return done

    async def place(self, stream: Stream, ids: Sequence[str]) -> dict[str, ObjectRow]:
        """Objects of these ids, allocated where they are not yet."""
        found = await self.metadata.objects(ids)
        missing = [id for id in ids if id not in found]
        if missing:
            named = {} if self.backend_id is None else {"storage_id": self.backend_id}
            post = StoragePost.model_validate({"object_ids": missing, **named})
            await allocate(
                self.metadata,
                self.backends,
                stream.flow_id,
                post,
                now_ns=self.now_ns(),
                new_id=self.new_id,
                expect=None,
            )
            found |= await self.metadata.objects(missing)
        return found

    async def register(self, stream: Stream, posts: Sequence[SegmentPost]) -> list[Error | None]:
        """Register segments of objects whose bytes are there."""
        using = Registering(self.metadata, self.backends, self.now_ns(), verify=True)
        return await add_segments(using, stream.flow_id, posts)

    async def _write(self, row: ObjectRow, file: HotFile) -> None:
        """Make a file's entries an object: the file itself where the backend can take it, else a copy."""
        place = row.instances[0]
        media = self._media(place)
        # Cancelled, as when the server stops, the log would close the file under the thread.
        finishing = self.crew.keep(_finish, file)
        await to_its_end(finishing, lambda error: _log.warning("a hot file was not finished: %s", error))
        with _written_before(row):
            if await media.adopt(place.key, file.path) is not None:
                return
        head = sealed_head(file.head, file.ids[: file.count], file.lengths[: file.count])
        await self.write(row, _chunks(head, file), len(head) + sum(file.lengths))

    async def write(self, row: ObjectRow, chunks: AsyncIterator[bytes], size_bytes: int) -> None:
        """Write the bytes of an allocated object, unless they are there and pinned already."""
        place = row.instances[0]
        with _written_before(row):
            await self._media(place).write(place.key, chunks, content_type=CONTAINER, size_bytes=size_bytes)

    def _media(self, place: Instance) -> Media:
        media = self.backends.get(place.backend_id)
        if media is None:
            raise BadRequest("The storage backend of a stream's objects is not configured any more.")
        return media


@contextlib.contextmanager
def _written_before(row: ObjectRow) -> Iterator[None]:
    try:
        yield
    except PreconditionFailed:
        _log.info("object %s was written before", row.id)


def _finish(file: HotFile) -> None:
    try:
        file.finish()
    except OSError as exc:
        raise translated(exc) from exc


def segment(object_id: str, first_ns: int, last_ns: int, count: int) -> SegmentPost:
    """A segment from one entry to another, both in it."""
    timerange = str(TimeRange(first_ns, last_ns, True, True))
    return SEGMENT_POST.validate_python(
        {"object_id": object_id, "timerange": timerange, "sample_count": count}
    )


async def _chunks(head: bytes, file: HotFile) -> AsyncIterator[bytes]:
    """An object's bytes, in bounded pieces, each read in one go."""
    yield head
    group: list[tuple[int, int]] = []
    for start, size_bytes in runs(file.starts, file.lengths, 0, file.count):
        for at in range(start, start + size_bytes, CHUNK_BYTES):
            group.append((at, min(CHUNK_BYTES, start + size_bytes - at)))
            if sum(size for _, size in group) >= CHUNK_BYTES:
                yield await asyncio.to_thread(_read, file, group)
                group = []
    if group:
        yield await asyncio.to_thread(_read, file, group)


def _read(file: HotFile, pieces: Sequence[tuple[int, int]]) -> bytes:
    return b"".join([file.read(at, size_bytes) for at, size_bytes in pieces])
