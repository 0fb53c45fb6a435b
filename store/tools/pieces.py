"""Media as it comes, piece by piece: from a playlist, a folder of segments, or a file that is cut."""

from __future__ import annotations

import os
import re
import tempfile
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import AbstractContextManager, contextmanager
from dataclasses import dataclass, replace
from fractions import Fraction
from pathlib import Path
from urllib.parse import urlsplit

import httpx

from store.client.protocol import REPEATABLE, Policy
from store.tools import playlist
from store.tools.cutting import cut
from store.tools.errors import ToolError, Unreadable
from store.tools.playlist import MediaPlaylist, Multivariant, Part

PLAYLISTS = (".m3u8", ".m3u")
SEGMENTS = (".ts", ".m2ts", ".m4s", ".mp4", ".m4a", ".m4v", ".cmfv", ".cmfa", ".aac", ".mp3")
TIMEOUT_S = 30
STALE_TURNS = 12
"""A live playlist that has not grown for so many target durations has been left behind."""


@dataclass(frozen=True, slots=True)
class Piece:
    """One segment: its bytes, or the file that they are. `init`: what goes before them to read it."""

    name: str
    media: bytes | Path
    init: bytes | None = None
    breaks: bool = False

    @property
    def size_bytes(self) -> int:
        """How long it is."""
        return len(self.media) if isinstance(self.media, bytes) else self.media.stat().st_size


@dataclass(frozen=True, slots=True)
class Feed:
    """One sequence of pieces. `key`: names it among those of its input, the same in every run. `start`:
    when its first picture is shown, where its pieces may say it with other times."""

    key: str
    pieces: Callable[[], Iterator[Piece]]
    bandwidth: int = 0
    total: int | None = None
    target_s: int = 0
    kind: str | None = None
    start: Fraction | None = None


class Reader:
    """Reads files and URLs; keeps init segments, which come again and again."""

    def __init__(
        self, http: httpx.Client, policy: Policy, sleep: Callable[[float], object] = time.sleep
    ) -> None:
        self._http = http
        self._policy = policy
        self._sleep = sleep
        self._inits: dict[Part, bytes] = {}

    def content(self, part: Part) -> bytes:
        """All its bytes. Raises `ToolError`."""
        return self._fetched(part) if _is_url(part.uri) else self._read(part)

    def init(self, part: Part | None) -> bytes | None:
        """Those of an init segment."""
        if part is None:
            return None
        if part not in self._inits:
            self._inits[part] = self.content(part)
        return self._inits[part]

    def playlist(self, uri: str) -> MediaPlaylist | Multivariant:
        """A playlist. Raises `ToolError`."""
        try:
            text = self.content(Part(uri)).decode()
        except UnicodeDecodeError as exc:
            raise Unreadable(f"{uri} is no HLS playlist") from exc
        return playlist.parse(text, uri)

    def wait(self, seconds: float) -> None:
        """Wait until a playlist may have grown."""
        self._sleep(seconds)

    def _read(self, part: Part) -> bytes:
        try:
            with open(part.uri, "rb") as file:
                if part.range is None:
                    return file.read()
                if part.range[1] > os.fstat(file.fileno()).st_size:
                    raise _too_short(part)
                file.seek(part.range[0])
                return _all(part, file.read(part.range[1] - part.range[0]))
        except OSError as exc:
            raise ToolError(f"{part.uri} cannot be read: {exc.strerror}") from exc

    def _fetched(self, part: Part) -> bytes:
        span = part.range
        headers = {} if span is None else {"Range": f"bytes={span[0]}-{span[1] - 1}"}
        for attempt in range(self._policy.retries + 1):
            waits: dict[str, str] = {}
            try:
                answer = self._http.get(part.uri, headers=headers, follow_redirects=True)
            except httpx.TransportError as exc:
                if attempt == self._policy.retries:
                    raise ToolError(f"{part.uri} cannot be reached: {exc}") from exc
            else:
                if answer.status_code in (200, 206):
                    return _ranged(part, answer)
                if attempt == self._policy.retries or answer.status_code not in REPEATABLE:
                    raise ToolError(f"{part.uri} is answered {answer.status_code}")
                waits = dict(answer.headers)
            self._sleep(self._policy.wait_s(attempt, waits))
        raise AssertionError("unreachable")


def _ranged(part: Part, answer: httpx.Response) -> bytes:
    content = answer.content
    if part.range is not None and answer.status_code == 200:
        content = content[part.range[0] : part.range[1]]
    return _all(part, content)


def _all(part: Part, content: bytes) -> bytes:
    if part.range is not None and len(content) != part.range[1] - part.range[0]:
        raise _too_short(part)
    return content


def _too_short(part: Part) -> Unreadable:
    return Unreadable(f"{part.uri} is shorter than its playlist says")


@contextmanager
def feeds(
    given: str, reader: Reader, *, live: bool, container: str, seconds: int, whole: bool
) -> Iterator[list[Feed]]:
    """The feeds of an input: one, or those of a multivariant playlist. Raises `ToolError`."""
    if _is_url(given) or given.lower().endswith(PLAYLISTS):
        yield _of_playlist(given, reader, live)
        return
    if live:
        raise ToolError("--live follows an HLS playlist, which this is not")
    path = Path(given)
    if path.is_dir():
        yield [_of_folder(path)]
    elif not path.is_file():
        raise ToolError(f"{given}: there is no such file or folder")
    elif whole:
        yield [Feed("", lambda: iter([Piece(path.name, path)]), total=1)]
    else:
        with _work_folder() as folder:
            made = cut(path, Path(folder), container=container, seconds=seconds)
            (feed,) = _of_playlist(str(made.playlist), reader, live=False)
            yield [replace(feed, start=made.start)]


def _work_folder() -> AbstractContextManager[str]:
    return tempfile.TemporaryDirectory(prefix="tams-ingest-")


def _of_playlist(uri: str, reader: Reader, live: bool) -> list[Feed]:
    found = reader.playlist(uri)
    if isinstance(found, MediaPlaylist):
        return [_media_feed("", uri, reader, found, live)]
    if not found.variants:
        raise Unreadable(f"{uri} names no variant")
    feeds = []
    for number, variant in enumerate(found.variants):
        feeds.append(_named(f"variant-{number}", variant.uri, reader, live, variant.bandwidth))
    wanted = {variant.audio for variant in found.variants}
    for each in found.renditions:
        if each.group in wanted:
            feeds.append(_named(f"audio-{each.group}-{each.name}", each.uri, reader, live, 0, "audio"))
    return feeds


def _named(key: str, uri: str, reader: Reader, live: bool, bandwidth: int, kind: str | None = None) -> Feed:
    found = reader.playlist(uri)
    if isinstance(found, Multivariant):
        raise Unreadable(f"{uri} is a multivariant playlist within another one")
    return _media_feed(key, uri, reader, found, live, bandwidth, kind)


def _media_feed(
    key: str,
    uri: str,
    reader: Reader,
    found: MediaPlaylist,
    live: bool,
    bandwidth: int = 0,
    kind: str | None = None,
) -> Feed:
    if not found.ended and not live:
        raise ToolError(f"{uri} is live: it has no end. Follow it with --live")
    total = len(found.entries) if found.ended else None
    return Feed(key, lambda: _following(uri, reader, found), bandwidth, total, found.target_s, kind)


def _following(uri: str, reader: Reader, first: MediaPlaylist) -> Iterator[Piece]:
    """The pieces of a playlist, read again for more until it ends."""
    found, done, stale = first, -1, 0
    while True:
        fresh = [entry for entry in found.entries if entry.number > done]
        if fresh and done >= 0 and fresh[0].number > done + 1:
            raise ToolError(
                f"{uri}: segments {done + 1} to {fresh[0].number - 1} were gone before they could be read. "
                "Run the same again with --gaps keep to go on behind them"
            )
        for entry in fresh:
            name = f"{entry.media.uri.rpartition('/')[2]} (number {entry.number})"
            yield Piece(name, reader.content(entry.media), reader.init(entry.init), entry.breaks)
            done = entry.number
        if found.ended:
            return
        stale = 0 if fresh else stale + 1
        if stale > STALE_TURNS:
            raise ToolError(f"{uri} has not grown for {STALE_TURNS} of its segments, and does not end")
        reader.wait(max(found.target_s, 1) / (1 if fresh else 2))
        again = reader.playlist(uri)
        if isinstance(again, Multivariant):
            raise Unreadable(f"{uri} has become a multivariant playlist")
        found = again


def _of_folder(folder: Path) -> Feed:
    files = sorted((p for p in folder.iterdir() if p.suffix.lower() in SEGMENTS), key=_natural)
    if not files:
        raise ToolError(f"{folder}: there are no segments in it ({', '.join(SEGMENTS)})")
    inits = [path for path in files if _is_init(path)]
    if len(inits) > 1:
        raise ToolError(f"{folder}: there are several init segments in it: give the playlist instead")
    media = [path for path in files if path not in inits]
    return Feed("", lambda: _from_files(media, inits), total=len(media))


def _from_files(files: Sequence[Path], inits: Sequence[Path]) -> Iterator[Piece]:
    init = inits[0].read_bytes() if inits else None
    for path in files:
        yield Piece(path.name, path.read_bytes(), init)


def _natural(path: Path) -> list[tuple[int, str]]:
    return [(int(text), "") if text.isdigit() else (-1, text) for text in re.split(r"([0-9]+)", path.name)]


def _is_init(path: Path) -> bool:
    """Whether a file has a `moov` box and no media behind it (ISO/IEC 14496-12)."""
    if path.suffix.lower() not in (".mp4", ".m4s", ".m4a", ".m4v", ".cmfv", ".cmfa"):
        return False
    boxes = []
    size = path.stat().st_size
    with path.open("rb") as file:
        at = 0
        while at + 8 <= size:
            file.seek(at)
            head = file.read(16)
            length = int.from_bytes(head[:4], "big")
            if length == 1:
                length = int.from_bytes(head[8:16], "big")
            boxes.append(head[4:8])
            if length < 8:
                break
            at += length
    return b"moov" in boxes and b"mdat" not in boxes


def _is_url(text: str) -> bool:
    return urlsplit(text).scheme in ("http", "https")
