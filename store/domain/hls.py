"""HLS playlists of flows (RFC 8216). Pure: what is listed has been read, filtered and signed already."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any, Final
from urllib.parse import quote, urlencode

from store.timerange import NS_PER_S, TimeRange

MIME: Final = "application/vnd.apple.mpegurl"
UNKNOWN_BANDWIDTH: Final = 1_000_000
"""What a variant is said to take, in bit/s, when its flow does not say."""

SOUND: Final = "audio"
_FORMAT: Final = "urn:x-nmos:format:"
_AAC_LC: Final = 2
_FIXED: Final = {
    "audio/aac": f"mp4a.40.{_AAC_LC}",
    "audio/mpeg": "mp4a.40.34",
    "audio/ac3": "ac-3",
    "audio/eac3": "ec-3",
    "audio/opus": "opus",
    "audio/flac": "fLaC",
}


@dataclass(frozen=True, slots=True)
class Item:
    """A segment that can be played. `init`: the id and the URL of its init object."""

    object_id: str
    span: TimeRange
    ts_offset: str
    url: str
    init: tuple[str, str] | None = None


@dataclass(frozen=True, slots=True)
class Variant:
    """A flow that a player may choose. `members`: what is in its container, None where part of that is
    hidden. `sound`: the sound comes apart."""

    flow: Mapping[str, Any]
    members: Sequence[Mapping[str, Any]] | None = ()
    sound: bool = False


def length_ns(items: Iterable[Item]) -> int:
    """How long it takes to play them."""
    return sum(item.span.length_ns or 0 for item in items)


def redirected(item: Item, flow_id: str, query: Sequence[tuple[str, str]]) -> Item:
    """The same by addresses that do not expire: they lead to signed URLs when they are asked for."""

    def address(object_id: str, *more: tuple[str, str]) -> str:
        pairs = urlencode([*query, *more], quote_via=quote)
        return f"../{flow_id}/hls/{quote(object_id, safe='')}" + (f"?{pairs}" if pairs else "")

    init = item.init and (item.init[0], address(item.init[0], ("of", item.object_id)))
    return replace(item, url=address(item.object_id), init=init)


def media_playlist(items: Sequence[Item], *, ended: bool) -> str:
    """The playlist of a flow's segments; one that has not ended only grows."""
    longest_ns = max((item.span.length_ns or 0 for item in items), default=NS_PER_S)
    lines = [
        "#EXTM3U",
        f"#EXT-X-VERSION:{7 if any(item.init for item in items) else 4}",
        f"#EXT-X-TARGETDURATION:{max(1, -(-longest_ns // NS_PER_S))}",
        "#EXT-X-MEDIA-SEQUENCE:0",
        f"#EXT-X-PLAYLIST-TYPE:{'VOD' if ended else 'EVENT'}",
    ]
    before: Item | None = None
    for item in items:
        lines += _entry(before, item)
        before = item
    if ended:
        lines.append("#EXT-X-ENDLIST")
    return "\n".join((*lines, ""))


def _entry(before: Item | None, item: Item) -> Iterable[str]:
    if before is not None and (
        before.span.stop_ns != item.span.first_ns
        or before.ts_offset != item.ts_offset
        or _init_id(before) != _init_id(item)
    ):
        # The media's own times do not go on from those before.
        yield "#EXT-X-DISCONTINUITY"
    if item.init is not None and (before is None or _init_id(before) != _init_id(item)):
        yield f'#EXT-X-MAP:URI="{item.init[1]}"'
    seconds, rest = divmod(item.span.length_ns or 0, NS_PER_S)
    yield f"#EXTINF:{seconds}.{rest:09},"
    yield item.url


def _init_id(item: Item) -> str | None:
    return None if item.init is None else item.init[0]


def multivariant(
    variants: Sequence[Variant], sound: Sequence[Mapping[str, Any]], up: str, query: Iterable[tuple[str, str]]
) -> str:
    """The playlist of the playlists of flows. `up` leads to where flows are; `query` goes with each."""
    pairs = list(query)
    lines = ["#EXTM3U", "#EXT-X-VERSION:7"]
    for number, flow in enumerate(sound):
        name = _quoted(str(flow.get("label") or flow["id"]))
        chosen = "YES" if number == 0 else "NO"
        lines.append(
            f'#EXT-X-MEDIA:TYPE=AUDIO,GROUP-ID="{SOUND}",NAME="{name} {number + 1}",DEFAULT={chosen},'
            f'AUTOSELECT=YES,URI="{_uri(flow, up, pairs)}"'
        )
    for variant in variants:
        own = sound if variant.sound else ()
        lines.append("#EXT-X-STREAM-INF:" + ",".join(_attributes(variant, own)))
        lines.append(_uri(variant.flow, up, pairs))
    return "\n".join((*lines, ""))


def _uri(flow: Mapping[str, Any], up: str, query: Sequence[tuple[str, str]]) -> str:
    path = f"{up}{flow['id']}/hls.m3u8"
    return f"{path}?{urlencode(query, quote_via=quote)}" if query else path


def _attributes(variant: Variant, sound: Sequence[Mapping[str, Any]]) -> Iterable[str]:
    flow, members = variant.flow, variant.members
    bandwidth = _bandwidth(flow) + max((_bandwidth(each) for each in sound), default=0)
    yield f"BANDWIDTH={bandwidth or UNKNOWN_BANDWIDTH}"
    if "avg_bit_rate" in flow:
        average = sum(each.get("avg_bit_rate", 0) for each in (flow, *sound[:1]))
        yield f"AVERAGE-BANDWIDTH={average * 1000}"
    if members is not None:
        codecs = [codec(each) for each in (members or (flow,))]
        codecs += [codec(each) for each in sound[:1]]
        if all(codecs):
            yield f'CODECS="{",".join(each for each in dict.fromkeys(codecs) if each)}"'
    picture = next((e for e in (*(members or ()), flow) if e["format"] == _FORMAT + "video"), {})
    essence = picture.get("essence_parameters", {})
    if "frame_width" in essence:
        yield f"RESOLUTION={essence['frame_width']}x{essence['frame_height']}"
    if "frame_rate" in essence:
        rate = essence["frame_rate"]
        thousandths = rate["numerator"] * 1000 // rate.get("denominator", 1)
        yield f"FRAME-RATE={thousandths // 1000}.{thousandths % 1000:03}"
    if sound:
        yield f'AUDIO="{SOUND}"'


def _bandwidth(flow: Mapping[str, Any]) -> int:
    return int(flow.get("max_bit_rate") or flow.get("avg_bit_rate") or 0) * 1000


def codec(flow: Mapping[str, Any]) -> str | None:
    """The codec of a flow as RFC 6381 writes it, None where the flow says too little."""
    essence = flow.get("essence_parameters", {})
    name = str(flow.get("codec", "")).lower()
    if name == "video/h264" and "avc_parameters" in essence:
        avc = essence["avc_parameters"]
        return f"avc1.{avc['profile'] & 255:02x}{avc['flags'] & 255:02x}{avc['level'] & 255:02x}"
    if name == "audio/aac":
        return f"mp4a.40.{essence.get('codec_parameters', {}).get('mp4_oti', _AAC_LC)}"
    return _FIXED.get(name)


def _quoted(text: str) -> str:
    """What may stand between quotes: no quotes, no line ends."""
    return "".join(char if char.isprintable() and char != '"' else " " for char in text)
