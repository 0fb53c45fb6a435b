"""Facts about resources and objects of a foreign upstream, by asking for each."""

from __future__ import annotations

import re
from collections.abc import Awaitable, Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any
from urllib.parse import quote

from proxy.errors import BadUpstream, Unavailable, UpstreamTimeout
from proxy.upstream.client import Client, Reply
from proxy.upstream.concurrent import each
from proxy.upstream.documents import (
    PATHS,
    Classes,
    Document,
    classes_of,
    document_in,
    refs,
    resource_in,
    sees,
    strings,
)
from proxy.upstream.headers import next_page, overlaid, path_of, with_query
from proxy.upstream.ledger import Ledger
from proxy.upstream.protocol import Ref, View

FLOWS_AT_ONCE = 16
MOST_PAGES = 100
_UUID = re.compile(r"[0-9a-f]{8}(-[0-9a-f]{4}){3}-[0-9a-f]{12}")


@dataclass(frozen=True, slots=True)
class ObjectFact:
    """As `protocol.ObjectFact`."""

    role: str
    flow_id: str
    witness: str | None = None
    witness_classes: Classes = frozenset()
    flow_ids: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class Known:
    """As `protocol.Known`. `documents`: what was found, whole."""

    classes: Mapping[Ref, Classes]
    source_ids: Mapping[str, str] = field(default_factory=dict)
    profile_ids: Mapping[str, str] = field(default_factory=dict)
    collections: Mapping[str, list[dict[str, Any]]] = field(default_factory=dict)
    objects: Mapping[str, ObjectFact] = field(default_factory=dict)
    documents: Mapping[Ref, Document] = field(default_factory=dict)
    referring: Mapping[str, tuple[str, ...]] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class Used:
    """An object as its upstream describes it, with all flows that refer to it."""

    role: str
    first: str | None
    flows: tuple[str, ...]


class Lookups:
    """Asks an upstream for what decides. Only 200 and 404 are verdicts: for anything else is raised what
    `Client.send` raises."""

    def __init__(self, client: Client, ledger: Ledger, has: Callable[[str], Awaitable[bool]]) -> None:
        """`has`: whether there is such a kind of resource at the upstream at all."""
        self._client = client
        self._has = has
        self._ledger = ledger

    async def document(self, ref: Ref) -> Document | None:
        """One resource, None where there is none."""
        kind, name = ref
        if not _UUID.fullmatch(name) or not await self._has(kind):
            return None
        reply = await self._client.send("GET", PATHS[kind].format(quote(name, safe="")))
        return resource_in(reply.body, name) if is_there(reply) else None

    async def documents(self, wanted: Iterable[Ref]) -> dict[Ref, Document]:
        """Several; what does not exist has no entry."""
        distinct = list(dict.fromkeys(wanted))
        found = await each(distinct, self.document) if distinct else []
        return {ref: document for ref, document in zip(distinct, found, strict=True) if document is not None}

    async def classes(self, kind: str, ids: Iterable[str]) -> dict[str, Classes]:
        """Classes of resources of one kind, by id."""
        found = await self.documents(refs(kind, ids))
        return {name: classes_of(document) for (_, name), document in found.items()}

    async def look_up(self, wanted: Iterable[Ref], objects: Iterable[str], view: View | None) -> Known:
        """As `protocol.Upstream.look_up`."""
        documents = await self.documents(wanted)
        classes = {ref: await self._held(ref, document) for ref, document in documents.items()}
        flows = {name: document for (kind, name), document in documents.items() if kind == "flow"}
        names = list(dict.fromkeys(objects))
        used = dict(zip(names, await each(names, self.used) if names else [], strict=True))
        there = {name: found for name, found in used.items() if found is not None}
        facts = await self._facts(there, view)
        for name, flow_id in (await self._ledger.allocated([n for n in names if n not in there])).items():
            facts[name] = ObjectFact("unused", flow_id, flow_ids=(flow_id,))
        return Known(
            classes,
            {name: flow["source_id"] for name, flow in flows.items() if flow.get("source_id")},
            {name: flow["profile_id"] for name, flow in flows.items() if flow.get("profile_id")},
            {name: flow["flow_collection"] for name, flow in flows.items() if flow.get("flow_collection")},
            facts,
            documents,
            {name: found.flows for name, found in there.items()},
        )

    async def _held(self, ref: Ref, document: Document) -> Classes:
        if ref[0] == "deletion":
            return await self.deletion_classes(ref[1], document)
        return classes_of(document)

    async def deletion_classes(self, request_id: str, document: Document) -> Classes:
        """The classes that a flow had when its deletion was asked for here; those it has now where that is
        not known; none where the flow is gone too."""
        kept = await self._ledger.deletion(request_id)
        if kept is not None:
            return kept
        flow_id = document.get("flow_id")
        flow = await self.document(("flow", flow_id)) if isinstance(flow_id, str) else None
        return classes_of(flow) if flow is not None else frozenset()

    async def used(self, object_id: str) -> Used | None:
        """An object, None where there is none or where it is only allocated."""
        path = path_of("/objects/{id}", {"id": object_id})
        sent = [("limit", "1000"), ("accept_get_urls", "")]
        page: tuple[tuple[str, str], ...] | None = ()
        flows: dict[str, None] = {}
        document: Document = {}
        for _ in range(MOST_PAGES):
            asked = overlaid(sent, page or ())
            reply = await self._client.send("GET", with_query(path, asked))
            if not is_there(reply):
                return None
            document = document_in(reply.body)
            flows.update(dict.fromkeys(referring(document)))
            page = next_page(asked, reply.headers)
            if page is None:
                first = document.get("first_referenced_by_flow")
                role = "media" if "timerange" in document or "init_object" in document else "init"
                return Used(role, first if isinstance(first, str) else None, tuple(flows))
        raise BadUpstream("The upstream's list of an object's flows does not end.")

    async def _facts(self, used: Mapping[str, Used], view: View | None) -> dict[str, ObjectFact]:
        """Facts of objects. Flows are asked about a few per object at a time, until one is seen."""
        held: dict[str, Classes | None] = {}
        reborn = await self._ledger.reborn(found.first for found in used.values() if found.first is not None)
        # Whoever has the id of the first flow, once that is gone, has none of its rights.
        used = {
            n: replace(found, first=None) if found.first in reborn else found for n, found in used.items()
        }
        await self._learn(held, [found.first for found in used.values() if found.first is not None])
        orphans = [found for found in used.values() if found.first is None or held[found.first] is None]
        await self._learn(held, [flow for found in orphans for flow in found.flows])
        searching = dict(used)
        start = 0
        while searching:
            ahead = {name: found.flows[start : start + FLOWS_AT_ONCE] for name, found in searching.items()}
            await self._learn(held, [flow for flows in ahead.values() for flow in flows])
            start += FLOWS_AT_ONCE
            searching = {
                name: found
                for name, found in searching.items()
                if start < len(found.flows) and _witness(ahead[name], held, view) is None
            }
        return {name: _fact(found, held, view) for name, found in used.items()}

    async def _learn(self, held: dict[str, Classes | None], flows: Sequence[str]) -> None:
        missing = [flow for flow in dict.fromkeys(flows) if flow not in held]
        found = await self.classes("flow", missing)
        held.update({flow: found.get(flow) for flow in missing})


def referring(document: Document) -> list[str]:
    """The flows that an object's document names. Raises `BadUpstream` where it names none at all."""
    if not isinstance(document.get("referenced_by_flows"), list):
        raise BadUpstream("The upstream does not tell which flows refer to an object.")
    return strings(document["referenced_by_flows"])


def _witness(flows: Iterable[str], held: Mapping[str, Classes | None], view: View | None) -> str | None:
    for flow in flows:
        classes = held.get(flow)
        if classes is not None and sees(view, classes):
            return flow
    return None


def _fact(used: Used, held: Mapping[str, Classes | None], view: View | None) -> ObjectFact:
    witness = _witness(used.flows, held, view)
    classes = held.get(witness) if witness is not None else None
    # Some upstreams go on naming the first flow when its segments are gone.
    if used.first in used.flows and held.get(used.first) is not None:
        owners: tuple[str, ...] = (used.first,)
    else:
        owners = tuple(flow for flow in used.flows if held.get(flow) is not None)
    first = used.first or (used.flows[0] if used.flows else "")
    return ObjectFact(used.role, first, witness, classes or frozenset(), owners)


def is_there(reply: Reply) -> bool:
    """200 is True and 404 False; raises for anything else."""
    if reply.status == 200:
        return True
    if reply.status == 404:
        return False
    raise failure(reply)


def failure(reply: Reply) -> Unavailable | UpstreamTimeout | BadUpstream:
    """What an answer that is no verdict means."""
    if reply.status in (429, 503):
        return Unavailable("The upstream is overloaded or down.", retry_after_s=retry_after_s(reply))
    if reply.status == 504:
        return UpstreamTimeout("Something behind the upstream did not answer in time.")
    return BadUpstream(f"The upstream answered with status {reply.status}.")


def retry_after_s(reply: Reply) -> int:
    """When the upstream wants to be asked again, in seconds."""
    said = reply.headers.get("retry-after", "")
    return min(int(said), 3600) if said.isascii() and said.isdigit() and len(said) < 6 else 2
