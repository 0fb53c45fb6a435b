"""The store in this process, behind the upstream protocol."""

from __future__ import annotations

from collections.abc import Awaitable, Iterable, Sequence
from typing import Protocol, TypeVar

from proxy.errors import Unavailable
from proxy.upstream.protocol import BackendFact, Known, MediaFact, Ref, Request, Response, View

T = TypeVar("T")


class Door(Protocol):
    """What the store offers to a proxy in its process."""

    async def call(self, call: Request, /) -> Response: ...

    async def look_up(self, refs: Iterable[Ref], objects: Iterable[str], view: View | None, /) -> Known: ...

    async def media_at(self, backend_id: str, key: str, /) -> MediaFact | None: ...

    async def backends(self) -> Sequence[BackendFact]: ...


class Embedded:
    """An Upstream that calls a store directly. What fails in an operation is the store's own answer; what
    fails in a look-up, an exception of type `failure`, is no answer at all."""

    def __init__(self, door: Door, failure: type[Exception]) -> None:
        self._door = door
        self._failure = failure
        self.call = door.call
        self.backends = door.backends

    async def look_up(self, refs: Iterable[Ref], objects: Iterable[str], view: View | None) -> Known:
        """As `Upstream.look_up`."""
        return await self._answered(self._door.look_up(refs, objects, view))

    async def media_at(self, backend_id: str, key: str) -> MediaFact | None:
        """As `Upstream.media_at`."""
        return await self._answered(self._door.media_at(backend_id, key))

    async def lacks(self, operation: str) -> str | None:
        """As `Upstream.lacks`: nothing."""
        return None

    async def _answered(self, answer: Awaitable[T]) -> T:
        try:
            return await answer
        except self._failure as exc:
            raise Unavailable("The store cannot be asked now.", retry_after_s=1) from exc
