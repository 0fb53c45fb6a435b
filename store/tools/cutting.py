"""A file cut into segments at its key frames; nothing is encoded again."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from store.client.media import pyav
from store.tools.errors import ToolError, Unreadable

TRANSPORT, FRAGMENTS = "mp2t", "mp4"
TIMESCALE = 35_280_000
"""Ticks that 90 kHz, 48 kHz and 44.1 kHz all divide: when tracks begin is written in these."""

TRANSPORTED = frozenset(("h264", "hevc", "mpeg2video", "mpeg4", "aac", "mp3", "mp2", "ac3", "eac3", "opus"))
"""Codecs that a transport stream has a place for."""


def cut(path: Path, folder: Path, *, container: str, seconds: int) -> Path:
    """Cut a file into `folder`; the playlist that lists the segments.

    `container`: "mp2t", "mp4", or "auto", which is the first where the codecs allow it. Times stay as they
    are. Raises `Unreadable`, `ToolError`, `NoMediaLibrary`.
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
                copy(given, kept, out, framed=chosen == FRAGMENTS)
    except av.error.FFmpegError as exc:
        raise Unreadable(f"{path} cannot be cut: {exc.strerror}{_log(exc)}") from exc
    except ValueError as exc:
        raise Unreadable(f"{path} cannot be cut: {exc}") from exc
    return made


def copy(given: Any, kept: list[Any], out: Any, *, framed: bool) -> None:
    """All packets of these streams, into a container that frames AAC itself, or does not."""
    pipes = {stream.index: Pipe(stream, out, framed=framed) for stream in kept}
    for packet in given.demux(kept):
        if packet.dts is not None:
            for each in pipes[packet.stream.index].packets(packet):
                out.mux(each)


class Pipe:
    """A stream on its way into another container."""

    def __init__(self, stream: Any, out: Any, *, framed: bool) -> None:
        self.stream = out.add_stream_from_template(stream)
        bare = stream.codec_context.name == "aac" and not stream.codec_context.extradata
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
    alien = [s.codec_context.name for s in kept if s.codec_context.name not in TRANSPORTED]
    if container == "auto":
        return FRAGMENTS if alien else TRANSPORT
    if container == TRANSPORT and alien:
        raise ToolError(
            f"{path}: {alien[0]} has no place in a transport stream; use --container mp4, or --whole"
        )
    return container


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
