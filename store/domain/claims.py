"""Time of a flow that is spoken for: a live stream has entries there, or will have them."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Iterable

from store.errors import BadRequest, Error
from store.metadata.rows import Document, NewSegment, Row
from store.timerange import TimeRange

Claimed = Callable[[Row, Document], Awaitable[int | None]]
"""From when on the time of a flow is spoken for, in nanoseconds; None where it is not."""


class Claims:
    """Who is asked. Nobody at first."""

    def __init__(self) -> None:
        self._asked: list[Claimed] = []

    def add(self, claimed: Claimed) -> None:
        """Ask this one too."""
        self._asked.append(claimed)

    def remove(self, claimed: Claimed) -> None:
        """Ask this one no more."""
        self._asked.remove(claimed)

    async def since_ns(self, row: Row, document: Document) -> int | None:
        """As `Claimed`, the earliest of all."""
        found = [await claimed(row, document) for claimed in self._asked]
        return min((since_ns for since_ns in found if since_ns is not None), default=None)


def unclaimed(found: Iterable[NewSegment | Error], since_ns: int | None) -> list[NewSegment | Error]:
    """Segments, those that reach into time that is spoken for refused. Pure."""
    if since_ns is None:
        return list(found)
    end = TimeRange(None, since_ns)
    why = BadRequest(
        f"The flow is a live stream that segments can be added to only before its entries: within {end}."
    )
    return [why if isinstance(new, NewSegment) and new.stop_ns > since_ns else new for new in found]
