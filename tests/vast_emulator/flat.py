"""Flatbuffer replies: listings and statistics."""

from collections.abc import Sequence
from dataclasses import dataclass

import flatbuffers
from vastdb.vast_flatbuf.tabular import (
    GetProjectionTableStatsResponse as projection_stats_table,
)
from vastdb.vast_flatbuf.tabular import GetTableStatsResponse as stats_table
from vastdb.vast_flatbuf.tabular import ListProjectionsResponse as projections_table
from vastdb.vast_flatbuf.tabular import ListSchemasResponse as schemas_table
from vastdb.vast_flatbuf.tabular import ListTablesResponse as tables_table
from vastdb.vast_flatbuf.tabular import ObjectDetails as details_table
from vastdb.vast_flatbuf.tabular import VipRange as vip_table

SORTING_DONE = -(1 << 63)
"""Top bit of the sorting score, as the signed number that carries it."""


@dataclass(frozen=True)
class Details:
    """One listed object; `sorted` tells whether it has a sorting key."""

    name: str
    handle: int = 0
    num_rows: int = 0
    size_bytes: int = 0
    sorted: bool = False
    properties: str = ""


def _details(builder: flatbuffers.Builder, item: Details) -> int:
    name = builder.CreateString(item.name)
    properties = builder.CreateString(item.properties)
    handle = builder.CreateString(str(item.handle))
    details_table.Start(builder)
    details_table.AddName(builder, name)
    details_table.AddProperties(builder, properties)
    details_table.AddHandle(builder, handle)
    details_table.AddNumRows(builder, item.num_rows)
    details_table.AddSizeInBytes(builder, item.size_bytes)
    details_table.AddSortingKeyEnabled(builder, item.sorted)
    details_table.AddSortingScore(builder, SORTING_DONE if item.sorted else 0)
    return int(details_table.End(builder))


def _vector(builder: flatbuffers.Builder, offsets: Sequence[int]) -> int:
    builder.StartVector(4, len(offsets), 4)
    for offset in reversed(offsets):
        builder.PrependUOffsetTRelative(offset)
    return int(builder.EndVector())


def _finish(builder: flatbuffers.Builder, root: int) -> bytes:
    builder.Finish(root)
    return bytes(builder.Output())


def schemas(bucket: str, items: Sequence[Details]) -> bytes:
    builder = flatbuffers.Builder(1024)
    vector = _vector(builder, [_details(builder, item) for item in items])
    name = builder.CreateString(bucket)
    schemas_table.Start(builder)
    schemas_table.AddBucketName(builder, name)
    schemas_table.AddSchemas(builder, vector)
    return _finish(builder, schemas_table.End(builder))


def tables(bucket: str, schema: str, items: Sequence[Details]) -> bytes:
    builder = flatbuffers.Builder(1024)
    vector = _vector(builder, [_details(builder, item) for item in items])
    names = [builder.CreateString(text) for text in (bucket, schema)]
    tables_table.Start(builder)
    tables_table.AddBucketName(builder, names[0])
    tables_table.AddSchemaName(builder, names[1])
    tables_table.AddTables(builder, vector)
    return _finish(builder, tables_table.End(builder))


def projections(bucket: str, schema: str, table: str, items: Sequence[Details]) -> bytes:
    builder = flatbuffers.Builder(1024)
    vector = _vector(builder, [_details(builder, item) for item in items])
    names = [builder.CreateString(text) for text in (bucket, schema, table)]
    projections_table.Start(builder)
    projections_table.AddBucketName(builder, names[0])
    projections_table.AddSchemaName(builder, names[1])
    projections_table.AddTableName(builder, names[2])
    projections_table.AddProjections(builder, vector)
    return _finish(builder, projections_table.End(builder))


def table_stats(num_rows: int, size_bytes: int, external: bool, sorted_: bool, vips: Sequence[str]) -> bytes:
    """Statistics of a table; each of `vips` becomes a range of one address."""
    builder = flatbuffers.Builder(256)
    ranges = []
    for vip in vips:
        address = builder.CreateString(vip)
        vip_table.Start(builder)
        vip_table.AddStartAddress(builder, address)
        vip_table.AddAddressCount(builder, 1)
        ranges.append(int(vip_table.End(builder)))
    vector = _vector(builder, ranges)
    stats_table.Start(builder)
    stats_table.AddNumRows(builder, num_rows)
    stats_table.AddSizeInBytes(builder, size_bytes)
    stats_table.AddIsExternalRowidAlloc(builder, external)
    stats_table.AddVips(builder, vector)
    stats_table.AddSortingKeyEnabled(builder, sorted_)
    stats_table.AddSortingScore(builder, SORTING_DONE if sorted_ else 0)
    return _finish(builder, stats_table.End(builder))


def projection_stats(num_rows: int, size_bytes: int) -> bytes:
    builder = flatbuffers.Builder(64)
    projection_stats_table.Start(builder)
    projection_stats_table.AddNumRows(builder, num_rows)
    projection_stats_table.AddSizeInBytes(builder, size_bytes)
    projection_stats_table.AddInitialSyncProgress(builder, 100)
    return _finish(builder, projection_stats_table.End(builder))
