"""What sources and flows have in common: tags, label, description, each at a path of its own."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from typing import Any, Protocol

import orjson
from pydantic import TypeAdapter

from store.core import Store
from store.domain.flows import set_property, set_tag
from store.errors import NotFound
from store.http import Facts, Request, Response, failure, no_content, ok, utc_now
from store.metadata.rows import Document, Kind, Ref, Row
from store.models.parsing import load, validate, validate_tag

Handler = Callable[[Store, Request], Awaitable[Response]]
Apply = Callable[[Document], Document]
MISSING = object()


class EditDocument(Protocol):
    """Applies an edit to the document that a request names."""

    async def __call__(self, store: Store, request: Request, apply: Apply) -> None: ...


async def load_row(store: Store, request: Request, kind: Kind, resource_id: str) -> Row:
    """One row. Raises `NotFound`."""
    row = await store.metadata.row(Ref(kind, resource_id), request.view)
    if row is None:
        raise NotFound(f"No such {kind}.")
    return row


def get_property(kind: Kind, param: str, name: str, default: Any = MISSING) -> Handler:
    """Reads one property; without a default an unset one is absent."""

    async def handler(store: Store, request: Request) -> Response:
        row = await load_row(store, request, kind, request.params[param])
        value = orjson.loads(row.document).get(name, default)
        facts = Facts(row.classes, row.related)
        if value is MISSING:
            return absent(f"The {kind} has no `{name}`.", facts)
        return ok(value, facts)

    return handler


def absent(summary: str, facts: Facts) -> Response:
    """404 for something a resource does not have: with facts, so that only who may read it learns that."""
    response = failure(NotFound(summary), utc_now())
    response.facts = facts
    return response


def put_property(edit: EditDocument, name: str, adapter: TypeAdapter[Any]) -> Handler:
    """Sets one property to the body."""

    async def handler(store: Store, request: Request) -> Response:
        value = validate(adapter, load(request.body))
        if isinstance(value, list):
            value = [item.document() for item in value]
        await edit(store, request, set_property(name, value))
        return no_content()

    return handler


def delete_property(edit: EditDocument, name: str) -> Handler:
    """Drops one property; one that is not set is dropped already."""

    async def handler(store: Store, request: Request) -> Response:
        await edit(store, request, set_property(name, None))
        return no_content()

    return handler


def get_tag(kind: Kind, param: str) -> Handler:
    """Reads one tag's value."""

    async def handler(store: Store, request: Request) -> Response:
        row = await load_row(store, request, kind, request.params[param])
        tags = orjson.loads(row.document).get("tags") or {}
        facts = Facts(row.classes, row.related)
        if request.params["name"] not in tags:
            return absent("No such tag.", facts)
        return ok(tags[request.params["name"]], facts)

    return handler


def put_tag(edit: EditDocument) -> Handler:
    """Sets one tag to the body."""

    async def handler(store: Store, request: Request) -> Response:
        name = request.params["name"]
        await edit(store, request, set_tag(name, validate_tag(name, load(request.body))))
        return no_content()

    return handler


def delete_tag(edit: EditDocument) -> Handler:
    """Removes one tag."""

    async def handler(store: Store, request: Request) -> Response:
        await edit(store, request, set_tag(request.params["name"], None))
        return no_content()

    return handler
