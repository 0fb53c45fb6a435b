"""Settings: one parse, every problem at once, nothing unknown."""

from __future__ import annotations

import json
import os
import uuid
from pathlib import Path

import pytest

from proxy.app import Settings, load_settings
from proxy.errors import InvalidSettings as Unusable
from proxy.start import policy_folder
from store.files import SettingsFiles
from store.settings import InvalidSettings, parse


def problems(environ: dict[str, str]) -> str:
    with pytest.raises(InvalidSettings) as caught:
        parse(Settings, environ)
    return str(caught.value)


def test_defaults_need_nothing(tmp_path: Path) -> None:
    settings = parse(Settings, {"TAMS_CONFIG": os.devnull})
    assert settings.base_url() == "http://127.0.0.1:8000"
    assert [backend.default for backend in settings.backends()] == [True]


def test_attack_4_all_problems_are_reported_at_once() -> None:
    told = problems({"TAMS_PORT": "high", "TAMS_PAGE": "0", "TAMS_PROT": "1", "TAMS_LOG_LEVEL": "loud"})
    assert all(name in told for name in ("TAMS_PORT", "TAMS_PAGE", "TAMS_PROT", "TAMS_LOG_LEVEL"))


@pytest.mark.parametrize("name", ["TAMS_URLS__LIFE", "TAMS_NOTHING", "TAMS_SECRET_KEY"])
def test_attack_4_an_unknown_name_fails(name: str) -> None:
    assert name in problems({name: "1"})


def test_an_unknown_name_in_the_file_fails(tmp_path: Path) -> None:
    file = tmp_path / "tams.toml"
    file.write_text("port = 9000\nprot = 1\n[urls]\nlifetme_s = 3\n")
    told = problems({"TAMS_CONFIG": str(file)})
    assert "TAMS_PROT" in told
    assert "TAMS_URLS__LIFETME_S" in told


def test_the_environment_beats_the_file(tmp_path: Path) -> None:
    file = tmp_path / "tams.toml"
    file.write_text('port = 9000\nname = "from the file"\n[urls]\nlifetime_s = 1200\nshortest_s = 400\n')
    environ = {"TAMS_CONFIG": str(file), "TAMS_PORT": "9001", "TAMS_URLS__LIFETIME_S": "1000"}
    settings = parse(Settings, environ)
    assert (settings.port, settings.name) == (9001, "from the file")
    assert (settings.urls.lifetime_s, settings.urls.shortest_s) == (1000, 400)


def test_lists_are_json_in_the_environment() -> None:
    backend = '[{"id": "0f2b2b6c-6c0a-4d3f-9a54-0a1b2c3d4e5f", "type": "s3", "bucket": "media"}]'
    settings = parse(Settings, {"TAMS_STORAGE_BACKENDS": backend})
    assert settings.storage_backends[0].bucket == "media"
    assert "TAMS_STORAGE_BACKENDS" in problems({"TAMS_STORAGE_BACKENDS": "[{"}).upper()


@pytest.mark.parametrize(
    ("classes", "told"),
    [
        (["*"], "each class in tag 'auth_classes' must be"),
        ("a b", "each class in tag 'auth_classes' must be"),
        ([], "auth_classes is empty"),
    ],
)
def test_a_storage_backend_of_no_class_or_of_an_impossible_one_is_refused(classes: object, told: str) -> None:
    backend = {"id": str(uuid.uuid4()), "tags": {"auth_classes": classes}}
    found = problems({"TAMS_STORAGE_BACKENDS": json.dumps([backend])})
    assert "TAMS_STORAGE_BACKENDS" in found and told in found


KEYS = ("access_key", "secret_key", "session_token")
KEY_FILES = tuple(f"{name}_file" for name in KEYS)


@pytest.mark.parametrize(
    ("said", "told"),
    [
        (("access_key",), "secret_key is missing"),
        (("secret_key",), "access_key is missing"),
        (("session_token",), "access_key is missing; secret_key is missing"),
        (("access_key_file",), "secret_key_file is missing"),
        (("session_token_file", "secret_key_file"), "access_key_file is missing"),
        (("access_key", "secret_key_file"), "access_key_file is missing; secret_key is missing"),
        (("access_key", "secret_key", "access_key_file", "secret_key_file"), "both given"),
        (("access_key", "secret_key", "profile"), "profile is of no use"),
    ],
)
def test_half_of_a_key_is_not_taken_for_none(said: tuple[str, ...], told: str) -> None:
    backend = {"id": "0f2b2b6c-6c0a-4d3f-9a54-0a1b2c3d4e5f", "type": "s3", "bucket": "media"}
    found = problems({"TAMS_STORAGE_BACKENDS": json.dumps([backend | {name: "canary" for name in said}])})
    assert "TAMS_STORAGE_BACKENDS" in found and told in found and "canary" not in found


@pytest.mark.parametrize("said", [(), ("profile",), KEYS, KEYS[:2], KEY_FILES])
def test_whole_keys_and_none_are_taken(said: tuple[str, ...]) -> None:
    backend = {"id": "0f2b2b6c-6c0a-4d3f-9a54-0a1b2c3d4e5f", "type": "s3", "bucket": "media"}
    backends = json.dumps([backend | {name: "canary" for name in said}])
    assert len(parse(Settings, {"TAMS_STORAGE_BACKENDS": backends}).backends()) == 1


def test_a_broken_file_is_named(tmp_path: Path) -> None:
    file = tmp_path / "tams.toml"
    file.write_text("port = = 1")
    assert "TAMS_CONFIG" in problems({"TAMS_CONFIG": str(file)})


@pytest.mark.parametrize("name", ["TAMS_CONFIG", "TAMS_ENV_FILE"])
@pytest.mark.parametrize("value", ["gone/tams.toml", "", ".", "latin-1"])
def test_a_named_file_that_cannot_be_read_is_refused(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, name: str, value: str
) -> None:
    monkeypatch.chdir(tmp_path)
    (tmp_path / "latin-1").write_bytes('name = "Caf\xe9"\n'.encode("latin-1"))
    assert name in problems({name: value})


@pytest.mark.parametrize("name", ["tams.toml", ".env"])
def test_a_file_that_leads_nowhere_is_not_taken_for_an_absent_one(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, name: str
) -> None:
    monkeypatch.chdir(tmp_path)
    (tmp_path / name).symlink_to("gone")
    assert "No such file" in problems({})
    (tmp_path / name).unlink()
    (tmp_path / name).mkdir()
    assert "Is a directory" in problems({})


@pytest.mark.parametrize(("name", "text"), [("tams.toml", "documentation = false"), (".env", "PORT=9001")])
def test_a_file_that_counted_has_to_be_there_when_settings_are_read_again(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, name: str, text: str
) -> None:
    monkeypatch.chdir(tmp_path)
    files = SettingsFiles()
    absent = parse(Settings, {}, files).model_dump()
    (tmp_path / name).write_text(text)
    assert parse(Settings, {}, files).model_dump() != absent
    (tmp_path / name).unlink()
    with pytest.raises(InvalidSettings, match="No such file"):
        parse(Settings, {}, files)
    assert parse(Settings, {}, SettingsFiles()).model_dump() == absent


def test_only_a_policy_folder_that_nobody_named_may_be_absent(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    shipped = policy_folder(parse(Settings, {}))
    assert (shipped / "model.fga").is_file()
    for value in ("named", "policies"):
        monkeypatch.setenv("TAMS_POLICIES", value)
        with pytest.raises(Unusable, match="TAMS_POLICIES: .* is no folder"):
            policy_folder(load_settings())
    monkeypatch.delenv("TAMS_POLICIES")
    (tmp_path / "policies").symlink_to("gone")
    with pytest.raises(Unusable, match="policies is no folder"):
        policy_folder(load_settings())


def test_a_policy_folder_that_counted_is_never_replaced_by_the_shipped_one(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    files = SettingsFiles()
    shipped = policy_folder(load_settings(files))
    (tmp_path / "policies").mkdir()
    assert policy_folder(load_settings(files)) == Path("policies") != shipped
    (tmp_path / "policies").rename(tmp_path / "moved")
    with pytest.raises(Unusable, match="policies is no folder"):
        policy_folder(load_settings(files))


@pytest.mark.parametrize(
    ("name", "value"),
    [
        *(("TAMS_PUBLIC_URL", bad) for bad in ("x", "ftp://x y", "http://x y", "http://u@h", "http://h?a=1")),
        ("TAMS_PUBLIC_URL", "http://h:99999"),
        ("TAMS_PUBLIC_URL", "http://h/a b"),
        ("TAMS_TRACES__ENDPOINT", "foo"),
        ("TAMS_TRACES__ENDPOINT", "http://a b/v1/traces"),
        ("TAMS_UPSTREAM", "http://a b"),
        ("TAMS_DEFAULT_CLASS", "a b"),
        ("TAMS_DEFAULT_CLASS", ""),
        ("TAMS_PAGE", "5000"),
        ("TAMS_EVENTS__KEPT_S", "99999999999999999999"),
        ("TAMS_MIN_OBJECT_TIMEOUT_S", "99999999999999999999"),
        ("TAMS_STREAMS__MAX_AGE_S", "99999999999999999999"),
    ],
)
def test_what_cannot_work_is_refused(name: str, value: str) -> None:
    (told,) = problems({name: value}).splitlines()
    assert told.startswith(f"{name}: ")


@pytest.mark.parametrize(
    "value", ["*", "https://player.example.org", "http://[::1]:8080", "http://127.0.0.1:1"]
)
def test_an_origin_has_a_scheme_a_host_and_perhaps_a_port(value: str) -> None:
    assert parse(Settings, {"TAMS_CORS_ORIGINS": json.dumps([value])}).cors_origins == (value,)


@pytest.mark.parametrize("value", ["https://tams.example.org/", "http://[::1]:8000", "http://h/below/it"])
def test_a_public_url_may_have_a_port_and_a_path(value: str) -> None:
    assert parse(Settings, {"TAMS_PUBLIC_URL": value}).base_url() == value.rstrip("/")


def test_a_default_page_is_no_more_than_the_longest_that_is_set() -> None:
    assert parse(Settings, {"TAMS_PAGE": "5000", "TAMS_PAGE_MOST": "5000"}).page == 5000
    assert parse(Settings, {"TAMS_PAGE_MOST": "10"}).page_most == 10


@pytest.mark.parametrize(
    ("environ", "told"),
    [
        ({"PORT": "abc"}, "PORT: Input should be a valid integer"),
        ({"VAST_ENDPOINT": "["}, "VAST_ENDPOINT: must be URLs"),
        ({"S3_BUCKET_NAME": "b", "S3_ENDPOINT_URL": "[1]"}, "S3_ENDPOINT_URL: must be URLs"),
        ({"TAMS_VAST__ENDPOINTS": "["}, "TAMS_VAST__ENDPOINTS: must be JSON"),
        ({"TAMS_TRUSTED_FRONTS": '["x"]'}, "TAMS_TRUSTED_FRONTS__0: must be an address or a network"),
        ({"TAMS_CORS_ORIGINS": "*"}, "TAMS_CORS_ORIGINS: must be JSON"),
        ({"TAMS_CORS_ORIGINS": '["foo"]'}, "TAMS_CORS_ORIGINS__0: must be * or an origin"),
        ({"TAMS_CORS_ORIGINS": '["http://x/path"]'}, "TAMS_CORS_ORIGINS__0: must be * or an origin"),
        ({"TAMS_CORS_ORIGINS": '["https://x/"]'}, "TAMS_CORS_ORIGINS__0: must be * or an origin"),
        ({"TAMS_MTLS__DEFAULT_SCOPES": '["tams-api/raed"]'}, "TAMS_MTLS__DEFAULT_SCOPES__0: must be one of"),
        ({"TAMS_MTLS__SCOPES": '{"camera": ["read"]}'}, "TAMS_MTLS__SCOPES__CAMERA__0: must be one of"),
        ({"TAMS_MTLS__HEADER": "Client-Cert"}, "TAMS_MTLS: header is believed of TAMS_TRUSTED_FRONTS alone"),
    ],
)
def test_a_mistake_is_told_by_the_name_it_was_made_under(environ: dict[str, str], told: str) -> None:
    (said,) = problems(environ).splitlines()
    assert said.startswith(told)


def test_secrets_are_masked_when_shown() -> None:
    backend = (
        '[{"id": "0f2b2b6c-6c0a-4d3f-9a54-0a1b2c3d4e5f", "type": "s3", "bucket": "media",'
        ' "access_key": "AKIACANARY", "secret_key": "canary-of-a-secret"}]'
    )
    settings = parse(Settings, {"TAMS_STORAGE_BACKENDS": backend})
    assert "canary" not in str(settings.model_dump(mode="json")).lower()
    assert "canary" not in repr(settings).lower()


@pytest.mark.parametrize(("older", "ours"), [("PORT", "port"), ("HOST", "host")])
def test_an_older_name_is_an_alias_until_ours_is_set(older: str, ours: str) -> None:
    value = {"port": "9002", "host": "127.0.0.2"}[ours]
    assert str(getattr(parse(Settings, {older: value}), ours)) == value
    both = parse(Settings, {older: value, "TAMS_PORT": "9003", "TAMS_HOST": "127.0.0.3"})
    assert (both.port, both.host) == (9003, "127.0.0.3")
