"""The store in this process, behind the upstream protocol."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import Protocol

from proxy.upstream.protocol import BackendFact, Known, Ref, Request, Response, View


class Door(Protocol):
    """What the store offers to a proxy in its process."""

    async def call(self, call: Request, /) -> Response: ...

    async def look_up(self, refs: Iterable[Ref], objects: Iterable[str], view: View | None, /) -> Known: ...

    async def object_at(self, backend_id: str, key: str, /) -> str | None: ...

    async def backends(self) -> Sequence[BackendFact]: ...


class Embedded:
    """An Upstream that calls a store directly; its failures are the store's answers."""

    def __init__(self, door: Door) -> None:
        self.call = door.call
        self.look_up = door.look_up
        self.object_at = door.object_at
        self.backends = door.backends
