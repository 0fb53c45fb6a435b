"""`tams-store orphans`, `backends` and `recount`, on files and on S3."""

from __future__ import annotations

import time
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import pytest
from typer.testing import CliRunner

from store.__main__ import app
from store.backends import examine, opened, recount, scan
from store.domain.storage import object_key
from store.metadata.sqlite import open_sqlite
from store.metadata.sqlite_schema import prepare
from store.settings import StoreSettings
from tests.contract.media_servers import ACCESS, BUCKET, SECRET, running
from tests.store.harness import ARCHIVE, LOCAL, new_id, running_tams, settings_of

DAY_NS = 86_400 * 10**9


def later() -> int:
    """When what is written now is old enough."""
    return time.time_ns() + 2 * DAY_NS


async def left(settings: StoreSettings) -> set[str]:
    """The keys of all bytes on the first backend."""
    async with opened(settings) as backends:
        keys = backends[LOCAL].keys()
        return {key async for key, _ in keys}


async def write(settings: StoreSettings, key: str) -> None:
    async def chunks() -> AsyncIterator[bytes]:
        yield b"bytes"

    async with opened(settings) as backends:
        await backends[LOCAL].write(key, chunks(), content_type="video/mp2t")


@pytest.fixture(params=["files", "s3"])
def chosen(request: pytest.FixtureRequest, tmp_path: Path) -> Any:
    """The settings of a store, its first backend on files or on S3."""
    backend: dict[str, Any] = {"id": LOCAL, "label": "local", "default": True}
    if request.param == "files":
        yield settings_of(tmp_path, backends=[backend])
        return
    with running("moto", tmp_path) as server:
        backend |= {"type": "s3", "bucket": BUCKET, "endpoints": (server.endpoint,), "prefix": "tams/"}
        backend |= {"access_key": ACCESS, "secret_key": SECRET, "region": "us-east-1"}
        yield settings_of(tmp_path, backends=[backend])


async def filled(settings: StoreSettings, folder: Path) -> tuple[str, set[str]]:
    """A key that no object has, and the keys of what is to stay."""
    backends = [backend.model_dump() for backend in settings.storage_backends]
    async with running_tams(folder, backends=backends) as tams:
        flow = await tams.flow()
        given = (await tams.post(f"/flows/{flow['id']}/storage", {"limit": 1})).json()["media_objects"][0]
        (instance,) = (await tams.store.metadata.objects([given["object_id"]]))[given["object_id"]].instances
    orphan = object_key(new_id(), new_id(), time.time_ns())
    kept = {instance.key, "somebody/elses"}
    for key in (orphan, *kept):
        await write(settings, key)
    return orphan, kept


async def test_only_old_bytes_that_no_object_has_are_removed_and_only_when_asked(
    chosen: StoreSettings, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    orphan, kept = await filled(chosen, tmp_path)
    assert await scan(chosen, delete=True) == 0
    assert await left(chosen) == {orphan, *kept}
    assert "0 orphans" in capsys.readouterr().out
    assert await scan(chosen, delete=False, now_ns=later) == 0
    assert await left(chosen) == {orphan, *kept}
    out = capsys.readouterr().out
    assert orphan in out and not any(key in out for key in kept)
    assert "1 orphans" in out and "1 objects, 0 younger, 1 that no store made" in out
    assert await scan(chosen, delete=True, now_ns=later) == 0
    assert await left(chosen) == kept
    assert await examine(chosen) == 0 or "versioning" in capsys.readouterr().out


async def test_nothing_is_removed_by_metadata_that_know_nothing(
    chosen: StoreSettings, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    orphan, kept = await filled(chosen, tmp_path)
    elsewhere = chosen.model_copy(update={"data": tmp_path / "elsewhere"})
    elsewhere.data.mkdir()
    await (await open_sqlite(elsewhere.data / "metadata.sqlite")).close()
    assert await scan(elsewhere, delete=True, now_ns=later) == 1
    assert "Are they the right ones?" in capsys.readouterr().err
    assert await left(chosen) == {orphan, *kept}


async def test_a_wrong_figure_of_used_bytes_is_counted_anew(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    backends = [{"id": LOCAL, "quota_bytes": 100}, {"id": ARCHIVE, "label": "archive"}]
    settings = settings_of(tmp_path, backends=backends)
    await write(settings, "a")
    (tmp_path / "media-0" / "used").write_bytes((99).to_bytes(8, "little"))
    assert await recount(settings) == 0
    out = capsys.readouterr().out
    assert f"{LOCAL}: 5 bytes" in out and f"archive ({ARCHIVE}): has no quota" in out
    assert (tmp_path / "media-0" / "used").read_bytes() == (5).to_bytes(8, "little")


async def test_a_backend_that_cannot_be_used_says_why(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    backend: dict[str, Any] = {"id": LOCAL, "type": "s3", "bucket": "media"}
    backend |= {"endpoints": ("http://127.0.0.1:9",), "access_key": "a", "secret_key": "b"}
    assert await examine(settings_of(tmp_path, backends=[backend])) == 1
    assert "bucket media at http://127.0.0.1:9: nothing answers there" in capsys.readouterr().out


async def test_where_there_are_no_metadata_none_are_made(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    settings = settings_of(tmp_path / "absent")
    assert await scan(settings, delete=False) == 1
    assert "there is no database" in capsys.readouterr().err
    assert not settings.data.exists()


@pytest.mark.parametrize("command", ["orphans", "backends", "recount"])
def test_the_commands_run(command: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "data").mkdir()
    prepare(tmp_path / "data" / "metadata.sqlite")
    monkeypatch.setenv("TAMS_DATA", str(tmp_path / "data"))
    # Of the proxy on the same data.
    monkeypatch.setenv("TAMS_TOKEN_ENDPOINT", "true")
    monkeypatch.chdir(tmp_path)
    result = CliRunner().invoke(app, [command])
    assert result.exit_code == 0, result.output
    assert "local (" in result.output
