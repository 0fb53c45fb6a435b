"""What is wrong with a bucket, precisely enough to mend it."""

from __future__ import annotations

import secrets
from collections.abc import Callable, Mapping
from email.utils import parsedate_to_datetime
from typing import Any

from botocore.exceptions import BotoCoreError, ClientError

from store.media.config import S3Config
from store.media.s3_calls import Calls, Reply, code_of, status_of

_MOST_SKEW_S = 60
_CODES = {
    "InvalidAccessKeyId": "the access key is unknown there",
    "SignatureDoesNotMatch": "the secret key is wrong (or a proxy changes requests)",
    "ExpiredToken": "the session token has expired",
    "InvalidToken": "the session token is wrong",
    "RequestTimeTooSkewed": "the clocks of this server and of the service differ too much",
    "NoSuchBucket": "the bucket does not exist",
    "EndpointConnectionError": "nothing answers there",
    "ConnectTimeoutError": "nothing answers there in time",
    "ConnectionClosedError": "the connection is closed without an answer",
    "ReadTimeoutError": "the service does not answer in time",
    "SSLError": "the TLS certificate is not trusted",
}
_WRONG_REGION = {"AuthorizationHeaderMalformed", "PermanentRedirect", "IllegalLocationConstraintException"}
_UNKNOWN_THERE = {"NotImplemented", "MethodNotAllowed", "NoSuchLifecycleConfiguration", "AccessDenied"}


async def problems(calls: Calls, config: S3Config, clock: Callable[[], float]) -> list[str]:
    """Problems of each endpoint and of the bucket, each naming what to mend; empty when all is well."""
    found: list[str] = []
    reached: list[int] = []
    for index, url in enumerate(config.urls()):
        problem = await _endpoint_problem(calls, config, index, url, clock)
        if problem is None:
            reached.append(index)
        else:
            found.append(problem)
    if not reached:
        return found
    index = reached[0]
    found += await _permission_problems(calls, config, index)
    found += await _safety_problems(calls, config, index)
    return found


async def _endpoint_problem(
    calls: Calls, config: S3Config, index: int, url: str, clock: Callable[[], float]
) -> str | None:
    where = f"bucket {config.bucket} at {url}"
    try:
        # A listing, since errors of a HEAD come without their code.
        reply = await calls.once(index, "list_objects_v2", Prefix=config.prefix, MaxKeys=1)
    except (ClientError, BotoCoreError) as exc:
        skew_s = _skew_s(_headers_of(exc), clock)
        if abs(skew_s) > _MOST_SKEW_S:
            return f"{where}: this server's clock is {_ahead(skew_s)} the service's"
        return f"{where}: {_reason(exc, config)}"
    skew_s = _skew_s(reply.get("ResponseMetadata", {}).get("HTTPHeaders", {}), clock)
    if abs(skew_s) > _MOST_SKEW_S:
        return f"{where}: this server's clock is {_ahead(skew_s)} the service's, so signed URLs may not work"
    return None


async def _permission_problems(calls: Calls, config: S3Config, index: int) -> list[str]:
    where = f"bucket {config.bucket}"
    key = f"{config.prefix}tams-check-{secrets.token_hex(8)}"
    steps: list[tuple[str, str, dict[str, Any]]] = [
        ("write", "put_object", {"Body": b"check"}),
        ("read", "head_object", {}),
        ("delete", "delete_object", {}),
    ]
    found = []
    for permission, operation, parameters in steps:
        try:
            reply = await calls.once(index, operation, Key=key, **parameters)
        except (ClientError, BotoCoreError) as exc:
            reason = (
                f"no permission to {permission} under '{config.prefix}'"
                if status_of(exc) == 403
                else f"{permission} failed: {_reason(exc, config)}"
            )
            found.append(f"{where}: {reason}")
            if permission == "write":
                break
        else:
            if permission == "write" and reply.get("VersionId") not in {None, "null"}:
                steps[2][2]["VersionId"] = reply["VersionId"]
    return found


async def _safety_problems(calls: Calls, config: S3Config, index: int) -> list[str]:
    where = f"bucket {config.bucket}"
    found = []
    versioning = await _asked(calls, index, "get_bucket_versioning")
    if versioning.get("Status") != "Enabled":
        found.append(
            f"{where}: versioning is off, so an upload URL that is replayed after registration, while it is "
            "valid, replaces what readers get; switch versioning on"
        )
    lifecycle = await _asked(calls, index, "get_bucket_lifecycle_configuration")
    for rule in lifecycle.get("Rules", []):
        if rule.get("Status") == "Enabled" and "Expiration" in rule and _covers(rule, config.prefix):
            found.append(f"{where}: lifecycle rule {rule.get('ID', 'without a name')} removes media by age")
    return found


async def _asked(calls: Calls, index: int, operation: str) -> Reply:
    """What the bucket says of itself; nothing where the service does not know or tell."""
    try:
        return await calls.once(index, operation)
    except ClientError as exc:
        if code_of(exc) in _UNKNOWN_THERE or status_of(exc) in {403, 404, 405, 501}:
            return {}
        return {"Status": None}
    except BotoCoreError:
        return {}


def _covers(rule: Reply, prefix: str) -> bool:
    filtered = rule.get("Filter", {})
    under = str(rule.get("Prefix") or filtered.get("Prefix") or filtered.get("And", {}).get("Prefix") or "")
    only_markers = "ExpiredObjectDeleteMarker" in rule["Expiration"]
    return not only_markers and (prefix.startswith(under) or under.startswith(prefix))


def _reason(exc: ClientError | BotoCoreError, config: S3Config) -> str:
    code = code_of(exc)
    region = _headers_of(exc).get("x-amz-bucket-region")
    if code in _WRONG_REGION or (region and region != (config.region or "us-east-1")):
        return f"the region is {region or 'another one'}, not {config.region or 'us-east-1'}"
    if code in _CODES:
        return _CODES[code]
    if status_of(exc) == 403:
        return "no permission to list"
    return f"the service says {code or status_of(exc)}"


def _headers_of(exc: ClientError | BotoCoreError) -> Mapping[str, str]:
    return exc.response["ResponseMetadata"].get("HTTPHeaders", {}) if isinstance(exc, ClientError) else {}


def _skew_s(headers: Mapping[str, str], clock: Callable[[], float]) -> int:
    date = headers.get("date")
    try:
        return int(clock() - parsedate_to_datetime(date).timestamp()) if date else 0
    except ValueError:
        return 0


def _ahead(skew_s: int) -> str:
    return f"{abs(skew_s)} s {'ahead of' if skew_s > 0 else 'behind'}"
