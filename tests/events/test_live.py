"""Live streams of a running store."""

from __future__ import annotations

import asyncio
import threading
from dataclasses import replace
from typing import Any

import pytest

from store.app import StoreApp
from store.events.live import Live
from store.events.retention import KEPT_NS
from store.events.tail import Tail
from tests.events.conftest import Running
from tests.events.listeners import App, Listening, listen
from tests.events.support import until
from tests.store.harness import Tams, seconds

BOTH = pytest.mark.parametrize("socket", [False, True], ids=["sse", "websocket"])


def app_of(tams: Tams, **more: Any) -> App:
    """The store's application, its streams in haste and with other limits where they are given."""
    parts = replace(tams.running.events.live._parts, beat_s=0.02, **more)
    tams.running.events.live = Live(parts)
    return StoreApp(tams.running, 1 << 20)


@BOTH
async def test_events_come_as_they_happen_with_ids(tams: Tams, socket: bool) -> None:
    app = app_of(tams)
    await tams.flow()
    stream = await listen(app, socket=socket)
    flow = await tams.flow()
    await tams.put(f"/flows/{flow['id']}/label", "one")
    await stream.came(3)
    assert stream.types == ["sources/created", "flows/created", "flows/updated"]
    assert stream.events[1]["event"]["flow"]["id"] == flow["id"]
    assert set(stream.events[0]) == {"event_timestamp", "event_type", "event"}
    assert len(set(stream.ids)) == 3
    await stream.leave()


async def test_listeners_take_no_threads_of_their_own(tams: Tams) -> None:
    app, count = app_of(tams), 64
    before = threading.active_count()
    streams = [await listen(app, socket=bool(number % 2)) for number in range(count)]
    await tams.flow()
    for stream in streams:
        await stream.came(2)
    # The database has a few threads for all, which begin when they are needed.
    assert threading.active_count() - before < count // 4
    for stream in streams:
        await stream.leave()


@BOTH
async def test_filters_and_options_are_those_of_a_webhook(tams: Tams, socket: bool) -> None:
    app = app_of(tams)
    flow, other = await tams.flow(), await tams.flow()
    query = f"events=segment.uploaded,flows/updated&flow_ids={flow['id']}&accept_get_urls="
    stream = await listen(app, query + "&include_object_timerange=true", socket=socket)
    for each in (other, flow):
        await tams.segment(each["id"], seconds(0, 1))
        await tams.put(f"/flows/{each['id']}/label", "x")
    await stream.came(2)
    assert stream.types == ["flows/segments_added", "flows/updated"]
    (segment,) = stream.events[0]["event"]["segments"]
    assert segment["get_urls"] == [] and segment["object_timerange"] == seconds(0, 1)
    await stream.leave()


@BOTH
async def test_a_listener_goes_on_from_the_last_id_it_saw(tams: Tams, socket: bool) -> None:
    app = app_of(tams)
    stream = await listen(app, "events=flows/created", socket=socket)
    flows = [await tams.flow() for _ in range(3)]
    await stream.came(3)
    await stream.leave()
    flows.append(await tams.flow())
    told = [f["id"] for f in flows]
    again = await listen(app, f"events=flows/created&after={stream.ids[0]}", socket=socket)
    await again.came(3)
    assert [e["event"]["flow"]["id"] for e in again.events] == told[1:]
    header = [(b"last-event-id", stream.ids[2].encode())]
    by_header = await listen(
        app, f"events=flows/created&after={stream.ids[0]}", socket=socket, headers=header
    )
    await by_header.came(1)
    assert [e["event"]["flow"]["id"] for e in by_header.events] == told[3:]
    await again.leave()
    await by_header.leave()


async def test_ids_tell_nothing_of_how_much_happened(tams: Tams) -> None:
    stream = await listen(app_of(tams))
    await tams.flow()
    await stream.came(2)
    one, two = stream.ids
    assert len(one) == len(two) > 40
    assert one[3:12] != two[3:12]
    await stream.leave()


@BOTH
@pytest.mark.parametrize(
    ("query", "status"),
    [
        ("after=nonsense", 400),
        ("events=flows/exploded", 400),
        ("flow_ids=x", 400),
        ("presigned=perhaps", 400),
        ("after=a&after=b", 400),
        ("after=%ff", 400),
    ],
)
async def test_bad_requests_are_refused_before_anything_is_sent(
    tams: Tams, socket: bool, query: str, status: int
) -> None:
    stream = await listen(app_of(tams), query, socket=socket)
    assert stream.status == status
    assert b'"summary"' in stream.body


async def test_other_methods_and_other_sockets_are_refused(tams: Tams) -> None:
    app = app_of(tams)
    assert (await listen(app, method="POST")).status == 405
    head = await listen(app, method="HEAD")
    await until(lambda: head.ended)
    assert (head.status, head.body) == (200, b"")
    assert (await listen(app, socket=True, path="/flows")).status == 404


async def test_an_id_that_is_forgotten_is_gone_and_an_old_one_that_is_not_goes_on(tams: Tams) -> None:
    later = [0]
    now_ns = tams.store.now_ns
    app = app_of(tams, now_ns=lambda: now_ns() + later[0])
    stream = await listen(app, "events=flows/created")
    await tams.flow()
    await stream.came(1)
    await stream.leave()
    mark = stream.ids[0]
    later[0] = 2 * KEPT_NS
    still = await listen(app, f"after={mark}")
    assert still.status == 200
    await still.leave()
    await tams.flow()
    await tams.store.metadata.forget_events(now_ns() + 1)
    assert (await listen(app, f"after={mark}")).status == 410


async def test_silence_is_broken_by_heartbeats(tams: Tams) -> None:
    stream = await listen(app_of(tams))
    await until(lambda: stream.beats >= 3)
    assert not stream.events
    await stream.leave()


async def test_there_is_room_for_so_many_and_it_is_given_back(tams: Tams) -> None:
    app = app_of(tams, most=2)
    streams = [await listen(app), await listen(app, socket=True)]
    assert (await listen(app)).status == 503
    assert (await listen(app, socket=True)).status == 503
    await streams[0].leave()
    again = await listen(app)
    assert again.status == 200
    for stream in (streams[1], again):
        await stream.leave()


async def test_a_listener_that_reads_slowly_is_waited_for_and_misses_nothing(tams: Tams) -> None:
    app = app_of(tams)
    slow = await listen(app, "events=flows/created")
    slow.open.clear()
    flows = [await tams.flow() for _ in range(20)]
    assert len(slow.events) <= 1
    slow.open.set()
    await slow.came(20)
    assert [e["event"]["flow"]["id"] for e in slow.events] == [f["id"] for f in flows]
    await slow.leave()


async def test_a_listener_that_takes_nothing_is_given_up(tams: Tams, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("store.routes.events.SEND_S", 0.02)
    stream = await listen(app_of(tams, most=1))
    stream.open.clear()
    await tams.flow()
    assert stream.task is not None
    async with asyncio.timeout(20):
        await stream.task


async def test_events_of_another_process_arrive_too(running: Running) -> None:
    async with running() as one, running() as two:
        stream: Listening = await listen(app_of(one), "events=flows/created")
        await two.flow()
        await stream.came(1)
        await stream.leave()


async def test_an_event_that_the_tail_has_not_come_to_is_not_taken_for_forgotten(tams: Tams) -> None:
    tail = Tail(tams.store.metadata)
    await tail._read()
    await tams.flow()
    events = await tams.store.metadata.events(0, 10)
    for _ in range(2):
        for stored in events:
            assert await tail.after(stored.sequence, 10) == tail._events[stored.sequence :]
            assert await tail.event(stored.sequence) == stored
        assert await tail.event(events[-1].sequence + 1) is None
        await tail._read()


@BOTH
async def test_streams_end_when_the_server_stops_and_none_begins(tams: Tams, socket: bool) -> None:
    app = app_of(tams)
    live = tams.running.events.live
    streams = [await listen(app, "events=flows/created", socket=socket) for _ in range(2)]
    await tams.flow()
    for stream in streams:
        await stream.came(1)
    await live.end()
    assert all(stream.ended for stream in streams)
    assert (await listen(app, socket=socket)).status == 503


@BOTH
async def test_a_stream_that_is_cut_off_ends_in_good_order(tams: Tams, socket: bool) -> None:
    stream = await listen(app_of(tams), "events=flows/created", socket=socket)
    await tams.flow()
    await stream.came(1)
    assert stream.task is not None
    stream.task.cancel()
    await asyncio.wait([stream.task])
    assert stream.task.cancelled() and stream.ended
