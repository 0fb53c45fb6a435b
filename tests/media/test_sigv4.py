"""Our SigV4 signatures against boto3's own output."""

from __future__ import annotations

from datetime import UTC, datetime
from typing import Any
from unittest import mock
from urllib.parse import parse_qsl, urlsplit

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from store.media.sigv4 import MOST_EXPIRES_S, Addressing, Keys, Location, Presigner

boto3 = pytest.importorskip("boto3")
from botocore.config import Config  # noqa: E402

NOW_S = 1_800_000_000
PLAIN = Keys("AKIDEXAMPLE", "wJalrXUtnFEMI/K7MDENG+bPxRfiCYEXAMPLEKEY")
TEMPORARY = Keys("ASIAEXAMPLE", "s" * 40, "FwoGZXIvYXdzE//+a=b&c d")


def boto_url(
    endpoint: str, bucket: str, keys: Keys, region: str, addressing: Addressing, call: str, **params: Any
) -> str:
    client = boto3.client(
        "s3",
        endpoint_url=endpoint,
        region_name=region,
        aws_access_key_id=keys.access_key,
        aws_secret_access_key=keys.secret_key,
        aws_session_token=keys.session_token,
        config=Config(
            signature_version="s3v4",
            s3={"addressing_style": addressing},
            request_checksum_calculation="when_required",
        ),
    )
    frozen = datetime.fromtimestamp(NOW_S, UTC)
    with (
        mock.patch("botocore.auth.get_current_datetime", return_value=frozen.replace(tzinfo=None)),
        mock.patch("botocore.signers.get_current_datetime", return_value=frozen, create=True),
    ):
        url = client.generate_presigned_url(call, Params={"Bucket": bucket, **params}, ExpiresIn=900)
    client.close()
    return str(url)


def parts(url: str) -> tuple[str, str, str, list[tuple[str, str]]]:
    split = urlsplit(url)
    # boto3 leaves a default port in the URL, though not in what it signs.
    host = split.netloc.removesuffix(":80" if split.scheme == "http" else ":443")
    return split.scheme, host, split.path, sorted(parse_qsl(split.query, strict_parsing=True))


PLACES: list[tuple[str, str, Addressing]] = [
    ("https://s3.eu-west-1.amazonaws.com", "media", "virtual"),
    ("https://s3.eu-west-1.amazonaws.com", "media", "path"),
    ("http://127.0.0.1:9000", "media", "path"),
    ("http://vast.example:8080", "media", "virtual"),
    ("https://vast.example:443", "my-media", "path"),
    ("http://vast.example:80", "my-media", "virtual"),
    ("https://gateway.example/objects", "media", "path"),
]
KEYS = [
    "2026/11/21/4d5c2f5e-0f0a-4a6e-8f43-0c1b2f0f7a11/8f2c",
    "a b+c&d=e?f#g%2F~(h)'i!*j",
    "übung/日本/🎞.ts",
    "a//b/./c",
]


@pytest.mark.parametrize(("endpoint", "bucket", "addressing"), PLACES)
@pytest.mark.parametrize("key", KEYS)
@pytest.mark.parametrize("keys", [PLAIN, TEMPORARY], ids=["plain", "temporary"])
def test_urls_equal_those_of_boto3(
    endpoint: str, bucket: str, addressing: Addressing, key: str, keys: Keys
) -> None:
    region = "eu-west-1"
    ours = Presigner(Location.of(endpoint, bucket, addressing=addressing), keys, region=region)
    cases: list[tuple[str, dict[str, Any], str]] = [
        ("get_object", {}, ours.sign("GET", key, signed_s=NOW_S, expires_s=900)),
        (
            "get_object",
            {"VersionId": "3/L4kqtJ+x=", "ResponseContentType": "video/mp2t; a=b"},
            ours.sign(
                "GET",
                key,
                signed_s=NOW_S,
                expires_s=900,
                query=(("versionId", "3/L4kqtJ+x="), ("response-content-type", "video/mp2t; a=b")),
            ),
        ),
        ("put_object", {}, ours.sign("PUT", key, signed_s=NOW_S, expires_s=900)),
        (
            "put_object",
            {"ContentType": "video/mp2t"},
            ours.sign("PUT", key, signed_s=NOW_S, expires_s=900, content_type="video/mp2t"),
        ),
    ]
    for call, params, url in cases:
        assert parts(url) == parts(
            boto_url(endpoint, bucket, keys, region, addressing, call, Key=key, **params)
        )


@settings(max_examples=60, deadline=None)
@given(
    key=st.text(st.characters(codec="utf-8", exclude_characters="\0"), min_size=1, max_size=60).filter(
        lambda key: not key.startswith("/")
    ),
    secret=st.text(st.characters(min_codepoint=33, max_codepoint=126), min_size=1, max_size=40),
    region=st.sampled_from(["us-east-1", "ap-southeast-2", "vast-1"]),
)
def test_urls_of_any_key_equal_those_of_boto3(key: str, secret: str, region: str) -> None:
    endpoint, keys = "http://127.0.0.1:9000", Keys("AKID", secret)
    ours = Presigner(Location.of(endpoint, "media", addressing="path"), keys, region=region)
    url = ours.sign("GET", key, signed_s=NOW_S, expires_s=900)
    assert parts(url) == parts(boto_url(endpoint, "media", keys, region, "path", "get_object", Key=key))


def test_a_new_day_has_a_new_signing_key() -> None:
    location = Location.of("https://s3.example", "media", addressing="path")
    day_s = 24 * 3600

    def fresh(at_s: int) -> str:
        return Presigner(location, PLAIN, region="r").sign("GET", "k", signed_s=at_s, expires_s=9)

    reused = Presigner(location, PLAIN, region="r")
    for at_s in (NOW_S, NOW_S + day_s, NOW_S, NOW_S + day_s + 1, NOW_S + 1):
        assert reused.sign("GET", "k", signed_s=at_s, expires_s=9) == fresh(at_s)


@pytest.mark.parametrize("expires_s", [0, -1, MOST_EXPIRES_S + 1])
def test_a_lifetime_that_s3_would_refuse_is_not_signed(expires_s: int) -> None:
    location = Location.of("https://s3.example", "media", addressing="path")
    with pytest.raises(ValueError, match="seven days"):
        Presigner(location, PLAIN, region="r").sign("GET", "k", signed_s=NOW_S, expires_s=expires_s)


def test_an_ipv6_endpoint_keeps_its_brackets() -> None:
    location = Location.of("http://[::1]:9000", "media", addressing="path")
    assert location.host == "[::1]:9000"
    assert Presigner(location, PLAIN, region="r").url("a b") == "http://[::1]:9000/media/a%20b"


def test_secrets_are_not_shown() -> None:
    assert "FwoG" not in repr(TEMPORARY)
    assert "ssss" not in repr(TEMPORARY)
