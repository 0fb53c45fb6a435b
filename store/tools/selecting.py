"""Which packets of a segment show what is asked for, and what has to come with them. Pure."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from store.timerange import TimeRange


@dataclass(frozen=True, slots=True)
class Shot:
    """A coded picture, in the order of decoding: when it is shown on the flow's timeline."""

    at_ns: int
    is_key: bool


@dataclass(frozen=True, slots=True)
class Selection:
    """Pictures by their place in the order of decoding. `shown` are asked for; `before` and `after` are
    not, but decoding what is shown takes them."""

    kept: range
    shown: frozenset[int]
    before: frozenset[int]
    after: frozenset[int]


def select(shots: Sequence[Shot], wanted: TimeRange) -> Selection:
    """The pictures within `wanted`, from the key frame on that they depend on."""
    first_ns, stop_ns = wanted.first_ns, wanted.stop_ns
    assert first_ns is not None and stop_ns is not None
    shown = frozenset(i for i, shot in enumerate(shots) if first_ns <= shot.at_ns < stop_ns)
    if not shown:
        return Selection(range(0), shown, frozenset(), frozenset())
    key = next((i for i in range(min(shown), -1, -1) if shots[i].is_key), min(shown))
    kept = range(key, max(shown) + 1)
    return Selection(
        kept,
        shown,
        frozenset(i for i in kept if shots[i].at_ns < first_ns),
        frozenset(i for i in kept if shots[i].at_ns >= stop_ns),
    )


def decodable(shots: Sequence[Shot], selection: Selection) -> list[int]:
    """What of a selection can be shown without what is before or after it: from its first key frame on,
    up to the first picture that is not asked for."""
    found: list[int] = []
    for index in selection.kept:
        if index in selection.shown and (found or shots[index].is_key):
            found.append(index)
        elif found:
            break
    return found
