"""Listings of documents: filters, order, pages. Rules 7-11."""

from __future__ import annotations

from collections.abc import Mapping
from functools import lru_cache
from typing import Any

from store.core import Store
from store.http import Facts, Request, Response, array, read_position
from store.metadata.query import Query, Sort, position
from store.metadata.rows import Row
from store.models.common import format_time
from store.params import Params
from store.view import View

FORMATS = (
    "urn:x-nmos:format:video",
    "urn:x-tam:format:image",
    "urn:x-nmos:format:audio",
    "urn:x-nmos:format:data",
    "urn:x-nmos:format:multi",
)


async def listing(store: Store, request: Request, query: Query) -> Response:
    """One page of documents, with the classes of all related ids as facts."""
    rows, more = await store.metadata.page(query)
    last = None
    if more and rows:
        last = position(query.sort, rows[-1])
    related: dict[str, frozenset[str]] = {}
    for row in rows:
        if row.related:
            related |= row.related
    headers = store.paging(request).headers(query.limit, len(rows), last, reverse=query.reverse)
    return Response(200, headers, array(map(body_of, rows)), Facts(related=related))


def body_of(row: Row) -> bytes:
    """A row's JSON as clients get it: with the time of its last segment write spliced in."""
    if row.segments_updated_ns is None:
        return row.document
    return row.document[:-1] + _updated(row.segments_updated_ns)


@lru_cache(maxsize=4_096)
def _updated(at_ns: int) -> bytes:
    """The end of a document with the time of its last segment write."""
    return b',"segments_updated":"' + format_time(at_ns).encode() + b'"}'


def sort_of(query: Params, choices: Mapping[str, Sort]) -> Sort:
    """The `sort_by` of a query, `created` when absent. Raises `BadRequest`."""
    return choices[query.choice("sort_by", choices) or "created"]


def page_of(store: Store, request: Request, view: View | None) -> dict[str, Any]:
    """Of a `Query`: which page is asked for, of what a view sees."""
    return {
        "view": view,
        "limit": store.limit(request),
        "reverse": request.query.flag("reverse_order") or False,
        "after": store.paging(request).position(read_position),
    }


def tagged(query: Params) -> dict[str, Any]:
    """Of a `Query`: the filters by tag."""
    tags, tag_exists = query.tags()
    return {"tags": tags, "tag_exists": tag_exists}
