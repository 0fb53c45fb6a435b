"""A copy of a data folder that is whole, taken while servers run on it; and the way back.

While it is taken nothing is removed from local storage backends, so that the bytes of all that the copied
metadata speak of are there to be copied. What lies in buckets stays there. A backup is a folder: `data`, as
the data folder but for media; `media`, the objects of local storage backends by their ids; and a manifest,
which is written last.
"""

from __future__ import annotations

import asyncio
import contextlib
import os
import shutil
import sqlite3
import stat
from collections.abc import AsyncIterator, Callable, Iterator, Mapping
from contextlib import asynccontextmanager, closing, contextmanager
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Final

import orjson

from store import __version__
from store.media.disk import relative_path
from store.metadata.sqlite import Sqlite
from store.metadata.sqlite_schema import BUSY_S, VERSION, connect, version_of

DATABASE: Final = "metadata.sqlite"
DATA: Final = "data"
MANIFEST: Final = "backup.json"
MEDIA: Final = "media"
OBJECTS: Final = "objects"
SIDECARS: Final = ("-wal", "-shm", "-journal", ".part")
"""Endings of files that mean nothing without the database beside them, or are not finished."""
LEASES: Final = ("garbage", "orphans")
LEASE_NS: Final = 60 * 1_000_000_000
RENEW_S: Final = 15.0
PATIENCE_S: Final = 120.0
_INSTANCES: Final = "SELECT DISTINCT backend_id, key FROM instances ORDER BY backend_id, key"


class InvalidBackup(Exception):
    """What was asked cannot be done, or what is there is not whole. `problems`: one sentence each."""

    def __init__(self, problems: list[str]) -> None:
        self.problems = problems
        super().__init__("; ".join(problems))


@dataclass(frozen=True, slots=True)
class Taken:
    """What a backup holds. `elsewhere`: objects whose bytes lie in buckets; `absent`: those that were not
    uploaded."""

    version: str
    schema: int
    made: str
    objects: int
    bytes: int
    elsewhere: int
    absent: int


@dataclass(frozen=True, slots=True)
class Places:
    """The data folder, and the folders of local storage backends by id."""

    data: Path
    media: Mapping[str, Path]

    def refuse_inside(self, backup: Path) -> None:
        """A backup lies outside of what is kept. Raises `InvalidBackup`."""
        found = backup.resolve()
        for folder in (self.data, *self.media.values()):
            place = folder.resolve()
            _refuse(
                found == place or place in found.parents, f"{backup}: is inside {folder}; put it elsewhere"
            )


async def back_up(
    places: Places, target: Path, like: Path | None, stamp: str, now_ns: Callable[[], int], holder: str
) -> Taken:
    """Copy everything to a folder that is not there yet, or is empty. Raises `InvalidBackup`, `OSError`, and
    `errors.Unavailable` for a database that does not answer.

    `like`: an earlier backup, finished, from which bytes are linked that have not changed. One that is not
    finished has no manifest, and cannot be restored.
    """
    source = places.data / DATABASE
    places.refuse_inside(target)
    if like is not None:
        _manifest(like)
    _refuse(not source.is_file(), f"{source}: there is no database")
    _refuse(target.exists() and any(target.iterdir()), f"{target}: is not empty")
    found = await asyncio.to_thread(version_of, source)
    _refuse(found != VERSION, f"{source}: has schema version {found}, and this software {VERSION}")
    target.mkdir(mode=0o700, parents=True, exist_ok=True)
    async with _nothing_removed(source, now_ns, holder):
        return await asyncio.to_thread(_copy, places, target, like, stamp)


@asynccontextmanager
async def _nothing_removed(path: Path, now_ns: Callable[[], int], holder: str) -> AsyncIterator[None]:
    """Keep all processes from removing bytes, by holding the leases of those jobs."""
    metadata = Sqlite(path)
    try:
        for name in LEASES:
            await _take(metadata, name, now_ns, holder)
        renewing = asyncio.create_task(_renew(metadata, now_ns, holder))
        try:
            yield
            if renewing.done():
                await renewing
        finally:
            renewing.cancel()
            await asyncio.wait([renewing])
            for name in LEASES:
                await metadata.lease(name, holder, now_ns(), now_ns())
    finally:
        await metadata.close()


async def _take(metadata: Sqlite, name: str, now_ns: Callable[[], int], holder: str) -> None:
    try:
        async with asyncio.timeout(PATIENCE_S):
            while not await metadata.lease(name, holder, now_ns(), now_ns() + LEASE_NS):
                await asyncio.sleep(0.2)
    except TimeoutError:
        raise InvalidBackup([f"the job {name} does not end; try again later"]) from None


async def _renew(metadata: Sqlite, now_ns: Callable[[], int], holder: str) -> None:
    """Until cancelled. Raises `InvalidBackup` when somebody else has a lease: bytes may be gone then."""
    while True:
        await asyncio.sleep(RENEW_S)
        for name in LEASES:
            if not await metadata.lease(name, holder, now_ns(), now_ns() + LEASE_NS):
                raise InvalidBackup([f"the lease of {name} was lost"])


def _copy(places: Places, target: Path, like: Path | None, stamp: str) -> Taken:
    # What is moved from other files into the metadata meanwhile is then in both, and never in neither.
    _copy_files(places, target / DATA)
    _snapshot(places.data / DATABASE, target / DATA / DATABASE)
    objects, size, elsewhere, absent = 0, 0, 0, 0
    for backend_id, key in _instances(target):
        folder = places.media.get(backend_id)
        if folder is None:
            elsewhere += 1
            continue
        source = folder / OBJECTS / relative_path(key)
        status = _file(source)
        if status is None:
            absent += 1
            continue
        earlier = None if like is None else _below(like, backend_id, key)
        _place(source, _below(target, backend_id, key), earlier)
        objects, size = objects + 1, size + status.st_size
    taken = Taken(__version__, VERSION, stamp, objects, size, elsewhere, absent)
    _write(target / MANIFEST, orjson.dumps(asdict(taken), option=orjson.OPT_INDENT_2))
    return taken


def _copy_files(places: Places, target: Path) -> None:
    """All of the data folder but media and metadata: keys, secrets, and what is kept beside the metadata."""
    media = {folder.resolve() for folder in places.media.values()}
    for root, folders, names in os.walk(places.data):
        here = Path(root)
        folders[:] = sorted(name for name in folders if (here / name).resolve() not in media)
        made = target / here.relative_to(places.data)
        made.mkdir(mode=0o700, parents=True, exist_ok=True)
        for name in sorted(names):
            if name.endswith(SIDECARS) or (here == places.data and name == DATABASE):
                continue
            with contextlib.suppress(FileNotFoundError):
                if name.endswith(".sqlite"):
                    _snapshot(here / name, made / name)
                elif _file(here / name) is not None:
                    shutil.copy2(here / name, made / name)


def _snapshot(source: Path, target: Path) -> None:
    """One state of a database, as a file by itself. Others go on writing meanwhile."""
    with closing(connect(source, busy_s=BUSY_S)) as reading, closing(sqlite3.connect(target)) as writing:
        os.chmod(target, 0o600)
        reading.backup(writing)
        writing.execute("PRAGMA journal_mode = DELETE")
    _refuse_broken(target)
    _sync(target)


def _refuse_broken(path: Path) -> None:
    with closing(connect(path, busy_s=BUSY_S)) as connection:
        said = [row[0] for row in connection.execute("PRAGMA integrity_check(20)")]
    if said != ["ok"]:
        raise InvalidBackup([f"{path}: {each}" for each in said])


def _instances(backup: Path) -> Iterator[tuple[str, str]]:
    """The storage backend and the key of all bytes that the metadata of a backup speak of."""
    with closing(connect(backup / DATA / DATABASE, busy_s=BUSY_S)) as connection:
        yield from connection.execute(_INSTANCES)


def _below(backup: Path, backend_id: str, key: str) -> Path:
    return backup / MEDIA / backend_id / OBJECTS / relative_path(key)


def _file(path: Path) -> os.stat_result | None:
    try:
        status = path.lstat()
    except (FileNotFoundError, NotADirectoryError):
        return None
    return status if stat.S_ISREG(status.st_mode) else None


def _place(source: Path, target: Path, earlier: Path | None = None) -> None:
    """The same bytes at another place: linked where that can be, for they are replaced, and never changed."""
    target.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
    for candidate in (source, earlier):
        if candidate is None or (candidate is earlier and not _same(source, candidate)):
            continue
        with contextlib.suppress(OSError):
            os.link(candidate, target)
            return
    shutil.copy2(source, target)
    _sync(target)


def _same(one: Path, other: Path) -> bool:
    mine, theirs = _file(one), _file(other)
    if mine is None or theirs is None:
        return False
    return (mine.st_size, mine.st_mtime_ns) == (theirs.st_size, theirs.st_mtime_ns)


def check(backup: Path) -> tuple[Taken, list[str]]:
    """What a backup says it is, and everything that is wrong with it. Raises `InvalidBackup` for none."""
    taken = _manifest(backup)
    problems = []
    try:
        _refuse_broken(backup / DATA / DATABASE)
        problems += _differing(backup, taken)
    except InvalidBackup as exc:
        problems += exc.problems
    except sqlite3.Error as exc:
        problems.append(f"{backup / DATA / DATABASE}: {exc}")
    return taken, problems


def _manifest(backup: Path) -> Taken:
    """What a backup says it is. Raises `InvalidBackup`."""
    try:
        return Taken(**orjson.loads((backup / MANIFEST).read_bytes()))
    except (OSError, TypeError, orjson.JSONDecodeError) as exc:
        raise InvalidBackup([f"{backup}: is no finished backup: {exc}"]) from exc


def _differing(backup: Path, taken: Taken) -> list[str]:
    objects, size = 0, 0
    for backend_id, key in _instances(backup):
        status = _file(_below(backup, backend_id, key))
        if status is not None:
            objects, size = objects + 1, size + status.st_size
    if (objects, size) == (taken.objects, taken.bytes):
        return []
    return [f"{objects} objects of {size} bytes are there, not {taken.objects} of {taken.bytes}"]


def restore(backup: Path, places: Places, *, aside: str | None) -> Taken:
    """Make a data folder from a backup. Raises `InvalidBackup`, `OSError`.

    What is there is put aside under that name, or, without one, refused. It ends with the database, so that
    no server starts on half of it.
    """
    places.refuse_inside(backup)
    taken, problems = check(backup)
    if problems:
        raise InvalidBackup(problems)
    if taken.schema > VERSION:
        raise InvalidBackup([f"{backup}: a newer version made it, {taken.version}"])
    strange = sorted(_backends(backup) - places.media.keys())
    if strange:
        raise InvalidBackup([f"there is no storage backend {name} to take its objects" for name in strange])
    _make_room(places, aside)
    for backend_id in sorted(_backends(backup)):
        root = backup / MEDIA / backend_id / OBJECTS
        for path in sorted(each for each in root.rglob("*") if each.is_file()):
            _place(path, places.media[backend_id] / OBJECTS / path.relative_to(root))
    rest = shutil.ignore_patterns(f"{DATABASE}*")
    shutil.copytree(backup / DATA, places.data, ignore=rest, dirs_exist_ok=True)
    part = places.data / f"{DATABASE}.part"
    shutil.copyfile(backup / DATA / DATABASE, part)
    os.chmod(part, 0o600)
    _sync(part)
    part.rename(places.data / DATABASE)
    return taken


def _backends(backup: Path) -> set[str]:
    folder = backup / MEDIA
    return {path.name for path in folder.iterdir()} if folder.is_dir() else set()


def _make_room(places: Places, aside: str | None) -> None:
    places.data.mkdir(mode=0o700, parents=True, exist_ok=True)
    inside = [
        folder
        for folder in (places.data, *places.media.values())
        if folder.is_dir() and any(folder.iterdir())
    ]
    if not inside:
        return
    if aside is None:
        raise InvalidBackup([f"{folder}: is not empty" for folder in inside])
    if (places.data / DATABASE).exists():
        with _unused(places.data / DATABASE):
            _move_aside(places, inside, aside)
    else:
        _move_aside(places, inside, aside)


def _move_aside(places: Places, inside: list[Path], aside: str) -> None:
    # Media mostly lie below the data folder, and go with it.
    apart = [folder for folder in inside if folder != places.data and places.data not in folder.parents]
    for folder in (*apart, places.data):
        folder.rename(folder.with_name(f"{folder.name}.{aside}"))
        folder.mkdir(mode=0o700)


@contextmanager
def _unused(path: Path) -> Iterator[None]:
    """Nobody has the database open. Raises `InvalidBackup`."""
    with closing(connect(path, busy_s=0)) as connection:
        try:
            connection.execute("PRAGMA locking_mode = EXCLUSIVE")
            connection.execute("BEGIN EXCLUSIVE")
        except sqlite3.DatabaseError as exc:
            if "locked" in str(exc) or "busy" in str(exc):
                raise InvalidBackup([f"{path}: a server runs on it; stop it first"]) from exc
            # One that is broken is what a backup is for.
        yield


def _write(path: Path, data: bytes) -> None:
    with open(path, "xb", opener=lambda name, flags: os.open(name, flags, 0o600)) as file:
        file.write(data)
        file.flush()
        os.fsync(file.fileno())


def _sync(path: Path) -> None:
    with path.open("rb") as file:
        os.fsync(file.fileno())


def _refuse(wrong: bool, problem: str) -> None:
    if wrong:
        raise InvalidBackup([problem])
