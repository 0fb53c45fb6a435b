"""The order of deliveries, against everything that receivers may do."""

from __future__ import annotations

from hypothesis import given, settings
from hypothesis import strategies as st

from store.events.lanes import Lanes
from store.events.progress import Progress
from store.events.schedule import NS, Schedule

SCHEDULE = Schedule(first_s=5, factor=3, longest_s=3600, give_up_s=86_400)


def lanes(progress: Progress | None = None, room: int = 8) -> Lanes:
    return Lanes(progress or Progress(0), SCHEDULE, room, lambda: 0.5)


def kept(one: Lanes) -> Lanes:
    """As a process that starts anew finds it."""
    return lanes(Progress.of(one.progress(()).document("id")))


Step = tuple[str, int]
steps = st.lists(
    st.tuples(
        st.sampled_from(("take", "ok", "ok", "fail", "postpone", "none", "wait", "restart")),
        st.integers(0, 9),
    ),
    max_size=80,
)


@settings(max_examples=300)
@given(st.lists(st.sampled_from("abc-"), max_size=25), steps)
def test_every_event_is_delivered_each_flow_in_order_whatever_happens(
    flows: list[str], given: list[Step]
) -> None:
    """`-` stands for an event that is not for this webhook. What is through before a restart may come again,
    in order, unless it was written down."""
    wanted = {n: lane for n, lane in enumerate(flows, 1) if lane != "-"}
    one, now = lanes(), 0
    going: list[int] = []
    through: list[int] = []

    def fill() -> None:
        while one.free and one.reached < len(flows):
            number = one.reached + 1
            if number in wanted:
                one.offer(number, wanted[number])
            else:
                one.skip(number)

    def settle(number: int, delivered: bool) -> None:
        going.remove(number)
        through.append(number)
        one.settled(number, delivered=delivered)

    def act(what: str, which: int) -> None:
        nonlocal one, now
        if what == "take":
            taken = one.take(now, 4)
            assert not {wanted[n] for n in taken} & {wanted[n] for n in going}
            going.extend(taken)
        elif what == "wait":
            now += 10 ** (which % 5) * NS
        elif what == "restart":
            going.clear()
            one = kept(one)
        elif going:
            number = going[which % len(going)]
            if what in ("ok", "none"):
                settle(number, what == "ok")
            else:
                going.remove(number)
                (one.failed if what == "fail" else one.postponed)(number, now)

    for what, which in given:
        fill()
        act(what, which)
        assert one.cursor <= one.reached
        assert all(n in through for n in wanted if n <= one.cursor)
    for _ in range(1000):
        fill()
        if not going:
            now = max(now, one.next_ns() or now)
        going.extend(one.take(now, 4))
        if not going and one.reached == len(flows):
            break
        for number in list(going):
            settle(number, True)
    assert one.cursor == len(flows)
    assert set(through) == set(wanted)
    for lane in "abc":
        order = [n for n in through if wanted[n] == lane]
        assert order == sorted(order) and len(order) == len(set(order))


def test_a_failing_event_holds_back_its_flow_alone() -> None:
    one = lanes()
    for number, lane in enumerate("aab", 1):
        one.offer(number, lane)
    assert one.take(0, 10) == [1, 3]
    one.failed(1, 0)
    one.settled(3, delivered=True)
    one.offer(4, "c")
    assert one.take(1, 10) == [4]
    one.settled(4, delivered=True)
    assert one.take(1, 10) == []
    assert one.next_ns() == 5 * NS
    assert one.take(5 * NS, 10) == [1]
    assert one.cursor == 0
    one.settled(1, delivered=True)
    assert one.take(5 * NS, 10) == [2]
    one.settled(2, delivered=True)
    assert one.cursor == 4


def test_a_receiver_that_is_down_is_tried_by_one_delivery_at_a_time() -> None:
    one = lanes()
    for number, lane in enumerate("abcd", 1):
        one.offer(number, lane)
    for number in one.take(0, 2):
        one.failed(number, 0)
    assert one.take(4 * NS, 10) == []
    now = 0
    for _ in range(6):
        at = one.next_ns()
        assert at is not None and at > now
        now = at
        (number,) = one.take(now, 10)
        assert one.next_ns() is None and one.take(now, 10) == []
        one.failed(number, now)
    now = one.next_ns() or 0
    (number,) = one.take(now, 10)
    one.settled(number, delivered=True)
    assert len(one.take(now + 3600 * NS, 10)) == 3


def test_deliveries_that_fail_at_once_count_as_one_failure() -> None:
    one = lanes()
    for number in range(1, 9):
        one.offer(number, str(number))
    assert len(one.take(0, 8)) == 8
    for number in range(1, 9):
        one.failed(number, 0)
    assert one.next_ns() == 5 * NS
    (again,) = one.take(5 * NS, 8)
    one.failed(again, 5 * NS)
    assert one.next_ns() == 20 * NS


def test_a_receiver_says_when_to_come_again() -> None:
    one = lanes()
    one.offer(1, "a")
    one.take(0, 1)
    one.failed(1, 0, wait_s=600)
    assert one.next_ns() == 600 * NS
    assert kept(one).take(599 * NS, 1) == []


def test_what_fails_too_long_is_given_up_also_across_restarts() -> None:
    one, now = lanes(), 0
    one.offer(1, "a")
    while not one.is_given_up(now):
        now = max(now, one.next_ns() or 0)
        assert one.take(now, 1) == [1]
        one.failed(1, now)
        one = kept(one)
        one.offer(1, "a")
    assert 86_400 <= now / NS <= 86_400 + 2 * 3600
    assert one.attempts(1) > 5


def test_the_room_is_bounded() -> None:
    one = lanes(room=3)
    for number in range(1, 4):
        assert one.free
        one.offer(number, "a")
    assert not one.free
    (first,) = one.take(0, 9)
    one.settled(first, delivered=True)
    assert one.free


def test_enabled_again_everything_that_waits_is_tried_at_once() -> None:
    one = lanes()
    for number, lane in enumerate("abc", 1):
        one.offer(number, lane)
    for number in one.take(0, 9)[:2]:
        one.failed(number, 0)
    one.settled(3, delivered=True)
    again = lanes(one.progress(()).afresh())
    for number, lane in enumerate("abc", 1):
        again.offer(number, lane)
    assert again.take(1, 9) == [1, 2]
    assert again.failing_since_ns is None


def test_a_later_start_and_a_replay_move_the_cursor() -> None:
    progress = Progress(3, frozenset((5, 8)))
    assert progress.since(2) is progress
    assert progress.since(6) == Progress(6, frozenset((8,)))
    assert progress.replayed(1) == Progress(1)
    assert progress.replayed(9) == Progress(3)
