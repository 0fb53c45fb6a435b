"""Checks AWS Signature Version 4 as the SDK makes it (AWS General Reference, "Signature Version 4")."""

import hashlib
import hmac
import re
from collections.abc import Mapping
from datetime import UTC, datetime, timedelta
from urllib.parse import quote

from tests.vast_emulator.errors import Refusal

ALGORITHM = "AWS4-HMAC-SHA256"
MAX_SKEW = timedelta(minutes=15)
_HEADER = re.compile(
    rf"^{ALGORITHM} Credential=(?P<credential>[^,\s]+), *SignedHeaders=(?P<signed>[^,\s]+), *"
    r"Signature=(?P<signature>[0-9a-f]{64})$"
)


def verify(
    method: str,
    target: str,
    headers: Mapping[str, str],
    body: bytes,
    secrets: Mapping[str, str],
    now: datetime,
) -> str:
    """Return the access key that signed the request, or refuse with 403.

    `target` is the raw request target, `headers` have lower-case names, `secrets` maps access to secret keys.
    """
    found = _HEADER.match(headers.get("authorization", ""))
    if found is None:
        raise Refusal(403, "AccessDenied", "no AWS4-HMAC-SHA256 authorization")
    access_key, date, region, service = _scope(found["credential"])
    secret = secrets.get(access_key)
    if secret is None:
        raise Refusal(403, "InvalidAccessKeyId", "unknown access key")
    timestamp = _timestamp(headers, date, now)
    signed = found["signed"].split(";")
    if not {"host", "x-amz-date"} <= set(signed):
        raise Refusal(403, "AccessDenied", "host and x-amz-date must be signed")
    body_hash = hashlib.sha256(body).hexdigest()
    if headers.get("x-amz-content-sha256", body_hash) != body_hash:
        raise Refusal(403, "XAmzContentSHA256Mismatch", "the body is not the signed one")
    request = canonical_request(method, target, headers, signed, body_hash)
    expected = signature(secret, timestamp, date, region, service, request)
    if not hmac.compare_digest(expected, found["signature"]):
        raise Refusal(403, "SignatureDoesNotMatch", "the signature does not match")
    return access_key


def _scope(credential: str) -> tuple[str, str, str, str]:
    parts = credential.split("/")
    if len(parts) != 5 or parts[3] != "s3" or parts[4] != "aws4_request":
        raise Refusal(403, "AuthorizationHeaderMalformed", "credential scope")
    return parts[0], parts[1], parts[2], parts[3]


def _timestamp(headers: Mapping[str, str], date: str, now: datetime) -> str:
    text = headers.get("x-amz-date", "")
    try:
        moment = datetime.strptime(text, "%Y%m%dT%H%M%SZ").replace(tzinfo=UTC)
    except ValueError as exc:
        raise Refusal(403, "AccessDenied", "x-amz-date") from exc
    if not text.startswith(date) or abs(now - moment) > MAX_SKEW:
        raise Refusal(403, "RequestTimeTooSkewed", "the request was signed at another time")
    return text


def canonical_request(
    method: str, target: str, headers: Mapping[str, str], signed: list[str], body_hash: str
) -> str:
    """Lay out a request for signing; a query key without a value becomes `key=`."""
    path, _, query = target.partition("?")
    pairs = sorted(item if "=" in item else f"{item}=" for item in query.split("&") if item)
    lines = [f"{name}:{headers.get(name, '').strip()}\n" for name in signed]
    return "\n".join(
        [
            method,
            quote(path or "/", safe="/-_.~"),
            "&".join(pairs),
            "".join(lines),
            ";".join(signed),
            body_hash,
        ]
    )


def signature(secret: str, timestamp: str, date: str, region: str, service: str, request: str) -> str:
    """Sign a canonical request; the result is hexadecimal."""
    scope = f"{date}/{region}/{service}/aws4_request"
    digest = hashlib.sha256(request.encode()).hexdigest()
    key = f"AWS4{secret}".encode()
    for part in (date, region, service, "aws4_request"):
        key = hmac.digest(key, part.encode(), "sha256")
    text = f"{ALGORITHM}\n{timestamp}\n{scope}\n{digest}"
    return hmac.new(key, text.encode(), hashlib.sha256).hexdigest()
