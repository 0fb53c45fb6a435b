"""The later wire under `/ptg`: several streams, JSON headers, recordings."""

from __future__ import annotations

import asyncio
import json
from dataclasses import replace
from typing import Any
from uuid import uuid4

import pytest

from store.streams import recordings
from store.streams.flows import flow_id_of
from store.streams.ids import id_of
from tests.streams.support import Wire, closed, cut, soon, taken, taken_all


async def put(wire: Wire, sid: str, **said: Any) -> Any:
    return await wire.made("PUT", f"/streams/{sid}", json=said)


async def both(wire: Wire, *names: str) -> dict[str, list[str]]:
    """Entries in streams, one after the other in turn; their ids."""
    found: dict[str, list[str]] = {}
    for number in range(3):
        for name in names:
            found.setdefault(name, []).extend(await wire.pushed(name, f"{name}{number}".encode()))
    return found


async def test_a_stream_is_merged_unless_it_is_replaced(later: Wire) -> None:
    made = await put(later, "s", desc="one", meta={"a": 1})
    assert made == {"id": "s", "description": "one", "metadata": {"a": 1}, "max_len": None}
    merged = await put(later, "s", metadata={"b": 2}, max_len=5)
    assert merged == {"id": "s", "description": "one", "metadata": {"a": 1, "b": 2}, "max_len": 5}
    replaced = await put(later, "s", meta={"c": 3}, override=True)
    assert replaced == {"id": "s", "description": None, "metadata": {"c": 3}, "max_len": None}
    assert await later.made("PUT", "/streams/other") == {
        "id": "other",
        "description": None,
        "metadata": {},
        "max_len": None,
    }
    named = await later.made("PUT", "/streams", json={"id": "named", "max_len": 7})
    assert named == {"id": "named", "description": None, "metadata": {}, "max_len": 7}
    for body in ({}, {"id": 5}, {"id": "a/b"}):
        assert (await later.http("PUT", "/streams", json=body)).status_code == 400
    assert await later.made("GET", "/streams") == ["named", "other", "s"]


BAD_BODIES = [
    b"[]", b"[null]", b"x", b'{"meta": 1}', b'{"meta": {}, "meta": {}}', b'{"max_len": "5"}',
    b'{"max_len": 0}',
    b'{"max_len": true}', b'{"desc": 5}', b'{"override": "yes"}', b'{"meta": {"a": NaN}}',
]  # fmt: skip


async def test_a_body_that_cannot_be_is_400(later: Wire) -> None:
    for body in BAD_BODIES:
        answer = await later.http("PUT", "/streams/s", content=body)
        assert answer.status_code == 400 and isinstance(answer.json()["detail"], str), body
    assert await later.made("GET", "/streams") == []


async def test_entries_come_with_the_name_of_their_stream(later: Wire) -> None:
    (one,) = await later.pushed("s", b"x")
    answer = await later.http("GET", "/data/s")
    assert json.loads(answer.headers["entry-offset"]) == [["s", one, 0]]
    async with later.socket("/data/s/pull?last_entry_id=0") as pull:
        assert await taken(pull) == [("s", one, b"x")]


async def test_several_streams_are_read_as_one(later: Wire) -> None:
    ids = await both(later, "a", "b")
    everything = sorted(
        ((name, each, f"{name}{number}".encode()) for name in "ab" for number, each in enumerate(ids[name])),
        key=lambda entry: id_of(entry[1]),
    )
    answer = await later.http("GET", "/data/a+b?last_entry_id=0&count=9")
    assert cut(json.loads(answer.headers["entry-offset"]), answer.content) == everything
    behind = f"{ids['a'][1]}+{ids['b'][0]}"
    answer = await later.http("GET", f"/data/a+b?last_entry_id={behind}&count=9")
    names = [
        (name, data) for name, _, data in cut(json.loads(answer.headers["entry-offset"]), answer.content)
    ]
    assert sorted(names) == [("a", b"a2"), ("b", b"b1"), ("b", b"b2")]
    async with later.socket("/data/a+b/pull?last_entry_id=0&count=2") as pull:
        found = await taken_all(pull, 6)
    for name in "ab":
        assert [each for sid, each, _ in found if sid == name] == ids[name]


async def test_one_push_goes_to_several_streams(later: Wire) -> None:
    await put(later, "a")
    async with later.socket("/data/a+b/push?batch=true&ack=true") as push:
        await push.send('[["a",2],["b",5],["a",6]]')
        await push.send(b"aabbbA")
        ids = str(await soon(push.recv())).split(",")
    answer = await later.http("GET", "/data/a+b?last_entry_id=0&count=9")
    found = cut(json.loads(answer.headers["entry-offset"]), answer.content)
    assert sorted(found) == [("a", ids[0], b"aa"), ("a", ids[2], b"A"), ("b", ids[1], b"bbb")]


async def test_a_star_takes_whatever_streams_the_header_names(later: Wire) -> None:
    await put(later, "a")
    async with later.socket("/data/*/push?batch=true&ack=true") as push:
        await push.send('[["a",2]]')
        await push.send(b"aa")
        assert await soon(push.recv())
        await push.send('[["absent",2]]')
        await push.send(b"aa")
        assert (await closed(push))[0] == 1008


async def test_a_socket_has_so_many_streams_and_no_more(later: Wire) -> None:
    for number in range(65):
        await later.made("PUT", f"/streams/s{number}")
    async with later.socket("/data/*/push?batch=true&ack=true") as push:
        for number in range(64):
            await push.send(f'[["s{number}",1]]')
            await push.send(b"x")
            assert await soon(push.recv())
        await push.send('[["s64",1]]')
        await push.send(b"x")
        assert (await closed(push))[0] == 1008


async def test_the_sender_may_choose_ids(later: Wire) -> None:
    async with later.socket("/data/s/push?batch=true&ack=true") as push:
        await push.send('[["s","1000-5",1],["s","1000-*",2],["s","2000-*",3],["s","*",4]]')
        await push.send(b"abcd")
        ids = str(await soon(push.recv())).split(",")
        assert ids[:3] == ["1000-5", "1000-6", "2000-0"] and id_of(ids[3]) > id_of("1700000000000-0")
        await push.send('[["s","1000-7",1]]')
        await push.send(b"x")
        code, reason = await closed(push)
    assert code == 1008 and "greater" in reason


BAD_QUERIES = [
    "timeout=0", "timeout=-1", "timeout=x", "timeout=99999999999", "latest=2", "ack=x", "rate_limit=0",
    "rate_limit=x", "rate_limit=-1", "rate_limit=1e9", "rate_limit=nan", "time_sync_id=c", "time_sync_id=2",
    "time_sync_id=-1", "last_entry_id=0+0+0", "last_entry_id=0+x", "last_entry_id=+",
]  # fmt: skip
MANY = "+".join(f"s{number}" for number in range(65))
BAD_PATHS = ["a+a/pull", "a++b/pull", "+/pull", "a+b/push", "*/push", f"{MANY}/pull"]


async def test_a_wish_that_cannot_be_is_400(later: Wire) -> None:
    await both(later, "a", "b")
    for path in [*BAD_PATHS, *(f"a+b/pull?{query}" for query in BAD_QUERIES)]:
        status, body = await later.refused(f"/data/{path}")
        assert status == 400 and isinstance(body["detail"], str), path


async def test_of_several_streams_none_may_be_absent(later: Wire) -> None:
    await later.pushed("a", b"x")
    assert await later.refused("/data/a+none/pull") == (404, {"detail": "No such stream."})
    assert (await later.http("GET", "/data/a+none")).status_code == 404


async def test_a_pull_without_entries_ends_in_time(later: Wire) -> None:
    await later.pushed("s", b"x")
    async with later.socket("/data/s/pull?timeout=50") as pull:
        assert (await closed(pull))[0] == 1000


async def test_the_newest_alone_can_be_had(later: Wire) -> None:
    ids = await later.pushed("s", *(b"%d" % number for number in range(9)))
    async with later.socket("/data/s/pull?last_entry_id=0&latest=true&count=2") as pull:
        assert await taken(pull) == [("s", ids[7], b"7"), ("s", ids[8], b"8")]


async def test_the_client_can_say_when_to_go_on(later: Wire) -> None:
    await later.pushed("s", b"a", b"b")
    async with later.socket("/data/s/pull?last_entry_id=0&ack=true") as pull:
        ((_, _, first),) = await taken(pull)
        with pytest.raises(TimeoutError):
            async with asyncio.timeout(0.2):
                await pull.recv()
        await pull.send("on")
        ((_, _, second),) = await taken(pull)
    assert (first, second) == (b"a", b"b")


async def test_messages_come_no_faster_than_asked(later: Wire) -> None:
    await later.pushed("s", *(b"%d" % number for number in range(6)))
    loop = asyncio.get_running_loop()
    # Before the server can have begun: what this side is late with makes the time longer, and not shorter.
    began = loop.time()
    async with later.socket("/data/s/pull?last_entry_id=0&rate_limit=20") as pull:
        await taken_all(pull, 6)
    assert loop.time() - began > 0.24


async def test_streams_can_go_by_the_pace_of_one(later: Wire) -> None:
    order = ["lead", "other", "other", "lead", "lead", "other", "lead"]
    ids = [(name, (await later.pushed(name, b"%d" % number))[0]) for number, name in enumerate(order)]
    for sync in ("lead", "0"):
        async with later.socket(f"/data/lead+other/pull?last_entry_id=0&time_sync_id={sync}") as pull:
            found = [[(sid, each) for sid, each, _ in await taken(pull)] for _ in range(4)]
        assert found == [[ids[0]], [ids[2], ids[3]], [ids[4]], [ids[5], ids[6]]]


async def test_what_happens_meanwhile_is_recorded(later: Wire) -> None:
    await later.pushed("a", b"before")
    assert await later.made("GET", "/recordings/current") is None
    assert (await later.http("PUT", "/recordings/stop")).status_code == 400
    begun = await later.made("PUT", "/recordings/start?rec_id=take1")
    assert begun["id"] == "take1" and begun["stop"] is None
    assert await later.made("GET", "/recordings/current") == begun
    assert (await later.http("PUT", "/recordings/start?rec_id=take2")).status_code == 400
    ids = {name: await later.pushed(name, b"%s1" % name.encode(), b"2") for name in ("a", "b")}
    done = await later.made("PUT", "/recordings/stop")
    assert sorted(done["streams"]) == ["a", "b"] and done["duration"] > 0
    await later.pushed("a", b"after")
    assert await later.made("GET", "/recordings") == ["take1"]
    assert await later.made("GET", "/recordings?info=true") == [done]
    assert await later.made("GET", "/recordings/take1") == done
    async with later.socket("/recordings/replay?rec_id=take1&fullspeed=true") as replayed:
        found = await taken_all(replayed, 4)
        assert (await closed(replayed))[0] == 1000
    assert [(sid, each) for sid, each, _ in found] == [("a", each) for each in ids["a"]] + [
        ("b", each) for each in ids["b"]
    ]
    for query in ("rec_id=take1&sid=b", "rec_id=take1&sid=b&interval=5"):
        async with later.socket(f"/recordings/replay?{query}") as replayed:
            assert [each for _, each, _ in await taken_all(replayed, 2)] == ids["b"]


async def test_recordings_are_renamed_and_deleted_alone(later: Wire) -> None:
    await later.made("PUT", "/recordings/start?rec_id=one")
    await later.pushed("a", b"x")
    await later.made("PUT", "/recordings/stop")
    await later.made("PUT", "/recordings/start")
    assert (await later.http("PUT", "/recordings/none/rename/two")).status_code == 404
    assert (await later.made("PUT", "/recordings/one/rename/two"))["id"] == "two"
    assert (await later.http("GET", "/recordings/one")).status_code == 404
    assert (await later.http("PUT", "/recordings/two/rename/two")).status_code == 400
    assert await later.made("DELETE", "/recordings/two") is True
    assert (await later.http("DELETE", "/recordings/two")).status_code == 404
    assert len(await later.made("GET", "/recordings")) == 1
    assert (await later.http("GET", "/data/a")).content == b"x"


async def test_a_recording_that_names_a_stream_often_replays_it_once(later: Wire) -> None:
    """Whoever writes a recording's flow may say so: each name would read ahead, and hold what it read."""
    (entry,) = await later.pushed("a", b"x")
    ids = [flow_id_of("a")]
    for name in ("b", "c"):
        await later.pushed(name, b"y")
        ids.append(flow_id_of(name))
    flow_id = str(uuid4())
    flow = {
        "id": flow_id,
        "source_id": str(uuid4()),
        "format": recordings.MULTI,
        "tags": {recordings.ID_TAG: "often", recordings.START_TAG: "0"},
        "flow_collection": [{"id": each, "role": "a"} for each in ids],
    }
    assert (await replace(later, prefix="").http("PUT", f"/flows/{flow_id}", json=flow)).status_code == 201
    async with later.socket("/recordings/replay?rec_id=often&fullspeed=true") as replayed:
        assert await taken_all(replayed, 1) == [("a", entry, b"x")]
        assert (await closed(replayed))[0] == 1000


BAD_REPLAYS = [
    ("", 400),
    ("rec_id=none", 404),
    ("rec_id=a,b", 400),
    ("rec_id=one&interval=-1", 400),
    ("rec_id=one&interval=x", 400),
    ("rec_id=one&fullspeed=2", 400),
    ("rec_id=one&sid=none", 404),
    ("rec_id=one&sid=a+a", 400),
    ("rec_id=one&sid=", 400),
]


async def test_a_replay_that_cannot_be_is_refused(later: Wire) -> None:
    await later.made("PUT", "/recordings/start?rec_id=one")
    await later.pushed("a", b"x")
    await later.made("PUT", "/recordings/stop")
    for query, status in BAD_REPLAYS:
        assert (await later.refused(f"/recordings/replay?{query}"))[0] == status, query
