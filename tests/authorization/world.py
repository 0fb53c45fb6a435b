"""Where the proofs of authorization are run: before the store inside, or before another one.

What a store elsewhere lacks is part of the proof: each operation is named with the answer that names it.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from contextlib import AbstractAsyncContextManager
from dataclasses import dataclass, field

import httpx

from tests.proxy import support

NOTHING_THERE = 404
LACKING = 501


@dataclass(frozen=True)
class World:
    """`running`: as `support.running`. `lacks`: the operations that are not to be had, and what is said
    instead to everybody whose token reaches so far. `refuses`: those of them that are tried, so that they are
    decided on before. `lacks_queries`: the same for parameters of queries. `newest_first`: how lists are
    ordered. `unsigned_media`: whether media are reached by unsigned URLs too. `metadata`: the proxy's own
    database, with its webhooks."""

    running: Callable[..., AbstractAsyncContextManager[support.Proxy]]
    lacks: Mapping[str, str] = field(default_factory=dict)
    refuses: frozenset[str] = frozenset()
    lacks_queries: Mapping[str, str] = field(default_factory=dict)
    newest_first: bool = True
    unsigned_media: bool = True
    metadata: str = "data/metadata.sqlite"

    def has(self, operation: str) -> bool:
        """Whether an operation is to be had."""
        return operation not in self.lacks and (self.unsigned_media or not operation.endswith("_media"))

    def status(self, operation: str, status: int) -> int:
        """The status here of what the rules answer with `status`."""
        if operation in self.lacks:
            return status if operation in self.refuses and status == 403 else LACKING
        return status if self.has(operation) else NOTHING_THERE

    def listed(self, made: list[str]) -> list[str]:
        """What was made, in the order of lists here."""
        return made[::-1] if self.newest_first else made

    def done(self, operation: str, answer: httpx.Response) -> bool:
        """Whether what was asked for, and allowed, was done; False where that is lacking, and said to be."""
        if operation not in self.lacks:
            assert answer.is_success, (answer.status_code, answer.text)
            return True
        self.told(operation, answer)
        return False

    def has_query(self, query: str, answer: httpx.Response) -> bool:
        """Whether a query can be answered; False where what it needs is lacking, and said to be."""
        names = [pair.partition("=")[0] for pair in query.split("&")]
        summaries = [self.lacks_queries[name] for name in names if name in self.lacks_queries]
        if summaries:
            found = (answer.status_code, answer.json()["summary"])
            assert found == (LACKING, summaries[0]), answer.text
        return not summaries

    def told(self, operation: str, answer: httpx.Response) -> None:
        """Check the answer about what is lacking."""
        found = answer.json()
        assert (answer.status_code, found["summary"]) == (LACKING, self.lacks[operation]), answer.text


INSIDE = World(support.running)
