"""A backup is whole, whatever goes on meanwhile; what is restored from it is what was there."""

from __future__ import annotations

import asyncio
import sqlite3
import time
from contextlib import closing
from pathlib import Path

import orjson
import pytest
from typer.testing import CliRunner

from store import backup as backups
from store import errors
from store.__main__ import app
from store.backup import DATA, DATABASE, MANIFEST, InvalidBackup, Places, back_up, check, restore
from store.metadata.sqlite import open_sqlite
from store.metadata.sqlite_schema import MIGRATIONS, REVERSALS, VERSION, revert, version_of
from tests.contract.test_metadata_migrations import made_by, tables_of
from tests.proxy.support import BACKENDS, Proxy, running

NOW = "2026-01-01T00:00:00Z"


def places(folder: Path) -> Places:
    """Those of a proxy of `tests.proxy.support`."""
    data = folder / "data"
    return Places(data, {name: data / f"media-{said['label']}" for name, said in BACKENDS.items()})


async def taken(folder: Path, target: Path, like: Path | None = None) -> backups.Taken:
    return await back_up(places(folder), target, like, NOW, time.time_ns, "backup")


async def stored(proxy: Proxy, flow_id: str, start_s: int) -> None:
    """A segment with bytes of its own."""
    (entry,) = await proxy.allocated("admin", flow_id)
    body = f"{flow_id} {start_s}".encode()
    put = entry["put_url"]
    answer = await proxy.http.put(put["url"], content=body, headers={"content-type": put["content-type"]})
    assert answer.status_code == 200, answer.text
    segment = {"object_id": entry["object_id"], "timerange": f"[{start_s}:0_{start_s + 1}:0)"}
    await proxy.made("admin", "POST", f"/flows/{flow_id}/segments", segment)


async def fetched(proxy: Proxy, flow_id: str) -> list[bytes]:
    """The bytes of all segments of a flow."""
    answer = await proxy.made("admin", "GET", f"/flows/{flow_id}/segments?presigned=true&limit=1000")
    found = []
    for segment in answer.json():
        got = await proxy.http.get(segment["get_urls"][0]["url"])
        assert got.status_code == 200, got.text
        found.append(got.content)
    return found


async def test_what_is_restored_is_what_was_there(tmp_path: Path) -> None:
    async with running(tmp_path) as proxy:
        flow = await proxy.flow(["a"])
        for start_s in range(3):
            await stored(proxy, flow["id"], start_s)
        before = await fetched(proxy, flow["id"])
        await proxy.made("admin", "PUT", "/store/objects/a/long", "x" * 100_000)
        report = await taken(tmp_path, tmp_path / "backup")
        await proxy.made("admin", "PUT", f"/flows/{flow['id']}/label", "changed later")
        await stored(proxy, flow["id"], 3)
    assert (report.objects, report.elsewhere, report.absent) == (4, 0, 0)
    assert check(tmp_path / "backup") == (report, [])
    again = tmp_path / "again"
    (again / "policies").parent.mkdir()
    (tmp_path / "policies").rename(again / "policies")
    restore(tmp_path / "backup", places(again), aside=None)
    async with running(again) as proxy:
        assert await fetched(proxy, flow["id"]) == before
        assert (await proxy.made("admin", "GET", "/store/objects/a/long")).json() == "x" * 100_000
        document = (await proxy.made("admin", "GET", f"/flows/{flow['id']}")).json()
        assert document.get("label") != "changed later"
        await stored(proxy, flow["id"], 3)


async def test_it_is_whole_while_others_write_and_delete(tmp_path: Path) -> None:
    async with running(tmp_path, delete_inline=1000) as proxy:
        flows = [(await proxy.flow(["a"]))["id"] for _ in range(3)]
        ended = asyncio.Event()

        async def work(flow_id: str) -> None:
            start_s = 0
            while not ended.is_set():
                await stored(proxy, flow_id, start_s)
                start_s += 1
                if start_s % 4 == 0:
                    await proxy.made(
                        "admin", "DELETE", f"/flows/{flow_id}/segments?timerange=[0:0_{start_s}:0)"
                    )

        working = [asyncio.create_task(work(flow_id)) for flow_id in flows]
        reports = [await taken(tmp_path, tmp_path / f"backup{number}") for number in range(3)]
        ended.set()
        await asyncio.gather(*working)
    for number, report in enumerate(reports):
        assert check(tmp_path / f"backup{number}") == (report, [])
        with closing(sqlite3.connect(tmp_path / f"backup{number}" / DATA / DATABASE)) as connection:
            keys = {
                key
                for _, key in connection.execute(
                    "SELECT i.backend_id, i.key FROM instances i JOIN uses u ON u.object = i.object"
                )
            }
        names = {path.name for path in (tmp_path / f"backup{number}").rglob("objects/**/*") if path.is_file()}
        assert {key.rpartition("/")[2] for key in keys} <= names


async def test_nothing_is_removed_meanwhile(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    async with running(tmp_path):
        metadata = await open_sqlite(tmp_path / "data" / DATABASE)
        found: list[bool] = []
        loop, copy = asyncio.get_running_loop(), backups._copy

        def copying(*args: object) -> backups.Taken:
            for name in backups.LEASES:
                asked = metadata.lease(name, "somebody else", time.time_ns(), time.time_ns() + 10**9)
                found.append(asyncio.run_coroutine_threadsafe(asked, loop).result(20))
            return copy(*args)  # type: ignore[arg-type]

        monkeypatch.setattr(backups, "_copy", copying)
        await taken(tmp_path, tmp_path / "backup")
        assert found == [False, False]
        # Given back: but for a job of the server itself, which has it for a moment now and then.
        async with asyncio.timeout(20):
            for name in backups.LEASES:
                while not await metadata.lease(name, "somebody else", time.time_ns(), time.time_ns() + 10**9):
                    await asyncio.sleep(0.01)
        await metadata.close()


async def test_files_that_others_may_not_read_stay_so(tmp_path: Path) -> None:
    async with running(tmp_path) as proxy:
        flow = await proxy.flow(["a"])
        await stored(proxy, flow["id"], 0)
        await taken(tmp_path, tmp_path / "backup")
    for path in (tmp_path / "backup").rglob("*"):
        if path.is_file():
            assert path.stat().st_mode & 0o077 == 0, path
    assert (tmp_path / "backup").stat().st_mode & 0o077 == 0
    assert (tmp_path / "backup" / DATA / "keyring.json").exists()


class TestRefusals:
    @pytest.fixture
    async def made(self, tmp_path: Path) -> Path:
        async with running(tmp_path) as proxy:
            flow = await proxy.flow(["a"])
            await stored(proxy, flow["id"], 0)
            await taken(tmp_path, tmp_path / "backup")
        return tmp_path / "backup"

    async def test_a_target_with_something_in_it(self, made: Path) -> None:
        with pytest.raises(InvalidBackup, match="is not empty"):
            await taken(made.parent, made)

    async def test_a_place_with_something_in_it(self, made: Path) -> None:
        with pytest.raises(InvalidBackup, match="is not empty"):
            restore(made, places(made.parent), aside=None)

    async def test_what_was_there_is_put_aside(self, made: Path) -> None:
        before = (made.parent / "data" / DATABASE).read_bytes()
        restore(made, places(made.parent), aside="before")
        assert (made.parent / "data.before" / DATABASE).read_bytes() == before
        assert version_of(made.parent / "data" / DATABASE) == VERSION

    async def test_a_place_where_a_server_runs(self, made: Path) -> None:
        metadata = await open_sqlite(made.parent / "data" / DATABASE)
        await metadata.check()
        with pytest.raises(InvalidBackup, match="a server runs on it"):
            restore(made, places(made.parent), aside="before")
        await metadata.close()

    @pytest.mark.parametrize("harm", ["manifest", "object", "cut", "page", "database"])
    async def test_a_backup_that_is_not_whole(self, made: Path, harm: str) -> None:
        database = made / DATA / DATABASE
        (media,) = [path for path in made.rglob("objects/**/*") if path.is_file()]
        if harm == "manifest":
            (made / MANIFEST).unlink()
        elif harm == "object":
            media.unlink()
        elif harm == "cut":
            media.unlink()
            media.write_bytes(b"x")
        elif harm == "page":
            content = bytearray(database.read_bytes())
            content[4096:] = bytes(len(content) - 4096)
            database.write_bytes(content)
        else:
            database.write_bytes(b"nonsense" * 1000)
        with pytest.raises(InvalidBackup):
            restore(made, places(made.parent / "other"), aside=None)
        assert not (made.parent / "other" / "data").exists()

    async def test_objects_of_a_backend_that_is_not_configured(self, made: Path) -> None:
        with pytest.raises(InvalidBackup, match="no storage backend"):
            restore(made, Places(made.parent / "other", {}), aside=None)

    async def test_a_newer_versions_backup(self, made: Path) -> None:
        manifest = orjson.loads((made / MANIFEST).read_bytes())
        (made / MANIFEST).write_bytes(orjson.dumps({**manifest, "schema": VERSION + 1}))
        with pytest.raises(InvalidBackup, match="newer version"):
            restore(made, places(made.parent / "other"), aside=None)


async def test_an_earlier_backup_saves_room(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    async with running(tmp_path) as proxy:
        flow = await proxy.flow(["a"])
        await stored(proxy, flow["id"], 0)
        real, copied = backups.os.link, []

        def link(source: Path, target: Path) -> None:
            # As if the backups were on a file system of their own.
            if source.is_relative_to(tmp_path / "data"):
                copied.append(source)
                raise OSError
            real(source, target)

        monkeypatch.setattr(backups.os, "link", link)
        await taken(tmp_path, tmp_path / "backup1")
        await stored(proxy, flow["id"], 1)
        await taken(tmp_path, tmp_path / "backup2", tmp_path / "backup1")
    inodes = [
        {path.stat().st_ino for path in (tmp_path / name).rglob("objects/**/*") if path.is_file()}
        for name in ("backup1", "backup2")
    ]
    assert len(inodes[0]) == 1 and len(inodes[1]) == 2 and inodes[0] < inodes[1]
    assert copied


async def test_a_backup_lies_outside_of_what_it_keeps(tmp_path: Path) -> None:
    async with running(tmp_path):
        pass
    kept = places(tmp_path)
    (tmp_path / "link").symlink_to(kept.data)
    before = sorted(kept.data.rglob("*"))
    for target in (kept.data, kept.data / "inside", tmp_path / "link" / "x" / "y", *kept.media.values()):
        with pytest.raises(InvalidBackup, match="is inside"):
            await taken(tmp_path, target)
        with pytest.raises(InvalidBackup, match="is inside"):
            restore(target, kept, aside="aside")
    assert sorted(kept.data.rglob("*")) == before
    beside = kept.data.with_name("data2")
    report = await taken(tmp_path, beside)
    assert check(beside) == (report, [])


async def test_what_it_is_to_be_like_must_be_a_backup(tmp_path: Path) -> None:
    async with running(tmp_path):
        pass
    for like in (tmp_path / "absent", tmp_path):
        with pytest.raises(InvalidBackup, match="no finished backup"):
            await taken(tmp_path, tmp_path / "backup", like)
    assert not (tmp_path / "backup").exists()


def test_there_is_no_way_back_without_metadata(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("TAMS_DATA", str(tmp_path / "absent"))
    refused = CliRunner().invoke(app, ["downgrade", "--to", "1"])
    assert (refused.exit_code, "there is no database" in refused.stderr) == (1, True)
    assert not (tmp_path / "absent").exists()


def test_every_version_has_a_way_back() -> None:
    assert set(REVERSALS) == set(range(2, VERSION + 1))
    assert set(MIGRATIONS) == set(range(VERSION))


@pytest.mark.parametrize("version", range(1, VERSION + 1))
async def test_back_and_forward_again_everything_is_as_it_was(tmp_path: Path, version: int) -> None:
    path = tmp_path / "there.db"
    await (await open_sqlite(path)).close()
    newest = tables_of(path)
    assert revert(path, version, lose=False) == 0
    made_by(version, tmp_path / "made.db")
    assert tables_of(path) == tables_of(tmp_path / "made.db")
    assert version_of(path) == version
    await (await open_sqlite(path)).close()
    assert tables_of(path) == newest


async def test_the_way_back_loses_nothing_unless_told_to(tmp_path: Path) -> None:
    path = tmp_path / "there.db"
    await (await open_sqlite(path)).close()
    with closing(sqlite3.connect(path)) as connection:
        connection.execute("INSERT INTO keys VALUES (1, 'a', 1, 1, 1, 'x', NULL, x'00')")
        connection.commit()
    with pytest.raises(errors.BadRequest, match="1 rows"):
        revert(path, 1, lose=False)
    assert version_of(path) == VERSION
    assert revert(path, 1, lose=True) == 1
    assert version_of(path) == 1


async def test_there_is_no_way_back_under_a_server(tmp_path: Path) -> None:
    path = tmp_path / "there.db"
    metadata = await open_sqlite(path)
    await metadata.check()
    with pytest.raises(errors.Unavailable, match="stop all servers"):
        revert(path, 1, lose=True)
    await metadata.close()


def test_the_commands_say_what_they_did(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    # As in a container of the proxy, whose other settings are none of the store's.
    monkeypatch.setenv("TAMS_POLICIES", "policies")
    monkeypatch.setenv("TAMS_DATA", str(tmp_path / "data"))
    (tmp_path / "tams.toml").write_text('demo = true\ntoken_ttl_s = 60\nname = "x"\n')
    asyncio.run(_made(tmp_path / "data" / DATABASE))
    run = CliRunner().invoke
    assert orjson.loads(run(app, ["backup", "kept"]).stdout)["schema"] == VERSION
    assert run(app, ["check", "kept"]).exit_code == 0
    assert run(app, ["backup", "kept"]).exit_code == 1
    refused = run(app, ["restore", "kept"])
    assert (refused.exit_code, "is not empty" in refused.stderr) == (1, True)
    assert run(app, ["restore", "kept", "--replace"]).exit_code == 0
    assert orjson.loads(run(app, ["downgrade", "--to", "1"]).stdout) == {"from": VERSION, "to": 1, "lost": 0}
    assert run(app, ["backup", "another"]).exit_code == 1, "another version's metadata are its own to keep"
    (tmp_path / "kept" / MANIFEST).unlink()
    assert run(app, ["check", "kept"]).exit_code == 1


async def _made(path: Path) -> None:
    path.parent.mkdir()
    await (await open_sqlite(path)).close()
