"""HMAC-SHA256 of many texts with one key. Pure."""

from __future__ import annotations

import hashlib

_BLOCK_BYTES = 64
_INNER, _OUTER = (bytes(byte ^ pad for byte in range(256)) for pad in (0x36, 0x5C))


class Mac:
    """HMAC-SHA256 (RFC 2104) of texts that begin alike: the beginning is hashed once.

    Two plain hashes, whose states are copied in half the time of the state of an `hmac.HMAC`.
    """

    __slots__ = ("_inner", "_outer")

    def __init__(self, key: bytes, beginning: bytes = b"") -> None:
        block = (hashlib.sha256(key).digest() if len(key) > _BLOCK_BYTES else key).ljust(_BLOCK_BYTES, b"\0")
        self._inner = hashlib.sha256(block.translate(_INNER) + beginning)
        self._outer = hashlib.sha256(block.translate(_OUTER))

    def digest(self, rest: bytes) -> bytes:
        """That of the beginning followed by `rest`."""
        inner, outer = self._inner.copy(), self._outer.copy()
        inner.update(rest)
        outer.update(inner.digest())
        return outer.digest()
