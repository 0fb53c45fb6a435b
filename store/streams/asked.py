"""What a request for entries asks for, from its path and query. Pure."""

from __future__ import annotations

import re
from dataclasses import dataclass

from store.errors import BadRequest
from store.params import Params
from store.streams.flows import check_sid
from store.streams.ids import id_of

NEWEST, NEXT = "*", "$"
MOST_ENTRIES = 10_000
MOST_STREAMS = 64
MOST_TIMEOUT_MS = 86_400_000
_DECIMAL = re.compile(r"[0-9]{1,9}(?:\.[0-9]{1,9})?")


@dataclass(frozen=True, slots=True)
class Wire:
    """Which of the two wires a client speaks. `named`: entries come with the id of their stream."""

    prefix: str
    named: bool


ROOT, LATER = Wire("", False), Wire("/ptg", True)


@dataclass(frozen=True, slots=True)
class Pull:
    """A wish for entries. `after`: by stream, an id, `*` or `$`. `sync`: the stream by whose entries others
    are told. `latest`: only the newest. `rate`: messages a second. `ack`: the client says when to go on."""

    sids: tuple[str, ...]
    after: tuple[str, ...]
    count: int
    sync: str | None = None
    latest: bool = False
    timeout_s: float | None = None
    rate: float | None = None
    ack: bool = False


@dataclass(frozen=True, slots=True)
class Push:
    """A wish to push. No `sids`: to any stream that the frames name."""

    sids: tuple[str, ...]
    batch: bool
    ack: bool


def sids_of(text: str, wire: Wire) -> tuple[str, ...]:
    """The streams that a path names, several of them on the later wire. Raises `BadRequest`."""
    names = text.split("+") if wire.named else [text]
    found = tuple(check_sid(name) for name in names)
    if len(set(found)) != len(found):
        raise BadRequest("A stream is named twice.")
    if len(found) > MOST_STREAMS:
        raise BadRequest(f"At most {MOST_STREAMS} streams can be asked for at once.")
    return found


def pull_of(text: str, query: Params, wire: Wire, default: str) -> Pull:
    """A wish for entries; `default`: from where on. Raises `BadRequest`."""
    sids = sids_of(text, wire)
    count = query.integer("count")
    if count is not None and count < 1:
        raise BadRequest("`count` must be at least 1.")
    found = Pull(sids, _after(sids, query, wire, default), min(count or 1, MOST_ENTRIES))
    if not wire.named:
        return found
    timeout_ms = query.integer("timeout")
    if timeout_ms is not None and not 0 < timeout_ms <= MOST_TIMEOUT_MS:
        raise BadRequest(f"`timeout` must be from 1 to {MOST_TIMEOUT_MS} milliseconds.")
    return Pull(
        sids,
        found.after,
        found.count,
        _sync(sids, query),
        query.flag("latest") or False,
        None if timeout_ms is None else timeout_ms / 1000,
        _rate(query),
        query.flag("ack") or False,
    )


def push_of(text: str, query: Params, wire: Wire) -> Push:
    """A wish to push. Raises `BadRequest`."""
    batch = query.flag("batch") or False
    sids = () if wire.named and text == "*" else sids_of(text, wire)
    if len(sids) != 1 and not batch:
        raise BadRequest("Entries for several streams are pushed in batches.")
    return Push(sids, batch, query.flag("ack") or False)


def _after(sids: tuple[str, ...], query: Params, wire: Wire, default: str) -> tuple[str, ...]:
    text = query.text("last_entry_id")
    # A plus in a query is a space once it is decoded.
    given = [default] if text is None else text.replace("+", " ").split(" ") if wire.named else [text]
    for each in given:
        if each not in (NEWEST, NEXT):
            id_of(each)
    if len(given) == 1:
        return tuple(given) * len(sids)
    if len(given) != len(sids):
        raise BadRequest("`last_entry_id` must have one id, or one for each stream.")
    return tuple(given)


def _sync(sids: tuple[str, ...], query: Params) -> str | None:
    text = query.text("time_sync_id")
    if text is None or text in sids:
        return text
    if text.isascii() and text.isdigit() and len(text) < 4 and int(text) < len(sids):
        return sids[int(text)]
    raise BadRequest("`time_sync_id` must be one of the streams, or its place among them.")


def _rate(query: Params) -> float | None:
    text = query.text("rate_limit")
    if text is None:
        return None
    if _DECIMAL.fullmatch(text) is None or not float(text):
        raise BadRequest("`rate_limit` must be a number of messages a second.")
    return float(text)
