"""Segments of a flow, downloaded several at once and kept until the work is done."""

from __future__ import annotations

import hashlib
import os
from collections import deque
from collections.abc import Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from store.client.tams import Client, Refused, path
from store.timerange import TimeRange, parse_timestamp
from store.tools.errors import Broken, ToolError

PAGE = 50
EXPIRED = (400, 401, 403)


@dataclass(frozen=True, slots=True)
class Segment:
    """A segment as the store lists it, its times parsed. `wanted`: what of it is asked for."""

    object_id: str
    timerange: TimeRange
    wanted: TimeRange
    own: TimeRange
    ts_offset_ns: int
    urls: tuple[str, ...]
    init_id: str | None
    init_urls: tuple[str, ...]

    @property
    def is_whole(self) -> bool:
        """Whether all of its object is asked for."""
        return self.wanted.contains(self.own.shift(self.ts_offset_ns))


@dataclass(frozen=True, slots=True)
class Fetched:
    """A segment with the files of its object and its init object."""

    segment: Segment
    media: Path
    init: Path | None


class Fetcher:
    """Downloads into `folder`, where the next run finds what this one has got."""

    def __init__(self, client: Client, folder: Path, jobs: int) -> None:
        self._client = client
        self._folder = folder
        self._jobs = jobs

    def segments(self, flow_id: str, span: TimeRange) -> Iterator[Segment]:
        """The segments that overlap a timerange, in order. Raises `Refused`."""
        query = {
            "timerange": str(span),
            "presigned": "true",
            "include_object_timerange": "true",
            "limit": str(PAGE),
        }
        for page in self._client.pages(path("flows", flow_id, "segments"), query):
            for each in page:
                yield _segment(each, span)

    def fetched(self, flow_id: str, span: TimeRange) -> Iterator[Fetched]:
        """The same with their bytes, downloads ahead of what is asked for."""
        pending: deque[Future[Fetched]] = deque()
        pool = ThreadPoolExecutor(self._jobs)
        try:
            for segment in self.segments(flow_id, span):
                pending.append(pool.submit(self._fetch, flow_id, segment))
                if len(pending) > self._jobs:
                    yield pending.popleft().result()
            while pending:
                yield pending.popleft().result()
        finally:
            pool.shutdown(wait=True, cancel_futures=True)

    def _fetch(self, flow_id: str, segment: Segment) -> Fetched:
        media = self._file(flow_id, segment, segment.object_id, segment.urls)
        init = segment.init_id and self._file(flow_id, segment, segment.init_id, segment.init_urls, init=True)
        return Fetched(segment, media, init or None)

    def _file(
        self, flow_id: str, segment: Segment, object_id: str, urls: tuple[str, ...], *, init: bool = False
    ) -> Path:
        """An object's file. A URL that is too old is asked for again, once."""
        target = self._folder / hashlib.sha256(object_id.encode()).hexdigest()
        if target.exists():
            return target
        if not urls:
            raise ToolError(f"the object {object_id} has no URL that you may use")
        try:
            self._download(urls[0], target)
        except Refused as exc:
            if exc.status not in EXPIRED:
                raise Refused(f"the object {object_id}: {exc}", exc.status) from exc
            again = next(self.segments(flow_id, segment.timerange), None)
            fresh = () if again is None else again.init_urls if init else again.urls
            if not fresh:
                raise
            self._download(fresh[0], target)
        return target

    def _download(self, url: str, target: Path) -> None:
        # Of two threads that want the same init object, both may write, each its own.
        partial = target.with_suffix(f".{os.urandom(4).hex()}")
        with partial.open("wb") as file:
            self._client.save(url, file)
        partial.replace(target)


def check(segments: list[Segment], span: TimeRange) -> list[str]:
    """What is missing of a timerange between segments and at its ends, each as a text."""
    found = []
    at = span.first_ns
    for each in segments:
        first, stop = each.wanted.first_ns, each.wanted.stop_ns
        if at is not None and first is not None and first > at:
            found.append(str(TimeRange(at, first)))
        at = stop
    end = span.stop_ns
    if segments and at is not None and end is not None and at < end:
        found.append(str(TimeRange(at, end)))
    return found


def _segment(listed: dict[str, Any], span: TimeRange) -> Segment:
    timerange = TimeRange.parse(listed["timerange"])
    offset_ns = parse_timestamp(listed.get("ts_offset", "0:0"))
    own = listed.get("object_timerange")
    init = listed.get("init_object") or {}
    if timerange.first_ns is None or timerange.stop_ns is None:
        raise Broken(f"a segment has no bounds: {timerange}")
    return Segment(
        listed["object_id"],
        timerange,
        timerange.intersection(span),
        TimeRange.parse(own) if own else timerange.shift(-offset_ns),
        offset_ns,
        _urls(listed),
        init.get("object_id"),
        _urls(init),
    )


def _urls(listed: dict[str, Any]) -> tuple[str, ...]:
    return tuple(each["url"] for each in listed.get("get_urls", ()))
