"""Receivers that say what they are told to, and short ways to wait for them."""

from __future__ import annotations

import asyncio
import json
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any

from store.events.schedule import Schedule
from store.events.sender import Answer
from tests.store.harness import Tams

QUICK = Schedule(first_s=0.01, factor=1.5, longest_s=0.05, give_up_s=3600)
OK = Answer(200, "")


@dataclass(frozen=True)
class Sent:
    """One attempt as it would have gone out."""

    url: str
    headers: Mapping[str, str]
    body: bytes

    @property
    def message(self) -> Any:
        return json.loads(self.body)

    @property
    def id(self) -> str:
        return self.headers["webhook-id"]


@dataclass
class Recorder:
    """Takes deliveries in place of the network. `answer` decides; it may wait."""

    answer: Callable[[Sent], Answer | asyncio.Future[Answer]] = lambda sent: OK
    sent: list[Sent] = field(default_factory=list)

    async def send(self, url: str, headers: Mapping[str, str], body: bytes) -> Answer:
        one = Sent(url, headers, body)
        self.sent.append(one)
        answered = self.answer(one)
        await asyncio.sleep(0)
        return answered if isinstance(answered, Answer) else await answered

    async def close(self) -> None:
        return None

    def to(self, url: str) -> list[Sent]:
        return [each for each in self.sent if each.url == url]


async def until(claim: Callable[[], bool], within_s: float = 20) -> None:
    """Wait for something to be so; it fails when it takes impossibly long."""
    async with asyncio.timeout(within_s):
        while not claim():
            await asyncio.sleep(0.002)


def delivering(tams: Tams, recorder: Recorder, **more: Any) -> None:
    """Begin to deliver, to a recorder, without long waits."""
    from store.events.admission import everybody

    tams.running.events.sender = recorder
    tams.running.events.schedule = more.pop("schedule", QUICK)
    given = {"admit": everybody, "look_s": 0.02, **more}
    tams.running.events.deliver(**given)


async def hook(tams: Tams, **said: Any) -> dict[str, Any]:
    """A webhook that was registered."""
    body = {"url": "https://receiver.example/", "events": ["flows/created"], **said}
    found: dict[str, Any] = (await tams.post("/service/webhooks", body)).json()
    return found


async def status_is(tams: Tams, webhook_id: str, status: str) -> dict[str, Any]:
    """The webhook, once it has this status."""
    async with asyncio.timeout(20):
        while True:
            found: dict[str, Any] = await tams.get(f"/service/webhooks/{webhook_id}")
            if found["status"] == status:
                return found
            await asyncio.sleep(0.005)
