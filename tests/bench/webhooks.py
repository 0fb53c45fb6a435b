"""P11: deliveries of webhooks to a receiver on this machine. Run: python -m tests.bench.webhooks.

A store with its outbox full delivers to a receiver in a process of its own, each event matched, rendered,
signed and written down as delivered. The reference is the target; beside it what the bare client can do.
"""

from __future__ import annotations

import asyncio
import shutil
import tempfile
import time
from functools import partial
from pathlib import Path

import aiohttp
import uvloop

from store.app import Running, run_store
from store.domain.flows import Edit
from store.domain.webhooks import create_webhook
from store.events.admission import everybody
from store.metadata.rows import Change, Event
from store.models.webhook import WebhookPost
from store.settings import EventSettings, StoreSettings
from tests.bench.seed import identifier
from tests.bench.servers import process
from tests.bench.table import Result, Rounds, show
from tests.ports import free_port

EVENTS, FLOWS, TARGET = 10_000, 200, 1_000.0
KEYS = (b"k" * 32,)


def delivering(rounds: int = 3, events: int = EVENTS) -> list[Result]:
    """Deliveries per second: one webhook, ten webhooks, and one whose events are of one flow."""
    port = free_port()
    with process(["-m", "tests.bench.receiver", str(port)], {}, port):
        found = []
        bare = Rounds(tuple(uvloop.run(_bare(port, events)) for _ in range(rounds)))
        for work, hooks, flows in (
            ("one webhook", 1, FLOWS),
            ("ten webhooks", 10, FLOWS),
            ("one flow", 1, 1),
        ):
            delivered = partial(_delivered, port, events // hooks, hooks, flows)
            ours = Rounds(tuple(uvloop.run(delivered()) for _ in range(rounds)))
            target = 1.0 if flows > 1 else None
            found.append(Result("P11", f"deliveries, {work}", ours, TARGET, "/s", target, higher=True))
            found.append(
                Result("P11", f"  beside the bare client: {work}", ours, bare, "/s", None, higher=True)
            )
        return found


async def _bare(port: int, count: int) -> float:
    """POSTs per second by aiohttp alone, 32 at a time."""
    body = b'{"event":' + b" " * 600 + b"{}}"
    left = iter(range(count))
    async with aiohttp.ClientSession() as session:

        async def work() -> None:
            for _ in left:
                async with session.post(f"http://127.0.0.1:{port}/", data=body) as answer:
                    await answer.read()

        began = time.perf_counter()
        await asyncio.gather(*(work() for _ in range(32)))
        return count / (time.perf_counter() - began)


async def _delivered(port: int, events: int, hooks: int, flows: int) -> float:
    """Deliveries per second, from the start of delivering until the last one arrived."""
    folder = Path(tempfile.mkdtemp(prefix="tams-bench-"))
    settings = StoreSettings(
        data=folder, events=EventSettings(receivers=("127.0.0.0/8",)), public_url="http://bench.test"
    )
    opened = run_store(settings, media_keys=KEYS, cursor_keys=KEYS, webhook_keys=KEYS, jobs=())
    try:
        async with opened as running:
            await _fill(running, port, events, hooks, flows)
            before = await _count(port)
            began = time.perf_counter()
            running.events.deliver(everybody)
            while await _count(port) - before < events * hooks:
                await asyncio.sleep(0.05)
            return events * hooks / (time.perf_counter() - began)
    finally:
        shutil.rmtree(folder)


async def _fill(running: Running, port: int, events: int, hooks: int, flows: int) -> None:
    metadata = running.store.metadata
    for number in range(hooks):
        post = WebhookPost(
            url=f"http://127.0.0.1:{port}/{number}", events=["flows/updated"], api_key_value="secret"
        )
        edit = Edit("bench", 1, "v")
        await create_webhook(metadata, running.store.seal, running.store.new_id(), post, edit)
    for start in range(0, events, 1000):
        batch = tuple(_event(n, identifier(n % flows)) for n in range(start, min(start + 1000, events)))
        await metadata.write(Change(events=batch))


def _event(number: int, flow_id: str) -> Event:
    flow = {
        "id": flow_id, "source_id": flow_id, "label": f"{number}", "format": "urn:x-nmos:format:video",
        "codec": "video/h264", "container": "video/mp2t", "tags": {"auth_classes": ["news"]},
        "essence_parameters": {"frame_width": 1920, "frame_height": 1080, "frame_rate": {"numerator": 25}},
    }  # fmt: skip
    return Event("flows/updated", number, {"flow": flow}, frozenset(("news",)), flow_id, flow_id)


async def _count(port: int) -> int:
    """How many deliveries have arrived."""
    reader, writer = await asyncio.open_connection("127.0.0.1", port)
    writer.write(b"GET /count HTTP/1.1\r\nHost: bench\r\nConnection: close\r\n\r\n")
    await reader.readuntil(b"\r\n\r\n")
    told = await reader.read(32)
    writer.close()
    return int(told)


if __name__ == "__main__":
    show(delivering())
