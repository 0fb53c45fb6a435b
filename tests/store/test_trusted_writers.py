"""TAMS_TRUST_CREATED_BY: whether clients say themselves who created and updated a flow."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.store.harness import new_id, running_tams, video

THEIRS = {"created_by": "ob-truck-a", "updated_by": "ob-truck-b"}
NAMES = ("created_by", "updated_by")


async def test_a_trusted_writer_says_who_created_and_updated_a_flow(tmp_path: Path) -> None:
    async with running_tams(tmp_path, trust_created_by=True) as tams:
        flow = video()
        path = f"/flows/{flow['id']}"
        await tams.put(path, {**flow, **THEIRS}, 201)
        found = await tams.get(path)
        assert {name: found[name] for name in NAMES} == THEIRS
        await tams.put(path, {**flow, "label": "silent"})
        silent = await tams.get(path)
        assert silent["created_by"] == "ob-truck-a" and silent["updated_by"] not in ("ob-truck-b", None)
        await tams.put(path, {**flow, "label": "silent", "created_by": "ob-truck-c"})
        corrected = await tams.get(path)
        assert corrected["created_by"] == "ob-truck-c"
        assert corrected["metadata_version"] != silent["metadata_version"]
        await tams.put(path, {**flow, **{name: corrected[name] for name in NAMES}, "label": "silent"})
        assert await tams.get(path) == corrected


@pytest.mark.parametrize(("trusted", "created_by"), [(True, "ob-truck-a"), (False, "anonymous")])
async def test_a_profile_is_of_who_a_trusted_writer_says(
    tmp_path: Path, trusted: bool, created_by: str
) -> None:
    async with running_tams(tmp_path, trust_created_by=trusted) as tams:
        technical = {name: value for name, value in video().items() if name not in ("id", "source_id")}
        profile = {"id": new_id(), "label": "HD", "flow_metadata": technical, "created_by": "ob-truck-a"}
        made = await tams.post(f"/service/profiles/{profile['id']}", profile, 201)
        assert made.json()["created_by"] == created_by


async def test_others_do_not(tmp_path: Path) -> None:
    async with running_tams(tmp_path) as tams:
        flow = video()
        path = f"/flows/{flow['id']}"
        await tams.put(path, {**flow, **THEIRS}, 201)
        found = await tams.get(path)
        assert not {found[name] for name in NAMES} & set(THEIRS.values())
        await tams.put(path, {**flow, **THEIRS})
        assert await tams.get(path) == found


async def test_who_wrote_is_a_text(tmp_path: Path) -> None:
    async with running_tams(tmp_path) as tams:
        flow = video()
        await tams.put(f"/flows/{flow['id']}", {**flow, "created_by": 7}, 400)
