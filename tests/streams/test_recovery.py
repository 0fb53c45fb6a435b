"""What a process finds that another left: torn records, half a seal, flows that have gone."""

from __future__ import annotations

import asyncio
import os
import threading
from contextlib import AbstractAsyncContextManager
from pathlib import Path
from typing import Any

import pytest

from store.app import Running, run_store
from store.domain.collections import flow_ref
from store.media.files import Files
from store.streams.catalogue import Wish, put
from store.streams.entries import entries_of
from store.streams.flows import Stream
from store.streams.hot import HotFolder, Sizes
from store.streams.log import HotLog
from store.streams.records import record
from store.streams.sealing import Sealer
from store.streams.streams import Options, Streams, folder_name
from store.streams.visiting import Anyone
from tests.store.harness import KEY, Tams, settings_of
from tests.streams.support import seal_all

SIZES = Sizes(entries=4, file_bytes=400)


class House:
    """A stream on a folder, and processes that come and go."""

    def __init__(self, tams: Tams, folder: Path) -> None:
        self.tams = tams
        self.options = Options(folder, sizes=SIZES)
        self.stream: Stream

    async def process(self) -> Streams:
        """A process that begins."""
        streams = Streams(self.tams.store, self.options)
        if not hasattr(self, "stream"):
            await put(Anyone(self.tams.store), "s", Wish(), merge=False)
            self.stream = await streams.find("s")
        return streams

    @property
    def folder(self) -> Path:
        """Where the stream's hot log is."""
        return self.options.folder / folder_name(self.stream)

    def newest(self) -> Path:
        """The file that is appended to."""
        return max(self.folder.glob("*.log"))

    async def found(self, streams: Streams) -> list[tuple[int, bytes]]:
        """All that can be read."""
        found: list[tuple[int, bytes]] = []
        while True:
            page = await streams.read(self.stream, found[-1][0] if found else 0, 100, 1 << 20)
            if not page.ids:
                return found
            found += page.entries()

    async def pushed(self, streams: Streams, *entries: bytes) -> list[tuple[int, bytes]]:
        """Entries with their ids."""
        ids = [(await streams.append(self.stream, entries_of([each])))[0] for each in entries]
        return list(zip(ids, entries, strict=True))


@pytest.fixture
def house(tams: Tams, tmp_path: Path) -> House:
    return House(tams, tmp_path / "hot")


@pytest.mark.parametrize(
    "torn", [b"\0", b"\xff" * 200, bytes(4096), None], ids=["short", "noise", "zeros", "part"]
)
async def test_a_torn_record_is_cut_off(house: House, torn: bytes | None) -> None:
    streams = await house.process()
    entries = await house.pushed(streams, b"a", b"b")
    await streams.stop()
    path = house.newest()
    whole = path.read_bytes()
    # The last record again, without its end.
    path.write_bytes(whole + (whole[-20:-5] if torn is None else torn))
    streams = await house.process()
    assert await house.found(streams) == entries
    entries += await house.pushed(streams, b"c")
    assert await house.found(streams) == entries
    other = await house.process()
    assert await house.found(other) == entries
    await streams.stop()
    await other.stop()


async def test_a_file_without_its_header_is_put_aside(house: House) -> None:
    streams = await house.process()
    entries = await house.pushed(streams, b"a", b"b")
    await streams.stop()
    (house.folder / f"{int(house.newest().stem) + 1:016d}.log").write_bytes(b"")
    streams = await house.process()
    assert await house.found(streams) == entries
    entries += await house.pushed(streams, *(b"%d" % number for number in range(9)))
    assert await house.found(streams) == entries
    await streams.stop()


STEPS = {"place": Sealer, "adopt": Files, "pin": Files, "register": Sealer, "drop": HotLog}


async def unable(*arguments: Any) -> None:
    """As a backend that cannot make a file an object."""


@pytest.mark.parametrize("step", [*STEPS, "write"])
@pytest.mark.parametrize("after", [False, True])
async def test_a_seal_that_was_cut_off_is_done_again(
    house: House, monkeypatch: pytest.MonkeyPatch, step: str, after: bool
) -> None:
    """The process dies before a step of sealing, or right after it."""
    streams = await house.process()
    entries = await house.pushed(streams, *(b"%d" % number for number in range(10)))

    class Died(Exception):
        pass

    owner: Any = STEPS.get(step, Files)
    work = getattr(owner, step)

    async def dying(*arguments: Any, **more: Any) -> Any:
        if after:
            await work(*arguments, **more)
        raise Died

    with monkeypatch.context() as patch:
        if step == "write":
            patch.setattr(Files, "adopt", unable)
        patch.setattr(owner, step, dying)
        with pytest.raises(Died):
            await seal_all(streams)
    await streams.stop()
    streams = await house.process()
    assert await house.found(streams) == entries
    await seal_all(streams)
    assert await house.found(streams) == entries
    segments = await house.tams.segments(house.stream.flow_id)
    assert sum(each["sample_count"] for each in segments) == 10
    assert len(list(house.folder.glob("*.log"))) == 1
    entries += await house.pushed(streams, b"more")
    assert await house.found(streams) == entries
    await streams.stop()


@pytest.mark.parametrize("once", [False, True])
async def test_sealed_entries_are_read_in_either_form(
    house: House, monkeypatch: pytest.MonkeyPatch, once: bool
) -> None:
    """As the file that they were in, and as a copy."""
    streams = await house.process()
    entries = await house.pushed(streams, *(b"%d" % number for number in range(10)))
    with monkeypatch.context() as patch:
        if once:
            patch.setattr(Files, "adopt", unable)
        await seal_all(streams)
    entries += await house.pushed(streams, *(b"more %d" % number for number in range(10)))
    await seal_all(streams)
    await streams.stop()
    streams = await house.process()
    assert await house.found(streams) == entries
    assert await streams.last(house.stream) == entries[-1][0]
    await streams.stop()


async def test_an_object_that_cannot_be_written_any_more_is_left_as_it_is(house: House) -> None:
    streams = await house.process()
    entries = await house.pushed(streams, b"a", b"b")
    log = await streams._log_of(house.stream)
    assert isinstance(log, HotLog) and await log.rotate(0)
    first = log.files[0]
    first.finish()
    os.chmod(first.path, 0o400)
    whole = first.path.read_bytes()
    await streams.stop()
    streams = await house.process()
    assert await house.found(streams) == entries
    await seal_all(streams)
    objects = house.tams.settings.data.glob("media-*/objects/**/*")
    assert whole in [path.read_bytes() for path in objects if path.is_file()]
    assert await house.found(streams) == entries
    await streams.stop()


async def test_what_is_behind_the_records_of_a_dead_process_never_turns_up(house: House) -> None:
    """A power cut kept a later part of what was never acknowledged, and not its beginning."""
    streams = await house.process()
    entries = await house.pushed(streams, b"a")
    await streams.stop()
    end = house.newest().stat().st_size
    entry_bytes = record([1], entries_of([b"b"]), 0)[1].end
    with house.newest().open("r+b") as file:
        file.seek(end + entry_bytes)
        file.write(record([2**62], entries_of([b"never"]), end + entry_bytes)[0] + b"never")
    streams = await house.process()
    entries += await house.pushed(streams, b"b")
    await streams.stop()
    streams = await house.process()
    assert await house.found(streams) == entries
    await streams.stop()


async def test_a_log_that_was_lost_goes_on_behind_what_is_sealed(house: House) -> None:
    streams = await house.process()
    entries = await house.pushed(streams, *(b"%d" % number for number in range(10)))
    await seal_all(streams)
    await streams.stop()
    HotFolder(house.folder, SIZES).remove()
    streams = await house.process()
    assert await house.found(streams) == entries
    assert await streams.last(house.stream) == entries[-1][0]
    entries += await house.pushed(streams, b"more")
    assert await house.found(streams) == entries
    await streams.stop()


async def until(claim: Any) -> None:
    async with asyncio.timeout(20):
        while not claim():
            await asyncio.sleep(0.02)


async def test_a_new_process_seals_what_a_dead_one_left(house: House) -> None:
    streams = await house.process()
    entries = await house.pushed(streams, b"a", b"b")
    await streams.stop()
    streams = await house.process()
    streams.start()
    async with asyncio.timeout(20):
        while not await house.tams.segments(house.stream.flow_id):
            await asyncio.sleep(0.05)
    assert await house.found(streams) == entries
    await streams.stop()


async def test_the_log_of_a_flow_that_has_gone_goes_too(house: House) -> None:
    streams = await house.process()
    await house.pushed(streams, b"a")
    await house.tams.delete(f"/flows/{house.stream.flow_id}")
    await seal_all(streams)
    assert not house.folder.exists()
    await streams.stop()
    streams = await house.process()
    house.folder.mkdir(parents=True)
    streams.start()
    await until(lambda: not house.folder.exists())
    await streams.stop()


async def test_a_log_that_comes_into_use_while_others_are_closed_stays_open(
    house: House, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("store.streams.streams.IDLE", 0)
    streams, found = await house.process(), []
    for name in ("one", "other"):
        await put(Anyone(house.tams.store), name, Wish(), merge=False)
        found.append(await streams.find(name))
        await streams.append(found[-1], entries_of([b"1"]))
    closing = asyncio.create_task(streams._close_idle())
    await asyncio.sleep(0)
    async with streams.waiting(found[1:]) as woken:
        await closing
        assert list(streams._open) == [found[1].key]
        woken.clear()
        await streams.append(found[1], entries_of([b"2"]))
        assert woken.is_set()


async def test_a_stop_closes_all_logs_though_another_is_being_opened(
    house: House, monkeypatch: pytest.MonkeyPatch
) -> None:
    streams, closed = await house.process(), list[HotLog]()
    await put(Anyone(house.tams.store), "late", Wish(), merge=False)
    late = await streams.find("late")
    await house.pushed(streams, b"1")
    opening = asyncio.create_task(streams.append(late, entries_of([b"1"])))
    close = HotLog.close

    async def close_late(log: HotLog) -> None:
        closed.append(log)
        await asyncio.wait([opening])
        await close(log)

    monkeypatch.setattr(HotLog, "close", close_late)
    await streams.stop()
    assert len(await opening) == 1 and len(closed) == 2
    assert not any(log.files for log in closed)


async def test_a_foreign_segment_in_the_way_loses_nothing(house: House) -> None:
    streams = await house.process()
    entries = await house.pushed(streams, *(b"%d" % number for number in range(6)))
    await house.tams.segment(house.stream.flow_id, "[0:0_9000000000:0)")
    await seal_all(streams)
    assert await house.found(streams) == entries
    await streams.stop()


async def test_what_another_seals_in_the_very_turn_of_a_read_is_not_passed_over(tmp_path: Path) -> None:
    settings, options = settings_of(tmp_path), Options(tmp_path / "hot", sizes=SIZES)

    def opened() -> AbstractAsyncContextManager[Running]:
        return run_store(settings, media_keys=(KEY,), cursor_keys=(KEY,), webhook_keys=(KEY,), jobs=())

    async def seal() -> None:
        async with opened() as running:
            streams = Streams(running.store, options)
            await streams.read(await streams.find("s"), 0, 1, 1)
            await seal_all(streams)
            await streams.stop()

    async with opened() as running:
        streams = Streams(running.store, options)
        await put(Anyone(running.store), "s", Wish(), merge=False)
        stream = await streams.find("s")
        ids = [id for n in range(10) for id in await streams.append(stream, entries_of([bytes([n])]))]
        log = streams._open[stream.key].log
        assert isinstance(log, HotLog)
        await asyncio.sleep(0)
        # One turn: a read of metadata, then what other threads and processes do meanwhile.
        await running.store.metadata.row(flow_ref(stream.flow_id), None)
        for work in (lambda: asyncio.run(seal()), log._folder.refresh):
            thread = threading.Thread(target=work)
            thread.start()
            thread.join()
        page = await streams.read(stream, 0, 1, 1 << 20)
        assert page.ids == ids[:1]
        await streams.stop()
