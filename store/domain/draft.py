"""Edits of several documents that become one compare-and-set Change."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Iterable
from typing import Any, TypeVar

import orjson

from store.errors import BadRequest, Unavailable
from store.metadata.protocol import Metadata, Stale
from store.metadata.query import updated_ns
from store.metadata.rows import Change, Delete, Document, Event, Expect, Kind, Put, Ref, Row

T = TypeVar("T")
TRIES = 20
DOCUMENT_BYTES = 126_000
"""The largest document that every metadata backend can hold in one cell."""


async def settled(step: Callable[[], Awaitable[T]]) -> T:
    """Run a read-compute-write step again for as long as others write in between.

    Raises `Unavailable` when they never stop.
    """
    for _ in range(TRIES):
        try:
            return await step()
        except Stale:
            continue
    raise Unavailable("Others keep changing the same resource. Try again.")


class Draft:
    """The rows that one edit has read, as documents to change in place.

    Everything read counts: `change` makes the write conditional on all of it, so that what was decided
    on it still holds when it commits.
    """

    def __init__(self, metadata: Metadata, expect: Expect | None = None) -> None:
        self.metadata = metadata
        self.expect = expect
        self.events: list[Event] = []
        self._rows: dict[Ref, Row | None] = {}
        self._documents: dict[Ref, Document] = {}
        self._private: dict[Ref, bytes | None] = {}
        self._changed: set[Ref] = set()

    async def load(self, refs: Iterable[Ref]) -> None:
        """Read the rows that have not been read yet."""
        wanted = [ref for ref in dict.fromkeys(refs) if ref not in self._rows]
        if not wanted:
            return
        found = await self.metadata.rows(wanted)
        for ref in wanted:
            self.admit(ref, found.get(ref))

    def admit(self, ref: Ref, row: Row | None) -> None:
        """Take in a row that came from elsewhere, a listing for instance; None is one that is not there."""
        if ref in self._rows:
            return
        self._rows[ref] = row
        if row is not None:
            self._documents[ref] = orjson.loads(row.document)
            self._private[ref] = row.private

    def row(self, ref: Ref) -> Row | None:
        """The row as it was read."""
        return self._rows[ref]

    def get(self, ref: Ref) -> Document | None:
        """The document as it now stands in this draft; to be changed only through `put`."""
        return self._documents.get(ref)

    def documents(self, kind: Kind) -> list[Document]:
        """All documents of a kind that the draft has come across, as they now stand."""
        return [document for ref, document in self._documents.items() if ref.kind is kind]

    def put(self, ref: Ref, document: Document, private: bytes | None = None) -> None:
        """Create or replace a document; its private part stays unless given."""
        self._documents[ref] = document
        if private is not None:
            self._private[ref] = private
        self._changed.add(ref)

    def touch(self, ref: Ref) -> None:
        """Write a document as it is, so that every other edit that read it is told."""
        self._changed.add(ref)

    def remove(self, ref: Ref) -> None:
        """Delete a document."""
        self._documents.pop(ref, None)
        self._changed.add(ref)

    def change(self, now_ns: int) -> Change:
        """All of it as one Change; `now_ns` is when new documents were created."""
        puts: list[Put] = []
        deletes: list[Delete] = []
        for ref in sorted(self._changed):
            row, document = self._rows.get(ref), self._documents.get(ref)
            if document is None:
                if row is not None:
                    deletes.append(Delete(ref, row.version))
                continue
            if len(orjson.dumps(document)) > DOCUMENT_BYTES:
                raise BadRequest(f"The {ref.kind} would be larger than {DOCUMENT_BYTES} bytes of JSON.")
            created_ns = row.created_ns if row else now_ns
            puts.append(
                Put(
                    ref.kind,
                    ref.id,
                    row.version if row else 0,
                    document,
                    created_ns=created_ns,
                    updated_ns=updated_ns(ref.kind, document, created_ns),
                    private=self._private.get(ref),
                )
            )
        unchanged = {
            ref: row.version if row else 0 for ref, row in self._rows.items() if ref not in self._changed
        }
        return Change(tuple(puts), tuple(deletes), unchanged, tuple(self.events), self.expect)

    async def commit(self, now_ns: int) -> None:
        """Write the draft. Raises `Stale` and `errors.Expectation` as `Metadata.write`."""
        await self.metadata.write(self.change(now_ns))


def without(document: Document, *names: str) -> Document:
    """A copy without some properties."""
    return {name: value for name, value in document.items() if name not in names}


def with_value(document: Document, name: str, value: Any) -> Document:
    """A copy with one property set, or dropped where the value is None or an empty list."""
    if value is None or value == []:
        return without(document, name)
    return {**document, name: value}
