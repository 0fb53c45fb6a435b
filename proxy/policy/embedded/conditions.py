"""Conditions: CEL expressions over typed parameters, as OpenFGA evaluates them.

Expressions are compiled by Google's CEL (`cel-expr-python`). Its binding can check an opaque type but not
carry one, so an `ipaddress` is checked as a type of its own and evaluated as a canonical string. Durations
and timestamps are exact to the microsecond.
"""

from __future__ import annotations

import ipaddress
import math
import re
from collections.abc import Callable, Iterator, Mapping
from datetime import UTC, datetime, timedelta, timezone
from fractions import Fraction

from cel_expr_python import cel

from proxy.policy.embedded.errors import ConditionFailed, InvalidModel, InvalidTuple, Problem
from proxy.policy.embedded.model import Condition, Model, ParameterType
from proxy.policy.embedded.tuples import ConditionRef, Tuple

_CEL_TYPES = {
    "bool": cel.Type.BOOL,
    "string": cel.Type.STRING,
    "int": cel.Type.INT,
    "uint": cel.Type.UINT,
    "double": cel.Type.DOUBLE,
    "duration": cel.Type.DURATION,
    "timestamp": cel.Type.TIMESTAMP,
    "any": cel.Type.DYN,
}
_OPAQUE_ADDRESS = cel.Type.AbstractType("ipaddress")
_MAX_DEPTH = 50
_DURATION_PART = re.compile(r"(\d+\.?\d*|\.\d+)(ns|us|µs|μs|ms|s|m|h)")
_SECONDS = {
    "ns": Fraction(1, 10**9),
    "us": Fraction(1, 10**6),
    "µs": Fraction(1, 10**6),
    "μs": Fraction(1, 10**6),
    "ms": Fraction(1, 1000),
    "s": Fraction(1),
    "m": Fraction(60),
    "h": Fraction(3600),
}
_TIMESTAMP = re.compile(
    r"(\d{4}-\d\d-\d\d)[Tt](\d\d:\d\d:\d\d)(?:\.(\d{1,9}))?(?:([Zz])|([+-])(\d\d):(\d\d))", re.ASCII
)


class Conditions:
    """The conditions of a model, compiled."""

    def __init__(self, model: Model) -> None:
        """Compile all. Raises `InvalidModel` with every expression that is no boolean of its parameters."""
        self._declared = model.conditions
        self._programs: dict[str, cel.Expression] = {}
        problems = []
        for condition in model.conditions.values():
            try:
                self._programs[condition.name] = _compile(condition)
            except ValueError as error:
                problems.append(Problem(str(error), "invalid-condition", condition.span, condition.file))
        if problems:
            raise InvalidModel(problems)

    def holds(self, ref: ConditionRef, context: Mapping[str, object]) -> bool:
        """Whether the condition holds; the tuple's own values win over the request's.

        Raises `ConditionFailed` when a declared parameter is missing or of another type, or CEL fails.
        """
        values = self.bind(ref, context)
        try:
            result = self._programs[ref.name].eval(data=values)
        except (RuntimeError, ValueError, TypeError, OverflowError) as error:  # what the binding cannot carry
            raise ConditionFailed(f"condition '{ref.name}': {error}") from error
        if result.type() != cel.Type.BOOL:
            raise ConditionFailed(f"condition '{ref.name}': {result.value()}")
        return bool(result.value())

    def bind(self, ref: ConditionRef, context: Mapping[str, object]) -> dict[str, object]:
        """The values of all parameters that the condition declares. Raises `ConditionFailed`."""
        condition = self._declared[ref.name]
        values: dict[str, object] = {}
        for name, kind in condition.parameters.items():
            if name in ref.context:
                given = ref.context[name]
            elif name in context:
                given = context[name]
            else:
                raise ConditionFailed(f"condition '{ref.name}': the parameter '{name}' is missing")
            try:
                values[name] = convert(kind, given)
            except ValueError as error:
                raise ConditionFailed(f"condition '{ref.name}': parameter '{name}': {error}") from error
        return values

    def check_context(self, tuple_: Tuple) -> None:
        """Raise `InvalidTuple` unless the values a tuple fixes are of its condition's parameters."""
        if tuple_.condition is None:
            return
        parameters = self._declared[tuple_.condition.name].parameters
        for name, value in tuple_.condition.context.items():
            if name not in parameters:
                raise InvalidTuple(f"{tuple_}: '{name}' is no parameter of '{tuple_.condition.name}'")
            try:
                convert(parameters[name], value)
            except ValueError as error:
                raise InvalidTuple(f"{tuple_}: parameter '{name}': {error}") from error

    def timestamps(self, ref: ConditionRef) -> Iterator[datetime]:
        """The timestamps among the values that a tuple fixes for its condition."""
        for name, value in ref.context.items():
            if self._declared[ref.name].parameters[name].name == "timestamp":
                yield _timestamp(value)


def _compile(condition: Condition) -> cel.Expression:
    """The compiled expression. Raises ValueError with CEL's own words."""
    try:
        checked = _environment(condition, _OPAQUE_ADDRESS, _OPAQUE_ADDRESS).compile(condition.expression)
        # Where a value may be null, a variable has to be dynamic for CEL to compare it.
        program = _environment(condition, cel.Type.DYN, cel.Type.STRING, _ip, _in_cidr).compile(
            condition.expression
        )
    except (RuntimeError, ValueError) as error:  # the binding knows no narrower one
        raise ValueError(f"condition '{condition.name}': {error}") from error
    if checked.return_type() not in (cel.Type.BOOL, cel.Type.DYN):
        raise ValueError(f"condition '{condition.name}' is not a boolean expression")
    return program


def _environment(
    condition: Condition,
    variable: cel.Type,
    address: cel.Type,
    from_text: Callable[[str], str] | None = None,
    in_cidr: Callable[[str, str], bool] | None = None,
) -> cel.Env:
    """CEL with the condition's parameters; an address is `variable` as a parameter, else `address`."""
    text = cel.Type.STRING
    to_address = cel.Overload("string_to_ipaddress", address, [text], impl=from_text)
    inside = cel.Overload("ipaddress_in_cidr_string", cel.Type.BOOL, [address, text], True, impl=in_cidr)
    return cel.NewEnv(
        variables={name: _cel_type(kind, variable) for name, kind in condition.parameters.items()},
        functions=[cel.FunctionDecl("ipaddress", [to_address]), cel.FunctionDecl("in_cidr", [inside])],
    )


def _cel_type(kind: ParameterType, address: cel.Type) -> cel.Type:
    types = _CEL_TYPES | {"ipaddress": address}
    if kind.name == "list":
        return cel.Type.List(types[kind.of or "any"])
    if kind.name == "map":
        return cel.Type.Map(cel.Type.STRING, types[kind.of or "any"])
    return types[kind.name]


def _in_cidr(address: str, cidr: str) -> bool:
    _, _, bits = cidr.partition("/")
    if not (bits.isascii() and bits.isdigit()):
        raise ValueError(f"not a CIDR range: {cidr!r}")
    network = ipaddress.ip_network(cidr, strict=False)
    ip = ipaddress.ip_address(address)
    return ip.version == network.version and ip in network


# Values


def convert(kind: ParameterType, value: object) -> object:
    """A JSON value as CEL takes a parameter of this type. Raises ValueError for what OpenFGA refuses."""
    if kind.name == "list":
        if not isinstance(value, list | tuple):
            raise ValueError(f"expected a {kind}, found {value!r:.80}")
        return [convert(ParameterType(kind.of or "any"), each) for each in value]
    if kind.name == "map":
        if not isinstance(value, Mapping) or not all(isinstance(key, str) for key in value):
            raise ValueError(f"expected a {kind}, found {value!r:.80}")
        return {key: convert(ParameterType(kind.of or "any"), each) for key, each in value.items()}
    return _CONVERSIONS[kind.name](value)


def _bool(value: object) -> object:
    if not isinstance(value, bool):
        raise ValueError(f"expected a bool, found {value!r:.80}")
    return value


def _string(value: object) -> object:
    if not isinstance(value, str):
        raise ValueError(f"expected a string, found {value!r:.80}")
    return value


def _integer(low: int, high: int) -> Callable[[object], object]:
    def convert_integer(value: object) -> object:
        number: int | None = None
        if isinstance(value, str) and re.fullmatch(r"[+-]?[0-9]{1,20}", value):
            number = int(value)
        elif isinstance(value, int) and not isinstance(value, bool):
            number = value
        elif isinstance(value, float) and math.isfinite(value) and value.is_integer():
            number = int(value)
        if number is None or not low <= number <= high:
            raise ValueError(f"expected an integer from {low} to {high}, found {value!r:.80}")
        return number

    return convert_integer


def _double(value: object) -> object:
    if isinstance(value, bool) or not isinstance(value, int | float | str):
        raise ValueError(f"expected a number, found {value!r:.80}")
    try:
        number = float(value)
    except OverflowError as error:
        raise ValueError("expected a number in the range of a double") from error
    if not math.isfinite(number):
        raise ValueError(f"expected a number in the range of a double, found {value!r:.80}")
    return number


def _duration(value: object) -> object:
    """Go's duration syntax: "1h30m", "-1.5s"."""
    if isinstance(value, timedelta):
        return value
    if not isinstance(value, str):
        raise ValueError(f"expected a duration, found {value!r:.80}")
    sign, digits = (-1, value[1:]) if value.startswith("-") else (1, value.removeprefix("+"))
    if digits == "0":
        return timedelta()
    parts = list(_DURATION_PART.finditer(digits))
    if not parts or len(value) > 100 or "".join(part.group() for part in parts) != digits:
        raise ValueError(f"expected a duration such as '1h30m', found {value!r:.80}")
    seconds = sum((Fraction(part[1]) * _SECONDS[part[2]] for part in parts), Fraction())
    try:
        return sign * timedelta(microseconds=int(seconds * 10**6))
    except OverflowError as error:
        raise ValueError("the duration is too long") from error


def _timestamp(value: object) -> datetime:
    """RFC 3339."""
    if isinstance(value, datetime) and value.tzinfo is not None:
        return value
    found = _TIMESTAMP.fullmatch(value) if isinstance(value, str) else None
    if found is None:
        raise ValueError(f"expected an RFC 3339 timestamp, found {value!r:.80}")
    microseconds = (found[3] or "").ljust(6, "0")[:6]
    if found[4]:
        zone = UTC
    else:
        offset = timedelta(hours=int(found[6]), minutes=int(found[7]))
        zone = timezone(-offset if found[5] == "-" else offset)
    moment = datetime.strptime(f"{found[1]}T{found[2]}.{microseconds}", "%Y-%m-%dT%H:%M:%S.%f")
    return moment.replace(tzinfo=zone)


def _ip(value: object) -> str:
    if not isinstance(value, str):
        raise ValueError(f"expected an IP address, found {value!r:.80}")
    return str(ipaddress.ip_address(value))


def _any(value: object, depth: int = 0) -> object:
    """Any JSON value; integers that CEL cannot hold become doubles, as all JSON numbers are to OpenFGA."""
    if isinstance(value, int) and not -(2**63) <= value < 2**63:
        return _double(value)
    if value is None or isinstance(value, bool | int | float | str):
        return value
    if depth < _MAX_DEPTH and isinstance(value, list | tuple):
        return [_any(each, depth + 1) for each in value]
    if depth < _MAX_DEPTH and isinstance(value, Mapping) and all(isinstance(key, str) for key in value):
        return {key: _any(each, depth + 1) for key, each in value.items()}
    raise ValueError(f"expected a JSON value of at most {_MAX_DEPTH} levels, found {type(value).__name__}")


_CONVERSIONS: dict[str, Callable[[object], object]] = {
    "bool": _bool,
    "string": _string,
    "int": _integer(-(2**63), 2**63 - 1),
    "uint": _integer(0, 2**64 - 1),
    "double": _double,
    "duration": _duration,
    "timestamp": _timestamp,
    "ipaddress": _ip,
    "any": _any,
}
