"""Ids of entries: `ms-seq` on the wire, nanoseconds inside. Pure.

Entry `ms-seq` is the timestamp `ms * 10^6 + seq` ns, so that its place in the flow is its id.
"""

from __future__ import annotations

import re
from collections.abc import Sequence

from store.errors import BadRequest
from store.timerange import MAX_NS

NS_PER_MS = 1_000_000
_ID = re.compile(r"(0|[1-9][0-9]{0,13})(?:-(0|[1-9][0-9]{0,5}|\*))?")


def text_of(id_ns: int) -> str:
    """An id on the wire."""
    ms, seq = divmod(id_ns, NS_PER_MS)
    return f"{ms}-{seq}"


def texts_of(ids: Sequence[int]) -> list[str]:
    """Ids on the wire. Those that were pushed together are of one millisecond, which is written once."""
    if not ids:
        return []
    ms = ids[0] // NS_PER_MS
    begin, end, stem = ms * NS_PER_MS, (ms + 1) * NS_PER_MS, f"{ms}-"
    return [f"{stem}{id_ns - begin}" if begin <= id_ns < end else text_of(id_ns) for id_ns in ids]


def id_of(text: str) -> int:
    """The id that a text writes; one without `-seq` is the first of its millisecond. Raises `BadRequest`."""
    ms, seq = instant_of(text)
    if seq == "*":
        raise BadRequest("An entry id is `ms-seq`.")
    return ms * NS_PER_MS + int(seq)


def instant_of(text: str) -> tuple[int, str]:
    """The millisecond of an id, and what follows: a number or `*`. Raises `BadRequest`."""
    found = _ID.fullmatch(text)
    if found is None or (int(found[1]) + 1) * NS_PER_MS >= MAX_NS:
        raise BadRequest("An entry id is `ms-seq`.")
    return int(found[1]), found[2] or "0"
