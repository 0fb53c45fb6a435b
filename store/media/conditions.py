"""What a reader's Range and conditional headers ask for (RFC 9110 13 and 14); pure."""

from __future__ import annotations

import re
from dataclasses import dataclass
from email.utils import formatdate, parsedate_to_datetime
from functools import lru_cache

from store import errors

# A longer one can only name several ranges, which are answered with the whole object: nothing to parse.
_LONGEST_RANGE = 64
_RANGE = re.compile(r"bytes\s*=\s*(\d*)\s*-\s*(\d*)", re.ASCII)
_ETAG = re.compile(r'(?:W/)?"[^"]*"')
_MOST_ETAGS_BYTES = 4096


@dataclass(frozen=True, slots=True)
class Whole:
    """The whole object: 200."""


@dataclass(frozen=True, slots=True)
class Part:
    """Bytes from `start` up to but not including `end`: 206."""

    start: int
    end: int


@dataclass(frozen=True, slots=True)
class Unchanged:
    """What the reader has is still right: 304."""


def wanted(
    headers: dict[str, str], *, size_bytes: int, etag: str, modified_s: int
) -> Whole | Part | Unchanged:
    """What to answer a GET or HEAD with. `headers` has lower-case names.

    Raises `errors.RangeNotSatisfiable`. A Range that is malformed or names several ranges is ignored, as
    RFC 9110 14.2 allows; only `bytes` is known.
    """
    none_match = headers.get("if-none-match")
    if none_match is not None:
        if _names(none_match, etag):
            return Unchanged()
    elif (since_s := _date_s(headers.get("if-modified-since"))) is not None and modified_s <= since_s:
        return Unchanged()
    header = headers.get("range")
    if header is None or not _still_valid(headers.get("if-range"), etag, modified_s):
        return Whole()
    return _part(header, size_bytes)


def write_allowed(headers: dict[str, str], *, etag: str | None, modified_s: int) -> bool:
    """Whether a write may go on (RFC 9110 13.1.1, 13.1.2, 13.1.4); `etag` None: there is nothing yet."""
    match = headers.get("if-match")
    if match is not None:
        if etag is None or not (match.strip() == "*" or etag in _strong(match)):
            return False
    elif etag is not None:
        since_s = _date_s(headers.get("if-unmodified-since"))
        if since_s is not None and modified_s > since_s:
            return False
    none_match = headers.get("if-none-match")
    return none_match is None or etag is None or not _names(none_match, etag)


@lru_cache(maxsize=1024)
def http_date(at_s: int) -> str:
    """Seconds since 1970 as in Last-Modified."""
    return formatdate(at_s, usegmt=True)


def _part(header: str, size_bytes: int) -> Whole | Part:
    match = _RANGE.fullmatch(header.strip()) if len(header) <= _LONGEST_RANGE else None
    if match is None:
        return Whole()
    first, last = match.groups()
    if not first and not last:
        return Whole()
    if not first:
        start, end = max(0, size_bytes - int(last)), size_bytes
    else:
        start, end = int(first), min(size_bytes, int(last) + 1 if last else size_bytes)
        if last and int(last) < start:
            return Whole()
    if start >= end:
        raise errors.RangeNotSatisfiable("no byte of the object is in the range", size_bytes=size_bytes)
    return Part(start, end)


def _still_valid(if_range: str | None, etag: str, modified_s: int) -> bool:
    if if_range is None:
        return True
    if if_range.startswith(('"', "W/")):
        return if_range.strip() == etag
    return _date_s(if_range) == modified_s


def _names(header: str, etag: str) -> bool:
    if header.strip() == "*":
        return True
    return any(found.removeprefix("W/") == etag for found in _ETAG.findall(header[:_MOST_ETAGS_BYTES]))


def _strong(header: str) -> list[str]:
    return [found for found in _ETAG.findall(header[:_MOST_ETAGS_BYTES]) if not found.startswith("W/")]


def _date_s(header: str | None) -> int | None:
    if header is None:
        return None
    try:
        return int(parsedate_to_datetime(header).timestamp())
    except (ValueError, OverflowError):
        return None
