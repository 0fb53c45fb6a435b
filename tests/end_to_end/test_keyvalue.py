"""The shipped client against a running proxy, with keys made by the command."""

from __future__ import annotations

import asyncio
import hashlib
import json
from collections.abc import AsyncIterator, Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path

import pytest
from typer.testing import CliRunner

from proxy.__main__ import app
from store.client import AsyncRestStore, RestStore, StoreError
from tests.end_to_end.server import Server
from tests.proxy.support import MODEL

CLASSES = "classes: {plankton: {key_prefixes: ['ifcb/*']}, secret: {key_prefixes: [secret/]}}"
LONG = bytes(range(256)) * (5 << 12)


@dataclass
class Running:
    """A server, and keys by name."""

    server: Server
    keys: dict[str, str]

    def store(self, name: str) -> RestStore:
        return RestStore.create(f"{self.server.url}/store", self.keys[name], max_retries=0)

    def later(self, name: str) -> AsyncRestStore:
        return AsyncRestStore.create(f"{self.server.url}/store", self.keys[name], max_retries=0)


def made(folder: Path, settings: str = "") -> dict[str, str]:
    """A policy, keys and settings for a server in a folder."""
    policies, file = folder / "policies", folder / "keys.json"
    policies.mkdir()
    (policies / "model.fga").write_text(MODEL.read_text())
    (policies / "classes.yaml").write_text(CLASSES)
    (policies / "clients.yaml").write_text("clients: {}")
    grants = [("instrument", relation) for relation in ("reader", "writer", "deleter")] + [
        ("viewer", "reader")
    ]
    tuples = [
        {"user": f"user:keys/{name}", "relation": relation, "object": "auth_class:plankton"}
        for name, relation in grants
    ]
    (policies / "tuples.yaml").write_text(json.dumps(tuples))
    found = {}
    for name in ("instrument", "viewer"):
        scopes = [part for scope in ("read", "write", "delete") for part in ("--scope", scope)]
        told = CliRunner().invoke(app, ["key", "add", name, *scopes, "--file", str(file)])
        assert told.exit_code == 0, told.output
        found[name] = told.output.strip()
    (folder / "tams.toml").write_text(f'api_keys = "{file}"\n{settings}')
    return found


@pytest.fixture(params=["", "[keys]\nredirect_bytes = 100000\n"], ids=["streamed", "redirected"])
def running(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[Running]:
    keys = made(tmp_path, request.param)
    server = Server(tmp_path)
    server.start()
    yield Running(server, keys)
    server.stop()


def test_the_client_does_it_all(running: Running) -> None:
    with running.store("instrument") as store:
        assert store.put("ifcb/one", b"small")["size"] == 5
        store.put("ifcb/long", iter([LONG[:1_000_000], LONG[1_000_000:]]), content_type="application/x-roi")
        store.put("ifcb/../odd key/ü", b"")
        assert store.get("ifcb/one") == b"small"
        with store.stream("ifcb/long") as chunks:
            assert hashlib.sha256(b"".join(chunks)).digest() == hashlib.sha256(LONG).digest()
        with store.stream("ifcb/long", start=10, end=300) as chunks:
            assert b"".join(chunks) == LONG[10:300]
        assert store.exists("ifcb/one") and not store.exists("ifcb/two")
        assert list(store.keys("ifcb/")) == ["ifcb/../odd key/ü", "ifcb/long", "ifcb/one"]
        with running.store("viewer") as viewer:
            assert viewer.get("ifcb/long") == LONG
            with pytest.raises(StoreError, match="may not write"):
                viewer.put("ifcb/one", b"x")
        store.delete("ifcb/one")
        with pytest.raises(KeyError):
            store.get("ifcb/one")
        with pytest.raises(KeyError):
            store.put("secret/one", b"x")
    stranger = RestStore.create(f"{running.server.url}/store", "wrong", max_retries=0)
    with stranger, pytest.raises(StoreError, match="Invalid or missing token"):
        stranger.get("ifcb/long")


async def test_the_client_for_asyncio_does_it_all(running: Running) -> None:
    async def pieces() -> AsyncIterator[bytes]:
        for start in range(0, len(LONG), 500_000):
            yield LONG[start : start + 500_000]

    async with running.later("instrument") as store:
        await store.put("ifcb/long", pieces())
        await asyncio.gather(*(store.put(f"ifcb/{number}", b"%d" % number) for number in range(30)))
        found = await asyncio.gather(*(store.get(f"ifcb/{number}") for number in range(30)))
        assert found == [b"%d" % number for number in range(30)]
        async with store.stream("ifcb/long") as chunks:
            assert b"".join([chunk async for chunk in chunks]) == LONG
        assert len([key async for key in store.keys("ifcb/")]) == 31
        await store.delete("ifcb/long")
        assert not await store.exists("ifcb/long")


def test_acknowledged_objects_survive_a_crash(tmp_path: Path) -> None:
    running = Running(Server(tmp_path), made(tmp_path))
    running.server.start()
    try:
        with running.store("instrument") as store:

            def write(number: int) -> None:
                store.put(f"ifcb/{number}", (b"%d" % number) * (1 if number % 4 else 50_000))

            with ThreadPoolExecutor(8) as pool:
                list(pool.map(write, range(40)))
            running.server.kill()
        running.server.start()
        with running.store("instrument") as store:
            assert len(list(store.keys("ifcb/"))) == 40
            for number in range(40):
                assert store.get(f"ifcb/{number}") == (b"%d" % number) * (1 if number % 4 else 50_000)
    finally:
        running.server.stop()
