"""A storage backend on any S3: AWS, VAST, MinIO, Ceph and others.

Clients read and write the bucket directly with signed URLs; this server only looks, copies and deletes.
"""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import AsyncGenerator, AsyncIterator, Callable, Sequence
from pathlib import Path
from typing import Any

from botocore.exceptions import BotoCoreError

from store import errors
from store.media import s3_check, s3_transfer
from store.media.config import S3Config
from store.media.protocol import CHUNK_BYTES, Media, PutUrl, SignUrl, Stat
from store.media.s3_calls import Calls, Reply, code_of, field_of, resolved_addressing
from store.media.signing import Lifetime, is_header_value
from store.media.sigv4 import Location, Presigner

_KEYS_PER_DELETE = 1000
_DELETES_AT_ONCE = 8
_PINS_AT_ONCE = 8
_NO_BATCHES = {"MissingContentMD5", "NotImplemented", "InvalidRequest", "MethodNotAllowed"}
_UNVERSIONED = {None, "", "null"}
# A version is one of these and what follows: S3's id, or, without versioning, the ETag.
_ID, _ETAG = "id:", "etag:"


class S3:
    """`Media` on a bucket. With versioning, `pin` names a version that no later upload can touch; without,
    it names the ETag, and an upload by an old URL is detected (`stat` and `read` with the version), not
    prevented. `check` reports such a bucket."""

    def __init__(self, config: S3Config, *, lifetime: Lifetime, clock: Callable[[], float]) -> None:
        self.backend = config.described()
        self._config = config
        self._lifetime = lifetime
        self._clock = clock
        self._calls = Calls(config)
        addressing = resolved_addressing(config)
        self._locations = [
            Location.of(url, config.bucket, addressing=addressing) for url in config.public_urls()
        ]
        self._presigners = self._made_presigners()
        self._keys_signed_with = self._calls.keys
        self._generation = 0

    def get_url(self, key: str, *, version: str | None, now_s: int, content_type: str | None = None) -> str:
        """See `Media`. The type is the stored one: it was signed with the upload."""
        return self.sign_at(now_s)(key, version, content_type)

    def sign_at(self, now_s: int) -> SignUrl:
        """See `Media`."""
        presigners, address_of = self._current_presigners(), self._calls.endpoints.of
        signed_s, expires_s = self._lifetime.start_s(now_s), self._lifetime.longest_s
        prefix = self._config.prefix

        def signed(key: str, version: str | None, content_type: str | None) -> str:
            query: tuple[tuple[str, str], ...] = ()
            if version is not None and version.startswith(_ID):
                query = (("versionId", version[len(_ID) :]),)
            presigner = presigners[address_of(key)]
            return presigner.sign("GET", prefix + key, signed_s=signed_s, expires_s=expires_s, query=query)

        return signed

    def era(self, now_s: int) -> object:
        """See `Media`: the signatures' interval, the credentials, and which endpoints are healthy."""
        self._current_presigners()
        return self._lifetime.start_s(now_s), self._generation, self._calls.endpoints.healthy

    def plain_url(self, key: str) -> str:
        """See `Media`: for clients with credentials of this S3."""
        return self._current_presigners()[self._calls.endpoints.of(key)].url(self._config.prefix + key)

    def put_url(self, key: str, *, content_type: str, presigned: bool, now_s: int) -> PutUrl:
        """See `Media`. Host, method and type are signed, and nothing else: clients send nothing else."""
        if content_type and not is_header_value(content_type):
            raise errors.BadRequest("a content type is printable ASCII")
        if not presigned:
            return PutUrl(self.plain_url(key), content_type)
        presigner = self._current_presigners()[self._calls.endpoints.of(key)]
        url = presigner.sign(
            "PUT",
            self._config.prefix + key,
            signed_s=now_s,
            expires_s=self._lifetime.longest_s,
            content_type=content_type,
        )
        return PutUrl(url, content_type)

    async def stat(self, key: str, *, version: str | None = None) -> Stat | None:
        """See `Media`."""
        try:
            reply = await self._calls("head_object", Key=self._key(key), **_named(version))
        except errors.NotFound:
            # S3 answers HEAD in a missing bucket alike, and that is an outage, not an absence.
            await self._require_bucket()
            return None
        except errors.PreconditionFailed:
            return None
        return _described(reply) if _is_named(reply, _named(version)) else None

    async def pin(self, keys: Sequence[str]) -> dict[str, Stat]:
        """See `Media`: asks which versions there are, of a few keys at once; S3 itself is not changed."""
        gate = asyncio.Semaphore(_PINS_AT_ONCE)

        async def asked(key: str) -> Stat | None:
            async with gate:
                return await self.stat(key)

        tasks = [asyncio.ensure_future(asked(key)) for key in keys]
        try:
            found = await asyncio.gather(*tasks)
        finally:
            for task in tasks:
                task.cancel()
        return {key: stat for key, stat in zip(keys, found, strict=True) if stat is not None}

    async def unpin(self, keys: Sequence[str]) -> None:
        """See `Media`: there is nothing to undo."""

    async def read(
        self, key: str, *, version: str | None = None, start: int = 0, end: int | None = None
    ) -> AsyncGenerator[bytes, None]:
        """See `Media`. A connection that breaks is taken up again where it was, on the same bytes."""
        if end is not None and end <= start:
            if await self.stat(key, version=version) is None:
                raise errors.NotFound("no such media")
            return
        at, failures, named = start, 0, _named(version)
        while True:
            try:
                reply = await self._opened(key, named, at, end)
            except errors.NotFound as exc:
                if at == start:
                    raise
                raise errors.Unavailable("the object went away while it was read") from exc
            if reply is None:
                return
            named = {**named, "IfMatch": field_of(reply, "ETag")}
            body, skip, left = reply["Body"], *_extent(reply, at, end)
            try:
                while left > 0:
                    size_bytes = min(CHUNK_BYTES, skip + left)
                    within_s = self._calls.within_s(size_bytes)
                    chunk: bytes = await self._calls.run(within_s, body.read, size_bytes)
                    if not chunk:
                        raise errors.Unavailable("the storage backend sent less than it said")
                    skip, chunk = max(0, skip - len(chunk)), chunk[skip:][:left]
                    left -= len(chunk)
                    at += len(chunk)
                    if chunk:
                        failures = 0
                        yield chunk
                return
            except (BotoCoreError, OSError, errors.Unavailable) as exc:
                failures += 1
                if failures >= self._config.attempts:
                    raise errors.Unavailable("the storage backend broke off") from exc
            finally:
                self._calls.later(body.close)
            await self._calls.back_off(failures)

    async def write(
        self,
        key: str,
        chunks: AsyncIterator[bytes],
        *,
        content_type: str,
        size_bytes: int | None = None,
    ) -> Stat:
        """See `Media`. Holds two parts of `part_bytes` in memory (more than that above 156 GiB)."""
        part_bytes = s3_transfer.part_size_bytes(size_bytes, self._config.part_bytes)
        written = await s3_transfer.upload(
            self._calls, self._key(key), chunks, content_type=content_type, part_bytes=part_bytes
        )
        return await self._written(key, written)

    async def adopt(self, key: str, path: Path) -> None:
        """See `Media`: S3 has no files of this machine."""

    async def copy(self, key: str, source: Media, source_key: str, *, version: str | None) -> Stat:
        """See `Media`: inside S3 when both are of one service and its credentials, else streamed."""
        stat = await source.stat(source_key, version=version)
        if stat is None:
            raise errors.NotFound("no such media")
        if isinstance(source, S3) and self._shares_service_with(source):
            named = s3_transfer.Source(
                bucket=source._config.bucket,
                key=source._key(source_key),
                size_bytes=stat.size_bytes,
                etag=stat.etag,
                version_id=_named(version).get("VersionId"),
                content_type=stat.content_type,
            )
            part_bytes = self._config.copy_part_bytes
            if await s3_transfer.copy(self._calls, self._key(key), named, part_bytes=part_bytes):
                return await self._written(key, stat.size_bytes)
        async with contextlib.aclosing(source.read(source_key, version=version)) as chunks:
            content_type = stat.content_type or ""
            return await self.write(key, chunks, content_type=content_type, size_bytes=stat.size_bytes)

    async def delete(self, keys: list[str]) -> None:
        """See `Media`. In a versioned bucket every version goes, or the bytes would stay."""
        names = [self._key(key) for key in keys]
        gate = asyncio.Semaphore(_DELETES_AT_ONCE)

        async def versions(name: str) -> list[Reply]:
            async with gate:
                return await self._versions(name)

        doomed: list[Reply] = [{"Key": name} for name in names]
        if await self._is_versioned():
            listed = await asyncio.gather(*(versions(name) for name in names))
            doomed = [version for found in listed for version in found]
        for first in range(0, len(doomed), _KEYS_PER_DELETE):
            await self._delete_batch(doomed[first : first + _KEYS_PER_DELETE])

    async def keys(self, prefix: str = "") -> AsyncGenerator[tuple[str, int], None]:
        """See `Media`: a page at a time."""
        after: dict[str, Any] = {}
        while True:
            reply = await self._calls("list_objects_v2", Prefix=self._config.prefix + prefix, **after)
            for entry in reply.get("Contents", []):
                key = str(field_of(entry, "Key"))[len(self._config.prefix) :]
                yield key, int(field_of(entry, "LastModified").timestamp())
            if not reply.get("IsTruncated"):
                return
            after = {"ContinuationToken": str(field_of(reply, "NextContinuationToken"))}

    async def check(self) -> list[str]:
        """See `Media`; writes, reads and removes a small object under the prefix."""
        return await s3_check.problems(self._calls, self._config, self._clock)

    async def close(self) -> None:
        """See `Media`."""
        await self._calls.close()

    def _key(self, key: str) -> str:
        if not key or "\0" in key or len(key) > 1024:
            raise errors.BadRequest("the key cannot be an object's name")
        return self._config.prefix + key

    def _made_presigners(self) -> list[Presigner]:
        region = self._config.region or "us-east-1"
        return [Presigner(place, self._calls.keys, region=region) for place in self._locations]

    def _current_presigners(self) -> list[Presigner]:
        if self._keys_signed_with is not self._calls.keys:
            self._keys_signed_with = self._calls.keys
            self._generation += 1
            self._presigners = self._made_presigners()
        return self._presigners

    def _shares_service_with(self, other: S3) -> bool:
        ours, theirs = self._config, other._config
        return (ours.urls(), ours.region, ours.credentials) == (
            theirs.urls(),
            theirs.region,
            theirs.credentials,
        )

    async def _require_bucket(self) -> None:
        try:
            await self._calls("head_bucket")
        except errors.NotFound as exc:
            raise errors.Unavailable("the storage backend's bucket does not exist") from exc

    async def _opened(self, key: str, named: dict[str, Any], at: int, end: int | None) -> Reply | None:
        """The object from `at`, None when that is its end."""
        ranged: dict[str, Any] = (
            {} if at == 0 and end is None else {"Range": f"bytes={at}-{'' if end is None else end - 1}"}
        )
        try:
            reply = await self._calls("get_object", Key=self._key(key), **ranged, **named)
        except errors.RangeNotSatisfiable:
            return None
        except errors.PreconditionFailed as exc:
            raise errors.NotFound("the pinned bytes are gone") from exc
        if not _is_named(reply, named):
            self._calls.later(reply["Body"].close)
            raise errors.NotFound("the pinned bytes are gone")
        return reply

    async def _written(self, key: str, size_bytes: int) -> Stat:
        stat = await self.stat(key)
        if stat is None or stat.size_bytes != size_bytes:
            raise errors.Unavailable("the storage backend did not keep what was written")
        return stat

    async def _is_versioned(self) -> bool:
        try:
            reply = await self._calls("get_bucket_versioning")
        except errors.Error as exc:
            if code_of(exc.__cause__) in {"NotImplemented", "MethodNotAllowed", "501"}:
                return False
            raise
        # A suspended bucket still has the versions of before.
        return reply.get("Status") in {"Enabled", "Suspended"}

    async def _versions(self, name: str) -> list[Reply]:
        found: list[Reply] = []
        after: dict[str, Any] = {}
        while True:
            reply = await self._calls("list_object_versions", Prefix=name, **after)
            for entry in (*reply.get("Versions", []), *reply.get("DeleteMarkers", [])):
                if field_of(entry, "Key") == name:
                    found.append({"Key": name, "VersionId": field_of(entry, "VersionId")})
            if not reply.get("IsTruncated"):
                return found
            after = {
                "KeyMarker": str(field_of(reply, "NextKeyMarker")),
                "VersionIdMarker": str(reply.get("NextVersionIdMarker", "")),
            }

    async def _delete_batch(self, batch: list[Reply]) -> None:
        if not batch:
            return
        try:
            reply = await self._calls("delete_objects", Delete={"Objects": batch, "Quiet": True})
        except errors.Unavailable as exc:
            if code_of(exc.__cause__) not in _NO_BATCHES:
                raise
            for named in batch:
                await self._calls("delete_object", **named)
            return
        left = [
            entry
            for entry in reply.get("Errors", [])
            if entry.get("Code") not in {"NoSuchKey", "NoSuchVersion"}
        ]
        if left:
            raise errors.Unavailable(f"{len(left)} objects were not deleted ({left[0].get('Code')})")


def _named(version: str | None) -> dict[str, Any]:
    """How boto3 is told of the very bytes that were pinned."""
    if version is None:
        return {}
    if version.startswith(_ID):
        return {"VersionId": version[len(_ID) :]}
    return {"IfMatch": version.removeprefix(_ETAG)}


def _is_named(reply: Reply, named: dict[str, Any]) -> bool:
    """Whether these are the bytes that were asked for: some services pass over If-Match."""
    return "IfMatch" not in named or bool(field_of(reply, "ETag") == named["IfMatch"])


def _described(reply: Reply) -> Stat:
    etag, version_id = str(field_of(reply, "ETag")), reply.get("VersionId")
    return Stat(
        size_bytes=int(field_of(reply, "ContentLength")),
        etag=etag,
        version=f"{_ETAG}{etag}" if version_id in _UNVERSIONED else f"{_ID}{version_id}",
        content_type=reply.get("ContentType"),
    )


def _extent(reply: Reply, at: int, end: int | None) -> tuple[int, int]:
    """How many bytes to skip and then to take: some services answer a Range with the whole object."""
    length = int(field_of(reply, "ContentLength"))
    if reply.get("ContentRange"):
        return 0, length
    last = length if end is None else min(end, length)
    return at, max(0, last - at)
