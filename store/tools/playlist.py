"""HLS playlists as they are read (RFC 8216). Pure."""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from fractions import Fraction
from urllib.parse import urljoin

from store.tools.errors import Unreadable

_ATTRIBUTE = re.compile(r'([A-Z0-9-]+)=("[^"]*"|[^",]*)(?:,|$)')
MOST_DIGITS = 18
Range = tuple[int, int]
"""The first byte, and the one after the last."""


@dataclass(frozen=True, slots=True)
class Part:
    """A file, or bytes of it."""

    uri: str
    range: Range | None = None


@dataclass(frozen=True, slots=True)
class Entry:
    """One segment. `number`: its media sequence number. `breaks`: its times do not go on from the last."""

    number: int
    media: Part
    init: Part | None
    breaks: bool


@dataclass(frozen=True, slots=True)
class MediaPlaylist:
    """Segments in order. `ended`: no more will come."""

    entries: tuple[Entry, ...]
    target_s: int
    ended: bool


@dataclass(frozen=True, slots=True)
class Variant:
    """One playlist of a multivariant playlist. `audio`: the group its sound is in; `bandwidth`: bit/s."""

    uri: str
    bandwidth: int
    audio: str | None


@dataclass(frozen=True, slots=True)
class Rendition:
    """Sound with a playlist of its own."""

    uri: str
    group: str
    name: str


@dataclass(frozen=True, slots=True)
class Multivariant:
    """A playlist of playlists."""

    variants: tuple[Variant, ...]
    renditions: tuple[Rendition, ...]


def parse(text: str, base: str) -> MediaPlaylist | Multivariant:
    """A playlist whose URIs are relative to `base`. Raises `Unreadable`."""
    lines = [line.strip() for line in text.splitlines() if line.strip()]
    if not lines or lines[0].lstrip("\ufeff") != "#EXTM3U":
        raise Unreadable(f"{base} is no HLS playlist: it does not begin with #EXTM3U")
    if any(line.startswith("#EXT-X-STREAM-INF:") for line in lines):
        return _multivariant(lines, base)
    return _media(lines, base)


def attributes(text: str) -> dict[str, str]:
    """An attribute list, quotes taken off."""
    return {name: value.strip('"') for name, value in _ATTRIBUTE.findall(text)}


def resolve(base: str, uri: str) -> str:
    """A URI of a playlist at `base`, a URL or a path."""
    if "://" in base or "://" in uri:
        return urljoin(base, uri)
    return uri if uri.startswith("/") else base.rpartition("/")[0] + "/" * ("/" in base) + uri


def _multivariant(lines: list[str], base: str) -> Multivariant:
    variants, renditions = [], []
    pending: Mapping[str, str] | None = None
    for line in lines:
        tag, _, rest = line.partition(":")
        if tag == "#EXT-X-STREAM-INF":
            pending = attributes(rest)
        elif tag == "#EXT-X-MEDIA":
            given = attributes(rest)
            if given.get("TYPE") == "AUDIO" and "URI" in given:
                name = given.get("NAME", "audio")
                renditions.append(Rendition(resolve(base, given["URI"]), given.get("GROUP-ID", ""), name))
        elif not line.startswith("#") and pending is not None:
            bandwidth = _whole(pending.get("BANDWIDTH", "0"), "BANDWIDTH")
            variants.append(Variant(resolve(base, line), bandwidth, pending.get("AUDIO")))
            pending = None
    return Multivariant(tuple(variants), tuple(renditions))


@dataclass(slots=True)
class _State:
    number: int = 0
    target_s: int = 0
    init: Part | None = None
    breaks: bool = False
    range: str | None = None
    after: int = 0
    ended: bool = False


def _media(lines: list[str], base: str) -> MediaPlaylist:
    state = _State()
    entries = list(_entries(lines, base, state))
    return MediaPlaylist(tuple(entries), state.target_s, state.ended)


def _entries(lines: list[str], base: str, state: _State) -> Iterator[Entry]:
    for line in lines:
        if line.startswith("#"):
            _tag(line, base, state)
            continue
        part = Part(resolve(base, line), _range(state))
        yield Entry(state.number, part, state.init, state.breaks)
        state.number += 1
        state.breaks, state.range = False, None


def _tag(line: str, base: str, state: _State) -> None:
    tag, _, rest = line.partition(":")
    if tag == "#EXT-X-MEDIA-SEQUENCE":
        state.number = _whole(rest, tag)
    elif tag == "#EXT-X-TARGETDURATION":
        state.target_s = int(_duration(rest))
    elif tag == "#EXT-X-DISCONTINUITY":
        state.breaks = True
    elif tag == "#EXT-X-BYTERANGE":
        state.range = rest
    elif tag == "#EXT-X-ENDLIST":
        state.ended = True
    elif tag == "#EXT-X-MAP":
        given = attributes(rest)
        whole = _State(range=given.get("BYTERANGE"))
        state.init = Part(resolve(base, given.get("URI", "")), _range(whole))
    elif tag == "#EXT-X-KEY" and attributes(rest).get("METHOD", "NONE") != "NONE":
        raise Unreadable(
            f"{base}: its segments are encrypted ({attributes(rest)['METHOD']}); decrypt them first"
        )


def _range(state: _State) -> Range | None:
    if state.range is None:
        return None
    length, _, offset = state.range.partition("@")
    first = _whole(offset, "BYTERANGE") if offset else state.after
    state.after = first + _whole(length, "BYTERANGE")
    return first, state.after


def _whole(text: str, name: str) -> int:
    if not (text.isascii() and text.isdigit() and len(text) <= MOST_DIGITS):
        raise Unreadable(f"{name} of the playlist is not a number: {text[:40]!r}")
    return int(text)


def _duration(text: str) -> Fraction:
    try:
        return Fraction(text)
    except (ValueError, ZeroDivisionError) as exc:
        raise Unreadable(f"EXT-X-TARGETDURATION of the playlist is not a number: {text[:40]!r}") from exc
