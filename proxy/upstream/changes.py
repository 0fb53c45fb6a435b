"""Writing to a foreign upstream: what a write rests on is looked at once more right before it goes out."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

import orjson

from proxy.errors import NotSupported
from proxy.upstream.answers import Answer, Facts, refusal
from proxy.upstream.client import Reply
from proxy.upstream.documents import Document, document_in
from proxy.upstream.headers import JSON, checked, moved, path_of, with_query
from proxy.upstream.lists import refused_by
from proxy.upstream.lookups import Known
from proxy.upstream.messages import remembered_of
from proxy.upstream.parts import TEMPLATES, Parts, lacking
from proxy.upstream.protocol import Expect, Ref, Request
from proxy.upstream.urls import uploads

CHANGED = "What the request was decided on has changed."
TAKEN = "An object id is in use already."
_NOTHING = Expect()
_WRITERS = ("created_by", "updated_by")


@dataclass(frozen=True, slots=True)
class Changes:
    """Performs every write of the API. Raises the proxy's errors."""

    parts: Parts

    async def answer(self, request: Request) -> Answer:
        """As `protocol.Upstream.call`, for anything but a GET: 409 where `expect` does not hold."""
        method, template = TEMPLATES[request.operation]
        target = with_query(path_of(template, request.params), checked(request.query))
        expect = request.expect or _NOTHING
        known = await self._look(expect)
        if not holds(expect, known):
            return refusal(409, CHANGED, self.parts.clock.stamp(), "Expectation")
        body = request.body
        if request.operation == "PUT_flows-flowId":
            flow = ("flow", request.params["flowId"])
            if flow in expect.classes and flow not in known.classes:
                await self.parts.ledger.forget(flow[1])
            body = _signed(body, known.documents.get(flow), request.actor)
        if request.operation == "POST_flows-flowId-storage" and await self._is_taken(request):
            return refusal(400, TAKEN, self.parts.clock.stamp())
        if request.operation == "DELETE_flows-flowId":
            await self._remember(known, ("flow", request.params["flowId"]))
        reply = await self.parts.client.send(method, target, body or None)
        if reply.status in (405, 501):
            raise NotSupported(lacking(request.operation))
        if not 200 <= reply.status < 300:
            return refused_by(self.parts, reply)
        return await self._done(request, reply, expect)

    async def _remember(self, known: Known, flow: Ref) -> None:
        """A flow, and its source that may go with it, as they are before: their events are authorised so."""
        document = known.documents.get(flow)
        if document is None:
            return
        said = remembered_of("flow", document)
        await self.parts.ledger.remember(flow, said)
        source = ("source", said.source_id or "")
        above = await self.parts.lookups.document(source)
        if above is not None:
            await self.parts.ledger.remember(source, remembered_of("source", above))

    async def _look(self, expect: Expect) -> Known:
        flows = [("flow", name) for name in expect.members]
        objects = {name for name, _ in expect.references} | expect.unknown
        return await self.parts.lookups.look_up([*expect.classes, *flows], objects, None)

    async def _is_taken(self, request: Request) -> bool:
        """Whether an object id is asked for that another flow holds: upstreams may not say so themselves."""
        try:
            document = orjson.loads(request.body) if request.body else {}
        except orjson.JSONDecodeError:
            return False
        ids = document.get("object_ids") if isinstance(document, dict) else None
        if not isinstance(ids, list):
            return False
        names = [name for name in ids if isinstance(name, str)]
        known = await self.parts.lookups.look_up([], names, None)
        return bool(known.objects)

    async def _done(self, request: Request, reply: Reply, expect: Expect) -> Answer:
        status, body, facts = reply.status, reply.body, None
        headers: list[tuple[str, str]] = []
        if request.operation == "POST_flows-flowId-storage":
            body = await self._allocated(request, document_in(body))
        elif request.operation == "PUT_flows-flowId":
            facts = Facts(expect.classes.get(("flow", request.params["flowId"])))
        elif status == 202:
            await self._deferred(request, document_in(body), expect)
            location = moved(reply.headers.get("location", ""), self.parts.client.base, self.parts.public_url)
            if location is not None:
                headers.append(("location", location))
        if status == 204:
            body = b""
        if body:
            document_in(body)
            headers.insert(0, JSON)
        return Answer(status, headers, body, facts)

    async def _allocated(self, request: Request, document: Document) -> bytes:
        """Remember what was allocated for which flow before the client learns of it."""
        objects = document.get("media_objects")
        ids = [item["object_id"] for item in objects or [] if isinstance(item, dict) and "object_id" in item]
        await self.parts.ledger.allocate(ids, request.params["flowId"])
        return orjson.dumps(uploads(document, self.parts.relayed))

    async def _deferred(self, request: Request, document: Document, expect: Expect) -> None:
        classes = expect.classes.get(("flow", request.params["flowId"]))
        if isinstance(document.get("id"), str) and classes is not None:
            await self.parts.ledger.delete(document["id"], classes)


def holds(expect: Expect, known: Known) -> bool:
    """Whether what a write was authorised on is still so."""
    return (
        all(known.classes.get(ref) == classes for ref, classes in expect.classes.items())
        and all(_members(known, flow_id) == members for flow_id, members in expect.members.items())
        and all(flow_id in known.referring.get(name, ()) for name, flow_id in expect.references)
        and not any(name in known.objects for name in expect.unknown)
    )


def _members(known: Known, flow_id: str) -> tuple[str, ...]:
    return tuple(str(item.get("id")) for item in known.collections.get(flow_id, ()))


def _signed(body: bytes, current: Mapping[str, object] | None, actor: str | None) -> bytes:
    """A flow with who wrote it, whatever the client says of that: the upstream sees the proxy alone."""
    document = document_in(body)
    document = {name: value for name, value in document.items() if name not in _WRITERS}
    if actor is not None:
        document["updated_by"] = actor
        if current is None:
            document["created_by"] = actor
        elif "created_by" in current:
            document["created_by"] = current["created_by"]
    return orjson.dumps(document)
