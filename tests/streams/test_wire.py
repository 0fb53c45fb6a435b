"""The wire at the root, by a plain WebSocket client."""

from __future__ import annotations

import asyncio
import json
from typing import Any

import pytest
from websockets.exceptions import ConnectionClosed

from store.streams.ids import id_of
from tests.store.harness import Tams
from tests.streams.support import Wire, batch, closed, cut, seal_all, soon, taken, taken_all

PARTS = [("a", b"one"), ("a", b"two")]


async def test_a_ping_is_answered(wire: Wire) -> None:
    assert await wire.made("GET", "/ping") is True


async def test_a_stream_is_made_described_listed_changed_and_deleted(wire: Wire) -> None:
    query = {"desc": "A camera", "meta": '{"fps": 25}', "max_len": "100"}
    made = {"id": "cam", "description": "A camera", "metadata": {"fps": 25}, "max_len": 100}
    assert await wire.made("PUT", "/streams/cam", params=query) == made
    assert await wire.made("GET", "/streams/cam") == made
    assert await wire.made("GET", "/streams") == await wire.made("GET", "/streams/") == ["cam"]
    again = await wire.http("PUT", "/streams/cam")
    assert again.status_code == 400 and "override" in again.json()["detail"]
    other = {"id": "cam", "description": None, "metadata": {}, "max_len": None}
    assert await wire.made("PUT", "/streams/cam", params={"override": "true"}) == other
    assert await wire.made("DELETE", "/streams/cam") is True
    assert await wire.made("GET", "/streams") == []


async def test_an_absent_stream_is_told_unless_nobody_asks(wire: Wire) -> None:
    assert (await wire.http("GET", "/streams/none")).status_code == 404
    assert (await wire.http("GET", "/streams/none?report_error=true")).status_code == 404
    assert await wire.made("GET", "/streams/none?report_error=false") is None
    assert (await wire.http("GET", "/data/none")).json() == {"detail": "No such stream."}
    assert (await wire.http("DELETE", "/streams/none")).status_code == 404
    assert await wire.made("DELETE", "/streams/none?force=true") is True
    assert await wire.refused("/data/none/pull") == (404, {"detail": "No such stream."})


async def test_entries_come_in_by_a_form_and_make_their_stream(wire: Wire) -> None:
    ids = await wire.made("POST", "/data/new", files=PARTS)
    assert len(ids) == 2 and id_of(ids[0]) < id_of(ids[1])
    answer = await wire.http("GET", "/data/new?count=5")
    assert answer.headers["content-type"] == "application/octet-stream"
    assert json.loads(answer.headers["entry-offset"]) == [[ids[0], 0], [ids[1], 3]]
    assert answer.content == b"onetwo"


@pytest.mark.parametrize(
    ("content", "kind"),
    [
        (b"", "multipart/form-data; boundary=x"),
        (b"--x\r\n\r\none", "multipart/form-data; boundary=x"),
        (b"--x--\r\n", "multipart/form-data; boundary=x"),
        (b"one", "multipart/form-data"),
        (b"one", "application/octet-stream"),
        (b"a=b", "application/x-www-form-urlencoded"),
        (b"{}", "application/json"),
    ],
)
async def test_a_form_that_cannot_be_read_changes_nothing(wire: Wire, content: bytes, kind: str) -> None:
    answer = await wire.http("POST", "/data/new", content=content, headers={"content-type": kind})
    assert answer.status_code == 400 and isinstance(answer.json()["detail"], str)
    assert await wire.made("GET", "/streams") == []


@pytest.mark.parametrize(
    ("query", "expected"),
    [
        ("", "d"),
        ("?count=2", "cd"),
        ("?count=99", "abcd"),
        ("?count=2&last_entry_id=*", "cd"),
        ("?last_entry_id=$", ""),
        ("?count=9&last_entry_id=$", ""),
        ("?count=9&last_entry_id=0", "abcd"),
        ("?count=2&last_entry_id=0-0", "ab"),
        ("?count=9&last_entry_id={1}", "cd"),
        ("?count=1&last_entry_id={1}", "c"),
        ("?count=9&last_entry_id={3}", ""),
        ("?count=9&last_entry_id=9223372036853-0", ""),
        ("?count=123456789012345678901234567890", "abcd"),
    ],
)
async def test_entries_are_read_from_where_one_says(wire: Wire, query: str, expected: str) -> None:
    ids = await wire.pushed("s", *(letter.encode() for letter in "abcd"))
    answer = await wire.http("GET", f"/data/s{query.format(*ids)}")
    found = cut(json.loads(answer.headers["entry-offset"]), answer.content)
    assert found == [(ids["abcd".index(letter)], letter.encode()) for letter in expected]


BAD_QUERIES = [
    "count=0",
    "count=-1",
    "count=x",
    "count=1.5",
    "count=",
    "count=1&count=2",
    "last_entry_id=",
    "last_entry_id=x",
    "last_entry_id=1-",
    "last_entry_id=-1",
    "last_entry_id=1-1000000",
    "last_entry_id=1-*",
    "last_entry_id=999999999999999-0",
    "last_entry_id=1 2",
    "last_entry_id=%ff",
    "last_entry_id=%00",
]


async def test_a_query_that_cannot_be_is_400_on_both_doors(wire: Wire) -> None:
    await wire.pushed("s", b"x")
    for query in BAD_QUERIES:
        assert (await wire.http("GET", f"/data/s?{query}")).status_code == 400, query
        status, body = await wire.refused(f"/data/s/pull?{query.replace(' ', '%20')}")
        assert status == 400 and isinstance(body["detail"], str), query


async def test_a_push_asks_for_what_there_is(wire: Wire) -> None:
    for query in ("batch=2", "ack=yes", "batch=true&batch=true"):
        assert (await wire.refused(f"/data/s/push?{query}"))[0] == 400, query
    assert await wire.made("GET", "/streams") == []


BAD_STREAMS = ["meta=x", "meta=[1]", 'meta={"a":1,"a":2}', "max_len=0", "max_len=x", "override=2", "meta=NaN"]


async def test_a_stream_that_cannot_be_is_not_made(wire: Wire) -> None:
    for query in BAD_STREAMS:
        answer = await wire.http("PUT", f"/streams/s?{query}")
        assert answer.status_code == 400 and isinstance(answer.json()["detail"], str), query
    assert await wire.made("GET", "/streams") == []


BAD_NAMES = ["a%2Fb", "a,b", "a%20b", "a%2Bb", "a+b", "*", "$", "x" * 129, "%00", "%ff", "%0A"]


async def test_a_name_that_cannot_be_is_400(wire: Wire) -> None:
    for sid in BAD_NAMES:
        for method, path in (("PUT", f"/streams/{sid}"), ("GET", f"/data/{sid}"), ("GET", f"/streams/{sid}")):
            assert (await wire.http(method, path)).status_code == 400, (method, path)
        for way in ("push", "pull"):
            assert (await wire.refused(f"/data/{sid}/{way}"))[0] == 400, (way, sid)


NAMES = ["11111111-1111-4111-8111-111111111119", "Käse", "a", "a.b_c~d", "test:0", "x" * 128]


async def test_names_are_free(wire: Wire) -> None:
    for sid in NAMES:
        ids = await wire.pushed(sid, b"x")
        async with wire.socket(f"/data/{sid}/pull?last_entry_id=0") as pull:
            assert await taken(pull) == [(ids[0], b"x")]
    assert await wire.made("GET", "/streams") == sorted(NAMES)


async def test_each_message_is_an_entry_acknowledged_in_order(wire: Wire) -> None:
    async with wire.socket("/data/s/push?ack=true") as push:
        for number in range(50):
            await push.send(b"%d" % number)
        ids = [str(await soon(push.recv())) for _ in range(50)]
    assert [id_of(each) for each in ids] == sorted(id_of(each) for each in set(ids))
    answer = await wire.http("GET", "/data/s?count=99")
    found = cut(json.loads(answer.headers["entry-offset"]), answer.content)
    assert found == [(each, b"%d" % number) for number, each in enumerate(ids)]


async def test_without_acknowledgement_nothing_is_said(wire: Wire) -> None:
    async with wire.socket("/data/s/push") as push, wire.socket("/data/s/pull?last_entry_id=0") as pull:
        await push.send(b"one")
        await push.send(b"")
        assert [data for _, data in await taken_all(pull, 2)] == [b"one", b""]
        await push.close()
        with pytest.raises(ConnectionClosed):
            await push.recv()


async def test_batches_are_acknowledged_by_the_ids_of_their_entries(wire: Wire) -> None:
    async with wire.socket("/data/s/push?ack=true&batch=true") as push:
        ids = await batch(push, b"a", b"", b"ccc")
        assert len(ids) == 3
        await push.send("[1,1,4]")
        await push.send(b"addd")
        more = str(await soon(push.recv())).split(",")
    async with wire.socket("/data/s/pull?last_entry_id=0&count=100") as pull:
        found = await taken_all(pull, 6)
    assert found == list(zip(ids + more, [b"a", b"", b"ccc", b"a", b"", b"ddd"], strict=True))


TEXT, BYTES = "text", b"bytes"
BAD_FRAMES: list[tuple[str, list[Any], int]] = [
    ("", [TEXT], 1003),
    ("?ack=true", [TEXT], 1003),
    ("?batch=true", [BYTES], 1003),
    ("?batch=true", ["0", TEXT], 1003),
    ("?batch=true", ["x", BYTES], 1007),
    ("?batch=true", ["", BYTES], 1007),
    ("?batch=true", ["1", BYTES], 1007),
    ("?batch=true", ["0,9", BYTES], 1007),
    ("?batch=true", ["0,3,1", BYTES], 1007),
    ("?batch=true", ["[", BYTES], 1007),
    ("?batch=true", ["[1,2]", BYTES], 1007),
    ("?batch=true", ['[["s",2]]', BYTES], 1007),
    ("?batch=true", ['[["other",5]]', BYTES], 1008),
    ("?batch=true", ['[["s","1-0",2],["s","1-0",5]]', BYTES], 1008),
    ("?batch=true", ['[["s","2-0",2],["s","1-0",5]]', BYTES], 1008),
]


@pytest.mark.parametrize(("query", "frames", "code"), BAD_FRAMES)
async def test_a_bad_frame_closes_with_its_reason_and_changes_nothing(
    wire: Wire, query: str, frames: list[Any], code: int
) -> None:
    async with wire.socket(f"/data/s/push{query}") as push:
        for frame in frames:
            await push.send(frame)
        found, reason = await closed(push)
    assert found == code and reason
    answer = await wire.http("GET", "/data/s?last_entry_id=0&count=9")
    assert answer.status_code == 200 and answer.content == b""
    assert await wire.made("GET", "/streams") == ["s"]


async def test_what_was_acknowledged_before_a_bad_frame_stays(wire: Wire) -> None:
    async with wire.socket("/data/s/push?batch=true&ack=true") as push:
        ids = await batch(push, b"good")
        await push.send("nonsense")
        await push.send(b"bad")
        assert (await closed(push))[0] == 1007
    answer = await wire.http("GET", "/data/s?last_entry_id=0&count=9")
    assert json.loads(answer.headers["entry-offset"]) == [[ids[0], 0]]


async def test_a_message_over_16_mib_is_refused(wire: Wire) -> None:
    async with wire.socket("/data/s/push") as push:
        with pytest.raises(ConnectionClosed):
            await push.send(bytes((16 << 20) + 1))
            await soon(push.recv())
        assert push.close_code == 1009


async def test_an_entry_of_16_mib_comes_through(wire: Wire) -> None:
    entry = bytes(16 << 20)
    async with wire.socket("/data/s/push?ack=true") as push:
        await push.send(entry)
        await soon(push.recv())
    async with wire.socket("/data/s/pull?last_entry_id=*") as pull:
        ((_, found),) = await taken(pull)
    assert found == entry


async def test_a_pull_waits_and_gives_what_comes_after_it_was_opened(wire: Wire) -> None:
    await wire.pushed("s", b"before")
    async with wire.socket("/data/s/pull") as pull:
        ids = await wire.pushed("s", b"one", b"two")
        assert await taken_all(pull, 2) == [(ids[0], b"one"), (ids[1], b"two")]
        later = await wire.pushed("s", b"three")
        assert await taken(pull) == [(later[0], b"three")]


@pytest.mark.parametrize(
    ("after", "expected"), [("*", "cd"), ("0", "abcd"), ("{1}", "cd"), ("$", "d"), ("{2}", "d")]
)
async def test_a_pull_begins_where_one_says(wire: Wire, after: str, expected: str) -> None:
    ids = await wire.pushed("s", b"a", b"b", b"c")
    async with wire.socket(f"/data/s/pull?last_entry_id={after.format(*ids)}") as pull:
        ids += await wire.pushed("s", b"d")
        found = await taken_all(pull, len(expected))
    assert found == [(ids["abcd".index(letter)], letter.encode()) for letter in expected]


async def test_a_message_has_at_most_count_entries(wire: Wire) -> None:
    ids = await wire.pushed("s", *(b"%d" % number for number in range(7)))
    async with wire.socket("/data/s/pull?count=3&last_entry_id=0") as pull:
        sizes = [len(await taken(pull)) for _ in range(3)]
        assert sizes == [3, 3, 1]
    async with wire.socket(f"/data/s/pull?count=3&last_entry_id={ids[5]}") as pull:
        assert await taken(pull) == [(ids[6], b"6")]


async def test_pulls_of_a_deleted_stream_are_told_why(wire: Wire) -> None:
    await wire.pushed("s", b"a")
    async with wire.socket("/data/s/pull") as pull, wire.socket("/data/s/push?ack=true") as push:
        await wire.made("DELETE", "/streams/s")
        assert (await closed(pull))[0] == 1008
        await push.send(b"x")
        assert (await closed(push))[0] == 1008
    assert await wire.made("GET", "/streams") == []


async def test_a_stream_made_anew_begins_empty(wire: Wire) -> None:
    before = await wire.pushed("s", b"old")
    await wire.made("DELETE", "/streams/s")
    after = await wire.pushed("s", b"new")
    answer = await wire.http("GET", "/data/s?last_entry_id=0&count=9")
    assert answer.content == b"new" and id_of(after[0]) > id_of(before[0])


async def test_who_goes_makes_room(wire: Wire, tams: Tams) -> None:
    """An idle pull notices that its client has gone."""
    await wire.pushed("s", b"a")
    async with wire.socket("/data/s/pull"):
        (log,) = [each.log for each in tams.running.streams.streams._open.values()]
        async with asyncio.timeout(20):
            while len(log.waiters) != 1:
                await asyncio.sleep(0.01)
    async with asyncio.timeout(20):
        while log.waiters:
            await asyncio.sleep(0.01)


async def test_there_are_sockets_nowhere_else(wire: Wire) -> None:
    for path in ("/data/s", "/data/s/other", "/data", "/streams/s/pull", "/ptg/x", "/ping"):
        assert (await wire.refused(path))[0] in (404, 405), path


OTHERS = [
    ("POST", "/streams", 405),
    ("PATCH", "/streams/s", 405),
    ("DELETE", "/data/s", 405),
    ("GET", "/data/s/pull", 405),
    ("GET", "/data/", 404),
    ("GET", "/ptg/nothing", 404),
    ("GET", "/streamsx", 404),
]


async def test_other_paths_and_methods_are_refused(wire: Wire) -> None:
    for method, path, status in OTHERS:
        assert (await wire.http(method, path)).status_code == status, (method, path)


async def test_a_read_only_stream_takes_no_entries(wire: Wire) -> None:
    await wire.pushed("s", b"a")
    (flow,) = await wire.made("GET", "/flows?tag.stream_id=s")
    await wire.http("PUT", f"/flows/{flow['id']}/read_only", json=True)
    assert await wire.refused("/data/s/push") == (403, {"detail": "The stream is read-only."})
    assert (await wire.http("GET", "/data/s")).content == b"a"


async def test_a_flow_that_is_no_stream_is_none(wire: Wire, tams: Tams) -> None:
    flow = await tams.flow()
    assert (await wire.http("GET", f"/data/{flow['id']}")).status_code == 404
    assert (await wire.http("PUT", f"/streams/{flow['id']}?override=true")).status_code == 400
    assert (await wire.refused(f"/data/{flow['id']}/push"))[0] == 404


async def test_segments_are_added_only_before_what_is_live(wire: Wire, tams: Tams) -> None:
    """Or else entries could not be sealed: their time would be taken."""
    stream = await wire.made("PUT", "/streams/s")
    (flow,) = await wire.made("GET", f"/flows?tag.stream_id={stream['id']}")
    path = f"/flows/{flow['id']}/segments"

    async def post(timerange: str) -> dict[str, str]:
        return {"object_id": await tams.upload(flow["id"]), "timerange": timerange}

    await tams.post(path, await post("[1:0_2:0)"))
    (first,) = await wire.pushed("s", b"a")
    for timerange in ("[3:0_9000000000:0)", "[8000000000:0_9000000000:0)", "[2:0_3:0)"):
        refused = await tams.post(path, await post(timerange), 400)
        assert "live stream" in refused.json()["summary"]
    both = [await post("[0:0_1:0)"), await post("[3:0_4:0)")]
    (failed,) = (await tams.post(path, both, 200)).json()["failed_segments"]
    assert failed["timerange"] == "[3:0_4:0)" and "live stream" in failed["error"]["summary"]
    await seal_all(tams.running.streams.streams)
    later = await wire.pushed("s", b"b")
    await seal_all(tams.running.streams.streams)
    within = f"[{id_of(first) // 10**9}:{id_of(first) % 10**9}_"
    assert [each["sample_count"] for each in await wire.made("GET", f"{path}?timerange={within}")] == [1, 1]
    answer = await wire.http("GET", "/data/s?count=10&last_entry_id=0")
    assert [each for each, _ in json.loads(answer.headers["entry-offset"])] == [first, *later]
