"""How many processes deliver to webhooks: each holds a numbered seat by a lease, the lowest that it can get,
so that counting them takes a question for each and two more."""

from __future__ import annotations

from collections.abc import Callable

from store.metadata.protocol import Metadata

SEATS = 256
GAP = 2
"""So many empty seats in a row are the end of those that are taken: one alone may just have been left."""


class Seats:
    """The seat of one process among those that deliver. `holder` names it; `lease_ns` is how long a process
    that stopped without a word goes on counting."""

    def __init__(self, metadata: Metadata, holder: str, now_ns: Callable[[], int], lease_ns: int) -> None:
        self._metadata = metadata
        self._holder = holder
        self._now_ns = now_ns
        self._lease_ns = lease_ns
        self._seat: int | None = None

    async def count(self) -> int:
        """Keep the seat, or move to a lower one; how many processes there are, this one among them.

        Raises `errors.Unavailable`.
        """
        others, empty, seat = 0, 0, 0
        mine: int | None = None
        while seat < SEATS and (empty < GAP or mine is None):
            now_ns = self._now_ns()
            # The first that can be had is taken; of those behind it, it is only asked whether they are free.
            until_ns = now_ns + self._lease_ns if mine is None else 0
            free = await self._metadata.lease(_named(seat), self._holder, now_ns, until_ns)
            if free and mine is None:
                mine = seat
            others += not free
            empty = empty + 1 if free and mine != seat else 0
            seat += 1
        if self._seat is not None and self._seat != mine and self._seat >= seat:
            await self._leave(self._seat)
        self._seat = mine
        return others + 1

    async def leave(self) -> None:
        """Count no more. Raises `errors.Unavailable`."""
        if self._seat is not None:
            await self._leave(self._seat)
            self._seat = None

    async def _leave(self, seat: int) -> None:
        await self._metadata.lease(_named(seat), self._holder, self._now_ns(), 0)


def _named(seat: int) -> str:
    return f"webhooks seat {seat}"


def share(hooks: int, processes: int) -> int:
    """To how many webhooks one of so many processes delivers, so that all are delivered to."""
    return -(-hooks // processes)
