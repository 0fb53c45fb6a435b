"""What documents are found by in VAST DB: one row for each, with the keys that listings sort by."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from hashlib import sha256
from typing import Final, NamedTuple

import orjson

from store.errors import BadRequest
from store.metadata.query import Sort
from store.metadata.rows import Put
from store.metadata.tables import columns_of
from store.metadata.vast_predicates import among, equal
from store.metadata.vast_tx import Tx
from store.timerange import MAX_NS, MIN_NS

EVERYTHING: Final = ""
"""The facet that every document has, with an empty value."""
CLASSES: Final = "classes"
UNCOLLECTED: Final = "uncollected"
KEY_COLUMN: Final = {
    Sort.CREATED: "created_key",
    Sort.UPDATED: "updated_key",
    Sort.EXPIRY: "updated_key",
    Sort.LABEL: "text_key",
    Sort.URL: "text_key",
}
_LONGEST: Final = 512
_PIECE: Final = 60
"""How many documents' rows are looked up by one query."""


class Term(NamedTuple):
    """A row of the table, in the order of its columns."""

    kind: str
    facet: str
    value: str
    created_key: str
    id: str
    updated_key: str
    text_key: str
    classes: str


COLUMNS: Final = Term._fields


def value_of(text: str) -> str:
    """A value as it is kept: a long one is cut, told apart by its digest, to a length none else has."""
    try:
        data = text.encode()
    except UnicodeEncodeError as exc:
        raise BadRequest("A text is not valid Unicode.") from exc
    if len(data) <= _LONGEST:
        return text
    return f"{'':#<{_LONGEST}}{sha256(data).hexdigest()}"


def number_key(value: int, id: str) -> str:
    """A text that sorts as numbers from high to low, then ids, do. Raises `BadRequest` beyond 64 bits."""
    if not MIN_NS <= value <= MAX_NS:
        raise BadRequest("A number is beyond 64 bits.")
    return f"{MAX_NS - value:016x}{id}"


def text_key(text: str | None, id: str) -> str:
    """A text that sorts as texts, unset ones last, then ids do."""
    if text is None:
        return f"1{id}"
    escaped = text.replace("\0", "\0\1")
    return f"0{escaped}\0\0{id}"


def sort_key(sort: Sort, value: int | str | None, id: str) -> str:
    """Where a position stands in the order of a sort."""
    if KEY_COLUMN[sort] == "text_key":
        return text_key(value if value is None else str(value), id)
    # Every row has a time: an unset one stands behind all of them.
    return number_key(value, id) if isinstance(value, int) else "g"


def terms_of(put: Put) -> list[Term]:
    """What a document can be found by."""
    columns = columns_of(put)
    found = {(EVERYTHING, ""), (CLASSES, _json(columns.classes))}
    for name, value in columns.tags:
        found.add((f"tag.{name}", value))
        found.add(("tag_exists", name))
    found.update(("tag_exists", name) for name in columns.empty_tags)
    for facet in ("label", "source_id", "format", "codec", "profile_id", "status"):
        single = getattr(columns, facet)
        if single is not None:
            found.add((facet, single))
    for facet in ("frame_width", "frame_height"):
        if getattr(columns, facet) is not None:
            found.add((facet, str(getattr(columns, facet))))
    found.add(("init_segments", str(columns.init_segments)))
    found.update(("collected_by", parent) for parent in columns.collected_by)
    if not columns.collected_by:
        found.add((UNCOLLECTED, ""))
    keys = (
        number_key(put.created_ns, put.id),
        put.id,
        number_key(put.updated_ns, put.id),
        text_key(columns.sort_text, put.id),
        _json(columns.classes),
    )
    return [Term(put.kind.value, value_of(facet), value_of(value), *keys) for facet, value in sorted(found)]


def _json(values: Iterable[str]) -> str:
    try:
        return orjson.dumps(list(values)).decode()
    except orjson.JSONEncodeError as exc:
        raise BadRequest("A text is not valid Unicode.") from exc


def rewrite(tx: Tx, before: Sequence[Put], after: Sequence[Put]) -> None:
    """Let documents be found as they are now. `before`: as those of them that were there were."""
    old = {put.ref: terms_of(put) for put in before}
    new = {put.ref: terms_of(put) for put in after}
    changed = [ref for ref in {**old, **new} if old.get(ref) != new.get(ref)]
    gone = [old[ref] for ref in changed if ref in old]
    for at in range(0, len(gone), _PIECE):
        _delete(tx, [term for terms in gone[at : at + _PIECE] for term in terms])
    made = [term for ref in changed for term in new.get(ref, ())]
    tx.insert("terms", [term._asdict() for term in made])
    _remember(tx, {(term.kind, term.classes) for term in made})


def _delete(tx: Tx, terms: Sequence[Term]) -> None:
    """All four columns that the table is sorted by are named, so that nothing else is looked at."""
    columns = ("kind", "facet", "value", "created_key")
    conditions = [among(name, [getattr(term, name) for term in terms]) for name in columns]
    wanted = {term[:4] for term in terms}
    found = tx.select("terms", columns, *conditions, row_ids=True)
    tx.delete("terms", [record[-1] for record in found if record[:4] in wanted])


def _remember(tx: Tx, sets: set[tuple[str, str]]) -> None:
    """Keep which sets of classes occur, so that a view's are told apart without reading documents."""
    for kind in sorted({kind for kind, _ in sets}):
        wanted = sorted(classes for each, classes in sets if each == kind)
        found = tx.select_among("class_sets", ("classes",), "classes", wanted, equal("kind", kind))
        known = {classes for (classes,) in found}
        tx.insert("class_sets", [{"kind": kind, "classes": text} for text in wanted if text not in known])
