"""Where pieces go on the timeline: exactly, and not without saying what was found."""

from __future__ import annotations

from collections.abc import Sequence
from fractions import Fraction

import pytest

from store.timerange import NS_PER_S
from store.tools.errors import Broken
from store.tools.timing import WRAP, Extent, Gaps, Kept, Place, Timeline

PICTURE = Fraction(1, 25)


def piece(start: Fraction | int, length: Fraction | int = 2, *, breaks: bool = False) -> Extent:
    begin = Fraction(start)
    return Extent(begin, begin + length, PICTURE, WRAP, breaks)


def placed(pieces: Sequence[Extent], timeline: Timeline) -> list[tuple[int, int, int]]:
    following = [*pieces[1:], None]
    found = []
    for number, (each, behind) in enumerate(zip(pieces, following, strict=True)):
        place, _ = timeline.place(f"p{number}", each, behind)
        found.append((place.start_ns, place.stop_ns, place.ts_offset_ns))
    return found


def test_media_keep_their_own_times_to_the_nanosecond() -> None:
    rate = Fraction(30_000, 1001)
    pieces = [piece(60 * n / rate, 60 / rate) for n in range(4)]
    found = placed(pieces, Timeline(Gaps.refuse))
    assert [start for start, _, _ in found] == [60 * n * 1001 * NS_PER_S // 30_000 for n in range(4)]
    assert all(stop == start for (_, stop, _), (start, _, _) in zip(found, found[1:], strict=False))
    assert {offset for _, _, offset in found} == {0}


def test_a_rounded_duration_ends_where_the_next_picture_begins() -> None:
    tick = Fraction(1, 90_000)
    found = placed([piece(0, 2 - tick), piece(2, 2 + tick), piece(4)], Timeline(Gaps.refuse))
    assert [stop for _, stop, _ in found] == [2 * NS_PER_S, 4 * NS_PER_S, 6 * NS_PER_S]


def test_an_offset_moves_all_pieces_and_not_their_own_times() -> None:
    found = placed([piece(1), piece(3)], Timeline(Gaps.refuse, Fraction(99)))
    assert found == [(100 * 10**9, 102 * 10**9, 99 * 10**9), (102 * 10**9, 104 * 10**9, 99 * 10**9)]


@pytest.mark.parametrize("turns", [1, 2])
def test_a_clock_that_starts_again_goes_on_without_a_seam(turns: int) -> None:
    pieces = [piece(turns * WRAP - 2), piece(0), piece(2)]
    timeline = Timeline(Gaps.refuse, (turns - 1) * WRAP) if turns == 1 else Timeline(Gaps.refuse)
    found = placed(pieces, timeline)
    assert [b[0] - a[1] for a, b in zip(found, found[1:], strict=False)] == [0, 0]
    assert found[1][2] == turns * WRAP.numerator * NS_PER_S // WRAP.denominator
    assert any("started again" in note for note in timeline.notes)


@pytest.mark.parametrize(
    ("second", "gaps", "expected"),
    [
        (piece(3), Gaps.keep, (3, 5, 0)),
        (piece(3), Gaps.close, (2, 4, -1)),
        (piece(1), Gaps.close, (2, 4, 1)),
        (piece(500, breaks=True), Gaps.refuse, (2, 4, -498)),
    ],
)
def test_what_does_not_follow_goes_where_it_was_said(
    second: Extent, gaps: Gaps, expected: tuple[int, int, int]
) -> None:
    timeline = Timeline(gaps)
    found = placed([piece(0), second], timeline)
    assert found[1] == tuple(seconds * NS_PER_S for seconds in expected)
    assert len(timeline.notes) == 1


@pytest.mark.parametrize(
    ("second", "gaps", "says"),
    [
        (piece(3), Gaps.refuse, "p1: a gap of 1:0 s at 2:0.*--gaps close.*--gaps keep"),
        (piece(1), Gaps.refuse, "p1: times go back by 1:0 s at 2:0"),
        (piece(1), Gaps.keep, "times go back"),
    ],
)
def test_what_does_not_follow_is_refused_by_name(second: Extent, gaps: Gaps, says: str) -> None:
    with pytest.raises(Broken, match=says):
        placed([piece(0), second], Timeline(gaps))


def test_pieces_that_are_there_are_known_again_wherever_they_were_put() -> None:
    there = [
        Kept(10**9, Place(101 * 10**9, 103 * 10**9, 100 * 10**9)),
        Kept(5 * 10**9, Place(105 * 10**9, 107 * 10**9, 100 * 10**9)),
    ]
    timeline = Timeline(Gaps.refuse, kept=there)
    found = [timeline.place("p", piece(at), None) for at in (1, 3, 5, 7)]
    assert [known for _, known in found] == [True, False, True, False]
    assert [place.start_ns // 10**9 for place, _ in found] == [101, 103, 105, 107]


def test_the_same_times_twice_are_two_pieces() -> None:
    there = [Kept(0, Place(0, 2 * 10**9, 0)), Kept(0, Place(2 * 10**9, 4 * 10**9, 2 * 10**9))]
    timeline = Timeline(Gaps.refuse, kept=there)
    places = [timeline.place("p", piece(0, breaks=number > 0), None) for number in range(3)]
    assert [place.start_ns // 10**9 for place, _ in places] == [0, 2, 4]
    assert [known for _, known in places] == [True, True, False]
