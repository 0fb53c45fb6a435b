"""Reading everything once, for figures: what is read, as which columns."""

from __future__ import annotations

from enum import Enum
from typing import NamedTuple


class Resource(NamedTuple):
    """A document. `segments` and `media_ns`: how many a flow has, and how long they are together (at most
    what 64 bits hold); 0 for what is no flow."""

    kind: str
    format: str | None
    codec: str | None
    created_ns: int
    updated_ns: int
    segments: int
    media_ns: int


class Span(NamedTuple):
    """A segment: inclusive start, exclusive stop."""

    start_ns: int
    stop_ns: int


class Stored(NamedTuple):
    """An object. `backends`: the ids of those that have its bytes, each once."""

    role: str
    created_ns: int
    size_bytes: int | None
    backends: tuple[str, ...]


class Use(NamedTuple):
    """An object's use by a flow: how many times, directly or as an init object."""

    times: int


class Access(NamedTuple):
    """How many signed URLs of an object were given out, and when last. Each object comes once."""

    object_id: str
    urls: int
    last_ns: int


class Subject(Enum):
    """What a survey goes over; the value is what each record is."""

    RESOURCES = Resource
    SEGMENTS = Span
    OBJECTS = Stored
    USES = Use
    ACCESSES = Access
