"""The server refuses what RFC 9112 does, before any of our code sees it (attack 13 of the security list)."""

from __future__ import annotations

import asyncio
import hashlib
import json
import socket
import threading
from collections.abc import Iterator

import pytest

from store import lingering
from store.asgi import Receive, Scope, Send, read_body, send_response
from store.server import server


async def echo(scope: Scope, receive: Receive, send: Send) -> None:
    if scope["type"] == "lifespan":
        await receive()
        await send({"type": "lifespan.startup.complete"})
        await receive()
        await send({"type": "lifespan.shutdown.complete"})
        return
    if scope["path"] == "/body":
        body = await read_body(scope, receive, 1 << 20)
        BODIES.append(body)
        await send_response(send, 200, [], hashlib.sha256(body).hexdigest().encode(), head=False)
        return
    body = json.dumps({"path": scope["raw_path"].decode()}).encode()
    await send_response(send, 200, [("content-type", "application/json")], body, head=False)


BODIES: list[bytes] = []


@pytest.fixture(scope="module")
def port() -> Iterator[int]:
    listener = socket.socket()
    listener.bind(("127.0.0.1", 0))
    running = server(echo, "127.0.0.1", 0)
    started = threading.Event()

    async def serve() -> None:
        task = asyncio.create_task(running.serve(sockets=[listener]))
        while not running.started:
            await asyncio.sleep(0.01)
        started.set()
        await task

    thread = threading.Thread(target=lambda: asyncio.run(serve()))
    thread.start()
    assert started.wait(20)
    yield listener.getsockname()[1]
    running.should_exit = True
    thread.join(20)


@pytest.fixture(autouse=True)
def no_traceback(caplog: pytest.LogCaptureFixture) -> Iterator[None]:
    yield
    assert not [record for record in caplog.get_records("call") if record.exc_info]


def exchange(port: int, request: bytes) -> bytes:
    with socket.create_connection(("127.0.0.1", port), 10) as connection:
        connection.sendall(request)
        answer = b""
        while piece := connection.recv(65536):
            answer += piece
        return answer


CLOSE = b"Connection: close\r\n"
REFUSED = {
    "no host": b"GET / HTTP/1.1\r\n" + CLOSE + b"\r\n",
    "two hosts": b"GET / HTTP/1.1\r\nHost: a\r\nHost: b\r\n" + CLOSE + b"\r\n",
    "length and chunks": b"POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 5\r\n"
    b"Transfer-Encoding: chunked\r\n\r\n0\r\n\r\n",
    "negative length": b"POST / HTTP/1.1\r\nHost: a\r\nContent-Length: -1\r\n\r\n",
    "two lengths": b"POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 1\r\nContent-Length: 2\r\n\r\nab",
    "no version": b"GET /\r\nHost: a\r\n\r\n",
    "space before the colon": b"GET / HTTP/1.1\r\nHost : a\r\n\r\n",
    "garbage": b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03\r\n\r\n",
    "an upgrade without a host": b"GET / HTTP/1.1\r\nConnection: upgrade\r\nUpgrade: websocket\r\n\r\n",
    "NUL in a header": b"GET / HTTP/1.1\r\nHost: a\r\nX: a\0b\r\n\r\n",
}


@pytest.mark.parametrize("name", REFUSED)
def test_a_malformed_request_is_refused_in_our_schema_and_the_connection_closed(port: int, name: str) -> None:
    answer = exchange(port, REFUSED[name])
    head, _, body = answer.partition(b"\r\n\r\n")
    assert head.startswith(b"HTTP/1.1 400 "), name
    assert answer.count(b"HTTP/1.1 ") == 1
    assert {"type", "summary", "time", "message"} <= json.loads(body).keys()


def test_an_endless_head_is_cut_off(port: int) -> None:
    with socket.create_connection(("127.0.0.1", port), 10) as connection:
        connection.sendall(b"GET / HTTP/1.1\r\nHost: a\r\nX: ")
        with pytest.raises(ConnectionError):
            for _ in range(10_000):
                connection.sendall(b"x" * 10_000)


def test_an_endless_head_on_a_kept_connection_is_cut_off(port: int) -> None:
    with socket.create_connection(("127.0.0.1", port), 10) as connection:
        connection.sendall(b"GET / HTTP/1.1\r\nHost: a\r\n\r\nGET / HTTP/1.1\r\nHost: a\r\nX: ")
        assert connection.recv(65536).startswith(b"HTTP/1.1 200 ")
        with pytest.raises(ConnectionError):
            for _ in range(10_000):
                connection.sendall(b"x" * 10_000)


def test_answers_to_requests_that_came_at_once_are_whole_and_in_order(port: int) -> None:
    paths = [b"/%d" % number for number in range(20)]
    heads = [b"GET " + path + b" HTTP/1.1\r\nHost: a\r\n" for path in paths]
    answer = exchange(port, b"\r\n".join(heads) + CLOSE + b"\r\n")
    bodies = [piece.partition(b"\r\n\r\n")[2] for piece in answer.split(b"HTTP/1.1 200 ")[1:]]
    assert [json.loads(body)["path"].encode() for body in bodies] == paths


def test_a_body_that_nobody_reads_is_not_taken(port: int) -> None:
    with socket.create_connection(("127.0.0.1", port), 10) as connection:
        connection.sendall(b"POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 99999999999\r\n\r\nx")
        answer = b""
        while piece := connection.recv(65536):
            answer += piece
    assert answer.startswith(b"HTTP/1.1 200 ")


@pytest.mark.parametrize("size", [20_000, 1_000_000])
@pytest.mark.parametrize("first", [0, 5_000])
def test_an_answer_that_did_not_wait_for_the_body_is_read_all_the_same(
    port: int, size: int, first: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(lingering, "LINGER_S", 60)
    with socket.create_connection(("127.0.0.1", port), 10) as connection:
        head = b"POST / HTTP/1.1\r\nHost: a\r\nContent-Length: %d\r\n\r\n" % size
        connection.sendall(head + b"x" * first)
        answer = connection.recv(65536)
        connection.sendall(b"x" * (size - first))
        while piece := connection.recv(65536):
            answer += piece
    assert answer.startswith(b"HTTP/1.1 200 ") and b"\r\nconnection: close\r\n" in answer
    assert answer.endswith(b'{"path": "/"}')


def test_a_body_that_does_not_end_is_not_taken_for_ever(port: int) -> None:
    with socket.create_connection(("127.0.0.1", port), 10) as connection:
        connection.sendall(b"POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 99999999999\r\n\r\n")
        with pytest.raises(ConnectionError):
            for _ in range(10_000):
                connection.sendall(b"x" * 10_000)


def test_a_request_whose_body_came_along_leaves_the_connection_open(port: int) -> None:
    with socket.create_connection(("127.0.0.1", port), 10) as connection:
        for _ in range(3):
            connection.sendall(b"POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 5\r\n\r\nhello")
            answer = b""
            while not answer.endswith(b'{"path": "/"}'):
                answer += connection.recv(65536)
            assert b"connection: close" not in answer


def test_a_body_arrives_as_it_was_sent_however_it_was_cut(port: int) -> None:
    bodies = {
        b"hello": [b"hello"],
        b"0" * 300_000: [b"0" * 300_000],
        bytes(range(256)) * 40: [bytes([value]) for value in range(256)] * 40,
    }
    for body, chunks in bodies.items():
        pieces = b"".join(b"%x\r\n%s\r\n" % (len(chunk), chunk) for chunk in chunks)
        for head, sent in (
            (b"Content-Length: %d" % len(body), body),
            (b"Transfer-Encoding: chunked", pieces + b"0\r\n\r\n"),
        ):
            answer = exchange(port, b"PUT /body HTTP/1.1\r\nHost: a\r\n" + CLOSE + head + b"\r\n\r\n" + sent)
            assert answer.partition(b"\r\n\r\n")[2] == hashlib.sha256(body).hexdigest().encode()


def test_the_body_of_a_refused_request_is_not_added_to_the_one_before(port: int) -> None:
    BODIES.clear()
    first = b"POST /body HTTP/1.1\r\nHost: a\r\nContent-Length: 4\r\n\r\nAAAA"
    answer = exchange(port, first + b"POST /body HTTP/1.1\r\nContent-Length: 4\r\n\r\nBBBB")
    assert answer.startswith(b"HTTP/1.1 400")
    exchange(port, b"GET /later HTTP/1.1\r\nHost: a\r\n" + CLOSE + b"\r\n")
    assert BODIES in ([], [b"AAAA"])


def test_a_bad_chunk_ends_the_connection(port: int) -> None:
    request = b"POST / HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\nzz\r\n"
    answer = exchange(port, request)
    assert b"HTTP/1.1 400 " in answer or answer.startswith(b"HTTP/1.1 200 ")


@pytest.mark.parametrize("path", [b"/", b"//", b"/%2F", b"/a/../b", b"/%00", b"/%ff"])
def test_the_path_arrives_as_it_was_sent(port: int, path: bytes) -> None:
    answer = exchange(port, b"GET " + path + b" HTTP/1.1\r\nHost: a\r\n" + CLOSE + b"\r\n")
    assert json.loads(answer.partition(b"\r\n\r\n")[2]) == {"path": path.decode()}


def test_forwarded_headers_do_not_change_the_peer(port: int) -> None:
    request = b"GET / HTTP/1.1\r\nHost: a\r\nX-Forwarded-For: 9.9.9.9\r\n" + CLOSE + b"\r\n"
    assert exchange(port, request).startswith(b"HTTP/1.1 200 ")
