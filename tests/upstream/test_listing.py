"""Filtering and refilling, on any list, any view and any page sizes."""

from __future__ import annotations

import asyncio

import pytest
from hypothesis import given
from hypothesis import strategies as st

from proxy.errors import BadRequest, BadUpstream, UpstreamTimeout
from proxy.upstream import listing
from proxy.upstream.listing import Filled, Page, Pairs, Place
from proxy.upstream.protocol import Request
from proxy.upstream.seal import Sealer

SEALER = Sealer((b"k" * 32,), "test")
Item = tuple[str, bool]


class Upstream:
    """A list whose pages hold at most `most` items; its page keys are offsets."""

    def __init__(self, items: list[Item], most: int) -> None:
        self.items = items
        self.most = most
        self.asked: list[int] = []

    async def fetch(self, page: Pairs, limit: int) -> Page[Item]:
        start = int(dict(page).get("page", "0"))
        stop = start + min(limit, self.most)
        self.asked.append(limit)
        more = (("page", str(stop)),) if stop < len(self.items) else None
        return Page(self.items[start:stop], more)


async def _seen(items: list[Item]) -> list[bool]:
    return [visible for _, visible in items]


async def _fill(upstream: Upstream, want: int, place: Place, *, exact: bool = False) -> Filled[Item]:
    return await listing.fill(upstream.fetch, _seen, lambda item: item[0], want, place, exact=exact)


async def _pages(upstream: Upstream, wants: list[int], *, exact: bool = False) -> list[list[str]]:
    found, place = [], Place()
    for number in range(1000):
        filled = await _fill(upstream, wants[number % len(wants)], place, exact=exact)
        # What is handed on as it came must be what was found, no more and no less.
        assert filled.whole is None or filled.whole.items == filled.items
        found.append([name for name, _ in filled.items])
        if filled.next is None:
            return found
        place = filled.next
    raise AssertionError("the pages do not end")


lists = st.lists(st.booleans(), max_size=80).map(lambda seen: [(str(n), v) for n, v in enumerate(seen)])


@given(lists, st.integers(1, 30), st.lists(st.integers(1, 12), min_size=1, max_size=4))
def test_pages_are_full_complete_and_end_where_sight_does(
    items: list[Item], most: int, wants: list[int]
) -> None:
    pages = asyncio.run(_pages(Upstream(items, most), wants))
    expected = [name for name, visible in items if visible]
    assert [name for page in pages for name in page] == expected
    for number, page in enumerate(pages[:-1]):
        assert len(page) == wants[number % len(wants)]
    assert pages[-1] or not expected


@given(lists, st.integers(1, 30), st.lists(st.integers(1, 12), min_size=1, max_size=4))
def test_an_upstream_that_does_not_filter_as_asked_shows_nothing_hidden(
    items: list[Item], most: int, wants: list[int]
) -> None:
    pages = asyncio.run(_pages(Upstream(items, most), wants, exact=True))
    assert [name for page in pages for name in page] == [name for name, visible in items if visible]
    # Only the last page may be empty.
    assert all(pages[:-1])


def test_a_page_is_handed_on_where_it_is_what_was_asked_for() -> None:
    shown = [("1", True), ("2", True)]
    assert asyncio.run(_fill(Upstream(shown, 10), 5, Place())).whole is not None
    assert asyncio.run(_fill(Upstream([*shown, ("3", False)], 10), 5, Place())).whole is None
    assert asyncio.run(_fill(Upstream(shown, 10), 5, Place(skip=1))).whole is None
    # As many were found before as the last page has, which is hidden.
    behind = Upstream([("1", True), ("2", False), ("3", False), ("4", False)], 1)
    assert asyncio.run(_fill(behind, 5, Place())).whole is None


def test_an_exact_page_is_refilled_where_something_of_it_is_hidden_or_nothing_is_left() -> None:
    upstream = Upstream([("1", True), ("2", False), ("3", True), ("4", True)], 2)
    filled = asyncio.run(_fill(upstream, 2, Place(), exact=True))
    assert [name for name, _ in filled.items] == ["1", "3"]
    filled = asyncio.run(_fill(upstream, 2, Place(skip=2), exact=True))
    assert [name for name, _ in filled.items] == ["3", "4"]


def test_how_much_is_asked_for_follows_what_is_seen() -> None:
    none_seen = Upstream([(str(n), False) for n in range(400)], 1000)
    asyncio.run(_fill(none_seen, 5, Place()))
    assert none_seen.asked == [5, 100, 400]
    half_seen = Upstream([(str(n), n % 2 == 0) for n in range(400)], 1000)
    asyncio.run(_fill(half_seen, 40, Place()))
    assert half_seen.asked == [40, 40, 2]
    # After the page is full, one more tells whether there is more.
    rest_hidden = Upstream([("1", True), ("2", False), ("3", False)], 1000)
    asyncio.run(_fill(rest_hidden, 1, Place()))
    assert rest_hidden.asked == [1, 1, 100]


def test_a_place_holds_where_its_item_is_gone() -> None:
    upstream = Upstream([(str(n), True) for n in range(6)], 1000)
    place = Place((), 3, "gone")
    assert [n for n, _ in asyncio.run(_fill(upstream, 9, place)).items] == ["3", "4", "5"]
    place = Place((), 5, "1")
    assert [n for n, _ in asyncio.run(_fill(upstream, 9, place)).items] == ["2", "3", "4", "5"]
    place = Place((), 9, None)
    assert asyncio.run(_fill(upstream, 9, place)).items == []


def test_the_bounds_are_what_they_are_meant_to_be() -> None:
    assert listing.limit_of([]) == 100
    assert listing.limit_of([("limit", "999999999")]) == listing.limit_of([("limit", "9" * 10)]) == 1000
    assert listing.limit_of([("limit", "000000001")]) == 1
    name = "x" * 1999
    assert listing.class_filter(frozenset((name,))) == name
    assert listing.class_filter(frozenset((name + "x",))) == name + "x"
    assert listing.class_filter(frozenset((name + "xx",))) is None
    assert (listing.MOST, listing.MOST_PAGES) == (1000, 1000)


def test_a_cursor_of_nobody_is_nobodys() -> None:
    token = listing.sealed(Place(skip=1), _request(actor=None), SEALER)
    query = [("label", "x"), ("page", token)]
    assert listing.place_of(_request(actor=None, query=query), SEALER) == Place(skip=1)
    with pytest.raises(BadRequest):
        listing.place_of(_request(actor="None", query=query), SEALER)


@given(lists, st.integers(1, 30), st.integers(1, 12), st.data())
def test_what_vanishes_between_pages_moves_nothing_else(
    items: list[Item], most: int, want: int, data: st.DataObject
) -> None:
    """On one page of the upstream: what its own keys do across pages is its own affair."""
    upstream = Upstream(items, 1000)
    first = asyncio.run(_fill(upstream, want, Place()))
    if first.next is None or first.next.page:
        return
    told = [name for name, _ in first.items]
    kept = first.next.after
    gone = data.draw(st.sets(st.sampled_from([name for name in told if name != kept] or ["none"])))
    upstream.items = [item for item in items if item[0] not in gone]
    rest = asyncio.run(_fill(upstream, 1000, first.next))
    assert [name for name, _ in rest.items] == [n for n, v in items if v and n not in told]


async def test_sparse_sight_asks_for_more_at_a_time() -> None:
    upstream = Upstream([(str(n), n == 4999) for n in range(5000)], 1000)
    filled = await _fill(upstream, 10, Place())
    assert [name for name, _ in filled.items] == ["4999"] and len(upstream.asked) < 12


async def test_an_exact_list_costs_one_call_a_page() -> None:
    upstream = Upstream([(str(n), True) for n in range(30)], 1000)
    filled = await _fill(upstream, 10, Place(), exact=True)
    assert upstream.asked == [10] and filled.next == Place((("page", "10"),)) and filled.whole is not None


async def test_pages_that_lead_to_themselves_are_refused() -> None:
    async def same(page: Pairs, limit: int) -> Page[Item]:
        return Page([("x", False)], (("page", "1"),))

    with pytest.raises(BadUpstream):
        await listing.fill(same, _seen, str, 1, Place(), exact=False)


async def test_a_list_that_never_ends_is_given_up() -> None:
    async def endless(page: Pairs, limit: int) -> Page[Item]:
        return Page([("x", False)], (("page", dict(page).get("page", "") + "x"),))

    with pytest.raises(UpstreamTimeout):
        await listing.fill(endless, _seen, str, 1, Place(), exact=False)


@pytest.mark.parametrize("said", ["0", "-1", "x", "", "1.5", "٣", "00", " 1"])
def test_a_limit_is_at_least_one(said: str) -> None:
    with pytest.raises(BadRequest):
        listing.limit_of([("limit", said)])


@pytest.mark.parametrize(("said", "limit"), [("1", 1), ("1000", 1000), ("1001", 1000), ("9" * 30, 1000)])
def test_a_limit_is_lowered_to_the_most(said: str, limit: int) -> None:
    assert listing.limit_of([("limit", said)]) == limit


def _request(**changes: object) -> Request:
    said = {"operation": "GET_flows", "path": "/flows", "params": {}, "query": [("label", "x")], "actor": "u"}
    return Request(**{**said, **changes})  # type: ignore[arg-type]


def test_a_cursor_comes_back_for_the_same_reader_and_query_alone() -> None:
    place = Place((("page", "a b"), ("x", "é")), 7, "id", "a,b")
    token = listing.sealed(place, _request(), SEALER)
    query = [("label", "x"), ("page", token), ("limit", "7")]
    assert listing.place_of(_request(query=query), SEALER) == place
    for other in (
        _request(query=query, actor="v"),
        _request(query=query, operation="GET_sources"),
        _request(query=query, params={"flowId": "x"}),
        _request(query=[*query, ("tag.x", "y")]),
        _request(query=[("label", "x"), ("page", token[:-2] + "AA")]),
        _request(query=[("label", "x"), ("page", "")]),
        _request(query=[("label", "x"), ("page", "é" * 40)]),
    ):
        with pytest.raises(BadRequest):
            listing.place_of(other, SEALER)


def test_a_filter_that_is_too_long_for_a_url_is_left_out() -> None:
    assert listing.class_filter(frozenset("ab")) == "a,b"
    assert listing.class_filter(frozenset("a")) == "a"
    assert listing.class_filter(frozenset()) is None
    assert listing.class_filter(frozenset(f"class-{n}" for n in range(1000))) is None
