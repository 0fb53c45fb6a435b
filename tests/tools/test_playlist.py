"""Playlists as they are read."""

from __future__ import annotations

import pytest

from store.tools.errors import Unreadable
from store.tools.playlist import MediaPlaylist, Multivariant, Part, parse, resolve

BASE = "https://media.test/a/index.m3u8"
HEAD = "#EXTM3U\n#EXT-X-TARGETDURATION:4\n"


def media(text: str) -> MediaPlaylist:
    found = parse(HEAD + text, BASE)
    assert isinstance(found, MediaPlaylist)
    return found


def test_segments_are_numbered_from_the_media_sequence() -> None:
    found = media("#EXT-X-MEDIA-SEQUENCE:7\n#EXTINF:4,\na.ts\n#EXTINF:4,\n\n/b.ts\n")
    assert [(e.number, e.media.uri) for e in found.entries] == [
        (7, "https://media.test/a/a.ts"),
        (8, "https://media.test/b.ts"),
    ]
    assert (found.target_s, found.ended) == (4, False)


def test_an_init_segment_holds_until_the_next_one() -> None:
    found = media(
        '#EXT-X-MAP:URI="i.mp4",BYTERANGE="10@5"\na.m4s\nb.m4s\n#EXT-X-DISCONTINUITY\n'
        '#EXT-X-MAP:URI="j.mp4"\nc.m4s\n#EXT-X-ENDLIST\n'
    )
    first, second, third = found.entries
    assert first.init == second.init == Part("https://media.test/a/i.mp4", (5, 15))
    assert third.init == Part("https://media.test/a/j.mp4")
    assert [e.breaks for e in found.entries] == [False, False, True]
    assert found.ended


def test_byte_ranges_go_on_where_the_last_one_ended() -> None:
    found = media("#EXT-X-BYTERANGE:100@20\na.ts\n#EXT-X-BYTERANGE:50\na.ts\n")
    assert [e.media.range for e in found.entries] == [(20, 120), (120, 170)]


def test_variants_name_their_sound() -> None:
    found = parse(
        "#EXTM3U\n"
        '#EXT-X-MEDIA:TYPE=AUDIO,GROUP-ID="a",NAME="en, stereo",URI="en.m3u8"\n'
        '#EXT-X-MEDIA:TYPE=SUBTITLES,GROUP-ID="s",NAME="en",URI="s.m3u8"\n'
        '#EXT-X-STREAM-INF:BANDWIDTH=900000,CODECS="avc1.4d401f,mp4a.40.2",AUDIO="a"\nv.m3u8\n',
        BASE,
    )
    assert isinstance(found, Multivariant)
    assert [(v.uri, v.bandwidth, v.audio) for v in found.variants] == [
        ("https://media.test/a/v.m3u8", 900_000, "a")
    ]
    assert [(r.uri, r.name) for r in found.renditions] == [("https://media.test/a/en.m3u8", "en, stereo")]


@pytest.mark.parametrize(
    ("text", "says"),
    [
        ("", "no HLS playlist"),
        ("<html>", "no HLS playlist"),
        ("#EXTM3U\n#EXT-X-MEDIA-SEQUENCE:x\na.ts", "not a number"),
        ("#EXTM3U\n#EXT-X-TARGETDURATION:soon\na.ts", "not a number"),
        ("#EXTM3U\n#EXT-X-BYTERANGE:-4@x\na.ts", "not a number"),
        ('#EXTM3U\n#EXT-X-KEY:METHOD=AES-128,URI="k"\na.ts', "encrypted"),
    ],
)
def test_what_cannot_be_read_is_said(text: str, says: str) -> None:
    with pytest.raises(Unreadable, match=says):
        parse(text, BASE)


@pytest.mark.parametrize(
    ("base", "uri", "expected"),
    [
        ("/m/index.m3u8", "a.ts", "/m/a.ts"),
        ("index.m3u8", "a.ts", "a.ts"),
        ("/m/index.m3u8", "/n/a.ts", "/n/a.ts"),
        ("/m/index.m3u8", "https://media.test/a.ts", "https://media.test/a.ts"),
        (BASE, "../b.ts?x=1", "https://media.test/b.ts?x=1"),
    ],
)
def test_names_are_relative_to_their_playlist(base: str, uri: str, expected: str) -> None:
    assert resolve(base, uri) == expected
