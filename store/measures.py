"""Figures that are read when somebody asks for them; `proxy` and the store alone tell them to Prometheus.

New ones are a `Measure` in `Running.measures`; labels must be few and bounded, and never name a principal, an
id or a URL.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Mapping
from dataclasses import dataclass
from typing import Final, Literal

import orjson

from store.events.delivery import rows_of
from store.events.hooks import Hook
from store.events.matching import names
from store.events.progress import Progress, progress_ref
from store.metadata.protocol import Metadata
from store.metadata.rows import Kind
from store.streams.streams import Streams
from store.work.worker import Worker

NS: Final = 1_000_000_000
READ: Final = 500
MOST_MATCHES: Final = 20_000
Values = Mapping[tuple[str, ...], float]


@dataclass(frozen=True, slots=True)
class Figure:
    """What a figure is called and means. A counter's name ends in `_total`."""

    name: str
    help: str
    labels: tuple[str, ...] = ()
    kind: Literal["gauge", "counter"] = "gauge"


@dataclass(frozen=True, slots=True)
class Measure:
    """Figures that are read together. `read` gives the values of each, in order, by its labels' values.

    It may raise `errors.Error`: then they are left out this time.
    """

    figures: tuple[Figure, ...]
    read: Callable[[], Awaitable[tuple[Values, ...]]]


WEBHOOKS: Final = (
    Figure("tams_webhooks", "Webhooks by status.", ("status",)),
    Figure("tams_webhook_backlog_events", "Events that wait for the webhook with the most of them."),
    Figure("tams_webhook_failing_deliveries", "Deliveries that failed and will be repeated."),
    Figure(
        "tams_webhook_failing_since_timestamp_seconds",
        "Since when the longest failing delivery fails, 0 for none.",
    ),
)
STREAMS: Final = (
    Figure("tams_streams_open", "Streams that this process has open."),
    Figure(
        "tams_stream_lag_files", "Files that wait to be sealed, of the open stream with the most of them."
    ),
)
JOBS: Final = (
    Figure(
        "tams_job_success_timestamp_seconds",
        "When a background job last ended well in this process.",
        ("job",),
    ),
    Figure(
        "tams_job_failures_total",
        "Turns of a background job that failed here.",
        ("job",),
        "counter",
    ),
)


def of_webhooks(metadata: Metadata) -> Measure:
    """How the webhooks fare, as their progress was last saved."""

    async def read() -> tuple[Values, ...]:
        hooks = [Hook.of(row) async for row in rows_of(metadata, Kind.WEBHOOK)]
        by_status = dict.fromkeys(("created", "started", "disabled", "error"), 0)
        for hook in hooks:
            by_status[hook.status] += 1
        active = [hook for hook in hooks if hook.is_active]
        progress = await _progress(metadata, active)
        retries = [retry for each in progress for _, retry in each.retries]
        since_ns = min((retry.since_ns for retry in retries), default=0)
        return (
            {(status,): count for status, count in by_status.items()},
            {(): await _most_waiting(metadata, active, progress)},
            {(): len(retries)},
            {(): since_ns / NS},
        )

    return Measure(WEBHOOKS, read)


async def _progress(metadata: Metadata, hooks: list[Hook]) -> list[Progress]:
    kept = await metadata.rows(progress_ref(hook.id) for hook in hooks)
    found = []
    for hook in hooks:
        row = kept.get(progress_ref(hook.id))
        progress = Progress(hook.start) if row is None else Progress.of(orjson.loads(row.document))
        found.append(progress.since(hook.start))
    return found


async def _most_waiting(metadata: Metadata, hooks: list[Hook], progress: list[Progress]) -> int:
    """How many events wait for the webhook with the most of them; of very many, at least so many."""
    waiting = [0] * len(hooks)
    at, budget = min((each.cursor for each in progress), default=0), MOST_MATCHES if hooks else 0
    while budget > 0:
        events = await metadata.events(at, READ)
        for number, (hook, each) in enumerate(zip(hooks, progress, strict=True)):
            waiting[number] += sum(
                stored.sequence > each.cursor
                and stored.sequence not in each.done
                and names(hook.filters, stored.event)
                for stored in events
            )
        if len(events) < READ:
            break
        at, budget = events[-1].sequence, budget - READ * len(hooks)
    return max(waiting, default=0)


def of_jobs(worker: Worker) -> Measure:
    """How the background jobs fare in this process."""

    async def read() -> tuple[Values, ...]:
        return (
            {(name,): ended_ns / NS for name, ended_ns in worker.succeeded_ns.items()},
            {(name,): count for name, count in worker.failures.items()},
        )

    return Measure(JOBS, read)


def of_streams(streams: Streams) -> Measure:
    """How the streams fare that this process has open."""

    async def read() -> tuple[Values, ...]:
        count, files = streams.backlog()
        return {(): count}, {(): files}

    return Measure(STREAMS, read)
