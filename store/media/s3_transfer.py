"""Large objects into S3: multipart uploads and copies inside S3, in bounded memory, whole or absent."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable, Coroutine
from dataclasses import dataclass
from typing import Any

from store import errors
from store.media.s3_calls import Calls, Reply, code_of, field_of

_MOST_PARTS = 10_000
_PARTS_AT_ONCE = 4


@dataclass(frozen=True, slots=True)
class Source:
    """An object in the same S3: full key, size, and what names these very bytes."""

    bucket: str
    key: str
    size_bytes: int
    etag: str
    version_id: str | None
    content_type: str | None

    def parameters(self) -> dict[str, Any]:
        """How boto3 is told of it."""
        named = {"Bucket": self.bucket, "Key": self.key}
        if self.version_id is not None:
            named["VersionId"] = self.version_id
        return {"CopySource": named, "CopySourceIfMatch": self.etag}


def part_size_bytes(size_bytes: int | None, smallest_bytes: int) -> int:
    """Equal parts (some services want that) of which 10,000 are enough."""
    return max(smallest_bytes, -(-(size_bytes or 0) // _MOST_PARTS))


async def upload(
    calls: Calls, key: str, chunks: AsyncIterator[bytes], *, content_type: str, part_bytes: int
) -> int:
    """Store the chunks under the key; how many bytes there were.

    Holds about two parts. One part or less is one plain PUT. A failure aborts, so that nothing is left.
    """
    parts = _parts(chunks, part_bytes)
    head = [part async for part in _first(parts, 2)]
    if len(head) < 2:
        body = head.pop() if head else b""
        await calls("put_object", Key=key, Body=body, **_typed(content_type))
        return len(body)
    size_bytes = 0

    async def send(upload_id: str) -> list[Reply]:
        nonlocal size_bytes
        done: list[Reply] = []
        while (part := head.pop(0) if head else await anext(parts, None)) is not None:
            if len(done) >= _MOST_PARTS:
                raise errors.TooLarge("the upload has too many parts")
            number = len(done) + 1
            reply = await calls("upload_part", Key=key, UploadId=upload_id, PartNumber=number, Body=part)
            done.append({"PartNumber": number, "ETag": field_of(reply, "ETag")})
            size_bytes += len(part)
            # Not held while the next one arrives.
            del part
        return done

    await _multipart(calls, key, content_type, send, size_bytes=lambda: size_bytes)
    return size_bytes


async def copy(calls: Calls, key: str, source: Source, *, part_bytes: int) -> bool:
    """Copy inside S3, in parts when it is longer than one; refuses when the source has changed.

    False, and nothing done, where the service cannot.
    """
    try:
        await _copy(calls, key, source, part_bytes=part_bytes)
    except _CannotCopy:
        return False
    return True


class _CannotCopy(Exception):
    """The service does not know this kind of copy."""


async def _copy(calls: Calls, key: str, source: Source, *, part_bytes: int) -> None:
    if source.size_bytes <= part_bytes:
        await calls("copy_object", patient=True, Key=key, **source.parameters())
        return
    part_bytes = part_size_bytes(source.size_bytes, part_bytes)
    starts = range(0, source.size_bytes, part_bytes)

    async def send(upload_id: str) -> list[Reply]:
        gate = asyncio.Semaphore(_PARTS_AT_ONCE)

        async def part(number: int, start: int) -> Reply:
            last = min(start + part_bytes, source.size_bytes) - 1
            async with gate:
                reply = await calls(
                    "upload_part_copy",
                    patient=True,
                    Key=key,
                    UploadId=upload_id,
                    PartNumber=number,
                    CopySourceRange=f"bytes={start}-{last}",
                    **source.parameters(),
                )
            etag = reply.get("CopyPartResult", {}).get("ETag")
            if etag is None:
                # A service that does not know the call takes it for the upload of an empty part.
                raise _CannotCopy
            return {"PartNumber": number, "ETag": etag}

        tasks = [asyncio.ensure_future(part(number, start)) for number, start in enumerate(starts, 1)]
        try:
            return await asyncio.gather(*tasks)
        finally:
            for task in tasks:
                task.cancel()
            await asyncio.gather(*tasks, return_exceptions=True)

    await _multipart(calls, key, source.content_type or "", send, size_bytes=lambda: source.size_bytes)


async def _multipart(
    calls: Calls,
    key: str,
    content_type: str,
    send: Callable[[str], Coroutine[Any, Any, list[Reply]]],
    *,
    size_bytes: Callable[[], int],
) -> None:
    begun = await calls("create_multipart_upload", idempotent=False, Key=key, **_typed(content_type))
    upload_id = str(field_of(begun, "UploadId"))
    try:
        parts = await send(upload_id)
        await _complete(calls, key, upload_id, parts, size_bytes())
    except BaseException:
        # Also when cancelled: parts that nobody completes are paid for and seen by nobody.
        await asyncio.shield(_abort(calls, key, upload_id))
        raise


async def _complete(calls: Calls, key: str, upload_id: str, parts: list[Reply], size_bytes: int) -> None:
    try:
        await calls(
            "complete_multipart_upload",
            patient=True,
            Key=key,
            UploadId=upload_id,
            MultipartUpload={"Parts": parts},
        )
    except errors.NotFound as exc:
        # A repeated call whose first try had worked finds the upload gone and the object there.
        if code_of(exc.__cause__) != "NoSuchUpload":
            raise
        found = await calls("head_object", Key=key)
        if int(field_of(found, "ContentLength")) != size_bytes:
            raise errors.Unavailable("the storage backend lost an upload") from exc


async def _abort(calls: Calls, key: str, upload_id: str) -> None:
    # What cannot be aborted now is the bucket's lifecycle rule's to remove; the first error is what counts.
    try:
        await calls("abort_multipart_upload", Key=key, UploadId=upload_id)
    except errors.Error:
        return


async def _first(parts: AsyncIterator[bytes], count: int) -> AsyncIterator[bytes]:
    for _ in range(count):
        part = await anext(parts, None)
        if part is None:
            return
        yield part


async def _parts(chunks: AsyncIterator[bytes], part_bytes: int) -> AsyncIterator[bytes]:
    held = bytearray()
    async for chunk in chunks:
        held += chunk
        while len(held) >= part_bytes:
            part = bytes(memoryview(held)[:part_bytes])
            del held[:part_bytes]
            yield part
    if held:
        yield bytes(held)


def _typed(content_type: str) -> dict[str, Any]:
    return {"ContentType": content_type} if content_type else {}
