"""What requests cost, counted: statements of SQL, signatures, copies of bytes, what stays behind."""

from __future__ import annotations

import asyncio
import gc
import sqlite3
import statistics
import uuid
from collections import Counter
from collections.abc import AsyncIterator, Callable, MutableMapping, Sequence
from itertools import pairwise
from pathlib import Path
from typing import Any

import cachetools
import httpx
import pytest

from proxy import audit
from proxy.recent import Recent
from store.media.disk import Opened
from store.media.files import Files
from store.media.protocol import Stat
from store.media.signing import Signer
from store.metadata import sqlite_insert, sqlite_page, sqlite_reader, sqlite_rows, sqlite_writer
from store.metadata.rows import Row
from store.metadata.sqlite_schema import connect
from store.routes import segments
from tests.proxy.support import Proxy, running

SEGMENTS = 30


@pytest.fixture
def statements(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """All statements of SQL from now on, but for those that begin and end transactions."""
    found: list[str] = []

    def note(sql: str) -> None:
        if sql.split(None, 1)[0] not in ("BEGIN", "COMMIT", "ROLLBACK", "PRAGMA", "--"):
            found.append(sql)

    def traced(path: Path, *, busy_s: float) -> sqlite3.Connection:
        connection = connect(path, busy_s=busy_s)
        connection.set_trace_callback(note)
        return connection

    for module in (sqlite_reader, sqlite_writer):
        monkeypatch.setattr(module, "connect", traced)
    return found


@pytest.fixture
def signed(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """The keys of all that is signed from now on."""
    found: list[str] = []
    watch(monkeypatch, found.append)
    return found


def watch(monkeypatch: pytest.MonkeyPatch, told: Callable[[str], None]) -> None:
    """Have each key told that is signed from now on."""
    plain = Signer.signing

    def signing(self: Signer, *given: Any, **said: Any) -> Callable[[str, str | None], str]:
        query = plain(self, *given, **said)

        def watched(key: str, content_type: str | None) -> str:
            told(key)
            return query(key, content_type)

        return watched

    monkeypatch.setattr(Signer, "signing", signing)


@pytest.fixture
async def proxy(tmp_path: Path, statements: list[str], signed: list[str]) -> AsyncIterator[Proxy]:
    async with running(tmp_path) as found:
        yield found


async def with_segments(proxy: Proxy) -> str:
    """A flow with segments; its id."""
    flow = await proxy.flow(["a"], container="video/mp2t")
    path = f"/flows/{flow['id']}"
    answer = await proxy.made("admin", "POST", f"{path}/storage", {"limit": SEGMENTS})
    posts = [
        {"object_id": each["object_id"], "timerange": f"[{n}:0_{n + 1}:0)"}
        for n, each in enumerate(answer.json()["media_objects"])
    ]
    for each in answer.json()["media_objects"]:
        await proxy.http.put(each["put_url"]["url"], content=b"x", headers={"content-type": "video/mp2t"})
    await proxy.made("admin", "POST", f"{path}/segments", posts)
    return path


@pytest.mark.parametrize(
    ("path", "most"),
    [
        ("", 0),
        ("/tags", 0),
        ("?include_timerange=true", 4),
        # The flow, the page, objects that were not read before.
        ("/segments?limit=30", 3),
        # And where the page begins.
        ("/segments?limit=30&timerange=[3:0_9:0)", 4),
    ],
)
async def test_a_read_takes_few_statements(proxy: Proxy, statements: list[str], path: str, most: int) -> None:
    flow = await with_segments(proxy)
    await proxy.made("attacker", "GET", flow)
    statements.clear()
    await proxy.made("attacker", "GET", flow + path)
    assert len(statements) <= most, statements
    # Of the flow itself nothing is read again.
    assert bool(statements) is (path not in ("", "/tags"))


async def test_a_bulk_of_segments_takes_the_statements_of_one_and_freezes_all_bytes_at_once(
    proxy: Proxy, statements: list[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    frozen: list[int] = []
    plain = Files.pin

    async def pin(self: Files, keys: Sequence[str]) -> dict[str, Stat]:
        frozen.append(len(keys))
        return await plain(self, keys)

    monkeypatch.setattr(Files, "pin", pin)
    monkeypatch.setattr(sqlite_insert, "SIZES", (SEGMENTS, 1))
    flow = await proxy.flow(["a"], container="video/mp2t")
    path, counts, first = f"/flows/{flow['id']}", [], 0
    for count in (1, 1, SEGMENTS):
        answer = await proxy.made("attacker", "POST", f"{path}/storage", {"limit": count})
        uploads = answer.json()["media_objects"]
        for each in uploads:
            headers = {"content-type": "video/mp2t"}
            await proxy.http.put(each["put_url"]["url"], content=b"x", headers=headers)
        posts = [
            {"object_id": each["object_id"], "timerange": f"[{n}:0_{n + 1}:0)"}
            for n, each in enumerate(uploads, first)
        ]
        first += count
        statements.clear()
        await proxy.made("attacker", "POST", f"{path}/segments", posts)
        counts.append(len(statements))
    assert frozen == [1, 1, SEGMENTS]
    assert counts[2] == counts[1] <= 16, statements


@pytest.mark.parametrize("method", ["GET", "HEAD"])
@pytest.mark.parametrize(
    "path",
    [
        "",
        "?include_timerange=true",
        "/tags",
        "/segments",
        "/segments?limit=5&timerange=[1:0_9:0)",
        "/segments?object_id=o",
    ],
)
async def test_a_hidden_flow_takes_the_statements_of_an_absent_one(
    proxy: Proxy, statements: list[str], signed: list[str], method: str, path: str
) -> None:
    hidden, absent = (await with_segments(proxy)).rpartition("/")[2], str(uuid.uuid4())
    signed.clear()
    asked = []
    for flow_id in (hidden, absent):
        await proxy.call("victim", method, f"/flows/{uuid.uuid4()}")
        statements.clear()
        answer = await proxy.call("victim", method, f"/flows/{flow_id}{path}")
        assert answer.status_code == 404
        asked.append([sql.replace(flow_id, "it") for sql in statements])
    assert asked[0] == asked[1]
    assert len(asked[0]) == 1
    assert signed == []


async def test_a_listing_takes_as_many_statements_for_many_as_for_few(
    proxy: Proxy, statements: list[str]
) -> None:
    counts = []
    for _ in range(2):
        for _ in range(20):
            await proxy.flow(["a"])
        await proxy.made("attacker", "GET", "/flows?limit=1")
        statements.clear()
        await proxy.made("attacker", "GET", "/flows?limit=100")
        counts.append(len(statements))
    assert counts[1] <= counts[0] <= 8, statements


async def test_a_sparse_listing_takes_the_statements_of_a_dense_one_and_reads_what_it_shows(
    proxy: Proxy, statements: list[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    read: list[int] = []
    plain = sqlite_page.row_of

    def row_of(record: sqlite_rows.Record) -> Row:
        read.append(record[2])
        return plain(record)

    monkeypatch.setattr(sqlite_page, "row_of", row_of)
    for number in range(40):
        await proxy.flow(["v"] if number % 10 else ["a"])
    counts = []
    # 4 of 40 are seen, and 36.
    for who, shown in (("colleague", 4), ("victim", 36)):
        await proxy.call(who, "GET", "/flows?limit=1")
        statements.clear()
        read.clear()
        answer = await proxy.call(who, "GET", "/flows?limit=100")
        assert len(answer.json()) == shown
        assert len(read) <= shown
        counts.append(len(statements))
    assert counts[0] == counts[1] <= 8


async def test_a_page_signs_each_object_once_and_the_next_reader_none(
    proxy: Proxy, signed: list[str]
) -> None:
    path = f"{await with_segments(proxy)}/segments?limit={SEGMENTS}&presigned=true"
    signed.clear()
    await proxy.made("attacker", "GET", path)
    assert len(signed) == len(set(signed)) == SEGMENTS
    signed.clear()
    await proxy.made("colleague", "GET", path)
    assert signed == []


async def test_others_have_their_turn_while_a_page_is_signed(
    proxy: Proxy, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = f"{await with_segments(proxy)}/segments?limit={SEGMENTS}&presigned=true"
    turn, turns = 0, list[int]()

    async def others() -> None:
        nonlocal turn
        while True:
            turn += 1
            await asyncio.sleep(0)

    watch(monkeypatch, lambda _: turns.append(turn))
    monkeypatch.setattr(segments, "AT_ONCE", SEGMENTS // 3)
    beside = asyncio.create_task(others())
    await proxy.made("attacker", "GET", path)
    beside.cancel()
    assert sorted(Counter(turns).values()) == [SEGMENTS // 3] * 3


async def test_a_page_without_urls_signs_nothing(proxy: Proxy, signed: list[str]) -> None:
    path = await with_segments(proxy)
    signed.clear()
    await proxy.made("attacker", "GET", f"{path}/segments?limit={SEGMENTS}&accept_get_urls=")
    assert signed == []


async def sent(proxy: Proxy, who: str | None, path: str) -> list[bytes]:
    """The pieces of a body as they are given to the server."""
    plain, _, query = path.partition("?")
    token = [] if who is None else [(b"authorization", f"Bearer {await proxy.token(who)}".encode())]
    scope = {
        "type": "http",
        "method": "GET",
        "path": plain,
        "raw_path": plain.encode(),
        "query_string": query.encode(),
        "headers": [(b"host", b"testserver"), *token],
        "client": ("192.0.2.7", 4711),
    }
    pieces: list[bytes] = []

    async def receive() -> dict[str, Any]:
        return {"type": "http.request", "body": b"", "more_body": False}

    async def send(message: MutableMapping[str, Any]) -> None:
        if message["type"] == "http.response.body" and message.get("body"):
            pieces.append(message["body"])

    await proxy.app(scope, receive, send)
    return pieces


async def test_what_the_database_gave_is_sent_without_a_copy(
    proxy: Proxy, monkeypatch: pytest.MonkeyPatch
) -> None:
    flow = await proxy.flow(["a"])
    given: list[bytes] = []
    plain = sqlite_rows.row_of

    def noted(record: Any) -> Row:
        given.append(plain(record).document)
        return plain(record)

    monkeypatch.setattr(sqlite_rows, "row_of", noted)
    (body,) = await sent(proxy, "attacker", f"/flows/{flow['id']}")
    assert [body is each for each in given] == [True]


async def test_what_the_disk_gave_is_sent_without_a_copy(
    proxy: Proxy, monkeypatch: pytest.MonkeyPatch
) -> None:
    page = await proxy.made("attacker", "GET", f"{await with_segments(proxy)}/segments?presigned=true")
    url = httpx.URL(page.json()[0]["get_urls"][0]["url"])
    given: list[bytes] = []
    plain = Opened.read

    def noted(self: Opened, start: int, size_bytes: int) -> bytes:
        given.append(plain(self, start, size_bytes))
        return given[-1]

    monkeypatch.setattr(Opened, "read", noted)
    pieces = await sent(proxy, None, url.raw_path.decode())
    assert pieces and list(map(id, pieces)) == list(map(id, given))


async def test_what_is_kept_of_tokens_and_callers_is_bounded(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    for kind in (cachetools.Cache, Recent):
        plain = kind.__init__

        def small(self: Any, most: float, *rest: Any, plain: Any = plain) -> None:
            plain(self, min(most, 4), *rest)

        monkeypatch.setattr(kind, "__init__", small)
    # What is written down is not kept.
    monkeypatch.setattr(audit, "FLUSH_S", 0)
    async with running(tmp_path) as proxy:
        flow = await proxy.flow(["public"])
        sizes = []
        for _ in range(7):
            for _ in range(12):
                for who in ("attacker", "colleague", "nobody", "reader", "grouped", "victims"):
                    proxy.tokens.pop(who, None)
                    await proxy.made(who, "GET", f"/flows/{flow['id']}")
            proxy.tokens.clear()
            # The loop gets to writing down what was decided.
            for _ in range(3):
                await asyncio.sleep(0)
            gc.collect()
            sizes.append(len(gc.get_objects()))
        # Each round has 72 tokens more: were one thing kept of each, it would show in every one. In some,
        # something else of this process comes or goes.
        assert statistics.median(after - before for before, after in pairwise(sizes)) < 72, sizes
