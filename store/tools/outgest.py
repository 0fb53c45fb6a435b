"""From a flow to a file, without encoding again: what `tams-store outgest` does."""

from __future__ import annotations

import heapq
import io
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from fractions import Fraction
from pathlib import Path
from typing import Any

from store.client.media import codec_name, pyav
from store.timerange import NS_PER_S, TimeRange, format_timestamp
from store.tools.cutting import Pipe
from store.tools.errors import Broken, ToolError, Unreadable
from store.tools.fetching import Fetched, Fetcher, Segment, check
from store.tools.origin import Origin, Track
from store.tools.selecting import Selection, Shot, decodable, select
from store.tools.timing import WRAP, Gaps, nanoseconds

FORMATS = {
    ".ts": "mpegts",
    ".mp4": "mp4",
    ".m4a": "mp4",
    ".m4v": "mp4",
    ".mov": "mov",
    ".mkv": "matroska",
    ".mka": "matroska",
    ".aac": "adts",
    ".mp3": "mp3",
    ".wav": "wav",
}
BARE = ("mpegts", "adts")
"""Containers that want AAC with headers of its own."""

HIDING = ("mp4", "mov")
"""Containers that can say that the pictures before nought are not shown."""

LEAD_S = {"mpegts": 1}
"""Transport streams have no times before nought, and decoding begins before the first picture is shown."""


@dataclass(frozen=True, slots=True)
class Order:
    """What is wanted. `drop`: leave out pictures that depend on others that are cut away, where the file
    cannot hide those."""

    span: TimeRange
    target: Path
    gaps: Gaps = Gaps.refuse
    drop: bool = False
    keep_times: bool = False


@dataclass(slots=True)
class Tally:
    """What was written. `wrong`: what the timing check found."""

    packets: int = 0
    pictures: int = 0
    notes: list[str] = field(default_factory=list)
    wrong: list[str] = field(default_factory=list)
    _last_ns: int | None = None

    def shown(self, first_ns: int, last_ns: int, segment: Segment, picture_ns: int) -> None:
        """Check a segment's pictures against its timerange."""
        wanted = segment.wanted
        assert wanted.first_ns is not None and wanted.stop_ns is not None
        if abs(first_ns - wanted.first_ns) > picture_ns:
            self.wrong.append(f"{wanted}: its first picture is at {format_timestamp(first_ns)}")
        if abs(wanted.stop_ns - last_ns) > 2 * picture_ns:
            self.wrong.append(f"{wanted}: its last picture is at {format_timestamp(last_ns)}")


@dataclass(frozen=True, slots=True)
class Timed:
    """A packet on its way out: when it is decoded, for the order between flows."""

    at: Fraction
    packet: Any
    pipe: Pipe


def plan(fetcher: Fetcher, origins: Sequence[Origin], order: Order) -> tuple[TimeRange, int, list[str]]:
    """What there is of the timerange, in how many segments, and what is missing. Raises `Broken` for that
    where it is not to be so, `ToolError` where there is nothing."""
    total, missing, extent = 0, [], TimeRange(0, 0)
    for origin in origins:
        listed = list(fetcher.segments(origin.flow["id"], order.span))
        total += len(listed)
        missing += check(listed, order.span)
        for each in listed:
            extent = extent.span(each.wanted)
    if not total:
        raise ToolError(f"the flow has no segments in {order.span}")
    if missing and order.gaps is Gaps.refuse:
        raise Broken(
            f"the flow has nothing in {', '.join(missing[:5])}. Take --gaps keep to leave that out, or "
            "--gaps close to put what follows right behind what is before"
        )
    return extent, total, missing


def write(
    fetcher: Fetcher, origins: Sequence[Origin], order: Order, extent: TimeRange, told: Callable[[int], None]
) -> Tally:
    """Write the file. Raises `ToolError`, `Refused`, `NoMediaLibrary`."""
    av = pyav()
    kind = kind_of(order.target)
    tally = Tally()
    options = {"mpegts_copyts": "1"} if kind == "mpegts" else {}
    try:
        with av.open(str(order.target), "w", format=kind, options=options) as out:
            lanes = [Lane(fetcher, origin, order, extent, out, kind, tally) for origin in origins]
            # All streams are there before the first packet is written.
            begun = [lane.begin(told) for lane in lanes]
            for timed in heapq.merge(*begun, key=lambda each: each.at):
                for packet in timed.pipe.packets(timed.packet):
                    out.mux(packet)
                    tally.packets += 1
    except av.error.FFmpegError as exc:
        raise Unreadable(f"{order.target.name} cannot be written: {exc.strerror}") from exc
    return tally


def kind_of(target: Path) -> str:
    """The format of a file by its name. Raises `ToolError` where it is none that can be written."""
    kind = FORMATS.get(target.suffix.lower())
    if kind is None:
        raise ToolError(f"{target}: use one of {', '.join(FORMATS)}")
    return kind


class Lane:
    """The packets of one flow with segments, on their way into the file."""

    def __init__(
        self,
        fetcher: Fetcher,
        origin: Origin,
        order: Order,
        extent: TimeRange,
        out: Any,
        kind: str,
        tally: Tally,
    ) -> None:
        self._fetcher = fetcher
        self._origin = origin
        self._order = order
        self._kind = kind
        self._out = out
        self._tally = tally
        self._pipes: list[Pipe] = []
        self._marks: list[tuple[str, bytes]] = []
        self._last: dict[int, int] = {}
        self._closed_ns = 0
        self._before: Segment | None = None
        first_ns = extent.first_ns
        assert first_ns is not None
        lead_ns = LEAD_S.get(kind, 0) * NS_PER_S
        self._shift_ns = 0 if order.keep_times else lead_ns - first_ns

    def begin(self, told: Callable[[int], None]) -> Iterator[Timed]:
        """Open the first segment, so that the file's streams are known; its packets and those after it."""
        packets = self._packets(told)
        first = next(packets, None)
        return iter(()) if first is None else _chained(first, packets)

    def _packets(self, told: Callable[[int], None]) -> Iterator[Timed]:
        following = self._fetcher.fetched(self._origin.flow["id"], self._order.span)
        current = next(following, None)
        while current is not None:
            behind = next(following, None)
            self._close(current.segment)
            yield from self._of_segment(current, last=behind is None)
            told(current.media.stat().st_size)
            self._before = current.segment
            current = behind

    def _close(self, segment: Segment) -> None:
        """Take out the gap before a segment, where that is asked for."""
        if self._before is None:
            return
        gap_ns = (segment.wanted.first_ns or 0) - (self._before.wanted.stop_ns or 0)
        if gap_ns > 0 and self._order.gaps is Gaps.close:
            self._closed_ns += gap_ns

    def _of_segment(self, fetched: Fetched, *, last: bool) -> Iterator[Timed]:
        av = pyav()
        name = f"the object {fetched.segment.object_id}"
        media: Any = str(fetched.media)
        if fetched.init is not None:
            media = io.BytesIO(fetched.init.read_bytes() + fetched.media.read_bytes())
        try:
            with av.open(media) as container:
                streams = _chosen(container, self._origin.track)
                if not streams:
                    raise Unreadable(f"{name}: there is neither video nor sound in it")
                self._open(name, streams)
                yield from self._timed(container, streams, fetched.segment, last=last)
        except av.error.FFmpegError as exc:
            raise Unreadable(f"{name} cannot be read as media: {exc.strerror}") from exc

    def _open(self, name: str, streams: Sequence[Any]) -> None:
        """Make the file's streams; from the second segment on, check that they still fit."""
        marks = [_mark(stream) for stream in streams]
        if not self._pipes:
            self._pipes = [Pipe(stream, self._out, framed=self._kind not in BARE) for stream in streams]
            self._marks = marks
        elif [mark[0] for mark in marks] != [mark[0] for mark in self._marks]:
            raise Broken(
                f"{name} is {', '.join(m[0] for m in marks)}, what is before it "
                f"{', '.join(m[0] for m in self._marks)}: one file cannot hold both"
            )
        elif any(a[1] != b[1] for a, b in zip(marks, self._marks, strict=True)):
            raise Broken(
                f"{name} is coded with other parameters than what is before it: one file cannot hold both"
            )

    def _timed(
        self, container: Any, streams: Sequence[Any], segment: Segment, *, last: bool
    ) -> Iterator[Timed]:
        packets: list[list[Any]] = [[] for _ in streams]
        places = {stream.index: place for place, stream in enumerate(streams)}
        for packet in container.demux(streams):
            if packet.pts is not None and packet.dts is not None:
                packets[places[packet.stream.index]].append(packet)
        if container.format.name == "mpegts":
            _turn(packets, segment)
        kept: list[Timed] = []
        for place, (stream, each) in enumerate(zip(streams, packets, strict=True)):
            chosen = self._video(segment, each, last) if stream.type == "video" else _sound(segment, each)
            kept += self._moved(place, chosen, segment, steady=stream.type == "video")
        kept.sort(key=lambda timed: timed.at)
        yield from kept

    def _video(self, segment: Segment, packets: list[Any], last: bool) -> list[Any]:
        shots = [Shot(_at_ns(packet, segment), bool(packet.is_keyframe)) for packet in packets]
        picture_ns = _picture_ns(packets)
        if segment.is_whole:
            times = [shot.at_ns for shot in shots]
            if times:
                self._tally.shown(min(times), max(times), segment, picture_ns)
            self._tally.pictures += len(times)
            return packets
        selection = select(shots, segment.wanted)
        times = [shots[index].at_ns for index in selection.shown]
        if times:
            self._tally.shown(min(times), max(times), segment, picture_ns)
        chosen = self._cut(segment, shots, selection, last)
        self._tally.pictures += sum(1 for index in chosen if index in selection.shown)
        return [packets[index] for index in chosen]

    def _cut(self, segment: Segment, shots: list[Shot], selection: Selection, last: bool) -> list[int]:
        """The pictures of a segment of which a part is asked for."""
        first = self._before is None
        stray = (() if first else selection.before) or (() if last else selection.after)
        if stray and not self._order.drop:
            keys = [format_timestamp(s.at_ns) for s in shots if s.is_key]
            raise Broken(
                f"{segment.wanted} begins or ends between key frames (those are at {', '.join(keys[:8])}), "
                "next to other media: that takes encoding. --drop leaves out what cannot be shown without"
            )
        if stray:
            found = decodable(shots, selection)
            lost = len(selection.shown) - len(found)
            self._tally.notes.append(
                f"{segment.wanted}: {lost} pictures left out, which others are needed for"
            )
            return found
        if selection.before:
            how = "hidden" if self._kind in HIDING and not self._order.keep_times else "shown as well"
            count = len(selection.before)
            self._tally.notes.append(f"{count} pictures before the first one, from a key frame on, are {how}")
        if selection.after:
            self._tally.notes.append(f"{len(selection.after)} pictures behind the last one come with it")
        return list(selection.kept)

    def _moved(
        self, place: int, packets: Sequence[Any], segment: Segment, *, steady: bool
    ) -> Iterator[Timed]:
        """Packets on the file's timeline, decoding times strictly rising."""
        shift_ns = self._shift_ns + segment.ts_offset_ns - self._closed_ns
        for packet in packets:
            base = packet.time_base
            shift = round(Fraction(shift_ns, NS_PER_S) / base)
            packet.pts, packet.dts = packet.pts + shift, packet.dts + shift
            last = self._last.get(place)
            if last is not None and packet.dts <= last:
                if not steady:
                    # Sound of two segments that overlap by a frame.
                    continue
                packet.dts = last + 1
                if packet.dts > packet.pts:
                    raise Broken(f"{segment.timerange}: its pictures overlap those before it")
            self._last[place] = packet.dts
            yield Timed(packet.dts * base, packet, self._pipes[place])


def _turn(streams: Sequence[Sequence[Any]], segment: Segment) -> None:
    """Bring the clock of a transport stream into the turn that the segment speaks of."""
    first = min((packet for each in streams for packet in each), key=lambda p: p.pts, default=None)
    start_ns = segment.own.first_ns
    if first is None or start_ns is None:
        return
    turns = round((Fraction(start_ns, NS_PER_S) - first.pts * Fraction(first.time_base)) / WRAP)
    for packet in (packet for each in streams for packet in each) if turns else ():
        ticks = int(turns * WRAP / packet.time_base)
        packet.pts, packet.dts = packet.pts + ticks, packet.dts + ticks


def _chained(first: Timed, rest: Iterator[Timed]) -> Iterator[Timed]:
    yield first
    yield from rest


def _chosen(container: Any, track: Track | None) -> list[Any]:
    streams = [s for s in container.streams if s.type in ("video", "audio")]
    if track is None:
        return streams
    exact = [s for s in streams if s.type == track.kind and s.id == track.id]
    return exact or [s for s in streams if s.type == track.kind][track.place : track.place + 1]


def _mark(stream: Any) -> tuple[str, bytes]:
    """What of a stream cannot change within a file: its codec and size, and parameters that stand apart
    from the media."""
    context = stream.codec_context
    extra = bytes(context.extradata or b"")
    size = f" {context.width}x{context.height}" if stream.type == "video" else f" {context.sample_rate} Hz"
    apart = extra if extra[:1] == b"\x01" or stream.type == "audio" else b""
    return f"{codec_name(stream)}{size}", apart


def _sound(segment: Segment, packets: list[Any]) -> list[Any]:
    """All of a whole segment: its sound may reach over its pictures a little. Else what begins within."""
    if segment.is_whole:
        return packets
    first_ns, stop_ns = segment.wanted.first_ns, segment.wanted.stop_ns
    assert first_ns is not None and stop_ns is not None
    return [packet for packet in packets if first_ns <= _at_ns(packet, segment) < stop_ns]


def _at_ns(packet: Any, segment: Segment) -> int:
    return nanoseconds(packet.pts * Fraction(packet.time_base)) + segment.ts_offset_ns


def _picture_ns(packets: Sequence[Any]) -> int:
    times = sorted(packet.pts for packet in packets)
    gaps = [b - a for a, b in zip(times, times[1:], strict=False) if b > a]
    if not gaps:
        return NS_PER_S
    return nanoseconds(max(gaps) * Fraction(packets[0].time_base)) + 1
