"""Lists of a foreign upstream as one caller sees them: filtered, refilled until full, with cursors of ours.

A page is never short because of what is hidden, and says that more is to come only when more of what the
caller sees is.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Generic, TypeVar

from proxy.errors import BadRequest, BadUpstream, UpstreamTimeout
from proxy.upstream.protocol import Request
from proxy.upstream.seal import Sealer

T = TypeVar("T")
Pairs = tuple[tuple[str, str], ...]
DEFAULT_LIMIT, MOST = 100, 1000
MOST_PAGES = 1000
MOST_FILTER = 2000
_NO_CURSOR = "`page` is not a key that this listing gave out."


@dataclass(frozen=True, slots=True)
class Place:
    """Where a page starts: the upstream's page, how many of its items are behind us, the last of them.

    `filter`: what the upstream was asked to filter classes by when the listing began; its page keys hold
    for that alone.
    """

    page: Pairs = ()
    skip: int = 0
    after: str | None = None
    filter: str | None = None


@dataclass(frozen=True, slots=True)
class Page(Generic[T]):
    """One page of the upstream: its items, what leads to the next one, its headers and its body."""

    items: list[T]
    next: Pairs | None
    headers: Mapping[str, str] = field(default_factory=dict)
    body: bytes = b""


@dataclass(frozen=True, slots=True)
class Filled(Generic[T]):
    """A page for the caller. `whole`: the page of the upstream that it is, item for item; `last`: the
    upstream's last page that was read."""

    items: list[T]
    next: Place | None
    whole: Page[T] | None
    last: Page[T]


Fetch = Callable[[Pairs, int], Awaitable[Page[T]]]
Sees = Callable[[list[T]], Awaitable[list[bool]]]


async def fill(
    fetch: Fetch[T], sees: Sees[T], name: Callable[[T], str], want: int, place: Place, *, exact: bool
) -> Filled[T]:
    """`want` items that the caller sees, from `place` on, or all that are left.

    `fetch` gets a page of about so many items; `name` tells items apart. `exact`: the upstream lists only
    what the caller sees, so its pages can be handed on as they are. Raises `BadUpstream` for pages that go
    round in circles, `UpstreamTimeout` when what the caller sees is too sparse to be found.
    """
    found: list[T] = []
    page_key, skip, after = place.page, place.skip, place.after
    ask = want
    for _ in range(MOST_PAGES):
        page = await fetch(page_key, min(ask + skip, MOST))
        start = _start(page.items, skip, after, name)
        rest = page.items[start:]
        seen = await sees(rest)
        for number, item in enumerate(rest):
            if not seen[number]:
                continue
            if len(found) == want:
                at = Place(page_key, start + number, name(rest[number - 1]) if number else None, place.filter)
                return Filled(found, at, None, page)
            found.append(item)
        whole = page if start == 0 and all(seen) and len(found) == len(page.items) else None
        if page.next is None:
            return Filled(found, None, whole, page)
        if page.next == page_key:
            raise BadUpstream("The upstream's pages go round in circles.")
        if exact and found and all(seen):
            return Filled(found, Place(page.next, filter=place.filter), whole, page)
        page_key, skip, after = page.next, max(0, skip - len(page.items)), None
        ask = _next_ask(ask, want - len(found), sum(seen), len(rest))
    raise UpstreamTimeout("Too little of the upstream's list may be seen to find it in time.")


def _next_ask(asked: int, missing: int, seen: int, of: int) -> int:
    """How many items to ask for so that the missing ones, or one that shows that there are more, are likely
    among them."""
    if not seen:
        return min(max(asked, 25) * 4, MOST)
    return min(-(-max(missing, 1) * of // seen), MOST)


def _start(items: Sequence[T], skip: int, after: str | None, name: Callable[[T], str]) -> int:
    """Where to go on in a page that may have changed meanwhile: behind the last item that was told of."""
    if after is not None:
        for number, item in enumerate(items):
            if name(item) == after:
                return number + 1
    return min(skip, len(items))


def limit_of(query: Sequence[tuple[str, str]]) -> int:
    """The page size asked for. Raises `BadRequest`."""
    said = dict(query).get("limit")
    if said is None:
        return DEFAULT_LIMIT
    if not said.isascii() or not said.isdigit() or not said.strip("0"):
        raise BadRequest("`limit` must be an integer of at least 1.")
    return MOST if len(said) > 9 else min(int(said), MOST)


def bound_to(request: Request) -> bytes:
    """What a request's cursors are bound to: everything but where the page starts and its size."""
    pairs = sorted(pair for pair in request.query if pair[0] not in ("page", "limit"))
    parts = [request.operation, request.actor or ""]
    parts += [f"{name}={value}" for name, value in (*sorted(request.params.items()), *pairs)]
    return "\x1f".join(parts).encode()


def sealed(place: Place, request: Request, sealer: Sealer) -> str:
    """A cursor for a place."""
    value = [place.page, place.skip, place.after, place.filter]
    return sealer.seal(value, bound_to(request))


def place_of(request: Request, sealer: Sealer) -> Place | None:
    """Where the page asked for starts, None for the first. Raises `BadRequest`."""
    token = dict(request.query).get("page")
    if token is None:
        return None
    try:
        value: Any = sealer.open(token, bound_to(request))
    except ValueError:
        raise BadRequest(_NO_CURSOR) from None
    page, skip, after, allowed = value
    return Place(tuple((name, text) for name, text in page), skip, after, allowed)


def class_filter(classes: frozenset[str]) -> str | None:
    """The value of `tag.auth_classes` that finds these classes; None where it would be too long."""
    value = ",".join(sorted(classes))
    return value if 0 < len(value) <= MOST_FILTER else None
