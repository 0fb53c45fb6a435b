"""What reading from and writing to a foreign upstream have in common."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

from proxy.errors import BadUpstream
from proxy.rules import RULES
from proxy.upstream.client import Client, Reply
from proxy.upstream.documents import Document, document_in, list_in
from proxy.upstream.headers import next_page, overlaid, with_query
from proxy.upstream.ledger import Ledger
from proxy.upstream.listing import Page, Pairs
from proxy.upstream.lookups import Lookups, failure, is_there
from proxy.upstream.relayed import RelayedUrls
from proxy.upstream.seal import Sealer
from proxy.upstream.urls import Backend, backend_of
from proxy.upstream.versions import Features, features

SERVICE_S = 60.0
BACKENDS_S = 5.0
MOST_BACKEND_PAGES = 20
TEMPLATES: dict[str, tuple[str, str]] = {
    rule.operation: (method, template)
    for template, methods in RULES.items()
    for method, rule in methods.items()
}
"""Method and path template of each operation."""


def lacking(operation: str) -> str:
    """What is said of an operation that the upstream does not know."""
    return f"The upstream lacks {' '.join(TEMPLATES[operation])}."


@dataclass(frozen=True, slots=True)
class Clock:
    """`unix_s`: Unix seconds. `steady_s`: seconds that only go forward. `stamp`: RFC 3339, for errors."""

    unix_s: Callable[[], float]
    steady_s: Callable[[], float]
    stamp: Callable[[], str]


class Parts:
    """One upstream: its client, what is known of it for a while, and what makes cursors and URLs."""

    def __init__(
        self,
        client: Client,
        ledger: Ledger,
        cursors: Sealer,
        urls: RelayedUrls,
        public_url: str,
        clock: Clock,
    ) -> None:
        self.client = client
        self.ledger = ledger
        self.lookups = Lookups(client, ledger, self._has)
        self.cursors = cursors
        self.urls = urls
        self.public_url = public_url
        self.clock = clock
        self._features: tuple[float, Features] | None = None
        self._backends: tuple[float, tuple[Backend, ...]] | None = None

    def relayed(self, method: str, url: str, signed: bool) -> str | None:
        """As `urls.Relayed`."""
        return self.urls.make(method, url, signed, self.clock.unix_s())

    async def features(self) -> Features:
        """What the upstream can do, asked again after a minute."""
        now_s = self.clock.steady_s()
        if self._features is None or now_s >= self._features[0]:
            reply = await self.client.send("GET", "/service")
            if reply.status != 200:
                raise failure(reply)
            self._features = (now_s + SERVICE_S, features(document_in(reply.body).get("api_version")))
        return self._features[1]

    async def _has(self, kind: str) -> bool:
        """Paths that a version does not have are not tried: gateways answer them with anything."""
        return kind != "profile" or (await self.features()).profiles

    async def backends(self) -> tuple[Backend, ...]:
        """All storage backends, asked again after five seconds. An upstream that has no list of them has
        one for everybody, whatever it is."""
        now_s = self.clock.steady_s()
        if self._backends is None or now_s >= self._backends[0]:
            self._backends = (now_s + BACKENDS_S, await self._listed_backends())
        return self._backends[1]

    async def _listed_backends(self) -> tuple[Backend, ...]:
        if not (await self.features()).backends:
            return (Backend("", frozenset(), True),)
        documents: list[Document] = []
        page: Pairs | None = ()
        for _ in range(MOST_BACKEND_PAGES):
            found = await self.page("/service/storage-backends", (), page or ())
            documents += found.items
            page = found.next
            if page is None:
                break
        else:
            raise BadUpstream("The upstream's list of storage backends does not end.")
        try:
            backends = tuple(backend_of(document) for document in documents)
        except (KeyError, TypeError, AttributeError):
            raise BadUpstream("The upstream's storage backends cannot be read.") from None
        if len(backends) == 1:
            return (Backend(backends[0].id, backends[0].classes, True, backends[0].label),)
        return backends

    async def page(
        self, path: str, query: Sequence[tuple[str, str]], page: Pairs, limit: int | None = None
    ) -> Page[Document]:
        """One page of a list of documents. Raises `Refused` for an answer that the client may read."""
        sent = [*query, *(() if limit is None else (("limit", str(limit)),))]
        asked = overlaid(sent, page)
        reply = await self.client.send("GET", with_query(path, asked))
        if reply.status == 400:
            raise Refused(reply)
        if not is_there(reply):
            raise BadUpstream("The upstream knows nothing of a list that its version has.")
        items = list_in(reply.body)
        if not all(isinstance(item, dict) for item in items):
            raise BadUpstream("The upstream's list holds something else than objects.")
        return Page(items, next_page(asked, reply.headers), reply.headers, reply.body)


class Refused(Exception):
    """The upstream will not have a query; its answer is for the client."""

    def __init__(self, reply: Reply) -> None:
        super().__init__(reply.status)
        self.reply = reply
