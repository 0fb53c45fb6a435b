"""The predicates that VAST DB carries out: an AND of conditions, each on one column. Pure.

Nothing else can be written down here, so that no query raises, or is cut short silently, at run time.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from enum import Enum
from functools import reduce
from operator import and_
from typing import Any, Final, TypeAlias

import pyarrow as pa

from store.errors import BadRequest
from store.timerange import MAX_NS, MIN_NS

Value: TypeAlias = str | int

MOST_VALUES: Final = 4_000
"""How many values one query is asked for at most: the SDK takes 0.15 ms to write each of them down."""
MOST_BYTES: Final = 3 << 20
"""And how many bytes they have at most; a query over 4.5 MiB is refused, and a value costs 112 besides."""
VALUE_BYTES: Final = 112


class Operator(Enum):
    """How a column is compared."""

    AMONG = "among"
    ABOVE = "above"
    AT_LEAST = "at least"
    BELOW = "below"
    AT_MOST = "at most"
    NULL = "null"


@dataclass(frozen=True, slots=True)
class Condition:
    """A condition on one column; null meets none but NULL. AMONG without values is never met."""

    column: str
    operator: Operator
    values: tuple[Value, ...]

    @property
    def is_void(self) -> bool:
        """Whether no row can meet it."""
        return self.operator is Operator.AMONG and not self.values


def equal(column: str, value: Value) -> Condition:
    """The column has this value."""
    return Condition(column, Operator.AMONG, (value,))


def among(column: str, values: Iterable[Value]) -> Condition:
    """The column has one of these values."""
    return Condition(column, Operator.AMONG, tuple(dict.fromkeys(values)))


def above(column: str, value: Value) -> Condition:
    """The column is greater than a value; text goes by its bytes."""
    return Condition(column, Operator.ABOVE, (value,))


def at_least(column: str, value: Value) -> Condition:
    """The column is a value or greater."""
    return Condition(column, Operator.AT_LEAST, (value,))


def below(column: str, value: Value) -> Condition:
    """The column is less than a value."""
    return Condition(column, Operator.BELOW, (value,))


def at_most(column: str, value: Value) -> Condition:
    """The column is a value or less."""
    return Condition(column, Operator.AT_MOST, (value,))


def null(column: str) -> Condition:
    """The column has no value."""
    return Condition(column, Operator.NULL, ())


def chunks(values: Iterable[Value]) -> list[list[Value]]:
    """Distinct values in pieces that one query each can carry."""
    pieces: list[list[Value]] = []
    size = MOST_BYTES
    for value in dict.fromkeys(values):
        cost = VALUE_BYTES + (len(value) * 4 if isinstance(value, str) else 8)
        if size + cost > MOST_BYTES or len(pieces[-1]) >= MOST_VALUES:
            pieces.append([])
            size = 0
        pieces[-1].append(value)
        size += cost
    return pieces


def expression(columns: Mapping[str, Any], schema: pa.Schema, conditions: Sequence[Condition]) -> Any:
    """The conditions as the SDK takes them, None for none. `columns`: the SDK's table, to name columns by.

    Raises `BadRequest` for a value that the column's type cannot hold, since clients give such.
    """
    found = [_one(columns[each.column], schema.field(each.column).type, each) for each in conditions]
    return reduce(and_, found) if found else None


def _one(column: Any, kind: pa.DataType, condition: Condition) -> Any:
    for value in condition.values:
        _check(kind, value)
    if condition.operator is Operator.NULL:
        return column.isnull()
    if condition.operator is Operator.AMONG:
        values = condition.values
        return column == values[0] if len(values) == 1 else column.isin(values)
    (value,) = condition.values
    return {
        Operator.ABOVE: column.__gt__,
        Operator.AT_LEAST: column.__ge__,
        Operator.BELOW: column.__lt__,
        Operator.AT_MOST: column.__le__,
    }[condition.operator](value)


def _check(kind: pa.DataType, value: Value) -> None:
    """A fraction would be cut off silently, so that only exact types pass."""
    if kind == pa.int64() and type(value) is int:
        if not MIN_NS <= value <= MAX_NS:
            raise BadRequest("A number is beyond 64 bits.")
    elif kind == pa.string() and isinstance(value, str):
        try:
            value.encode()
        except UnicodeEncodeError as exc:
            raise BadRequest("A text is not valid Unicode.") from exc
    else:
        raise TypeError(f"no condition on {kind} takes {type(value).__name__}")
