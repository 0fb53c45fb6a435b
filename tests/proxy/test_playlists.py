"""Playlists through the proxy: what is hidden is not in them, and a token in the address goes along."""

from __future__ import annotations

from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from proxy.playlists import with_token
from tests.proxy.support import Proxy, new_id, running

AVC = {"profile": 100, "level": 31, "flags": 0}
VIDEO = {
    "format": "urn:x-nmos:format:video",
    "codec": "video/h264",
    "essence_parameters": {
        "frame_width": 640,
        "frame_height": 360,
        "frame_rate": {"numerator": 25},
        "avc_parameters": AVC,
    },
}
MULTI = {"format": "urn:x-nmos:format:multi", "codec": None, "essence_parameters": {}}


async def collection(proxy: Proxy, classes: list[str], *members: str, **said: object) -> dict[str, object]:
    body = {name: value for name, value in {**MULTI, **said}.items() if value is not None}
    flow = {
        "id": new_id(),
        "source_id": new_id(),
        "tags": {"auth_classes": classes},
        "flow_collection": [{"id": each, "role": f"r{n}"} for n, each in enumerate(members)],
        **body,
    }
    await proxy.made("admin", "PUT", f"/flows/{flow['id']}", flow)
    return flow


async def test_flows_that_the_caller_does_not_see_are_not_offered(proxy: Proxy) -> None:
    seen, hidden = [await proxy.flow(classes, **VIDEO) for classes in (["t"], ["v"])]
    whole = await collection(proxy, ["t"], seen["id"], hidden["id"])
    for who, offered in (("reader", [seen]), ("admin", [seen, hidden])):
        text = (await proxy.made(who, "GET", f"/flows/{whole['id']}/hls.m3u8")).text
        assert [each in text for each in (seen["id"], hidden["id"])] == [
            each in offered for each in (seen, hidden)
        ]
    source = f"/sources/{hidden['source_id']}/hls.m3u8"
    assert (await proxy.call("reader", "GET", source)).status_code == 404


async def test_what_is_in_a_container_is_not_told_of_members_that_are_hidden(proxy: Proxy) -> None:
    inside = await proxy.flow(["v"], container="video/mp2t", **VIDEO)
    whole = await collection(proxy, ["t"], inside["id"], container="video/mp2t")
    path = f"/sources/{whole['source_id']}/hls.m3u8"
    assert "avc1.64001f" in (await proxy.made("admin", "GET", path)).text
    told = (await proxy.made("reader", "GET", path)).text
    assert "CODECS" not in told
    assert "RESOLUTION" not in told


async def test_only_hidden_flows_are_as_none_at_all(proxy: Proxy) -> None:
    hidden = await proxy.flow(["v"], **VIDEO)
    whole = await collection(proxy, ["t"], hidden["id"])
    assert (await proxy.call("reader", "GET", f"/flows/{whole['id']}/hls.m3u8")).status_code == 404


@pytest.fixture
async def lenient(tmp_path: Path) -> AsyncIterator[Proxy]:
    """A proxy that takes tokens in addresses."""
    async with running(tmp_path, allow_url_token=True) as found:
        yield found


async def test_media_urls_need_no_token_and_a_token_in_the_address_goes_on(lenient: Proxy) -> None:
    proxy = lenient
    flow = await proxy.flow(["t"], **VIDEO)
    await proxy.segment(flow["id"])
    token = await proxy.token("reader")
    path = f"/sources/{flow['source_id']}/hls.m3u8"
    entry = (await proxy.call(None, "GET", f"{path}?access_token={token}")).text
    (inner,) = [line for line in entry.split("\n") if line.startswith("../")]
    assert inner.endswith(f"/hls.m3u8?access_token={token}")
    inner_path = "/flows/" + inner.removeprefix("../../flows/")
    media = (await proxy.call(None, "GET", inner_path)).text
    assert token not in media
    assert "signature=" in media
    plain = (await proxy.made("reader", "GET", path)).text
    assert "access_token" not in plain


@pytest.mark.parametrize(
    ("line", "expected"),
    [
        (b"../f/hls.m3u8", b"../f/hls.m3u8?access_token=a.b%2B"),
        (b"../f/hls.m3u8?live=true", b"../f/hls.m3u8?live=true&access_token=a.b%2B"),
        (b'#EXT-X-MEDIA:NAME="x",URI="../f"', b'#EXT-X-MEDIA:NAME="x",URI="../f?access_token=a.b%2B"'),
        (b"https://media.test/a?signature=x", b"https://media.test/a?signature=x"),
        (b'#EXT-X-MAP:URI="https://media.test/i"', b'#EXT-X-MAP:URI="https://media.test/i"'),
        (b"#EXTM3U", b"#EXTM3U"),
    ],
)
def test_only_addresses_of_ours_get_the_token(line: bytes, expected: bytes) -> None:
    assert with_token(line, b"live=true&access_token=a.b%2B") == expected
    assert with_token(line, b"live=true") == line
