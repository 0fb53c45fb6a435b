"""Secrets of the built-in clients: stored as hashes in one private file, shown once.

The file is JSON, `{"version": 1, "secrets": {<client id>: [{"hash", "created_s", "expires_s"}]}}`. A random
secret is kept as `sha256:<hex>` (256 bits need no slow hash), a chosen password as an argon2 hash.
"""

from __future__ import annotations

import hashlib
import hmac
import json
import secrets
from collections.abc import Callable, Mapping
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from argon2 import PasswordHasher
from argon2.exceptions import InvalidHashError, VerificationError

from proxy.identity.files import locked, read_private, write_private

# The clear text of secrets made at first start, for `tams-proxy demo` and `tams-proxy token`.
CLEAR_NAME = "clients.secret"
SECRETS_NAME = "secrets.json"
MIN_PASSWORD_CHARS = 12

Secrets = Mapping[str, tuple["StoredSecret", ...]]


@dataclass(frozen=True, slots=True)
class StoredSecret:
    """A hash, `sha256:<hex>` or argon2's own format. `expires_s`: None, or when it stops to count."""

    hash: str
    created_s: int
    expires_s: int | None = None


def new_secret() -> str:
    """A random secret of 256 bits that needs no escaping anywhere."""
    return secrets.token_urlsafe(32)


def hash_random(secret: str) -> str:
    """How a secret of `new_secret` is stored."""
    return "sha256:" + hashlib.sha256(secret.encode()).hexdigest()


def hash_chosen(client_id: str, password: str) -> str:
    """How a password that a person chose is stored; about 50 ms. ValueError for one that is too weak."""
    if password == client_id or len(password) < MIN_PASSWORD_CHARS:
        raise ValueError(f"a password needs {MIN_PASSWORD_CHARS} characters and may not be the client id")
    return PasswordHasher().hash(password)


def is_slow(stored: StoredSecret) -> bool:
    """Whether `matches` takes so long that it belongs on a thread."""
    return not stored.hash.startswith("sha256:")


def matches(stored: StoredSecret, secret: str) -> bool:
    """Whether it is that secret, in constant time."""
    if not is_slow(stored):
        return hmac.compare_digest(stored.hash, hash_random(secret))
    try:
        return PasswordHasher().verify(stored.hash, secret)
    except (VerificationError, InvalidHashError):
        return False


def parse_secrets(data: bytes) -> Secrets:
    """What the file says. ValueError, naming no secret, when it cannot be read."""
    try:
        document = json.loads(data)
        return {
            str(client_id): tuple(_parse_stored(entry) for entry in entries)
            for client_id, entries in document["secrets"].items()
        }
    except (KeyError, TypeError, AttributeError, ValueError) as exc:
        raise ValueError(f"the secrets are not readable ({type(exc).__name__})") from exc


def add_secret(path: Path, client_id: str, hashed: str, now_s: int, *, overlap_s: int = 0) -> None:
    """Store a client's new secret in the file, durable on return; older ones count for `overlap_s` more."""

    def change(held: dict[str, tuple[StoredSecret, ...]]) -> None:
        until_s = now_s + overlap_s
        older = [
            StoredSecret(s.hash, s.created_s, until_s if s.expires_s is None else min(s.expires_s, until_s))
            for s in held.get(client_id, ())[:1]
            if overlap_s > 0 and (s.expires_s is None or now_s < s.expires_s)
        ]
        held[client_id] = (StoredSecret(hashed, now_s), *older)

    _change(path, change)


def remove_secrets(path: Path, client_id: str) -> bool:
    """Take a client's secrets out of the file; whether it had any."""
    had: list[bool] = []
    _change(path, lambda held: had.append(held.pop(client_id, None) is not None))
    return had[0]


def provision(folder: Path, client_ids: list[str], now_s: int) -> dict[str, str]:
    """Make a random secret for each client without one, and write the clear text to `clients.secret`.

    That file (mode 600, JSON `{client id: secret}`) is for the demonstration and may be deleted. Returns
    the secrets that were made.
    """
    path = folder / SECRETS_NAME
    held = read_secrets(path)
    made = {client_id: new_secret() for client_id in client_ids if client_id not in held}
    for client_id, secret in made.items():
        add_secret(path, client_id, hash_random(secret), now_s)
    if made:
        remember_clear(folder, made)
    return made


def remember_clear(folder: Path, made: Mapping[str, str]) -> None:
    """Add clear secrets to `clients.secret`."""
    path = folder / CLEAR_NAME
    with locked(path):
        document = {**read_clear(folder), **made}
        write_private(path, json.dumps(document, indent=2).encode() + b"\n", replace=True)


def forget_clear(folder: Path, client_id: str) -> None:
    """Take a client's secret, which no longer counts, out of `clients.secret`."""
    path = folder / CLEAR_NAME
    with locked(path):
        document = read_clear(folder)
        if document.pop(client_id, None) is not None:
            write_private(path, json.dumps(document, indent=2).encode() + b"\n", replace=True)


def read_clear(folder: Path) -> dict[str, str]:
    """The clear secrets of `clients.secret`, empty without that file. ValueError when it is broken."""
    try:
        document = json.loads(read_private(folder / CLEAR_NAME))
    except FileNotFoundError:
        return {}
    if not isinstance(document, dict) or not all(isinstance(value, str) for value in document.values()):
        raise ValueError(f"{folder / CLEAR_NAME} is not a mapping of client ids to secrets")
    return document


def read_secrets(path: Path) -> dict[str, tuple[StoredSecret, ...]]:
    """What the file says, empty without a file. ValueError when it is broken or others can read it."""
    try:
        return dict(parse_secrets(read_private(path)))
    except FileNotFoundError:
        return {}


def _change(path: Path, change: Callable[[dict[str, tuple[StoredSecret, ...]]], None]) -> None:
    with locked(path):
        held = read_secrets(path)
        change(held)
        document: dict[str, Any] = {
            "version": 1,
            "secrets": {
                client_id: [asdict(entry) for entry in entries] for client_id, entries in held.items()
            },
        }
        write_private(path, json.dumps(document, indent=2).encode() + b"\n", replace=True)


def _parse_stored(entry: Any) -> StoredSecret:
    expires_s = entry.get("expires_s")
    return StoredSecret(
        str(entry["hash"]), int(entry["created_s"]), None if expires_s is None else int(expires_s)
    )
