"""The deliveries of one webhook, in the process that holds its lease."""

from __future__ import annotations

import asyncio
import contextlib
import logging
from collections import deque
from collections.abc import Callable
from dataclasses import dataclass

import orjson

from store.domain.draft import Draft, settled
from store.errors import Error
from store.events.admission import Admit, Lapsed
from store.events.bodies import Renderer
from store.events.hooks import Hook, opened_secret, resealed
from store.events.lanes import Lanes
from store.events.matching import names, wants
from store.events.progress import KEPT_RESULTS, Progress, Result, progress_ref
from store.events.schedule import NS, Schedule
from store.events.sealing import Seal, Unreadable
from store.events.sender import Answer, Sender
from store.events.signing import delivery_id, headers_of
from store.events.tail import Tail, cost_of
from store.http import error_document
from store.metadata.protocol import Metadata, Stale
from store.metadata.rows import Change, Event, Kind, Put, Ref, StoredEvent
from store.models.common import format_time

AT_ONCE = 32
"""Deliveries of one webhook that are under way at the same time, each of another flow."""
ROOM = 512
READ = 250
REFILL = 64
"""So many must be free before more are read, so that it is not done for each."""
FRESH_COST = 5_000
SAVE_S = 0.5
IDLE_SAVE_S = 60.0
PAUSE_S = 2.0
_log = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True)
class Parts:
    """What deliveries run with. `chance` gives numbers from 0 up to 1."""

    metadata: Metadata
    tail: Tail
    renderer: Renderer
    sender: Sender
    seal: Seal
    admit: Admit
    now_ns: Callable[[], int]
    chance: Callable[[], float]
    schedule: Schedule = Schedule()


class _Ended(Exception):
    """There will be no more deliveries: the webhook's status from now on, and why."""

    def __init__(self, status: str, reason: str) -> None:
        super().__init__(reason)
        self.status = status
        self.reason = reason


class Runner:
    """Delivers to one version of a webhook."""

    def __init__(self, hook: Hook, parts: Parts) -> None:
        self.hook = hook
        self._parts = parts
        self.version = hook.version
        """Of the webhook's row, as this has read or written it."""
        self._secret: str | None = None
        self._lanes = Lanes(Progress(hook.start), parts.schedule, ROOM, parts.chance)
        self._results: deque[Result] = deque(maxlen=KEPT_RESULTS)
        self._version = 0
        self._saved_ns = 0
        self._unsaved = False
        self._saving: asyncio.Future[None] | None = None
        self._woken = asyncio.Event()
        self._tasks: set[asyncio.Task[None]] = set()
        self._ended: Exception | None = None
        self._stopping = False
        self._fresh: dict[int, StoredEvent] = {}
        self._fresh_cost = 0

    @property
    def is_busy(self) -> bool:
        """Whether a delivery is under way."""
        return bool(self._tasks)

    async def run(self) -> None:
        """Deliver until cancelled, or until the webhook is no more what it was or has ended.

        Raises `errors.Unavailable` while the database cannot be used.
        """
        try:
            await self._begin()
            with self._parts.tail.waiting() as self._woken:
                await self._go_on()
        except _Ended as exc:
            _log.warning("webhook %s: %s: %s", self.hook.id, exc.status, exc.reason)
            await self._end(exc)
        except Stale:
            # Somebody else has written the webhook or its progress: whoever looks next begins anew with that.
            _log.info("webhook %s has changed", self.hook.id)
        finally:
            await self._stop()

    async def _begin(self) -> None:
        """Find out how far it had come, and say that it is started. Raises `Stale`."""
        try:
            self._secret = opened_secret(self._parts.seal, self.hook)
        except Unreadable:
            raise _Ended("error", "The secret cannot be read any more; it must be given again.") from None
        hook, ref, mine = self.hook, Ref(Kind.WEBHOOK, self.hook.id), progress_ref(self.hook.id)
        rows = await self._parts.metadata.rows([ref, mine])
        row, kept = rows.get(ref), rows.get(mine)
        if row is None or row.version != hook.version:
            raise Stale
        progress = Progress(hook.start) if kept is None else Progress.of(orjson.loads(kept.document))
        progress = progress.since(hook.start)
        self._version = kept.version if kept is not None else 0
        renewed = resealed(self._parts.seal, hook)
        if hook.status == "created" or renewed != hook.sealed:
            if hook.status == "created":
                progress = progress.afresh()
            draft = Draft(self._parts.metadata)
            draft.admit(ref, row)
            draft.admit(mine, kept)
            private = {**orjson.loads(row.private or b"{}"), "sealed": renewed}
            draft.put(ref, {**orjson.loads(row.document), "status": "started"}, orjson.dumps(private))
            draft.put(mine, progress.document(hook.id))
            await draft.commit(self._parts.now_ns())
            rows = await self._parts.metadata.rows([ref, mine])
            if ref not in rows or mine not in rows:
                raise Stale
            self.version, self._version = rows[ref].version, rows[mine].version
        self._lanes = Lanes(progress, self._parts.schedule, ROOM, self._parts.chance)
        self._results.extend(progress.results)
        self._saved_ns = self._parts.now_ns()

    async def _go_on(self) -> None:
        while True:
            self._woken.clear()
            if self._ended is not None:
                raise self._ended
            await self._fill()
            self._launch()
            await self._save_in_time()
            await self._rest()

    async def _fill(self) -> None:
        """Put what has happened into the lanes."""
        lanes, filters = self._lanes, self.hook.filters
        while lanes.free >= REFILL:
            found = await self._parts.tail.after(lanes.reached, min(READ, lanes.free))
            if not found:
                return
            for stored in found:
                event = stored.event
                if names(filters, event):
                    lanes.offer(stored.sequence, event.flow_id or event.source_id or "")
                    self._keep(stored)
                else:
                    lanes.skip(stored.sequence)

    def _keep(self, stored: StoredEvent) -> None:
        """Hold an event in memory until it is first tried, while there are not too many."""
        if self._fresh_cost < FRESH_COST:
            self._fresh[stored.sequence] = stored
            self._fresh_cost += cost_of(stored)

    async def _event(self, sequence: int) -> StoredEvent | None:
        kept = self._fresh.pop(sequence, None)
        if kept is None:
            return await self._parts.tail.event(sequence)
        self._fresh_cost -= cost_of(kept)
        return kept

    def _launch(self) -> None:
        for sequence in self._lanes.take(self._parts.now_ns(), AT_ONCE):
            task = asyncio.create_task(self._deliver(sequence))
            self._tasks.add(task)
            task.add_done_callback(self._finished)

    def _finished(self, task: asyncio.Task[None]) -> None:
        self._tasks.discard(task)
        if task.cancelled():
            return
        error = task.exception()
        if isinstance(error, Exception):
            self._ended = self._ended or error
        elif self._ended is None and not self._stopping:
            self._launch()
        self._woken.set()

    async def _rest(self) -> None:
        """Wait until there is something to do."""
        now_ns = self._parts.now_ns()
        wakes = [self._saved_ns + int((SAVE_S if self._unsaved else IDLE_SAVE_S) * NS)]
        next_ns = self._lanes.next_ns()
        if next_ns is not None:
            wakes.append(next_ns)
        wait_s = max(0.0, (min(wakes) - now_ns) / NS)
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(wait_s):
                await self._woken.wait()

    async def _deliver(self, sequence: int) -> None:
        """One event, one attempt. Raises `_Ended`."""
        hook, parts = self.hook, self._parts
        try:
            stored = await self._event(sequence)
            message = None if stored is None else await self._message(stored.event)
        except Lapsed as exc:
            raise _Ended("error", str(exc)) from exc
        except Error as exc:
            _log.warning("webhook %s: an event waits: %s", hook.id, exc)
            self._lanes.postponed(sequence, parts.now_ns())
            return
        if stored is None or message is None:
            self._lanes.settled(sequence, delivered=False)
            return
        headers = headers_of(
            message,
            id=delivery_id(hook.id, sequence),
            sent_s=parts.now_ns() // NS,
            key_name=hook.key_name,
            secret=self._secret,
        )
        answer = await parts.sender.send(hook.url, headers, message)
        self._answered(stored, answer)

    async def _message(self, event: Event) -> bytes | None:
        """What the webhook is told of an event, None when it is not for its owner."""
        admitted = await self._parts.admit(self.hook.owner, event)
        if admitted is None or not wants(self.hook.filters, admitted.event):
            return None
        return await self._parts.renderer.message(admitted.event, self.hook.options, admitted.view)

    def _answered(self, stored: StoredEvent, answer: Answer) -> None:
        lanes, now_ns, sequence = self._lanes, self._parts.now_ns(), stored.sequence
        attempt = lanes.attempts(sequence) + 1
        said = "" if answer.is_success else answer.said
        self._results.append(
            Result(now_ns, sequence, stored.event.type, attempt, answer.status, answer.took_ms, said)
        )
        self._unsaved = True
        if answer.is_success:
            lanes.settled(sequence, delivered=True)
            return
        lanes.failed(sequence, now_ns, answer.retry_after_s)
        if answer.status == 410:
            raise _Ended("disabled", "The receiver answered 410: it is gone.")
        if lanes.is_given_up(now_ns):
            raise _Ended("error", f"Deliveries have failed for too long. {answer.said}")

    async def _save_in_time(self) -> None:
        """Write down how far it has come, twice a second while deliveries are made, else now and then."""
        passed_ns = self._parts.now_ns() - self._saved_ns
        if passed_ns >= (SAVE_S if self._unsaved else IDLE_SAVE_S) * NS:
            # Should this be cut off meanwhile, it has to be known which version was written.
            self._saving = asyncio.ensure_future(self._save())
            await asyncio.shield(self._saving)

    async def _save(self) -> None:
        """Write down how far it has come. Raises `Stale`, `errors.Unavailable`."""
        mine, now_ns = progress_ref(self.hook.id), self._parts.now_ns()
        document = self._lanes.progress(tuple(self._results)).document(self.hook.id)
        put = Put(mine.kind, mine.id, self._version, document, created_ns=now_ns, updated_ns=now_ns)
        self._saved_ns, self._unsaved = now_ns, False
        await self._parts.metadata.write(Change(puts=(put,)))
        rows = await self._parts.metadata.rows([mine])
        self._version = rows[mine].version if mine in rows else 0

    async def _stop(self) -> None:
        """Cut off what is under way, and keep what is known."""
        self._stopping = True
        for task in self._tasks:
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)
        if self._saving is not None:
            await asyncio.gather(self._saving, return_exceptions=True)
        if self._unsaved:
            with contextlib.suppress(Stale, Error):
                await self._save()

    async def _end(self, ended: _Ended) -> None:
        """Write the webhook's new status, unless somebody has written it meanwhile."""
        now_ns, ref = self._parts.now_ns(), Ref(Kind.WEBHOOK, self.hook.id)

        async def step() -> None:
            draft = Draft(self._parts.metadata)
            await draft.load([ref])
            row, document = draft.row(ref), draft.get(ref)
            if row is None or document is None or row.version != self.version:
                return
            error = error_document("WebhookEnded", ended.reason, format_time(now_ns))
            draft.put(ref, {**document, "status": ended.status, "error": error})
            await draft.commit(now_ns)

        await settled(step)
