"""Which columns a table may have, and whether rows from a client fit them."""

import pyarrow as pa
import pyarrow.compute as pc

from tests.vast_emulator.errors import bad_request
from tests.vast_emulator.options import MAX_CELL_BYTES
from tests.vast_emulator.rows import ROW_ID

_MAX_FIXED_LIST = 1 << 20
_SCALARS = frozenset(
    [pa.bool_(), pa.string(), pa.binary(), pa.date32(), pa.float16(), pa.float32(), pa.float64()]
    + [pa.int8(), pa.int16(), pa.int32(), pa.int64(), pa.uint8(), pa.uint16(), pa.uint32(), pa.uint64()]
    + [pa.time32("s"), pa.time32("ms"), pa.time64("us"), pa.time64("ns")]
)
_UNLISTED = frozenset([pa.bool_(), pa.string(), pa.binary()])


def _is_scalar(kind: pa.DataType) -> bool:
    return kind in _SCALARS or pa.types.is_decimal128(kind) or pa.types.is_timestamp(kind)


def check_type(name: str, kind: pa.DataType) -> None:
    """Refuse a column type that a VAST cluster does not store."""
    if _is_scalar(kind) or pa.types.is_fixed_size_binary(kind):
        return
    if pa.types.is_fixed_size_list(kind):
        element = kind.value_field
        if kind.list_size == 0:
            raise bad_request("TabularInvalidColumnTypeParam", f"{name}: an empty fixed list")
        numeric = _is_scalar(element.type) and element.type not in _UNLISTED
        if numeric and not element.nullable and kind.list_size <= _MAX_FIXED_LIST:
            return
    elif pa.types.is_list(kind):
        return check_type(name, kind.value_type)
    elif pa.types.is_map(kind):
        check_type(name, kind.key_type)
        return check_type(name, kind.item_type)
    elif pa.types.is_struct(kind):
        for child in kind:
            check_type(f"{name}.{child.name}", child.type)
        return
    raise bad_request("TabularUnsupportedColumnType", f"{name}: {kind}")


def check_columns(columns: pa.Schema) -> pa.Schema:
    """The columns of a new table, without metadata; refuses unsupported, repeated and reserved ones."""
    for column in columns:
        check_type(column.name, column.type)
        if column.name.startswith("$") or not column.name:
            raise bad_request("InvalidArgument", f"column name {column.name!r}")
    if len(set(columns.names)) != len(columns):
        raise bad_request("InvalidArgument", "two columns of one name")
    return pa.schema([column.remove_metadata() for column in columns])


def check_batch(batch: pa.RecordBatch, columns: pa.Schema) -> None:
    """Refuse rows that do not fit `columns`, apart from a leading `$row_id`."""
    for field, array in zip(batch.schema, batch.columns, strict=True):
        if field.name == ROW_ID:
            continue
        index = columns.get_field_index(field.name)
        if index < 0:
            raise bad_request("TabularNoSuchColumn", field.name)
        expected = columns.field(index)
        if field.type != expected.type or field.nullable != expected.nullable:
            raise bad_request("TabularMismatchColumnType", f"{field} where the table has {expected}")
        _check_cells(field, array)


def _check_cells(field: pa.Field, array: pa.Array) -> None:
    if pa.types.is_string(field.type) or pa.types.is_binary(field.type):
        longest = pc.max(pc.binary_length(array)).as_py()
        if longest is not None and longest > MAX_CELL_BYTES:
            raise bad_request("TabularCellTooLarge", f"{field.name}: {longest} bytes in one cell")


def listed(columns: pa.Schema, sort_key: tuple[str, ...], with_metadata: bool) -> pa.Schema:
    """Columns as they are listed: from 5.5 on each tells its place in the sorting key."""
    if not with_metadata:
        return columns
    return pa.schema([column.with_metadata(_sort_metadata(column.name, sort_key)) for column in columns])


def _sort_metadata(name: str, sort_key: tuple[str, ...]) -> dict[str, str]:
    if name not in sort_key:
        return {"VAST:sort_type": "Unsorted"}
    return {"VAST:sort_type": "Sorted", "VAST:sort_index": str(sort_key.index(name))}
