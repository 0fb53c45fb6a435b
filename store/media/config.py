"""What an operator says about a storage backend, and what is wrong with it."""

from __future__ import annotations

import re
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Literal
from urllib.parse import urlsplit

from store import errors
from store.media.protocol import Backend, Media
from store.media.signing import Lifetime, Signer
from store.media.sigv4 import MOST_EXPIRES_S, Keys

_UUID = re.compile(r"[0-9a-f]{8}-[0-9a-f]{4}-[1-5][0-9a-f]{3}-[89ab][0-9a-f]{3}-[0-9a-f]{12}")
_BUCKET = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]{1,254}")
_REGION = re.compile(r"[A-Za-z0-9-]{1,64}")
_PREFIX = re.compile(r"[A-Za-z0-9!_.*'()/-]*")


@dataclass(frozen=True, slots=True)
class KeyFiles:
    """Files that hold the credentials, as Kubernetes mounts secrets; read when the backend is built."""

    access_key: Path
    secret_key: Path
    session_token: Path | None = None


@dataclass(frozen=True, slots=True)
class Chain:
    """The AWS chain: environment, shared files, container and instance roles; they are kept fresh."""

    profile: str | None = None


Credentials = Keys | KeyFiles | Chain


@dataclass(frozen=True, slots=True, kw_only=True)
class BackendConfig:
    """What every storage backend has (TAMS 8.2 storage-backend.json); `id` is a UUID."""

    id: str
    label: str | None = None
    provider: str
    product: str
    region: str | None = None
    availability_zone: str | None = None
    default: bool = False
    tags: dict[str, str | list[str]] = field(default_factory=dict)

    def described(self) -> Backend:
        """The backend as the API tells of it."""
        return Backend(
            id=self.id,
            label=self.label,
            provider=self.provider,
            store_product=self.product,
            region=self.region,
            availability_zone=self.availability_zone,
            default=self.default,
            tags=self.tags,
        )


@dataclass(frozen=True, slots=True, kw_only=True)
class FilesConfig(BackendConfig):
    """A folder, or, for tests, this process's memory (None). `quota_bytes` bounds the bytes of its objects;
    None leaves that to the file system."""

    provider: str = "local"
    product: str = "files"
    folder: Path | None
    quota_bytes: int | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class S3Config(BackendConfig):
    """A bucket on any S3.

    `endpoints` are what this server calls: several addresses of one service, of which a healthy one is used.
    `public_endpoints` are what clients call and what is signed: none (the same), one for all, or one for
    each endpoint. No endpoint means AWS in `region`.
    """

    provider: str = "aws"
    product: str = "s3"
    bucket: str
    prefix: str = ""
    endpoints: tuple[str, ...] = ()
    public_endpoints: tuple[str, ...] = ()
    addressing: Literal["path", "virtual", "auto"] = "auto"
    credentials: Credentials = Chain()
    verify_tls: bool = True
    ca_file: Path | None = None
    timeout_s: int = 4
    attempts: int = 3
    part_bytes: int = 16 << 20
    copy_part_bytes: int = 128 << 20

    def urls(self) -> tuple[str, ...]:
        """The endpoints, AWS's own when none is configured."""
        return self.endpoints or (f"https://s3.{self.region or 'us-east-1'}.amazonaws.com",)

    def public_urls(self) -> tuple[str, ...]:
        """For each endpoint, what clients call."""
        urls = self.urls()
        if len(self.public_endpoints) == 1:
            return self.public_endpoints * len(urls)
        return self.public_endpoints or urls


def problems(configs: Sequence[FilesConfig | S3Config], lifetime: Lifetime) -> list[str]:
    """Everything that is wrong with the backends, in words that name the setting; no I/O."""
    found: list[str] = []
    ids = [config.id for config in configs]
    found += [f"storage backend {id}: the id is used twice" for id in sorted(set(ids)) if ids.count(id) > 1]
    if sum(config.default for config in configs) > 1:
        found.append("storage backends: more than one is the default")
    if not configs:
        found.append("storage backends: there is none")
    if lifetime.longest_s > MOST_EXPIRES_S:
        found.append("storage backends: signed URLs are valid for at most seven days")
    for config in configs:
        own = _s3_problems(config) if isinstance(config, S3Config) else _files_problems(config)
        found += [f"storage backend {config.id}: {problem}" for problem in own]
    return found


def build(
    config: FilesConfig | S3Config,
    *,
    public_url: str,
    signer: Signer,
    lifetime: Lifetime,
    clock: Callable[[], float],
) -> Media:
    """The backend. Reads credential files and makes folders, and may ask the AWS chain for credentials.

    `public_url` is where this server's own `/media` is; `clock` gives Unix seconds. Raises
    `errors.Unavailable` with what is wrong.
    """
    if isinstance(config, FilesConfig):
        from store.media.files import Files

        return Files(
            config.described(),
            config.folder,
            public_url=public_url,
            signer=signer,
            lifetime=lifetime,
            quota_bytes=config.quota_bytes,
        )
    # boto3 is an extra, costs start-up time and memory, and is imported only where there is an S3.
    try:
        from store.media.s3 import S3
    except ImportError as exc:
        raise errors.Unavailable(f"storage backend {config.id}: S3 needs boto3 (the extra 's3')") from exc
    return S3(config, lifetime=lifetime, clock=clock)


def _files_problems(config: FilesConfig) -> list[str]:
    found = _common_problems(config)
    if config.quota_bytes is not None and config.quota_bytes < 1:
        found.append("quota_bytes is under one byte")
    return found


def _s3_problems(config: S3Config) -> list[str]:
    found = _common_problems(config)
    checks = [
        (_BUCKET.fullmatch(config.bucket), "bucket is not a bucket's name"),
        (config.region is None or _REGION.fullmatch(config.region), "region is not a region's name"),
        (_PREFIX.fullmatch(config.prefix), "prefix has characters that need escaping"),
        (not config.prefix.startswith("/"), "prefix starts with a slash"),
        (config.prefix == "" or config.prefix.endswith("/"), "prefix does not end in a slash"),
        (
            len(config.public_endpoints) in {0, 1, len(config.urls())},
            "public_endpoints: give one, or as many as endpoints",
        ),
        (len(set(config.endpoints)) == len(config.endpoints), "endpoints: one is named twice"),
        (
            config.addressing != "virtual" or "_" not in config.bucket,
            "bucket cannot be part of a host's name",
        ),
        (1 <= config.timeout_s <= 60, "timeout_s is not between 1 and 60"),
        (1 <= config.attempts <= 10, "attempts is not between 1 and 10"),
        (5 << 20 <= config.part_bytes <= 1 << 30, "part_bytes is not between 5 MiB and 1 GiB"),
        (5 << 20 <= config.copy_part_bytes <= 5 << 30, "copy_part_bytes is not between 5 MiB and 5 GiB"),
    ]
    found += [problem for holds, problem in checks if not holds]
    for name, urls in (("endpoints", config.endpoints), ("public_endpoints", config.public_endpoints)):
        found += [f"{name}: {problem}" for url in urls if (problem := _url_problem(url))]
    if isinstance(config.credentials, Keys) and not (
        config.credentials.access_key and config.credentials.secret_key
    ):
        found.append("credentials: access_key and secret_key are both needed")
    return found


def _common_problems(config: BackendConfig) -> list[str]:
    found = []
    if not _UUID.fullmatch(config.id):
        found.append("id is not a UUID in lower case")
    for name in ("provider", "product"):
        if not getattr(config, name):
            found.append(f"{name} is empty")
    return found


def _url_problem(url: str) -> str | None:
    try:
        parts = urlsplit(url)
        port_is_right = parts.port is None or parts.port > 0
    except ValueError:
        return "not a URL"
    if parts.scheme not in {"http", "https"} or not parts.hostname or not port_is_right:
        return "not an http or https URL"
    if parts.username or parts.password:
        return "a URL with credentials in it"
    if parts.query or parts.fragment:
        return "a URL with a query or a fragment"
    return None
