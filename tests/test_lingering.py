"""What a client still sends after its answer is taken for a while, and no longer."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from typing import cast

import pytest

from store.lingering import LINGER_BYTES, LINGER_S, Lingering


class Line:
    """A connection and its loop: what was done to it, and when it is to be closed."""

    def __init__(self, *, can_end: bool) -> None:
        self._can_end = can_end
        self.done: list[str] = []
        self.later: list[tuple[float, Callable[[], None]]] = []

    def can_write_eof(self) -> bool:
        return self._can_end

    def write_eof(self) -> None:
        self.done.append("end")

    def close(self) -> None:
        self.done.append("close")

    def call_later(self, after_s: float, what: Callable[[], None]) -> None:
        self.later.append((after_s, what))


def lingering(line: Line) -> Lingering:
    return Lingering(cast("asyncio.Transport", line), cast("asyncio.AbstractEventLoop", line))


@pytest.mark.parametrize("can_end", [True, False])
def test_it_says_that_it_ends_where_it_can_and_closes_in_time(can_end: bool) -> None:
    line = Line(can_end=can_end)
    lingering(line)
    assert line.done == ["end"] * can_end
    ((after_s, close),) = line.later
    close()
    assert after_s == LINGER_S and line.done[-1] == "close"


def test_it_takes_so_much_and_no_more() -> None:
    line = Line(can_end=False)
    more = lingering(line)
    more.take(bytes(LINGER_BYTES - 1))
    more.take(b"1")
    assert line.done == []
    more.take(b"1")
    assert line.done == ["close"]
