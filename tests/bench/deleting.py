"""Deleting a flow of very many segments: how soon it is answered, what others feel meanwhile, how much memory
it takes (P5), and when all is gone, bytes included. Minutes long, and so no part of `make bench`.

Run: python -m tests.bench.deleting [SEGMENTS]. The server is a process of its own, on SQLite and files.
"""

from __future__ import annotations

import asyncio
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import AsyncIterator, Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

import httpx

from store.media.config import FilesConfig, build
from store.media.signing import Lifetime, Signer
from store.settings import DEFAULT_BACKEND_ID
from tests.bench.seed import identifier, seed
from tests.bench.servers import ROOT, first_answer
from tests.ports import free_port

SEGMENTS, WITH_BYTES = 1_000_000, 20_000
FLOWS = 100
"""Others than the one that goes."""
LONGEST_S = 3600


def main(segments: int) -> None:
    """Print the figures."""
    with tempfile.TemporaryDirectory(prefix="tams-bench-") as name:
        data = Path(name)
        asyncio.run(seed(data, FLOWS, dense_every=10, sparse=10, segments=segments))
        asyncio.run(_bytes(data / "media", min(segments, WITH_BYTES)))
        print(f"{segments:,} segments, {_files(data):,} files; {_size_mb(data):,.0f} MB of metadata")
        with _store(data) as (url, pid), httpx.Client(base_url=url, timeout=60) as client:
            idle = statistics.median(_read(client) for _ in range(300))
            began = time.perf_counter()
            answer = client.delete(f"/flows/{identifier(0)}")
            answered = time.perf_counter() - began
            print(f"DELETE is answered {answer.status_code} in {answered:.2f} s")
            felt, most_mb = _until(client, pid, lambda: _is_done(client, answer.headers["location"]))
            print(f"segments gone after {time.perf_counter() - began:,.0f} s")
            more, more_mb = _until(client, pid, lambda: not _files(data))
            print(f"bytes gone after {time.perf_counter() - began:,.0f} s")
            felt = sorted(felt + more)
            print(
                f"GET flow: {idle * 1e3:.2f} ms before, meanwhile {felt[len(felt) // 2] * 1e3:.2f} ms, "
                f"p99 {felt[len(felt) * 99 // 100] * 1e3:.1f} ms, longest {felt[-1] * 1e3:.0f} ms; "
                f"resident at most {max(most_mb, more_mb):.0f} MB"
            )


async def _bytes(folder: Path, count: int) -> None:
    """Bytes for the first objects of the flow."""
    config = FilesConfig(id=DEFAULT_BACKEND_ID, label="local", default=True, folder=folder)
    media = build(config, public_url="", signer=Signer((b"k" * 32,)), lifetime=Lifetime(), clock=time.time)

    async def chunks() -> AsyncIterator[bytes]:
        yield b"x"

    async def write(number: int) -> None:
        key = f"2026/11/21/{identifier(0)}/object-{number}"
        await media.write(key, chunks(), content_type="video/mp2t")

    for first in range(0, count, 64):
        await asyncio.gather(*(write(number) for number in range(first, min(first + 64, count))))
    await media.close()


def _until(client: httpx.Client, pid: int, is_over: Callable[[], bool]) -> tuple[list[float], float]:
    """Read until something is over: how long each read took, and the most memory that the server had."""
    felt, most_mb, began = [], 0.0, time.perf_counter()
    while not is_over():
        if time.perf_counter() - began > LONGEST_S:
            raise TimeoutError("it does not end")
        for _ in range(20):
            felt.append(_read(client))
            time.sleep(0.02)
        most_mb = max(most_mb, _resident_mb(pid))
    return felt, most_mb


def _read(client: httpx.Client) -> float:
    began = time.perf_counter()
    assert client.get(f"/flows/{identifier(7)}").status_code == 200
    return time.perf_counter() - began


def _is_done(client: httpx.Client, path: str) -> bool:
    return bool(client.get(path).json()["status"] == "done")


def _files(data: Path) -> int:
    return sum(1 for path in (data / "media" / "objects").rglob("*") if path.is_file())


def _size_mb(data: Path) -> float:
    return (data / "metadata.sqlite").stat().st_size / 1e6


def _resident_mb(pid: int) -> float:
    lines = Path(f"/proc/{pid}/status").read_text().splitlines()
    return next(int(line.split()[1]) for line in lines if line.startswith("VmRSS:")) / 1024


@contextmanager
def _store(data: Path) -> Iterator[tuple[str, int]]:
    port = free_port()
    began = time.perf_counter()
    running = subprocess.Popen(
        [sys.executable, "-m", "store", "serve"],
        cwd=ROOT,
        env={"PATH": "", "TAMS_PORT": str(port), "TAMS_DATA": str(data), "TAMS_LOG_LEVEL": "warning"},
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
    )
    try:
        first_answer(running, port, began)
        yield f"http://127.0.0.1:{port}", running.pid
    finally:
        running.terminate()
        running.wait(60)


if __name__ == "__main__":
    main(int(sys.argv[1]) if len(sys.argv) > 1 else SEGMENTS)
