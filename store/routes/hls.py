"""`/flows/{flowId}/hls.m3u8` and `/sources/{sourceId}/hls.m3u8`. Not of the specification.

Playlists hold what the caller may read, and signed URLs of it, as `/segments` does.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Iterable, Mapping
from typing import Any

import orjson

from store.core import Store
from store.domain.collections import flow_ref
from store.domain.hls import MIME, Item, Variant, length_ns, media_playlist, multivariant, redirected
from store.domain.urls import UrlWriter
from store.errors import BadRequest, Error
from store.http import Facts, Request, Response, failure, utc_now
from store.metadata.query import Query, SegmentQuery
from store.metadata.rows import Document, Kind, ObjectRow, Ref, Row, SegmentRow
from store.routes.properties import absent, load_row
from store.timerange import NS_PER_S, TimeRange
from store.view import visible

PAGE = 1000
MOST_SEGMENTS = 20_000
MOST_FLOWS = 100
LIVE_SEGMENTS = 4
"""How far behind the end a live playlist begins."""

MULTI, AUDIO = "urn:x-nmos:format:multi", "urn:x-nmos:format:audio"
FROM_FLOW, FROM_SOURCE = "../", "../../flows/"
"""The way from a playlist to `/flows/`."""
Make = Callable[[Store, Request, Row], Awaitable[Response]]


async def get_flow_playlist(store: Store, request: Request) -> Response:
    """GET /flows/{flowId}/hls.m3u8: its segments, or the flows that it collects."""
    return await _for_reader(store, request, Ref(Kind.FLOW, request.params["flowId"]), _flow_playlist)


async def get_flow_media(store: Store, request: Request) -> Response:
    """GET /flows/{flowId}/hls/{objectId}: to a signed URL of an object of the flow, or of the init object
    `of` one."""
    return await _for_reader(store, request, Ref(Kind.FLOW, request.params["flowId"]), _flow_media)


async def get_source_playlist(store: Store, request: Request) -> Response:
    """GET /sources/{sourceId}/hls.m3u8: the flows of a source."""
    ref = Ref(Kind.SOURCE, request.params["sourceId"])
    return await _for_reader(store, request, ref, _source_playlist)


async def _for_reader(store: Store, request: Request, ref: Ref, make: Make) -> Response:
    """What is made of a row, for who sees it. To others nothing is made, and a query that cannot be is not
    told: both would say that the row is there."""
    row = await load_row(store, request, ref.kind, ref.id)
    if not visible(request.view, row.classes):
        return absent("There is nothing to play here.", Facts(row.classes))
    try:
        response = await make(store, request, row)
    except Error as exc:
        response = failure(exc, utc_now())
    # The row comes last, too: whoever may read it now may read what was read before.
    response.facts = Facts((await load_row(store, request, ref.kind, ref.id)).classes)
    return response


async def _flow_playlist(store: Store, request: Request, row: Row) -> Response:
    flow: Document = orjson.loads(row.document)
    facts = Facts(row.classes)
    span = request.query.timerange("timerange")
    live = request.query.flag("live") or False
    if "container" not in flow:
        variants, sound = await _collected(store, request, flow)
        return _playlists(request, variants, sound, FROM_FLOW, facts)
    if live and (span is None or span.start_ns is None):
        # A playlist may only grow: where it begins is fixed here, once, in the address of another one.
        begin = await _edge(store, row.id)
        variant = await _variant(store, request, flow)
        return _playlists(request, [variant], [], FROM_FLOW, facts, timerange=str(begin))
    items = await _items(store, request, span)
    redirects = request.query.flag("redirect")
    if redirects is None:
        # A playlist that ends is read once: its URLs would expire while it plays.
        redirects = not live and length_ns(items) > store.service.min_presigned_url_timeout_s * NS_PER_S
    if redirects:
        kept = [pair for pair in request.query.pairs if pair[0] not in ("timerange", "live", "redirect")]
        items = [redirected(item, row.id, kept) for item in items]
    return _answer(media_playlist(items, ended=not live), facts)


async def _flow_media(store: Store, request: Request, row: Row) -> Response:
    facts = Facts(row.classes)
    object_id, of = request.params["objectId"], request.query.text("of")
    page = await store.metadata.segments(SegmentQuery(row.id, 1, object_id=of or object_id))
    found = next(((each.init_object if of else each.object) for each in page.rows), None)
    url = _url(found, store.url_writer(request)) if found is not None and found.id == object_id else None
    if url is None:
        return absent("The flow has no such media.", facts)
    return Response(307, [("location", url), ("cache-control", "private, no-store")], b"", facts)


async def _source_playlist(store: Store, request: Request, row: Row) -> Response:
    rows, _ = await store.metadata.page(Query(Kind.FLOW, request.view, MOST_FLOWS, source_id=row.id))
    variants: list[Variant] = []
    sound: list[Document] = []
    for flow in map(_document, rows):
        if "container" in flow:
            variants.append(await _variant(store, request, flow))
        else:
            more, heard = await _collected(store, request, flow)
            variants += more
            sound += [each for each in heard if each not in sound]
    return _playlists(request, variants, sound, FROM_SOURCE, Facts(row.classes))


async def _collected(
    store: Store, request: Request, flow: Mapping[str, Any]
) -> tuple[list[Variant], list[Document]]:
    """Of the flows that a flow collects, those with segments: what a player chooses from, and its sound."""
    members = [each for each in await _members(store, request, flow) if "container" in each]
    sound = [each for each in members if each["format"] == AUDIO]
    pictures = [each for each in members if each["format"] != AUDIO]
    if not pictures:
        return [Variant(each) for each in sound], []
    found = [await _variant(store, request, each) for each in pictures]
    return [Variant(each.flow, each.members, bool(sound)) for each in found], sound


async def _variant(store: Store, request: Request, flow: Document) -> Variant:
    """A flow with what is in its container."""
    ids = [item["id"] for item in flow.get("flow_collection", ())]
    members = await _members(store, request, flow)
    return Variant(flow, members if len(members) == len(ids) else None)


async def _members(store: Store, request: Request, flow: Mapping[str, Any]) -> list[Document]:
    """The flows that a flow collects and the caller sees, in order."""
    refs = [flow_ref(item["id"]) for item in flow.get("flow_collection", ())]
    rows = await store.metadata.rows(refs)
    return [_document(rows[r]) for r in refs if r in rows and visible(request.view, rows[r].classes)]


def _document(row: Row) -> Document:
    found: Document = orjson.loads(row.document)
    return found


async def _edge(store: Store, flow_id: str) -> TimeRange:
    """From a few segments before the end on; all, when there are no more."""
    page = await store.metadata.segments(SegmentQuery(flow_id, LIVE_SEGMENTS, reverse=True))
    if not page.rows:
        return TimeRange(None, None)
    return TimeRange(page.rows[-1].start_ns, None)


async def _items(store: Store, request: Request, span: TimeRange | None) -> list[Item]:
    """What there is to play. Raises `BadRequest` for more than a playlist should hold."""
    urls = store.url_writer(request)
    items: list[Item] = []
    count, after_ns = 0, None
    while True:
        page = await store.metadata.segments(
            SegmentQuery(request.params["flowId"], PAGE, span, after_ns=after_ns)
        )
        count += len(page.rows)
        if count > MOST_SEGMENTS:
            raise BadRequest(f"That is more than {MOST_SEGMENTS} segments: say a shorter `timerange`.")
        items += [item for item in (_item(row, urls) for row in page.rows) if item is not None]
        if not page.more or not page.rows:
            return items
        after_ns = page.rows[-1].start_ns


def _item(row: SegmentRow, urls: UrlWriter) -> Item | None:
    """A segment to play, None where the caller may have no URL for it."""
    url = _url(row.object, urls)
    if row.object is None or url is None:
        return None
    init = None
    if row.init_object is not None:
        init_url = _url(row.init_object, urls)
        if init_url is None:
            return None
        init = row.init_object.id, init_url
    document = orjson.loads(row.document)
    span = TimeRange.parse(document["timerange"])
    return Item(row.object.id, span, document.get("ts_offset", "0:0"), url, init)


def _url(obj: ObjectRow | None, urls: UrlWriter) -> str | None:
    """The first URL; signed ones come first."""
    found = [] if obj is None else orjson.loads(urls.write(obj))
    return str(found[0]["url"]) if found else None


def _playlists(
    request: Request,
    variants: list[Variant],
    sound: Iterable[Document],
    up: str,
    facts: Facts,
    **instead: str,
) -> Response:
    if not variants:
        return absent("There is nothing to play here.", facts)
    kept = [pair for pair in request.query.pairs if pair[0] not in instead]
    return _answer(multivariant(variants, list(sound), up, [*kept, *instead.items()]), facts)


def _answer(text: str, facts: Facts) -> Response:
    # What is signed is the caller's, and does not last.
    headers = [("content-type", MIME), ("cache-control", "private, no-store")]
    return Response(200, headers, text.encode(), facts)
