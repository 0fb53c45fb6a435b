"""Servers as operations run them: several processes, restarted and reloaded under load, nobody noticing."""

from __future__ import annotations

import json
import os
import shutil
import signal
import time
from collections.abc import Iterator
from pathlib import Path

import httpx
import pytest

from tests.bench.servers import ROOT
from tests.installed import binary
from tests.operate.load import Load
from tests.operate.processes import Served, nginx, until
from tests.ports import free_port

pytestmark = pytest.mark.slow


def secret(folder: Path, client: str = "newsroom") -> str:
    found: str = json.loads((folder / "data" / "clients.secret").read_text())[client]
    return found


@pytest.fixture
def workers(tmp_path: Path) -> Iterator[Served]:
    served = Served(tmp_path, "--workers", "2", stop__grace_s="20")
    served.start()
    yield served
    if served.process.poll() is None:
        served.stop()


def has(served: Served, count: int) -> bool:
    return len(served.children()) == count


def test_a_worker_that_dies_is_replaced_and_the_others_go_on(workers: Served) -> None:
    until(lambda: has(workers, 2), "two workers")
    before = workers.children()
    os.kill(min(before), signal.SIGKILL)
    until(lambda: has(workers, 2) and workers.children() != before, "replaced")
    until(lambda: workers.asked("/ready") == 200, "ready")
    assert max(before) in workers.children()
    assert "ended by signal 9" in workers.log


def lives(pid: int) -> bool:
    """Whether a process runs; one that has ended may stay listed until somebody asks how."""
    try:
        status = Path(f"/proc/{pid}/stat").read_text()
    except (FileNotFoundError, ProcessLookupError):
        return False
    return status.rpartition(")")[2].split()[0] != "Z"


def test_no_worker_outlives_its_parent(workers: Served) -> None:
    until(lambda: has(workers, 2), "two workers")
    children = workers.children()
    workers.stop(signal.SIGKILL)
    until(lambda: not any(map(lives, children)), "gone")


def test_one_scrape_tells_of_all_workers(workers: Served) -> None:
    until(lambda: 'worker="0"' in workers.figures() and 'worker="1"' in workers.figures(), "both told")


def test_settings_that_cannot_be_used_end_them_all(tmp_path: Path) -> None:
    (tmp_path / "data").mkdir()
    (tmp_path / "data" / "metadata.sqlite").write_text(
        "this is no database, and long enough to be seen as none"
    )
    served = Served(tmp_path, "--workers", "2")
    with pytest.raises(AssertionError):
        served.start()
    assert served.process.wait(30) == 3


def test_a_reload_under_load_fails_nobody(workers: Served) -> None:
    with Load(workers.url, "newsroom", secret(workers.folder), 4) as load:
        until(lambda: load.done["POST"] > 20, "loaded")
        for turn in range(3):
            workers.process.send_signal(signal.SIGHUP)
            reloaded = 2 * (turn + 1)
            until(lambda n=reloaded: workers.log.count("read again and are in force") >= n, "reloaded")
    assert load.failed == []
    assert load.done["POST"] > 20


def test_changed_settings_are_in_force_after_a_reload_and_wrong_ones_never(tmp_path: Path) -> None:
    config = tmp_path / "tams.toml"
    config.write_text('log_level = "info"\n')
    served = Served(tmp_path)
    served.start()
    try:
        config.write_text('log_level = "loud"\n')
        served.process.send_signal(signal.SIGHUP)
        until(lambda: "Nothing was reloaded" in served.log, "refused")
        assert served.asked("/ready") == 200
        config.write_text('log_level = "info"\nport = 1\n[limits]\nburst = 7\n')
        served.process.send_signal(signal.SIGHUP)
        until(lambda: "read again and are in force" in served.log, "reloaded")
        assert "the changed setting limits counts after a restart" in served.log
        assert served.asked("/ready") == 200
    finally:
        served.stop()


@pytest.mark.parametrize("lost", ["tams.toml", "policies"])
def test_a_reload_never_falls_back_to_defaults(tmp_path: Path, lost: str) -> None:
    shutil.copytree(ROOT / "policies", tmp_path / "policies")
    (tmp_path / "tams.toml").write_text("documentation = false\n")
    served = Served(tmp_path)
    served.start()
    try:
        (tmp_path / lost).rename(tmp_path / "moved")
        served.process.send_signal(signal.SIGHUP)
        until(lambda: "Nothing was reloaded" in served.log, "refused")
        assert httpx.get(f"{served.url}/docs", timeout=30).status_code == 401
        (tmp_path / "moved").rename(tmp_path / lost)
        served.process.send_signal(signal.SIGHUP)
        until(lambda: "read again and are in force" in served.log, "reloaded")
    finally:
        served.stop()


def test_a_rolling_restart_behind_nginx_fails_nobody(tmp_path: Path) -> None:
    program = binary("nginx")
    if program is None:
        pytest.skip("nginx is not installed; .ci/run installs it where there is apt")
    port = free_port()
    public = {"public_url": f"http://127.0.0.1:{port}", "stop__drain_s": "1.5", "stop__grace_s": "20"}
    pair = [Served(tmp_path, **public) for _ in range(2)]
    for served in pair:
        served.start()
    try:
        with (
            nginx(program, tmp_path, [served.port for served in pair], port),
            Load(f"http://127.0.0.1:{port}", "newsroom", secret(tmp_path), 8) as load,
        ):
            until(lambda: load.done["POST"] > 50, "loaded")
            for served in pair * 2:
                before, began_s = load.done.total(), time.monotonic()
                served.process.send_signal(signal.SIGTERM)
                until(lambda s=served: s.process.poll() is not None, "stopped")
                served.start()
                until(lambda n=before: load.done.total() > n + 50, "going on")
                print(f"restarted in {time.monotonic() - began_s:.1f} s")
        print(dict(load.done))
        assert load.failed == []
    finally:
        for served in pair:
            if served.process.poll() is None:
                served.stop()


def test_stopping_says_so_before_it_stops(tmp_path: Path) -> None:
    served = Served(tmp_path, stop__drain_s="60")
    served.start()
    served.process.send_signal(signal.SIGTERM)
    until(lambda: served.asked("/ready") == 503, "not ready")
    assert served.asked("/health") == 200
    assert served.stop() == -signal.SIGTERM, "a second signal ends the waiting"
