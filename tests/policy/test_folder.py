"""A policy folder that changes: as a whole or not at all, the last good one on error, told where."""

from __future__ import annotations

import asyncio
import contextlib
import os
import shutil
import time
from collections.abc import Callable
from pathlib import Path

import pytest

from proxy.policy.files import InvalidPolicy
from proxy.policy.folder import FolderPolicy

SAMPLE = Path(__file__).resolve().parents[2] / "policies"
GRANT = "\n- user: group:sport#member\n  relation: reader\n  object: auth_class:news\n"


class Clock:
    """Unix seconds that stand still until moved."""

    def __init__(self) -> None:
        self.now_s = time.time() + 1000

    def __call__(self) -> float:
        return self.now_s


@pytest.fixture
def clock() -> Clock:
    return Clock()


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    return Path(shutil.copytree(SAMPLE, tmp_path / "policies"))


def append(folder: Path, name: str, text: str) -> None:
    with (folder / name).open("a") as file:
        file.write(text)


def test_a_change_comes_into_force_within_a_second(folder: Path, clock: Clock) -> None:
    policy = FolderPolicy(folder, clock)
    before = policy.current()
    append(folder, "tuples.yaml", GRANT)
    assert policy.current() is before
    clock.now_s += 1
    after = policy.current()
    assert len(after.tuples) == len(before.tuples) + 1
    assert after.version != before.version


@pytest.mark.parametrize(
    ("name", "text", "said"),
    [
        (
            "tuples.yaml",
            "- user: user:local/x\n  relation: raeder\n  object: auth_class:news\n",
            "tuples.yaml:{after[1]}",
        ),
        ("tuples.yaml", "- user: [\n", "tuples.yaml:"),
        (
            "tuples.yaml",
            "- user: group:news#member\n  relation: reader\n  object: auth_class:thing\n"
            "  condition: {name: in_window, context: {until: '2027-01-01T00:00:00Z'}}\n",
            "tuples.yaml:{after[1]}: (group:news#member, reader, auth_class:thing with in_window):"
            " condition 'in_window': the parameter 'since' is missing",
        ),
        (
            "classes.yaml",
            "  more:\n    colour: red\n",
            "classes.yaml:{after[2]}: class more has the unknown key 'colour'",
        ),
        ("model.fga", "type again\n  relations\n    define x: [nobody]\n", "model.fga:{after[3]}:16"),
        ("clients.yaml", "  x: {scopes: [all]}\n", "clients.yaml: client 'x'"),
    ],
)
def test_a_mistake_in_one_file_changes_nothing_and_is_told(
    folder: Path, clock: Clock, caplog: pytest.LogCaptureFixture, name: str, text: str, said: str
) -> None:
    policy = FolderPolicy(folder, clock)
    before = policy.current()
    good = (folder / name).read_text()
    said = said.format(after=[good.count("\n") + below for below in range(4)])
    append(folder, "tuples.yaml", GRANT if name != "tuples.yaml" else "")
    append(folder, name, text)
    clock.now_s += 1
    assert policy.current() is before
    assert policy.problem is not None and said in policy.problem
    assert policy.refused == 1
    assert said in caplog.text
    clock.now_s += 1
    assert policy.current() is before and policy.refused == 1
    (folder / name).write_text(good)
    clock.now_s += 1
    assert policy.current() is not before
    assert policy.problem is None


@pytest.mark.parametrize("name", ["tuples.yaml", "clients.yaml"])
def test_a_file_that_is_gone_keeps_the_policy(folder: Path, clock: Clock, name: str) -> None:
    policy = FolderPolicy(folder, clock)
    before = policy.current()
    (folder / name).rename(folder / "away")
    clock.now_s += 1
    assert policy.current() is before
    assert policy.problem is not None and name in policy.problem
    append(folder, "classes.yaml", "  more: {}\n")
    clock.now_s += 1
    assert policy.current() is before
    (folder / "away").rename(folder / name)
    clock.now_s += 1
    assert "more" in policy.current().classes
    assert policy.problem is None


def test_a_folder_never_had_clients_and_needs_none(folder: Path, clock: Clock) -> None:
    (folder / "clients.yaml").unlink()
    policy = FolderPolicy(folder, clock)
    append(folder, "classes.yaml", "  more: {}\n")
    clock.now_s += 1
    assert "more" in policy.current().classes
    assert policy.problem is None


def test_a_file_that_may_still_be_written_is_left_alone_until_it_has_settled(
    folder: Path, clock: Clock
) -> None:
    policy = FolderPolicy(folder, clock)
    before = policy.current()
    append(folder, "tuples.yaml", GRANT)
    clock.now_s += 1
    os.utime(folder / "tuples.yaml", (clock.now_s - 0.1, clock.now_s - 0.1))
    assert policy.current() is before
    clock.now_s += 0.25
    assert policy.current() is not before


def test_a_folder_that_is_wrong_from_the_start_is_refused(folder: Path, clock: Clock) -> None:
    append(folder, "classes.yaml", "other: 1\n")
    with pytest.raises(InvalidPolicy, match=r"classes.yaml:\d+: the file has the unknown key 'other'"):
        FolderPolicy(folder, clock)


async def test_a_watched_folder_needs_nobody_to_ask(folder: Path) -> None:
    policy = FolderPolicy(folder, time.time)
    watching = asyncio.create_task(policy.watch())
    append(folder, "classes.yaml", "other: 1\n")
    await until(lambda: policy.problem is not None)
    watching.cancel()
    with contextlib.suppress(asyncio.CancelledError):
        await watching
    assert policy.problem is not None and "other" in policy.problem


async def until(holds: Callable[[], bool]) -> None:
    async with asyncio.timeout(30):
        while not holds():
            await asyncio.sleep(0.01)
