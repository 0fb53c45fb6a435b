"""Whatever crashes: bytes that are referred to stay, and those that are not go in the end (rule 55)."""

from __future__ import annotations

import asyncio
import inspect
import tempfile
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import httpx
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from store.app import StoreApp
from store.core import Store
from store.metadata.rows import Role
from store.work.jobs import JOBS
from tests.store.harness import ARCHIVE, LOCAL, UNLABELLED, Tams, object_path, running_tams

DAY_NS = 86_400 * 10**9
OBJECTS = ("a", "b", "c")
FLOWS = 2
LEVEL = settings(max_examples=12, deadline=None, suppress_health_check=list(HealthCheck))
Step = tuple[str, int, int, int]

steps = st.lists(
    st.tuples(
        st.sampled_from(("register", "register", "release", "copy", "drop", "work", "work")),
        st.integers(0, len(OBJECTS) - 1),
        st.integers(0, 5),
        st.integers(0, 40),
    ),
    min_size=8,
    max_size=16,
)
"""What is done, to which object, one of several ways, and after how many calls the process ends."""


class Crash(Exception):
    """The process ended here, as far as what is kept can tell."""


class Fuse:
    """Counts calls down to the crash, and stays blown."""

    def __init__(self, calls: int) -> None:
        self._left = calls

    def burn(self) -> None:
        self._left -= 1
        if self._left < 0:
            raise Crash


class Fragile:
    """Something whose methods may crash before they begin, or when all is done but not yet told."""

    def __init__(self, inner: Any, fuse: Fuse) -> None:
        self._inner, self._fuse = inner, fuse

    def __getattr__(self, name: str) -> Any:
        method = getattr(self._inner, name)
        if not inspect.iscoroutinefunction(method):
            return method

        async def call(*args: Any, **more: Any) -> Any:
            self._fuse.burn()
            found = await method(*args, **more)
            self._fuse.burn()
            return found

        return call


class World:
    """A store in which steps crash, and a client that does not."""

    def __init__(self, tams: Tams) -> None:
        self.tams = tams
        self.flows: list[str] = []
        self.crashes = 0

    async def begin(self) -> None:
        self.flows = [(await self.tams.flow())["id"] for _ in range(FLOWS)]

    def fragile(self, calls: int) -> Store:
        fuse = Fuse(calls)
        store = self.tams.store
        metadata: Any = Fragile(store.metadata, fuse)
        backends: dict[str, Any] = {name: Fragile(media, fuse) for name, media in store.backends.items()}
        return replace(store, metadata=metadata, backends=backends)

    async def take(self, step: Step) -> None:
        """One step, up to its crash."""
        kind, which, way, calls = step
        store = self.fragile(calls)
        if kind == "work":
            self.tams.later_ns += DAY_NS * (way % 2)
            for job in JOBS:
                try:
                    await job.run(store)
                except Crash:
                    self.crashes += 1
            return
        name, flow = OBJECTS[which], self.flows[way % FLOWS]
        if kind == "register":
            await self.offer(name, flow)
        app = StoreApp(replace(self.tams.running, store=store), 1 << 20)
        transport = httpx.ASGITransport(app=app)
        async with httpx.AsyncClient(transport=transport, base_url="http://tams.test") as client:
            answer = await self.ask(client, kind, name, flow, way)
        self.crashes += answer.status_code == 500

    async def offer(self, name: str, flow: str) -> None:
        """Allocate and upload an object that is not there; bytes that are frozen are left alone."""
        asked = await self.tams.request("POST", f"/flows/{flow}/storage", json={"object_ids": [name]})
        if asked.status_code == 201:
            put = asked.json()["media_objects"][0]["put_url"]
            headers = {"Content-Type": put["content-type"]}
            answer = await self.tams.client.put(put["url"], content=name.encode(), headers=headers)
            assert answer.status_code == 200

    async def ask(
        self, client: httpx.AsyncClient, kind: str, name: str, flow: str, way: int
    ) -> httpx.Response:
        path, backend = object_path(name), (LOCAL, ARCHIVE, UNLABELLED)[way % 3]
        if kind == "register":
            timerange = f"[{way}:0_{way + 1}:0)"
            body = {"object_id": name, "timerange": timerange, "object_timerange": "_"}
            return await client.post(f"/flows/{flow}/segments", json=body)
        if kind == "release":
            return await client.delete(f"/flows/{flow}/segments?object_id={name}")
        if kind == "copy":
            return await client.post(f"{path}/instances", json={"storage_id": backend})
        return await client.delete(f"{path}/instances?storage_id={backend}")

    async def check(self) -> None:
        """Every instance that is advertised has its bytes, unchanged."""
        store = self.tams.store
        for row in (await store.metadata.objects(OBJECTS)).values():
            for instance in row.instances if row.role is not Role.UNUSED else ():
                if instance.complete:
                    media = store.backends[instance.backend_id]
                    assert b"".join([chunk async for chunk in media.read(instance.key)]) == row.id.encode()

    async def end(self) -> None:
        """Nothing is referred to any more: nothing is left, once all is done without a crash."""
        for flow in self.flows:
            await self.tams.delete(f"/flows/{flow}")
        for _ in range(3):
            self.tams.later_ns += 2 * DAY_NS
            await self.tams.work()
        assert not await self.tams.store.metadata.objects(OBJECTS)
        for media in self.tams.store.backends.values():
            keys = media.keys()
            assert not [key async for key in keys]


async def live(taken: Sequence[Step]) -> int:
    """A life of steps and crashes; how many of those there were."""
    with tempfile.TemporaryDirectory(dir="/dev/shm" if Path("/dev/shm").is_dir() else None) as name:
        async with running_tams(Path(name)) as tams:
            world = World(tams)
            await world.begin()
            for step in taken:
                await world.take(step)
                await world.check()
            await world.end()
            return world.crashes


@LEVEL
@given(steps)
def test_bytes_that_are_referred_to_outlive_crashes(taken: Sequence[Step]) -> None:
    """rule 55"""
    asyncio.run(live(taken))


@pytest.mark.slow
@settings(LEVEL, max_examples=400)
@given(steps)
def test_bytes_that_are_referred_to_outlive_many_crashes(taken: Sequence[Step]) -> None:
    """rule 55"""
    asyncio.run(live(taken))


async def test_steps_crash_indeed() -> None:
    crashing: list[Step] = [("register", 0, 0, n) for n in range(5)] + [("work", 0, 1, n) for n in range(5)]
    assert await live(crashing) >= 5
