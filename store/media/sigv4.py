"""SigV4 query signatures for S3 ("Authenticating Requests: Using Query Parameters", Amazon S3 API); pure.

What changes seldom (the day's signing key, everything before the key in the canonical request, everything
after it) is computed once, so that a URL costs two hashes.
"""

from __future__ import annotations

import hashlib
import hmac
import re
from dataclasses import dataclass, field
from datetime import UTC, datetime
from typing import Literal
from urllib.parse import quote, urlsplit

from store.mac import Mac

MOST_EXPIRES_S = 7 * 24 * 3600
_DEFAULT_PORTS = {"http": 80, "https": 443}
_UNRESERVED = re.compile(r"[A-Za-z0-9_.~/-]*")
_DNS_BUCKET = re.compile(r"[a-z0-9][a-z0-9.-]{1,61}[a-z0-9]")
Addressing = Literal["path", "virtual"]


@dataclass(frozen=True, slots=True)
class Keys:
    """Credentials; `session_token` for temporary ones."""

    access_key: str
    secret_key: str = field(repr=False)
    session_token: str | None = field(default=None, repr=False)


@dataclass(frozen=True, slots=True)
class Location:
    """A bucket as its clients reach it: the host they name, and the path before the key."""

    scheme: str
    host: str
    path: str

    @staticmethod
    def of(endpoint: str, bucket: str, *, addressing: Addressing) -> Location:
        """`endpoint` is a URL without query or credentials. A default port is left out, as clients do."""
        parts = urlsplit(endpoint)
        host = parts.hostname or ""
        host = f"[{host}]" if ":" in host else host
        if parts.port is not None and parts.port != _DEFAULT_PORTS.get(parts.scheme):
            host = f"{host}:{parts.port}"
        base = parts.path.rstrip("/")
        if addressing == "virtual":
            return Location(parts.scheme, f"{bucket}.{host}", f"{base}/")
        return Location(parts.scheme, host, f"{base}/{bucket}/")


def is_virtual_bucket(bucket: str, scheme: str) -> bool:
    """Whether the bucket's name can be part of a host's name; a dot would break the certificate."""
    return _DNS_BUCKET.fullmatch(bucket) is not None and not (scheme == "https" and "." in bucket)


class Presigner:
    """Signs URLs of one bucket with one set of credentials."""

    def __init__(self, location: Location, keys: Keys, *, region: str, service: str = "s3") -> None:
        self._location = location
        self._keys = keys
        self._scope_end = f"{region}/{service}/aws4_request"
        self._region = region
        self._service = service
        self._day = ""
        self._mac = Mac(b"")
        self._prepared: dict[tuple[str, int, int, str], _Prepared] = {}
        self._base = f"{location.scheme}://{location.host}"

    def url(self, key: str) -> str:
        """The key's place without a signature."""
        return f"{self._base}{self._location.path}{encoded(key, safe='/')}"

    def sign(
        self,
        method: str,
        key: str,
        *,
        signed_s: int,
        expires_s: int,
        content_type: str | None = None,
        query: tuple[tuple[str, str], ...] = (),
    ) -> str:
        """A URL valid for `expires_s` seconds from `signed_s` (Unix seconds).

        `content_type` makes that header part of the signature. `query` is further parameters, none of which
        starts with `X-Amz-`.
        """
        prepared = self._prepare(method, signed_s, expires_s, "" if content_type is None else content_type)
        path = self._location.path + encoded(key, safe="/")
        extra = _extra(query) if query else ""
        canonical = f"{method}\n{path}\n{prepared.query}{extra}\n{prepared.tail}"
        digest = hashlib.sha256(canonical.encode()).hexdigest()
        signature = self._mac.digest(f"{prepared.to_sign}{digest}".encode()).hex()
        return f"{self._base}{path}?{prepared.query}{extra}&X-Amz-Signature={signature}"

    def _prepare(self, method: str, signed_s: int, expires_s: int, content_type: str) -> _Prepared:
        found = self._prepared.get((method, signed_s, expires_s, content_type))
        if found is not None and found.day == self._day:
            return found
        if not 0 < expires_s <= MOST_EXPIRES_S:
            raise ValueError("a signed URL is valid for at most seven days")
        stamp = datetime.fromtimestamp(signed_s, UTC).strftime("%Y%m%dT%H%M%SZ")
        day = stamp[:8]
        if day != self._day:
            self._day, self._mac = day, Mac(self._key_of(day))
        if len(self._prepared) >= 64:
            self._prepared.clear()
        scope = f"{day}/{self._scope_end}"
        headers = "content-type;host" if content_type else "host"
        typed = f"content-type:{' '.join(content_type.split())}\n" if content_type else ""
        found = _Prepared(
            day=day,
            query=self._query(scope, stamp, expires_s, headers),
            tail=f"{typed}host:{self._location.host}\n\n{headers}\nUNSIGNED-PAYLOAD",
            to_sign=f"AWS4-HMAC-SHA256\n{stamp}\n{scope}\n",
        )
        self._prepared[method, signed_s, expires_s, content_type] = found
        return found

    def _query(self, scope: str, stamp: str, expires_s: int, headers: str) -> str:
        # In the canonical (byte) order, so that the URL's own query is the one that is signed.
        parameters = [
            ("X-Amz-Algorithm", "AWS4-HMAC-SHA256"),
            ("X-Amz-Credential", f"{self._keys.access_key}/{scope}"),
            ("X-Amz-Date", stamp),
            ("X-Amz-Expires", str(expires_s)),
        ]
        if self._keys.session_token is not None:
            parameters.append(("X-Amz-Security-Token", self._keys.session_token))
        parameters.append(("X-Amz-SignedHeaders", headers))
        return "&".join(f"{name}={encoded(value)}" for name, value in parameters)

    def _key_of(self, day: str) -> bytes:
        key = f"AWS4{self._keys.secret_key}".encode()
        for part in (day, self._region, self._service, "aws4_request"):
            key = hmac.digest(key, part.encode(), "sha256")
        return key


@dataclass(frozen=True, slots=True)
class _Prepared:
    day: str
    query: str
    tail: str
    to_sign: str


def encoded(text: str, *, safe: str = "") -> str:
    """Percent-encoded as AWS does: everything but unreserved characters, and `/` where it is safe."""
    if _UNRESERVED.fullmatch(text) and (safe or "/" not in text):
        return text
    return quote(text, safe=safe + "~")


def _extra(query: tuple[tuple[str, str], ...]) -> str:
    pairs = [(encoded(name), encoded(value)) for name, value in query]
    return "".join([f"&{name}={value}" for name, value in sorted(pairs)])
