"""Random documents and queries, and what listings of them must show."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace

from hypothesis import strategies as st

from store.metadata.protocol import Metadata
from store.metadata.query import Position, Query, Sort, in_order, matches, position, tag_values
from store.metadata.rows import Change, Document, Kind, Put
from store.timerange import ETERNITY, NEVER, TimeRange
from store.view import View
from tests.contract.metadata_support import Database, adding, get, segment

Spans = tuple[tuple[int, int], ...]

CLASSES = ("a", "b", "c", "d")
LABELS = ("", "A", "b", "ä", "b\x01c", "\U0001f600")
WORDS = ("x", "y", "z", "auth_classes", "%", "a.b")
IDS = ("1", "2", "3")
ENDS = (-20, 0, 5, 10, 15, 25, 40)
SORTS = {
    Kind.WEBHOOK: (Sort.CREATED, Sort.URL),
    Kind.DELETION: (Sort.CREATED, Sort.EXPIRY),
}


def some(values: Sequence[object]) -> st.SearchStrategy[object]:
    return st.none() | st.sampled_from(values)


classes = st.lists(st.sampled_from(CLASSES), max_size=3, unique=True)
tag = st.sampled_from(WORDS) | st.lists(st.sampled_from(WORDS), max_size=2)
tags = st.dictionaries(st.sampled_from(WORDS), tag, max_size=3)
spans = st.lists(st.sampled_from(ENDS), max_size=4, unique=True).map(
    lambda ends: tuple((a, b) for a, b in zip(*[iter(sorted(ends))] * 2, strict=False))
)
technical = st.fixed_dictionaries(
    {},
    optional={
        "format": st.sampled_from(("video", "audio")),
        "codec": st.sampled_from(("h264", "aac")),
        "essence_parameters": st.fixed_dictionaries(
            {},
            optional={
                "frame_width": st.sampled_from((0, 1920)),
                "frame_height": st.sampled_from((0, 1080)),
                "init_segments": st.booleans(),
            },
        ),
    },
)


@dataclass(frozen=True)
class Stored:
    """A document as it is written, with the spans of its segments."""

    put: Put
    spans: Spans = ()

    def position(self, sort: Sort) -> Position:
        """Where it stands, by what was put."""
        if sort is Sort.CREATED:
            return Position(self.put.created_ns, self.put.id)
        if sort in (Sort.UPDATED, Sort.EXPIRY):
            return Position(self.put.updated_ns, self.put.id)
        return Position(self.put.document.get(sort.value), self.put.id)


@st.composite
def stored(draw: st.DrawFn) -> Stored:
    """One document of any listed kind."""
    kind = draw(
        st.sampled_from((Kind.FLOW, Kind.FLOW, Kind.SOURCE, Kind.PROFILE, Kind.WEBHOOK, Kind.DELETION))
    )
    # Some have the ids that others say they are collected by.
    document: Document = {"id": draw(st.sampled_from(IDS) | st.integers(0, 10_000).map("id-{}".format))}
    document["tags"] = draw(tags)
    given = draw(st.none() | classes)
    if given is not None:
        document["tags"]["auth_classes"] = given
    essential = draw(technical)
    document |= {"flow_metadata": essential} if kind is Kind.PROFILE else essential
    for name, values in (
        ("source_id", IDS),
        ("profile_id", IDS),
        ("status", ("ok", "bad")),
        ("label", LABELS),
    ):
        value = draw(some(values))
        if value is not None and not (name == "label" and kind is Kind.WEBHOOK):
            document[name] = value
    if kind is Kind.WEBHOOK:
        document["url"] = draw(st.sampled_from(LABELS))
    if draw(st.booleans()):
        document["collected_by"] = draw(st.lists(st.sampled_from(IDS), max_size=2, unique=True))
    times = st.integers(-2, 2) | st.sampled_from((-(2**62), 2**62))
    put = Put(kind, document["id"], 0, document, draw(times), draw(times))
    return Stored(put, draw(spans) if kind is Kind.FLOW else ())


libraries = st.lists(stored(), max_size=25, unique_by=lambda each: each.put.id)

views = st.none() | st.builds(
    View,
    admin=st.sampled_from((False, False, False, True)),
    allow=st.frozensets(st.sampled_from(CLASSES)),
    deny=st.frozensets(st.sampled_from(CLASSES), max_size=1),
    default_class=some(CLASSES),
)
timeranges = st.sampled_from((NEVER, ETERNITY)) | st.builds(
    TimeRange,
    some(ENDS),
    some(ENDS),
    st.booleans(),
    st.booleans(),
)


@st.composite
def queries(draw: st.DrawFn) -> Query:
    """Any query, with few filters mostly."""
    kind = draw(
        st.sampled_from((Kind.FLOW, Kind.FLOW, Kind.SOURCE, Kind.PROFILE, Kind.WEBHOOK, Kind.DELETION))
    )
    filters = {
        "ids": st.frozensets(st.integers(0, 10_000).map("id-{}".format), max_size=3),
        "label": st.sampled_from(LABELS),
        "format": st.sampled_from(("video", "audio")),
        "codec": st.sampled_from(("h264", "aac")),
        "source_id": st.sampled_from(IDS),
        "profile_id": st.sampled_from(IDS),
        "status": st.sampled_from(("ok", "bad")),
        "frame_width": st.sampled_from((0, 1920)),
        "frame_height": st.sampled_from((0, 1080)),
        "init_segments": st.booleans(),
        "tags": st.lists(
            st.tuples(st.sampled_from(WORDS), st.frozensets(st.sampled_from((*WORDS, *CLASSES)), max_size=2)),
            max_size=2,
        ).map(tuple),
        "tag_exists": st.lists(st.tuples(st.sampled_from(WORDS), st.booleans()), max_size=2).map(tuple),
        "collected_by": st.frozensets(st.sampled_from(IDS), max_size=2),
        "timerange": timeranges,
    }
    chosen = draw(st.lists(st.sampled_from(sorted(filters)), max_size=3, unique=True))
    value = some((0, 1, -(2**62))) if kind is Kind.PROFILE else st.integers(-2, 2)
    sort = draw(st.sampled_from(SORTS.get(kind, (Sort.CREATED, Sort.UPDATED, Sort.LABEL))))
    if sort in (Sort.LABEL, Sort.URL):
        value = some(LABELS)
    after = st.none() | st.builds(Position, st.none() | value, st.integers(0, 10_000).map("id-{}".format))
    return Query(
        kind=kind,
        view=draw(views),
        limit=draw(st.integers(1, 7)),
        sort=sort,
        reverse=draw(st.booleans()),
        after=draw(after),
        **{name: draw(filters[name]) for name in chosen},
    )


async def fill(database: Database, library: Sequence[Stored]) -> Metadata:
    """A fresh database with a library in it."""
    metadata = await database.fresh()
    await metadata.write(Change(puts=tuple(each.put for each in library)))
    for each in library:
        if each.spans:
            row = await get(metadata, each.put.id)
            added = [segment(f"{row.id} {start}", start, stop) for start, stop in each.spans]
            assert set(await metadata.add_segments(adding(row, *added))) == {None}
    return metadata


async def check_listing(metadata: Metadata, library: Sequence[Stored], query: Query) -> None:
    """Walk a listing and compare it with the oracle's."""
    parents = {
        each.put.id: tag_values(each.put.document.get("tags") or {}, "auth_classes")
        for each in library
        if each.put.kind is query.kind
    }
    shown = {
        each.put.id: each
        for each in library
        if each.put.kind is query.kind and matches(query, each.put.document, each.spans, parents)
    }
    while True:
        wanted = in_order(query, [each.position(query.sort) for each in shown.values()])
        rest = in_order(replace(query, limit=1_000), [each.position(query.sort) for each in shown.values()])
        rows, more = await metadata.page(query)
        assert [position(query.sort, row) for row in rows] == wanted
        assert more is (len(rest) > len(wanted))
        for row in rows:
            put = shown[row.id].put
            assert (row.created_ns, row.updated_ns) == (put.created_ns, put.updated_ns)
        if not more:
            return
        query = replace(query, after=position(query.sort, rows[-1]))
