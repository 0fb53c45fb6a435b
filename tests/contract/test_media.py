"""What `Media` promises, on every implementation: local files, and S3 on three servers."""

from __future__ import annotations

import asyncio
import contextlib
import time
import uuid
from collections.abc import AsyncIterator, Iterator
from dataclasses import dataclass, replace
from pathlib import Path

import httpx
import pytest

from store import errors
from store.media.config import FilesConfig, S3Config, build
from store.media.files import Files
from store.media.protocol import CHUNK_BYTES, Media, Stat
from store.media.serve import LocalMedia
from store.media.signing import Lifetime, Signer
from store.media.sigv4 import Keys
from tests.contract.media_servers import ACCESS, BUCKET, SECRET, Server, running

SIGNER = Signer((b"k" * 32,))
TYPE = "video/mp2t"
PUBLIC_URL = "http://media.example"


@dataclass(frozen=True)
class Subject:
    """An implementation, another backend of the same kind, and a client that reaches both's URLs."""

    media: Media
    other: Media
    client: httpx.AsyncClient
    versioned: bool
    freezes: bool
    checks_signatures: bool

    def key(self) -> str:
        return f"2026/11/21/{uuid.uuid4()}/{uuid.uuid4().hex}"

    async def put(self, key: str, content: bytes, content_type: str = TYPE) -> httpx.Response:
        put = self.media.put_url(key, content_type=content_type, presigned=True, now_s=int(time.time()))
        return await self.client.put(put.url, content=content, headers={"content-type": put.content_type})

    async def pin(self, key: str) -> Stat | None:
        return (await self.media.pin([key])).get(key)

    async def get(self, key: str, version: str | None = None, **headers: str) -> httpx.Response:
        url = self.media.get_url(key, version=version, now_s=int(time.time()), content_type=TYPE)
        return await self.client.get(url, headers=headers)


@pytest.fixture(
    scope="module",
    params=[
        "files",
        "memory",
        "moto",
        pytest.param("rclone", marks=pytest.mark.slow),
        pytest.param("versitygw", marks=pytest.mark.slow),
    ],
)
def server(
    request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[Server | None]:
    if request.param in ("files", "memory"):
        yield None
        return
    with running(request.param, tmp_path_factory.mktemp(request.param)) as found:
        yield found


@pytest.fixture(scope="module")
def buckets(server: Server | None) -> Iterator[list[Media]]:
    """Two backends on the server, made once: boto3's clients take a while."""
    if server is None:
        yield []
        return
    config = S3Config(
        id=str(uuid.uuid4()),
        bucket=BUCKET,
        prefix="one/",
        endpoints=(server.endpoint,),
        credentials=Keys(ACCESS, SECRET),
        part_bytes=5 << 20,
        copy_part_bytes=5 << 20,
    )
    medias = [made(config), made(replace(config, id=str(uuid.uuid4()), prefix="two/"))]
    yield medias
    for media in medias:
        asyncio.run(media.close())


@pytest.fixture
async def subject(
    request: pytest.FixtureRequest, server: Server | None, buckets: list[Media], tmp_path: Path
) -> AsyncIterator[Subject]:
    if server is None:
        in_memory = request.node.callspec.params["server"] == "memory"
        async with local_subject(None if in_memory else tmp_path) as found:
            yield found
        return
    async with httpx.AsyncClient(timeout=30, trust_env=False) as client:
        yield Subject(
            *buckets,
            client=client,
            versioned=server.versioned,
            freezes=False,
            checks_signatures=server.checks_signatures,
        )


@contextlib.asynccontextmanager
async def local_subject(folder: Path | None) -> AsyncIterator[Subject]:
    folders = [None if folder is None else folder / name for name in ("one", "two")]
    medias = [made(FilesConfig(id=str(uuid.uuid4()), folder=place)) for place in folders]
    backends = {media.backend.id: media for media in medias if isinstance(media, Files)}
    transport = httpx.ASGITransport(app=LocalMedia(backends, SIGNER, time.time))  # type: ignore[arg-type]
    async with httpx.AsyncClient(transport=transport) as client:
        yield Subject(*medias, client=client, versioned=False, freezes=True, checks_signatures=True)
    for media in medias:
        await media.close()


def made(config: FilesConfig | S3Config) -> Media:
    return build(config, public_url=PUBLIC_URL, signer=SIGNER, lifetime=Lifetime(), clock=time.time)


async def chunked(content: bytes, size_bytes: int = 300_000) -> AsyncIterator[bytes]:
    for start in range(0, len(content), size_bytes):
        yield content[start : start + size_bytes]


async def whole(media: Media, key: str, **options: object) -> bytes:
    async with contextlib.aclosing(media.read(key, **options)) as chunks:  # type: ignore[arg-type]
        return b"".join([chunk async for chunk in chunks])


def pattern(size_bytes: int) -> bytes:
    return bytes(range(251)) * (size_bytes // 251 + 1)


# What clients do with URLs


async def test_an_upload_by_url_is_read_by_url(subject: Subject) -> None:
    key = subject.key()
    put = await subject.put(key, b"media")
    got = await subject.get(key)
    assert (put.status_code, got.status_code, got.content) == (200, 200, b"media")
    assert got.headers["etag"] == put.headers["etag"]
    assert got.headers["content-type"] == TYPE


async def test_a_url_is_the_same_within_its_interval_and_valid_long_enough(subject: Subject) -> None:
    key, start_s = subject.key(), 1_800_000_000
    urls = {subject.media.get_url(key, version=None, now_s=start_s + s) for s in (0, 1, 299)}
    assert len(urls) == 1
    assert subject.media.get_url(key, version=None, now_s=start_s + 300) not in urls


async def test_urls_of_many_keys_are_those_of_each(subject: Subject) -> None:
    sign = subject.media.sign_at(1_800_000_000)
    for content_type in (TYPE, None, TYPE, "audio/wav", ""):
        for version in (None, "id:1"):
            key = subject.key()
            one = subject.media.get_url(key, version=version, now_s=1_800_000_000, content_type=content_type)
            assert sign(key, version, content_type) == one


async def test_a_plain_url_is_the_signed_one_without_its_query(subject: Subject) -> None:
    key = subject.key()
    plain = subject.media.plain_url(key)
    signed = subject.media.get_url(key, version=None, now_s=0)
    put = subject.media.put_url(key, content_type=TYPE, presigned=True, now_s=0)
    assert signed.partition("?")[0] == put.url.partition("?")[0] == plain
    assert subject.media.put_url(key, content_type=TYPE, presigned=False, now_s=0).url == plain


async def test_only_what_was_signed_is_allowed(subject: Subject) -> None:
    if not subject.checks_signatures:
        pytest.skip("this server checks no signatures")
    key, now_s = subject.key(), int(time.time())
    assert (await subject.put(key, b"media")).status_code == 200
    put = subject.media.put_url(key, content_type=TYPE, presigned=True, now_s=now_s).url
    get = subject.media.get_url(key, version=None, now_s=now_s)
    expired = subject.media.get_url(key, version=None, now_s=now_s - 7200)
    typed = {"content-type": TYPE}
    refused = [
        await subject.client.get(put),
        await subject.client.put(get, content=b"x", headers=typed),
        await subject.client.put(put, content=b"x", headers={"content-type": "text/html"}),
        await subject.client.get(expired),
        await subject.client.get(get[:-1] + ("0" if get[-1] != "0" else "1")),
        await subject.client.get(subject.media.plain_url(key)),
    ]
    # rclone answers some of these with 400.
    assert {response.status_code for response in refused} <= {400, 403}
    assert await whole(subject.media, key) == b"media"


async def test_unicode_and_reserved_characters_in_keys_survive(subject: Subject) -> None:
    for name in ("ü 日本", "a b+c&d=e", "q?x#y%2Fz", "(1)'!*~"):
        key = f"2026/{name}"
        await subject.media.write(key, chunked(name.encode()), content_type=TYPE)
        assert (await subject.get(key)).content == name.encode()


# Registration


async def test_a_replay_after_pinning_changes_nothing_for_readers_or_is_detected(subject: Subject) -> None:
    key = subject.key()
    await subject.put(key, b"registered")
    pinned = await subject.pin(key)
    assert pinned is not None
    replay = await subject.put(key, b"replayed!!")
    if subject.freezes:
        assert replay.status_code == 412
    if subject.freezes or subject.versioned:
        assert (await subject.get(key, pinned.version)).content == b"registered"
        assert await whole(subject.media, key, version=pinned.version) == b"registered"
        assert await subject.media.stat(key, version=pinned.version) == pinned
    else:
        assert await subject.media.stat(key, version=pinned.version) is None
        with pytest.raises(errors.NotFound):
            await whole(subject.media, key, version=pinned.version)


async def test_pinning_is_idempotent_and_unpinning_allows_uploads_again(subject: Subject) -> None:
    key = subject.key()
    await subject.put(key, b"first")
    assert await subject.pin(key) == await subject.pin(key)
    await subject.media.unpin([key])
    assert (await subject.put(key, b"second")).status_code == 200
    assert await whole(subject.media, key) == b"second"


async def test_of_many_keys_those_with_bytes_are_pinned(subject: Subject) -> None:
    keys = [subject.key() for _ in range(20)]
    for key in keys[::2]:
        await subject.put(key, key.encode())
    pinned = await subject.media.pin(keys)
    assert {key: stat.size_bytes for key, stat in pinned.items()} == {key: len(key) for key in keys[::2]}
    assert pinned == {key: await subject.media.stat(key, version=pinned[key].version) for key in keys[::2]}
    await subject.media.unpin(keys)
    assert [(await subject.put(key, b"again")).status_code for key in keys] == [200] * len(keys)
    assert await subject.media.pin([]) == {}


async def test_nothing_is_pinned_where_nothing_is(subject: Subject) -> None:
    key = subject.key()
    assert await subject.pin(key) is None
    await subject.media.unpin([key])
    assert (await subject.put(key, b"late")).status_code == 200


async def test_a_server_side_write_never_changes_pinned_bytes(subject: Subject) -> None:
    if not (subject.freezes or subject.versioned):
        pytest.skip("an unversioned bucket can only detect it")
    key = subject.key()
    await subject.put(key, b"registered")
    pinned = await subject.pin(key)
    assert pinned is not None
    with contextlib.suppress(errors.PreconditionFailed):
        await subject.media.write(key, chunked(b"other"), content_type=TYPE)
    assert await whole(subject.media, key, version=pinned.version) == b"registered"


# Bytes from the server's side


async def test_stat_tells_size_and_version_and_none_when_absent(subject: Subject) -> None:
    key = subject.key()
    assert await subject.media.stat(key) is None
    written = await subject.media.write(key, chunked(b"12345"), content_type=TYPE)
    assert written.size_bytes == 5
    assert await subject.media.stat(key) == written
    assert written.etag.startswith('"')
    assert written.etag.endswith('"')


@pytest.mark.parametrize("size_bytes", [0, 1, CHUNK_BYTES, (11 << 20) + 7])
async def test_what_is_written_is_read_in_chunks(subject: Subject, size_bytes: int) -> None:
    key, content = subject.key(), pattern(size_bytes)[:size_bytes]
    stat = await subject.media.write(key, chunked(content), content_type=TYPE, size_bytes=size_bytes)
    assert stat.size_bytes == size_bytes
    async with contextlib.aclosing(subject.media.read(key)) as chunks:
        read = [chunk async for chunk in chunks]
    assert b"".join(read) == content
    assert all(0 < len(chunk) <= CHUNK_BYTES for chunk in read)


@pytest.mark.parametrize(
    ("start", "end"),
    [(0, 10), (5, None), (5, 6), (5, 5), (0, 0), (90, 1000), (100, None), (500, None), (7, 3)],
)
async def test_a_part_is_read(subject: Subject, start: int, end: int | None) -> None:
    key, content = subject.key(), pattern(100)[:100]
    await subject.media.write(key, chunked(content), content_type=TYPE)
    assert await whole(subject.media, key, start=start, end=end) == content[start:end]


@pytest.mark.parametrize("end", [None, 0, 5])
async def test_absent_bytes_are_not_found(subject: Subject, end: int | None) -> None:
    with pytest.raises(errors.NotFound):
        await whole(subject.media, subject.key(), end=end)


async def test_a_failed_write_leaves_nothing(subject: Subject) -> None:
    key = subject.key()

    async def broken() -> AsyncIterator[bytes]:
        yield pattern(12 << 20)
        raise errors.BadRequest("the client broke off")

    with pytest.raises(errors.BadRequest):
        await subject.media.write(key, broken(), content_type=TYPE)
    assert await subject.media.stat(key) is None


async def test_a_cancelled_write_leaves_nothing(subject: Subject) -> None:
    key = subject.key()
    begun = asyncio.Event()

    async def endless() -> AsyncIterator[bytes]:
        yield pattern(11 << 20)
        begun.set()
        await asyncio.Event().wait()

    writing = asyncio.create_task(subject.media.write(key, endless(), content_type=TYPE))
    await begun.wait()
    writing.cancel()
    with pytest.raises(asyncio.CancelledError):
        await writing
    assert await subject.media.stat(key) is None


@pytest.mark.parametrize("size_bytes", [0, 1000, (12 << 20) + 5])
async def test_a_copy_between_backends_has_the_same_bytes(subject: Subject, size_bytes: int) -> None:
    source, target, content = subject.key(), subject.key(), pattern(size_bytes)[:size_bytes]
    await subject.media.write(source, chunked(content), content_type=TYPE)
    pinned = await subject.pin(source)
    assert pinned is not None
    copied = await subject.other.copy(target, subject.media, source, version=pinned.version)
    assert copied.size_bytes == size_bytes
    assert await whole(subject.other, target) == content


async def test_a_copy_between_kinds_of_backends_is_streamed(subject: Subject, tmp_path: Path) -> None:
    async with local_subject(tmp_path / "elsewhere") as elsewhere:
        key, content = subject.key(), pattern(3 << 20)
        await subject.media.write(key, chunked(content), content_type=TYPE)
        await elsewhere.media.copy(key, subject.media, key, version=None)
        await subject.other.copy(key, elsewhere.media, key, version=None)
    assert await whole(subject.other, key) == content


async def test_a_copy_of_nothing_is_not_found(subject: Subject) -> None:
    key = subject.key()
    with pytest.raises(errors.NotFound):
        await subject.other.copy(key, subject.media, key, version=None)
    assert await subject.other.stat(key) is None


async def test_a_file_is_adopted_under_a_second_name_or_left_alone(subject: Subject, tmp_path: Path) -> None:
    key, content, path = subject.key(), pattern(3 << 20), tmp_path / "file"
    path.write_bytes(content)
    adopted = await subject.media.adopt(key, path)
    if adopted is None:
        assert await subject.media.stat(key) is None
        assert path.read_bytes() == content
        return
    assert adopted.size_bytes == len(content)
    again = await subject.media.adopt(key, path)
    assert again == adopted
    path.unlink()
    assert await whole(subject.media, key) == content
    await subject.media.delete([key])
    assert await subject.media.stat(key) is None


async def test_what_is_pinned_is_not_replaced_by_a_file(subject: Subject, tmp_path: Path) -> None:
    key, path = subject.key(), tmp_path / "file"
    path.write_bytes(b"another")
    await subject.media.write(key, chunked(b"pinned"), content_type=TYPE)
    pinned = await subject.pin(key)
    assert pinned is not None
    with contextlib.suppress(errors.PreconditionFailed):
        assert await subject.media.adopt(key, path) is None
    assert await whole(subject.media, key, version=pinned.version) == b"pinned"


async def test_deleting_removes_pinned_bytes_and_minds_no_absence(subject: Subject) -> None:
    gone, kept, never = subject.key(), subject.key(), subject.key()
    for key in (gone, kept):
        await subject.put(key, b"media")
    pinned = await subject.pin(gone)
    assert pinned is not None
    await subject.put(gone, b"replay")
    await subject.media.delete([gone, never])
    await subject.media.delete([])
    assert await subject.media.stat(gone) is None
    assert await subject.media.stat(gone, version=pinned.version) is None
    assert (await subject.get(gone, pinned.version)).status_code in {400, 404}
    assert await subject.media.stat(kept) is not None


async def test_keys_are_listed_with_their_age(subject: Subject) -> None:
    before_s = int(time.time()) - 2
    day = uuid.uuid4().hex
    keys = {f"{day}/{hour}/f/{n}" for hour in ("01", "02") for n in range(3)}
    for key in keys:
        await subject.media.write(key, chunked(b"x"), content_type=TYPE)
    everything = dict([entry async for entry in subject.media.keys("")])
    assert keys <= set(everything)
    assert all(before_s <= everything[key] <= time.time() + 2 for key in keys)
    for prefix in (f"{day}/", f"{day}/02/", f"{day}/02/f/1", f"{day}/0", f"{day}/03"):
        listed = {key async for key, _ in subject.media.keys(prefix)}
        assert listed == {key for key in keys if key.startswith(prefix)}


async def test_a_backend_that_works_has_no_problems_but_missing_versioning(subject: Subject) -> None:
    before = [key async for key, _ in subject.media.keys("")]
    problems = await subject.media.check()
    expected = 0 if subject.freezes or subject.versioned else 1
    assert len(problems) == expected, problems
    assert all("versioning" in problem for problem in problems)
    assert [key async for key, _ in subject.media.keys("")] == before


@pytest.mark.parametrize("key", ["", "a\0b", "x" * 1100])
async def test_a_key_that_cannot_be_is_refused_before_anything_is_done(subject: Subject, key: str) -> None:
    with pytest.raises(errors.BadRequest):
        await subject.media.write(key, chunked(b"x"), content_type=TYPE)
    with pytest.raises(errors.BadRequest):
        await subject.media.stat(key)
