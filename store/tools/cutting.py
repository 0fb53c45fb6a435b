"""A file cut into segments at its key frames; nothing is encoded again."""

from __future__ import annotations

from dataclasses import dataclass
from fractions import Fraction
from pathlib import Path
from typing import Any

from store.client.media import codec_name, pyav
from store.tools.errors import ToolError, Unreadable

TRANSPORT, FRAGMENTS = "mp2t", "mp4"
TIMESCALE = 35_280_000
"""Ticks that 90 kHz, 48 kHz and 44.1 kHz all divide: when tracks begin is written in these."""

TRANSPORTED = frozenset(("h264", "hevc", "mpeg2video", "mpeg4", "aac", "mp3", "mp2", "ac3", "eac3", "opus"))
"""Codecs that a transport stream has a place for."""

FRAGMENTED = TRANSPORTED | {"av1", "vp9", "flac"}
"""Those that fragments of MP4 have a place for."""


@dataclass(frozen=True, slots=True)
class Made:
    """A file in segments. `start`: when its first picture is shown, as the file has it."""

    playlist: Path
    start: Fraction | None


def cut(path: Path, folder: Path, *, container: str, seconds: int) -> Made:
    """Cut a file into segments in `folder`, and list those in a playlist.

    `container`: "mp2t", "mp4", or "auto", which is the first where the codecs allow it. Times stay as they
    are, but that a transport stream has none before nought: then all of them are moved by the same.
    Raises `Unreadable`, `ToolError`, `NoMediaLibrary`.
    """
    av = pyav()
    made = folder / "index.m3u8"
    try:
        with av.open(str(path)) as given:
            kept = [s for s in given.streams if s.type in ("video", "audio")]
            if not kept:
                raise Unreadable(f"{path} has neither video nor sound in it")
            chosen = _chosen(path, kept, container)
            options = _options(folder, chosen, seconds)
            with av.open(str(made), "w", format="hls", options=options) as out:
                start = _copy(given, kept, out, framed=chosen == FRAGMENTS)
    except av.error.FFmpegError as exc:
        raise Unreadable(f"{path} cannot be cut: {exc.strerror}{_log(exc)}") from exc
    except ValueError as exc:
        raise Unreadable(f"{path} cannot be cut: {exc}") from exc
    return Made(made, start)


def _copy(given: Any, kept: list[Any], out: Any, *, framed: bool) -> Fraction | None:
    """Copy all packets; when the first picture is shown. `framed`: the container frames AAC itself."""
    pipes = {stream.index: Pipe(stream, out, framed=framed) for stream in kept}
    main = next((stream for stream in kept if stream.type == "video"), kept[0]).index
    start: Fraction | None = None
    for packet in given.demux(kept):
        if packet.dts is None:
            continue
        if packet.stream.index == main and packet.pts is not None:
            at = packet.pts * Fraction(packet.time_base)
            start = at if start is None else min(start, at)
        for each in pipes[packet.stream.index].packets(packet):
            out.mux(each)
    return start


class Pipe:
    """A stream on its way into another container."""

    def __init__(self, stream: Any, out: Any, *, framed: bool) -> None:
        self.stream = out.add_stream_from_template(stream)
        bare = codec_name(stream) == "aac" and not stream.codec_context.extradata
        self._filter = None
        if framed and bare:
            # ADTS headers, which transport streams need and others must not have.
            self._filter = pyav().BitStreamFilterContext("aac_adtstoasc", stream)

    def packets(self, packet: Any) -> list[Any]:
        """A packet as the other container takes it."""
        found = [packet] if self._filter is None else list(self._filter.filter(packet))
        for each in found:
            each.stream = self.stream
        return found


def _chosen(path: Path, kept: list[Any], container: str) -> str:
    names = [codec_name(stream) for stream in kept]
    alien = [name for name in names if name not in TRANSPORTED]
    chosen = (FRAGMENTS if alien else TRANSPORT) if container == "auto" else container
    if chosen == TRANSPORT and alien:
        raise ToolError(
            f"{path}: {alien[0]} has no place in a transport stream; use --container mp4, or --whole"
        )
    stranger = next((name for name in names if name not in FRAGMENTED), None)
    if chosen == FRAGMENTS and stranger is not None:
        raise ToolError(f"{path}: {stranger} cannot be cut into segments; store it with --whole")
    return chosen


def _options(folder: Path, container: str, seconds: int) -> dict[str, str]:
    common = {
        "hls_time": str(seconds),
        "hls_playlist_type": "vod",
        "hls_list_size": "0",
        # Times are the media's own: nothing moves them to nought.
        "avoid_negative_ts": "disabled",
    }
    if container == FRAGMENTS:
        return common | {
            "hls_segment_type": "fmp4",
            "hls_segment_options": f"movie_timescale={TIMESCALE}",
            "hls_fmp4_init_filename": "init.mp4",
            "hls_segment_filename": f"{folder}/%06d.m4s",
        }
    return common | {
        "hls_segment_filename": f"{folder}/%06d.ts",
        "hls_segment_options": "mpegts_copyts=1",
    }


def _log(exc: Any) -> str:
    return f" ({exc.log[2]})" if getattr(exc, "log", None) else ""
