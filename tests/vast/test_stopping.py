"""A store stops in time though the cluster of its metadata went away."""

from __future__ import annotations

import time
from pathlib import Path
from typing import Any

import pytest

from store import app, errors
from store.app import run_store
from store.keeping import VastSettings
from store.work.jobs import JOBS
from tests.store.harness import KEY, settings_of
from tests.vast.metadata_support import opened
from tests.vast_emulator import Fault


async def test_in_a_hurry_calls_share_their_time_and_then_are_refused(emulator: Any) -> None:
    async with opened(emulator) as vast:
        await vast.lease("a", "me", 1, 2)
        vast.hurry(60)
        await vast.lease("a", "me", 1, 2)
        vast.hurry(0)
        vast.hurry(60)
        with pytest.raises(errors.Unavailable):
            await vast.lease("a", "me", 1, 2)


async def test_a_store_stops_though_its_cluster_hangs(
    tmp_path: Path, emulator: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(app, "CLOSING_S", 0.5)
    vast = VastSettings(
        endpoints=(emulator.endpoint,),
        bucket=emulator.bucket,
        access_key=emulator.access_key,
        secret_key=emulator.secret_key,
        timeout_s=2.0,
        deadline_s=6.0,
    )
    settings = settings_of(tmp_path, metadata="vast", vast=vast)
    keys = (KEY,)
    running = run_store(settings, media_keys=keys, cursor_keys=keys, webhook_keys=keys, jobs=JOBS)
    async with running:
        emulator.faults.add(Fault("hang", times=None, seconds=60))
        stopping = time.monotonic()
    # One deadline for what was under way, and not one for each of the jobs and leases.
    assert time.monotonic() - stopping < 3 * vast.deadline_s
