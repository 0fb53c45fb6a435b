"""The rows of one version of a table: immutable, in chunks, so that a write copies only some of them."""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from functools import cached_property
from types import MappingProxyType
from typing import Any

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

ROW_ID = "$row_id"
CHUNK_ROWS = 16_384
MAX_SMALL_CHUNKS = 64
_SORTED_MARK = 1
_SORTED_TYPE = pa.decimal128(38, 0)

Ids = NDArray[np.uint64]


def encode_ids(ids: Ids, sorted_: bool) -> pa.Array:
    """Row ids as the client sees them: uint64, or in sorted tables decimals beyond 64 bits."""
    if not sorted_:
        return pa.array(ids, pa.uint64())
    pairs = np.empty((len(ids), 2), np.uint64)
    pairs[:, 0] = ids
    pairs[:, 1] = _SORTED_MARK
    return pa.Array.from_buffers(_SORTED_TYPE, len(ids), [None, pa.py_buffer(pairs.tobytes())])


def decode_ids(column: pa.Array, sorted_: bool) -> Ids | None:
    """Row ids from a client, or None when they are of the wrong kind for the table or null."""
    if column.null_count or column.type != (_SORTED_TYPE if sorted_ else pa.uint64()):
        return None
    if not sorted_:
        return np.asarray(column.to_numpy(zero_copy_only=False), np.uint64)
    words = np.frombuffer(column.buffers()[1], np.uint64).reshape(-1, 2)
    pairs = words[column.offset : column.offset + len(column)]
    return pairs[:, 0].copy() if (pairs[:, 1] == _SORTED_MARK).all() else None


def id_type(sorted_: bool) -> pa.DataType:
    return _SORTED_TYPE if sorted_ else pa.uint64()


def ids_of(chunk: pa.RecordBatch) -> Ids:
    return np.asarray(chunk.column(ROW_ID).to_numpy(zero_copy_only=False), np.uint64)


@dataclass(frozen=True)
class Rows:
    """Chunks of rows; each holds the column `$row_id` (uint64) first, then those of the table."""

    chunks: tuple[pa.RecordBatch, ...] = ()

    @cached_property
    def num_rows(self) -> int:
        return sum(chunk.num_rows for chunk in self.chunks)

    @cached_property
    def size_bytes(self) -> int:
        return sum(int(chunk.nbytes) for chunk in self.chunks)

    def table(self, columns: pa.Schema) -> pa.Table:
        """All rows in the order of their ids."""
        schema = pa.schema([pa.field(ROW_ID, pa.uint64()), *columns])
        table = pa.Table.from_batches(self.chunks, schema=schema)
        ids = table.column(ROW_ID).to_numpy()
        if len(ids) > 1 and not bool((ids[1:] > ids[:-1]).all()):
            table = table.take(np.argsort(ids, kind="stable"))
        return table

    def appended(self, batch: pa.RecordBatch) -> "Rows":
        new = tuple(batch.slice(at, CHUNK_ROWS) for at in range(0, batch.num_rows, CHUNK_ROWS))
        chunks = self.chunks + new
        small = sum(chunk.num_rows < CHUNK_ROWS // 2 for chunk in chunks)
        return Rows(_merged(chunks) if small > MAX_SMALL_CHUNKS else chunks)

    def updated(self, batch: pa.RecordBatch) -> "Rows":
        """Replace cells; `batch` holds `$row_id`, unique, and the columns to set. Unknown ids are ignored."""
        ids = ids_of(batch)
        order = np.argsort(ids)
        names = [name for name in batch.schema.names if name != ROW_ID]
        chunks = []
        for chunk, present, at in self._matches(ids[order]):
            if present is None:
                chunks.append(chunk)
                continue
            take = np.arange(chunk.num_rows)
            take[present] = chunk.num_rows + order[at[present]]
            for name in names:
                index = chunk.schema.get_field_index(name)
                both = pa.concat_arrays([chunk.column(index), batch.column(name)])
                chunk = chunk.set_column(index, chunk.schema.field(index), both.take(pa.array(take)))
            chunks.append(chunk)
        return Rows(tuple(chunks))

    def without(self, ids: Ids) -> "Rows":
        """Leave rows out. Unknown ids are ignored."""
        chunks = []
        for chunk, present, _ in self._matches(np.sort(ids)):
            kept = chunk if present is None else chunk.filter(pa.array(~present))
            if kept.num_rows:
                chunks.append(kept)
        return Rows(tuple(chunks))

    def missing(self, ids: Ids) -> Ids:
        """Those of `ids` that no row has."""
        found = [
            ids_of(chunk)[present] for chunk, present, _ in self._matches(np.sort(ids)) if present is not None
        ]
        return np.setdiff1d(ids, np.concatenate(found)) if found else ids

    def mapped(self, columns: pa.Schema, renamed: dict[str, str] | None = None) -> "Rows":
        """The same rows under other columns: new ones are null, `renamed` maps old names to new."""
        old = {new: previous for previous, new in (renamed or {}).items()}
        return Rows(tuple(conformed(chunk, columns, old) for chunk in self.chunks))

    def _matches(
        self, ordered: Ids
    ) -> Iterator[tuple[pa.RecordBatch, NDArray[np.bool_] | None, NDArray[Any]]]:
        """Each chunk with the mask of its rows whose id is in `ordered`, and their places there."""
        nothing: NDArray[Any] = np.empty(0, np.int64)
        for chunk in self.chunks:
            own = ids_of(chunk)
            if not len(ordered) or own.max() < ordered[0] or own.min() > ordered[-1]:
                yield chunk, None, nothing
                continue
            at = np.minimum(np.searchsorted(ordered, own), len(ordered) - 1)
            present = ordered[at] == own
            yield chunk, (present if present.any() else None), at


def conformed(
    chunk: pa.RecordBatch, columns: pa.Schema, old: Mapping[str, str] = MappingProxyType({})
) -> pa.RecordBatch:
    """A chunk with exactly `columns`, the missing ones null; `old` maps new names to old."""
    arrays = [chunk.column(ROW_ID)]
    for column in columns:
        index = chunk.schema.get_field_index(old.get(column.name, column.name))
        arrays.append(chunk.column(index) if index >= 0 else pa.nulls(chunk.num_rows, column.type))
    return pa.RecordBatch.from_arrays(arrays, schema=pa.schema([pa.field(ROW_ID, pa.uint64()), *columns]))


def _merged(chunks: tuple[pa.RecordBatch, ...]) -> tuple[pa.RecordBatch, ...]:
    """Join runs of chunks up to `CHUNK_ROWS` rows."""
    merged: list[pa.RecordBatch] = []
    run: list[pa.RecordBatch] = []
    for chunk in chunks:
        if run and sum(part.num_rows for part in run) + chunk.num_rows > CHUNK_ROWS:
            merged.append(_joined(run))
            run = []
        run.append(chunk)
    if run:
        merged.append(_joined(run))
    return tuple(merged)


def _joined(run: list[pa.RecordBatch]) -> pa.RecordBatch:
    if len(run) == 1:
        return run[0]
    return pa.Table.from_batches(run).combine_chunks().to_batches()[0]
