"""A server under its limits, with TLS, while it is reloaded and while it stops; all in this process."""

from __future__ import annotations

import asyncio
import socket
import ssl
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from pathlib import Path

import pytest

from store import lingering
from store.asgi import App, Receive, Scope, Send, send_response
from store.reload import Replaceable
from store.server import Lines, Server, server
from store.serving import LimitSettings, StopSettings, TlsSettings
from store.tls import Certificates, InvalidCertificate
from store.workers import listen
from tests.operate.certificates import certificate, name_of
from tests.proxy.support import Proxy, running

GET = b"GET / HTTP/1.1\r\nHost: x\r\n\r\n"


class Told:
    """An application that says which generation it is, once it may."""

    def __init__(self) -> None:
        self.opened = 0
        self.closed: list[int] = []
        self.failure: Exception | None = None
        self.may = asyncio.Event()
        self.may.set()

    @asynccontextmanager
    async def open(self) -> AsyncIterator[App]:
        if self.failure is not None:
            raise self.failure
        self.opened += 1
        number = self.opened

        async def app(scope: Scope, receive: Receive, send: Send) -> None:
            await self.may.wait()
            await send_response(send, 200, [], f"generation {number}".encode(), head=False)

        yield app
        self.closed.append(number)


@asynccontextmanager
async def serving(app: App, **options: object) -> AsyncIterator[tuple[Server, int]]:
    """A server on a free port, in a task."""
    made = server(app, "127.0.0.1", 0, **options)  # type: ignore[arg-type]
    (bound,) = listen("127.0.0.1", 0)
    port: int = bound.getsockname()[1]
    task = asyncio.create_task(made._serve([bound]))
    try:
        async with asyncio.timeout(20):
            while not made.started:
                await asyncio.sleep(0.01)
        yield made, port
    finally:
        made.should_exit = True
        await task


async def until(true: Callable[[], bool]) -> None:
    async with asyncio.timeout(20):
        while not true():
            await asyncio.sleep(0.01)


async def answer(reader: asyncio.StreamReader) -> tuple[bytes, bytes]:
    """One answer: its head and its body."""
    head = await reader.readuntil(b"\r\n\r\n")
    length = int(head.lower().partition(b"content-length: ")[2].partition(b"\r\n")[0])
    return head, await reader.readexactly(length)


async def test_a_reload_ends_on_the_old_what_began_on_the_old() -> None:
    told = Told()
    app = Replaceable(told.open, (), 20)
    async with serving(app) as (_, port):
        told.may.clear()
        early, writer = await asyncio.open_connection("127.0.0.1", port)
        writer.write(GET)
        await writer.drain()
        await until(lambda: app._current is not None and bool(app._current._busy))
        reloading = asyncio.create_task(app.reload())
        await until(lambda: told.opened == 2)
        late, other = await asyncio.open_connection("127.0.0.1", port)
        other.write(GET)
        assert told.closed == []
        told.may.set()
        assert (await answer(early))[1] == b"generation 1"
        assert (await answer(late))[1] == b"generation 2"
        await reloading
        assert told.closed == [1]
        writer.write(GET)
        assert (await answer(early))[1] == b"generation 2"
        writer.close()
        other.close()
    assert told.closed == [1, 2]


async def test_a_reload_that_fails_changes_nothing() -> None:
    told = Told()
    app = Replaceable(told.open, (ValueError,), 1)
    async with serving(app) as (_, port):
        told.failure = ValueError("the settings are wrong")
        await app.reload()
        reader, writer = await asyncio.open_connection("127.0.0.1", port)
        writer.write(GET)
        assert (await answer(reader))[1] == b"generation 1"
        writer.close()
    assert told.closed == [1]


async def test_what_lasts_too_long_is_cut_off_by_a_reload() -> None:
    told = Told()
    app = Replaceable(told.open, (), 0.05)
    async with serving(app) as (_, port):
        told.may.clear()
        reader, writer = await asyncio.open_connection("127.0.0.1", port)
        writer.write(GET)
        await until(lambda: app._current is not None and bool(app._current._busy))
        await app.reload()
        assert told.closed == [1]
        told.may.set()
        writer.close()


async def test_connections_beyond_the_limit_are_told_to_come_again() -> None:
    lines = Lines()
    limits = LimitSettings(connections=2)
    async with serving(Replaceable(Told().open, (), 0), limits=limits, lines=lines) as (_, port):
        kept = [await asyncio.open_connection("127.0.0.1", port) for _ in range(2)]
        await until(lambda: lines.open == 2)
        reader, writer = await asyncio.open_connection("127.0.0.1", port)
        head, body = await answer(reader)
        assert (
            head.startswith(b"HTTP/1.1 503 ") and b"retry-after: 1" in head and b"ServiceUnavailable" in body
        )
        assert await reader.read() == b""
        writer.close()
        await until(lambda: (lines.open, lines.refused) == (2, 1))
        for _, each in kept:
            each.close()
        await until(lambda: lines.open == 0)
        reader, writer = await asyncio.open_connection("127.0.0.1", port)
        writer.write(GET)
        assert (await answer(reader))[0].startswith(b"HTTP/1.1 200 ")
        writer.close()


async def test_a_head_beyond_the_limit_is_refused() -> None:
    limits = LimitSettings(header_bytes=1024)
    async with serving(Replaceable(Told().open, (), 0), limits=limits) as (_, port):
        reader, writer = await asyncio.open_connection("127.0.0.1", port)
        writer.write(b"GET / HTTP/1.1\r\nHost: x\r\nX-Long: " + b"x" * 2000)
        assert (await answer(reader))[0].startswith(b"HTTP/1.1 400 ")
        writer.close()


@pytest.mark.parametrize(
    ("head", "status"),
    [
        (b"GET / HTTP/1.1\r\nHost: x\r\nX-Long: %s\r\n\r\n" % (b"x" * 2000), b"400"),
        (b"GET /%s HTTP/1.1\r\nHost: x\r\n\r\n" % (b"x" * 2000), b"400"),
        (b"POST / HTTP/1.1\r\nHost: x\r\nContent-Length: 2000\r\n\r\n" + b"x" * 2000, b"200"),
    ],
)
async def test_a_head_that_arrives_at_once_is_measured_too(head: bytes, status: bytes) -> None:
    limits = LimitSettings(header_bytes=1024)
    async with serving(Replaceable(Told().open, (), 0), limits=limits) as (_, port):
        reader, writer = await asyncio.open_connection("127.0.0.1", port)
        writer.write(head)
        assert (await answer(reader))[0].startswith(b"HTTP/1.1 %s " % status)
        writer.close()


async def test_a_handshake_that_is_refused_is_no_failure_in_the_log(caplog: pytest.LogCaptureFixture) -> None:
    async def refuse(scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] == "websocket":
            await send({"type": "websocket.http.response.start", "status": 401, "headers": []})
            await send({"type": "websocket.http.response.body", "body": b"no"})

    async with serving(refuse) as (_, port):
        reader, writer = await asyncio.open_connection("127.0.0.1", port)
        writer.write(
            b"GET / HTTP/1.1\r\nHost: x\r\nConnection: Upgrade\r\nUpgrade: websocket\r\n"
            b"Sec-WebSocket-Version: 13\r\nSec-WebSocket-Key: AAAAAAAAAAAAAAAAAAAAAA==\r\n\r\n"
        )
        head, body = await answer(reader)
        assert head.startswith(b"HTTP/1.1 401 ") and body == b"no"
        assert await reader.read() == b""
        writer.close()
    assert [each.message for each in caplog.records if each.levelname == "ERROR"] == []


async def test_a_server_that_drains_takes_requests_and_says_that_they_are_the_last() -> None:
    lines = Lines()
    stop = StopSettings(drain_s=30)
    async with serving(Replaceable(Told().open, (), 0), stop=stop, lines=lines) as (made, port):
        reader, writer = await asyncio.open_connection("127.0.0.1", port)
        writer.write(GET)
        assert b"connection: close" not in (await answer(reader))[0].lower()
        made.should_exit = True
        await until(lambda: lines.draining)
        writer.write(GET)
        head, _ = await answer(reader)
        assert head.startswith(b"HTTP/1.1 200 ") and b"connection: close" in head.lower()
        assert await reader.read() == b""
        fresh, other = await asyncio.open_connection("127.0.0.1", port)
        other.write(GET)
        assert b"connection: close" in (await answer(fresh))[0].lower()
        writer.close()
        other.close()
        # As a second signal would.
        made._captured_signals += [15, 15]
    made._captured_signals.clear()


async def test_a_server_that_stops_answers_what_was_on_its_way(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("store.server.LINGER_S", 20)
    lines = Lines()
    stop = StopSettings(grace_s=30)
    async with serving(Replaceable(Told().open, (), 0), stop=stop, lines=lines) as (made, port):
        idle = [await asyncio.open_connection("127.0.0.1", port) for _ in range(2)]
        idle[1][1].write(GET)
        await answer(idle[1][0])
        made.should_exit = True
        await until(lambda: lines.draining)
        for reader, writer in idle:
            writer.write(GET)
            head, _ = await answer(reader)
            assert head.startswith(b"HTTP/1.1 200 ") and b"connection: close" in head.lower()
            assert await reader.read() == b""
            writer.close()


def trusting(folder: Path) -> ssl.SSLContext:
    return ssl.create_default_context(cafile=folder / "cert.pem")


async def test_a_new_certificate_is_shown_and_open_connections_stay(tmp_path: Path) -> None:
    certificate(tmp_path, "one")
    first = trusting(tmp_path)
    held = Certificates(TlsSettings(certificate=tmp_path / "cert.pem", key=tmp_path / "key.pem"))
    async with serving(Replaceable(Told().open, (), 0), certificates=held) as (_, port):
        reader, writer = await asyncio.open_connection("127.0.0.1", port, ssl=first)
        assert name_of(writer.get_extra_info("ssl_object").getpeercert(True)) == "one"
        certificate(tmp_path, "two")
        held.reload()
        other, fresh = await asyncio.open_connection("127.0.0.1", port, ssl=trusting(tmp_path))
        assert name_of(fresh.get_extra_info("ssl_object").getpeercert(True)) == "two"
        for each, through in ((reader, writer), (other, fresh)):
            through.write(GET)
            assert (await answer(each))[0].startswith(b"HTTP/1.1 200 ")
            through.close()


async def test_an_answer_that_did_not_wait_for_the_body_ends_tls_too(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(lingering, "LINGER_S", 0)
    certificate(tmp_path, "one")
    held = Certificates(TlsSettings(certificate=tmp_path / "cert.pem", key=tmp_path / "key.pem"))
    async with serving(Replaceable(Told().open, (), 0), certificates=held) as (_, port):
        reader, writer = await asyncio.open_connection("127.0.0.1", port, ssl=trusting(tmp_path))
        writer.write(b"POST / HTTP/1.1\r\nHost: x\r\nContent-Length: 9\r\n\r\nx")
        async with asyncio.timeout(20):
            answered = await reader.read()
        writer.close()
    assert answered.endswith(b"generation 1") and b"connection: close" in answered


async def test_a_certificate_without_its_key_is_refused_and_the_old_one_shown(tmp_path: Path) -> None:
    certificate(tmp_path, "one")
    first = trusting(tmp_path)
    held = Certificates(TlsSettings(certificate=tmp_path / "cert.pem", key=tmp_path / "key.pem"))
    async with serving(Replaceable(Told().open, (), 0), certificates=held) as (_, port):
        key = (tmp_path / "key.pem").read_bytes()
        certificate(tmp_path, "two")
        (tmp_path / "key.pem").write_bytes(key)
        with pytest.raises(InvalidCertificate, match="cert.pem"):
            held.reload()
        _, writer = await asyncio.open_connection("127.0.0.1", port, ssl=first)
        assert name_of(writer.get_extra_info("ssl_object").getpeercert(True)) == "one"
        writer.close()


@pytest.mark.parametrize(("minimum", "offered", "taken"), [("1.2", "1.2", True), ("1.3", "1.2", False)])
async def test_older_tls_is_refused(tmp_path: Path, minimum: str, offered: str, taken: bool) -> None:
    certificate(tmp_path, "one")
    settings = TlsSettings.model_validate(
        {"certificate": tmp_path / "cert.pem", "key": tmp_path / "key.pem", "minimum": minimum}
    )
    client = trusting(tmp_path)
    client.maximum_version = ssl.TLSVersion.TLSv1_2
    async with serving(Replaceable(Told().open, (), 0), certificates=Certificates(settings)) as (_, port):
        if taken:
            _, writer = await asyncio.open_connection("127.0.0.1", port, ssl=client)
            writer.close()
        else:
            with pytest.raises((ssl.SSLError, ConnectionError)):
                await asyncio.open_connection("127.0.0.1", port, ssl=client)


@pytest.mark.parametrize("broken", ["absent", "empty", "text"])
def test_what_is_no_certificate_is_named(tmp_path: Path, broken: str) -> None:
    path = tmp_path / "cert.pem"
    if broken != "absent":
        path.write_text("" if broken == "empty" else "no certificate")
    with pytest.raises(InvalidCertificate, match="TAMS_TLS__CERTIFICATE.*cert.pem"):
        Certificates(TlsSettings(certificate=path))


def test_a_port_that_is_taken_is_an_error() -> None:
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        taken.listen()
        with pytest.raises(OSError):
            listen("127.0.0.1", taken.getsockname()[1])


async def test_each_caller_has_a_rate_of_its_own(tmp_path: Path) -> None:
    limits = {"rate_per_s": 0.01, "burst": 3}
    async with running(tmp_path, limits=limits) as proxy:
        got = [(await proxy.call("reader", "GET", "/flows")).status_code for _ in range(4)]
        assert got == [200, 200, 200, 429]
        refused = await proxy.call("reader", "GET", "/flows")
        assert 1 <= int(refused.headers["retry-after"]) <= 100
        assert (await proxy.call("writer", "GET", "/flows")).status_code == 200
        assert (await proxy.call(None, "GET", "/health")).status_code == 200


async def test_ready_names_what_fails_and_health_lives_on(proxy: Proxy) -> None:
    good = (await proxy.call(None, "GET", "/ready")).json()
    assert set(good["checks"].values()) == {"ok"} and "reasons" not in good
    (proxy.policies / "tuples.yaml").write_text("- user: [nonsense")
    (proxy.policies / "tuples.yaml").touch()
    admin: dict[str, dict[str, str]] = {}
    async with asyncio.timeout(30):
        while "policy" not in admin.get("reasons", {}):
            await asyncio.sleep(0.05)
            answer = await proxy.call("admin", "GET", "/ready")
            admin = answer.json()
    assert answer.status_code == 200, "the last good policy is in force"
    assert admin["checks"]["policy"] == "failing" and "tuples.yaml" in admin["reasons"]["policy"]
    plain = await proxy.call("reader", "GET", "/ready")
    assert plain.json()["checks"]["policy"] == "failing" and "reasons" not in plain.json()
    assert (await proxy.call(None, "GET", "/health")).json()["policy"] == "invalid"


async def test_health_tells_administrators_of_the_machine(proxy: Proxy) -> None:
    assert "system" not in (await proxy.call("owner", "GET", "/health")).json()
    told = (await proxy.call("admin", "GET", "/health")).json()
    assert told["system"]["memory_total_bytes"] > told["system"]["memory_usage_bytes"] > 0
    assert told["system"]["uptime_seconds"] >= 0
    assert told["telemetry"] == {"tracing_enabled": False, "metrics_enabled": True}
