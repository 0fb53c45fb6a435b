"""Signed URLs for local media: pure; keys, times and places are passed in.

A URL is `{public_url}/media/{backend id}/{token}?expires=..[&type=..]&signature=..`, where the token is the
key in unpadded URL-safe base64, so that any key is one path segment. The signature is an HMAC-SHA256 over
method, backend, expiry, type and key: a URL for one of them is worth nothing for another.
"""

from __future__ import annotations

import binascii
import hmac
import re
from base64 import urlsafe_b64decode
from binascii import b2a_base64
from collections.abc import Callable
from dataclasses import dataclass, field
from urllib.parse import parse_qsl, quote

from store import errors
from store.mac import Mac

_CONTEXT = "tams-media-url-1"
_HEADER_VALUE = re.compile(r"[\x20-\x7e]{1,255}")
_LONGEST_QUERY = 1024
_URL_SAFE, _NOT_SAFE = bytes.maketrans(b"+/", b"-_"), b"=\n"
_MOST_PREPARED = 64
MIN_KEY_BYTES = 32


def is_header_value(text: str) -> bool:
    """Whether a content type may be signed and sent as a header."""
    return _HEADER_VALUE.fullmatch(text) is not None


def token_of(key: str) -> str:
    """The key as one path segment."""
    return _encode(key.encode())


def key_of(token: str) -> str:
    """The key in a token. Raises `errors.NotFound` when it is not one, or not spelled as `token_of` would."""
    try:
        key = urlsafe_b64decode(token.encode("ascii") + b"=" * (-len(token) % 4)).decode()
    except (ValueError, binascii.Error) as exc:
        raise errors.NotFound("no such media") from exc
    if token_of(key) != token:
        raise errors.NotFound("no such media")
    return key


@dataclass(frozen=True, slots=True)
class Lifetime:
    """How long signed URLs are valid, in seconds.

    A reading URL keeps its expiry for `interval_s`, so that the same URL is handed out again and caches can
    work, and is never handed out with less than `shortest_s` left (`min_presigned_url_timeout`, TAMS 8.2
    service.json) nor with more than `longest_s`.
    """

    longest_s: int = 900
    shortest_s: int = 300
    interval_s: int = 300
    _kept_s: int = field(init=False, repr=False, compare=False)

    def __post_init__(self) -> None:
        if not 0 < self.shortest_s <= self.longest_s:
            raise ValueError("a signed URL's lifetime is under min_presigned_url_timeout")
        if self.interval_s < 1:
            raise ValueError("the interval of signed URLs is under one second")
        object.__setattr__(self, "_kept_s", max(1, min(self.interval_s, self.longest_s - self.shortest_s)))

    def start_s(self, now_s: int) -> int:
        """When the interval that `now_s` is in began: URLs signed as of then are equal and valid enough."""
        return now_s - now_s % self._kept_s


@dataclass(frozen=True, slots=True)
class _Prepared:
    """What URLs share that differ in their key alone: the query up to the signature, and its HMAC so far."""

    query: str
    mac: Mac


@dataclass(frozen=True, slots=True)
class Signer:
    """Signs with the newest key and accepts each of the active ones (newest first)."""

    keys: tuple[bytes, ...] = field(repr=False)
    _prepared: dict[tuple[str, str, int, str | None], _Prepared] = field(
        default_factory=dict, init=False, repr=False, compare=False
    )

    def __post_init__(self) -> None:
        if not self.keys or any(len(key) < MIN_KEY_BYTES for key in self.keys):
            raise ValueError(f"signing needs keys of at least {MIN_KEY_BYTES} bytes")

    def signing(self, method: str, backend_id: str, *, expires_s: int) -> Callable[[str, str | None], str]:
        """What makes of a key and its content type the query that allows `method` on the key until
        `expires_s`, in a microsecond or two; keys in a row mostly have one type."""
        last: str | None = None
        prepared = self._prepare(method, backend_id, expires_s, last)

        def query(key: str, content_type: str | None) -> str:
            nonlocal last, prepared
            if content_type != last:
                prepared = self._prepare(method, backend_id, expires_s, content_type)
                last = content_type
            return prepared.query + _encode(prepared.mac.digest(key.encode()))

        return query

    def _prepare(self, method: str, backend_id: str, expires_s: int, content_type: str | None) -> _Prepared:
        found = self._prepared.get((method, backend_id, expires_s, content_type))
        if found is not None:
            return found
        before_key = _message(method, backend_id, "", expires_s, content_type)
        typed = "" if content_type is None else f"&type={quote(content_type, safe='')}"
        prepared = _Prepared(f"expires={expires_s}{typed}&signature=", Mac(self.keys[0], before_key))
        if len(self._prepared) >= _MOST_PREPARED:
            self._prepared.clear()
        self._prepared[method, backend_id, expires_s, content_type] = prepared
        return prepared

    def verify(self, method: str, backend_id: str, key: str, query: str, *, now_s: int) -> str | None:
        """The type that was signed with the URL. A reading URL allows HEAD too.

        Raises `errors.Forbidden` when the URL is for something else, expired or tampered with.
        """
        expires_s, content_type, signature = _parse(query)
        method = "GET" if method == "HEAD" else method
        message = _message(method, backend_id, key, expires_s, content_type)
        matches = [
            hmac.compare_digest(_encode(hmac.digest(secret, message, "sha256")), signature)
            for secret in self.keys
        ]
        if not any(matches):
            raise errors.Forbidden("the URL's signature does not match")
        if now_s >= expires_s:
            raise errors.Forbidden("the URL has expired")
        return content_type


def _message(method: str, backend_id: str, key: str, expires_s: int, content_type: str | None) -> bytes:
    # The key is last and no other part can hold a line feed: two requests never share a message.
    if content_type is not None and not is_header_value(content_type):
        raise errors.BadRequest("a content type is printable ASCII")
    typed = "-" if content_type is None else "=" + content_type
    return f"{_CONTEXT}\n{method}\n{backend_id}\n{expires_s}\n{typed}\n{key}".encode()


def _encode(data: bytes) -> str:
    """URL-safe base64 without padding."""
    return b2a_base64(data).translate(_URL_SAFE, _NOT_SAFE).decode()


def _parse(query: str) -> tuple[int, str | None, str]:
    if len(query) > _LONGEST_QUERY:
        raise errors.Forbidden("the URL's signature does not match")
    pairs = parse_qsl(query, keep_blank_values=True, errors="replace")
    fields = dict(pairs)
    if len(fields) != len(pairs) or not {"expires", "signature"} <= fields.keys() <= {
        "expires",
        "signature",
        "type",
    }:
        raise errors.Forbidden("the URL's signature does not match")
    expires, signature = fields["expires"], fields["signature"]
    # str.isdigit and int() take other scripts' digits too; the bound keeps int() cheap.
    if not (expires.isascii() and expires.isdigit() and len(expires) <= 12 and signature.isascii()):
        raise errors.Forbidden("the URL's signature does not match")
    return int(expires), fields.get("type"), signature
