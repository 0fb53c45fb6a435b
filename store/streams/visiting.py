"""On whose behalf a stream is used: what it may do, and the flows behind streams as it may change them."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Protocol

from store.core import Store
from store.domain.collections import flow_ref
from store.errors import Error, NotFound
from store.http import Request, failure, utc_now
from store.params import Params
from store.routes.table import OPERATIONS

Pairs = Sequence[tuple[str, str]]


class Refused(Exception):
    """A visitor may not do what it asks for. `headers`: what goes with the status."""

    def __init__(self, status: int, detail: str, headers: Sequence[tuple[str, str]] = ()) -> None:
        super().__init__(detail)
        self.status = status
        self.detail = detail
        self.headers = tuple(headers)


@dataclass(frozen=True, slots=True)
class Answer:
    """What an operation of the API answered: status, lower-case headers, body."""

    status: int
    headers: Sequence[tuple[str, str]]
    body: bytes


@dataclass(frozen=True, slots=True)
class Asking:
    """A call of an operation of the API. `path`: as a client would spell it."""

    operation: str
    method: str
    path: str
    params: Mapping[str, str]
    query: Pairs = ()
    body: bytes = b""


class Visitor(Protocol):
    """A caller that was let in. Every method raises `Refused`."""

    async def call(self, asking: Asking) -> Answer:
        """Perform an operation of the API as this caller, with every check that it has."""

    async def check(self, flow_id: str, *, write: bool) -> None:
        """Whether the caller may now read, or write, a flow."""

    async def still_known(self) -> None:
        """Whether the caller's credential still counts, and for the same rights."""


class Anyone:
    """The visitor of the store alone, which asks nobody who they are."""

    def __init__(self, store: Store) -> None:
        self._store = store

    async def call(self, asking: Asking) -> Answer:
        """As `Visitor.call`."""
        request = Request(asking.operation, asking.path, asking.params, Params(asking.query), asking.body)
        try:
            response = await OPERATIONS[asking.operation](self._store, request)
        except Error as exc:
            response = failure(exc, utc_now())
        return Answer(response.status, response.headers, response.body)

    async def check(self, flow_id: str, *, write: bool) -> None:
        """As `Visitor.check`: whether there is one."""
        ref = flow_ref(flow_id)
        if ref not in await self._store.metadata.rows([ref]):
            raise NotFound("No such stream.")

    async def still_known(self) -> None:
        """As `Visitor.still_known`: there is nothing to lose."""
