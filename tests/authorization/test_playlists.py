"""Attacks 16 and 17 on playlists and pages of segments, which the store in this process makes and signs."""

from __future__ import annotations

from typing import Any

import pytest

from store.domain.urls import UrlWriter
from store.routes import hls
from tests.proxy.support import Proxy, new_id, told


@pytest.mark.parametrize("query", ["", "?timerange=nonsense", "?live=2", "?live=true&live=true"])
async def test_17_a_playlist_of_a_hidden_source_is_as_of_none(proxy: Proxy, query: str) -> None:
    hidden = await proxy.flow(["v"])
    await proxy.segment(hidden["id"])
    answers = [
        await proxy.call("attacker", "GET", f"/sources/{name}/hls.m3u8{query}")
        for name in (hidden["source_id"], new_id())
    ]
    assert told(answers[0]) == told(answers[1]) and answers[0].status_code == 404, [told(a) for a in answers]


async def test_17_how_long_a_hidden_flow_is_does_not_show(
    proxy: Proxy, monkeypatch: pytest.MonkeyPatch
) -> None:
    hidden = await proxy.flow(["v"])
    for start_s in range(3):
        await proxy.segment(hidden["id"], start_s)
    monkeypatch.setattr(hls, "MOST_SEGMENTS", 2)
    monkeypatch.setattr(hls, "PAGE", 1)
    paths = [f"/flows/{name}/hls.m3u8" for name in (hidden["id"], new_id())]
    answers = [await proxy.call("attacker", "GET", path) for path in paths]
    assert told(answers[0]) == told(answers[1]) and answers[0].status_code == 404
    assert (await proxy.call("admin", "GET", paths[0])).status_code == 400


async def test_17_nothing_is_signed_of_what_is_hidden(proxy: Proxy, monkeypatch: pytest.MonkeyPatch) -> None:
    """Signing a page takes long enough to tell a hidden flow from none."""
    hidden = await proxy.flow(["v"])
    await proxy.segment(hidden["id"])
    written: list[object] = []

    def noting(write: Any) -> Any:
        def noted(writer: UrlWriter, given: Any) -> Any:
            written.append(given)
            return write(writer, given)

        return noted

    for name in ("write", "write_all"):
        monkeypatch.setattr(UrlWriter, name, noting(getattr(UrlWriter, name)))
    for suffix in ("segments", "hls.m3u8"):
        assert (await proxy.call("attacker", "GET", f"/flows/{hidden['id']}/{suffix}")).status_code == 404
    assert not written
    assert (await proxy.call("admin", "GET", f"/flows/{hidden['id']}/segments")).status_code == 200
    assert written


async def test_16_a_class_that_goes_while_a_playlist_is_made_counts(
    proxy: Proxy, monkeypatch: pytest.MonkeyPatch
) -> None:
    flow = await proxy.flow(["a"])
    await proxy.segment(flow["id"])
    path, make = f"/flows/{flow['id']}/hls.m3u8", hls._items

    async def late(*given: Any) -> Any:
        await proxy.made("admin", "PUT", f"/flows/{flow['id']}/tags/auth_classes", ["v"])
        return await make(*given)

    assert (await proxy.call("attacker", "GET", path)).status_code == 200
    monkeypatch.setattr(hls, "_items", late)
    assert (await proxy.call("attacker", "GET", path)).status_code == 404
