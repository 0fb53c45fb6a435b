"""Opaque page tokens, bound to the query and the caller they were made for. Pure."""

from __future__ import annotations

import base64
import binascii
import hmac
from functools import lru_cache
from typing import Any

import orjson

from store.errors import BadRequest
from store.mac import Mac

_MAC_BYTES = 12


def fingerprint(*parts: str) -> bytes:
    """What a token is bound to: the operation, its filters, the caller."""
    return "\x1f".join(parts).encode()


def seal(position: Any, bound_to: bytes, keys: tuple[bytes, ...]) -> str:
    """A page token for a JSON-ready position, made with the newest key."""
    payload = orjson.dumps(position, default=list)
    return base64.urlsafe_b64encode(_mac(keys[0], bound_to, payload) + payload).decode().rstrip("=")


def unseal(token: str, bound_to: bytes, keys: tuple[bytes, ...]) -> Any:
    """The position of a token made by `seal` with any of the keys for the same query and caller.

    Raises `BadRequest` for every other text.
    """
    try:
        raw = base64.b64decode(token + "=" * (-len(token) % 4), altchars=b"-_", validate=True)
    except (binascii.Error, ValueError):
        raise BadRequest("`page` is not a key that this listing gave out.") from None
    mac, payload = raw[:_MAC_BYTES], raw[_MAC_BYTES:]
    if not any(hmac.compare_digest(mac, _mac(key, bound_to, payload)) for key in keys):
        raise BadRequest("`page` is not a key that this listing gave out.")
    return orjson.loads(payload)


def _mac(key: bytes, bound_to: bytes, payload: bytes) -> bytes:
    return _keyed(key).digest(bound_to + b"\x1e" + payload)[:_MAC_BYTES]


@lru_cache(maxsize=8)
def _keyed(key: bytes) -> Mac:
    """A process has one key or two."""
    return Mac(key)
