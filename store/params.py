"""Query parameters, parsed once and strictly (rules 7, 11, 14)."""

from __future__ import annotations

import re
from collections.abc import Iterable, Sequence
from enum import StrEnum
from typing import TypeVar

from store.errors import BadRequest
from store.timerange import InvalidTimeRange, TimeRange

UUID = re.compile(r"[0-9a-f]{8}-[0-9a-f]{4}-[1-5][0-9a-f]{3}-[89ab][0-9a-f]{3}-[0-9a-f]{12}")
MIME = re.compile(r"[^\s/]+/[^\s/]+")
INTEGER = re.compile(r"-?[0-9]+")
MOST = 10**18 - 1
E = TypeVar("E", bound=StrEnum)

TagFilters = tuple[tuple[str, frozenset[str]], ...]
TagExists = tuple[tuple[str, bool], ...]


def is_uuid(text: str) -> bool:
    """Whether this is a UUID as TAMS 8.2 uuid.json spells one."""
    return UUID.fullmatch(text) is not None


class Params:
    """The query of one request. Each reader raises `BadRequest` for a value its parameter cannot have.

    A parameter that is given twice is refused when it is read: which of the two counts is anyone's guess.
    Parameters that nobody reads are ignored.
    """

    __slots__ = ("_values", "pairs")

    def __init__(self, pairs: Sequence[tuple[str, str]]) -> None:
        self.pairs = pairs
        self._values: dict[str, str | None] = {}
        for name, value in pairs:
            self._values[name] = None if name in self._values else value

    def text(self, name: str) -> str | None:
        """The value, None when absent."""
        if name not in self._values:
            return None
        value = self._values[name]
        if value is None:
            raise BadRequest(f"`{name}` is given more than once.")
        return value

    def flag(self, name: str) -> bool | None:
        """true or false in any letter case."""
        value = self.text(name)
        if value is None:
            return None
        lowered = value.lower()
        if lowered not in ("true", "false"):
            raise BadRequest(f"`{name}` must be true or false.")
        return lowered == "true"

    def integer(self, name: str) -> int | None:
        """A decimal integer; one of more than 18 digits counts as the greatest, or the least, of 18."""
        value = self.text(name)
        if value is None:
            return None
        if not INTEGER.fullmatch(value):
            raise BadRequest(f"`{name}` must be an integer.")
        if len(value) > 18:
            return -MOST if value[0] == "-" else MOST
        return int(value)

    def limit(self, default: int, maximum: int) -> int:
        """The page size: at least 1, lowered to the maximum."""
        value = self.integer("limit")
        if value is None:
            return default
        if value < 1:
            raise BadRequest("`limit` must be at least 1.")
        return min(value, maximum)

    def choice(self, name: str, choices: Iterable[str]) -> str | None:
        """One of the given values."""
        value = self.text(name)
        allowed = tuple(choices)
        if value is not None and value not in allowed:
            raise BadRequest(f"`{name}` must be one of {', '.join(allowed)}.")
        return value

    def uuid(self, name: str) -> str | None:
        """A UUID."""
        value = self.text(name)
        if value is not None and not is_uuid(value):
            raise BadRequest(f"`{name}` must be a lower-case UUID.")
        return value

    def uuids(self, name: str, *, may_be_empty: bool) -> frozenset[str] | None:
        """A comma-separated list of UUIDs; present but empty is the empty set."""
        value = self.text(name)
        if value is None:
            return None
        if not value:
            if may_be_empty:
                return frozenset()
            raise BadRequest(f"`{name}` must be a list of lower-case UUIDs.")
        items = value.split(",")
        if not all(is_uuid(item) for item in items):
            raise BadRequest(f"`{name}` must be a list of lower-case UUIDs.")
        return frozenset(items)

    def mime(self, name: str) -> str | None:
        """A MIME type without parameters."""
        value = self.text(name)
        if value is not None and not MIME.fullmatch(value):
            raise BadRequest(f"`{name}` must be a MIME type.")
        return value

    def timerange(self, name: str) -> TimeRange | None:
        """A timerange; absent is None, `_` eternity."""
        value = self.text(name)
        if value is None:
            return None
        try:
            return TimeRange.parse(value)
        except InvalidTimeRange as exc:
            raise BadRequest(f"`{name}` is not a timerange: {exc}") from exc

    def labels(self, name: str) -> frozenset[str] | None:
        """A comma-separated list without empty items; present but empty is the empty set."""
        value = self.text(name)
        if value is None:
            return None
        return frozenset(_items(name, value)) if value else frozenset()

    def tags(self, prefix: str = "") -> tuple[TagFilters, TagExists]:
        """The `{prefix}tag.{name}` and `{prefix}tag_exists.{name}` filters, in order of appearance."""
        values: list[tuple[str, frozenset[str]]] = []
        exists: list[tuple[str, bool]] = []
        for name in self._values:
            if name.startswith(f"{prefix}tag."):
                given = self.text(name)
                # url-tag-list.json allows the empty list; as a tag value it is the empty string.
                values.append((name[len(prefix) + 4 :], frozenset(_items(name, given) if given else ("",))))
            elif name.startswith(f"{prefix}tag_exists."):
                exists.append((name[len(prefix) + 11 :], bool(self.flag(name))))
        if any(not name for name, _ in (*values, *exists)):
            raise BadRequest("A tag filter must name its tag.")
        return tuple(values), tuple(exists)


def _items(name: str, value: str) -> list[str]:
    items = value.split(",")
    if not all(items):
        raise BadRequest(f"`{name}` must be a comma-separated list without empty items.")
    return items
