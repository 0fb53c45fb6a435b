"""A storage backend on local files (or any mounted file system), the default."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import AsyncGenerator, AsyncIterator, Callable, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from pathlib import Path
from typing import ParamSpec, TypeVar

from store import errors
from store.media import disk
from store.media.memory import Held, MemoryFolder, MemoryUpload
from store.media.protocol import CHUNK_BYTES, Backend, Media, PutUrl, SignUrl, Stat
from store.media.signing import Lifetime, Signer, token_of

P = ParamSpec("P")
T = TypeVar("T")

Opened = disk.Opened | Held
_THREADS = 8
_PARTS = 4
# A reader that takes nothing makes us hold three chunks: one in its socket's buffer, one that waits, one read
# ahead. All readers together hold about this much; many of them get smaller chunks.
_READING_BYTES = 32 << 20
_LEAST_BYTES = 64 << 10
_KEYS_PER_HOP = 500


class Files:
    """`Media` on a folder; None keeps objects in memory, which is for tests. Bytes are served by
    `serve.LocalMedia` on `public_url`.

    An object's type is not kept with its bytes: it is in the signed URLs, as the store gives it. There are
    no versions: pinned bytes cannot be replaced, so a key has one meaning.
    """

    def __init__(
        self,
        backend: Backend,
        folder: Path | None,
        *,
        public_url: str,
        signer: Signer,
        lifetime: Lifetime,
        quota_bytes: int | None = None,
    ) -> None:
        self.backend = backend
        self._signer = signer
        self._lifetime = lifetime
        self._base = f"{public_url.rstrip('/')}/media/{backend.id}/"
        self._readers = 0
        self._pool = ThreadPoolExecutor(_THREADS, thread_name_prefix=f"media-{backend.id}")
        try:
            self._folder: disk.Folder | MemoryFolder = (
                MemoryFolder(quota_bytes=quota_bytes)
                if folder is None
                else disk.Folder(folder, quota_bytes=quota_bytes)
            )
            self._folder.sweep()
        except OSError as exc:
            raise disk.translated(exc) from exc

    def get_url(self, key: str, *, version: str | None, now_s: int, content_type: str | None = None) -> str:
        """See `Media`; `version` is not needed."""
        return self.sign_at(now_s)(key, version, content_type)

    def sign_at(self, now_s: int) -> SignUrl:
        """See `Media`."""
        base, query = self._base, self._signing("GET", self._lifetime.start_s(now_s))

        def signed(key: str, version: str | None, content_type: str | None) -> str:
            return f"{base}{token_of(key)}?{query(key, content_type or None)}"

        return signed

    def era(self, now_s: int) -> object:
        """See `Media`: the interval of signatures."""
        return self._lifetime.start_s(now_s)

    def plain_url(self, key: str) -> str:
        """See `Media`."""
        return self._base + token_of(key)

    def put_url(self, key: str, *, content_type: str, presigned: bool, now_s: int) -> PutUrl:
        """See `Media`."""
        if not presigned:
            return PutUrl(self.plain_url(key), content_type)
        query = self._signing("PUT", now_s)(key, content_type or None)
        return PutUrl(f"{self.plain_url(key)}?{query}", content_type)

    async def stat(self, key: str, *, version: str | None = None) -> Stat | None:
        """See `Media`."""
        return await self.run(self._folder.stat, key)

    async def is_pinned(self, key: str) -> bool:
        """Whether an upload to the key would be refused."""
        return await self.run(self._folder.is_pinned, key)

    async def pin(self, keys: Sequence[str]) -> dict[str, Stat]:
        """See `Media`."""
        found = await self._each(self._folder.pin, keys)
        return {key: stat for key, stat in found if stat is not None}

    async def unpin(self, keys: Sequence[str]) -> None:
        """See `Media`."""
        await self._each(self._folder.unpin, keys)

    async def _each(self, call: Callable[[str], T], keys: Sequence[str]) -> list[tuple[str, T]]:
        """What a blocking call returns for each key: a few threads have a part each, so that the disk is
        kept busy and other requests find a thread."""

        def work(part: Sequence[str]) -> list[tuple[str, T]]:
            return [(key, call(key)) for key in part]

        started = [self._submit(work, keys[first::_PARTS]) for first in range(min(_PARTS, len(keys)))]
        return [pair for part in started for pair in await self._arrived(part)]

    @contextlib.asynccontextmanager
    async def opened(self, key: str) -> AsyncIterator[Opened]:
        """The key's bytes, unchanging while they are read. Raises `errors.NotFound` when there are none."""
        opening = self._submit(self._folder.open, key)
        try:
            opened = await self._arrived(opening)
        except asyncio.CancelledError:
            opening.add_done_callback(_close_result)
            raise
        if opened is None:
            raise errors.NotFound("no such media")
        try:
            yield opened
        finally:
            self._later(opened.close)

    async def read(
        self, key: str, *, version: str | None = None, start: int = 0, end: int | None = None
    ) -> AsyncGenerator[bytes, None]:
        """See `Media`."""
        async with self.opened(key) as opened:
            end = opened.size_bytes if end is None else min(end, opened.size_bytes)
            async with contextlib.aclosing(self.chunks(opened, start, end)) as chunks:
                async for chunk in chunks:
                    yield chunk

    async def chunks(self, opened: Opened, start: int, end: int) -> AsyncGenerator[bytes, None]:
        """The bytes from `start` up to `end`; one chunk is read while the one before is consumed."""
        self._readers += 1
        try:
            ahead = self._ahead(opened, start, end)
            while ahead is not None:
                chunk = await self._arrived(ahead)
                if not chunk:
                    raise errors.Unavailable("the object is shorter than it was")
                start += len(chunk)
                ahead = self._ahead(opened, start, end)
                yield chunk
        finally:
            self._readers -= 1

    def _ahead(self, opened: Opened, start: int, end: int) -> Future[bytes] | None:
        most_bytes = max(_LEAST_BYTES, min(CHUNK_BYTES, _READING_BYTES // (3 * self._readers)))
        size_bytes = min(most_bytes, end - start)
        return self._submit(opened.read, start, size_bytes) if size_bytes > 0 else None

    async def write(
        self,
        key: str,
        chunks: AsyncIterator[bytes],
        *,
        content_type: str,
        size_bytes: int | None = None,
    ) -> Stat:
        """See `Media`. `size_bytes`, when known, lets a quota refuse before anything is read; what replaces
        an upload needs room for both.

        Holds at most two batches of 512 KiB in memory: one is written while the next arrives.
        """
        await self.run(self._refuse_early, key, size_bytes or 0)
        upload = self._folder.begin()
        try:
            rest = await self._fill(upload, chunks)
            return await self.run(self._finish, upload, rest, key)
        finally:
            # No effect after a commit.
            self._later(upload.discard)

    def _refuse_early(self, key: str, size_bytes: int) -> None:
        if self._folder.is_pinned(key):
            raise errors.PreconditionFailed("the object is registered and cannot be replaced")
        if self._folder.quota is not None:
            self._folder.quota.refuse_over(size_bytes)

    def _write_batch(self, upload: disk.Upload | MemoryUpload, batch: list[bytes]) -> None:
        upload.write(batch)
        if self._folder.quota is not None:
            self._folder.quota.refuse_over(upload.size_bytes)

    def _finish(self, upload: disk.Upload | MemoryUpload, rest: list[bytes], key: str) -> Stat:
        self._write_batch(upload, rest)
        return upload.commit(key)

    async def _fill(self, upload: disk.Upload | MemoryUpload, chunks: AsyncIterator[bytes]) -> list[bytes]:
        """Write what comes; the rest of it, which is not written yet."""
        batch: list[bytes] = []
        batch_bytes = 0
        writing: Future[None] | None = None
        async for chunk in chunks:
            batch.append(chunk)
            batch_bytes += len(chunk)
            if batch_bytes >= disk.BATCH_BYTES:
                if writing is not None:
                    await self._arrived(writing)
                writing = self._submit(self._write_batch, upload, batch)
                batch, batch_bytes = [], 0
        if writing is not None:
            await self._arrived(writing)
        return batch

    async def adopt(self, key: str, path: Path) -> Stat | None:
        """See `Media`: where the file is on the same file system."""
        return await self.run(self._folder.adopt, path, key)

    async def copy(self, key: str, source: Media, source_key: str, *, version: str | None) -> Stat:
        """See `Media`: streamed."""
        async with contextlib.aclosing(source.read(source_key, version=version)) as chunks:
            return await self.write(key, chunks, content_type="")

    async def delete(self, keys: list[str]) -> None:
        """See `Media`."""
        await self.run(self._folder.delete, keys)

    async def keys(self, prefix: str = "") -> AsyncGenerator[tuple[str, int], None]:
        """See `Media`. Keys that come or go meanwhile may be in or not."""
        walk = self._folder.walk(prefix)

        def some() -> list[tuple[str, int]]:
            return [entry for _, entry in zip(range(_KEYS_PER_HOP), walk, strict=False)]

        while batch := await self.run(some):
            for entry in batch:
                yield entry

    async def check(self) -> list[str]:
        """See `Media`: writes, reads and removes a small upload."""

        def attempt() -> None:
            upload = self._folder.begin()
            try:
                upload.write([b"check"])
            finally:
                upload.discard()
            if self._folder.quota is not None:
                self._folder.quota.refuse_over(1)

        try:
            await self.run(attempt)
        except errors.Error as exc:
            return [exc.summary]
        return []

    async def recount(self) -> int | None:
        """Count the bytes under the quota anew, None when there is no quota."""
        quota = self._folder.quota
        return None if quota is None else await self.run(quota.recount)

    async def close(self) -> None:
        """See `Media`: waits for what is being written."""
        await asyncio.to_thread(self._pool.shutdown)

    async def run(self, call: Callable[P, T], *args: P.args, **kwargs: P.kwargs) -> T:
        """A blocking call on the backend's threads, its failures as the store's errors."""
        return await self._arrived(self._submit(call, *args, **kwargs))

    def _submit(self, call: Callable[P, T], *args: P.args, **kwargs: P.kwargs) -> Future[T]:
        try:
            return self._pool.submit(call, *args, **kwargs)
        except RuntimeError as exc:
            raise errors.Unavailable("the storage backend is closed") from exc

    async def _arrived(self, future: Future[T]) -> T:
        try:
            return await asyncio.wrap_future(future)
        except OSError as exc:
            raise disk.translated(exc) from exc

    def _later(self, call: Callable[[], None]) -> None:
        """Tidy up behind whatever the threads are at; not awaited, so that it happens on cancellation too."""
        try:
            self._pool.submit(call)
        except RuntimeError:  # closed: no thread is left to wait for
            call()

    def _signing(self, method: str, signed_s: int) -> Callable[[str, str | None], str]:
        expires_s = signed_s + self._lifetime.longest_s
        return self._signer.signing(method, self.backend.id, expires_s=expires_s)


def _close_result(opening: Future[Opened | None]) -> None:
    opened = None if opening.cancelled() or opening.exception() else opening.result()
    if opened is not None:
        opened.close()
