"""What operators set about an OpenFGA server."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Self

from pydantic import BaseModel, ConfigDict, Field, SecretStr, field_validator, model_validator

from proxy.upstream.headers import Base


class OpenFgaOptions(BaseModel):
    """Which server decides, and how it knows us: by a preshared key (`api_token`) or by client credentials
    (`token_url`, `client_id`). Secrets come from here or from the file named. Without `url` the embedded
    evaluator decides. `model` pins a model, of a store given by its id; by default what
    `tams-proxy policy apply` left in the data folder counts."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    url: str | None = None
    store: Annotated[str, Field(min_length=3, max_length=64)] = "tams"
    model: Annotated[str, Field(pattern=r"^[0-7][0-9A-HJKMNP-TV-Z]{25}$")] | None = None
    api_token: SecretStr | None = None
    api_token_file: Path | None = None
    token_url: str | None = None
    client_id: str | None = None
    client_secret: SecretStr | None = None
    client_secret_file: Path | None = None
    scope: str | None = None
    audience: str | None = None
    ca_file: Path | None = None
    timeout_s: Annotated[float, Field(gt=0, le=2)] = 1.5
    list_cap: Annotated[int, Field(ge=1)] = 1000

    @field_validator("url", "token_url")
    @classmethod
    def _is_url(cls, value: str | None) -> str | None:
        if value is not None:
            Base.of(value)
        return value

    @model_validator(mode="after")
    def _fits(self) -> Self:
        key = self.api_token is not None or self.api_token_file is not None
        if key and self.token_url is not None:
            raise ValueError("choose one way to log in: api_token or token_url")
        secret = self.client_secret is not None or self.client_secret_file is not None
        if self.token_url is not None and not (self.client_id and secret):
            raise ValueError("token_url needs client_id, and client_secret or client_secret_file")
        if self.token_url is None and (self.client_id or secret or self.scope or self.audience):
            raise ValueError("client_id, client_secret, scope and audience need token_url")
        if self.model is not None and len(self.store) != 26:
            raise ValueError("model needs the id of its store in store")
        return self
