"""Any interleaving of pushes, pulls, sealing and restarts, by two processes.

Each puller gets exactly the entries after its position, in order."""

from __future__ import annotations

import asyncio
import tempfile
from contextlib import AsyncExitStack
from pathlib import Path
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from store.streams.catalogue import Wish, put
from store.streams.entries import entries_of
from store.streams.flows import Stream
from store.streams.hot import Sizes
from store.streams.streams import Options, Streams
from store.streams.visiting import Anyone
from tests.store.harness import Tams, running_tams
from tests.streams.support import seal_all

SIZES = Sizes(entries=4, file_bytes=400)
WRITERS, PULLERS = 2, 3

steps = st.one_of(
    st.tuples(
        st.just("push"), st.integers(0, WRITERS - 1), st.lists(st.integers(0, 60), min_size=1, max_size=6)
    ),
    st.tuples(st.just("pull"), st.integers(0, PULLERS - 1), st.integers(0, WRITERS - 1), st.integers(1, 5)),
    st.tuples(st.just("seal"), st.integers(0, WRITERS - 1)),
    st.tuples(st.just("restart"), st.integers(0, WRITERS - 1)),
    st.tuples(st.just("open"), st.integers(0, PULLERS - 1), st.sampled_from(["first", "next", "newest"])),
)


class World:
    """Two processes' worth of streams on one folder, and what a model knows of it."""

    def __init__(self, tams: Tams, folder: Path, *, shared: bool) -> None:
        self.tams = tams
        self.options = Options(folder, sizes=SIZES, shared=shared)
        self.writers = [Streams(tams.store, self.options) for _ in range(WRITERS)]
        self.entries: list[tuple[int, bytes]] = []
        self.positions = dict.fromkeys(range(PULLERS), 0)
        self.stream: Stream

    async def begin(self) -> None:
        """Make the stream."""
        await put(Anyone(self.tams.store), "s", Wish(), merge=False)
        self.stream = await self.writers[0].find("s")

    async def push(self, writer: int, lengths: list[int]) -> None:
        """Entries, each unlike any other."""
        data = [b"%d:" % (len(self.entries) + n) + bytes(size) for n, size in enumerate(lengths)]
        ids = await self.writers[writer].append(self.stream, entries_of(data))
        assert not self.entries or ids[0] > self.entries[-1][0]
        self.entries += zip(ids, data, strict=True)

    async def pull(self, puller: int, writer: int, count: int) -> None:
        """What comes next for a puller, whichever process it asks."""
        streams, after = self.writers[writer], self.positions[puller]
        await streams.last(self.stream)
        page = await streams.read(self.stream, after, count, 200)
        expected = [entry for entry in self.entries if entry[0] > after]
        found = list(page.entries())
        assert found == expected[: len(found)]
        assert bool(found) == bool(expected) and len(found) <= count
        if found:
            self.positions[puller] = found[-1][0]

    async def seal(self, writer: int) -> None:
        """Seal all that one process can."""
        await seal_all(self.writers[writer])

    async def restart(self, writer: int) -> None:
        """A process ends and another begins."""
        await self.writers[writer].stop()
        self.writers[writer] = Streams(self.tams.store, self.options)

    async def open(self, puller: int, where: str) -> None:
        """A puller begins anew."""
        streams = self.writers[puller % WRITERS]
        ids = [id_ns for id_ns, _ in self.entries]
        if where == "first":
            self.positions[puller] = 0
        elif where == "next":
            found = self.positions[puller] = await streams.last(self.stream)
            assert found == ids[-1] if ids else found <= self.stream.created_ns
        else:
            self.positions[puller] = await streams.before_newest(self.stream, 3)
            assert [each for each in ids if each > self.positions[puller]] == ids[-3:]


async def played(story: list[tuple[Any, ...]], *, shared: bool) -> None:
    async with AsyncExitStack() as stack:
        folder = Path(stack.enter_context(tempfile.TemporaryDirectory()))
        tams = await stack.enter_async_context(running_tams(folder))
        world = World(tams, folder / "hot", shared=shared)
        await world.begin()
        for name, *arguments in story:
            await getattr(world, name)(*arguments)
        for puller in world.positions:
            while world.entries and world.positions[puller] < world.entries[-1][0]:
                await world.pull(puller, puller % WRITERS, 5)
        for writer in world.writers:
            await writer.stop()


stories = st.lists(steps, max_size=25)


@settings(max_examples=25, deadline=None, suppress_health_check=[HealthCheck.too_slow])
@given(stories)
def test_every_puller_gets_what_comes_after_its_position(story: list[tuple[Any, ...]]) -> None:
    asyncio.run(played(story, shared=False))


@settings(max_examples=15, deadline=None, suppress_health_check=[HealthCheck.too_slow])
@given(stories)
def test_so_does_each_of_a_stream_that_machines_share(story: list[tuple[Any, ...]]) -> None:
    asyncio.run(played(story, shared=True))


@pytest.mark.slow
@settings(max_examples=600, deadline=None, suppress_health_check=[HealthCheck.too_slow])
@given(stories, st.booleans())
def test_every_puller_does_in_many_stories(story: list[tuple[Any, ...]], shared: bool) -> None:
    asyncio.run(played(story, shared=shared))
