"""What the store asks of a database. One contract suite runs on every implementation.

Every method is one transaction: it sees one snapshot, and a write is durable when it returns, whole or
not at all, its events in the outbox with it. No transaction object crosses this line. Failures of the
database raise `errors.Unavailable` (`errors.Full` when no space is left) and never an empty answer.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, NamedTuple, Protocol, TypeVar

from store.errors import Error
from store.metadata.keys import DeleteKey, KeyQuery, KeyRow, PutKey
from store.metadata.query import Query, SegmentQuery
from store.metadata.rows import (
    Change,
    DeletedSegments,
    Doomed,
    Event,
    Expect,
    NewSegment,
    ObjectFact,
    ObjectPage,
    ObjectRow,
    Ref,
    Row,
    SegmentPage,
    StoredEvent,
)
from store.metadata.survey import Subject
from store.timerange import TimeRange
from store.view import View

T = TypeVar("T")


class Stale(Exception):
    """A row that a write was computed from has changed: read again and repeat. Never reaches a caller."""


class Registration(NamedTuple):
    """What a judge found of one new segment: the objects as they are to be after it.

    `object` replaces (or creates) the object's row, `init_object` that of its init object; each is None
    where nothing about it changes.
    """

    object: ObjectRow | None
    init_object: ObjectRow | None


Judge = Callable[[NewSegment, ObjectRow | None, ObjectRow | None], Registration | Error]
"""Pure: (segment, its object, its init object as they are now) to what to write, or why not."""

Announce = Callable[[Row, Sequence[NewSegment]], Iterable[Event]]
"""Pure: (flow, segments that were added) to the events to put into the outbox."""


@dataclass(frozen=True, slots=True)
class AddSegments:
    """Register segments of one flow, in the order given.

    `flow_version` is the version of the flow's row that the request was checked against; another one is
    `Stale`. A segment that overlaps one that is there, or one earlier in the batch, or that the judge
    refuses, changes nothing; the others are written.
    """

    flow_id: str
    flow_version: int
    segments: Sequence[NewSegment]
    judge: Judge
    announce: Announce
    now_ns: int
    expect: Expect | None = None


@dataclass(frozen=True, slots=True)
class DeleteSegments:
    """Delete up to `limit` segments that lie wholly inside `timerange`, earliest first.

    Objects that lose their last reference become garbage. `announce` gets the flow and the span deleted
    (inclusive start, exclusive stop). `flow_version` as in AddSegments, None to take the flow as it is.
    """

    flow_id: str
    timerange: TimeRange
    object_id: str | None
    limit: int
    announce: Callable[[Row, int, int], Iterable[Event]]
    now_ns: int
    flow_version: int | None = None
    expect: Expect | None = None


class Metadata(Protocol):
    """The database behind the store."""

    async def rows(self, refs: Iterable[Ref]) -> dict[Ref, Row]:
        """The rows that exist among `refs`."""
        ...

    async def row(self, ref: Ref, view: View | None) -> Row | None:
        """One row, whether or not the view sees it; None where there is none. How long it takes depends on
        what was asked before with this view alone: what others read is no quicker found to be there."""
        ...

    async def page(self, query: Query) -> tuple[list[Row], bool]:
        """The rows of a listing in its order, at most `query.limit`, and whether more follow.

        Never short because of filtering: fewer rows than the limit means that the data ended. What it
        costs does not grow with what the view hides.
        """
        ...

    async def write(self, change: Change) -> None:
        """Apply a change. Raises `Stale` when a version in it does not hold, `errors.Expectation` when
        `expect` does not."""
        ...

    async def timerange(self, flow_id: str, within: TimeRange) -> tuple[str, str] | None:
        """The timeranges (canonical text) of the first and the last segment that overlap `within`."""
        ...

    async def segments(self, query: SegmentQuery) -> SegmentPage:
        """A page of segments with their objects, and the flow's row, of one snapshot. Of a flow that the
        view does not see there is the row alone, and nothing more is read than for one that is absent."""
        ...

    async def add_segments(self, request: AddSegments) -> list[Error | None]:
        """Register segments; one entry per segment, None where it was written.

        Raises `Stale` or `errors.Expectation`, and then nothing was written.
        """
        ...

    async def delete_segments(self, request: DeleteSegments) -> DeletedSegments:
        """Delete segments, bounded. Raises `Stale` or `errors.Expectation`."""
        ...

    async def objects(self, ids: Iterable[str]) -> dict[str, ObjectRow]:
        """The object rows that exist among `ids`, allocated ones included."""
        ...

    async def object_page(self, object_id: str, flows: Query, after: str | None) -> ObjectPage | None:
        """An object with a page of the flows that refer to it, by segments or, for an init object,
        through its media objects. `flows` filters them and carries view and limit; they come ordered by
        id, behind `after`. None when the object does not exist or is not registered."""
        ...

    async def object_facts(self, ids: Iterable[str], view: View | None) -> dict[str, ObjectFact]:
        """What authorising the use of objects needs; those that do not exist are absent. `view` None
        finds no witnesses it need not: the first referring flow."""
        ...

    async def object_at(self, backend_id: str, key: str) -> str | None:
        """The id of the object that has an instance at this key, registered or not."""
        ...

    async def allocate(
        self, objects: Sequence[ObjectRow], flow: Ref, flow_version: int, expect: Expect | None
    ) -> None:
        """Create rows of new objects. Raises `errors.BadRequest`, one uniform summary, when any of the
        ids is taken or stands twice, `Stale` when the flow has changed; then none is created."""
        ...

    async def replace_object(self, row: ObjectRow, expect: Expect | None) -> None:
        """Write an object's row if it still has `row.version`, else raise `Stale`. The bytes of instances
        that the row has no more are doomed."""
        ...

    async def hold(self, object_ids: Iterable[str], reference: str, holder: str, held: bool) -> None:
        """Add or drop a reference of the kinds KEY and STREAM (`rows.Reference`) to objects. Raises
        `errors.NotFound` when one of those to be held does not exist; then none is held."""
        ...

    async def key(self, name: str) -> KeyRow | None:
        """A key with the bytes, or the object, that it points to, of one snapshot; None without one."""
        ...

    async def keys(self, query: KeyQuery) -> tuple[list[str], bool]:
        """The names of a listing, ascending by code points, at most `query.limit`, and whether more follow.

        Never short because of names outside the ranges, and what it costs does not grow with them.
        `query.after` need not exist (any more).
        """
        ...

    async def reserve(self, row: ObjectRow) -> ObjectRow:
        """Create the row of a new object that belongs to no flow (`flow_id` empty), for `put_key`; the row
        with its version. It counts as allocated: when nothing comes of it, `collect` takes it. Raises
        `Stale` when the id is taken."""
        ...

    async def put_key(self, request: PutKey) -> KeyRow:
        """Make a key, or point it at other bytes: readers see the old ones or the new ones, never a mixture
        or nothing. The new object is held (`Reference.KEY`), the one before is let go in the same
        transaction. Raises `Stale` when a version in the request does not hold."""
        ...

    async def delete_key(self, request: DeleteKey) -> bool:
        """Remove a key and let go of its object; bytes that anything else refers to stay. False when there
        is no such key; raises `Stale` when it has another version."""
        ...

    async def count_accesses(self, counts: Mapping[str, int], at_ns: int) -> None:
        """Add to how often signed URLs of objects, by id, were given out, the last time at `at_ns`. Objects
        that do not exist are passed over. Neither versions nor anything else that is read changes but
        `Subject.ACCESSES`; a count goes with its object."""
        ...

    async def collect(self, allocated_before_ns: int, limit: int) -> list[Doomed]:
        """Forget up to `limit` objects that nothing refers to: registered ones whose references of all
        four kinds are gone, and those allocated before the given time and never registered. Returns the
        bytes to remove, earlier ones that are still listed first; they stay listed until `removed`. While
        many times the limit are listed (a storage backend is down) no more are forgotten."""
        ...

    async def removed(self, doomed: Iterable[Doomed]) -> None:
        """The bytes are gone: strike them off."""
        ...

    async def events(self, after: int, limit: int) -> list[StoredEvent]:
        """Events behind a sequence number, in order."""
        ...

    async def last_event(self) -> int:
        """The greatest sequence number of the events committed so far, forgotten ones too: every later event
        has a greater one; 0 before the first."""
        ...

    def listen(self, heard: Callable[[], None]) -> None:
        """Call `heard`, on the loop of the writer, after every write of this process that put events into the
        outbox. It must not block or raise. What other processes write is not heard."""
        ...

    async def forget_events(self, before_ns: int) -> None:
        """Drop events older than the given time."""
        ...

    async def lease(self, name: str, holder: str, now_ns: int, until_ns: int) -> bool:
        """Take or renew a lease; False while another holder's has not run out. `until_ns` <= `now_ns`
        gives it back."""
        ...

    async def survey(self, subject: Subject, fold: Callable[[Iterable[Any]], T]) -> T:
        """What `fold` makes of all records of a subject, of one snapshot and in no order.

        They are handed to it one by one, off the event loop, so that only what it keeps takes memory. `fold`
        is pure: it may be run again from the start. The whole may take minutes.
        """
        ...

    def place(self) -> Mapping[str, str]:
        """`engine`, and what else is known of where the database is without asking it: `place`, `endpoint`,
        `bucket`."""
        ...

    async def check(self) -> Mapping[str, str]:
        """Facts for operators (engine, version, place); raises `errors.Unavailable` when unusable."""
        ...

    def hurry(self, within_s: float) -> None:
        """From now on answer all calls within so many seconds altogether, and after them none: a server that
        stops is not kept by a database that is gone. Calls that are too late raise `errors.Unavailable`."""
        ...

    async def close(self) -> None:
        """Finish the writes in hand and let go of the database."""
        ...
