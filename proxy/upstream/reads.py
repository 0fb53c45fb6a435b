"""Reading from a foreign upstream: the answer, and the facts that it is decided on."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Any
from urllib.parse import quote

import orjson

from proxy.errors import NotSupported
from proxy.upstream import listing
from proxy.upstream.answers import Answer, Facts, answered, refusal
from proxy.upstream.client import Reply
from proxy.upstream.documents import (
    PATHS,
    Classes,
    Document,
    classes_of,
    document_in,
    resource_in,
    sees,
)
from proxy.upstream.headers import JSON, checked, next_page, overlaid, path_of, with_query
from proxy.upstream.listing import Page, Pairs, Place
from proxy.upstream.lists import LISTS, Lists, facts_of, page_of, refused_by
from proxy.upstream.lookups import is_there, referring
from proxy.upstream.parts import TEMPLATES, Parts, Refused, lacking
from proxy.upstream.protocol import Request, View
from proxy.upstream.urls import UrlRule

RESOURCES = {
    "GET_sources-sourceId": "source",
    "GET_flows-flowId": "flow",
    "GET_profiles-profileId": "profile",
    "GET_flow-delete-requests-request-id": "deletion",
}
ROOT = ["service", "flows", "sources", "objects", "flow-delete-requests"]
MECHANISMS = "event_stream_mechanisms"
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
            return await Lists(self.parts).answer(request, LISTS[operation])
        if operation in RESOURCES:
            return await self._resource(request, RESOURCES[operation])
        if operation == "GET_flows-flowId-segments":
            return await self._segments(request)
        if operation == "GET_objects":
            return await self._object(request)
        if operation == "GET_storage-backends":
            return await Lists(self.parts).backends(request)
        if operation.startswith(("GET_sources-sourceId-", "GET_flows-flowId-")):
            return await self._property(request)
        if operation == "GET_root":
            checked(request.query)
            return answered(ROOT, Facts())
        return await self._service(request)

    async def _send(self, request: Request, query: Iterable[tuple[str, str]]) -> Reply:
        path = path_of(TEMPLATES[request.operation][1], request.params)
        return await self.parts.client.send("GET", with_query(path, query))

    async def _service(self, request: Request) -> Answer:
        """What the upstream says about itself, less what is not to be had through the proxy."""
        reply = await self._send(request, checked(request.query))
        if reply.status in (404, 405, 501):
            raise NotSupported(lacking(request.operation))
        if reply.status != 200:
            return refused_by(self.parts, reply)
        document = document_in(reply.body)
        ways = document.pop(MECHANISMS, None)
        if isinstance(ways, list) and any(isinstance(w, dict) and w.get("name") == "webhooks" for w in ways):
            document[MECHANISMS] = [{"name": "webhooks"}]
        return answered(document, Facts())

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
        return Answer(
            200, [JSON], reply.body, await facts_of(self.parts, kind, [document], request.view, document)
        )

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
        answer = refused_by(self.parts, reply)
        answer.facts = await facts_of(self.parts, kind, [document], view, document)
        return answer

    async def _property(self, request: Request) -> Answer:
        """A property out of the resource itself, so that what decides is of the same moment."""
        kind = "source" if request.operation.startswith("GET_sources") else "flow"
        checked(request.query)
        name = request.params[f"{kind}Id"]
        document = await self.parts.lookups.document((kind, name))
        if document is None:
            return self._absent(kind)
        facts = await facts_of(self.parts, kind, [document], request.view, document)
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
        answer = page_of(self.parts, request, filled, body, Facts(None if flow is None else classes_of(flow)))
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
            answer = refused_by(self.parts, exc.reply)
            answer.facts = Facts(None, {}, fact.witness is not None)
            return answer
        document = {**rule.apply(documents[0]), "referenced_by_flows": filled.items}
        facts = await self._object_facts(request, document, filled.items, held)
        return page_of(self.parts, request, filled, orjson.dumps(document), facts)

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


def _segment_name(document: Document) -> str:
    return f"{document.get('object_id')} {document.get('timerange')}"
