"""The process that an application runs in."""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass, field

from store.exposition import Alone, Exposition, Together
from store.server import Lines
from store.vitals import Vitals
from store.workers import Member


@dataclass(frozen=True, slots=True)
class Process:
    """What an application is told of the process that it is in. `member` None: the only one."""

    lines: Lines = field(default_factory=Lines)
    member: Member | None = None
    vitals: Vitals = field(default_factory=Vitals)

    @asynccontextmanager
    async def telling(self, exposition: Exposition) -> AsyncIterator[Alone | Together]:
        """Who tells the figures of all processes, for as long as the context lasts."""
        if self.member is None:
            yield Alone(exposition)
            return
        together = Together(self.member, exposition)
        async with together.listening():
            yield together
