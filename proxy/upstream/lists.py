"""Lists of a foreign upstream, as one caller sees them."""

from __future__ import annotations

import re
from dataclasses import dataclass, replace
from typing import Any

import orjson

from proxy.errors import BadRequest, Error
from proxy.upstream import listing
from proxy.upstream.answers import Answer, Facts, refused
from proxy.upstream.client import Reply
from proxy.upstream.documents import Document, classes_of, related_to, sees, strings
from proxy.upstream.filters import is_made_up, passes
from proxy.upstream.headers import JSON, checked, path_of, with_query
from proxy.upstream.listing import Filled, Page, Pairs, Place, Sees
from proxy.upstream.parts import TEMPLATES, Parts, Refused
from proxy.upstream.protocol import Request, View
from proxy.upstream.urls import Backend, readable_by

LISTS = {
    "GET_sources": "source",
    "GET_flows": "flow",
    "GET_profiles": "profile",
    "GET_flow-delete-requests": "deletion",
}
PUBLIC = "profile"
"""The kind whose untagged resources are everybody's."""
COLLECTED = "collected_by_ids"
MOST_COLLECTORS = 100
_UUID = re.compile(r"[0-9a-f]{8}(-[0-9a-f]{4}){3}-[0-9a-f]{12}")
_NOTHING: Filled[Any] = Filled([], None, None, Page([], None))


@dataclass(frozen=True, slots=True)
class _Asked:
    """A list as it is asked of the upstream. `sees`: what of it the caller does. `exact`: all of it."""

    query: Pairs
    sees: Sees[Document]
    place: Place
    exact: bool


@dataclass(frozen=True, slots=True)
class Lists:
    """Answers lists. Raises the proxy's errors."""

    parts: Parts

    async def answer(self, request: Request, kind: str) -> Answer:
        """A page of sources, flows, profiles or deletion requests."""
        view = request.view
        query = checked(request.query)
        limit = listing.limit_of(request.query)
        place = listing.place_of(request, self.parts.cursors)
        if view is not None and not view.admin and not view.allow and kind != PUBLIC:
            return page_of(self.parts, request, _NOTHING, b"[]", Facts())
        asked = await self._asked(kind, query, view, place)
        if asked is None:
            return page_of(self.parts, request, _NOTHING, b"[]", Facts())
        if not (await self.parts.features()).filters:
            asked = _made_up(asked)
        path = path_of(TEMPLATES[request.operation][1], request.params)
        try:
            filled = await self._filled(path, asked, limit)
        except Refused as exc:
            return refused_by(self.parts, exc.reply)
        body = filled.whole.body if filled.whole is not None else orjson.dumps(filled.items)
        facts = await facts_of(self.parts, kind, filled.items, view)
        return page_of(self.parts, request, filled, body, facts)

    async def _filled(self, path: str, asked: _Asked, limit: int) -> Filled[Document]:
        async def fetch(page: Pairs, count: int) -> Page[Document]:
            return await self.parts.page(path, asked.query, page, count)

        return await listing.fill(fetch, asked.sees, _id, limit, asked.place, exact=asked.exact)

    async def _asked(
        self, kind: str, query: list[tuple[str, str]], view: View | None, place: Place | None
    ) -> _Asked | None:
        """What to ask for; None where nothing can come of it."""
        if _sees_all(view):
            return _Asked(tuple(query), _all, place or Place(), True)
        assert view is not None

        async def seen(items: list[Document]) -> list[bool]:
            held = [classes_of(item) for item in items]
            return [sees(view, classes) or (kind == PUBLIC and not classes) for classes in held]

        if place is None:
            place = Place(filter=await self._filter(kind, view, query))
        sent = query if place.filter is None else [*query, ("tag.auth_classes", place.filter)]
        asked = _Asked(tuple(sent), seen, place, place.filter is not None and not view.deny)
        collectors = dict(query).get(COLLECTED)
        if collectors is None or kind not in ("source", "flow"):
            return asked
        return await self._collected(kind, collectors, asked, view)

    async def _filter(self, kind: str, view: View, query: list[tuple[str, str]]) -> str | None:
        """What the upstream can filter for this view; None where only the proxy can: all that is untagged
        may be seen, or the client filters by class itself."""
        if (
            kind == PUBLIC
            or sees(view, frozenset())
            or any(name.lower() == "tag.auth_classes" for name, _ in query)
        ):
            return None
        return listing.class_filter(view.allow) if (await self.parts.features()).tag_lists else None

    async def _collected(self, kind: str, collectors: str, asked: _Asked, view: View) -> _Asked | None:
        """Only collections that the caller sees count, so that the filter tells of no others."""
        others = tuple(pair for pair in asked.query if pair[0] != COLLECTED)
        if not collectors:
            return replace(asked, query=others, sees=self._loose(kind, asked.sees, view), exact=False)
        ids = collectors.split(",")
        if len(ids) > MOST_COLLECTORS or not all(_UUID.fullmatch(name) for name in ids):
            raise BadRequest(f"`{COLLECTED}` must be a list of at most {MOST_COLLECTORS} lower-case UUIDs.")
        held = await self.parts.lookups.classes(kind, ids)
        seen = [name for name in ids if name in held and sees(view, held[name])]
        return replace(asked, query=(*others, (COLLECTED, ",".join(seen)))) if seen else None

    def _loose(self, kind: str, seen: Sees[Document], view: View) -> Sees[Document]:
        """Those that nothing which the caller sees collects."""

        async def loose(items: list[Document]) -> list[bool]:
            visible = await seen(items)
            parents = [strings(item.get("collected_by")) for item in items]
            named = {name for names, ok in zip(parents, visible, strict=True) if ok for name in names}
            held = await self.parts.lookups.classes(kind, named) if named else {}
            shown = {name for name, classes in held.items() if sees(view, classes)}
            return [ok and shown.isdisjoint(names) for names, ok in zip(parents, visible, strict=True)]

        return loose

    async def backends(self, request: Request) -> Answer:
        """A page of the storage backends; an untagged one is everybody's."""
        view, query = request.view, checked(request.query)

        async def seen(items: list[Document]) -> list[bool]:
            return [readable_by(view, Backend("", classes_of(item), False)) for item in items]

        place = listing.place_of(request, self.parts.cursors) or Place()
        asked = _Asked(tuple(query), seen, place, _sees_all(view))
        try:
            path = TEMPLATES[request.operation][1]
            filled = await self._filled(path, asked, listing.limit_of(request.query))
        except Refused as exc:
            return refused_by(self.parts, exc.reply)
        return page_of(self.parts, request, filled, orjson.dumps(filled.items), Facts())


def _made_up(asked: _Asked) -> _Asked:
    """The same list of an upstream that lacks filters: those are made up for here."""
    here = tuple(pair for pair in asked.query if is_made_up(pair[0]))
    if not here:
        return asked

    async def passing(items: list[Document]) -> list[bool]:
        seen = await asked.sees(items)
        return [ok and passes(here, item) for ok, item in zip(seen, items, strict=True)]

    query = tuple(pair for pair in asked.query if pair not in here)
    return replace(asked, query=query, sees=passing, exact=False)


def _sees_all(view: View | None) -> bool:
    return view is None or view.admin


async def _all(items: list[Document]) -> list[bool]:
    return [True] * len(items)


def _id(document: Document) -> str:
    return str(document.get("id"))


def page_of(parts: Parts, request: Request, filled: Filled[Any], body: bytes, facts: Facts) -> Answer:
    """A page with the headers of TAMS 8.2, which speak of what is returned."""
    told = filled.whole.headers if filled.whole is not None else {}
    effective = told.get("x-paging-limit", "")
    asked = dict(request.query)
    limit = effective if effective.isdigit() and filled.next else str(listing.limit_of(request.query))
    headers = [
        JSON,
        ("x-paging-limit", limit),
        ("x-paging-count", str(len(filled.items))),
        ("x-paging-reverse-order", str(asked.get("reverse_order", "").lower() == "true").lower()),
    ]
    if filled.next is not None:
        token = listing.sealed(filled.next, request, parts.cursors)
        pairs = [*(pair for pair in request.query if pair[0] != "page"), ("page", token)]
        url = f"{parts.public_url}{with_query(request.path, pairs)}"
        headers += [("link", f'<{url}>; rel="next"'), ("x-paging-nextkey", token)]
    return Answer(200, headers, body, facts)


async def facts_of(
    parts: Parts, kind: str, documents: list[Document], view: View | None, of: Document | None = None
) -> Facts:
    """The classes of a resource, and of all ids that documents of its kind name."""
    classes = classes_of(of) if of is not None else None
    if _sees_all(view):
        return Facts(classes)
    known = {document["id"]: classes_of(document) for document in documents if "id" in document}
    named = dict.fromkeys(name for document in documents for name in related_to(kind, document))
    missing = [name for name in named if name not in known]
    found = await parts.lookups.classes(kind, missing) if missing else {}
    everything = {**known, **found}
    return Facts(classes, {name: everything[name] for name in named if name in everything})


def refused_by(parts: Parts, reply: Reply) -> Answer:
    """The upstream's refusal, for the client; or raises what it stands for."""
    found = refused(reply, parts.client.base, parts.clock.stamp())
    if isinstance(found, Error):
        raise found
    return found
