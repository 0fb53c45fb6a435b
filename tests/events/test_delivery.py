"""Deliveries on a running store: what arrives, in which order, and what becomes of failures."""

from __future__ import annotations

import asyncio
from typing import Any

import pytest

from store.errors import Unavailable
from store.events.admission import Admitted, Lapsed
from store.events.hooks import Hook, opened_secret
from store.events.retention import KEPT_NS, forget_taken
from store.events.schedule import Schedule
from store.events.sealing import Seal, Unreadable
from store.events.sender import Answer
from store.events.sharing import Seats
from store.events.signing import signature
from store.metadata.rows import Event, Kind, Ref
from tests.events.conftest import Running
from tests.events.support import OK, Recorder, Sent, delivering, hook, status_is, until
from tests.store.harness import KEY, Tams, seconds

ALL = ["flows/created", "flows/updated", "flows/deleted", "sources/created"]
DOWN = Answer(None, "The receiver cannot be reached.")


async def changed(tams: Tams, flow: dict[str, Any], *labels: str) -> None:
    for label in labels:
        await tams.put(f"/flows/{flow['id']}/label", label)


def labels(sent: list[Sent]) -> list[str]:
    return [each.message["event"]["flow"].get("label", "") for each in sent]


async def test_events_arrive_once_in_order_signed_and_with_their_key(tams: Tams) -> None:
    recorder = Recorder()
    said = {"api_key_name": "X-Key", "api_key_value": "secret", "events": ALL}
    made = await hook(tams, **said)
    delivering(tams, recorder)
    flow = await tams.flow()
    await changed(tams, flow, "one", "two", "three")
    await tams.delete(f"/flows/{flow['id']}")
    await until(lambda: len(recorder.sent) >= 6)
    types = [each.message["event_type"] for each in recorder.sent if each.message["event_type"][0] == "f"]
    assert types == ["flows/created", *["flows/updated"] * 3, "flows/deleted"]
    assert len({each.id for each in recorder.sent}) == 6
    for each in recorder.sent:
        assert each.headers["X-Key"] == "secret"
        sent_s = int(each.headers["webhook-timestamp"])
        assert each.headers["webhook-signature"] == signature("secret", each.id, sent_s, each.body)
    await status_is(tams, made["id"], "started")


async def test_what_happened_before_a_webhook_is_not_for_it(tams: Tams) -> None:
    recorder = Recorder()
    await tams.flow()
    await hook(tams)
    after = await tams.flow()
    delivering(tams, recorder)
    await until(lambda: bool(recorder.sent))
    await tams.flow()
    await until(lambda: len(recorder.sent) == 2)
    assert recorder.sent[0].message["event"]["flow"]["id"] == after["id"]


async def test_a_failed_delivery_is_repeated_with_its_id_and_its_flow_waits_for_it(tams: Tams) -> None:
    fails = iter([Answer(500, "no"), DOWN, Answer(302, "away")])
    recorder = Recorder(lambda sent: next(fails, OK) if labels([sent]) == ["one"] else OK)
    await hook(tams, events=["flows/updated"])
    delivering(tams, recorder)
    flow, other = await tams.flow(), await tams.flow()
    await changed(tams, flow, "one", "two")
    await changed(tams, other, "else")
    await until(lambda: len(recorder.sent) == 6)
    mine = [each for each in recorder.sent if each.message["event"]["flow"]["id"] == flow["id"]]
    assert labels(mine) == ["one"] * 4 + ["two"]
    assert len({each.id for each in mine[:4]}) == 1


async def test_a_dead_receiver_delays_nobody(tams: Tams) -> None:
    never: asyncio.Future[Answer] = asyncio.get_running_loop().create_future()
    recorder = Recorder(lambda sent: never if "dead" in sent.url else OK)
    await hook(tams, url="https://dead.example/")
    await hook(tams, url="https://alive.example/")
    delivering(tams, recorder)
    for _ in range(50):
        await tams.flow()
    await until(lambda: len(recorder.to("https://alive.example/")) == 50)
    assert len(recorder.to("https://dead.example/")) <= 32
    never.set_result(DOWN)


async def test_a_receiver_that_is_gone_disables_the_webhook(tams: Tams) -> None:
    recorder = Recorder(lambda sent: Answer(410, "gone"))
    made = await hook(tams)
    delivering(tams, recorder)
    await tams.flow()
    found = await status_is(tams, made["id"], "disabled")
    assert "410" in found["error"]["summary"]
    count = len(recorder.sent)
    await tams.flow()
    recorder.answer = lambda sent: OK
    body = {**made, "status": "created"}
    await tams.put(f"/service/webhooks/{made['id']}", body, 201)
    last = await tams.flow()
    await until(lambda: len(recorder.sent) > count)
    assert recorder.sent[count].message["event"]["flow"]["id"] == last["id"]


async def test_failing_too_long_ends_in_error_and_created_replays_what_was_missed(tams: Tams) -> None:
    recorder = Recorder(lambda sent: Answer(503, "The receiver answered 503."))
    made = await hook(tams)
    delivering(tams, recorder, schedule=Schedule(0.01, 1, 0.01, give_up_s=0.1))
    flows = [await tams.flow() for _ in range(3)]
    found = await status_is(tams, made["id"], "error")
    assert "503" in found["error"]["summary"]
    assert len(recorder.sent) > 1
    recorder.sent.clear()
    recorder.answer = lambda sent: OK
    flows.append(await tams.flow())
    await tams.put(f"/service/webhooks/{made['id']}", {**made, "status": "created"}, 201)
    await until(lambda: len(recorder.sent) == 4)
    told = {each.message["event"]["flow"]["id"] for each in recorder.sent}
    assert told == {flow["id"] for flow in flows}
    found = await status_is(tams, made["id"], "started")
    assert "error" not in found


async def test_nothing_is_lost_by_a_restart_and_what_is_through_is_not_repeated(running: Running) -> None:
    recorder = Recorder(lambda sent: DOWN if labels([sent]) == ["stuck"] else OK)
    async with running() as tams:
        await hook(tams, events=["flows/updated"])
        delivering(tams, recorder)
        flow, other = await tams.flow(), await tams.flow()
        await changed(tams, flow, "stuck", "behind")
        await changed(tams, other, "through")
        await until(lambda: "through" in labels(recorder.sent) and "stuck" in labels(recorder.sent))
    first = {each.id for each in recorder.sent if labels([each]) == ["stuck"]}
    async with running() as tams:
        await changed(tams, flow, "later")
        again = Recorder()
        delivering(tams, again)
        await until(lambda: len(again.sent) >= 3)
    assert labels(again.sent) == ["stuck", "behind", "later"]
    assert {again.sent[0].id} == first


async def test_processes_share_the_work_and_take_over(running: Running) -> None:
    """Two stores on one database, as two processes are."""
    one, two = Recorder(), Recorder()
    async with running() as first:
        hooks = [await hook(first, url=f"https://{n}.example/") for n in range(8)]
        async with running() as second:
            delivering(first, one)
            delivering(second, two)
            for each in hooks:
                await status_is(first, each["id"], "started")
            # An event of the one process reaches webhooks that the other has.
            await second.flow()
            await until(lambda: len(one.sent) + len(two.sent) >= 8)
            assert len(one.sent) + len(two.sent) == 8
        await first.flow()
        await until(lambda: len(one.sent) + len(two.sent) >= 16)
    urls = sorted(each.url for each in one.sent + two.sent)
    assert urls == sorted([each["url"] for each in hooks] * 2)


async def test_processes_that_join_and_leave_move_the_work_evenly(running: Running) -> None:
    recorders = [Recorder(), Recorder(), Recorder()]

    def held(*stores: Tams) -> list[int]:
        found = [store.running.events.deliveries for store in stores]
        return [len(each._held) for each in found if each is not None]

    async with running() as first:
        for n in range(7):
            await hook(first, url=f"https://{n}.example/")
        delivering(first, recorders[0], renew_s=0.05)
        await until(lambda: held(first) == [7])
        async with running() as second:
            delivering(second, recorders[1], renew_s=0.05)
            await until(lambda: sorted(held(first, second)) == [3, 4])
            async with running() as third:
                delivering(third, recorders[2], renew_s=0.05)
                await until(lambda: sorted(held(first, second, third)) in ([2, 2, 3], [1, 3, 3]))
                await third.flow()
                await until(lambda: sum(len(each.sent) for each in recorders) >= 7)
            await until(lambda: sorted(held(first, second)) == [3, 4])
            await first.flow()
            await until(lambda: sum(len(each.sent) for each in recorders) >= 14)
    assert len({each.url for recorder in recorders for each in recorder.sent}) == 7
    assert all(recorder.sent for recorder in recorders)


async def test_a_process_that_takes_no_share_of_the_work_keeps_nobody_waiting(tams: Tams) -> None:
    ghost = Seats(tams.store.metadata, "ghost", tams.store.now_ns, 60 * 10**9)
    assert await ghost.count() == 1
    hooks = [await hook(tams, url=f"https://{n}.example/") for n in range(4)]
    recorder = Recorder()
    delivering(tams, recorder)
    await tams.flow()
    await until(lambda: len(recorder.sent) == len(hooks))


async def test_seats_are_counted_and_the_lowest_are_taken(tams: Tams) -> None:
    now = [0]
    seats = [Seats(tams.store.metadata, f"p{n}", lambda: now[0], 60) for n in range(5)]
    assert [await each.count() for each in seats] == [1, 2, 3, 4, 5]
    assert [await each.count() for each in seats] == [5] * 5
    await seats[1].leave()
    await seats[2].leave()
    assert [await seats[n].count() for n in (4, 3, 0)] == [3, 3, 3]
    now[0] = 50
    assert await seats[3].count() == 3
    now[0] = 70
    assert await seats[3].count() == 1
    assert await seats[0].count() == 2


async def test_only_what_is_admitted_is_sent_as_it_was_redacted(tams: Tams) -> None:
    async def admit(owner: bytes | None, event: Event) -> Admitted | None:
        if event.body["flow"].get("label") == "hidden":
            return None
        known = Event(event.type, event.time_ns, {"flow": {"id": "redacted"}}, frozenset(), event.flow_id)
        return Admitted(known, None)

    recorder = Recorder()
    await hook(tams)
    delivering(tams, recorder, admit=admit)
    await tams.flow(label="hidden")
    await tams.flow(label="open")
    await until(lambda: bool(recorder.sent))
    (only,) = recorder.sent
    assert only.message["event"] == {"flow": {"id": "redacted"}}


async def test_collections_are_matched_as_far_as_the_owner_knows_them(tams: Tams) -> None:
    async def admit(owner: bytes | None, event: Event) -> Admitted:
        return Admitted(Event(event.type, event.time_ns, event.body, frozenset(), event.flow_id), None)

    recorder = Recorder()
    await hook(tams, url="https://none.example/", flow_collected_by_ids=[], events=["flows/updated"])
    member = await tams.flow()
    parent = await tams.collection(member)
    await hook(
        tams, url="https://some.example/", flow_collected_by_ids=[parent["id"]], events=["flows/updated"]
    )
    delivering(tams, recorder, admit=admit)
    await changed(tams, member, "now")
    await until(lambda: "now" in labels(recorder.sent))
    assert {each.url for each in recorder.sent} == {"https://none.example/"}


async def test_while_nobody_can_decide_nothing_is_sent_and_nothing_dropped(
    tams: Tams, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("store.events.lanes.POSTPONED_NS", 1_000_000)
    down, asked = [True], []

    async def admit(owner: bytes | None, event: Event) -> Admitted:
        asked.append(event)
        if down[0]:
            raise Unavailable("The engine is down.")
        return Admitted(event, None)

    recorder = Recorder()
    made = await hook(tams)
    delivering(tams, recorder, admit=admit)
    await tams.flow()
    await until(lambda: len(asked) > 3)
    assert not recorder.sent
    await status_is(tams, made["id"], "started")
    down[0] = False
    await until(lambda: len(recorder.sent) == 1)


async def test_an_owner_whose_rights_have_lapsed_ends_in_error(tams: Tams) -> None:
    async def admit(owner: bytes | None, event: Event) -> Admitted:
        raise Lapsed("The owner has not called for 30 days.")

    recorder = Recorder()
    made = await hook(tams)
    delivering(tams, recorder, admit=admit)
    await tams.flow()
    found = await status_is(tams, made["id"], "error")
    assert found["error"]["summary"] == "The owner has not called for 30 days."
    assert not recorder.sent


async def test_a_disabled_or_deleted_webhook_gets_nothing_any_more(tams: Tams) -> None:
    recorder = Recorder()
    one, two = await hook(tams), await hook(tams, url="https://two.example/")
    delivering(tams, recorder)
    await status_is(tams, one["id"], "started")
    await status_is(tams, two["id"], "started")
    await tams.put(f"/service/webhooks/{one['id']}", {**one, "status": "disabled"}, 201)
    await tams.delete(f"/service/webhooks/{two['id']}")
    deliveries = tams.running.events.deliveries
    assert deliveries is not None
    await deliveries.look()
    await tams.flow()
    third = await hook(tams, url="https://three.example/")
    await status_is(tams, third["id"], "started")
    await tams.flow()
    await until(lambda: bool(recorder.sent))
    assert {each.url for each in recorder.sent} == {"https://three.example/"}
    rows = await tams.store.metadata.rows([Ref(Kind.DELIVERY, two["id"])])
    assert not rows


async def test_many_events_of_many_flows_all_arrive_in_their_order(tams: Tams) -> None:
    recorder = Recorder()
    await hook(tams, events=["flows/segments_added"])
    flows = [await tams.flow() for _ in range(5)]
    delivering(tams, recorder)
    for second in range(12):
        for flow in flows:
            body = {
                "object_id": f"{flow['id']}-{second}",
                "timerange": seconds(second, second + 1),
                "get_urls": [{"url": "https://elsewhere.example/x"}],
            }
            await tams.post(f"/flows/{flow['id']}/segments", body)
    await until(lambda: len(recorder.sent) == 60)
    for flow in flows:
        events = [each.message["event"] for each in recorder.sent]
        mine = [event["segments"][0]["timerange"] for event in events if event["flow_id"] == flow["id"]]
        assert mine == [seconds(n, n + 1) for n in range(12)]


async def test_events_are_kept_until_every_webhook_has_them_or_they_are_too_old(tams: Tams) -> None:
    metadata, now_ns = tams.store.metadata, tams.store.now_ns
    recorder = Recorder(lambda sent: DOWN)
    made = await hook(tams)
    delivering(tams, recorder)
    await tams.flow()
    await until(lambda: bool(recorder.sent))
    week_ns = 7 * KEPT_NS

    async def kept(later_ns: int) -> int:
        await forget_taken(metadata, now_ns() + later_ns, week_ns)
        return len(await metadata.events(0, 100))

    count = await kept(0)
    assert count == 2
    assert await kept(2 * KEPT_NS) == count
    taken: list[Sent] = []

    def take(sent: Sent) -> Answer:
        taken.append(sent)
        return OK

    recorder.answer = take
    await until(lambda: bool(taken))
    deliveries = tams.running.events.deliveries
    assert deliveries is not None
    await deliveries.stop()
    tams.running.events.deliveries = None
    assert await kept(KEPT_NS // 2) == count
    assert await kept(2 * KEPT_NS) == 0
    await tams.flow()
    assert await kept(2 * KEPT_NS) == 2
    assert await kept(week_ns + KEPT_NS) == 0
    await tams.flow()
    await tams.put(f"/service/webhooks/{made['id']}", {**made, "status": "disabled"}, 201)
    assert await kept(2 * KEPT_NS) == 0


async def test_secrets_are_sealed_anew_when_the_key_was_rotated(running: Running) -> None:
    recorder = Recorder()
    async with running() as tams:
        made = await hook(tams, api_key_name="X-Key", api_key_value="secret")
        older, newer = tams.store.seal, Seal((b"n" * 32, KEY))
        tams.running.events.seal = newer
        delivering(tams, recorder)
        await status_is(tams, made["id"], "started")
        await tams.flow()
        await until(lambda: bool(recorder.sent))
        row = (await tams.store.metadata.rows([Ref(Kind.WEBHOOK, made["id"])])).popitem()[1]
    assert recorder.sent[0].headers["X-Key"] == "secret"
    assert opened_secret(Seal((b"n" * 32,)), Hook.of(row)) == "secret"
    with pytest.raises(Unreadable):
        opened_secret(older, Hook.of(row))


async def test_a_secret_whose_key_is_lost_ends_in_error(tams: Tams) -> None:
    made = await hook(tams, api_key_name="X-Key", api_key_value="secret")
    tams.running.events.seal = Seal((b"x" * 32,))
    recorder = Recorder()
    delivering(tams, recorder)
    await tams.flow()
    found = await status_is(tams, made["id"], "error")
    assert "secret" in found["error"]["summary"]
    assert not recorder.sent
