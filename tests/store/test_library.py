"""The store for Python programs."""

from __future__ import annotations

from pathlib import Path

import pytest

from store.errors import BadRequest, NotFound
from store.library import FIGURES, Library, open_library
from tests.store.harness import KEY, Tams, new_id, seconds, settings_of


@pytest.fixture
async def filled(tams: Tams) -> str:
    flow = await tams.flow()
    for start in range(3):
        await tams.segment(flow["id"], seconds(start, start + 1))
    return str(flow["id"])


def library_of(tams: Tams) -> Library:
    return Library(tams.settings, tams.store)


async def test_tables_are_listed_with_their_rows(tams: Tams, filled: str) -> None:
    library = library_of(tams)
    assert await library.list_schemas() == ["main"]
    tables = await library.list_tables()
    assert {"segments", "objects"} <= set(tables)
    assert (await library.get_table_stats("segments")).rows == 3
    with pytest.raises(NotFound):
        await library.get_table_stats("none")


async def test_signed_urls_come_by_flow_segment_and_timerange(tams: Tams, filled: str) -> None:
    library = library_of(tams)
    whole = await library.presigned_urls(filled)
    assert [each["timerange"] for each in whole] == [seconds(n, n + 1) for n in range(3)]
    assert await library.presigned_urls(filled, "[1:0_2:0)") == [whole[1]]
    assert await library.presigned_urls(filled, object_id=whole[2]["object_id"]) == [whole[2]]
    for each in whole:
        (url,) = each["urls"]
        assert (await tams.request("GET", url)).content == b"bytes"
    with pytest.raises(NotFound):
        await library.presigned_urls(new_id())
    with pytest.raises(BadRequest):
        await library.presigned_urls(filled, "soon")


async def test_more_than_a_page_is_read(tams: Tams, filled: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("store.library.PAGE", "1")
    assert len(await library_of(tams).presigned_urls(filled)) == 3


@pytest.mark.parametrize("name", FIGURES)
async def test_figures_are_those_of_the_api(tams: Tams, filled: str, name: str) -> None:
    assert await library_of(tams).analytics(name) == await tams.get(f"/analytics/{name}")


async def test_figures_that_there_are_not_are_refused(tams: Tams) -> None:
    with pytest.raises(BadRequest, match="flow-usage"):
        await library_of(tams).analytics("everything")


async def test_a_store_is_opened_by_its_settings(tmp_path: Path) -> None:
    settings = settings_of(tmp_path)
    with pytest.raises(NotFound, match="media_keys"):
        async with open_library(settings):
            raise AssertionError
    async with open_library(settings, media_keys=(KEY,)) as library:
        assert "segments" in await library.list_tables()
    (tmp_path / "store.key").write_bytes(KEY)
    async with open_library(settings) as library:
        assert (await library.analytics("catalogue-summary"))["flows"] is not None
