"""Row versions and filters of the emulator against plain Python."""

import operator
from collections.abc import Callable
from typing import Any

import ibis
import numpy as np
import pyarrow as pa
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from vastdb import _internal

from tests.vast_emulator import predicates, relation, rows

COLUMNS = pa.schema([("n", pa.int64()), ("s", pa.string())])
Model = dict[int, tuple[int | None, str | None]]


@pytest.fixture(autouse=True, scope="module")
def small_chunks() -> Any:
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(rows, "CHUNK_ROWS", 8)
        patch.setattr(rows, "MAX_SMALL_CHUNKS", 3)
        yield


def batch(model: Model) -> pa.RecordBatch:
    ids = pa.array(np.array(list(model), np.uint64))
    columns = [pa.array([row[place] for row in model.values()], COLUMNS.types[place]) for place in (0, 1)]
    return pa.record_batch([ids, *columns], schema=pa.schema([pa.field(rows.ROW_ID, pa.uint64()), *COLUMNS]))


VALUES = st.tuples(st.none() | st.integers(-5, 5), st.none() | st.text("ab", max_size=2))
STEPS = st.lists(
    st.one_of(
        st.tuples(st.just("insert"), st.lists(VALUES, min_size=1, max_size=12)),
        st.tuples(st.just("update"), st.lists(st.tuples(st.integers(0, 60), VALUES), min_size=1, max_size=6)),
        st.tuples(st.just("delete"), st.lists(st.integers(0, 60), min_size=1, max_size=6)),
    ),
    max_size=20,
)


@settings(max_examples=60, deadline=None)
@given(STEPS)
def test_writes_give_what_a_dictionary_would(steps: list[tuple[str, Any]]) -> None:
    held, model, following = rows.Rows(), Model(), 0
    versions = []
    for kind, chosen in steps:
        versions.append((held, dict(model)))
        if kind == "insert":
            new = dict(enumerate(chosen, start=following))
            following += len(new)
            held, model = held.appended(batch(new)), model | new
        elif kind == "update":
            new = dict(chosen)
            held = held.updated(batch(new))
            model |= {row: value for row, value in new.items() if row in model}
        else:
            held = held.without(np.array(chosen, np.uint64))
            model = {row: value for row, value in model.items() if row not in chosen}
    for version, expected in [*versions, (held, model)]:
        told = version.table(COLUMNS).to_pydict()
        told_rows = dict(zip(told[rows.ROW_ID], zip(told["n"], told["s"], strict=True), strict=True))
        assert told_rows == expected
        assert list(told_rows) == sorted(expected)
        assert version.num_rows == len(expected)
        probe = np.arange(70, dtype=np.uint64)
        assert set(version.missing(probe).tolist()) == set(range(70)) - set(expected)


@given(st.lists(st.integers(0, 2**48), unique=True), st.booleans(), st.integers(0, 3))
def test_row_ids_come_back_as_they_went(ids: list[int], sorted_: bool, offset: int) -> None:
    told = rows.encode_ids(np.array(ids, np.uint64), sorted_)
    assert told.type == rows.id_type(sorted_)
    back = rows.decode_ids(told.slice(offset), sorted_)
    assert back is not None and back.tolist() == ids[offset:]
    assert rows.decode_ids(told, not sorted_) is None


Test = Callable[[Any], bool]
Leaf = tuple[Callable[[Any], Any], Test]


def comparison(name: str) -> Any:
    compare = getattr(operator, name)
    return st.integers(-6, 6).map(
        lambda wanted: (lambda c: compare(c, wanted), lambda v: v is not None and compare(v, wanted))
    )


NUMBERS: st.SearchStrategy[Leaf] = st.one_of(
    *(comparison(name) for name in ("eq", "ne", "lt", "le", "gt", "ge")),
    st.lists(st.integers(-6, 6), min_size=1, max_size=4).map(
        lambda ws: (lambda c: c.isin(ws), lambda v: v in ws)
    ),
    st.tuples(st.integers(-6, 6), st.integers(-6, 6)).map(
        lambda w: (lambda c: c.between(*w), lambda v: v is not None and w[0] <= v <= w[1])
    ),
    st.just((lambda c: c.isnull(), lambda v: v is None)),
    st.just((lambda c: ~c.isnull(), lambda v: v is not None)),
)
TEXTS: st.SearchStrategy[Leaf] = st.text("abé", max_size=2).flatmap(
    lambda w: st.sampled_from(
        [
            (lambda c: c == w, lambda v: v == w),
            (lambda c: c < w, lambda v: v is not None and v.encode() < w.encode()),
            (lambda c: c.startswith(w), lambda v: v is not None and v.startswith(w)),
            (lambda c: c.contains(w), lambda v: v is not None and w in v),
            (lambda c: c.isnull(), lambda v: v is None),
        ]
    )
)
CONJUNCTS = st.lists(
    st.one_of(
        st.tuples(st.just("n"), st.lists(NUMBERS, min_size=1, max_size=3)),
        st.tuples(st.just("s"), st.lists(TEXTS, min_size=1, max_size=3)),
    ),
    min_size=1,
    max_size=4,
)
CELLS = st.lists(
    st.tuples(st.none() | st.integers(-6, 6), st.none() | st.text("abé", max_size=3)), max_size=12
)


def expression(table: Any, chosen: list[tuple[str, list[Leaf]]]) -> Any:
    whole = None
    for name, leaves in chosen:
        part = leaves[0][0](table[name])
        for leaf, _ in leaves[1:]:
            part = part | leaf(table[name])
        whole = part if whole is None else whole & part
    return whole


@settings(max_examples=150, deadline=None)
@given(CONJUNCTS, CELLS)
def test_filters_choose_what_python_would(
    chosen: list[tuple[str, list[Leaf]]], cells: list[tuple[int | None, str | None]]
) -> None:
    table = ibis.table(ibis.Schema.from_pyarrow(COLUMNS), "t")
    request = _internal.build_query_data_request(COLUMNS, expression(table, chosen), ["n", "s"])
    query = relation.read(request.serialized)
    places = predicates.nodes([COLUMNS.field(name) for name, _ in query.columns])
    data = pa.table([pa.array([c[p] for c in cells], COLUMNS.types[p]) for p in (0, 1)], schema=COLUMNS)
    masks = [conjunct.mask(data) for conjunct in predicates.read_filter(query.filter, places)]
    expected = [
        all(any(test(cell[COLUMNS.names.index(name)]) for _, test in leaves) for name, leaves in chosen)
        for cell in cells
    ]
    assert np.logical_and.reduce(masks).tolist() == expected
