"""What operators set: environment variables `TAMS_*` and a TOML file, all problems reported at once.

This is the one place that reads the environment. Nested names are written with two underscores
(`TAMS_URLS__LIFETIME_S`); lists and objects in a variable are JSON. The environment beats a `.env` file, and
that the TOML file.
"""

from __future__ import annotations

import json
import os
import re
from collections.abc import Mapping
from pathlib import Path
from typing import Annotated, Any, Final, Literal, Self, TypeVar
from urllib.parse import urlsplit

from pydantic import (
    Field,
    SecretStr,
    ValidationError,
    field_validator,
    model_validator,
)
from pydantic_settings import (
    BaseSettings,
    EnvSettingsSource,
    InitSettingsSource,
    PydanticBaseSettingsSource,
    SettingsConfigDict,
    SettingsError,
)

from store import older
from store.events.addresses import Addresses
from store.files import SettingsFiles
from store.keeping import PREFIX, Backends, BackendSettings, UrlSettings, VastSettings
from store.kvconfig import InvalidStores, imported
from store.older import MAIN_STORE, STORES
from store.rate import Rate
from store.serving import LimitSettings, MetricsSettings, Section, StopSettings, TlsSettings

CONFIG = "TAMS_CONFIG"
ENV_FILE = "TAMS_ENV_FILE"
DEFAULT_BACKEND_ID = "5f0c5d4e-9f57-4b3a-8a53-6f1f6a1d2c01"
ARCHIVE_BACKEND_ID = "5f0c5d4e-9f57-4b3a-8a53-6f1f6a1d2c02"
Port = Annotated[int, Field(ge=0, le=65535)]
_BLANK: Final = re.compile(r"[\x00-\x20\x7f\s]")
LONGEST_S = 100 * 366 * 86_400
"""No duration is longer: a hundred years, which in nanoseconds is still a number that databases hold."""
S = TypeVar("S", bound="StoreSettings")


class InvalidSettings(Exception):
    """The settings cannot be used. `problems`: everything that is wrong, one sentence each."""

    def __init__(self, problems: list[str]) -> None:
        self.problems = problems
        super().__init__("\n".join(problems))


class KeySettings(Section):
    """The key-value API at /store: on which storage backend (by id or label; the default one) objects of over
    64 KiB are kept, how long one may be, and from which length on clients fetch it from the backend itself
    by a signed URL (never). `rate_per_s` requests of one caller, on average (no limit), `burst` at once."""

    backend: str | None = None
    most_bytes: Annotated[int, Field(ge=1, le=5 << 40)] = 5 << 30
    redirect_bytes: Annotated[int, Field(ge=1)] | None = None
    rate_per_s: Annotated[float, Field(gt=0, le=1e6)] | None = None
    burst: Annotated[int, Field(ge=1)] = 100

    def rate(self) -> Rate | None:
        """The limit on requests, None without one."""
        return None if self.rate_per_s is None else Rate(self.rate_per_s, self.burst)


class EventSettings(Section):
    """Webhooks and live streams. `receivers`: hosts, addresses and networks that are not public and that
    webhooks, and URLs that clients register, may lead to all the same. `kept_s`: after so long an event is
    forgotten, though a webhook has not taken it. `streams`: live streams at once in one process."""

    receivers: tuple[str, ...] = ()
    kept_s: Annotated[int, Field(ge=86_400, le=LONGEST_S)] = 7 * 86_400
    streams: Annotated[int, Field(ge=0)] = 1000

    @field_validator("receivers")
    @classmethod
    def _known(cls, value: tuple[str, ...]) -> tuple[str, ...]:
        Addresses.of(value)
        return value

    def addresses(self) -> Addresses:
        """Where URLs of clients may lead."""
        return Addresses.of(self.receivers)


class StreamSettings(Section):
    """Live streams. `backend`: id or label of where entries are sealed, by default the default backend. What
    a stream's own tags leave open is kept for ever, or by `max_len` entries, `max_age_s`, `max_bytes`."""

    backend: str | None = None
    max_len: Annotated[int | None, Field(ge=1)] = None
    max_age_s: Annotated[int | None, Field(ge=1, le=LONGEST_S)] = None
    max_bytes: Annotated[int | None, Field(ge=1)] = None


class StoreSettings(BaseSettings):
    """Settings of the store, alone or inside the proxy."""

    model_config = SettingsConfigDict(
        env_prefix=PREFIX,
        env_nested_delimiter="__",
        extra="forbid",
        frozen=True,
        nested_model_default_partial_update=True,
    )

    host: str = Field("127.0.0.1", description="The address to listen on.")
    port: Port = Field(8000, description="The port to listen on.")
    public_url: str | None = Field(
        None, description="What clients call; by default http and the address listened on."
    )
    workers: Annotated[int, Field(ge=1, le=64)] = Field(1, description="Processes that share the port.")
    tls: TlsSettings = Field(TlsSettings(), description="TLS on the port itself.")
    limits: LimitSettings = Field(LimitSettings(), description="What one worker process bears.")
    stop: StopSettings = Field(StopSettings(), description="How the server stops.")
    metrics: MetricsSettings = Field(MetricsSettings(), description="Figures for Prometheus.")
    data: Path = Field(Path("data"), description="The folder of metadata, local media and secrets.")
    keyring_secret: Annotated[SecretStr, Field(min_length=32)] | None = Field(
        None, description="A secret that keys are derived from where there are none yet, the same everywhere."
    )
    name: str = Field("TAMS", description="The service's name, until POST /service sets another.")
    description: str = Field("A Time-addressable Media Store", description="Its description, likewise.")
    log_level: Literal["debug", "info", "warning", "error"] = Field("info", description="How much is logged.")
    log_format: Literal["auto", "text", "json"] = Field(
        "auto", description="auto: text on a terminal, JSON otherwise."
    )
    storage_backends: tuple[BackendSettings, ...] = Field(
        (), description="Where media are kept; by default one folder below the data folder."
    )
    metadata: Literal["sqlite", "vast"] = Field(
        "sqlite", description="Where metadata are kept: a file in the data folder, or a VAST cluster."
    )
    vast: VastSettings = Field(VastSettings(), description="The VAST cluster.")
    urls: UrlSettings = Field(UrlSettings(), description="How long signed URLs live.")
    keys: KeySettings = Field(KeySettings(), description="The key-value API at /store.")
    events: EventSettings = Field(EventSettings(), description="Webhooks and live streams.")
    streams: StreamSettings = Field(StreamSettings(), description="Live streams at /streams and /data.")
    min_object_timeout_s: Annotated[int, Field(ge=300, le=LONGEST_S)] = Field(
        86_400, description="How long an allocated object may stay unregistered."
    )
    page: Annotated[int, Field(ge=1)] = Field(100, description="Items on a page by default.")
    page_most: Annotated[int, Field(ge=1, le=10_000)] = Field(1000, description="Items on a page at most.")
    delete_inline: Annotated[int, Field(ge=1)] = Field(
        1000, description="Segments that a DELETE removes before it answers 202."
    )
    collect_orphans: bool = Field(
        False,
        description="Remove local media that no object names; not with metadata restored from a backup.",
    )
    verify_uploads: bool = Field(False, description="Refuse segments whose bytes were not uploaded.")
    trust_created_by: bool = Field(False, description="Clients may say who created and updated a flow.")
    max_body_bytes: Annotated[int, Field(ge=1024)] = Field(
        16 << 20, description="The longest request body, media uploads apart."
    )

    @model_validator(mode="after")
    def _complete(self) -> Self:
        problems = self.vast.problems() if self.metadata == "vast" else []
        if self.tls.certificate is None and self.tls.key is not None:
            problems.append(f"{PREFIX}TLS__CERTIFICATE: a key without a certificate is of no use")
        if "page" in self.model_fields_set and self.page > self.page_most:
            problems.append(f"{PREFIX}PAGE: is more than {PREFIX}PAGE_MOST, {self.page_most}")
        if problems:
            raise ValueError("; ".join(problems))
        return self

    @field_validator("public_url")
    @classmethod
    def _is_called(cls, value: str | None) -> str | None:
        if value is not None:
            check_url(value)
        return value

    @field_validator("log_level", mode="before")
    @classmethod
    def _lower(cls, value: object) -> object:
        return value.lower() if isinstance(value, str) else value

    def base_url(self) -> str:
        """What clients call, without a trailing slash."""
        if self.public_url is not None:
            return self.public_url.rstrip("/")
        host = f"[{self.host}]" if ":" in self.host else self.host
        scheme = "http" if self.tls.certificate is None else "https"
        return f"{scheme}://{host}:{self.port}"

    def backends(self) -> Backends:
        """The configured storage backends, or the default one on local files."""
        if self.storage_backends:
            return [backend.config(self.data) for backend in self.storage_backends]
        default = BackendSettings(id=DEFAULT_BACKEND_ID, label="local", default=True)
        return [default.config(self.data)]

    def with_archive(self, auth_class: str) -> Backends:
        """The same; where none is configured, with a second local folder for those of a class."""
        if self.storage_backends:
            return StoreSettings.backends(self)
        tags: dict[str, str | list[str]] = {"auth_classes": [auth_class]}
        folder = self.data / "archive"
        archive = BackendSettings(id=ARCHIVE_BACKEND_ID, label="archive", folder=folder, tags=tags)
        return [*StoreSettings.backends(self), archive.config(self.data)]


def check_url(text: str) -> None:
    """ValueError for what is no URL of a server: http or https, a host, perhaps a port and a path."""
    parts = urlsplit(text)
    if parts.scheme not in ("http", "https") or not parts.hostname or _BLANK.search(text):
        raise ValueError("must be an http or https URL")
    if parts.username is not None or "?" in text or "#" in text:
        raise ValueError("must hold no credentials, query or fragment")
    if parts.port == 0:
        raise ValueError("must not name port 0")


def parse(
    settings: type[S], environ: Mapping[str, str] | None = None, files: SettingsFiles | None = None
) -> S:
    """The settings that an environment (this process's by default), its `.env` file and its TOML file make.

    `files`: those of an earlier call, when settings are read again; what it read has still to be there.
    Raises `InvalidSettings` with every problem, unknown `TAMS_*` names among them.
    """
    given = environment() if environ is None else dict(environ)
    files = files or SettingsFiles()
    try:
        given = older.chosen(files.variables(given.pop(ENV_FILE, None), ".env")) | given
    except (OSError, ValueError) as exc:
        raise InvalidSettings([f"{ENV_FILE}: {exc}"]) from exc
    given.pop(ENV_FILE, None)
    aliases = older.spelt(given)
    try:
        said = older.translated(given)
    except ValueError as exc:
        raise InvalidSettings([str(exc)]) from exc
    given |= {name: said[name] for name in said if name in given or _field(name) in settings.model_fields}
    named = given.pop(CONFIG, None)
    problems = _unknown(settings, given)
    if STORES in given and f"{PREFIX}STORAGE_BACKENDS" not in given:
        problems += _import_stores(given)
    try:
        chosen = _with_sources(settings, given, files.toml(named, "tams.toml"))()
    except ValidationError as exc:
        problems += [_problem(error, aliases) for error in exc.errors(include_url=False)]
    except SettingsError as exc:
        problems += _no_json(exc, given)
    except OSError as exc:
        problems.append(f"{CONFIG}: {exc}")
    except ValueError as exc:
        problems.append(f"{CONFIG}: {named or 'tams.toml'}: {exc}")
    if problems:
        raise InvalidSettings(problems)
    return chosen


def parse_shared(settings: type[S], environ: Mapping[str, str] | None = None) -> S:
    """As `parse`, from an environment and a file that are also somebody else's: names that are none of these
    settings are passed over."""
    given = environment() if environ is None else dict(environ)
    kept = {CONFIG, ENV_FILE, *(name for name in given if _field(name) in settings.model_fields)}
    ours = {name: given[name] for name in given if name in kept or not name.startswith(PREFIX)}

    class Shared(settings):  # type: ignore[valid-type,misc]
        model_config = SettingsConfigDict(extra="ignore")

    Shared.__name__ = settings.__name__
    return parse(Shared, ours)


def _unknown(settings: type[StoreSettings], given: Mapping[str, str]) -> list[str]:
    ours = [name for name in given if name.startswith(PREFIX)]
    known = settings.model_fields
    unknown = [n for n in ours if _field(n) not in known]
    return [f"{name}: there is no such setting" for name in unknown]


def _field(name: str) -> str:
    """The setting that a variable is about."""
    return name.split("__")[0].removeprefix(PREFIX).lower()


def _import_stores(given: dict[str, str]) -> list[str]:
    """Take over the storage backends of another server's file; what is wrong with it."""
    path = Path(given[STORES])
    try:
        backends = imported(path.read_text(), given, given.get(MAIN_STORE))
    except (OSError, UnicodeDecodeError) as exc:
        return [f"{STORES}: {exc}"]
    except InvalidStores as exc:
        return [f"{STORES}: {path}: {problem}" for problem in exc.problems]
    given[f"{PREFIX}STORAGE_BACKENDS"] = json.dumps(backends)
    return []


def environment() -> dict[str, str]:
    """The variables of this process."""
    return dict(os.environ)


def _with_sources(settings: type[S], given: Mapping[str, str], filed: dict[str, Any]) -> type[S]:
    class Env(EnvSettingsSource):
        def _load_env_vars(self) -> Mapping[str, str | None]:
            return {name.lower(): value for name, value in given.items()}

    class Sourced(settings):  # type: ignore[valid-type,misc]
        @classmethod
        def settings_customise_sources(
            cls, settings_cls: type[BaseSettings], **_: PydanticBaseSettingsSource
        ) -> tuple[PydanticBaseSettingsSource, ...]:
            return Env(settings_cls), InitSettingsSource(settings_cls, filed)

    Sourced.__name__ = settings.__name__
    return Sourced


def _no_json(exc: SettingsError, given: Mapping[str, str]) -> list[str]:
    """Which variables of the field that could not be read are no JSON."""
    found = re.search(r'field "(\w+)"', str(exc))
    if found is None:
        return [str(exc)]
    names = [name for name in given if _field(name) == found[1].lower() and not _is_json(given[name])]
    return [f"{name}: must be JSON" for name in names or [PREFIX + found[1].upper()]]


def _is_json(text: str) -> bool:
    """Whether a value can be read; what does not begin as a list or an object is taken as it is."""
    try:
        return not text.lstrip().startswith(("[", "{")) or json.loads(text) is not None
    except (ValueError, RecursionError):
        return False


def _problem(error: Any, aliases: Mapping[str, str]) -> str:
    if not error["loc"]:
        return str(error["msg"]).removeprefix("Value error, ")
    where = PREFIX + "__".join(str(piece) for piece in error["loc"]).upper()
    where = next((old for ours, old in aliases.items() if f"{where}__".startswith(f"{ours}__")), where)
    if error["type"] == "extra_forbidden":
        return f"{where}: there is no such setting"
    return f"{where}: {error['msg'].removeprefix('Value error, ')}"


def effective(settings: BaseSettings) -> dict[str, Any]:
    """The settings as plain JSON values, secrets masked."""
    return settings.model_dump(mode="json")
