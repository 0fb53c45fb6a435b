"""Reading everything once in SQLite, record by record."""

from __future__ import annotations

import sqlite3
from collections.abc import Callable, Iterator
from typing import Any, Final

from store.metadata.survey import Access, Resource, Span, Stored, Subject, Use
from store.metadata.tables import backends_of
from store.timerange import MAX_NS

# Seconds and nanoseconds are added up apart, since together they may be more than 64 bits hold.
_RESOURCES: Final = """SELECT r.kind, r.format, r.codec, -r.created_rank, -r.updated_rank, s.count, s.s, s.ns
    FROM resources r LEFT JOIN (SELECT flow_id, count(*) AS count,
        sum(stop_ns / 1000000000 - start_ns / 1000000000) AS s,
        sum(stop_ns % 1000000000 - start_ns % 1000000000) AS ns
        FROM segments GROUP BY flow_id) s ON r.kind = 'flow' AND s.flow_id = r.id"""


def _resource(record: tuple[Any, ...]) -> Resource:
    *values, count, seconds, rest_ns = record
    media_ns = min(MAX_NS, (seconds or 0) * 1_000_000_000 + (rest_ns or 0))
    return Resource._make((*values, count or 0, media_ns))


def _stored(record: tuple[Any, ...]) -> Stored:
    role, created_ns, document = record
    backends, size_bytes = backends_of(document)
    return Stored(role, created_ns, size_bytes, backends)


_READS: Final[dict[Subject, tuple[str, Callable[[tuple[Any, ...]], Any]]]] = {
    Subject.RESOURCES: (_RESOURCES, _resource),
    Subject.SEGMENTS: ("SELECT start_ns, stop_ns FROM segments", Span._make),
    Subject.OBJECTS: ("SELECT role, created_ns, document FROM objects", _stored),
    Subject.USES: ("SELECT count FROM uses", Use._make),
    Subject.ACCESSES: (
        "SELECT o.id, a.urls, a.last_ns FROM accesses a CROSS JOIN objects o ON o.number = a.object",
        Access._make,
    ),
}


def records(connection: sqlite3.Connection, subject: Subject) -> Iterator[Any]:
    """All records of a subject, in no order."""
    sql, make = _READS[subject]
    for record in connection.execute(sql):
        yield make(record)
