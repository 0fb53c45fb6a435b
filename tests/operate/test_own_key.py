"""The key of a store that runs alone is its own, or common to all that share the metadata."""

from __future__ import annotations

import stat
from pathlib import Path

import pytest

from store.own_key import NAME, own_key
from store.settings import InvalidSettings, StoreSettings, parse

VAST = {
    "TAMS_METADATA": "vast",
    "TAMS_VAST__ENDPOINTS": '["http://127.0.0.1:9"]',
    "TAMS_VAST__ACCESS_KEY": "a",
    "TAMS_VAST__SECRET_KEY": "b",
    "TAMS_VAST__BUCKET": "c",
}
SECRET = {"TAMS_KEYRING_SECRET": "the same secret on all of the servers"}


def settings(folder: Path, **environ: str) -> StoreSettings:
    return parse(StoreSettings, {"TAMS_DATA": str(folder), **environ})


def test_it_is_made_once_for_this_user_alone(tmp_path: Path) -> None:
    made = own_key(settings(tmp_path / "one"))
    assert len(made) == 32
    assert own_key(settings(tmp_path / "one", **SECRET)) == made != own_key(settings(tmp_path / "two"))
    assert stat.S_IMODE((tmp_path / "one" / NAME).stat().st_mode) == 0o600
    assert [each.name for each in (tmp_path / "one").iterdir()] == [NAME]


def test_servers_on_vast_share_one_or_do_not_start(tmp_path: Path) -> None:
    with pytest.raises(InvalidSettings, match="TAMS_KEYRING_SECRET"):
        own_key(settings(tmp_path / "one", **VAST))
    assert not (tmp_path / "one").exists()
    made = own_key(settings(tmp_path / "one", **VAST, **SECRET))
    assert made == own_key(settings(tmp_path / "two", **VAST, **SECRET))
    (tmp_path / "three").mkdir()
    (tmp_path / "three" / NAME).write_bytes(made)
    assert own_key(settings(tmp_path / "three", **VAST)) == made


def test_a_file_that_is_no_key_is_refused(tmp_path: Path) -> None:
    (tmp_path / NAME).write_bytes(b"short")
    with pytest.raises(InvalidSettings, match="5 of 32 bytes"):
        own_key(settings(tmp_path))
