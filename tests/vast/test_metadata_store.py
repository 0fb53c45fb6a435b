"""A whole store on an emulated VAST cluster: by settings, through its API."""

from __future__ import annotations

import os
from collections.abc import AsyncIterator, Iterator
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

import proxy.errors
from proxy.app import Settings, first_start
from store.keeping import VastSettings
from store.metadata.opening import vast_config
from store.settings import InvalidSettings, StoreSettings, parse
from tests.store.harness import Tams, running_tams
from tests.vast_emulator import Fault


def of(emulator: Any) -> dict[str, Any]:
    """The settings of a store on an emulator."""
    return {
        "metadata": "vast",
        "vast": VastSettings(
            endpoints=(emulator.endpoint,),
            bucket=emulator.bucket,
            access_key=emulator.access_key,
            secret_key=emulator.secret_key,
            timeout_s=10,
            deadline_s=20,
        ),
    }


@pytest.fixture
async def tams(emulator: Any, tmp_path: Path) -> AsyncIterator[Tams]:
    async with running_tams(tmp_path, **of(emulator)) as running:
        yield running


@contextmanager
def down(tams: Tams, emulator: Any, fault: Fault) -> Iterator[None]:
    """The cluster fails for as long as the context lasts, and nobody waits long for it."""
    metadata: Any = tams.store.metadata
    patient = metadata.database.config
    metadata.database.config = replace(patient, deadline_s=1.0)
    emulator.faults.add(fault)
    yield
    emulator.faults.clear()
    metadata.database.config = patient


async def test_media_are_ingested_and_found_again(tams: Tams) -> None:
    flow = await tams.flow(label="on a cluster", tags={"place": ["here", "there"]})
    ids = [await tams.segment(flow["id"], f"[{n}:0_{n + 1}:0)") for n in range(5)]
    assert [each["object_id"] for each in await tams.segments(flow["id"])] == ids
    assert [each["id"] for each in await tams.get("/flows", **{"tag.place": "there"})] == [flow["id"]]
    assert await tams.get("/flows", timerange="[7:0_9:0)") == []
    assert (await tams.get(f"/objects/{ids[0]}"))["referenced_by_flows"] == [flow["id"]]
    await tams.delete(f"/flows/{flow['id']}")
    await tams.work()
    assert await tams.get("/flows") == []
    assert (await tams.client.get(f"/objects/{ids[0]}")).status_code == 404


async def test_its_status_is_told(tams: Tams, emulator: Any) -> None:
    status = await tams.get("/vast/status")
    assert status["vast_connected"] is True
    assert (status["endpoint"], status["buckets"]) == (emulator.endpoint, ["vastdb"])
    assert status["metadata"]["version"] == "5.5.0.0"
    for path in ("/vast/buckets", "/api/v1/vast/buckets"):
        assert await tams.get(path) == {"buckets": ["vastdb"]}
    with down(tams, emulator, Fault("drop", times=None)):
        status = await tams.get("/vast/status")
    assert (status["vast_connected"], status["buckets"]) == (False, ["vastdb"])


async def test_a_cluster_that_is_down_is_no_empty_store(tams: Tams, emulator: Any) -> None:
    flow = await tams.flow()
    with down(tams, emulator, Fault("status", times=None, status=503)):
        for path in ("/flows", f"/flows/{flow['id']}", f"/flows/{flow['id']}/segments", "/ready"):
            assert (await tams.client.get(path)).status_code == 503
    assert [each["id"] for each in await tams.get("/flows")] == [flow["id"]]


async def test_no_keyring_is_made_by_itself(emulator: Any, tmp_path: Path) -> None:
    settings = Settings(data=tmp_path, **of(emulator))
    with pytest.raises(proxy.errors.InvalidSettings, match="tams-proxy keyring create"):
        first_start(settings)


def test_an_older_deployment_is_understood(tmp_path: Path) -> None:
    environ = {
        "TAMS_CONFIG": os.devnull,
        "VAST_ENDPOINT": "http://one:80, http://two",
        "VAST_ACCESS_KEY": "access",
        "VAST_SECRET_KEY": "hidden",
        "VAST_BUCKET": "bucket",
        "VAST_SCHEMA": "older",
    }
    settings = parse(StoreSettings, environ)
    config = vast_config(settings)
    assert settings.metadata == "vast"
    assert config.endpoints == ("http://one:80", "http://two")
    assert (config.bucket, config.schema) == ("bucket", "older")
    assert (config.access_key, config.secret_key) == ("access", "hidden")
    assert "hidden" not in repr(config) and "hidden" not in repr(settings)


def test_keys_are_read_from_files(tmp_path: Path) -> None:
    (tmp_path / "a").write_text("access\n")
    (tmp_path / "s").write_text("secret\n")
    section = VastSettings(access_key_file=tmp_path / "a", secret_key_file=tmp_path / "s")
    assert section.keys() == ("access", "secret")


def test_what_is_missing_is_said_at_once(tmp_path: Path) -> None:
    environ = {"TAMS_CONFIG": os.devnull, "TAMS_METADATA": "vast"}
    with pytest.raises(InvalidSettings) as caught:
        parse(StoreSettings, {**environ, "TAMS_VAST__ENDPOINTS": '["http://a/b"]'})
    for name in ("ENDPOINTS", "BUCKET", "ACCESS_KEY", "SECRET_KEY"):
        assert f"TAMS_VAST__{name}" in str(caught.value)
