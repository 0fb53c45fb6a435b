"""The environment and the `.env` file of an older deployment do as they did."""

from __future__ import annotations

import stat
from pathlib import Path

import pytest

from proxy.app import Settings
from proxy.errors import InvalidSettings
from proxy.identity.keyring import PURPOSES, Keyring, derived
from proxy.start import first_start
from store.media.config import S3Config
from store.media.sigv4 import Keys
from store.settings import InvalidSettings as Invalid
from store.settings import StoreSettings, parse

SECRET = "an older deployment's secret key, long enough"


@pytest.fixture(autouse=True)
def elsewhere(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)


S3 = {
    "S3_ENDPOINT_URL": "10.0.0.1, 10.0.0.2:9000",
    "S3_ACCESS_KEY_ID": "access",
    "S3_SECRET_ACCESS_KEY": "hidden",
    "S3_BUCKET_NAME": "media",
    "S3_USE_SSL": "false",
}


def test_its_bucket_is_the_storage_backend() -> None:
    (backend,) = parse(Settings, S3).backends()
    assert isinstance(backend, S3Config)
    assert (backend.bucket, backend.default) == ("media", True)
    assert backend.endpoints == ("http://10.0.0.1", "http://10.0.0.2:9000")
    assert backend.credentials == Keys("access", "hidden", None)
    assert backend.id == parse(Settings, S3).backends()[0].id, "the same at every start"


@pytest.mark.parametrize(
    ("said", "endpoints"),
    [
        ({"S3_ENDPOINT_URL": "https://s3.example", "S3_USE_SSL": "false"}, ("https://s3.example",)),
        ({"S3_ENDPOINT_URL": '["http://a", "http://b"]'}, ("http://a", "http://b")),
        ({"S3_ENDPOINT_URL": "s3.example"}, ("https://s3.example",)),
        ({}, ()),
    ],
)
def test_endpoints_may_be_spelt_in_several_ways(said: dict[str, str], endpoints: tuple[str, ...]) -> None:
    (backend,) = parse(StoreSettings, {"S3_BUCKET_NAME": "media", **said}).storage_backends
    assert backend.endpoints == endpoints


@pytest.mark.parametrize(
    ("environ", "level"),
    [
        ({"DEBUG": "true"}, "debug"),
        ({"DEBUG": "false"}, "info"),
        ({"DEBUG": "1", "LOG_LEVEL": "WARNING"}, "warning"),
        ({"DEBUG": "1", "TAMS_LOG_LEVEL": "error"}, "error"),
    ],
)
def test_debug_is_a_log_level(environ: dict[str, str], level: str) -> None:
    assert parse(Settings, environ).log_level == level


def test_ours_count_where_both_are_set() -> None:
    own = '[{"id": "0f2b2b6c-6c0a-4d3f-9a54-0a1b2c3d4e5f", "label": "own", "default": true}]'
    settings = parse(Settings, {**S3, "TAMS_STORAGE_BACKENDS": own, "WORKERS": "3", "TAMS_WORKERS": "2"})
    assert [backend.label for backend in settings.backends()] == ["own"]
    assert settings.workers == 2


def test_a_file_is_read_and_the_environment_beats_it(tmp_path: Path) -> None:
    lines = ["# older", "PORT=9001", "export HOST='127.0.0.9'", 'TAMS_NAME="a # name"', "OTHER=x", "EMPTY"]
    (tmp_path / ".env").write_text("\n".join(lines))
    settings = parse(Settings, {"TAMS_PORT": "9002"})
    assert (settings.port, settings.host, settings.name) == (9002, "127.0.0.9", "a # name")
    (tmp_path / "named").write_text("PORT=9003")
    assert parse(Settings, {"TAMS_ENV_FILE": "named"}).port == 9003


def test_the_file_may_name_the_stores_of_a_key_value_server(tmp_path: Path) -> None:
    (tmp_path / "stores.yaml").write_text("stores: {a: {type: memory}, b: {type: file, root: x}}\nmain: a\n")
    (tmp_path / ".env").write_text("STORAGE_CONFIG=stores.yaml\nSTORAGE_NAME=b\nTOKENS_FILE=keys.json\n")
    settings = parse(Settings, {})
    assert [backend.type for backend in settings.storage_backends if backend.default] == ["files"]
    assert settings.api_keys == Path("keys.json")


def test_a_wrong_name_in_the_file_is_refused(tmp_path: Path) -> None:
    (tmp_path / ".env").write_text("TAMS_PROT=1\n")
    with pytest.raises(Invalid, match="TAMS_PROT: there is no such setting"):
        parse(Settings, {})


def test_what_is_no_list_is_refused() -> None:
    with pytest.raises(Invalid, match="S3_ENDPOINT_URL: must be URLs"):
        parse(Settings, {"S3_BUCKET_NAME": "media", "S3_ENDPOINT_URL": "[nonsense"})


def test_the_proxys_alone_are_not_forced_upon_the_store() -> None:
    assert parse(StoreSettings, {"SECRET_KEY": SECRET, "TOKENS_FILE": "keys.json"}).port == 8000


def test_servers_with_the_same_secret_have_the_same_keyring(tmp_path: Path) -> None:
    rings = []
    for name in ("one", "two"):
        first_start(parse(Settings, {"SECRET_KEY": SECRET, "TAMS_DATA": str(tmp_path / name)}))
        path = tmp_path / name / "keyring.json"
        assert stat.S_IMODE(path.stat().st_mode) == 0o600
        rings.append(Keyring.load(path))
    one, two = rings
    assert one.signing[0].public_jwk() == two.signing[0].public_jwk()
    secrets = [one.secrets(purpose)[0] for purpose in PURPOSES[1:]]
    assert secrets == [two.secrets(purpose)[0] for purpose in PURPOSES[1:]]
    assert len(set(secrets)) == 3, "no key serves two purposes"
    assert derived(b"another", 0).signing[0].kid != one.signing[0].kid


def test_a_keyring_that_is_there_stays(tmp_path: Path) -> None:
    Keyring.create(tmp_path / "keyring.json", 0)
    before = (tmp_path / "keyring.json").read_bytes()
    first_start(parse(Settings, {"SECRET_KEY": SECRET, "TAMS_DATA": str(tmp_path)}))
    assert (tmp_path / "keyring.json").read_bytes() == before


def test_a_secret_that_is_too_short_is_none_of_ours_by_the_older_name() -> None:
    assert parse(Settings, {"SECRET_KEY": "short"}).keyring_secret is None
    with pytest.raises(Invalid, match="TAMS_KEYRING_SECRET"):
        parse(Settings, {"TAMS_KEYRING_SECRET": "short"})


def test_servers_on_vast_may_share_a_secret_instead_of_a_file(tmp_path: Path) -> None:
    vast = {
        "VAST_ENDPOINT": "http://127.0.0.1:9",
        "VAST_ACCESS_KEY": "a",
        "VAST_SECRET_KEY": "b",
        "VAST_BUCKET": "c",
        "TAMS_DATA": str(tmp_path),
    }
    with pytest.raises(InvalidSettings, match="TAMS_KEYRING_SECRET"):
        first_start(parse(Settings, vast))
    first_start(parse(Settings, {**vast, "SECRET_KEY": SECRET}))
    assert Keyring.load(tmp_path / "keyring.json").signing


def test_the_secret_is_not_shown() -> None:
    settings = parse(Settings, {"SECRET_KEY": SECRET})
    assert SECRET not in repr(settings) and SECRET not in settings.model_dump_json()
