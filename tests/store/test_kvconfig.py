"""The YAML of the other key-value server becomes our storage backends."""

from __future__ import annotations

import os
import tomllib
from pathlib import Path
from typing import Any

import pytest
from typer.testing import CliRunner

from proxy.app import Settings
from store.__main__ import app
from store.kvconfig import InvalidStores, imported, toml
from store.media.config import FilesConfig, S3Config, problems
from store.media.signing import Lifetime
from store.media.sigv4 import Keys
from store.settings import InvalidSettings, StoreSettings, parse

EXAMPLE = """
stores:
  local:
    type: FilesystemStore
    config:
      root_path: ${DATA:-./objects}
  cloud:
    type: s3
    bucket_name: ifcb
    endpoint_url: ${ENDPOINT}
    access_key: "${ACCESS:-nobody}"
    secret_key: 'a"b\\c${EMPTY:-é}'
    prefix: /some/where
    verify: false
  quick: {type: MemoryStore}
main: ${MAIN:-cloud}
"""
ENVIRON = {"ENDPOINT": "https://s3.test", "ACCESS": "key", "EMPTY": ""}


def without_ids(backends: list[dict[str, Any]]) -> list[dict[str, Any]]:
    return [{name: value for name, value in each.items() if name != "id"} for each in backends]


def test_stores_become_backends() -> None:
    assert without_ids(imported(EXAMPLE, ENVIRON)) == [
        {"label": "local", "type": "files", "folder": "./objects", "default": False},
        {
            "label": "cloud",
            "type": "s3",
            "bucket": "ifcb",
            "endpoints": ["https://s3.test"],
            "access_key": "key",
            "secret_key": 'a"b\\cé',
            "prefix": "some/where/",
            "verify_tls": False,
            "default": True,
        },
        {"label": "quick", "type": "memory", "default": False},
    ]


def test_variables_choose() -> None:
    found = imported(EXAMPLE, {**ENVIRON, "MAIN": "local", "DATA": "/srv"})
    assert [each["default"] for each in found] == [True, False, False]
    assert found[0]["folder"] == "/srv"
    assert [each["default"] for each in imported(EXAMPLE, ENVIRON, "quick")] == [False, False, True]


def test_ids_stay_the_same() -> None:
    first, again = imported(EXAMPLE, ENVIRON), imported(EXAMPLE, {**ENVIRON, "DATA": "/elsewhere"})
    assert [each["id"] for each in first] == [each["id"] for each in again]
    assert len({each["id"] for each in first}) == 3


def test_what_is_printed_is_configuration(tmp_path: Path) -> None:
    found = imported(EXAMPLE, ENVIRON)
    file = tmp_path / "tams.toml"
    file.write_text(toml(found))
    assert tomllib.loads(file.read_text()) == {"storage_backends": found}
    configs = parse(StoreSettings, {"TAMS_CONFIG": str(file)}).backends()
    assert problems(configs, Lifetime()) == []
    local, cloud, quick = configs
    assert isinstance(local, FilesConfig) and local.folder == Path("objects")
    assert isinstance(cloud, S3Config) and cloud.credentials == Keys("key", 'a"b\\cé', None)
    assert isinstance(quick, FilesConfig) and quick.folder is None and quick.product == "memory"


@pytest.mark.parametrize(
    ("name", "kind"),
    [
        ("FilesystemStore", "files"),
        ("HashdirStore", "files"),
        ("local", "files"),
        ("file_system", "files"),
        ("BucketStore", "s3"),
        ("AsyncBucketStore", "s3"),
        ("S3", "s3"),
        ("DictStore", "memory"),
        ("in-memory", "memory"),
    ],
)
def test_types_go_by_several_names(name: str, kind: str) -> None:
    options = {"files": "path: /x", "s3": "bucket: bbb", "memory": ""}[kind]
    (found,) = imported(f"stores:\n  one:\n    type: {name}\n    {options}\n", {})
    assert (found["type"], found["default"]) == (kind, True)


WRONG = {
    "not: [yaml": "not YAML",
    "[]": "must be an object",
    "main: a": "stores: must be an object",
    "stores: {}": "stores: must be an object",
    "stores: {a: {type: memory}, b: {type: memory}}": "main: None is none of the stores",
    "stores: {a: {type: memory}}\nmain: b": "main: 'b' is none of the stores",
    "stores: {a: {type: tape}}": "stores.a.type: 'tape'",
    "stores: {a: 5}": "stores.a.type",
    "stores: {a: {type: memory, size: 5}}": "stores.a.size: is not known here",
    "stores: {a: {type: files}}": "stores.a: has no folder",
    "stores: {a: {type: s3}}": "stores.a: has no bucket",
    "stores: {a: {type: files, root: x, path: y}}": "stores.a.path: is said twice",
    "stores: {a: {type: files, root: '${NOWHERE}'}}": "the variable NOWHERE is not set",
    "stores: {a: {type: files, root: [x]}}": "stores.a.root: must be a text",
    "stores: {a: {type: s3, bucket: b, verify: maybe}}": "must be true or false",
    "stores: {a: {type: memory}}\nplugins: []": "plugins: is not known here",
}


@pytest.mark.parametrize("text", WRONG)
def test_what_is_wrong_is_told(text: str) -> None:
    with pytest.raises(InvalidStores) as caught:
        imported(text, {})
    assert WRONG[text] in str(caught.value)


def test_everything_that_is_wrong_is_told_at_once() -> None:
    with pytest.raises(InvalidStores) as caught:
        imported("stores: {a: {type: tape}, b: {type: files}}\nmain: c\nmore: 1", {})
    assert len(caught.value.problems) == 4


def test_the_command_prints_it(tmp_path: Path) -> None:
    file = tmp_path / "stores.yaml"
    file.write_text(EXAMPLE)
    told = CliRunner().invoke(app, ["kv-config", "import", str(file), "--main", "local"], env=ENVIRON)
    assert told.exit_code == 0, told.output
    assert [each["default"] for each in tomllib.loads(told.output)["storage_backends"]] == [
        True,
        False,
        False,
    ]
    for arguments in ([str(file), "--main", "nowhere"], [str(tmp_path / "absent")]):
        assert CliRunner().invoke(app, ["kv-config", "import", *arguments], env=ENVIRON).exit_code == 2


def test_names_of_the_other_server_s_environment(tmp_path: Path) -> None:
    file = tmp_path / "stores.yaml"
    file.write_text(EXAMPLE)
    environ = {
        "TAMS_CONFIG": os.devnull,
        "TOKENS_FILE": "/run/tokens.json",
        "LOG_LEVEL": "WARNING",
        "STORAGE_CONFIG": str(file),
        "STORAGE_NAME": "local",
        "WORKERS": "1",
        **ENVIRON,
    }
    settings = parse(Settings, environ)
    assert (settings.api_keys, settings.log_level) == (Path("/run/tokens.json"), "warning")
    assert [backend.default for backend in settings.backends()] == [True, False, False]
    alone = parse(StoreSettings, environ)
    assert [backend.label for backend in alone.backends()] == ["local", "cloud", "quick"]
    ours = parse(Settings, {**environ, "TAMS_API_KEYS": "/ours", "TAMS_STORAGE_BACKENDS": "[]"})
    assert (ours.api_keys, ours.storage_backends) == (Path("/ours"), ())


def test_a_storage_file_that_cannot_be_is_a_problem_among_others(tmp_path: Path) -> None:
    file = tmp_path / "stores.yaml"
    file.write_text("stores: {a: {type: tape}}")
    for path, told in ((file, "tape"), (tmp_path / "absent", "No such file")):
        with pytest.raises(InvalidSettings) as caught:
            parse(Settings, {"STORAGE_CONFIG": str(path), "TAMS_PORT": "high"})
        assert told in str(caught.value) and "TAMS_PORT" in str(caught.value)
