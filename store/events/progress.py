"""How far the deliveries of a webhook have come, as it is kept. Pure."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, Final, NamedTuple

from store.metadata.rows import Document, Kind, Ref

KEPT_RESULTS: Final = 50


class Retry(NamedTuple):
    """An event whose delivery failed so often: when it did first, and when it may be tried again."""

    attempts: int
    since_ns: int
    next_ns: int


class Result(NamedTuple):
    """What came of one attempt. `status` is None where no answer came; `said` tells why."""

    time_ns: int
    sequence: int
    event_type: str
    attempt: int
    status: int | None
    took_ms: int
    said: str


@dataclass(frozen=True, slots=True)
class Progress:
    """Everything up to and including `cursor` is dealt with, and beyond it what is `done`.

    `retries`: by sequence number. `streak`: failures since the last success; none is tried before
    `resume_ns`. `results`: the last attempts, newest last.
    """

    cursor: int
    done: frozenset[int] = frozenset()
    retries: tuple[tuple[int, Retry], ...] = ()
    streak: int = 0
    resume_ns: int = 0
    results: tuple[Result, ...] = ()

    def document(self, webhook_id: str) -> Document:
        """As it is kept."""
        return {
            "id": webhook_id,
            "cursor": self.cursor,
            "done": sorted(self.done),
            "retries": [[sequence, *retry] for sequence, retry in self.retries],
            "streak": self.streak,
            "resume_ns": self.resume_ns,
            "results": [list(result) for result in self.results],
        }

    @classmethod
    def of(cls, document: dict[str, Any]) -> Progress:
        """The inverse of `document`."""
        return cls(
            document["cursor"],
            frozenset(document["done"]),
            tuple((sequence, Retry(*rest)) for sequence, *rest in document["retries"]),
            document["streak"],
            document["resume_ns"],
            tuple(Result(*result) for result in document["results"]),
        )

    def since(self, start: int) -> Progress:
        """From a later start on: what came before it is not delivered any more."""
        if start <= self.cursor:
            return self
        return Progress(
            start,
            frozenset(number for number in self.done if number > start),
            tuple(entry for entry in self.retries if entry[0] > start),
            self.streak,
            self.resume_ns,
            self.results,
        )

    def afresh(self) -> Progress:
        """Enabled again: everything that waits is tried at once, and counts as never tried."""
        return Progress(self.cursor, self.done, results=self.results)

    def replayed(self, start: int) -> Progress:
        """Everything behind `start` is delivered again."""
        return Progress(min(start, self.cursor), results=self.results)


def progress_ref(webhook_id: str) -> Ref:
    """Names the progress of a webhook."""
    return Ref(Kind.DELIVERY, webhook_id)
