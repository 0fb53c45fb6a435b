"""The values that cross the metadata protocol."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from enum import StrEnum
from typing import Any, NamedTuple

import orjson

from store.timerange import TimeRange

Document = dict[str, Any]


class Kind(StrEnum):
    """The resources that are kept as documents."""

    SOURCE = "source"
    FLOW = "flow"
    PROFILE = "profile"
    WEBHOOK = "webhook"
    DELETION = "deletion"
    COPY = "copy"
    DELIVERY = "delivery"
    SERVICE = "service"


class Ref(NamedTuple):
    """Names one document."""

    kind: Kind
    id: str


# Listings and pages make these by the hundred and thousand: a named tuple is made in a third of the time.
class Row(NamedTuple):
    """One document as it was in one snapshot.

    `document` is the JSON object that is returned to clients, without what changes with segments.
    `version` grows with every write of the row: what compare-and-set compares. A row that was deleted and
    made anew does not repeat a version. `updated_ns` is what was put as such. `related` holds, for every
    id of the same kind that the document names (members, `collected_by`), the classes it had in the same
    snapshot; ids that are gone are absent. `private` is kept beside the document and never returned
    (a webhook's owner and secret, the classes of a deleted flow).
    """

    kind: Kind
    id: str
    version: int
    document: bytes
    classes: frozenset[str]
    related: Mapping[str, frozenset[str]]
    created_ns: int
    segments_updated_ns: int | None = None
    private: bytes | None = None
    updated_ns: int = 0

    @property
    def ref(self) -> Ref:
        """What names this row."""
        return Ref(self.kind, self.id)


@dataclass(frozen=True, slots=True)
class Put:
    """Write one document. `version` is that of the row it replaces, 0 where there must be none."""

    kind: Kind
    id: str
    version: int
    document: Document
    created_ns: int
    updated_ns: int
    private: bytes | None = None

    @property
    def ref(self) -> Ref:
        """What names this row."""
        return Ref(self.kind, self.id)


class Delete(NamedTuple):
    """Remove one document, if it still has this version. With a flow go the segments it still has, and
    objects that nothing else refers to become garbage."""

    ref: Ref
    version: int


@dataclass(frozen=True, slots=True)
class Event:
    """One change for those who listen (TAMS 8.2 webhooks). `body` is the `event` member of the message.

    `classes` are those to authorise it by: before a deletion, after a change. `flow_id` and `source_id`
    are what it is about, `flow_collected_by` and `source_collected_by` the collections at the time.
    """

    type: str
    time_ns: int
    body: Document
    classes: frozenset[str]
    flow_id: str | None = None
    source_id: str | None = None
    flow_collected_by: tuple[str, ...] = ()
    source_collected_by: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class StoredEvent:
    """An event in the outbox; `sequence` grows by commit order."""

    sequence: int
    event: Event


@dataclass(frozen=True, slots=True)
class Expect:
    """What the writer was authorised on; a write whose expectation no longer holds changes nothing.

    `classes`: the exact classes of rows, None for a row that must be absent. `members`: the ids of a
    flow's collection, in order. `references`: (object id, flow id) pairs, the flow must still refer to
    the object. `unknown`: object ids that must not exist.
    """

    classes: Mapping[Ref, frozenset[str] | None] = field(default_factory=dict)
    members: Mapping[str, tuple[str, ...]] = field(default_factory=dict)
    references: frozenset[tuple[str, str]] = frozenset()
    unknown: frozenset[str] = frozenset()


@dataclass(frozen=True, slots=True)
class Change:
    """A batch of writes that happens whole or not at all, its events into the outbox with it.

    `unchanged`: rows that were read to decide this and must still have the given version (0: absent).
    """

    puts: tuple[Put, ...] = ()
    deletes: tuple[Delete, ...] = ()
    unchanged: Mapping[Ref, int] = field(default_factory=dict)
    events: tuple[Event, ...] = ()
    expect: Expect | None = None


class Role(StrEnum):
    """What an object is used as; UNUSED until its first registration."""

    UNUSED = "unused"
    MEDIA = "media"
    INIT = "init"


class Reference(StrEnum):
    """What may hold an object's bytes. Segments and init references are found by their own columns."""

    SEGMENT = "segment"
    INIT = "init"
    KEY = "key"
    STREAM = "stream"


class Instance(NamedTuple):
    """The bytes of an object on one storage backend. `version` is what `Media.pin` froze, `complete` is
    False while a copy is under way: such an instance is not advertised (rule 54)."""

    backend_id: str
    key: str
    content_type: str
    version: str | None = None
    complete: bool = True


class UncontrolledUrl(NamedTuple):
    """A URL that a client registered for an object."""

    url: str
    label: str


class ObjectRow(NamedTuple):
    """An object: allocated for a flow, registered once its role is set.

    `flow_id` is the flow it was allocated for, then the first that referenced it. `timerange` is canonical
    text, on the object's own timeline; None for init objects and until registration. `version` as in Row.
    """

    id: str
    role: Role
    flow_id: str
    created_ns: int
    instances: tuple[Instance, ...] = ()
    urls: tuple[UncontrolledUrl, ...] = ()
    timerange: str | None = None
    key_frame_count: int | None = None
    init_object_id: str | None = None
    size_bytes: int | None = None
    version: int = 0


class NewSegment(NamedTuple):
    """A segment to be registered. `start_ns` is inclusive, `stop_ns` exclusive. `document` is what is
    returned of the segment itself; the object's properties live on the object.
    """

    object_id: str
    start_ns: int
    stop_ns: int
    document: bytes
    timerange: str
    object_timerange: str | None = None
    ts_offset_ns: int = 0
    key_frame_count: int | None = None
    init_object_id: str | None = None
    urls: tuple[UncontrolledUrl, ...] = ()


class SegmentRow(NamedTuple):
    """A segment with its object and that object's init object, of one snapshot."""

    start_ns: int
    document: bytes
    object: ObjectRow
    init_object: ObjectRow | None

    @property
    def stop_ns(self) -> int:
        """Where it ends, exclusive, as its document says: asked for too seldom for all pages to read it."""
        stop_ns = TimeRange.parse(orjson.loads(self.document)["timerange"]).stop_ns
        assert stop_ns is not None
        return stop_ns


@dataclass(frozen=True, slots=True)
class SegmentPage:
    """A page of segments in order, whether there are more, and the flow, None when it does not exist.

    In columns, for making a thousand rows takes as long as reading them: where each segment starts, its
    document, its object. `init_objects` by id: those that objects name, as far as they are there.
    """

    flow: Row | None
    more: bool = False
    starts_ns: Sequence[int] = ()
    documents: Sequence[bytes] = ()
    objects: Sequence[ObjectRow] = ()
    init_objects: Mapping[str, ObjectRow] = field(default_factory=dict)

    @property
    def rows(self) -> list[SegmentRow]:
        """The segments one by one."""
        columns = zip(self.starts_ns, self.documents, self.objects, strict=True)
        return [
            SegmentRow(start_ns, document, row, self.init_objects.get(row.init_object_id or ""))
            for start_ns, document, row in columns
        ]


@dataclass(frozen=True, slots=True)
class DeletedSegments:
    """What one bounded deletion did: how many, from and to where (inclusive start, exclusive stop), and
    whether segments that match are left."""

    count: int
    start_ns: int | None
    stop_ns: int | None
    more: bool


@dataclass(frozen=True, slots=True)
class ObjectPage:
    """An object, its init object, and a page of the flows that refer to it, ordered by id.

    `readable` says whether the view sees any flow that refers to the object, whatever the filters; it always
    is where the view sees everything. `classes` are those of the
    flows on the page and of `row.flow_id` where that flow still exists.
    """

    row: ObjectRow
    init_object: ObjectRow | None
    flow_ids: list[str]
    more: bool
    readable: bool
    classes: Mapping[str, frozenset[str]]


@dataclass(frozen=True, slots=True)
class ObjectFact:
    """What deciding about an object needs. `witness` is a flow that refers to it and that the view sees,
    None when there is none, `witness_classes` its classes. `flow_ids`: those that decide about it. While it
    is only allocated, the flow it was allocated for; then the first that referred to it if that still does,
    else all that do. A flow younger than the object has the id of the one that is meant, and is not it."""

    id: str
    role: Role
    flow_id: str
    witness: str | None
    flow_ids: tuple[str, ...]
    witness_classes: frozenset[str] = frozenset()


@dataclass(frozen=True, slots=True)
class Doomed:
    """Bytes that nothing refers to any more and that are to be removed."""

    backend_id: str
    key: str
