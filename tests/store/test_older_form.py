"""Segments that come with their media as a form, also with media that are longer than what is held."""

from __future__ import annotations

import json
from collections.abc import AsyncGenerator, AsyncIterator, Callable, Iterator
from pathlib import Path
from typing import Any

import httpx
import pytest

from store.errors import BadRequest, Error, TooLarge
from store.older_form import Form, content_of, sized
from tests.contract.media_servers import ACCESS, BUCKET, SECRET, Server, running
from tests.store.harness import LOCAL, Tams, running_tams

LIMIT = 1024
KIND = b"multipart/form-data; boundary=b"
HEADERS = {"content-type": KIND.decode()}
SEGMENT = json.dumps({"object_id": "a", "timerange": "[0:0_1:0)"}).encode()
MEDIA = b"\r\n--c" * 20_000
END = b"--b--\r\n"


def field(name: str, content: bytes) -> bytes:
    return b'--b\r\nContent-Disposition: form-data; name="%s"\r\n\r\n%s\r\n' % (name.encode(), content)


BOTH = field("segment", SEGMENT) + field("file", MEDIA)


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    with running("moto", tmp_path_factory.mktemp("s3")) as found:
        yield found


@pytest.fixture(params=["files", "s3"])
async def short(request: pytest.FixtureRequest, tmp_path: Path) -> AsyncIterator[Tams]:
    """A store that holds little of a request, its media on files or on S3."""
    backend: dict[str, Any] = {"id": LOCAL, "default": True}
    if request.param == "s3":
        endpoints = (request.getfixturevalue("server").endpoint,)
        backend |= {"type": "s3", "bucket": BUCKET, "endpoints": endpoints, "prefix": f"{tmp_path.name}/"}
        backend |= {"access_key": ACCESS, "secret_key": SECRET, "region": "us-east-1"}
    async with running_tams(tmp_path, backends=[backend], max_body_bytes=LIMIT) as tams:
        yield tams


async def posted(tams: Tams, flow_id: str, form: bytes) -> httpx.Response:
    """What a form is answered with that comes in pieces."""

    async def pieces() -> AsyncGenerator[bytes, None]:
        for start in range(0, len(form), 700):
            yield form[start : start + 700]

    return await tams.request("POST", f"/flows/{flow_id}/segments", content=pieces(), headers=HEADERS)


async def fetched(tams: Tams, flow_id: str) -> list[bytes]:
    """The media of a flow's segments."""
    found = []
    for segment in await tams.segments(flow_id, presigned="true"):
        url = segment["get_urls"][0]["url"]
        if url.startswith("http://tams.test"):
            answer = await tams.request("GET", url)
        else:
            async with httpx.AsyncClient(timeout=30) as web:
                answer = await web.get(url)
        assert answer.status_code == 200, answer.text
        found.append(answer.content)
    return found


@pytest.mark.parametrize("media", [b"", b"media", MEDIA], ids=["empty", "short", "long"])
async def test_media_of_any_length_come_with_their_segment(short: Tams, media: bytes) -> None:
    flow = await short.flow()
    form = field("segment", SEGMENT) + field("file", media) + field("more", b"x") + END
    answer = await posted(short, flow["id"], form)
    assert answer.status_code == 201, answer.text
    assert await fetched(short, flow["id"]) == [media]


async def test_in_short_forms_fields_come_in_any_order(tams: Tams) -> None:
    flow = await tams.flow()
    form = field("file", MEDIA) + field("segment", SEGMENT) + END
    assert (await posted(tams, flow["id"], form)).status_code == 201
    assert await fetched(tams, flow["id"]) == [MEDIA]


async def test_long_forms_in_another_order_are_refused_by_a_limit_that_is_named(short: Tams) -> None:
    flow = await short.flow()
    refused = await posted(short, flow["id"], field("file", MEDIA) + field("segment", SEGMENT) + END)
    assert refused.status_code == 413
    assert "TAMS_MAX_BODY_BYTES" in refused.json()["summary"] and "`segment`" in refused.json()["summary"]
    assert (await posted(short, flow["id"], BOTH + END)).status_code == 201, "nothing was made of the first"


@pytest.mark.parametrize(
    ("form", "status"),
    [
        (BOTH, 400),
        (BOTH[:-9000], 400),
        (BOTH + field("file", b"x") + END, 400),
        (BOTH + field("more", b"x" * LIMIT) + END, 413),
        (field("segment", SEGMENT) + field("more", MEDIA) + END, 413),
        (field("segment", b"x" * 2 * LIMIT) + field("file", b"x") + END, 413),
    ],
)
async def test_of_long_forms_that_are_none_nothing_is_kept(short: Tams, form: bytes, status: int) -> None:
    flow = await short.flow()
    answer = await posted(short, flow["id"], form)
    assert answer.status_code == status, answer.text
    assert await short.segments(flow["id"]) == []
    (backend,) = short.store.backends.values()
    left = backend.keys()
    assert [key async for key, _ in left] == []


async def test_why_media_are_refused_is_passed_on(tmp_path: Path) -> None:
    backend = {"id": LOCAL, "default": True, "quota_bytes": 100}
    async with running_tams(tmp_path, backends=[backend]) as tams:
        flow = await tams.flow()
        answer = await posted(tams, flow["id"], BOTH + END)
    assert answer.status_code == 507, answer.text


def form_of(pieces: list[bytes], taken: list[int]) -> Form:
    """A form that says how many pieces of it were taken."""

    async def incoming() -> AsyncGenerator[bytes, None]:
        for number, piece in enumerate(pieces):
            taken.append(number)
            yield piece

    return Form(incoming(), KIND, LIMIT)


async def test_no_more_is_taken_than_is_passed_on() -> None:
    head = field("segment", SEGMENT) + field("file", b"")[:-2]
    taken: list[int] = []
    form = form_of([head, *[b"x" * 100] * 500, b"\r\n" + END], taken)
    assert await form.segment() == SEGMENT
    assert len(taken) < 20
    content, size_bytes = form.content(), 0
    assert content.size_bytes is None
    async for piece in content.pieces:
        size_bytes += len(piece)
        assert len(taken) <= max(20, size_bytes // 100 + 2)
    assert size_bytes == 50_000


async def test_a_form_may_break_anywhere() -> None:
    whole = field("segment", SEGMENT) + field("file", MEDIA[:50]) + END
    for cut in range(len(whole)):
        form = form_of([whole[:cut], whole[cut:]], [])
        assert await form.segment() == SEGMENT
        assert [piece async for piece in form.content().pieces] == [MEDIA[:50]]


@pytest.mark.parametrize(
    ("made", "error"),
    [
        (lambda: form_of([field("file", MEDIA)], []), TooLarge),
        (lambda: form_of([field("segment", SEGMENT) + END], []), BadRequest),
        (lambda: form_of([b"nothing"], []), BadRequest),
        (lambda: form_of([], []), BadRequest),
    ],
)
async def test_what_is_missing_is_said_first(made: Callable[[], Form], error: type[Error]) -> None:
    with pytest.raises(error):
        await made().segment()


async def test_a_body_gets_its_length() -> None:
    form = form_of([BOTH[:2000], BOTH[2000:], END], [])
    await form.segment()
    async with sized(form.content()) as content:
        assert content.size_bytes == len(MEDIA)
        assert b"".join([piece async for piece in content.pieces]) == MEDIA
    known = content_of(b"x")
    async with sized(known) as content:
        assert content is known
