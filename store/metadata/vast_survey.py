"""Reading everything once in VAST DB, page by page."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any, Final

from store.metadata.survey import Access, Resource, Span, Stored, Subject, Use
from store.metadata.tables import backends_of
from store.metadata.vast_tx import Tx

SURVEY_S: Final = 300.0
"""How long a survey may take."""
_COLUMNS: Final = {
    Subject.RESOURCES: (
        "resources",
        ("kind", "format", "codec", "created_ns", "updated_ns", "segments", "media_ns"),
    ),
    Subject.SEGMENTS: ("segments", ("start_ns", "stop_ns")),
    Subject.OBJECTS: ("objects", ("role", "created_ns", "document")),
    Subject.USES: ("uses", ("count",)),
    Subject.ACCESSES: ("accesses", ("object_id", "urls", "last_ns")),
}


def records(tx: Tx, subject: Subject) -> Iterator[Any]:
    """All records of a subject, in no order."""
    table, columns = _COLUMNS[subject]
    for chunk in tx.stream(table, columns):
        for record in zip(*(column.to_pylist() for column in chunk.columns), strict=True):
            yield _made(subject, record)


def _made(subject: Subject, record: tuple[Any, ...]) -> Any:
    if subject is Subject.RESOURCES:
        *values, segments, media_ns = record
        return Resource._make((*values, segments or 0, media_ns or 0))
    if subject is Subject.OBJECTS:
        role, created_ns, document = record
        backends, size_bytes = backends_of(document)
        return Stored(role, created_ns, size_bytes, backends)
    if subject is Subject.ACCESSES:
        return Access._make(record)
    return Span(*record) if subject is Subject.SEGMENTS else Use(*record)
