"""Another process on the same metadata: `python -m tests.contract.metadata_process PLACE ROLE ARGUMENTS`.

It prints one JSON value a line, each when what it tells of has been acknowledged.
"""

from __future__ import annotations

import asyncio
import json
import sys
from collections.abc import Callable, Coroutine
from typing import Any

from store.metadata.protocol import Metadata, Stale
from store.metadata.rows import Change
from tests.contract.metadata_support import adding, event, flow, get, open_metadata, put, segment


def say(value: object) -> None:
    print(json.dumps(value), flush=True)


async def overlapping(metadata: Metadata, name: str, writers: str, spans: str) -> None:
    """Concurrent writers post spans to the flow `flow`; tells which were written."""
    row = await get(metadata, "flow")
    say("ready")
    await asyncio.to_thread(sys.stdin.readline)

    async def write(number: int) -> list[tuple[int, int]]:
        added = [segment(f"{name} {number} {start}", start, stop) for start, stop in json.loads(spans)]
        # Each writer begins elsewhere, so that they meet everywhere.
        added = added[number:] + added[:number]
        results = [(await metadata.add_segments(adding(row, new)))[0] for new in added]
        return [
            (new.start_ns, new.stop_ns) for new, error in zip(added, results, strict=True) if error is None
        ]

    won = await asyncio.gather(*(write(number) for number in range(int(writers))))
    say([span for each in won for span in each])


async def endless(metadata: Metadata, name: str) -> None:
    """Write flows with an event each, until killed; tells of every one that was acknowledged."""
    number = 0
    while True:
        ids = [f"{name} {number + n}" for n in range(8)]
        await asyncio.gather(
            *(metadata.write(Change(puts=(put(flow(id)),), events=(event(0),))) for id in ids)
        )
        say(ids)
        number += len(ids)


async def counting(metadata: Metadata, times: str) -> None:
    """Add one to the number that the flow `counter` carries, by compare-and-set, that many times."""
    say("ready")
    await asyncio.to_thread(sys.stdin.readline)
    for _ in range(int(times)):
        while True:
            row = await get(metadata, "counter")
            number = json.loads(row.document)["number"]
            try:
                await metadata.write(Change(puts=(put(flow("counter", number=number + 1), row.version),)))
                break
            except Stale:
                continue
    say("done")


ROLES: dict[str, Callable[..., Coroutine[Any, Any, None]]] = {
    "overlapping": overlapping,
    "endless": endless,
    "counting": counting,
}


async def main(place: str, role: str, *arguments: str) -> None:
    metadata = await open_metadata(place)
    await ROLES[role](metadata, *arguments)
    await metadata.close()


if __name__ == "__main__":
    asyncio.run(main(*sys.argv[1:]))
