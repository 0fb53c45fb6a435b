from __future__ import annotations

import sys
import time
import uuid
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from store import errors
from store.media.config import BackendConfig, Chain, FilesConfig, S3Config, build, problems
from store.media.endpoints import Endpoints
from store.media.files import Files
from store.media.signing import Lifetime, Signer
from store.media.sigv4 import Keys

FILES = FilesConfig(id=str(uuid.uuid4()), folder=Path("media"), default=True)
S3 = S3Config(id=str(uuid.uuid4()), bucket="media", credentials=Keys("a", "s"))
SIGNER = Signer((b"k" * 32,))


def test_backends_without_faults_have_no_problems() -> None:
    vast = replace(
        S3,
        id=str(uuid.uuid4()),
        endpoints=("http://10.0.0.1", "http://10.0.0.2:8080"),
        public_endpoints=("https://media.example",),
        prefix="tams/",
        region="vast-1",
        addressing="path",
    )
    assert problems([FILES, S3, vast], Lifetime()) == []


@pytest.mark.parametrize(
    ("change", "said"),
    [
        ({"id": "1"}, "id is not a UUID"),
        ({"id": str(uuid.uuid4()).upper()}, "id is not a UUID"),
        ({"bucket": "a/b"}, "bucket is not"),
        ({"bucket": "../x"}, "bucket is not"),
        ({"region": "eu west"}, "region is not"),
        ({"prefix": "/a/"}, "starts with a slash"),
        ({"prefix": "a"}, "does not end in a slash"),
        ({"prefix": "ü/"}, "need escaping"),
        ({"endpoints": ("s3.example",)}, "endpoints: not an http"),
        ({"endpoints": ("ftp://s3.example",)}, "endpoints: not an http"),
        ({"endpoints": ("http://s3.example:99999",)}, "endpoints: not a URL"),
        ({"endpoints": ("http://u:p@s3.example",)}, "credentials in it"),
        ({"endpoints": ("http://s3.example?x",)}, "a query"),
        ({"endpoints": ("http://a", "http://a")}, "named twice"),
        ({"public_endpoints": ("http://a", "http://b")}, "public_endpoints: give one"),
        ({"public_endpoints": ("a",)}, "public_endpoints: not an http"),
        ({"addressing": "virtual", "bucket": "a_b"}, "host's name"),
        ({"credentials": Keys("a", "")}, "both needed"),
        ({"provider": ""}, "provider is empty"),
        ({"timeout_s": 0}, "timeout_s"),
        ({"attempts": 0}, "attempts"),
        ({"part_bytes": 1}, "part_bytes"),
        ({"copy_part_bytes": 1}, "copy_part_bytes"),
    ],
)
def test_what_is_wrong_with_a_bucket_is_named(change: dict[str, Any], said: str) -> None:
    found = problems([replace(S3, **change)], Lifetime())
    assert any(said in problem for problem in found), found


def test_all_problems_are_told_at_once() -> None:
    twin = replace(S3, id=FILES.id, default=True, bucket="", timeout_s=0)
    found = problems([FILES, twin, replace(FILES, id="x", quota_bytes=0)], Lifetime(10**6))
    for said in ("used twice", "more than one is the default", "seven days", "bucket", "timeout_s", "quota"):
        assert any(said in problem for problem in found), said
    assert problems([], Lifetime()) == ["storage backends: there is none"]


def test_secrets_are_not_shown() -> None:
    assert "hidden" not in repr(replace(S3, credentials=Keys("a", "hidden", "hidden")))


@pytest.mark.parametrize(
    ("endpoints", "public", "urls", "seen"),
    [
        ((), (), ("https://s3.us-east-1.amazonaws.com",), ("https://s3.us-east-1.amazonaws.com",)),
        (("http://a", "http://b"), (), ("http://a", "http://b"), ("http://a", "http://b")),
        (("http://a", "http://b"), ("http://p",), ("http://a", "http://b"), ("http://p", "http://p")),
        (
            ("http://a", "http://b"),
            ("http://p", "http://q"),
            ("http://a", "http://b"),
            ("http://p", "http://q"),
        ),
    ],
)
def test_each_endpoint_has_what_clients_call(
    endpoints: tuple[str, ...], public: tuple[str, ...], urls: tuple[str, ...], seen: tuple[str, ...]
) -> None:
    config = replace(S3, endpoints=endpoints, public_endpoints=public)
    assert (config.urls(), config.public_urls()) == (urls, seen)


async def test_what_is_configured_is_what_the_api_tells(tmp_path: Path) -> None:
    config = replace(
        FILES,
        folder=tmp_path,
        label="near",
        region="r",
        availability_zone="z",
        tags={"auth_classes": ["news"]},
    )
    media = build(config, public_url="http://h", signer=SIGNER, lifetime=Lifetime(), clock=time.time)
    assert isinstance(media, Files)
    assert media.backend == config.described()
    assert media.plain_url("k").startswith(f"http://h/media/{config.id}/")
    await media.close()


def test_a_folder_that_cannot_be_made_is_said(tmp_path: Path) -> None:
    (tmp_path / "file").write_bytes(b"")
    config = replace(FILES, folder=tmp_path / "file" / "media")
    with pytest.raises(errors.Error):
        build(config, public_url="http://h", signer=SIGNER, lifetime=Lifetime(), clock=time.time)


def test_s3_without_boto3_says_which_extra_to_install(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in [name for name in sys.modules if name.startswith("store.media.s3")]:
        monkeypatch.delitem(sys.modules, name)
    monkeypatch.setitem(sys.modules, "boto3", None)
    with pytest.raises(errors.Unavailable, match="extra 's3'"):
        build(S3, public_url="http://h", signer=SIGNER, lifetime=Lifetime(), clock=time.time)


def test_the_base_of_configurations_needs_no_credentials() -> None:
    assert isinstance(S3Config(id=S3.id, bucket="b").credentials, Chain)
    assert BackendConfig(id=S3.id, provider="p", product="q").described().store_product == "q"


def endpoints_of(answers: list[bool]) -> Endpoints:
    return Endpoints(len(answers), lambda index: answers[index], beat=None, every_s=3600)


def test_failed_endpoints_are_left_out_until_a_probe_succeeds() -> None:
    answers = [True, False, True]
    endpoints = endpoints_of(answers)
    try:
        assert endpoints.healthy == (0, 1, 2)
        assert endpoints.probe_all() == answers
        assert endpoints.healthy == (0, 2)
        endpoints.failed(0)
        assert endpoints.healthy == (2,)
        endpoints.failed(2)
        assert endpoints.healthy == (0, 1, 2), "with none left all are tried"
        answers[1] = True
        endpoints.probe_all()
        assert endpoints.healthy == (0, 1, 2)
    finally:
        endpoints.close()


def test_keys_are_spread_over_healthy_endpoints_and_stay_where_they_are() -> None:
    endpoints = endpoints_of([True, True])
    try:
        places = {key: endpoints.of(key) for key in map(str, range(50))}
        assert set(places.values()) == {0, 1}
        assert places == {key: endpoints.of(key) for key in places}
    finally:
        endpoints.close()


def test_endpoints_are_watched_from_a_thread_of_their_own() -> None:
    from threading import Event

    beaten, probed = Event(), Event()
    endpoints = Endpoints(2, lambda _: probed.set() is None, beat=beaten.set, every_s=0.001)
    try:
        assert beaten.wait(10)
        assert probed.wait(10)
    finally:
        endpoints.close()
