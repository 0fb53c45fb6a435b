"""Opaque API keys from a file, with a time to live and scopes, read again when the file changes."""

from __future__ import annotations

import hashlib
import json
import secrets
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any

from proxy.errors import Unauthenticated
from proxy.identity.files import Watched
from proxy.identity.principal import DELETE, READ, WRITE, Principal

SCOPES = {"read": READ, "write": WRITE, "delete": DELETE}
# A key without an end still makes its sessions ask again once a day.
SESSION_S = 24 * 3600


@dataclass(frozen=True, slots=True)
class ApiKey:
    """A key of the file. `hash`: hex SHA-256 of the key itself. `expires_s` None: it has no end."""

    name: str
    hash: str
    created_s: int
    expires_s: int | None
    scopes: frozenset[str]
    groups: frozenset[str] = frozenset()


def parse_keys_file(data: bytes) -> Mapping[str, ApiKey]:
    """The keys, by hash. ValueError naming the record that is wrong."""
    try:
        records = json.loads(data)
    except (ValueError, RecursionError) as exc:
        raise ValueError("the API keys are not JSON") from exc
    if not isinstance(records, list):
        raise ValueError("the API keys are not a list")
    keys = [_parse_key(number, record) for number, record in enumerate(records)]
    return {key.hash: key for key in keys}


def dump_keys_file(keys: Mapping[str, ApiKey]) -> bytes:
    """The inverse of `parse_keys_file`."""
    spelled = {scope: word for word, scope in SCOPES.items()}
    records = []
    for key in keys.values():
        record: dict[str, Any] = {
            "name": key.name,
            "hash": key.hash,
            "created_at": _iso(key.created_s),
            "expires": None if key.expires_s is None else _iso(key.expires_s),
            "scopes": sorted(spelled[scope] for scope in key.scopes),
        }
        if key.groups:
            record["groups"] = sorted(key.groups)
        records.append(record)
    return json.dumps(records, indent=2).encode() + b"\n"


def new_key(name: str, scopes: frozenset[str], now_s: int, ttl_days: int | None) -> tuple[str, ApiKey]:
    """A fresh random key, to be shown once, and the record to keep."""
    token = secrets.token_urlsafe(32)
    expires_s = None if ttl_days is None else now_s + ttl_days * 24 * 3600
    return token, ApiKey(name, digest(token), now_s, expires_s, scopes)


def digest(token: str) -> str:
    """How a key is stored."""
    return hashlib.sha256(token.encode()).hexdigest()


class ApiKeys:
    """The keys as the file has them now."""

    def __init__(self, file: Watched[Mapping[str, ApiKey]], alias: str) -> None:
        self._file = file
        self._alias = alias

    def principal(self, token: str, now_s: int) -> Principal | None:
        """Who holds this key; None when there is no such key. Raises Unauthenticated when it has expired."""
        key = self._file.current(now_s).get(digest(token))
        if key is None:
            return None
        if key.expires_s is not None and key.expires_s <= now_s:
            raise Unauthenticated("Token expired")
        return Principal(
            issuer=self._alias,
            subject=key.name,
            client=key.name,
            groups=key.groups,
            scopes=key.scopes,
            scope_admin=False,
            expires_s=now_s + SESSION_S if key.expires_s is None else key.expires_s,
        )


def _parse_key(number: int, record: Any) -> ApiKey:
    if not isinstance(record, dict):
        raise ValueError(f"API key {number} is not an object")
    name, hashed, scopes = record.get("name"), record.get("hash"), record.get("scopes")
    groups = record.get("groups", [])
    if not isinstance(name, str) or not 1 <= len(name) <= 128 or not name.isprintable():
        raise ValueError(f"API key {number} has no name")
    if not isinstance(hashed, str) or len(hashed) != 64 or set(hashed) - set("0123456789abcdef"):
        raise ValueError(f"API key {name!r}: hash is not a SHA-256 in hex")
    if not isinstance(scopes, list) or any(scope not in ("read", "write", "delete") for scope in scopes):
        raise ValueError(f"API key {name!r}: scopes are not of read, write, delete")
    if not isinstance(groups, list) or not all(isinstance(group, str) for group in groups):
        raise ValueError(f"API key {name!r}: groups are not a list of texts")
    created_s, expires_s = (_time(name, record.get(member)) for member in ("created_at", "expires"))
    held = frozenset(SCOPES[scope] for scope in scopes)
    return ApiKey(name, hashed, created_s or 0, expires_s, held, frozenset(groups))


def _time(name: str, value: Any) -> int | None:
    """Unix seconds, from a number of them or from ISO 8601; a time without zone is UTC."""
    if value is None:
        return None
    try:
        if isinstance(value, str):
            parsed = datetime.fromisoformat(value)
            return int((parsed if parsed.tzinfo is not None else parsed.replace(tzinfo=UTC)).timestamp())
        if not isinstance(value, bool) and isinstance(value, int | float):
            return int(value)
    except (ValueError, OverflowError) as exc:
        raise ValueError(f"API key {name!r} has a time that is none") from exc
    raise ValueError(f"API key {name!r} has a time that is none")


def _iso(time_s: int) -> str:
    return datetime.fromtimestamp(time_s, UTC).isoformat()
