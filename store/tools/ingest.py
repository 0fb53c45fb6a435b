"""From media to flows with segments: what `tams-store ingest` does."""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from fractions import Fraction
from itertools import chain
from pathlib import Path
from typing import Any, Protocol
from urllib.parse import urlsplit

from store.client.tams import Client, Refused, path, said
from store.timerange import NS_PER_S, TimeRange, parse_timestamp
from store.tools.errors import ToolError, Unreadable
from store.tools.flows import Carrier, Flows, Naming, Wanted, differences, of_feed, over
from store.tools.pieces import Feed, Piece
from store.tools.probe import Probe, probe
from store.tools.timing import NOUGHT, Gaps, Kept, Place, Timeline, spanned
from store.tools.upload import Uploader

ENDS_BYTES = 1 << 20


class Progress(Protocol):
    """What is told how far it is."""

    def begin(self, name: str, total: int | None) -> Callable[[int], None]:
        """A flow with so many pieces to come; call the result with the bytes of each."""


@dataclass(frozen=True, slots=True)
class Plan:
    """What one run is to do. `start_ns`: where the first picture goes on the flows' timeline."""

    naming: Naming
    wanted: Wanted
    gaps: Gaps = Gaps.refuse
    start_ns: int | None = None
    flow_id: str | None = None
    jobs: int = 4


@dataclass(slots=True)
class Done:
    """What became of one feed. `there`: pieces that were stored before this run."""

    flow: dict[str, Any]
    stored: int = 0
    there: int = 0
    size_bytes: int = 0
    extent: TimeRange = field(default_factory=lambda: TimeRange(0, 0))
    notes: Sequence[str] = ()

    def document(self) -> dict[str, Any]:
        """For people and for `--json`."""
        return {
            "flow_id": self.flow["id"],
            "source_id": self.flow["source_id"],
            "format": self.flow["format"],
            "container": self.flow.get("container"),
            "timerange": str(self.extent),
            "segments_stored": self.stored,
            "segments_there_before": self.there,
            "bytes": self.size_bytes,
            "notes": list(self.notes),
        }


def run(client: Client, feeds: Sequence[Feed], plan: Plan, progress: Progress) -> list[Done]:
    """Store all feeds. Raises `ToolError`, `Refused`; what was stored by then stays, and the next run
    goes on behind it."""
    if plan.flow_id is not None and len(feeds) > 1:
        raise ToolError("--flow-id is for an input with one playlist; this has several")
    offset = NOUGHT
    start = feeds[0].start if plan.start_ns is None else Fraction(plan.start_ns, NS_PER_S)
    if start is not None:
        offset = start - _probed(next(_some(feeds[0]))).extent.start
    if len(feeds) == 1:
        return [_feed(client, feeds[0], plan, offset, progress)]
    with ThreadPoolExecutor(len(feeds)) as pool:
        running = [pool.submit(_feed, client, feed, plan, offset, progress) for feed in feeds]
        done = [each.result() for each in running]
    return [*done, *_collect(client, feeds, plan, done)]


def _collect(client: Client, feeds: Sequence[Feed], plan: Plan, done: Sequence[Done]) -> Iterator[Done]:
    """A multi flow for each variant whose sound comes apart from its pictures."""
    sound = [d.flow for f, d in zip(feeds, done, strict=True) if f.kind == "audio"]
    pictures = [d.flow for f, d in zip(feeds, done, strict=True) if f.kind != "audio"]
    if sound:
        for number, flow in enumerate(pictures):
            whole = over(plan.naming, plan.wanted, [flow, *sound], number)
            ensure(client, whole)
            yield Done(whole, extent=spanned(each.extent for each in done))


def _feed(client: Client, feed: Feed, plan: Plan, offset: Fraction, progress: Progress) -> Done:
    pieces = _some(feed)
    first = next(pieces)
    found = _probed(first)
    carrier = Carrier(found.container, first.init is not None, feed.target_s, feed.bandwidth // 1000 or None)
    flows = of_feed(feed.key, found, carrier, plan.naming, plan.wanted, plan.flow_id)
    created = _create(client, flows)
    done = Done(flows.main)
    listed = [] if created else _listed(client, flows.main["id"])
    timeline = Timeline(plan.gaps, offset, [_kept(segment) for segment in listed])
    told = progress.begin(flows.main["label"], feed.total)

    def stored(size_bytes: int) -> None:
        done.stored += 1
        told(size_bytes)

    try:
        with Uploader(client, flows.main["id"], found.container, plan.jobs, stored) as uploader:
            _know_inits(uploader, listed)
            for piece, probed, place, there in _placed(chain([first], pieces), found, timeline):
                done.size_bytes += piece.size_bytes
                done.extent = spanned((done.extent, place.timerange))
                if there:
                    done.there += 1
                    told(piece.size_bytes)
                else:
                    uploader.store(piece, place, probed.key_frames)
    finally:
        done.notes = timeline.notes
    _rate(client, done)
    return done


def _placed(
    pieces: Iterator[Piece], first: Probe, timeline: Timeline
) -> Iterator[tuple[Piece, Probe, Place, bool]]:
    """Each piece with its place, once the one behind it is known: that tells when it ends."""
    waiting: tuple[Piece, Probe] | None = None
    for piece in pieces:
        found = _probed(piece)
        if waiting is not None:
            yield waiting[0], waiting[1], *timeline.place(waiting[0].name, waiting[1].extent, found.extent)
        if found.shape != first.shape:
            raise Unreadable(f"{piece.name} is {_shape(found)}, but what came before is {_shape(first)}")
        waiting = piece, found
    if waiting is not None:
        yield waiting[0], waiting[1], *timeline.place(waiting[0].name, waiting[1].extent, None)


def _shape(found: Probe) -> str:
    return f"{found.container} with {' and '.join(each.codec for each in found.streams)}"


def _probed(piece: Piece) -> Probe:
    media = piece.media
    if piece.init is not None and isinstance(media, bytes):
        media = piece.init + media
    return probe(piece.name, media, breaks=piece.breaks)


def _some(feed: Feed) -> Iterator[Piece]:
    """The pieces of a feed that has any."""
    pieces = feed.pieces()
    first = next(pieces, None)
    if first is None:
        raise ToolError(f"{feed.key or 'the input'} has no segments")
    return chain([first], pieces)


def _create(client: Client, flows: Flows) -> bool:
    """Make the flows that are not there; whether that with the segments is new."""
    return [ensure(client, body) for body in flows.bodies][-1]


def ensure(client: Client, body: dict[str, Any]) -> bool:
    """Make a flow, and say whether it is new. Raises `ToolError` where its id is another flow's."""
    at = path("flows", body["id"])
    answer = client.call("GET", at)
    if answer.status_code == 404:
        _made(client, at, body)
        return True
    if answer.status_code != 200:
        raise Refused(f"GET {at} is answered {answer.status_code}: {said(answer)}", answer.status_code)
    unlike = differences(body, answer.json())
    if unlike:
        raise ToolError(
            f"the flow {body['id']} is there already, and is another one: {'; '.join(unlike)}. "
            "Take another --flow-id, or --fresh for new ids"
        )
    return False


def _made(client: Client, at: str, body: dict[str, Any]) -> None:
    answer = client.call("PUT", at, body)
    if answer.status_code in (403, 404):
        raise Refused(
            f"the flow {body['id']} cannot be made ({answer.status_code}: {said(answer)}). If its id "
            "is that of a flow you do not see, --fresh takes new ids",
            answer.status_code,
        )
    if answer.status_code not in (201, 204):
        raise Refused(f"PUT {at} is answered {answer.status_code}: {said(answer)}", answer.status_code)


def _listed(client: Client, flow_id: str) -> list[dict[str, Any]]:
    """The segments that are there. Of each init object, one segment says where it is."""
    query = {"include_object_timerange": "true", "presigned": "true", "limit": "300"}
    return client.listing(path("flows", flow_id, "segments"), query)


def _kept(segment: dict[str, Any]) -> Kept:
    span = TimeRange.parse(segment["timerange"])
    start_ns, stop_ns = span.first_ns, span.stop_ns
    assert start_ns is not None and stop_ns is not None
    offset_ns = parse_timestamp(segment.get("ts_offset", "0:0"))
    return Kept(start_ns - offset_ns, Place(start_ns, stop_ns, offset_ns))


def _know_inits(uploader: Uploader, listed: Sequence[dict[str, Any]]) -> None:
    for init in (s["init_object"] for s in listed if "init_object" in s):
        uploader.know_init(init["object_id"], init.get("get_urls", ()))


def _rate(client: Client, done: Done) -> None:
    """Say how many bits the flow takes, in 1000 bit/s, once all of it is there."""
    length_ns = done.extent.length_ns
    if done.stored and length_ns:
        rate = max(1, done.size_bytes * 8 * NS_PER_S // (length_ns * 1000))
        client.expect(204, "PUT", path("flows", done.flow["id"], "avg_bit_rate"), rate)


def fingerprint(given: str) -> str:
    """What tells an input from others, and is the same when it is given again: of a playlist where it is,
    of files their beginning and end."""
    parts = urlsplit(given)
    if parts.scheme in ("http", "https"):
        return f"{parts.scheme}://{parts.netloc}{parts.path}"
    where = Path(given)
    if where.is_dir():
        names = sorted(each.name for each in where.iterdir())
        return _digest("\n".join(names[:1]).encode()) + str(where.resolve())
    if given.lower().endswith((".m3u8", ".m3u")) or not where.is_file():
        return str(where.resolve())
    size = where.stat().st_size
    with where.open("rb") as file:
        head = file.read(ENDS_BYTES)
        file.seek(max(0, size - ENDS_BYTES))
        return f"{size} {_digest(head + file.read())}"


def _digest(data: bytes) -> str:
    return hashlib.sha256(data).hexdigest()
