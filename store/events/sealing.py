"""Secrets and marks that only this deployment reads: AES-256-GCM, newest key first. Pure but for nonces."""

from __future__ import annotations

import base64
import binascii
import hashlib
import secrets

from cryptography.exceptions import InvalidTag
from cryptography.hazmat.primitives.ciphers.aead import AESGCM

_NONCE_BYTES = 12
_PREFIX = "v1."


class Unreadable(Exception):
    """A text that was not sealed by any of the keys, or for something else."""


class Seal:
    """Closes texts with the newest of some keys (32 bytes each) and opens those of all. What a text is bound
    to must be the same both times."""

    def __init__(self, keys: tuple[bytes, ...]) -> None:
        # The keys serve other purposes on the store alone: what is derived for this one serves no other.
        self._ciphers = tuple(AESGCM(hashlib.sha256(b"tams events seal" + key).digest()) for key in keys)

    def close(self, text: str, bound_to: str) -> str:
        """The sealed text: URL-safe characters, another one every time."""
        nonce = secrets.token_bytes(_NONCE_BYTES)
        sealed = self._ciphers[0].encrypt(nonce, text.encode(), bound_to.encode())
        return _PREFIX + base64.urlsafe_b64encode(nonce + sealed).decode().rstrip("=")

    def open(self, sealed: str, bound_to: str) -> str:
        """The text. Raises `Unreadable`."""
        return self._opened(sealed, bound_to)[0]

    def is_current(self, sealed: str, bound_to: str) -> bool:
        """Whether the newest key closed this. Raises `Unreadable`."""
        return self._opened(sealed, bound_to)[1] == 0

    def _opened(self, sealed: str, bound_to: str) -> tuple[str, int]:
        try:
            text = sealed.removeprefix(_PREFIX)
            raw = base64.b64decode(text + "=" * (-len(text) % 4), altchars=b"-_", validate=True)
        except (binascii.Error, ValueError):
            raise Unreadable from None
        if not sealed.startswith(_PREFIX) or len(raw) <= _NONCE_BYTES:
            raise Unreadable
        nonce, rest = raw[:_NONCE_BYTES], raw[_NONCE_BYTES:]
        for place, cipher in enumerate(self._ciphers):
            try:
                return cipher.decrypt(nonce, rest, bound_to.encode()).decode(), place
            except InvalidTag:
                continue
        raise Unreadable
