"""Checksums that a client sends with an upload (as S3 takes them, and RFC 9530 Content-Digest)."""

from __future__ import annotations

import base64
import binascii
import hashlib
import hmac
import re
import zlib
from dataclasses import dataclass
from typing import Protocol

from store import errors

_DIGEST_FIELD = re.compile(r"\s*(sha-256|sha-512)\s*=\s*:([A-Za-z0-9+/=]*):\s*", re.ASCII)


class Sum(Protocol):
    """A running checksum, as hashlib's are."""

    def update(self, data: bytes, /) -> None:
        """Take in more bytes."""
        ...

    def digest(self) -> bytes:
        """Of all bytes so far."""
        ...


class Crc32:
    """CRC-32 with hashlib's face."""

    def __init__(self) -> None:
        self._sum = 0

    def update(self, data: bytes, /) -> None:
        """Take in more bytes."""
        self._sum = zlib.crc32(data, self._sum)

    def digest(self) -> bytes:
        """Of all bytes so far, as S3 writes it."""
        return self._sum.to_bytes(4, "big")


@dataclass(frozen=True, slots=True)
class Promised:
    """What the bytes' checksum is to be."""

    running: Sum
    digest: bytes

    def check(self) -> None:
        """Raises `errors.BadRequest` when the bytes taken in are others than the client sent."""
        if not hmac.compare_digest(self.running.digest(), self.digest):
            raise errors.BadRequest("the upload's checksum does not match its bytes")


def promised(headers: dict[str, str]) -> list[Promised]:
    """The checksums in an upload's headers (lower-case names); kinds that we do not know are left out.

    Raises `errors.BadRequest` for one that is not a checksum of its kind.
    """
    found = [
        Promised(running, _decoded(headers[name], len(running.digest())))
        for name, running in (
            ("content-md5", hashlib.md5(usedforsecurity=False)),
            ("x-amz-checksum-crc32", Crc32()),
            ("x-amz-checksum-sha1", hashlib.sha1(usedforsecurity=False)),
            ("x-amz-checksum-sha256", hashlib.sha256()),
        )
        if name in headers
    ]
    for name in ("content-digest", "repr-digest"):
        for member in headers.get(name, "").split(","):
            match = _DIGEST_FIELD.fullmatch(member)
            if match is not None:
                running = hashlib.new(match[1].replace("-", ""))
                found.append(Promised(running, _decoded(match[2], running.digest_size)))
    return found


def _decoded(text: str, size_bytes: int) -> bytes:
    try:
        digest = base64.b64decode(text.strip(), validate=True)
    except (ValueError, binascii.Error) as exc:
        raise errors.BadRequest("the upload's checksum is not base64") from exc
    if len(digest) != size_bytes:
        raise errors.BadRequest("the upload's checksum has the wrong length")
    return digest
