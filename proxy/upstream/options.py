"""What operators set about a foreign upstream."""

from __future__ import annotations

import ssl
from pathlib import Path
from typing import Annotated, Self

from pydantic import BaseModel, ConfigDict, Field, SecretStr, field_validator, model_validator

from proxy.upstream.connection import Limits
from proxy.upstream.headers import Base

Seconds = Annotated[float, Field(gt=0, le=600)]


class UpstreamOptions(BaseModel):
    """How to reach an upstream, and as whom: by client credentials (`token_url`, `client_id`), by HTTP Basic
    (`user`) or by a token in the URL (`access_token`). Secrets come from here or from the file named."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    token_url: str | None = None
    client_id: str | None = None
    client_secret: SecretStr | None = None
    client_secret_file: Path | None = None
    scope: str | None = None
    user: str | None = None
    password: SecretStr | None = None
    password_file: Path | None = None
    access_token: SecretStr | None = None
    access_token_file: Path | None = None
    ca_file: Path | None = None
    connect_s: Seconds = 3.0
    read_s: Seconds = 10.0
    deadline_s: Seconds = 30.0
    connections: Annotated[int, Field(ge=1, le=10_000)] = 100
    answer_bytes: Annotated[int, Field(ge=1 << 16)] = 64 << 20
    media_url_s: Annotated[int, Field(ge=30, le=86_400)] = 900

    @model_validator(mode="after")
    def _one_way(self) -> Self:
        ways = {
            "token_url": self.token_url is not None,
            "user": self.user is not None,
            "access_token": self.access_token is not None or self.access_token_file is not None,
        }
        if sum(ways.values()) > 1:
            raise ValueError("choose one way to log in: token_url, user or access_token")
        if self.token_url is not None:
            if not self.client_id or not (self.client_secret or self.client_secret_file):
                raise ValueError("token_url needs client_id, and client_secret or client_secret_file")
        elif self.client_id or self.client_secret or self.client_secret_file:
            raise ValueError("client_id and client_secret need token_url")
        if self.user is not None and not (self.password or self.password_file):
            raise ValueError("user needs password or password_file")
        return self

    @field_validator("token_url")
    @classmethod
    def _is_url(cls, value: str | None) -> str | None:
        if value is not None:
            Base.of(value)
        return value

    def limits(self) -> Limits:
        """As the client takes them."""
        return Limits(self.connect_s, self.read_s, self.connections, self.answer_bytes)

    def tls(self) -> ssl.SSLContext | None:
        """What certificates are trusted, None for those of the system. Raises `OSError`."""
        return ssl.create_default_context(cafile=self.ca_file) if self.ca_file is not None else None


def secret(value: SecretStr | None, file: Path | None) -> str:
    """A secret given directly or in a file. Raises `OSError`."""
    if value is not None:
        return value.get_secret_value()
    return file.read_text().strip() if file is not None else ""


class MountedUpstream(UpstreamOptions):
    """One of several upstreams: what is below `prefix`, or asked for by the name `host`, is there.

    It has policies, clients, keys and state of its own: in `policies`, and in a folder `name` of the data
    folder. `public_url`: what its clients call, by default the proxy's own with the prefix.
    """

    name: Annotated[str, Field(pattern=r"^[a-z0-9][a-z0-9-]{0,62}$")]
    url: str
    policies: Path
    prefix: Annotated[str, Field(pattern=r"^(/[A-Za-z0-9._~-]+)+$")] | None = None
    host: str | None = None
    public_url: str | None = None

    @model_validator(mode="after")
    def _one_place(self) -> Self:
        Base.of(self.url)
        if (self.prefix is None) == (self.host is None):
            raise ValueError("either prefix or host tells what it answers for")
        if self.host is not None and self.public_url is None:
            raise ValueError("host needs public_url")
        return self
