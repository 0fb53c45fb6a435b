"""Evaluates the filter of a query over Arrow columns."""

import operator
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from decimal import Context, Decimal
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
from numpy.typing import NDArray

from tests.vast_emulator.errors import bad_request
from tests.vast_emulator.relation import Column, Constant, Expression, Function, conjuncts

Mask = NDArray[np.bool_]

_COMPARISONS: dict[str, tuple[Callable[..., Any], Callable[[Any, Any], bool]]] = {
    "equal": (pc.equal, operator.eq),
    "not_equal": (pc.not_equal, operator.ne),
    "greater": (pc.greater, operator.gt),
    "greater_equal": (pc.greater_equal, operator.ge),
    "less": (pc.less, operator.lt),
    "less_equal": (pc.less_equal, operator.le),
}


@dataclass(frozen=True)
class Node:
    """One node of the schema: its top-level column, the struct fields down to it, and whether a leaf.

    `listed` is the list it is in: None, "fixed" for the item of a fixed list, "other" where no filter goes.
    """

    column: str
    path: tuple[int, ...]
    leaf: bool
    listed: str | None = None


def nodes(columns: Sequence[pa.Field]) -> list[Node]:
    """All nodes depth first, which is how positions count."""
    return [node for column in columns for node in _walk(column.name, column.type, (), None)]


def _walk(column: str, kind: pa.DataType, path: tuple[int, ...], listed: str | None) -> Iterator[Node]:
    if pa.types.is_struct(kind):
        yield Node(column, path, False, listed)
        for index, child in enumerate(kind):
            yield from _walk(column, child.type, (*path, index), listed)
    elif pa.types.is_map(kind):
        yield Node(column, path, False, listed)
        yield from _walk(column, pa.struct([kind.key_field, kind.item_field]), path, "other")
    elif pa.types.is_list(kind) or pa.types.is_fixed_size_list(kind):
        yield Node(column, path, False, listed)
        fixed = pa.types.is_fixed_size_list(kind) and listed is None
        yield from _walk(column, kind.value_type, path, "fixed" if fixed else "other")
    else:
        yield Node(column, path, True, listed)


@dataclass(frozen=True)
class Conjunct:
    """An OR over one column. `exact` tells that it allows only single values, as equality and isin do."""

    node: Node
    clauses: tuple[Function, ...]

    @property
    def exact(self) -> bool:
        return all(clause.name == "equal" for clause in self.clauses)

    def mask(self, table: pa.Table) -> Mask:
        """The rows for which it is true; null is not true."""
        column = _column(table, self.node)
        values = [_constant(clause).value for clause in self.clauses if clause.name == "equal"]
        others = [clause for clause in self.clauses if clause.name != "equal"]
        if len(values) > 1 and not pa.types.is_fixed_size_list(column.type):
            scalars = [_scalar(value, column.type) for value in values]
            kind = scalars[0].type
            found = pc.is_in(column.cast(kind), value_set=pa.array(scalars, kind))
            masks = [_true(found)]
        else:
            masks = [_evaluate(clause, column) for clause in self.clauses if clause.name == "equal"]
        masks += [_evaluate(clause, column) for clause in others]
        combined: Mask = np.logical_or.reduce(masks)
        return combined


def read_filter(expression: Expression, places: Sequence[Node]) -> tuple[Conjunct, ...]:
    """Split a filter; refuses an OR over several columns and positions that cannot be filtered."""
    found = []
    for clauses in conjuncts(expression):
        positions = {position for clause in clauses for position in _positions(clause)}
        if len(positions) != 1:
            raise bad_request("InvalidArgument", "an OR over several columns")
        (position,) = positions
        if position >= len(places) or not places[position].leaf or places[position].listed == "other":
            raise bad_request("InvalidArgument", f"no filter over position {position}")
        found.append(Conjunct(places[position], clauses))
    return tuple(found)


def _positions(function: Function) -> Iterator[int]:
    for argument in function.arguments:
        if isinstance(argument, Column):
            yield argument.position
        elif isinstance(argument, Function):
            yield from _positions(argument)


def _column(table: pa.Table, node: Node) -> pa.ChunkedArray:
    column = table.column(node.column)
    return pc.struct_field(column, list(node.path)) if node.path else column


def _constant(function: Function) -> Constant:
    constants = [argument for argument in function.arguments if isinstance(argument, Constant)]
    if len(constants) != 1:
        raise bad_request("InvalidArgument", f"{function.name} takes one literal")
    return constants[0]


def _true(result: pa.ChunkedArray) -> Mask:
    return np.asarray(result.fill_null(False).to_numpy(), np.bool_)


def _evaluate(clause: Function, column: pa.ChunkedArray) -> Mask:
    if clause.name == "is_null":
        return _true(pc.is_null(column))
    if clause.name == "is_valid":
        return _true(pc.is_valid(column))
    if clause.name == "and":
        inner = [argument for argument in clause.arguments if isinstance(argument, Function)]
        combined: Mask = np.logical_and.reduce([_evaluate(item, column) for item in inner])
        return combined
    value = _constant(clause).value
    if clause.name == "match_substring":
        return _true(pc.match_substring(column.cast(pa.binary()), pattern=value))
    if clause.name not in _COMPARISONS:
        raise bad_request("InvalidArgument", f"function {clause.name}")
    vectorized, plain = _COMPARISONS[clause.name]
    if pa.types.is_fixed_size_list(column.type):
        return _compare_lists(column, value, plain)
    scalar = _scalar(value, column.type)
    return _true(vectorized(column.cast(scalar.type), scalar))


def _compare_lists(
    column: pa.ChunkedArray, value: tuple[Any, ...], compare: Callable[[Any, Any], bool]
) -> Mask:
    """Lexicographic comparison of fixed lists, null being never true."""
    kind = column.type.value_type
    wanted = [_scalar(item, kind).as_py() for item in value]
    return np.array([row is not None and compare(row, wanted) for row in column.to_pylist()], np.bool_)


def _scalar(value: Any, kind: pa.DataType) -> pa.Scalar:
    """A literal in the type of its column; text is compared by its bytes."""
    if pa.types.is_string(kind) or pa.types.is_binary(kind):
        return pa.scalar(bytes(value), pa.binary())
    if pa.types.is_decimal128(kind):
        exact = Decimal(int.from_bytes(value, "little", signed=True)).scaleb(-kind.scale, Context(prec=76))
        return pa.scalar(exact, pa.decimal128(38, kind.scale))
    if pa.types.is_float16(kind):
        return pa.scalar(np.uint16(value).view(np.float16), kind)
    if pa.types.is_date32(kind) or pa.types.is_time32(kind):
        return pa.scalar(value, pa.int32()).cast(kind)
    if pa.types.is_time64(kind) or pa.types.is_timestamp(kind):
        return pa.scalar(value, pa.int64()).cast(kind)
    return pa.scalar(value, kind)
