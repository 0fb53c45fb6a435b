"""What clients of live streams agree on with the server: URLs, frames, what to do when it fails. Pure."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from typing import Final, NamedTuple
from urllib.parse import quote, urlencode

import orjson
from websockets.exceptions import ConnectionClosed, InvalidStatus, WebSocketException

from store.client.protocol import REPEATABLE, Policy, StoreError

BATCH_ENTRIES: Final = 1000
BATCH_BYTES: Final = 8 << 20
LONGEST_BYTES: Final = 16 << 20
"""How long an entry may be."""
MESSAGE_BYTES: Final = 32 << 20
FAILURES: Final = (OSError, EOFError, TimeoutError, WebSocketException)
"""By which a socket cannot be opened, or ends."""
_PASSING: Final = frozenset((1001, 1006, 1012, 1013))
"""Close codes of what is over in a while: a connection that broke, a server that restarts or has no room."""


class Entry(NamedTuple):
    """One entry of a stream."""

    id: str
    data: bytes


def push_url(base_url: str, sid: str) -> str:
    """Where to push batches."""
    return f"ws{_data_url(base_url, sid).removeprefix('http')}/push?batch=true&ack=true"


def pull_url(base_url: str, sid: str, after: str, count: int) -> str:
    """Where to follow a stream from behind an id."""
    query = urlencode({"count": count, "last_entry_id": after})
    return f"ws{_data_url(base_url, sid).removeprefix('http')}/pull?{query}"


def newest_url(base_url: str, sid: str) -> str:
    """Where the newest entry is."""
    return f"{_data_url(base_url, sid)}?count=1&last_entry_id=*"


def _data_url(base_url: str, sid: str) -> str:
    return f"{base_url.rstrip('/')}/data/{quote(sid, safe='').replace('.', '%2E')}"


def batches(entries: Iterable[bytes]) -> Iterator[tuple[str, bytes]]:
    """The two frames of each batch, in order. Raises ValueError for an entry that is too long."""
    batch: list[bytes] = []
    size_bytes = 0
    for entry in entries:
        if len(entry) > LONGEST_BYTES:
            raise ValueError(f"An entry has at most {LONGEST_BYTES} bytes.")
        if batch and (len(batch) == BATCH_ENTRIES or size_bytes + len(entry) > BATCH_BYTES):
            yield _frames(batch)
            batch, size_bytes = [], 0
        batch.append(entry)
        size_bytes += len(entry)
    if batch:
        yield _frames(batch)


def _frames(batch: list[bytes]) -> tuple[str, bytes]:
    starts, at = [], 0
    for entry in batch:
        starts.append(str(at))
        at += len(entry)
    return ",".join(starts), b"".join(batch)


def ids_of(frame: str | bytes) -> list[str]:
    """The ids of an acknowledgement. Raises `StoreError` for what is none."""
    if not isinstance(frame, str) or not frame:
        raise StoreError("The server's answer is no acknowledgement.", 0)
    return frame.split(",")


def entries_of(header: str | bytes, data: str | bytes) -> list[Entry]:
    """The entries of a message. Raises `StoreError` for what is none."""
    try:
        items = [(str(name), int(start)) for name, start in orjson.loads(header)]
    except (ValueError, TypeError) as exc:
        raise StoreError("The server's message has no places of entries.", 0) from exc
    if not isinstance(data, bytes):
        raise StoreError("The server's message has no entries.", 0)
    ends = [start for _, start in items[1:]] + [len(data)]
    return [Entry(name, data[start:end]) for (name, start), end in zip(items, ends, strict=False)]


def newest_of(header: str | None) -> str:
    """The id of the newest entry by the header `entry-offset`; that before all where there is none."""
    found = entries_of(header or "[]", b"")
    return found[-1].id if found else "0"


def wait_s(exc: Exception, sid: str, policy: Policy, attempt: int) -> float:
    """How long to wait before trying again after a failed attempt (0 is the first). Raises `KeyError` for a
    stream that is not there, `StoreError` for what is refused and when it has been tried often enough."""
    headers: dict[str, str] = {}
    if isinstance(exc, InvalidStatus):
        status = exc.response.status_code
        headers = {name.lower(): value for name, value in exc.response.headers.raw_items()}
        failed, passing = refusal(status, bytes(exc.response.body or b""), sid), status in REPEATABLE
    elif isinstance(exc, ConnectionClosed):
        failed = ended(exc)
        passing = exc.rcvd is None or exc.rcvd.code in _PASSING
    else:
        failed, passing = StoreError(f"The server cannot be reached: {exc}", 0), True
    if not passing or attempt >= policy.retries:
        raise failed from exc
    return policy.wait_s(attempt, headers)


def refusal(status: int, body: bytes, sid: str) -> Exception:
    """The exception that an answer over HTTP is."""
    if status == 404:
        return KeyError(sid)
    try:
        detail = str(orjson.loads(body)["detail"])
    except (ValueError, KeyError, TypeError):
        detail = f"The server answered {status}."
    return StoreError(detail, status)


def ended(exc: ConnectionClosed) -> StoreError:
    """The exception that a closed socket is. Its `status` is the close code, 0 where there was none."""
    if exc.rcvd is None:
        return StoreError("The connection broke.", 0)
    return StoreError(exc.rcvd.reason or "The server closed the socket.", exc.rcvd.code)
