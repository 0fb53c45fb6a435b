"""Sealed texts: what the proxy hands out and gets back, unreadable and unalterable in between. Pure.

A page key of an upstream may name rows that its reader must not know of, and a media URL the upstream's
address: both are encrypted, not only signed.
"""

from __future__ import annotations

import base64
import binascii
from collections.abc import Sequence
from typing import Any

import orjson
from cryptography.exceptions import InvalidTag
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.ciphers.aead import AESSIV
from cryptography.hazmat.primitives.kdf.hkdf import HKDF


class Sealer:
    """Seals JSON values for one purpose with keys of 32 bytes, newest first.

    The same value sealed twice is the same text (RFC 5297), so URLs can be cached by their readers.
    """

    def __init__(self, keys: Sequence[bytes], purpose: str) -> None:
        if not keys:
            raise ValueError("sealing needs a key")
        self._ciphers = [AESSIV(_derived(key, purpose)) for key in keys]

    def seal(self, value: object, bound_to: bytes = b"") -> str:
        """A text of A-Z a-z 0-9 _ - that `open` turns back into the value."""
        sealed = self._ciphers[0].encrypt(orjson.dumps(value), [bound_to])
        return base64.urlsafe_b64encode(sealed).decode().rstrip("=")

    def open(self, text: str, bound_to: bytes = b"") -> Any:
        """The value that was sealed for the same purpose and binding. ValueError for every other text."""
        try:
            sealed = base64.b64decode(text + "=" * (-len(text) % 4), altchars=b"-_", validate=True)
        except (binascii.Error, ValueError):
            raise ValueError("not a sealed text") from None
        for cipher in self._ciphers:
            try:
                return orjson.loads(cipher.decrypt(sealed, [bound_to]))
            except (InvalidTag, ValueError):
                continue
        raise ValueError("not a text sealed here")


def _derived(key: bytes, purpose: str) -> bytes:
    """Keys of the ring serve other purposes too; none of them shares a cipher key."""
    return HKDF(hashes.SHA256(), 64, None, f"tams-proxy {purpose}".encode()).derive(key)
