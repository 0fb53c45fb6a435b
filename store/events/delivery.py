"""Deliveries of all webhooks: which of them this process makes, by leases, and what each may no longer."""

from __future__ import annotations

import asyncio
import contextlib
import logging
from collections.abc import AsyncIterator, Callable, Coroutine, Mapping
from dataclasses import dataclass, field
from typing import Any, TypeVar

from store.errors import Error
from store.events.hooks import Hook
from store.events.progress import progress_ref
from store.events.runner import Parts, Runner
from store.events.sharing import Seats, share
from store.metadata.protocol import Metadata, Stale
from store.metadata.query import Query, position
from store.metadata.rows import Change, Delete, Kind, Row

LEASE_NS = 60 * 1_000_000_000
RENEW_S = 15.0
LOOK_S = 1.0
LOOKS_PER_TRY = 10
"""How many looks pass until a lease that another process has is asked for again."""
SPARE_TRIES = 3
"""After so many tries a webhook that is the share of others is asked for all the same: none has taken it."""
MOVED_AT_ONCE = 100
AGAIN_S = 5.0
PAGE = 500
T = TypeVar("T")
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
    """What is known of the webhooks: each at the version that was last read, when to try for it, how often
    it was left to others. `processes` share them, when counted at `counted_s`."""

    hooks: dict[str, Hook] = field(default_factory=dict)
    next_try_s: dict[str, float] = field(default_factory=dict)
    spared: dict[str, int] = field(default_factory=dict)
    processes: int = 1
    counted_s: float = float("-inf")


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

    def __init__(
        self,
        parts: Parts,
        holder: str,
        know: Know | None = None,
        look_s: float = LOOK_S,
        renew_s: float = RENEW_S,
    ) -> None:
        self._parts = parts
        self._holder = holder
        self._know = know
        self._look_s = look_s
        self._renew_s = renew_s
        self._seats = Seats(parts.metadata, holder, parts.now_ns, LEASE_NS)
        self._counting = asyncio.Lock()
        self._seen = _Seen()
        self._held: dict[str, _Held] = {}
        self._leased: set[str] = set()
        self._asking: set[asyncio.Future[Any]] = set()
        self._tasks: list[asyncio.Task[None]] = []

    def start(self) -> None:
        """Begin, on the running loop."""
        self._tasks = [
            asyncio.create_task(self._forever(self.look, self._look_s), name="webhooks"),
            asyncio.create_task(self._forever(self._renew, self._renew_s), name="webhook leases"),
        ]

    async def stop(self) -> None:
        """Cut off what is under way; what is known is kept, and the leases are given back."""
        for task in self._tasks:
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)
        # What was being asked for may be had after all, and is to be given back then.
        await asyncio.gather(*self._asking, return_exceptions=True)
        await asyncio.gather(*(self._drop(id) for id in list(self._held)))
        await asyncio.gather(*(self._give_back(id) for id in list(self._leased)))
        # As with every lease, a seat that cannot be given back runs out.
        with contextlib.suppress(Error):
            await self._seats.leave()

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
            self._seen.spared.pop(id, None)
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
                if not await self._is_mine(hook.id):
                    continue
                until_ns = await self._lease(hook.id)
                if until_ns is not None:
                    self._begin(hook, until_ns)

    async def _is_mine(self, id: str) -> bool:
        """Whether to ask for a webhook: it is in this process's share, or no other has taken it for long."""
        if asyncio.get_running_loop().time() - self._seen.counted_s >= LOOKS_PER_TRY * self._look_s:
            await self._count()
        spared = self._seen.spared.pop(id, 0)
        if len(self._held) < self._share() or spared >= SPARE_TRIES:
            return True
        self._seen.spared[id] = spared + 1
        return False

    async def _count(self) -> None:
        """Find out how many processes share the webhooks."""
        async with self._counting:
            self._seen.processes = await self._whole(self._seats.count())
            self._seen.counted_s = asyncio.get_running_loop().time()

    def _share(self) -> int:
        return share(sum(hook.is_active for hook in self._seen.hooks.values()), self._seen.processes)

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
        if any(hook.is_active for hook in self._seen.hooks.values()):
            await self._count()
            await self._leave_to_others()

    async def _leave_to_others(self) -> None:
        """Give up what is more than this process's share, first that to which nothing is under way."""
        over = min(len(self._held) - self._share(), MOVED_AT_ONCE)
        if over <= 0:
            return
        held = sorted(self._held, key=lambda id: self._held[id].runner.is_busy)
        _log.info("%d webhooks are left to other processes", over)
        for id in held[:over]:
            self._seen.next_try_s[id] = asyncio.get_running_loop().time() + LOOKS_PER_TRY * self._look_s
            await self._drop(id)

    async def _whole(self, asking: Coroutine[None, None, T]) -> T:
        """What is not to be cut off, so that it is known what came of it."""
        task = asyncio.ensure_future(asking)
        self._asking.add(task)
        task.add_done_callback(self._asking.discard)
        return await asyncio.shield(task)

    async def _lease(self, id: str) -> int | None:
        """Take or renew; until when it is ours, None when it is another's."""
        return await self._whole(self._leasing(id))

    async def _leasing(self, id: str) -> int | None:
        now_ns = self._parts.now_ns()
        until_ns = now_ns + LEASE_NS
        if not await self._parts.metadata.lease(f"webhook:{id}", self._holder, now_ns, until_ns):
            return None
        self._leased.add(id)
        return until_ns

    async def _drop(self, id: str) -> None:
        """Stop delivering to a webhook."""
        held = self._held.pop(id, None)
        if held is None:
            return
        held.task.cancel()
        with contextlib.suppress(asyncio.CancelledError):
            await held.task
        await self._give_back(id)

    async def _give_back(self, id: str) -> None:
        self._leased.discard(id)
        # A lease that cannot be given back runs out.
        with contextlib.suppress(Error):
            await self._parts.metadata.lease(f"webhook:{id}", self._holder, self._parts.now_ns(), 0)

    async def _forget(self, id: str) -> None:
        """Drop the progress of a webhook that is gone."""
        ref = progress_ref(id)
        row = (await self._parts.metadata.rows([ref])).get(ref)
        if row is not None:
            # Should somebody have written it again, the cleaning of the outbox finds it.
            with contextlib.suppress(Stale):
                await self._parts.metadata.write(Change(deletes=(Delete(ref, row.version),)))
