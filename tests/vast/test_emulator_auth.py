"""Signatures: what the SDK signs passes, anything else does not."""

from datetime import UTC, datetime, timedelta
from typing import Any

import pytest
import requests
import vastdb.errors
from aws_requests_auth.aws_auth import AWSRequestsAuth

from tests.vast_emulator.errors import Refusal
from tests.vast_emulator.sigv4 import verify

ENDPOINT = "http://127.0.0.1:9090"
SECRETS = {"reader": "correct horse"}
BODY = b"rows"


def signed(url: str = f"{ENDPOINT}/b/s/t?rows", **given: Any) -> tuple[str, str, dict[str, str], bytes]:
    """A request as the SDK signs it."""
    auth = AWSRequestsAuth(
        aws_access_key=given.get("access_key", "reader"),
        aws_secret_access_key=given.get("secret_key", "correct horse"),
        aws_host="127.0.0.1:9090",
        aws_region=given.get("region", ""),
        aws_service=given.get("service", "s3"),
    )
    prepared = requests.Request("POST", url, data=BODY, auth=auth).prepare()
    headers = {name.lower(): str(value) for name, value in prepared.headers.items()}
    return "POST", prepared.path_url, headers | {"host": "127.0.0.1:9090"}, BODY


def check(method: str, target: str, headers: dict[str, str], body: bytes, now: datetime | None = None) -> str:
    return verify(method, target, headers, body, SECRETS, now or datetime.now(UTC))


@pytest.mark.parametrize(
    "url",
    [
        f"{ENDPOINT}/?transaction",
        f"{ENDPOINT}/b/s/t?rows",
        f"{ENDPOINT}/b/s?schema&tabular-new-schema-name=a%2Fb",
        f"{ENDPOINT}/b/s/t?projection&name=p",
    ],
)
def test_a_request_signed_by_the_sdk_passes(url: str) -> None:
    assert check(*signed(url)) == "reader"


@pytest.mark.parametrize(
    ("given", "code"),
    [
        ({"secret_key": "wrong"}, "SignatureDoesNotMatch"),
        ({"access_key": "stranger"}, "InvalidAccessKeyId"),
        ({"service": "es"}, "AuthorizationHeaderMalformed"),
    ],
)
def test_a_signature_by_others_is_refused(given: dict[str, str], code: str) -> None:
    with pytest.raises(Refusal) as refused:
        check(*signed(**given))
    assert (refused.value.status, refused.value.code) == (403, code)


@pytest.mark.parametrize(
    ("change", "code"),
    [
        ({"method": "PUT"}, "SignatureDoesNotMatch"),
        ({"target": "/b/s/other?rows"}, "SignatureDoesNotMatch"),
        ({"target": "/b/s/t?rows&name=p"}, "SignatureDoesNotMatch"),
        ({"host": "elsewhere"}, "SignatureDoesNotMatch"),
        ({"body": b"other rows"}, "XAmzContentSHA256Mismatch"),
        ({"body": b"other rows", "x-amz-content-sha256": None}, "SignatureDoesNotMatch"),
        ({"authorization": None}, "AccessDenied"),
        ({"authorization": "Basic cmVhZGVyOg=="}, "AccessDenied"),
        ({"x-amz-date": "yesterday"}, "AccessDenied"),
        ({"x-amz-date": "20200101T000000Z"}, "RequestTimeTooSkewed"),
    ],
)
def test_a_request_changed_after_signing_is_refused(change: dict[str, Any], code: str) -> None:
    method, target, headers, body = signed()
    method, target, body = (
        change.pop(name, own) for name, own in (("method", method), ("target", target), ("body", body))
    )
    headers = {name: value for name, value in (headers | change).items() if value is not None}
    with pytest.raises(Refusal) as refused:
        check(method, target, headers, body)
    assert (refused.value.status, refused.value.code) == (403, code)


def test_headers_that_must_be_signed_are() -> None:
    method, target, headers, body = signed()
    headers["authorization"] = headers["authorization"].replace("host;x-amz-date", "host")
    with pytest.raises(Refusal) as refused:
        check(method, target, headers, body)
    assert refused.value.code == "AccessDenied"


@pytest.mark.parametrize("hours", [-1, 1])
def test_an_old_or_early_request_is_refused(hours: int) -> None:
    with pytest.raises(Refusal) as refused:
        check(*signed(), now=datetime.now(UTC) + timedelta(hours=hours))
    assert refused.value.code == "RequestTimeTooSkewed"


@pytest.mark.parametrize("wrong", [{"access_key": "stranger"}, {"secret_key": "wrong"}])
def test_the_sdk_is_forbidden_with_wrong_keys(emulator: Any, connect: Any, wrong: dict[str, str]) -> None:
    with pytest.raises(vastdb.errors.Forbidden):
        connect(emulator, **wrong)
    assert emulator.tally().requests == {"version": 1}


def test_an_unsigned_request_is_forbidden_and_does_nothing(emulator: Any) -> None:
    reply = requests.post(f"{emulator.endpoint}/?transaction", timeout=10)
    assert reply.status_code == 403
    assert "<Code>AccessDenied</Code>" in reply.text
    assert emulator.open_transactions == 0
