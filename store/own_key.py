"""The key of a store that runs alone: it signs URLs and page tokens, and keeps the secrets of webhooks."""

from __future__ import annotations

import hmac
import os
import secrets
from contextlib import suppress
from pathlib import Path

from store.settings import InvalidSettings, StoreSettings

NAME = "store.key"
KEY_BYTES = 32
_PURPOSE = b"tams store key"


def own_key(settings: StoreSettings) -> bytes:
    """The key in the data folder; where there is none one is made, from the common secret or at random.

    A random one is never made where metadata are in VAST: other servers may share those, and what they
    signed has to be good here. Raises `InvalidSettings` then, or for a file that is no key, and OSError.
    """
    path = settings.data / NAME
    if not path.exists():
        secret = settings.keyring_secret
        if secret is not None:
            _write(path, hmac.digest(secret.get_secret_value().encode(), _PURPOSE, "sha256"))
        elif settings.metadata == "vast":
            raise InvalidSettings(
                [
                    f"{path} is missing: with metadata in VAST, give every server the same "
                    f"TAMS_KEYRING_SECRET, or the same file of {KEY_BYTES} random bytes"
                ]
            )
        else:
            _write(path, secrets.token_bytes(KEY_BYTES))
    found = path.read_bytes()
    if len(found) < KEY_BYTES:
        raise InvalidSettings([f"{path}: is no key: it has {len(found)} of {KEY_BYTES} bytes"])
    return found


def _write(path: Path, key: bytes) -> None:
    """Put the key there for this user alone, whole or not at all; one that is there by then stays."""
    path.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
    temporary = path.with_name(f".{path.name}.{secrets.token_hex(8)}")
    descriptor = os.open(temporary, os.O_CREAT | os.O_EXCL | os.O_WRONLY, 0o600)
    try:
        with os.fdopen(descriptor, "wb") as file:
            file.write(key)
            file.flush()
            os.fsync(file.fileno())
        with suppress(FileExistsError):
            os.link(temporary, path)
    finally:
        temporary.unlink()
