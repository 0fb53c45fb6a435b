"""Reading from a foreign upstream: the answer, and the facts that it is decided on."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Any
from urllib.parse import quote

import orjson

from proxy.errors import Error
from proxy.upstream import listing
from proxy.upstream.answers import Answer, Facts, answered, refusal, refused
from proxy.upstream.client import Reply
from proxy.upstream.documents import (
    PATHS,
    Classes,
    Document,
    classes_of,
    related_to,
    resource_in,
    sees,
)
from proxy.upstream.headers import JSON, checked, next_page, overlaid, path_of, with_query
from proxy.upstream.listing import Filled, Page, Pairs, Place
from proxy.upstream.lookups import is_there, referring
from proxy.upstream.parts import TEMPLATES, Parts, Refused
from proxy.upstream.protocol import Request, View
from proxy.upstream.urls import Backend, UrlRule, readable_by

LISTS = {
    "GET_sources": "source",
    "GET_flows": "flow",
    "GET_profiles": "profile",
    "GET_flow-delete-requests": "deletion",
}
RESOURCES = {
    "GET_sources-sourceId": "source",
    "GET_flows-flowId": "flow",
    "GET_profiles-profileId": "profile",
    "GET_flow-delete-requests-request-id": "deletion",
}
_MISSING = object()
_DEFAULTS: Mapping[str, Any] = {"tags": {}, "flow_collection": [], "read_only": False}


@dataclass(frozen=True, slots=True)
class Reads:
    """Answers every read of the API. Raises the proxy's errors."""

    parts: Parts

    async def answer(self, request: Request) -> Answer:
        """As `protocol.Upstream.call`, for a GET."""
        operation = request.operation
        if operation in LISTS:
            return await self._list(request, LISTS[operation])
        if operation in RESOURCES:
            return await self._resource(request, RESOURCES[operation])
        if operation == "GET_flows-flowId-segments":
            return await self._segments(request)
        if operation == "GET_objects":
            return await self._object(request)
        if operation == "GET_storage-backends":
            return await self._backends(request)
        if operation.startswith(("GET_sources-sourceId-", "GET_flows-flowId-")):
            return await self._property(request)
        return await self._plain(request)

    async def _send(self, request: Request, query: Iterable[tuple[str, str]]) -> Reply:
        path = path_of(TEMPLATES[request.operation][1], request.params)
        return await self.parts.client.send("GET", with_query(path, query))

    async def _plain(self, request: Request) -> Answer:
        reply = await self._send(request, checked(request.query))
        if reply.status != 200:
            return self._refused(reply)
        return Answer(200, [JSON], reply.body, Facts())

    def _refused(self, reply: Reply) -> Answer:
        found = refused(reply, self.parts.client.base, self.parts.clock.stamp())
        if isinstance(found, Error):
            raise found
        return found

    async def _resource(self, request: Request, kind: str) -> Answer:
        (name,) = request.params.values()
        query = checked(request.query)
        if await self._is_no_id(request):
            return self._absent(kind)
        reply = await self._send(request, query)
        if reply.status == 400:
            return await self._refused_of(reply, kind, name, request.view)
        if not is_there(reply):
            return self._absent(kind)
        document = resource_in(reply.body, name)
        if kind == "deletion":
            classes = await self.parts.lookups.deletion_classes(name, document)
            return Answer(200, [JSON], reply.body, Facts(classes))
        return Answer(200, [JSON], reply.body, await self._facts(kind, [document], request.view, document))

    async def _is_no_id(self, request: Request) -> bool:
        """Whether a path parameter cannot be an id, which no upstream need be asked about."""
        return any(not value.replace("-", "").isalnum() for value in request.params.values())

    def _absent(self, kind: str, facts: Facts | None = None, what: str | None = None) -> Answer:
        summary = f"No such {kind}." if what is None else f"The {kind} has no `{what}`."
        answer = refusal(404, summary, self.parts.clock.stamp(), "NotFound")
        answer.facts = facts
        return answer

    async def _refused_of(self, reply: Reply, kind: str, name: str, view: View | None) -> Answer:
        """An upstream that will not have the query, for a resource that may be hidden: whether it looks for
        the resource or at the query first must not tell that it is there."""
        document = await self.parts.lookups.document((kind, name))
        if document is None:
            return self._absent(kind)
        answer = self._refused(reply)
        answer.facts = await self._facts(kind, [document], view, document)
        return answer

    async def _facts(
        self, kind: str, documents: list[Document], view: View | None, of: Document | None = None
    ) -> Facts:
        """The classes of a resource, and of all ids that documents of its kind name."""
        classes = classes_of(of) if of is not None else None
        if view is None or view.admin:
            return Facts(classes)
        known = {document["id"]: classes_of(document) for document in documents if "id" in document}
        named = dict.fromkeys(name for document in documents for name in related_to(kind, document))
        missing = [name for name in named if name not in known]
        found = await self.parts.lookups.classes(kind, missing) if missing else {}
        everything = {**known, **found}
        return Facts(classes, {name: everything[name] for name in named if name in everything})

    async def _property(self, request: Request) -> Answer:
        """A property out of the resource itself, so that what decides is of the same moment."""
        kind = "source" if request.operation.startswith("GET_sources") else "flow"
        checked(request.query)
        name = request.params[f"{kind}Id"]
        document = await self.parts.lookups.document((kind, name))
        if document is None:
            return self._absent(kind)
        facts = await self._facts(kind, [document], request.view, document)
        if "name" in request.params:
            tags = document.get("tags")
            value = (tags if isinstance(tags, dict) else {}).get(request.params["name"], _MISSING)
            return (
                self._absent("source or flow", facts, "tag") if value is _MISSING else answered(value, facts)
            )
        wanted = TEMPLATES[request.operation][1].rpartition("/")[2]
        value = document.get(wanted)
        if value is None:
            value = _DEFAULTS.get(wanted, _MISSING)
        return self._absent(kind, facts, wanted) if value is _MISSING else answered(value, facts)

    async def _list(self, request: Request, kind: str) -> Answer:
        view, path = request.view, path_of(TEMPLATES[request.operation][1], request.params)
        query = checked(request.query)
        place = listing.place_of(request, self.parts.cursors)
        if view is not None and not view.admin and not view.allow:
            return self._page_of(request, Filled([], None, None, Page([], None)), b"[]", Facts())
        if place is None:
            place = Place(filter=await self._filter(view, query))
        exact = view is None or view.admin or (place.filter is not None and not view.deny)
        sent = query if place.filter is None else [*query, ("tag.auth_classes", place.filter)]

        async def fetch(page: Pairs, limit: int) -> Page[Document]:
            return await self.parts.page(path, sent, page, limit)

        async def seen(items: list[Document]) -> list[bool]:
            return [kind == "deletion" or sees(view, classes_of(item)) for item in items]

        try:
            filled = await listing.fill(fetch, seen, _id, listing.limit_of(request.query), place, exact=exact)
        except Refused as exc:
            return self._refused(exc.reply)
        body = filled.whole.body if filled.whole is not None else orjson.dumps(filled.items)
        return self._page_of(request, filled, body, await self._facts(kind, filled.items, view))

    async def _filter(self, view: View | None, query: list[tuple[str, str]]) -> str | None:
        """What the upstream can filter for this view; None where only the proxy can: all that is untagged
        may be seen, or the client filters by class itself."""
        if view is None or view.admin or sees(view, frozenset()):
            return None
        if any(name.lower() == "tag.auth_classes" for name, _ in query):
            return None
        return listing.class_filter(view.allow) if (await self.parts.features()).tag_lists else None

    def _page_of(self, request: Request, filled: Filled[Any], body: bytes, facts: Facts) -> Answer:
        limit = listing.limit_of(request.query)
        told = filled.whole.headers if filled.whole is not None else {}
        effective = told.get("x-paging-limit", "")
        asked = dict(request.query)
        headers = [
            JSON,
            ("x-paging-limit", effective if effective.isdigit() and filled.next else str(limit)),
            ("x-paging-count", str(len(filled.items))),
            ("x-paging-reverse-order", str(asked.get("reverse_order", "").lower() == "true").lower()),
        ]
        if filled.next is not None:
            token = listing.sealed(filled.next, request, self.parts.cursors)
            pairs = [*(pair for pair in request.query if pair[0] != "page"), ("page", token)]
            url = f"{self.parts.public_url}{with_query(request.path, pairs)}"
            headers += [("link", f'<{url}>; rel="next"'), ("x-paging-nextkey", token)]
        return Answer(200, headers, body, facts)

    async def _backends(self, request: Request) -> Answer:
        view, query = request.view, checked(request.query)
        place = listing.place_of(request, self.parts.cursors) or Place()

        async def fetch(page: Pairs, limit: int) -> Page[Document]:
            return await self.parts.page("/service/storage-backends", query, page, limit)

        async def seen(items: list[Document]) -> list[bool]:
            return [readable_by(view, Backend("", classes_of(item), False)) for item in items]

        try:
            exact = view is None or view.admin
            filled = await listing.fill(fetch, seen, _id, listing.limit_of(request.query), place, exact=exact)
        except Refused as exc:
            return self._refused(exc.reply)
        return self._page_of(request, filled, orjson.dumps(filled.items), Facts())

    async def _urls(
        self, request: Request, query: list[tuple[str, str]]
    ) -> tuple[UrlRule, list[tuple[str, str]]]:
        """What becomes of media URLs, and the query that tells enough about them."""
        view = request.view
        listed = () if view is None or view.admin else await self.parts.backends()
        rule = UrlRule.of(listed, view, query, self.parts.relayed)
        if rule.hidden and not rule.verbose:
            query = overlaid(query, [("verbose_storage", "true")])
        return rule, query

    def _told(self, rule: UrlRule, body: bytes) -> bool:
        """Whether a body can be handed on as it is."""
        return not rule.hidden and self.parts.client.base.host not in body

    async def _segments(self, request: Request) -> Answer:
        flow_id = request.params["flowId"]
        if await self._is_no_id(request):
            return self._absent("flow")
        rule, query = await self._urls(request, checked(request.query))
        place = listing.place_of(request, self.parts.cursors) or Place()
        path = f"{PATHS['flow'].format(quote(flow_id, safe=''))}/segments"

        async def fetch(page: Pairs, limit: int) -> Page[Document]:
            return await self.parts.page(path, query, page, limit)

        async def seen(items: list[Document]) -> list[bool]:
            return [True] * len(items)

        try:
            limit = listing.limit_of(request.query)
            filled = await listing.fill(fetch, seen, _segment_name, limit, place, exact=True)
        except Refused as exc:
            return await self._refused_of(exc.reply, "flow", flow_id, request.view)
        # Asked for after the segments: classes taken away before the segments were read are missing here.
        flow = await self.parts.lookups.document(("flow", flow_id))
        body = filled.whole.body if filled.whole is not None else orjson.dumps(filled.items)
        if not self._told(rule, body):
            body = orjson.dumps([rule.apply(item) for item in filled.items])
        answer = self._page_of(request, filled, body, Facts(None if flow is None else classes_of(flow)))
        extent = filled.last.headers.get("x-paging-timerange")
        if filled.whole is not None and extent is not None:
            answer.headers.append(("x-paging-timerange", extent))
        return answer

    async def _object(self, request: Request) -> Answer:
        """An object with those of its flows that the caller sees, paged like a list of them."""
        object_id, view = request.params["objectId"], request.view
        rule, query = await self._urls(request, checked(request.query))
        place = listing.place_of(request, self.parts.cursors) or Place()
        path = path_of("/objects/{objectId}", request.params)
        documents: list[Document] = []
        held: dict[str, Classes] = {}

        async def fetch(page: Pairs, limit: int) -> Page[str]:
            asked = overlaid([*query, ("limit", str(limit))], page)
            reply = await self.parts.client.send("GET", with_query(path, asked))
            if reply.status == 400:
                raise Refused(reply)
            if not is_there(reply):
                raise _Gone
            documents.append(resource_in(reply.body, object_id))
            return Page(referring(documents[-1]), next_page(asked, reply.headers), reply.headers)

        async def seen(items: list[str]) -> list[bool]:
            held.update(await self.parts.lookups.classes("flow", items))
            return [item in held and sees(view, held[item]) for item in items]

        try:
            exact = view is None or view.admin
            limit = listing.limit_of(request.query)
            filled = await listing.fill(fetch, seen, str, limit, place, exact=exact)
        except _Gone:
            return self._absent("object")
        except Refused as exc:
            fact = (await self.parts.lookups.look_up([], [object_id], view)).objects.get(object_id)
            if fact is None or fact.role == "unused":
                return self._absent("object")
            answer = self._refused(exc.reply)
            answer.facts = Facts(None, {}, fact.witness is not None)
            return answer
        document = {**rule.apply(documents[0]), "referenced_by_flows": filled.items}
        facts = await self._object_facts(request, document, filled.items, held)
        return self._page_of(request, filled, orjson.dumps(document), facts)

    async def _object_facts(
        self, request: Request, document: Document, listed: list[str], held: dict[str, Classes]
    ) -> Facts:
        """Readable through any flow that refers to the object, whatever the query filters."""
        first = document.get("first_referenced_by_flow")
        if isinstance(first, str) and first not in held:
            held.update(await self.parts.lookups.classes("flow", [first]))
        readable = bool(listed)
        if not readable:
            object_id = request.params["objectId"]
            known = await self.parts.lookups.look_up([], [object_id], request.view)
            fact = known.objects.get(object_id)
            readable = fact is not None and fact.witness is not None
        return Facts(None, held, readable)


class _Gone(Exception):
    """There is no such object."""


def _id(document: Document) -> str:
    return str(document.get("id"))


def _segment_name(document: Document) -> str:
    return f"{document.get('object_id')} {document.get('timerange')}"
