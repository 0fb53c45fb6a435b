"""Reads the body of a query: an Arrow compute IR relation."""

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import pyarrow as pa
from vastdb.vast_flatbuf.org.apache.arrow.computeir.flatbuf import (
    BinaryLiteral,
    BooleanLiteral,
    Call,
    DateLiteral,
    DecimalLiteral,
    FieldIndex,
    FieldRef,
    Float16Literal,
    Float32Literal,
    Float64Literal,
    Int8Literal,
    Int16Literal,
    Int32Literal,
    Int64Literal,
    ListLiteral,
    Literal,
    Relation,
    Source,
    StringLiteral,
    TimeLiteral,
    TimestampLiteral,
    UInt8Literal,
    UInt16Literal,
    UInt32Literal,
    UInt64Literal,
)
from vastdb.vast_flatbuf.org.apache.arrow.computeir.flatbuf.ExpressionImpl import ExpressionImpl
from vastdb.vast_flatbuf.org.apache.arrow.computeir.flatbuf.LiteralImpl import LiteralImpl
from vastdb.vast_flatbuf.org.apache.arrow.computeir.flatbuf.RelationImpl import RelationImpl
from vastdb.vast_flatbuf.org.apache.arrow.flatbuf.Type import Type

from tests.vast_emulator.errors import bad_request

_SCALARS: dict[int, type[Any]] = {
    LiteralImpl.BooleanLiteral: BooleanLiteral.BooleanLiteral,
    LiteralImpl.Int8Literal: Int8Literal.Int8Literal,
    LiteralImpl.Int16Literal: Int16Literal.Int16Literal,
    LiteralImpl.Int32Literal: Int32Literal.Int32Literal,
    LiteralImpl.Int64Literal: Int64Literal.Int64Literal,
    LiteralImpl.UInt8Literal: UInt8Literal.UInt8Literal,
    LiteralImpl.UInt16Literal: UInt16Literal.UInt16Literal,
    LiteralImpl.UInt32Literal: UInt32Literal.UInt32Literal,
    LiteralImpl.UInt64Literal: UInt64Literal.UInt64Literal,
    LiteralImpl.DateLiteral: DateLiteral.DateLiteral,
    LiteralImpl.TimeLiteral: TimeLiteral.TimeLiteral,
    LiteralImpl.TimestampLiteral: TimestampLiteral.TimestampLiteral,
    LiteralImpl.Float16Literal: Float16Literal.Float16Literal,
    LiteralImpl.Float32Literal: Float32Literal.Float32Literal,
    LiteralImpl.Float64Literal: Float64Literal.Float64Literal,
    LiteralImpl.StringLiteral: StringLiteral.StringLiteral,
}
_VECTORS: dict[int, type[Any]] = {
    LiteralImpl.BinaryLiteral: BinaryLiteral.BinaryLiteral,
    LiteralImpl.DecimalLiteral: DecimalLiteral.DecimalLiteral,
}


@dataclass(frozen=True)
class Constant:
    """A literal as it came: numbers for numbers and times, bytes for text, binary and decimals."""

    value: Any


@dataclass(frozen=True)
class Column:
    """A column by its place among all nodes of the schema, depth first."""

    position: int


@dataclass(frozen=True)
class Function:
    name: str
    arguments: tuple["Expression", ...]


Expression = Constant | Column | Function


@dataclass(frozen=True)
class Query:
    """The top-level columns named, each with the tag of its type, the leaves to return, and the filter."""

    columns: tuple[tuple[str, int], ...]
    projection: tuple[int, ...]
    filter: Expression


def read(body: bytes) -> Query:
    """Read a serialized `Relation` over one source."""
    relation = Relation.Relation.GetRootAs(body)
    if relation.ImplType() != RelationImpl.Source:
        raise bad_request("InvalidArgument", "not a relation over a source")
    source = _cast(Source.Source, relation.Impl())
    schema = source.Schema()
    fields = [schema.Fields(index) for index in range(schema.FieldsLength())]
    return Query(
        columns=tuple((field.Name().decode(), int(field.TypeType())) for field in fields),
        projection=tuple(source.Projection(index).Position() for index in range(source.ProjectionLength())),
        filter=_expression(source.Filter()) if source.Filter() else Function("and", ()),
    )


def _cast(kind: type[Any], table: Any) -> Any:
    made = kind()
    made.Init(table.Bytes, table.Pos)
    return made


def _expression(node: Any) -> Expression:
    kind = node.ImplType()
    if kind == ExpressionImpl.Call:
        call = _cast(Call.Call, node.Impl())
        arguments = tuple(_expression(call.Arguments(index)) for index in range(call.ArgumentsLength()))
        return Function(call.Name().decode(), arguments)
    if kind == ExpressionImpl.FieldRef:
        reference = _cast(FieldRef.FieldRef, node.Impl())
        return Column(_cast(FieldIndex.FieldIndex, reference.Ref()).Position())
    if kind == ExpressionImpl.Literal:
        return Constant(_literal(_cast(Literal.Literal, node.Impl())))
    raise bad_request("InvalidArgument", f"expression of kind {kind}")


def _literal(literal: Any) -> Any:
    kind = literal.ImplType()
    if kind in _SCALARS:
        value = _cast(_SCALARS[kind], literal.Impl()).Value()
        return b"" if value is None else value
    if kind in _VECTORS:
        vector = _cast(_VECTORS[kind], literal.Impl())
        return vector.ValueAsNumpy().tobytes() if vector.ValueLength() else b""
    if kind == LiteralImpl.ListLiteral:
        items = _cast(ListLiteral.ListLiteral, literal.Impl())
        return tuple(_literal(items.Values(index)) for index in range(items.ValuesLength()))
    raise bad_request("InvalidArgument", f"literal of kind {kind}")


def conjuncts(expression: Expression) -> Iterator[tuple[Function, ...]]:
    """The clauses of each OR below the outermost AND."""
    if not isinstance(expression, Function) or expression.name != "and":
        raise bad_request("InvalidArgument", "a filter is an AND")
    for item in expression.arguments:
        if not isinstance(item, Function) or item.name != "or" or not item.arguments:
            raise bad_request("InvalidArgument", "a filter is an AND of ORs")
        clauses = tuple(clause for clause in item.arguments if isinstance(clause, Function))
        if len(clauses) != len(item.arguments):
            raise bad_request("InvalidArgument", "an OR of other things than calls")
        yield clauses


def type_tag(kind: pa.DataType) -> int:
    """The tag under which a query names a type (Arrow Schema.fbs, `union Type`)."""
    checks = (
        (pa.types.is_integer, Type.Int),
        (pa.types.is_floating, Type.FloatingPoint),
        (pa.types.is_string, Type.Utf8),
        (pa.types.is_fixed_size_binary, Type.FixedSizeBinary),
        (pa.types.is_binary, Type.Binary),
        (pa.types.is_boolean, Type.Bool),
        (pa.types.is_decimal128, Type.Decimal),
        (pa.types.is_date, Type.Date),
        (pa.types.is_time, Type.Time),
        (pa.types.is_timestamp, Type.Timestamp),
        (pa.types.is_map, Type.Map),
        (pa.types.is_fixed_size_list, Type.FixedSizeList),
        (pa.types.is_list, Type.List),
        (pa.types.is_struct, Type.Struct_),
    )
    return int(next(tag for holds, tag in checks if holds(kind)))
