"""Figures about all that the store has, each from one pass over it in bounded memory. Pure folds."""

from __future__ import annotations

from bisect import bisect_left
from collections import Counter
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from heapq import heappop, heappush
from typing import Any, Final

from store.metadata.protocol import Metadata
from store.metadata.rows import Kind, Role
from store.metadata.survey import Access, Resource, Span, Stored, Subject, Use

S: Final = 1_000_000_000
EDGES_S: Final = (1, 2, 5, 10, 60, 600)
"""Up to how many seconds the classes of durations reach; one more has the longer ones."""
MOST_READ: Final = 10
"""How many objects are named of those that were read most."""
_EPOCH: Final = datetime(1970, 1, 1, tzinfo=UTC)
_UNKNOWN: Final = "unknown"
_SEVERAL: Final[Mapping[str, str]] = {Kind.COPY: "copies", Kind.DELIVERY: "deliveries"}
"""Kinds whose plural has no mere s."""


@dataclass(slots=True)
class _Usage:
    flows: int = 0
    segments: int = 0
    duration_ns: int = 0

    def add(self, flow: Resource) -> None:
        self.flows += 1
        self.segments += flow.segments
        self.duration_ns += flow.media_ns

    def shown(self) -> dict[str, int]:
        return {"flows": self.flows, "segments": self.segments, "duration_ns": self.duration_ns}


@dataclass(slots=True)
class _Usages:
    """Usage by a property, as a list with the most flows first."""

    name: str
    by: dict[str, _Usage] = field(default_factory=dict)

    def add(self, value: str | None, flow: Resource) -> None:
        self.by.setdefault(value or _UNKNOWN, _Usage()).add(flow)

    def shown(self) -> list[dict[str, Any]]:
        ordered = sorted(self.by.items(), key=lambda item: (-item[1].flows, item[0]))
        return [{self.name: value, **usage.shown()} for value, usage in ordered]


async def flow_usage(metadata: Metadata) -> dict[str, Any]:
    """How many flows there are and how much media they have, by format and by codec."""
    return await metadata.survey(Subject.RESOURCES, _flow_usage)


def _flow_usage(resources: Iterable[Resource]) -> dict[str, Any]:
    total, formats, codecs = _Usage(), _Usages("format"), _Usages("codec")
    empty = 0
    for each in resources:
        if each.kind == Kind.FLOW:
            total.add(each)
            formats.add(each.format, each)
            codecs.add(each.codec, each)
            empty += not each.segments
    return {
        "total": total.shown(),
        "flows_without_segments": empty,
        "formats": formats.shown(),
        "codecs": codecs.shown(),
    }


async def storage_usage(metadata: Metadata) -> dict[str, Any]:
    """How many objects there are and of which size, by backend and month, and how they are used."""
    return {
        **await metadata.survey(Subject.OBJECTS, _storage_usage),
        "access": {
            **await metadata.survey(Subject.USES, _access),
            **await metadata.survey(Subject.ACCESSES, _reads),
        },
    }


def _storage_usage(objects: Iterable[Stored]) -> dict[str, Any]:
    roles: Counter[str] = Counter({role.value: 0 for role in Role})
    months: Counter[str] = Counter()
    counts: Counter[str] = Counter()
    sizes: Counter[str] = Counter()
    total, size, sized = 0, 0, 0
    for each in objects:
        total += 1
        roles[each.role] += 1
        months[_month(each.created_ns)] += 1
        sized += each.size_bytes is not None
        size += each.size_bytes or 0
        for backend in each.backends:
            counts[backend] += 1
            sizes[backend] += each.size_bytes or 0
    return {
        "objects": total,
        "objects_by_role": dict(sorted(roles.items())),
        "size_bytes": size,
        "objects_of_known_size": sized,
        "backends": [
            {"storage_id": backend, "objects": counts[backend], "size_bytes": sizes[backend]}
            for backend in sorted(counts)
        ],
        "objects_by_month": dict(sorted(months.items())),
    }


def _month(created_ns: int) -> str:
    """The month of a time, "unknown" beyond the calendar."""
    try:
        return (_EPOCH + timedelta(seconds=created_ns // S)).strftime("%Y-%m")
    except OverflowError:
        return _UNKNOWN


def _access(uses: Iterable[Use]) -> dict[str, int]:
    """`repeated`: uses of an object by a flow that it has more than one segment of."""
    found = {"uses": 0, "references": 0, "repeated": 0, "most_references": 0}
    for each in uses:
        found["uses"] += 1
        found["references"] += each.times
        found["repeated"] += each.times > 1
        found["most_references"] = max(found["most_references"], each.times)
    return found


def _reads(accesses: Iterable[Access]) -> dict[str, Any]:
    """Signed URLs that were given out, the objects they were of, when those were last asked for, and the
    objects that were asked for most. Counts are written down every few seconds."""
    urls, objects = 0, 0
    months: Counter[str] = Counter()
    most: list[tuple[int, str, int]] = []
    for each in accesses:
        urls += each.urls
        objects += 1
        months[_month(each.last_ns)] += 1
        heappush(most, (each.urls, each.object_id, each.last_ns))
        if len(most) > MOST_READ:
            heappop(most)
    return {
        "signed_urls": urls,
        "objects_read": objects,
        "objects_by_last_month": dict(sorted(months.items())),
        "most_read": [
            {"object_id": name, "signed_urls": count, "last_ns": last_ns}
            for count, name, last_ns in sorted(most, reverse=True)
        ],
    }


async def time_range_analysis(metadata: Metadata) -> dict[str, Any]:
    """How long segments are, and the time that they cover."""
    return await metadata.survey(Subject.SEGMENTS, _time_ranges)


def _time_ranges(spans: Iterable[Span]) -> dict[str, Any]:
    counts = [0] * (len(EDGES_S) + 1)
    edges = [edge * S for edge in EDGES_S]
    total, count = 0, 0
    shortest: int | None = None
    longest, first, last = 0, None, None
    for start, stop in spans:
        duration = stop - start
        count += 1
        total += duration
        counts[bisect_left(edges, duration)] += 1
        shortest = duration if shortest is None else min(shortest, duration)
        longest = max(longest, duration)
        first = start if first is None else min(first, start)
        last = stop if last is None else max(last, stop)
    names = [f"up_to_{edge}_s" for edge in EDGES_S] + [f"over_{EDGES_S[-1]}_s"]
    return {
        "segments": count,
        "duration_ns": total,
        "mean_ns": total // count if count else None,
        "shortest_ns": shortest,
        "longest_ns": longest if count else None,
        "first_start_ns": first,
        "last_stop_ns": last,
        "durations": dict(zip(names, counts, strict=True)),
    }


async def catalogue_summary(metadata: Metadata) -> dict[str, Any]:
    """How many of each kind there are, when the first and last of them was made, and sources by format."""
    objects = await metadata.survey(Subject.OBJECTS, lambda found: sum(1 for _ in found))
    return {**await metadata.survey(Subject.RESOURCES, _catalogue), "objects": objects}


def _catalogue(resources: Iterable[Resource]) -> dict[str, Any]:
    kinds: Counter[str] = Counter({kind.value: 0 for kind in Kind if kind is not Kind.SERVICE})
    formats: Counter[str] = Counter()
    segments = 0
    created: list[int] = []
    for each in resources:
        if each.kind == Kind.SERVICE:
            continue
        kinds[each.kind] += 1
        segments += each.segments
        if each.kind == Kind.SOURCE:
            formats[each.format or _UNKNOWN] += 1
        created = [min([each.created_ns, *created]), max([each.created_ns, *created])]
    first, last = created or (None, None)
    return {
        **{_SEVERAL.get(kind, f"{kind}s"): count for kind, count in sorted(kinds.items())},
        "segments": segments,
        "sources_by_format": dict(sorted(formats.items())),
        "first_created_ns": first,
        "last_created_ns": last,
    }
