"""What every operation of the store runs with."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field

from store.domain.accesses import Accesses
from store.domain.claims import Claims
from store.domain.flows import Edit
from store.domain.service import ServiceFacts
from store.domain.urls import UrlCache, UrlFilter, UrlWriter
from store.events.addresses import Addresses
from store.events.sealing import Seal
from store.http import Paging, Request
from store.media.protocol import Media
from store.metadata.protocol import Metadata
from store.timerange import NS_PER_S


@dataclass(frozen=True, slots=True)
class Limits:
    """Page sizes, and how many segments a DELETE removes before it answers 202."""

    page: int = 100
    page_most: int = 1000
    delete_inline: int = 1000


@dataclass(frozen=True, slots=True)
class Store:
    """The parts of a running store. `now_ns` gives Unix nanoseconds, `new_id` fresh UUIDs.

    `backends` by id, in the order of GET /service/storage-backends. `cursor_keys`: newest first.
    `verify_uploads`: bytes must be there when a segment is registered. `trusted`: clients say who they are.
    `own_backends`: ids of those from which bytes that no object has may be removed. `seal` closes secrets of
    webhooks. `addresses`: where URLs of clients may lead. `claims`: time of flows that is spoken for.
    `events_kept_ns`: how old an event gets at most.
    """

    metadata: Metadata
    backends: Mapping[str, Media]
    service: ServiceFacts
    public_url: str
    cursor_keys: tuple[bytes, ...]
    now_ns: Callable[[], int]
    new_id: Callable[[], str]
    seal: Seal
    limits: Limits = Limits()
    verify_uploads: bool = False
    trusted: bool = False
    own_backends: frozenset[str] = frozenset()
    addresses: Addresses = Addresses()
    events_kept_ns: int = 7 * 86_400 * NS_PER_S
    urls: UrlCache = field(default_factory=UrlCache)
    accesses: Accesses = field(default_factory=Accesses)
    claims: Claims = field(default_factory=Claims)

    def edit(self, request: Request) -> Edit:
        """Who edits, and when, for one request."""
        return Edit(request.actor, self.now_ns(), self.new_id(), request.expect, self.trusted, request.owner)

    def url_writer(self, request: Request) -> UrlWriter:
        """Writes the `get_urls` that one request asks for. Raises `BadRequest`."""
        now_s = self.now_ns() // NS_PER_S
        wanted = UrlFilter.of(request.query)
        return UrlWriter(self.backends, request.view, wanted, now_s, self.urls, self.accesses)

    def paging(self, request: Request) -> Paging:
        """The page tokens of one request."""
        return Paging(request, self.public_url, self.cursor_keys)

    def limit(self, request: Request) -> int:
        """The page size of one request."""
        return request.query.limit(self.limits.page, self.limits.page_most)
