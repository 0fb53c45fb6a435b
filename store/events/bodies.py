"""The messages that tell of events, as TAMS 8.2 `webhooks` has them."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass

import orjson

from store.domain.urls import UrlFilter, UrlWriter, segment_body
from store.events.values import SEGMENTS_ADDED
from store.media.protocol import Media
from store.metadata.protocol import Metadata
from store.metadata.rows import Document, Event, Kind, Ref
from store.models.common import format_time
from store.params import Params
from store.view import View

VERBOSE = frozenset(
    ("storage_id", "controlled", "store_type", "provider", "region", "availability_zone", "store_product")
    + ("tags",)
)
"""What an entry of `get_urls` has only where it is asked for."""


@dataclass(frozen=True, slots=True)
class Options:
    """What segments are told with: `urls` as a query of the segments' listing would filter them."""

    urls: UrlFilter = UrlFilter()
    object_timerange: bool = False

    @classmethod
    def of(cls, webhook: Document) -> Options:
        """The options of a webhook. No storage ids is no filter, no labels is no URL (rule 59)."""
        labels = webhook.get("accept_get_urls")
        return cls(
            UrlFilter(
                labels=None if labels is None else frozenset(labels),
                storage_ids=frozenset(webhook.get("accept_storage_ids") or ()) or None,
                presigned=webhook.get("presigned"),
                verbose=webhook.get("verbose_storage", False),
            ),
            webhook.get("include_object_timerange", False),
        )

    @classmethod
    def of_query(cls, query: Params) -> Options:
        """The options in a query. Raises `BadRequest`."""
        return cls(UrlFilter.of(query), query.flag("include_object_timerange") or False)


@dataclass(frozen=True, slots=True)
class Renderer:
    """Writes messages. URLs are made then: they are as fresh, and as few, as those of a GET at that time."""

    metadata: Metadata
    backends: Mapping[str, Media]
    now_ns: Callable[[], int]

    async def message(self, event: Event, options: Options, view: View | None) -> bytes:
        """The whole body of a delivery. `view` says which storage backends the listener reads from."""
        if event.type == SEGMENTS_ADDED:
            inner = await self._segments(event, options, view)
        else:
            inner = orjson.dumps(event.body)
        stamp = format_time(event.time_ns).encode()
        kind = event.type.encode()
        return b'{"event_timestamp":"%b","event_type":"%b","event":%b}' % (stamp, kind, inner)

    async def _segments(self, event: Event, options: Options, view: View | None) -> bytes:
        """Segments as they are listed; without URLs once the flow that leads to them is gone."""
        flow_id, segments = event.body["flow_id"], event.body["segments"]
        there = await self.metadata.rows([Ref(Kind.FLOW, flow_id)])
        objects = await self.metadata.objects({s["object_id"] for s in segments}) if there else {}
        inits = {row.init_object_id for row in objects.values() if row.init_object_id is not None}
        init_objects = await self.metadata.objects(inits) if inits else {}
        urls = UrlWriter(self.backends, view, options.urls, self.now_ns() // 1_000_000_000)
        found = []
        for segment in segments:
            if "get_urls" in segment:
                found.append(orjson.dumps(told_elsewhere(segment, options)))
                continue
            row = objects.get(segment["object_id"])
            init = init_objects.get(row.init_object_id or "") if row is not None else None
            found.append(segment_body(orjson.dumps(segment), row, init, urls, options.object_timerange))
        return b'{"flow_id":%b,"segments":[%b]}' % (orjson.dumps(flow_id), b",".join(found))


def told_elsewhere(segment: Document, options: Options) -> Document:
    """A segment that brought its URLs along, for it is kept elsewhere, with those that are asked for."""
    result = {**segment, "get_urls": _wanted(segment["get_urls"], options.urls)}
    init = segment.get("init_object")
    if isinstance(init, dict) and "get_urls" in init:
        result["init_object"] = {**init, "get_urls": _wanted(init["get_urls"], options.urls)}
    if not options.object_timerange:
        result.pop("object_timerange", None)
    return result


def _wanted(entries: list[Document], urls: UrlFilter) -> list[Document]:
    found = []
    for entry in entries:
        passes = (
            (urls.labels is None or entry.get("label") in urls.labels)
            and (urls.storage_ids is None or entry.get("storage_id") in urls.storage_ids)
            and (urls.presigned is None or (entry.get("presigned") is True) is urls.presigned)
        )
        if passes:
            hidden = frozenset[str]() if urls.verbose else VERBOSE
            found.append({name: value for name, value in entry.items() if name not in hidden})
    return found
