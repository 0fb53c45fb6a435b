"""Where media and metadata are kept, as settings: storage backends, signed URLs, a VAST cluster."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Annotated, Any, Literal, Self

from pydantic import Field, SecretStr, field_validator, model_validator

from store.media.config import Chain, FilesConfig, KeyFiles, S3Config
from store.media.sigv4 import Keys
from store.models.common import AUTH_CLASSES, tag_problem
from store.serving import Section

PREFIX = "TAMS_"
Backends = list[FilesConfig | S3Config]
Seconds = Annotated[int, Field(ge=1)]

_CREDENTIALS = {
    "access_key": ("secret_key",),
    "secret_key": ("access_key",),
    "session_token": ("access_key", "secret_key"),
    "access_key_file": ("secret_key_file",),
    "secret_key_file": ("access_key_file",),
    "session_token_file": ("access_key_file", "secret_key_file"),
}
"""Which other settings each credential of S3 is nothing without."""


class BackendSettings(Section):
    """A storage backend. `type` files keeps objects in `folder`, s3 in `bucket`, memory (for tests) nowhere
    that outlives the process.

    Credentials of S3: `access_key` and `secret_key` here or, better, in files named by
    `access_key_file` and `secret_key_file`; without either, the AWS chain. Half of a pair is refused.
    """

    id: str
    label: str | None = None
    type: Literal["files", "s3", "memory"] = "files"
    provider: str | None = None
    product: str | None = None
    region: str | None = None
    availability_zone: str | None = None
    default: bool = False
    tags: dict[str, str | list[str]] = {}
    folder: Path | None = None
    quota_bytes: int | None = None
    bucket: str | None = None
    prefix: str = ""
    endpoints: tuple[str, ...] = ()
    public_endpoints: tuple[str, ...] = ()
    addressing: Literal["path", "virtual", "auto"] = "auto"
    verify_tls: bool = True
    ca_file: Path | None = None
    access_key: SecretStr | None = None
    secret_key: SecretStr | None = None
    session_token: SecretStr | None = None
    access_key_file: Path | None = None
    secret_key_file: Path | None = None
    session_token_file: Path | None = None
    profile: str | None = None

    @field_validator("tags")
    @classmethod
    def _are_tags(cls, value: dict[str, str | list[str]]) -> dict[str, str | list[str]]:
        found = [problem for name, item in value.items() if (problem := tag_problem(name, item)) is not None]
        if value.get(AUTH_CLASSES) == []:
            found.append(f"{AUTH_CLASSES} is empty: name a class, or leave the tag out for everybody")
        if found:
            raise ValueError("; ".join(found))
        return value

    @model_validator(mode="after")
    def _whole(self) -> Self:
        # Half a key would quietly become whatever the AWS chain finds.
        given = [name for name in _CREDENTIALS if getattr(self, name) is not None]
        missing = sorted({each for name in given for each in _CREDENTIALS[name]} - set(given))
        if missing:
            raise ValueError("; ".join(f"{name} is missing" for name in missing))
        if "access_key" in given and "access_key_file" in given:
            raise ValueError("access_key and access_key_file are both given")
        if given and self.profile is not None:
            raise ValueError(f"profile is of no use beside {given[0]}")
        return self

    def config(self, data: Path) -> FilesConfig | S3Config:
        """As the media backends take it."""
        common: dict[str, Any] = {
            "id": self.id,
            "label": self.label,
            "region": self.region,
            "availability_zone": self.availability_zone,
            "default": self.default,
            "tags": self.tags,
        }
        said = {name: getattr(self, name) for name in ("provider", "product") if getattr(self, name)}
        if self.type == "memory":
            said = {"product": "memory", **said}
            return FilesConfig(**common, **said, folder=None, quota_bytes=self.quota_bytes)
        if self.type == "files":
            folder = self.folder or data / "media"
            return FilesConfig(**common, **said, folder=folder, quota_bytes=self.quota_bytes)
        return S3Config(
            **common,
            **said,
            bucket=self.bucket or "",
            prefix=self.prefix,
            endpoints=self.endpoints,
            public_endpoints=self.public_endpoints,
            addressing=self.addressing,
            verify_tls=self.verify_tls,
            ca_file=self.ca_file,
            credentials=self._credentials(),
        )

    def _credentials(self) -> Keys | KeyFiles | Chain:
        if self.access_key is not None and self.secret_key is not None:
            token = self.session_token.get_secret_value() if self.session_token else None
            return Keys(self.access_key.get_secret_value(), self.secret_key.get_secret_value(), token)
        if self.access_key_file is not None and self.secret_key_file is not None:
            return KeyFiles(self.access_key_file, self.secret_key_file, self.session_token_file)
        return Chain(self.profile)


class UrlSettings(Section):
    """Signed URLs: how long they are valid at most and at least, and for how long one is handed out again."""

    lifetime_s: Seconds = 900
    shortest_s: Annotated[int, Field(ge=30)] = 300
    interval_s: Seconds = 300


class VastSettings(Section):
    """The VAST cluster that holds the metadata: its endpoints (URLs; more of them for failover), the bucket
    of a database view, and the schema in it that the tables are in.

    Credentials: `access_key` and `secret_key` here or, better, in files named by `access_key_file` and
    `secret_key_file`. `timeout_s` bounds one request, `deadline_s` all that one call does; `threads` is how
    many calls are under way at most. `ca_file` replaces the system's authorities.
    """

    endpoints: tuple[str, ...] = ()
    bucket: str | None = None
    db_schema: str = "tams"
    access_key: SecretStr | None = None
    secret_key: SecretStr | None = None
    access_key_file: Path | None = None
    secret_key_file: Path | None = None
    verify_tls: bool = True
    ca_file: Path | None = None
    timeout_s: Annotated[float, Field(gt=0, le=30)] = 4.0
    deadline_s: Annotated[float, Field(gt=0, le=60)] = 8.0
    threads: Annotated[int, Field(ge=1, le=64)] = 10

    def keys(self) -> tuple[str, str]:
        """The access key and the secret key. Raises `OSError` for a file that cannot be read."""
        return _secret(self.access_key, self.access_key_file), _secret(self.secret_key, self.secret_key_file)

    def problems(self) -> list[str]:
        """What is missing to use a cluster."""
        missing = [name for name in ("endpoints", "bucket") if not getattr(self, name)]
        missing += [
            name
            for name in ("access_key", "secret_key")
            if getattr(self, name) is None and getattr(self, f"{name}_file") is None
        ]
        found = [f"{PREFIX}VAST__{name.upper()}: metadata in VAST needs it" for name in missing]
        for endpoint in self.endpoints:
            if not re.fullmatch(r"https?://[^/?#\s]+/?", endpoint):
                found.append(f"{PREFIX}VAST__ENDPOINTS: {endpoint!r} is no URL of a host and port alone")
        return found


def _secret(value: SecretStr | None, file: Path | None) -> str:
    if file is not None:
        return file.read_text().strip()
    return "" if value is None else value.get_secret_value()
