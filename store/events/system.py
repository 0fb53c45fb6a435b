"""All that tells of events in one process, put together."""

from __future__ import annotations

import random
import time
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from dataclasses import dataclass, field

from store.events.addresses import Addresses
from store.events.admission import Admit
from store.events.bodies import Renderer
from store.events.delivery import LOOK_S, RENEW_S, Deliveries, Know
from store.events.live import Live, LiveParts
from store.events.runner import Parts
from store.events.schedule import Schedule
from store.events.sealing import Seal
from store.events.sender import HttpSender, Names, Sender
from store.events.tail import Tail
from store.metadata.protocol import Metadata


@dataclass(slots=True)
class Events:
    """The outbox's listeners. Live streams can be had at once; `deliver` begins with the webhooks."""

    metadata: Metadata
    tail: Tail
    renderer: Renderer
    sender: Sender
    seal: Seal
    live: Live
    holder: str
    now_ns: Callable[[], int]
    schedule: Schedule = Schedule()
    deliveries: Deliveries | None = field(default=None, init=False)

    def deliver(
        self, admit: Admit, know: Know | None = None, look_s: float = LOOK_S, renew_s: float = RENEW_S
    ) -> None:
        """Begin to deliver to webhooks what `admit` lets through; `know` is told their owners."""
        parts = Parts(
            self.metadata,
            self.tail,
            self.renderer,
            self.sender,
            self.seal,
            admit,
            self.now_ns,
            random.random,
            self.schedule,
        )
        self.deliveries = Deliveries(parts, self.holder, know, look_s, renew_s)
        self.deliveries.start()


@asynccontextmanager
async def run_events(
    metadata: Metadata,
    renderer: Renderer,
    seal: Seal,
    addresses: Addresses,
    *,
    holder: str,
    streams: int,
) -> AsyncIterator[Events]:
    """Listen to the outbox for as long as the context lasts. `streams`: how many live ones there may be."""
    sender = HttpSender(addresses, Names(), time.time)
    tail = Tail(metadata)
    live = Live(LiveParts(metadata, tail, renderer, seal, renderer.now_ns, streams))
    events = Events(metadata, tail, renderer, sender, seal, live, holder, renderer.now_ns)
    tail.start()
    try:
        yield events
    finally:
        if events.deliveries is not None:
            await events.deliveries.stop()
        await tail.stop()
        await sender.close()
