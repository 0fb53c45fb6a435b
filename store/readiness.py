"""Whether a process can do its work: all that it depends on is asked at once, and not too often."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Awaitable, Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Final

PATIENCE_S: Final = 3.0


@dataclass(frozen=True, slots=True)
class Check:
    """A dependency. `ask` returns None when it works, else what is wrong, in a sentence without secrets; it
    may raise one of `failures`. Without a `vital` one no request can be answered. An answer counts for
    `fresh_s`, however many ask."""

    name: str
    ask: Callable[[], Awaitable[str | None]]
    failures: tuple[type[Exception], ...] = ()
    vital: bool = True
    fresh_s: float = 1.0


@dataclass(frozen=True, slots=True)
class Findings:
    """What was found. `wrong`: by name, what does not work."""

    names: tuple[str, ...]
    wrong: Mapping[str, str]
    vital: frozenset[str]

    @property
    def ready(self) -> bool:
        """Whether requests can be answered."""
        return not self.vital & self.wrong.keys()

    def document(self, version: str, stamp: str, *, reasons: bool) -> dict[str, Any]:
        """As JSON. Reasons may name places and files: they are for administrators."""
        found: dict[str, Any] = {
            "status": "ready" if self.ready else "not ready",
            "version": version,
            "timestamp": stamp,
            "checks": {name: "failing" if name in self.wrong else "ok" for name in self.names},
        }
        return found | {"reasons": dict(self.wrong)} if reasons else found


class _Asked:
    """The last answer of a check, or the one that is on its way."""

    def __init__(self, check: Check, clock: Callable[[], float]) -> None:
        self._check = check
        self._clock = clock
        self._asked_s = 0.0
        self._task: asyncio.Task[str | None] | None = None

    async def said(self) -> str | None:
        now_s = self._clock()
        if self._task is None or (self._task.done() and now_s - self._asked_s >= self._check.fresh_s):
            self._asked_s = now_s
            self._task = asyncio.create_task(_said(self._check))
        # Whoever asked first may go away; the others still wait for the answer.
        return await asyncio.shield(self._task)


class Readiness:
    """Asks all checks. `clock` gives monotonic seconds."""

    def __init__(self, checks: Sequence[Check], clock: Callable[[], float] = time.monotonic) -> None:
        self._checks = tuple(checks)
        self._asked = [_Asked(check, clock) for check in self._checks]

    async def find(self) -> Findings:
        """What works now."""
        said = await asyncio.gather(*(asked.said() for asked in self._asked))
        return Findings(
            tuple(check.name for check in self._checks),
            {check.name: told for check, told in zip(self._checks, said, strict=True) if told is not None},
            frozenset(check.name for check in self._checks if check.vital),
        )


async def _said(check: Check) -> str | None:
    try:
        async with asyncio.timeout(PATIENCE_S):
            return await check.ask()
    except TimeoutError:
        return f"There was no answer within {PATIENCE_S:.0f} s."
    except check.failures as exc:
        return str(exc) or type(exc).__name__
