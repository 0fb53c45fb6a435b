"""S3 that fails: bounded retries, clear errors, no lost and no mixed-up bytes."""

from __future__ import annotations

import asyncio
import contextlib
import time
import uuid
from collections.abc import AsyncIterator, Iterator
from dataclasses import replace
from pathlib import Path
from urllib.parse import parse_qs, urlsplit

import pytest

pytest.importorskip("boto3")

from store import errors
from store.media import s3_calls
from store.media.config import Chain, KeyFiles, S3Config
from store.media.s3 import S3
from store.media.signing import Lifetime
from store.media.sigv4 import Keys
from tests.media.faulty_s3 import BUCKET, OK, RESET, Fault, FaultyS3, running

CONFIG = S3Config(
    id=str(uuid.uuid4()),
    bucket=BUCKET,
    credentials=Keys("access", "secret"),
    timeout_s=20,
    part_bytes=5 << 20,
)
KEY = "2026/11/21/flow/object"
CONTENT = bytes(range(256)) * 12_000
BIG = CONTENT * 4
TRANSIENT = [
    Fault(500),
    Fault(502, "BadGateway"),
    Fault(503, "SlowDown"),
    Fault(504, "GatewayTimeout"),
    Fault(429, "TooManyRequests"),
    Fault(400, "RequestTimeout"),
    RESET,
    Fault(200, body=b"<html>welcome</html", headers={"Content-Length": "5"}),
]


@pytest.fixture(scope="module")
def shared() -> Iterator[tuple[FaultyS3, S3]]:
    """Made once: boto3's clients take a while."""
    with running() as server:
        s3 = S3(replace(CONFIG, endpoints=(server.endpoint,)), lifetime=Lifetime(), clock=time.time)
        yield server, s3
        asyncio.run(s3.close())


@pytest.fixture(autouse=True)
def _short_pauses(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(s3_calls, "_FIRST_PAUSE_S", 0.001)
    # One call may take as long as it likes here, and leaves time for another.
    monkeypatch.setattr(s3_calls, "_BUDGET_S", 120)


@pytest.fixture
def server(shared: tuple[FaultyS3, S3]) -> FaultyS3:
    shared[0].reset()
    return shared[0]


@pytest.fixture
def s3(shared: tuple[FaultyS3, S3]) -> S3:
    return shared[1]


@pytest.fixture
def hanging() -> Iterator[FaultyS3]:
    with running() as found:
        found.faults = [Fault(hang=True)]
        yield found


@contextlib.asynccontextmanager
async def opened(config: S3Config) -> AsyncIterator[S3]:
    made = S3(config, lifetime=Lifetime(), clock=time.time)
    try:
        yield made
    finally:
        await made.close()


async def whole(s3: S3, **options: object) -> bytes:
    async with contextlib.aclosing(s3.read(KEY, **options)) as chunks:  # type: ignore[arg-type]
        return b"".join([chunk async for chunk in chunks])


async def chunked(content: bytes) -> AsyncIterator[bytes]:
    for start in range(0, len(content), 1 << 20):
        yield content[start : start + (1 << 20)]


# The answer to a HEAD has no body and so no word for the error.
@pytest.mark.parametrize("fault", [fault for fault in TRANSIENT[:-1] if fault.status != 400])
async def test_what_may_pass_is_tried_again(server: FaultyS3, s3: S3, fault: Fault) -> None:
    server.objects[KEY] = CONTENT
    server.faults = [fault, fault]
    stat = await s3.stat(KEY)
    assert stat is not None
    assert stat.size_bytes == len(CONTENT)
    assert len(server.requests) == 3


@pytest.mark.parametrize("fault", TRANSIENT)
async def test_what_does_not_pass_is_unavailable_after_bounded_tries(
    server: FaultyS3, s3: S3, fault: Fault
) -> None:
    server.faults = [fault] * 20
    with pytest.raises(errors.Unavailable):
        [key async for key, _ in s3.keys("")]
    assert len(server.requests) == CONFIG.attempts


async def test_a_service_that_hangs_is_given_up(hanging: FaultyS3) -> None:
    async with opened(replace(CONFIG, endpoints=(hanging.endpoint,), attempts=1, timeout_s=1)) as s3:
        with pytest.raises(errors.Unavailable):
            await s3.stat(KEY)
        hanging.stopping.set()
    assert len(hanging.requests) == 1


@pytest.mark.parametrize(
    ("fault", "expected"),
    [
        (Fault(403, "AccessDenied"), errors.Unavailable),
        (Fault(400, "InvalidRequest"), errors.Unavailable),
        (Fault(501, "NotImplemented"), errors.Unavailable),
        (Fault(507, "InsufficientStorage"), errors.Full),
        (Fault(400, "QuotaExceeded"), errors.Full),
        (Fault(404, "NoSuchBucket"), errors.Unavailable),
    ],
)
async def test_what_cannot_pass_is_not_tried_again(
    server: FaultyS3, s3: S3, fault: Fault, expected: type[errors.Error]
) -> None:
    server.faults = [fault]
    with pytest.raises(expected):
        await s3.write(KEY, chunked(CONTENT), content_type="video/mp2t")
    assert len(server.requests) == 1


async def test_a_missing_bucket_is_an_outage_not_an_absence(server: FaultyS3, s3: S3) -> None:
    server.faults = [Fault(404, ""), Fault(404, "")]
    with pytest.raises(errors.Unavailable, match="bucket does not exist"):
        await s3.stat(KEY)
    assert await s3.stat(KEY) is None


async def test_an_answer_without_what_s3_always_sends_is_unavailable(server: FaultyS3, s3: S3) -> None:
    server.faults = [Fault(200, body=b"")]
    with pytest.raises(errors.Unavailable):
        await s3.stat(KEY)


async def test_a_read_that_is_cut_short_goes_on_where_it_was(server: FaultyS3, s3: S3) -> None:
    server.objects[KEY] = CONTENT
    server.faults = [Fault(cut=1_500_000), Fault(503), Fault(cut=10)]
    assert await whole(s3) == CONTENT
    again = server.requests[-1].headers
    assert again["range"].startswith("bytes=")
    assert again["if-match"].startswith('"')


async def test_a_read_whose_connection_is_reset_goes_on(server: FaultyS3, s3: S3) -> None:
    server.objects[KEY] = CONTENT
    server.faults = [Fault(cut=1_500_000, reset=True), Fault(503)]
    assert await whole(s3) == CONTENT
    assert len(server.requests) == 3


async def test_a_part_that_breaks_goes_on_within_its_end(server: FaultyS3, s3: S3) -> None:
    server.objects[KEY] = CONTENT
    server.faults = [Fault(cut=1_200_000)]
    assert await whole(s3, start=100, end=2_000_000) == CONTENT[100:2_000_000]


async def test_a_read_that_never_gets_on_is_given_up(server: FaultyS3, s3: S3) -> None:
    server.objects[KEY] = CONTENT
    server.faults = [Fault(cut=0)] * 20
    with pytest.raises(errors.Unavailable):
        await whole(s3)
    assert len(server.requests) == CONFIG.attempts


async def test_bytes_of_two_versions_are_never_mixed(server: FaultyS3, s3: S3) -> None:
    server.objects[KEY] = CONTENT
    server.faults = [Fault(cut=1_500_000)]
    read = []
    with pytest.raises(errors.Unavailable):
        async with contextlib.aclosing(s3.read(KEY)) as chunks:
            async for chunk in chunks:
                read.append(chunk)
                server.objects[KEY] = CONTENT[::-1]
    assert CONTENT.startswith(b"".join(read))


@pytest.mark.parametrize("fault", TRANSIENT[:-1])
@pytest.mark.parametrize("content", [b"", CONTENT, BIG], ids=["empty", "plain", "multipart"])
async def test_no_byte_is_lost_when_a_write_is_tried_again(
    server: FaultyS3, s3: S3, fault: Fault, content: bytes
) -> None:
    server.faults = [OK, fault, OK, fault] if len(content) > CONFIG.part_bytes else [fault, fault]
    stat = await s3.write(KEY, chunked(content), content_type="video/mp2t")
    assert stat.size_bytes == len(content)
    assert server.objects[KEY] == content


async def test_a_multipart_upload_that_fails_is_aborted(server: FaultyS3, s3: S3) -> None:
    server.faults = [OK, OK, Fault(403, "AccessDenied")]
    with pytest.raises(errors.Unavailable):
        await s3.write(KEY, chunked(BIG), content_type="video/mp2t")
    assert server.operations()[-1] == "DELETE uploadId"
    assert (server.uploads, server.objects) == ({}, {})


async def test_beginning_a_multipart_upload_is_repeated_only_when_it_surely_had_no_effect(
    server: FaultyS3, s3: S3
) -> None:
    server.faults = [Fault(500, after=True)]
    with pytest.raises(errors.Unavailable):
        await s3.write(KEY, chunked(BIG), content_type="video/mp2t")
    assert len(server.requests) == 1
    server.faults = [Fault(503, "SlowDown")]
    await s3.write(KEY, chunked(BIG), content_type="video/mp2t")
    assert server.objects[KEY] == BIG


async def test_a_completion_whose_answer_was_lost_is_found_out(server: FaultyS3, s3: S3) -> None:
    server.faults = [OK, OK, OK, OK, Fault(500, after=True)]
    stat = await s3.write(KEY, chunked(BIG), content_type="video/mp2t")
    assert server.operations().count("POST uploadId") == 2
    assert stat.size_bytes == len(BIG)


async def test_a_write_that_the_service_did_not_keep_is_said(server: FaultyS3, s3: S3) -> None:
    server.faults = [Fault(200, headers={"ETag": '"x"'}, body=b"")]
    with pytest.raises(errors.Unavailable, match="did not keep"):
        await s3.write(KEY, chunked(CONTENT), content_type="video/mp2t")


async def test_objects_that_were_not_deleted_are_said(server: FaultyS3, s3: S3) -> None:
    refused = b"<DeleteResult><Error><Key>k</Key><Code>AccessDenied</Code></Error></DeleteResult>"
    server.faults = [OK, Fault(200, body=refused)]
    with pytest.raises(errors.Unavailable, match="1 objects were not deleted"):
        await s3.delete([KEY])


async def test_a_service_without_batches_is_asked_one_by_one(server: FaultyS3, s3: S3) -> None:
    server.objects = {KEY: b"x", "other": b"x"}
    server.faults = [Fault(501, "NotImplemented"), Fault(400, "MissingContentMD5")]
    await s3.delete([KEY, "other"])
    assert server.objects == {}


async def test_another_endpoint_is_used_when_one_is_gone(server: FaultyS3) -> None:
    gone = "http://127.0.0.1:1"
    server.objects[KEY] = CONTENT
    config = replace(CONFIG, endpoints=(gone, server.endpoint), public_endpoints=("http://a", "http://b"))
    async with opened(config) as s3:
        keys = [f"{KEY}{n}" for n in range(20)]
        now_s = int(time.time())
        assert {urlsplit(s3.get_url(key, version=None, now_s=now_s)).netloc for key in keys} == {"a", "b"}
        for key in keys:
            assert await s3.stat(key) is None
        assert {urlsplit(s3.get_url(key, version=None, now_s=now_s)).netloc for key in keys} == {"b"}


async def test_urls_carry_the_pinned_version_and_the_public_endpoint(server: FaultyS3) -> None:
    config = replace(
        CONFIG, endpoints=(server.endpoint,), public_endpoints=("https://media.example",), prefix="p/"
    )
    async with opened(config) as s3:
        url = urlsplit(s3.get_url(KEY, version="id:v1", now_s=1_800_000_000))
        assert (url.netloc, url.path) == ("media.example", f"/{BUCKET}/p/{KEY}")
        assert parse_qs(url.query)["versionId"] == ["v1"]
        unversioned = urlsplit(s3.get_url(KEY, version='etag:"e"', now_s=1_800_000_000))
        assert "versionId" not in parse_qs(unversioned.query)


async def test_fresh_credentials_sign_from_then_on(server: FaultyS3) -> None:
    async with opened(replace(CONFIG, endpoints=(server.endpoint,))) as s3:
        urls = []
        for access_key in ("first", "first", "second"):
            s3._calls.keys = Keys(access_key, "secret")
            urls.append(s3.get_url(KEY, version=None, now_s=1_800_000_000))
    assert urls[0] == urls[1]
    assert "X-Amz-Credential=second" in urls[2]


async def test_the_event_loop_goes_on_while_s3_is_slow(hanging: FaultyS3) -> None:
    async with opened(replace(CONFIG, endpoints=(hanging.endpoint,), attempts=1)) as s3:
        asking = asyncio.create_task(s3.stat(KEY))
        turns = 0
        while not hanging.requests:
            await asyncio.sleep(0)
            turns += 1
        assert not asking.done()
        hanging.stopping.set()
        with pytest.raises(errors.Unavailable):
            await asking
    assert turns > 0


@pytest.mark.parametrize(
    ("faults", "said"),
    [
        ([Fault(404, "NoSuchBucket")], "the bucket does not exist"),
        ([Fault(403, "InvalidAccessKeyId")], "the access key is unknown"),
        ([Fault(403, "SignatureDoesNotMatch")], "the secret key is wrong"),
        ([Fault(403, "AccessDenied")], "no permission to list"),
        ([Fault(403, "RequestTimeTooSkewed")], "clocks"),
        (
            [Fault(400, "AuthorizationHeaderMalformed", {"x-amz-bucket-region": "eu-west-1"})],
            "the region is eu-west-1, not us-east-1",
        ),
        ([RESET], "closed without an answer"),
        ([OK, Fault(403, "AccessDenied")], "no permission to write"),
        ([OK, Fault(507, "InsufficientStorage")], "write failed"),
        ([OK, OK, OK, Fault(403, "AccessDenied")], "no permission to delete"),
        ([], "versioning is off"),
        (
            [
                *[OK] * 5,
                Fault(
                    200,
                    body=b"<L><Rule><ID>old</ID><Status>Enabled</Status><Filter><Prefix></Prefix></Filter>"
                    b"<Expiration><Days>1</Days></Expiration></Rule></L>",
                ),
            ],
            "lifecycle rule old removes media by age",
        ),
    ],
)
async def test_a_check_says_what_to_mend(
    server: FaultyS3, s3: S3, faults: list[Fault | None], said: str
) -> None:
    server.faults = list(faults)
    problems = await s3.check()
    assert any(said in problem for problem in problems), problems


async def test_a_check_finds_a_wrong_clock(server: FaultyS3, s3: S3) -> None:
    server.date_s = time.time() - 3600
    assert any("ahead of the service's" in problem for problem in await s3.check())


async def test_a_check_names_each_endpoint_that_does_not_answer(server: FaultyS3) -> None:
    async with opened(replace(CONFIG, endpoints=("http://127.0.0.1:1", server.endpoint))) as s3:
        problems = await s3.check()
    assert [problem for problem in problems if "127.0.0.1:1:" in problem and "nothing answers" in problem]
    assert not [problem for problem in problems if server.endpoint in problem]


async def test_credentials_come_from_files(server: FaultyS3, tmp_path: Path) -> None:
    for name in ("access", "secret", "token"):
        (tmp_path / name).write_text(f"{name}-value\n")
    files = KeyFiles(tmp_path / "access", tmp_path / "secret", tmp_path / "token")
    async with opened(replace(CONFIG, endpoints=(server.endpoint,), credentials=files)) as s3:
        query = parse_qs(urlsplit(s3.get_url(KEY, version=None, now_s=1_800_000_000)).query)
    assert query["X-Amz-Credential"][0].startswith("access-value/")
    assert query["X-Amz-Security-Token"] == ["token-value"]


def test_missing_credentials_are_said_at_once(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("AWS_ACCESS_KEY_ID", "AWS_SECRET_ACCESS_KEY", "AWS_PROFILE"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("AWS_EC2_METADATA_DISABLED", "true")
    monkeypatch.setenv("HOME", str(tmp_path))
    for credentials in (
        Chain(),
        Chain("no-such-profile"),
        KeyFiles(tmp_path / "absent", tmp_path / "absent"),
    ):
        with pytest.raises(errors.Unavailable):
            S3(replace(CONFIG, credentials=credentials), lifetime=Lifetime(), clock=time.time)
