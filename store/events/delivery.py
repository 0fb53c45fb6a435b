"""Deliveries of all webhooks: which of them this process makes, by leases, and what each may no longer."""

from __future__ import annotations

import asyncio
import contextlib
import logging
from collections.abc import AsyncIterator, Callable, Mapping
from dataclasses import dataclass, field

from store.errors import Error
from store.events.hooks import Hook
from store.events.progress import progress_ref
from store.events.runner import Parts, Runner
from store.metadata.protocol import Metadata, Stale
from store.metadata.query import Query, position
from store.metadata.rows import Change, Delete, Kind, Row

LEASE_NS = 60 * 1_000_000_000
RENEW_S = 15.0
LOOK_S = 1.0
LOOKS_PER_TRY = 10
"""How many looks pass until a lease that another process has is asked for again."""
AGAIN_S = 5.0
PAGE = 500
_log = logging.getLogger(__name__)
Know = Callable[[Mapping[str, bytes]], None]
"""Takes the owners of all webhooks, by the webhooks' ids."""


@dataclass(slots=True)
class _Held:
    """A webhook whose lease this process has."""

    runner: Runner
    task: asyncio.Task[None]
    until_ns: int


@dataclass(slots=True)
class _Seen:
    """What is known of the webhooks: each at the version that was last read, and when to try for it."""

    hooks: dict[str, Hook] = field(default_factory=dict)
    next_try_s: dict[str, float] = field(default_factory=dict)


async def rows_of(metadata: Metadata, kind: Kind) -> AsyncIterator[Row]:
    """All documents of a kind."""
    query = Query(kind, None, PAGE)
    more = True
    while more:
        rows, more = await metadata.page(query)
        for row in rows:
            yield row
        if rows:
            query = Query(kind, None, PAGE, after=position(query.sort, rows[-1]))


class Deliveries:
    """Delivers to the webhooks whose leases this process gets. `holder` names it in the leases; `know` is
    told the owners of all webhooks whenever they have changed."""

    def __init__(self, parts: Parts, holder: str, know: Know | None = None, look_s: float = LOOK_S) -> None:
        self._parts = parts
        self._holder = holder
        self._know = know
        self._look_s = look_s
        self._seen = _Seen()
        self._held: dict[str, _Held] = {}
        self._tasks: list[asyncio.Task[None]] = []

    def start(self) -> None:
        """Begin, on the running loop."""
        self._tasks = [
            asyncio.create_task(self._forever(self.look, self._look_s), name="webhooks"),
            asyncio.create_task(self._forever(self._renew, RENEW_S), name="webhook leases"),
        ]

    async def stop(self) -> None:
        """Cut off what is under way; what is known is kept, and the leases are given back."""
        for task in self._tasks:
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)
        await asyncio.gather(*(self._drop(id) for id in list(self._held)))

    async def _forever(self, turn: Callable[[], object], every_s: float) -> None:
        while True:
            try:
                await turn()  # type: ignore[misc]
            except (Error, Stale) as exc:
                _log.warning("webhooks: %s", exc)
            # One bad turn must not end all later ones: nobody would notice that nothing is delivered.
            except Exception:
                _log.exception("webhooks")
            await asyncio.sleep(every_s)

    async def look(self) -> None:
        """Read the webhooks, take those that can be had, and leave those that are not active any more."""
        known, found = self._seen.hooks, {}
        async for row in rows_of(self._parts.metadata, Kind.WEBHOOK):
            hook = known.get(row.id)
            found[row.id] = hook if hook is not None and hook.version == row.version else Hook.of(row)
        changed = found != known
        gone = known.keys() - found.keys()
        self._seen.hooks = found
        if changed and self._know is not None:
            self._know({id: hook.owner for id, hook in found.items() if hook.owner is not None})
        for id in [id for id in self._held if id not in found or not found[id].is_active]:
            await self._drop(id)
        for id in [id for id in self._seen.next_try_s if id not in found or not found[id].is_active]:
            del self._seen.next_try_s[id]
        for id in gone:
            await self._forget(id)
        await self._take([hook for hook in found.values() if hook.is_active])

    async def _take(self, hooks: list[Hook]) -> None:
        """Start what is not running, in an order of chance, so that processes that start together share."""
        hooks.sort(key=lambda _: self._parts.chance())
        now_s = asyncio.get_running_loop().time()
        for hook in hooks:
            held = self._held.get(hook.id)
            if held is not None:
                if held.task.done() or held.runner.version < hook.version:
                    await self._restart(hook, held)
            elif now_s >= self._seen.next_try_s.get(hook.id, 0.0):
                self._seen.next_try_s[hook.id] = now_s + LOOKS_PER_TRY * self._look_s
                until_ns = await self._lease(hook.id)
                if until_ns is not None:
                    self._begin(hook, until_ns)

    def _begin(self, hook: Hook, until_ns: int) -> None:
        runner = Runner(hook, self._parts)
        task = asyncio.create_task(self._guarded(runner), name=f"webhook {hook.id}")
        self._held[hook.id] = _Held(runner, task, until_ns)

    async def _restart(self, hook: Hook, held: _Held) -> None:
        held.task.cancel()
        with contextlib.suppress(asyncio.CancelledError):
            await held.task
        self._begin(hook, held.until_ns)

    async def _guarded(self, runner: Runner) -> None:
        """A failure ends this run, is logged, and does not begin the next one at once."""
        try:
            await runner.run()
            return
        except Error as exc:
            _log.warning("webhook %s: %s", runner.hook.id, exc)
        # As in `_forever`; other webhooks go on.
        except Exception:
            _log.exception("webhook %s", runner.hook.id)
        await asyncio.sleep(AGAIN_S)

    async def _renew(self) -> None:
        """Keep the leases; a webhook whose lease is lost is another process's."""
        held = list(self._held.items())
        results = await asyncio.gather(*(self._lease(id) for id, _ in held), return_exceptions=True)
        for (id, each), until_ns in zip(held, results, strict=True):
            if isinstance(until_ns, int):
                each.until_ns = until_ns
            elif until_ns is None or each.until_ns <= self._parts.now_ns() + int(RENEW_S * 1e9):
                _log.warning("webhook %s: its lease is lost", id)
                await self._drop(id)

    async def _lease(self, id: str) -> int | None:
        """Take or renew; until when it is ours, None when it is another's."""
        now_ns = self._parts.now_ns()
        until_ns = now_ns + LEASE_NS
        taken = await self._parts.metadata.lease(f"webhook:{id}", self._holder, now_ns, until_ns)
        return until_ns if taken else None

    async def _drop(self, id: str) -> None:
        """Stop delivering to a webhook."""
        held = self._held.pop(id, None)
        if held is None:
            return
        held.task.cancel()
        with contextlib.suppress(asyncio.CancelledError):
            await held.task
        now_ns = self._parts.now_ns()
        # A lease that cannot be given back runs out.
        with contextlib.suppress(Error):
            await self._parts.metadata.lease(f"webhook:{id}", self._holder, now_ns, 0)

    async def _forget(self, id: str) -> None:
        """Drop the progress of a webhook that is gone."""
        ref = progress_ref(id)
        row = (await self._parts.metadata.rows([ref])).get(ref)
        if row is not None:
            # Should somebody have written it again, the cleaning of the outbox finds it.
            with contextlib.suppress(Stale):
                await self._parts.metadata.write(Change(deletes=(Delete(ref, row.version),)))
