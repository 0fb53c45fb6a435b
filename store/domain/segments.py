"""Segments: what may be registered, and what registering does to the objects. Rules 31-43."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence, Set
from dataclasses import dataclass, field

import orjson

from store.domain.claims import Claims, unclaimed
from store.domain.collections import flow_ref, source_ref
from store.domain.draft import settled
from store.domain.flows import deletion_of
from store.errors import BadRequest, Error, Forbidden, NotFound
from store.events import values as events
from store.events.addresses import Addresses
from store.media.protocol import Media, Stat
from store.metadata.protocol import AddSegments, Metadata, Registration
from store.metadata.rows import (
    Document,
    Event,
    Expect,
    Instance,
    NewSegment,
    ObjectRow,
    Role,
    Row,
    UncontrolledUrl,
)
from store.models.segment import SegmentPost
from store.timerange import InvalidTimeRange, TimeRange

UNKNOWN_OBJECT = "The object does not exist, or is not available to this flow."
"""One answer for what is absent, hidden, or another flow's: nothing can be learnt from it."""


OWN = ("object_id", "timerange", "ts_offset", "last_duration", "sample_offset", "sample_count")
"""What is a segment's own; the rest of what it is listed with belongs to its object."""


@dataclass(frozen=True, slots=True)
class Registering:
    """What one request to register segments runs with. `claims` None: whoever asks is spoken for itself."""

    metadata: Metadata
    backends: Mapping[str, Media]
    now_ns: int
    verify: bool
    expect: Expect | None = None
    addresses: Addresses = Addresses()
    claims: Claims | None = None


@dataclass(frozen=True, slots=True)
class Pins:
    """What was frozen: by object id and backend id, what the bytes are. `missing`: ids of objects whose
    bytes must be there and are not (rule 47)."""

    stats: Mapping[str, Mapping[str, Stat]] = field(default_factory=dict)
    missing: frozenset[str] = frozenset()

    def frozen(self, row: ObjectRow) -> tuple[tuple[Instance, ...], int | None]:
        """An object's instances with the versions that were frozen, and its size."""
        stats = self.stats.get(row.id)
        if not stats:
            return row.instances, row.size_bytes
        instances = tuple([_with_version(instance, stats) for instance in row.instances])
        return instances, next(iter(stats.values())).size_bytes


def _with_version(instance: Instance, stats: Mapping[str, Stat]) -> Instance:
    stat = stats.get(instance.backend_id)
    if stat is None or stat.version == instance.version:
        return instance
    return Instance(instance.backend_id, instance.key, instance.content_type, stat.version, instance.complete)


async def writable_flow(metadata: Metadata, flow_id: str) -> tuple[Row, Document]:
    """A flow that segments can be written to. Raises `NotFound`, `Forbidden` (rule 22), `BadRequest`
    (rule 40: no container)."""
    row = (await metadata.rows([flow_ref(flow_id)])).get(flow_ref(flow_id))
    if row is None:
        raise NotFound("No such flow.")
    document: Document = orjson.loads(row.document)
    if deletion_of(row) is not None:
        raise Forbidden("The flow is being deleted.")
    if document.get("read_only"):
        raise Forbidden("The flow is read-only.")
    if "container" not in document:
        raise BadRequest("The flow has no `container`.")
    return row, document


async def add_segments(
    using: Registering, flow_id: str, posts: Sequence[SegmentPost | Error]
) -> list[Error | None]:
    """Register segments in order; one entry per post, None where it was written (rule 35).

    A post that is an error already stays that error. Raises what `writable_flow` raises.
    """

    async def step() -> list[Error | None]:
        row, flow = await writable_flow(using.metadata, flow_id)
        labels = {media.backend.label for media in using.backends.values()}
        since_ns = None if using.claims is None else await using.claims.since_ns(row, flow)
        checked = (post if isinstance(post, Error) else _checked(using, post, labels) for post in posts)
        found = unclaimed(checked, since_ns)
        segments = [new for new in found if isinstance(new, NewSegment)]
        source = (await using.metadata.rows([source_ref(flow["source_id"])])).values()
        source_document = next((orjson.loads(s.document) for s in source), None)
        pins = await _pin(using, flow_id, segments)
        created_ns = max(using.now_ns, row.created_ns)
        outcomes: list[Error | None] = []
        try:
            outcomes = await using.metadata.add_segments(
                AddSegments(
                    flow_id,
                    row.version,
                    segments,
                    lambda new, obj, init: judge(flow_id, new, obj, init, pins, created_ns),
                    lambda flow_row, added: _announce(flow, source_document, added, using.now_ns),
                    using.now_ns,
                    using.expect,
                )
            )
        finally:
            await _unpin_unused(using, pins, _used(segments, outcomes))
        written = iter(outcomes)
        return [error if isinstance(error, Error) else next(written) for error in found]

    return await settled(step)


def _checked(using: Registering, post: SegmentPost, backend_labels: set[str | None]) -> NewSegment | Error:
    """A post as a segment to be registered, or what is wrong with it on its own."""
    try:
        for entry in post.get_urls or ():
            check_url(using.addresses, entry.url)
        return _segment(post, backend_labels)
    except (BadRequest, InvalidTimeRange) as exc:
        return exc if isinstance(exc, BadRequest) else BadRequest(f"{exc}.")


def check_url(addresses: Addresses, url: str) -> None:
    """Refuse a URL that readers would be led inside by. Raises `BadRequest`."""
    problem = addresses.problem(url)
    if problem is not None:
        raise BadRequest(f"A URL {problem}.")


def _segment(post: SegmentPost, backend_labels: set[str | None]) -> NewSegment:
    span = post.timerange.value
    assert span.first_ns is not None and span.stop_ns is not None
    offset_ns = post.ts_offset.ns if post.ts_offset is not None else 0
    if offset_ns:
        span.shift(-offset_ns)
    if post.init_object_id == post.object_id:
        raise BadRequest("An object cannot be its own init object.")
    own = {name: value for name in OWN if (value := getattr(post, name)) is not None}
    return NewSegment(
        object_id=post.object_id,
        start_ns=span.first_ns,
        stop_ns=span.stop_ns,
        document=orjson.dumps(own),
        timerange=str(post.timerange),
        object_timerange=post.object_timerange,
        ts_offset_ns=offset_ns,
        key_frame_count=post.key_frame_count,
        init_object_id=post.init_object_id,
        urls=_uncontrolled(post, backend_labels),
    )


def _uncontrolled(post: SegmentPost, backend_labels: set[str | None]) -> tuple[UncontrolledUrl, ...]:
    """The URLs a client brings (rule 42); one without a label gets a name by its place."""
    found = []
    for number, entry in enumerate(post.get_urls or (), 1):
        label = entry.label if entry.label is not None else f"url-{number}"
        if label in backend_labels:
            raise BadRequest("A label in `get_urls` is that of a storage backend.")
        found.append(UncontrolledUrl(entry.url, label))
    if len({url.label for url in found}) != len(found):
        raise BadRequest("A label stands in `get_urls` more than once.")
    return tuple(found)


async def _pin(using: Registering, flow_id: str, segments: Sequence[NewSegment]) -> Pins:
    """Freeze the bytes of objects that this would register for the first time, before any reader can
    see them."""
    ids = {s.object_id for s in segments} | {s.init_object_id for s in segments if s.init_object_id}
    rows = await using.metadata.objects(ids)
    places: dict[str, list[tuple[str, str]]] = {}
    for row in rows.values():
        if row.role is Role.UNUSED and row.flow_id == flow_id:
            for instance in row.instances:
                places.setdefault(instance.backend_id, []).append((instance.key, row.id))
    stats: dict[str, dict[str, Stat]] = {}
    missing = set()
    for backend_id, uploads in places.items():
        media = using.backends.get(backend_id)
        found = {} if media is None else await media.pin([key for key, _ in uploads])
        for key, object_id in uploads:
            if key in found:
                stats.setdefault(object_id, {})[backend_id] = found[key]
            else:
                missing.add(object_id)
    return Pins(stats, frozenset(missing) if using.verify else frozenset())


def _used(segments: Sequence[NewSegment], outcomes: Sequence[Error | None]) -> set[str | None]:
    """The ids of the objects that segments were registered with."""
    written = [new for new, error in zip(segments, outcomes, strict=False) if error is None]
    return {id for new in written for id in (new.object_id, new.init_object_id)}


async def _unpin_unused(using: Registering, pins: Pins, used: Set[str | None]) -> None:
    """Let uploads go on for objects that were frozen but not registered after all. `used`: those that
    certainly were."""
    left = pins.stats.keys() - used
    if not left:
        return
    unused = [row for row in (await using.metadata.objects(left)).values() if row.role is Role.UNUSED]
    for media, keys in _frozen(using, pins, unused):
        await media.unpin(keys)
    if not unused:
        return
    # Another request may have registered one meanwhile, and must find it frozen.
    after = (await using.metadata.objects([row.id for row in unused])).values()
    for media, keys in _frozen(using, pins, [row for row in after if row.role is not Role.UNUSED]):
        await media.pin(keys)


def _frozen(using: Registering, pins: Pins, rows: Iterable[ObjectRow]) -> list[tuple[Media, list[str]]]:
    """By storage backend, the keys of objects that were frozen."""
    keys: dict[str, list[str]] = {}
    for row in rows:
        for instance in row.instances:
            if instance.backend_id in pins.stats[row.id]:
                keys.setdefault(instance.backend_id, []).append(instance.key)
    return [(using.backends[backend_id], found) for backend_id, found in keys.items()]


def judge(
    flow_id: str,
    new: NewSegment,
    obj: ObjectRow | None,
    init: ObjectRow | None,
    pins: Pins,
    created_ns: int,
) -> Registration | Error:
    """What registering a segment makes of its objects, or why it is refused. Pure.

    `created_ns`: for an object that the segment brings with it; never before the flow was created.
    """
    if pins.missing and (new.object_id in pins.missing or new.init_object_id in pins.missing):
        return BadRequest("The bytes of the object have not been uploaded.")
    new_init = None if new.init_object_id is None else _judge_init(flow_id, new, init, pins)
    if isinstance(new_init, Error):
        return new_init
    if obj is None:
        if not new.urls:
            return BadRequest(UNKNOWN_OBJECT)
        obj = ObjectRow(new.object_id, Role.UNUSED, flow_id, created_ns)
    if obj.role is Role.INIT:
        return BadRequest("An init object cannot be used as media.")
    if obj.role is Role.MEDIA:
        error = _conflict(new, obj)
        return error or Registration(None, new_init)
    if obj.flow_id != flow_id:
        return BadRequest(UNKNOWN_OBJECT)
    return Registration(_registered(new, obj, pins), new_init)


def _judge_init(
    flow_id: str, new: NewSegment, init: ObjectRow | None, pins: Pins
) -> ObjectRow | Error | None:
    """The init object that the segment names as it is to be; None where nothing about it changes (rules
    39, 41)."""
    if init is None:
        return BadRequest(UNKNOWN_OBJECT)
    if init.role is Role.MEDIA:
        return BadRequest("A media object cannot be used as an init object.")
    if init.role is Role.INIT:
        return None
    if init.flow_id != flow_id:
        return BadRequest(UNKNOWN_OBJECT)
    instances, size_bytes = pins.frozen(init)
    return init._replace(role=Role.INIT, instances=instances, size_bytes=size_bytes)


def _registered(new: NewSegment, obj: ObjectRow, pins: Pins) -> ObjectRow:
    """The object after its first registration (rule 36)."""
    instances, size_bytes = pins.frozen(obj)
    # By the thousand in one transaction: `_replace` takes twice the time.
    return ObjectRow(
        obj.id,
        Role.MEDIA,
        obj.flow_id,
        obj.created_ns,
        instances,
        (*obj.urls, *new.urls),
        new.object_timerange or _timerange_of_object(new),
        new.key_frame_count,
        new.init_object_id,
        size_bytes,
        obj.version,
    )


def _timerange_of_object(new: NewSegment) -> str:
    """What of the object a segment shows, on the object's own timeline."""
    if not new.ts_offset_ns:
        return new.timerange
    return str(TimeRange.parse(new.timerange).shift(-new.ts_offset_ns))


def _conflict(new: NewSegment, obj: ObjectRow) -> Error | None:
    """Why an object that is registered already cannot be used so (rules 37, 38)."""
    if new.key_frame_count not in (None, obj.key_frame_count):
        return BadRequest("`key_frame_count` differs from that of the object.")
    if new.object_timerange not in (None, obj.timerange):
        return BadRequest("`object_timerange` differs from that of the object.")
    if new.init_object_id not in (None, obj.init_object_id):
        return BadRequest("`init_object_id` differs from that of the object.")
    if not set(new.urls) <= set(obj.urls):
        return BadRequest("URLs are added to a registered object at its instances, not by a segment.")
    part = TimeRange(new.start_ns - new.ts_offset_ns, new.stop_ns - new.ts_offset_ns)
    if obj.timerange is not None and not TimeRange.parse(obj.timerange).contains(part):
        return BadRequest("`timerange` less `ts_offset` does not lie within the object's timerange.")
    return None


def _announce(
    flow: Document, source: Document | None, added: Sequence[NewSegment], now_ns: int
) -> Iterable[Event]:
    if added:
        bodies = [orjson.loads(new.document) for new in added]
        yield events.segments_added(flow, source, bodies, now_ns)
