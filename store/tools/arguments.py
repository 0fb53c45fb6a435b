"""What several tools take on the command line."""

from __future__ import annotations

from typing import Annotated

import typer

from store.params import is_uuid
from store.timerange import InvalidTimeRange, TimeRange, parse_timestamp
from store.tools.errors import ToolError

Json = Annotated[bool, typer.Option("--json", help="Print JSON.")]
Classes = Annotated[
    list[str] | None, typer.Option("--auth-class", help="A class that the flows get. May be repeated.")
]


def pairs(given: list[str]) -> dict[str, str]:
    """NAME=VALUE, each. Raises `ToolError`."""
    found = {}
    for each in given:
        name, separator, value = each.partition("=")
        if not separator or not name:
            raise ToolError(f"--tag {each}: expected NAME=VALUE")
        found[name] = value
    return found


def timestamp_of(name: str, text: str) -> int:
    """Nanoseconds. Raises `ToolError`."""
    try:
        return parse_timestamp(text)
    except InvalidTimeRange as exc:
        raise ToolError(f"{name}: {exc}") from exc


def timerange_of(text: str) -> TimeRange:
    """A timerange. Raises `ToolError`."""
    try:
        return TimeRange.parse(text)
    except InvalidTimeRange as exc:
        raise ToolError(str(exc)) from exc


def uuid(name: str, text: str) -> str:
    """An id. Raises `ToolError`."""
    if not is_uuid(text):
        raise ToolError(f"{name} {text}: expected a UUID, in small letters")
    return text
