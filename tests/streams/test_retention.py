"""What streams keep: by number, by age, by size."""

from __future__ import annotations

from pathlib import Path

import pytest

from store.streams.catalogue import Wish, put
from store.streams.entries import Wanted, entries_of
from store.streams.flows import Retention, Stream
from store.streams.hot import Sizes
from store.streams.streams import Options, Streams
from store.streams.visiting import Anyone
from store.timerange import NS_PER_S
from tests.store.harness import Tams
from tests.streams.support import seal_all

SIZES = Sizes(entries=10, file_bytes=10_000)


async def made(tams: Tams, folder: Path, max_len: int | None = None, **kept: int) -> tuple[Streams, Stream]:
    """Streams that are kept so, and one of them."""
    streams = Streams(tams.store, Options(folder, sizes=SIZES, retention=Retention(**kept)))
    await put(Anyone(tams.store), "s", Wish(max_len=max_len), merge=False)
    return streams, await streams.find("s")


async def pushed(streams: Streams, stream: Stream, count: int, size: int = 1) -> list[int]:
    ids: list[int] = []
    for _ in range(count):
        ids += await streams.append(stream, entries_of([bytes(size)]))
    return ids


async def kept(streams: Streams, stream: Stream) -> list[int]:
    """The ids of all that can be read."""
    found: list[int] = []
    while (page := await streams.read(stream, found[-1] if found else 0, 100, 1 << 20)).ids:
        found += page.ids
    return found


async def segments(tams: Tams, stream: Stream) -> int:
    return len(await tams.get(f"/flows/{stream.flow_id}/segments"))


@pytest.mark.parametrize("sealed", [False, True])
async def test_exactly_the_newest_are_read(tams: Tams, tmp_path: Path, sealed: bool) -> None:
    streams, stream = await made(tams, tmp_path / "hot", max_len=25)
    ids = await pushed(streams, stream, 60)
    if sealed:
        await seal_all(streams)
    assert await kept(streams, stream) == ids[-25:]
    ids += await pushed(streams, stream, 3)
    assert await kept(streams, stream) == ids[-25:]
    await streams.stop()


async def test_segments_of_which_nothing_is_kept_go(tams: Tams, tmp_path: Path) -> None:
    streams, stream = await made(tams, tmp_path / "hot", max_len=25)
    ids = await pushed(streams, stream, 60)
    await seal_all(streams)
    await seal_all(streams)
    assert await segments(tams, stream) == 3
    assert await kept(streams, stream) == ids[-25:]
    await streams.stop()


async def test_what_is_too_old_is_not_read_and_goes(tams: Tams, tmp_path: Path) -> None:
    streams, stream = await made(tams, tmp_path / "hot", age_s=3600)
    old = tams.store.now_ns() - 7200 * NS_PER_S
    ids = await streams.append(stream, entries_of([b"old"] * 10, [Wanted(old + n) for n in range(10)]))
    ids = await pushed(streams, stream, 15)
    assert await kept(streams, stream) == ids
    await seal_all(streams)
    await seal_all(streams)
    assert await kept(streams, stream) == ids
    assert await segments(tams, stream) == 2
    await streams.stop()


async def test_what_is_too_much_goes_and_the_newest_segment_stays(tams: Tams, tmp_path: Path) -> None:
    streams, stream = await made(tams, tmp_path / "hot", size_bytes=5_000)
    ids = await pushed(streams, stream, 50, size=900)
    await seal_all(streams)
    await seal_all(streams)
    assert 1 <= await segments(tams, stream) <= 2
    found = await kept(streams, stream)
    assert found and found == ids[-len(found) :]
    await streams.stop()


async def test_a_stream_whose_tags_say_so_is_kept_otherwise(tams: Tams, tmp_path: Path) -> None:
    streams, stream = await made(tams, tmp_path / "hot", entries=5)
    ids = await pushed(streams, stream, 20)
    assert await kept(streams, stream) == ids[-5:]
    await tams.put(f"/flows/{stream.flow_id}/tags/stream_max_len", "12")
    stream = await streams.find("s")
    assert await kept(streams, stream) == ids[-12:]
    await streams.stop()
