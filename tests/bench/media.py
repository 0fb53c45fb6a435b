"""P7: uploads and reads of 5 MiB on local files, against a minimal handler with the same fsyncs.

Speeds are of the fastest tenth of the requests, and the server's CPU seconds stand beside them: on a machine
that others use too the rest says more about them.

Target: at least 0.8 of the minimal handler's speed each way. Both run on uvicorn in one process, which a
client in another asks alternately, over one connection each.
"""

from __future__ import annotations

import asyncio
import http.client
import multiprocessing
import os
import secrets
import socket
import statistics
import tempfile
import time
import uuid
from multiprocessing.connection import Connection
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import uvicorn

from store.media.config import FilesConfig, build
from store.media.files import Files
from store.media.serve import LocalMedia
from store.media.signing import Lifetime, Signer
from tests.bench.table import Result

SIZE_BYTES = 5 << 20
ROUNDS = 60
READ_BYTES = 1 << 20
TYPE = "video/mp2t"


class Minimal:
    """What the least could be: no signature, no checks, no quota, no conditions; whole and durable."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder

    async def __call__(self, scope: Any, receive: Any, send: Any) -> None:
        path = self._folder / scope["path"].rpartition("/")[2]
        if scope["method"] == "PUT":
            await self._put(path, receive, send)
        else:
            await self._get(path, send)

    async def _put(self, path: Path, receive: Any, send: Any) -> None:
        temporary = path.with_name(secrets.token_hex(8))
        with temporary.open("wb", buffering=0) as file:
            more = True
            while more:
                message = await receive()
                file.write(message["body"])
                more = message["more_body"]
            await asyncio.to_thread(self._commit, file.fileno(), temporary, path)
        await send({"type": "http.response.start", "status": 200, "headers": [(b"content-length", b"0")]})
        await send({"type": "http.response.body", "body": b""})

    def _commit(self, fd: int, temporary: Path, path: Path) -> None:
        os.fsync(fd)
        temporary.rename(path)
        folder = os.open(self._folder, os.O_RDONLY)
        os.fsync(folder)
        os.close(folder)

    async def _get(self, path: Path, send: Any) -> None:
        with path.open("rb", buffering=0) as file:
            left = os.fstat(file.fileno()).st_size
            headers = [(b"content-length", str(left).encode())]
            await send({"type": "http.response.start", "status": 200, "headers": headers})
            while left:
                chunk = await asyncio.to_thread(file.read, READ_BYTES)
                left -= len(chunk)
                await send({"type": "http.response.body", "body": chunk, "more_body": left > 0})


def serve(folder: Path, backend_id: str, secret: bytes, pipe: Connection) -> None:
    """Both handlers on one port; answers each message with the CPU seconds so far and the peak of resident
    memory in KiB."""
    signer = Signer((secret,))
    (folder / "minimal").mkdir()
    minimal = Minimal(folder / "minimal")
    files = made(folder, backend_id, signer, "http://unused")
    media = LocalMedia({backend_id: files}, signer, time.time)

    async def app(scope: Any, receive: Any, send: Any) -> None:
        await (media if scope["path"].startswith("/media/") else minimal)(scope, receive, send)

    listener = socket.create_server(("127.0.0.1", 0))
    config = uvicorn.Config(app, log_level="error", access_log=False, lifespan="off", loop="uvloop")
    server = uvicorn.Server(config)

    async def run() -> None:
        pipe.send(listener.getsockname()[1])
        serving = asyncio.create_task(server.serve(sockets=[listener]))
        while await asyncio.to_thread(pipe.recv) is not None:
            pipe.send((time.process_time(), peak_kib()))
        server.should_exit = True
        await serving
        await files.close()

    asyncio.run(run())


def made(folder: Path, backend_id: str, signer: Signer, public_url: str) -> Files:
    """The local backend of both processes."""
    config = FilesConfig(id=backend_id, folder=folder / "local")
    media = build(config, public_url=public_url, signer=signer, lifetime=Lifetime(), clock=time.time)
    assert isinstance(media, Files)
    return media


def peak_kib() -> int:
    """The most memory that this process had. `getrusage` tells that of the process it came from, if it is
    more."""
    lines = Path("/proc/self/status").read_text().splitlines()
    return next(int(line.split()[1]) for line in lines if line.startswith("VmHWM:"))


def asked(pipe: Connection) -> tuple[float, int]:
    """The server's CPU seconds and peak memory in KiB."""
    pipe.send("usage")
    answer: tuple[float, int] = pipe.recv()
    return answer


def timed(connection: http.client.HTTPConnection, method: str, path: str, body: bytes | None) -> float:
    """Seconds for one request."""
    start = time.perf_counter()
    connection.request(method, path, body, {"content-type": TYPE} if body else {})
    response = connection.getresponse()
    content = response.read()
    assert response.status == 200, (response.status, content)
    assert body is not None or len(content) == SIZE_BYTES
    return time.perf_counter() - start


def moving(rounds: int = ROUNDS) -> list[Result]:
    """Both ways, and the memory that it took."""
    secret, backend_id = secrets.token_bytes(32), str(uuid.uuid4())
    context = multiprocessing.get_context("spawn")
    ours, theirs = context.Pipe()
    with tempfile.TemporaryDirectory() as name:
        server = context.Process(target=serve, args=(Path(name), backend_id, secret, theirs))
        server.start()
        port = ours.recv()
        files = made(Path(name), backend_id, Signer((secret,)), f"http://127.0.0.1:{port}")
        times, cpu, most_kib = _moved(rounds, files, port, ours)
        ours.send(None)
        server.join()
        asyncio.run(files.close())
    found = []
    for method in ("PUT", "GET"):
        mine, least = (5 / statistics.quantiles(times[method, who], n=10)[0] for who in ("ours", "minimal"))
        what = f"{method} 5 MiB, to a minimal file handler"
        found.append(Result("P7", what, mine, least, "MiB/s", 0.8, higher=True))
        mine, least = (cpu[method, who] / rounds * 1e3 for who in ("ours", "minimal"))
        found.append(Result("P7", f"  {method}: CPU", mine, least, "ms", None, higher=False))
    what = "  peak memory of that server with both handlers, to 100 MB"
    return [*found, Result("P7", what, most_kib / 1024, 100.0, "MB", 1.0, higher=False)]


Times = dict[tuple[str, str], list[float]]


def _moved(
    rounds: int, files: Files, port: int, pipe: Connection
) -> tuple[Times, dict[tuple[str, str], float], int]:
    """By method and server: the seconds of each request, and CPU seconds of all; the peak memory in KiB."""
    body, most_kib = os.urandom(SIZE_BYTES), 0
    connections = [http.client.HTTPConnection("127.0.0.1", port) for _ in range(2)]
    times: Times = {}
    cpu: dict[tuple[str, str], float] = {}
    for number in range(rounds):
        key, now_s = f"2026/11/21/flow/{number % 8}", int(time.time())
        put = files.put_url(key, content_type=TYPE, presigned=True, now_s=now_s).url
        get = files.get_url(key, version=None, now_s=now_s, content_type=TYPE)
        for method, url in (("PUT", put), ("GET", get)):
            sent = body if method == "PUT" else None
            split = urlsplit(url)
            paths = {"ours": f"{split.path}?{split.query}", "minimal": f"/{number % 8}"}
            for who, connection in zip(paths, connections, strict=True):
                before_s, _ = asked(pipe)
                took = timed(connection, method, paths[who], sent)
                after_s, most_kib = asked(pipe)
                times.setdefault((method, who), []).append(took)
                cpu[method, who] = cpu.get((method, who), 0.0) + after_s - before_s
    return times, cpu, most_kib
