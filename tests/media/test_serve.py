"""Security attack 19 on local media, and HTTP as players speak it."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from typing import Any
from urllib.parse import urlsplit

import httpx
import pytest

from store.media.serve import LocalMedia
from store.media.signing import Signer, token_of
from tests.media.conftest import BACKEND_ID, NOW_S, PUBLIC_URL, Place

KEY = "2026/11/21/4d5c2f5e-0f0a-4a6e-8f43-0c1b2f0f7a11/8f2c"
TYPE = "video/mp2t"
BYTES = bytes(range(256)) * 40


async def uploaded(place: Place, content: bytes = BYTES, content_type: str = TYPE) -> httpx.Response:
    put = place.files.put_url(KEY, content_type=content_type, presigned=True, now_s=NOW_S)
    response = await place.client.put(put.url, content=content, headers={"content-type": put.content_type})
    assert response.status_code == 200, response.text
    return response


async def stored_keys(place: Place) -> list[str]:
    return [key async for key, _ in place.files.keys("")]


def reading_url(place: Place, content_type: str | None = TYPE) -> str:
    return place.files.get_url(KEY, version=None, now_s=NOW_S, content_type=content_type)


async def test_what_is_put_is_what_is_got(place: Place) -> None:
    put = await uploaded(place)
    got = await place.client.get(reading_url(place))
    assert (got.status_code, got.content) == (200, BYTES)
    assert got.headers["content-type"] == TYPE
    assert got.headers["etag"] == put.headers["etag"]
    assert got.headers["content-length"] == str(len(BYTES))


async def test_head_has_the_headers_of_get_and_no_body(place: Place) -> None:
    await uploaded(place)
    got = await place.client.get(reading_url(place))
    head = await place.client.head(reading_url(place))
    assert head.status_code == 200
    assert head.headers == got.headers
    assert head.content == b""


async def test_a_credential_in_the_request_is_ignored(place: Place) -> None:
    await uploaded(place)
    got = await place.client.get(reading_url(place), headers={"authorization": "Bearer nonsense"})
    assert got.status_code == 200


async def test_a_second_upload_before_registration_replaces_the_first(place: Place) -> None:
    await uploaded(place, b"first")
    await uploaded(place, b"second")
    assert (await place.client.get(reading_url(place))).content == b"second"


async def test_a_replayed_upload_after_registration_is_412_and_changes_nothing(place: Place) -> None:
    await uploaded(place)
    await place.files.pin([KEY])
    put = place.files.put_url(KEY, content_type=TYPE, presigned=True, now_s=NOW_S)
    replay = await place.client.put(put.url, content=b"other", headers={"content-type": TYPE})
    assert replay.status_code == 412
    assert (await place.client.get(reading_url(place))).content == BYTES


def other_key(url: str) -> str:
    return url.replace(token_of(KEY), token_of(KEY[:-1] + "d"))


def longer(url: str) -> str:
    return url.replace(f"expires={NOW_S + 900}", f"expires={NOW_S + 90_000}")


def other_type(url: str) -> str:
    return url.replace("type=video%2Fmp2t", "type=text%2Fhtml")


def untyped(url: str) -> str:
    return url.replace("&type=video%2Fmp2t", "")


def extra(url: str) -> str:
    return url + "&x=1"


def doubled(url: str) -> str:
    return url + f"&expires={NOW_S + 900}"


def unsigned(url: str) -> str:
    return url.split("?", 1)[0]


def flipped(url: str) -> str:
    return url[:-2] + ("AA" if url[-2:] != "AA" else "BB")


def not_ascii(url: str) -> str:
    return url[:-2] + "%C3%A9"


def arabic_digits(url: str) -> str:
    return url.replace("expires=1", "expires=%D9%A1")


TAMPERINGS = [
    other_key,
    longer,
    other_type,
    untyped,
    extra,
    doubled,
    unsigned,
    flipped,
    not_ascii,
    arabic_digits,
]


@pytest.mark.parametrize("tamper", TAMPERINGS)
async def test_a_tampered_reading_url_is_403(place: Place, tamper: Any) -> None:
    await uploaded(place)
    url = reading_url(place)
    assert tamper(url) != url
    response = await place.client.get(tamper(url))
    assert response.status_code == 403
    assert set(response.json()) == {"type", "summary", "message", "time"}


@pytest.mark.parametrize("tamper", TAMPERINGS)
async def test_a_tampered_upload_url_is_403_and_stores_nothing(place: Place, tamper: Any) -> None:
    put = place.files.put_url(KEY, content_type=TYPE, presigned=True, now_s=NOW_S)
    response = await place.client.put(tamper(put.url), content=b"x", headers={"content-type": TYPE})
    assert response.status_code == 403
    assert await stored_keys(place) == []


@pytest.mark.parametrize("method", ["GET", "HEAD"])
async def test_an_upload_url_does_not_read(place: Place, method: str) -> None:
    await uploaded(place)
    put = place.files.put_url(KEY, content_type=TYPE, presigned=True, now_s=NOW_S)
    assert (await place.client.request(method, put.url)).status_code == 403


async def test_a_reading_url_does_not_upload(place: Place) -> None:
    response = await place.client.put(reading_url(place), content=b"x", headers={"content-type": TYPE})
    assert response.status_code == 403


@pytest.mark.parametrize("method", ["POST", "DELETE", "PATCH", "OPTIONS", "get"])
async def test_other_methods_are_405(place: Place, method: str) -> None:
    scope = {"method": method, "path": urlsplit(reading_url(place)).path, "query_string": b"", "headers": []}
    statuses: list[int] = []

    async def send(message: Any) -> None:
        statuses.append(message.get("status", 0))

    await place.app(scope, asyncio.Queue().get, send)
    assert statuses[0] == 405


async def test_an_expired_url_is_403(place: Place) -> None:
    await uploaded(place)
    url = reading_url(place)
    place.clock.now_s = NOW_S + 899
    assert (await place.client.get(url)).status_code == 200
    place.clock.now_s = NOW_S + 900
    assert (await place.client.get(url)).status_code == 403


async def test_a_url_of_another_backend_is_refused(place: Place) -> None:
    url = reading_url(place).replace(BACKEND_ID, "ffffffff-0bd3-4a8f-8f3e-8e4f6a9d7c11")
    assert (await place.client.get(url)).status_code == 404


@pytest.mark.parametrize(
    "path", ["/media", "/media/", f"/media/{BACKEND_ID}", f"/media/{BACKEND_ID}/", f"/x/{BACKEND_ID}/YQ", "/"]
)
async def test_a_path_that_is_no_media_is_404(place: Place, path: str) -> None:
    assert (await place.client.get(PUBLIC_URL + path)).status_code == 404


@pytest.mark.parametrize("token", ["YQ==", "Y", "%2E%2E", "YR", "_w", "..", "é"])
async def test_a_token_that_is_no_key_is_404(place: Place, token: str) -> None:
    assert (await place.client.get(f"{PUBLIC_URL}/media/{BACKEND_ID}/{token}?expires=1")).status_code == 404


@pytest.mark.parametrize(
    "key", ["../../etc/passwd", "/etc/passwd", "a/../b", "a//b", "a\0b", ".hidden", "a/", ""]
)
async def test_a_key_that_is_no_file_name_is_400_even_when_signed(place: Place, key: str) -> None:
    url = place.files.put_url(key, content_type=TYPE, presigned=True, now_s=NOW_S).url
    response = await place.client.put(url, content=b"x", headers={"content-type": TYPE})
    assert response.status_code in {400, 404}
    assert list(place.folder.rglob("passwd")) == []


@pytest.mark.parametrize("said", ["text/html", "", "video/mp2t; charset=x"])
async def test_another_type_than_the_signed_one_is_403(place: Place, said: str) -> None:
    put = place.files.put_url(KEY, content_type=TYPE, presigned=True, now_s=NOW_S)
    response = await place.client.put(put.url, content=b"x", headers={"content-type": said})
    assert response.status_code == 403


async def test_both_active_keys_verify_and_a_retired_one_does_not(place: Place) -> None:
    await uploaded(place)
    path = place.files.plain_url(KEY)
    for secret, status in ((b"n", 200), (b"o", 200), (b"r", 403)):
        query = Signer((secret * 32,)).signing("GET", BACKEND_ID, expires_s=NOW_S + 9)(KEY, None)
        assert (await place.client.get(f"{path}?{query}")).status_code == status


@pytest.mark.parametrize(
    ("content_type", "disposition"),
    [
        ("video/mp2t", "inline"),
        ("audio/wav", "inline"),
        ("image/jpeg", "inline"),
        ("application/mp4", "inline"),
        ("text/html", "attachment"),
        ("image/svg+xml", "attachment"),
        ("application/xhtml+xml", "attachment"),
        ("application/pdf", "attachment"),
    ],
)
async def test_what_a_browser_could_run_is_an_attachment(
    place: Place, content_type: str, disposition: str
) -> None:
    await uploaded(place, content_type=content_type)
    headers = (await place.client.get(reading_url(place, content_type))).headers
    assert headers["content-disposition"] == disposition
    assert headers["content-type"] == content_type
    assert headers["x-content-type-options"] == "nosniff"
    assert "sandbox" in headers["content-security-policy"]
    assert headers["cache-control"] == "no-store"


async def test_an_object_without_a_known_type_is_an_attachment(place: Place) -> None:
    await uploaded(place)
    headers = (await place.client.get(reading_url(place, None))).headers
    assert headers["content-type"] == "application/octet-stream"
    assert headers["content-disposition"] == "attachment"


async def test_absent_bytes_are_404(place: Place) -> None:
    assert (await place.client.get(reading_url(place))).status_code == 404


async def test_a_range_is_206(place: Place) -> None:
    await uploaded(place)
    got = await place.client.get(reading_url(place), headers={"range": "bytes=5-9"})
    assert (got.status_code, got.content) == (206, BYTES[5:10])
    assert got.headers["content-range"] == f"bytes 5-9/{len(BYTES)}"


async def test_a_range_past_the_end_is_416_and_says_the_size(place: Place) -> None:
    await uploaded(place)
    got = await place.client.get(reading_url(place), headers={"range": f"bytes={len(BYTES)}-"})
    assert got.status_code == 416
    assert got.headers["content-range"] == f"bytes */{len(BYTES)}"


async def test_an_unchanged_object_is_304_without_a_body(place: Place) -> None:
    etag = (await uploaded(place)).headers["etag"]
    got = await place.client.get(reading_url(place), headers={"if-none-match": etag})
    assert (got.status_code, got.content) == (304, b"")


def upload_scope(place: Place, headers: list[tuple[bytes, bytes]]) -> dict[str, Any]:
    put = urlsplit(place.files.put_url(KEY, content_type=TYPE, presigned=True, now_s=NOW_S).url)
    typed = [(b"content-type", TYPE.encode()), *headers]
    return {"method": "PUT", "path": put.path, "query_string": put.query.encode(), "headers": typed}


async def asked(place: Place, scope: dict[str, Any], messages: list[dict[str, Any]]) -> list[Any]:
    answers: list[Any] = []
    arriving = iter(messages)

    async def receive() -> dict[str, Any]:
        return next(arriving)

    async def send(message: Any) -> None:
        answers.append(message)

    await place.app(scope, receive, send)
    return answers


def body(content: bytes, *, more: bool = False) -> dict[str, Any]:
    return {"type": "http.request", "body": content, "more_body": more}


@pytest.mark.parametrize(
    ("headers", "messages", "status"),
    [
        ([], [body(b"x")], 411),
        ([(b"content-length", b"-1")], [body(b"x")], 400),
        ([(b"content-length", b"1, 1")], [body(b"x")], 400),
        ([(b"content-length", b"9" * 30)], [body(b"x")], 400),
        ([(b"content-length", b"2")], [body(b"x")], 400),
        ([(b"content-length", b"1")], [body(b"x", more=True), body(b"y")], 400),
        ([(b"content-length", b"1"), (b"content-range", b"bytes 0-0/2")], [body(b"x")], 400),
        ([(b"content-length", b"99999999999")], [body(b"x")], 413),
        ([(b"transfer-encoding", b"chunked")], [body(b"x" * (33 << 20))], 413),
    ],
)
async def test_an_upload_whose_length_is_nonsense_is_refused_and_leaves_nothing(
    place: Place, headers: list[tuple[bytes, bytes]], messages: list[dict[str, Any]], status: int
) -> None:
    answers = await asked(place, upload_scope(place, headers), messages)
    assert answers[0]["status"] == status
    assert await stored_keys(place) == []


async def test_a_chunked_upload_is_taken(place: Place) -> None:
    scope = upload_scope(place, [(b"transfer-encoding", b"chunked")])
    answers = await asked(place, scope, [body(b"x", more=True), body(b"y")])
    assert answers[0]["status"] == 200
    assert (await place.client.get(reading_url(place))).content == b"xy"


async def test_an_upload_that_stalls_is_given_up_and_leaves_nothing(place: Place) -> None:
    impatient = LocalMedia({BACKEND_ID: place.files}, place.signer, place.clock, idle_s=0.01)
    arriving = asyncio.Queue[Any]()
    arriving.put_nowait(body(b"x", more=True))
    answers: list[Any] = []

    async def send(message: Any) -> None:
        answers.append(message)

    await impatient(upload_scope(place, [(b"content-length", b"2")]), arriving.get, send)
    assert answers[0]["status"] == 400
    assert await stored_keys(place) == []


async def test_a_reader_that_takes_nothing_is_given_up(place: Place) -> None:
    await uploaded(place)
    impatient = LocalMedia({BACKEND_ID: place.files}, place.signer, place.clock, idle_s=0.01)
    sent: list[Any] = []

    async def send(message: Any) -> None:
        if sent:
            await asyncio.Event().wait()
        sent.append(message)

    await impatient.respond("GET", BACKEND_ID, KEY, [], asyncio.Queue[Any]().get, send)
    assert [message["type"] for message in sent] == ["http.response.start"]


async def test_a_client_that_goes_away_leaves_nothing(place: Place) -> None:
    scope = upload_scope(place, [(b"content-length", b"4000000")])
    messages = [body(b"x" * 2_000_000, more=True), {"type": "http.disconnect"}]
    assert await asked(place, scope, messages) == []
    await place.files.close()
    assert [path for path in place.folder.rglob("*") if path.is_file() and path.parent.name != "locks"] == []


async def test_an_upload_is_unseen_until_it_is_whole(place: Place) -> None:
    half_way, go_on = asyncio.Event(), asyncio.Event()

    async def content() -> AsyncIterator[bytes]:
        yield BYTES
        half_way.set()
        await go_on.wait()
        yield BYTES

    chunks = content()

    async def receive() -> dict[str, Any]:
        chunk = await anext(chunks, None)
        return body(chunk or b"", more=chunk is not None)

    async def send(_: Any) -> None:
        return None

    scope = upload_scope(place, [(b"content-length", str(2 * len(BYTES)).encode())])
    uploading = asyncio.create_task(place.app(scope, receive, send))
    await half_way.wait()
    assert (await place.client.get(reading_url(place))).status_code == 404
    go_on.set()
    await uploading
    assert (await place.client.get(reading_url(place))).content == BYTES * 2


async def test_an_authorised_caller_needs_no_signature(place: Place) -> None:
    await uploaded(place)
    backend_id, key = place.app.place(urlsplit(place.files.plain_url(KEY)).path)
    sent: list[Any] = []

    async def send(message: Any) -> None:
        sent.append(message)

    await place.app.respond("GET", backend_id, key, [], asyncio.Queue().get, send, content_type=TYPE)
    assert sent[0]["status"] == 200
    assert b"".join(message["body"] for message in sent[1:]) == BYTES


async def test_a_read_that_fails_half_way_never_looks_complete(place: Place) -> None:
    await uploaded(place)
    path = next(path for path in place.folder.rglob("8f2c"))
    sent: list[Any] = []

    async def send(message: Any) -> None:
        sent.append(message)
        with path.open("r+b") as file:
            file.truncate(10)

    await place.app.respond("GET", BACKEND_ID, KEY, [], asyncio.Queue().get, send)
    assert sent[-1].get("more_body", True)
