"""The key-value API through the proxy, with a key: 1 KiB by 16 connections, and 5 MiB by one.

Run: python -m tests.bench.keyvalue. Small PUTs are measured against the same proxy with one commit for each
request, small GETs against bare Starlette, long objects against files with the same fsyncs.
"""

from __future__ import annotations

import http.client
import json
import os
import shutil
import statistics
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from urllib.parse import urlsplit

import httpx

from proxy.commands.keys import add_key
from proxy.identity.apikeys import ApiKey, dump_keys_file
from tests.bench.load import interleaved, requests_per_s
from tests.bench.servers import ROOT, bare, process
from tests.bench.table import Result, show
from tests.ports import free_port

SMALL, LONG = os.urandom(1024), os.urandom(5 << 20)
NAMES = 10_000
WRITES = f"""
local number = 0
local headers = {{["Authorization"] = "Bearer KEY", ["Content-Type"] = "application/octet-stream"}}
local body = string.rep("x", {len(SMALL)})
request = function()
    number = number + 1
    return wrk.format("PUT", "/store/objects/bench/" .. (number % {NAMES}), headers, body)
end
"""


def keyvalue(rounds: int = 3, seconds: int = 3) -> list[Result]:
    """Both sizes, both ways."""
    with _folder() as folder:
        token = _configured(folder)
        script = folder / "writes.lua"
        script.write_text(WRITES.replace("KEY", token))
        headers = {"Authorization": f"Bearer {token}"}
        with (
            _served(folder, "ours", ["-m", "proxy", "serve"]) as ours,
            _served(folder, "single", ["-m", "tests.bench.least", "single"]) as single,
            _least(folder) as least,
            bare(_made(folder / "bare"), {"small": SMALL}) as plain,
        ):
            return [
                *_small(ours, single, plain, headers, script, rounds, seconds),
                *_long(ours, least, headers, 20 * rounds),
            ]


def _small(
    ours: str, single: str, plain: str, headers: dict[str, str], script: Path, rounds: int, seconds: int
) -> list[Result]:
    def writing(url: str) -> float | None:
        return requests_per_s(url, {}, connections=16, seconds=seconds, script=script)

    written, each = interleaved(rounds, lambda: writing(ours), lambda: writing(single))
    path = "/store/objects/bench/read"
    httpx.put(ours + path, content=SMALL, headers=headers).raise_for_status()
    read, bare = interleaved(
        rounds,
        lambda: requests_per_s(ours + path, headers, connections=16, seconds=seconds),
        lambda: requests_per_s(f"{plain}/small", {}, connections=16, seconds=seconds),
    )
    return [
        Result("K1", "PUT 1 KiB, 16 connections, to one commit each", written, each, "req/s", 1.8, True),
        Result("K2", "GET 1 KiB, 16 connections, to bare Starlette", read, bare, "req/s", 0.4, True),
    ]


def _long(ours: str, least: str, headers: dict[str, str], rounds: int) -> list[Result]:
    """Of the fastest tenth: what else goes on tells on the others. Both keep what was there before."""
    connections = {url: _connection(url) for url in (ours, least)}
    taken: dict[tuple[str, str], list[float]] = {}
    for number in range(rounds):
        paths = {ours: "/store/objects/bench/long", least: f"/long{number}"}
        for method in ("PUT", "GET"):
            for url, path in paths.items():
                began = time.perf_counter()
                connections[url].request(method, path, LONG if method == "PUT" else None, headers)
                answer = connections[url].getresponse()
                body = answer.read()
                taken.setdefault((method, url), []).append(time.perf_counter() - began)
                if answer.status != 200 or (method == "GET" and body != LONG):
                    raise RuntimeError(f"{method} {path}: {answer.status}")
    found = []
    for method in ("PUT", "GET"):
        mine, theirs = (5 / statistics.quantiles(taken[method, url], n=10)[0] for url in connections)
        what = f"{method} 5 MiB, one connection, to a minimal file handler"
        found.append(Result("K3", what, mine, theirs, "MiB/s", 0.8, higher=True))
    return found


def _connection(url: str) -> http.client.HTTPConnection:
    parts = urlsplit(url)
    return http.client.HTTPConnection(parts.hostname or "", parts.port)


def _configured(folder: Path) -> str:
    """A policy and a keys file in a folder; the key."""
    policies = folder / "policies"
    shutil.copytree(ROOT / "policies", policies)
    (policies / "classes.yaml").write_text("classes: {bench: {key_prefixes: [bench/]}}")
    (policies / "clients.yaml").write_text("clients: {}")
    tuples = [
        {"user": "user:keys/bench", "relation": relation, "object": "auth_class:bench"}
        for relation in ("reader", "writer", "deleter")
    ]
    (policies / "tuples.yaml").write_text(json.dumps(tuples))
    keys: dict[str, ApiKey] = {}
    token = add_key(keys, "bench", ["read", "write", "delete"], int(time.time()), 1)
    (folder / "keys.json").write_bytes(dump_keys_file(keys))
    return token


@contextmanager
def _served(folder: Path, name: str, arguments: list[str]) -> Iterator[str]:
    port = free_port()
    environ = {
        "TAMS_PORT": str(port),
        "TAMS_DATA": str(folder / name),
        "TAMS_POLICIES": str(folder / "policies"),
        "TAMS_API_KEYS": str(folder / "keys.json"),
        "TAMS_CONFIG": os.devnull,
        "TAMS_LOG_FORMAT": "json",
    }
    with process(arguments, environ, port):
        yield f"http://127.0.0.1:{port}"


@contextmanager
def _least(folder: Path) -> Iterator[str]:
    port = free_port()
    with process(["-m", "tests.bench.least", "least", str(_made(folder / "least")), str(port)], {}, port):
        yield f"http://127.0.0.1:{port}"


def _made(folder: Path) -> Path:
    folder.mkdir()
    return folder


@contextmanager
def _folder() -> Iterator[Path]:
    folder = Path(tempfile.mkdtemp(prefix="tams-bench-"))
    try:
        yield folder
    finally:
        shutil.rmtree(folder)


if __name__ == "__main__":
    quick = bool(os.environ.get("QUICK"))
    show(keyvalue(1 if quick else 3, 1 if quick else 3))
