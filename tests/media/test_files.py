"""What only local files have: several processes, a disk that fills up or breaks, a quota."""

from __future__ import annotations

import asyncio
import errno
import fcntl
import os
import signal
import subprocess
import sys
import threading
from collections.abc import AsyncIterator, Callable, Iterator
from pathlib import Path

import pytest

from store import errors
from store.media import disk
from store.media.disk import Folder, Upload
from store.media.files import Files
from store.media.signing import Signer
from tests.media.conftest import local_files

SIGNER = Signer((b"k" * 32,))
KEY = "2026/11/21/flow/object"
REPO = Path(__file__).resolve().parents[2]


@pytest.fixture
def folder(tmp_path: Path) -> Folder:
    return Folder(tmp_path / "media", quota_bytes=None)


def uploaded(folder: Folder, key: str, content: bytes) -> None:
    upload = Upload(folder)
    upload.write([content])
    upload.commit(key)


def content_of(folder: Folder, key: str) -> bytes | None:
    opened = folder.open(key)
    if opened is None:
        return None
    try:
        return opened.read(0, opened.size_bytes)
    finally:
        opened.close()


async def chunks_of(*chunks: bytes) -> AsyncIterator[bytes]:
    for chunk in chunks:
        yield chunk


def incoming(root: Path) -> list[Path]:
    return list((root / "incoming").iterdir())


def child(code: str, *arguments: str) -> subprocess.Popen[str]:
    return subprocess.Popen(
        [sys.executable, "-c", code, *arguments],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
        cwd=REPO,
    )


def line_of(process: subprocess.Popen[str]) -> str:
    assert process.stdout is not None
    return process.stdout.readline().strip()


def end(process: subprocess.Popen[str]) -> None:
    process.kill()
    process.communicate()


HALF_AN_UPLOAD = """
import sys, pathlib
from store.media.disk import Folder, Upload
upload = Upload(Folder(pathlib.Path(sys.argv[1]), quota_bytes=None))
upload.write([b"x" * 3_000_000])
print("half way", flush=True)
sys.stdin.read()
"""

UPLOADS = """
import sys, pathlib
from store import errors
from store.media.disk import Folder, Upload
folder = Folder(pathlib.Path(sys.argv[1]), quota_bytes=None)
print("ready", flush=True)
refused = 0
for line in sys.stdin:
    upload = Upload(folder)
    upload.write([sys.argv[2].encode() * 1000])
    try:
        upload.commit(line.strip())
    except errors.PreconditionFailed:
        refused += 1
print(refused, flush=True)
"""


def test_an_upload_killed_half_way_is_never_seen_and_its_file_is_swept(tmp_path: Path) -> None:
    root = tmp_path / "media"
    process = child(HALF_AN_UPLOAD, str(root))
    assert line_of(process) == "half way"
    folder = Folder(root, quota_bytes=None)
    assert folder.sweep() == 0, "another process's upload is not ours to sweep"
    process.send_signal(signal.SIGKILL)
    process.communicate()
    assert len(incoming(root)) == 1
    assert list(folder.walk("")) == []
    assert folder.sweep() == 1
    assert incoming(root) == []


def test_opening_a_backend_sweeps(tmp_path: Path) -> None:
    root = tmp_path / "media"
    Folder(root, quota_bytes=None)
    (root / "incoming" / "left").write_bytes(b"x")
    local_files(root, SIGNER)
    assert incoming(root) == []


def test_a_sweep_between_creation_and_lock_costs_the_upload_nothing(
    folder: Folder, monkeypatch: pytest.MonkeyPatch
) -> None:
    lock = fcntl.flock
    swept: list[int] = []

    def swept_first(fd: int, operation: int) -> None:
        if not swept and operation == fcntl.LOCK_EX:
            swept.append(0)
            swept[0] = folder.sweep()
        lock(fd, operation)

    monkeypatch.setattr(disk.fcntl, "flock", swept_first)
    uploaded(folder, KEY, b"content")
    assert swept == [1]
    assert content_of(folder, KEY) == b"content"


def test_pinned_bytes_never_change_while_other_processes_upload_to_the_same_key(tmp_path: Path) -> None:
    root = tmp_path / "media"
    folder = Folder(root, quota_bytes=None)
    writers = [child(UPLOADS, str(root), letter) for letter in "ab"]
    try:
        assert [line_of(writer) for writer in writers] == ["ready", "ready"]
        keys = [f"2026/11/21/flow/{number}" for number in range(40)]
        for key in keys:
            uploaded(folder, key, b"c" * 1000)
            for writer in writers:
                assert writer.stdin is not None
                writer.stdin.write(f"{key}\n" * 3)
                writer.stdin.flush()
            pinned = folder.pin(key)
            frozen = content_of(folder, key)
            assert pinned is not None
            with pytest.raises(errors.PreconditionFailed):
                uploaded(folder, key, b"late")
            assert content_of(folder, key) == frozen
            assert folder.pin(key) == pinned
        outs = [writer.communicate()[0] for writer in writers]
    finally:
        for writer in writers:
            end(writer) if writer.poll() is None else None
    assert sum(int(out) for out in outs) > 0, "no upload was refused: nothing raced"
    assert incoming(root) == []


def test_pins_of_a_replaced_object_wait_for_the_replacement(folder: Folder) -> None:
    uploaded(folder, KEY, b"first")
    upload = Upload(folder)
    upload.write([b"second"])
    with folder._locked(KEY):
        threads = [
            threading.Thread(target=upload.commit, args=(KEY,)),
            threading.Thread(target=folder.unpin, args=(KEY,)),
        ]
        for thread in threads:
            thread.start()
        assert content_of(folder, KEY) == b"first"
    for thread in threads:
        thread.join()
    assert content_of(folder, KEY) == b"second"


def test_a_pin_outlives_the_process(tmp_path: Path) -> None:
    uploaded(Folder(tmp_path, quota_bytes=None), KEY, b"x")
    Folder(tmp_path, quota_bytes=None).pin(KEY)
    assert Folder(tmp_path, quota_bytes=None).is_pinned(KEY)


def test_a_reader_keeps_its_bytes_when_they_are_replaced_or_deleted(folder: Folder) -> None:
    uploaded(folder, KEY, b"first")
    opened = folder.open(KEY)
    assert opened is not None
    uploaded(folder, KEY, b"other")
    folder.delete([KEY])
    assert opened.read(0, 5) == b"first"
    opened.close()
    opened.close()
    with pytest.raises(errors.Unavailable):
        opened.read(0, 5)


def test_deleting_removes_empty_folders_and_uploads_make_them_again(folder: Folder, tmp_path: Path) -> None:
    for _ in range(3):
        uploaded(folder, KEY, b"x")
        folder.delete([KEY])
        assert list((tmp_path / "media" / "objects").iterdir()) == []


@pytest.mark.parametrize("key", ["a/b", "a"])
def test_a_key_below_another_is_refused_not_broken(folder: Folder, key: str) -> None:
    uploaded(folder, "a/b/c" if key == "a/b" else "a/b", b"x")
    with pytest.raises((OSError, errors.BadRequest)) as caught:
        uploaded(folder, key if key == "a/b" else "a/b/c", b"y")
    if isinstance(caught.value, OSError):
        assert isinstance(disk.translated(caught.value), errors.BadRequest)


@pytest.mark.parametrize(
    "key",
    [
        "",
        "/",
        "/etc/passwd",
        "..",
        "a/../b",
        "../a",
        "a//b",
        "a/",
        "./a",
        ".git",
        "a\0",
        "x" * 256,
        "a/" * 600,
        "\ud800",
    ],
)
def test_keys_that_could_be_anywhere_else_are_refused(folder: Folder, key: str) -> None:
    for call in (folder.stat, folder.open, folder.pin, folder.unpin, folder.is_pinned):
        with pytest.raises(errors.BadRequest):
            call(key)
    with pytest.raises(errors.BadRequest):
        folder.delete([key])


def test_a_symbolic_link_is_no_object(folder: Folder, tmp_path: Path) -> None:
    secret = tmp_path / "secret"
    secret.write_bytes(b"secret")
    (tmp_path / "media" / "objects" / "link").symlink_to(secret)
    assert folder.stat("link") is None
    with pytest.raises(OSError, match="symbolic links"):
        folder.open("link")


FAULTS = [
    (errno.ENOSPC, errors.Full),
    (errno.EDQUOT, errors.Full),
    (errno.EIO, errors.Unavailable),
    (errno.EROFS, errors.Unavailable),
]


def failing(number: int) -> Callable[..., int]:
    def fail(*_: object) -> int:
        raise OSError(number, os.strerror(number))

    return fail


@pytest.fixture
async def files(tmp_path: Path) -> AsyncIterator[Files]:
    made = local_files(tmp_path / "media", SIGNER)
    yield made
    await made.close()


@pytest.mark.parametrize("call", ["writev", "fsync", "rename", "open"])
@pytest.mark.parametrize(("number", "expected"), FAULTS)
async def test_a_disk_that_fails_is_said_reads_go_on_and_it_recovers(
    files: Files,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    call: str,
    number: int,
    expected: type[errors.Error],
) -> None:
    await files.write("kept", chunks_of(b"kept"), content_type="")
    reader = files._folder.open("kept")
    assert reader is not None
    with monkeypatch.context() as broken:
        broken.setattr(disk.os, call, failing(number))
        with pytest.raises(expected):
            await files.write(KEY, chunks_of(b"x" * 3_000_000), content_type="")
        assert reader.read(0, 4) == b"kept"
    reader.close()
    assert await files.stat(KEY) is None
    await files.write(KEY, chunks_of(b"now"), content_type="")
    assert await files.stat(KEY) is not None
    await files.close()
    assert incoming(tmp_path / "media") == []


async def test_a_failed_replacement_leaves_what_was_there(
    files: Files, monkeypatch: pytest.MonkeyPatch
) -> None:
    await files.write(KEY, chunks_of(b"first"), content_type="")
    with monkeypatch.context() as broken:
        broken.setattr(disk.os, "rename", failing(errno.EIO))
        with pytest.raises(errors.Unavailable):
            await files.write(KEY, chunks_of(b"second"), content_type="")
    assert b"".join([chunk async for chunk in files.read(KEY)]) == b"first"


async def test_an_upload_cancelled_while_a_batch_is_written_leaves_nothing(
    files: Files, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    writing, go_on = threading.Event(), threading.Event()
    write = os.writev

    def slow(fd: int, views: list[bytes]) -> int:
        writing.set()
        go_on.wait()
        return write(fd, views)

    monkeypatch.setattr(disk.os, "writev", slow)

    async def endless() -> AsyncIterator[bytes]:
        yield b"x" * (2 << 20)
        await asyncio.Event().wait()

    task = asyncio.create_task(files.write(KEY, endless(), content_type=""))
    await asyncio.to_thread(writing.wait)
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task
    go_on.set()
    await files.close()
    assert incoming(tmp_path / "media") == []
    assert list(files._folder.walk("")) == []


@pytest.fixture
def descriptors() -> Iterator[None]:
    before = len(os.listdir("/proc/self/fd")) if os.path.exists("/proc/self/fd") else 0
    yield
    if before:
        assert len(os.listdir("/proc/self/fd")) <= before


async def test_a_reader_that_stops_early_leaks_nothing(descriptors: None, files: Files) -> None:
    await files.write(KEY, chunks_of(b"x" * (4 << 20)), content_type="")
    for _ in range(20):
        chunks = files.read(KEY)
        await anext(chunks)
        await chunks.aclose()
    await files.close()


async def test_a_quota_is_shared_exact_and_given_back(tmp_path: Path) -> None:
    one = local_files(tmp_path / "media", SIGNER, quota_bytes=100)
    two = local_files(tmp_path / "media", SIGNER, quota_bytes=100)
    await one.write("a", chunks_of(b"x" * 60), content_type="")
    with pytest.raises(errors.Full):
        await two.write("b", chunks_of(b"x" * 41), content_type="")
    await two.write("b", chunks_of(b"x" * 40), content_type="")
    await one.delete(["a"])
    await one.write("a", chunks_of(b"x" * 50), content_type="")
    assert await one.check() == []
    with pytest.raises(errors.Full):
        await one.write("c", chunks_of(b""), content_type="", size_bytes=11)
    await two.write("c", chunks_of(b"x" * 10), content_type="")
    assert await one.check() == ["the storage backend's quota is used up"]
    await one.delete(["a", "never"])
    await two.write("d", chunks_of(b"x" * 50), content_type="")
    assert await one.recount() == 100
    for files in (one, two):
        await files.close()


async def test_a_lost_figure_is_counted_again(tmp_path: Path) -> None:
    files = local_files(tmp_path / "media", SIGNER, quota_bytes=100)
    await files.write("a", chunks_of(b"x" * 60), content_type="")
    (tmp_path / "media" / "used").unlink()
    with pytest.raises(errors.Full):
        await files.write("b", chunks_of(b"x" * 41), content_type="")
    await files.close()


async def test_an_upload_that_fails_takes_nothing_of_the_quota(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    files = local_files(tmp_path / "media", SIGNER, quota_bytes=100)
    with monkeypatch.context() as broken:
        broken.setattr(disk.os, "rename", failing(errno.EIO))
        with pytest.raises(errors.Unavailable):
            await files.write("a", chunks_of(b"x" * 60), content_type="")
    await files.write("b", chunks_of(b"x" * 100), content_type="")
    await files.close()


async def test_a_folder_that_cannot_be_listed_is_not_taken_for_empty(
    files: Files, monkeypatch: pytest.MonkeyPatch
) -> None:
    await files.write(KEY, chunks_of(b"x"), content_type="")
    monkeypatch.setattr(os, "scandir", failing(errno.EIO))
    with pytest.raises(errors.Unavailable):
        [key async for key, _ in files.keys("")]


def refusing(*arguments: int) -> None:
    raise OSError(errno.EINVAL, "no such advice")


@pytest.mark.parametrize("advise", [None, refusing])
def test_a_long_upload_needs_no_hints_of_the_system(
    folder: Folder, monkeypatch: pytest.MonkeyPatch, advise: Callable[..., None] | None
) -> None:
    if advise is None:
        monkeypatch.delattr(os, "posix_fadvise")
    else:
        monkeypatch.setattr(os, "posix_fadvise", advise)
    content = bytes(disk.BATCH_BYTES + 1)
    uploaded(folder, KEY, content)
    assert content_of(folder, KEY) == content
