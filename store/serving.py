"""How a server listens, as settings: worker processes, TLS, limits, how it stops. `server.py` acts on it."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Literal, Self

from pydantic import BaseModel, ConfigDict, Field, model_validator

from store.rate import Rate

Count = Annotated[int, Field(ge=1)]


class Section(BaseModel):
    """A group of settings; unknown names are refused."""

    model_config = ConfigDict(extra="forbid", frozen=True)


class TlsSettings(Section):
    """TLS on the port itself, where `certificate` (a PEM file, the chain behind it) is set. `key` is the file
    of its key, by default the same one. Both are read again when they change. `minimum`: the oldest version
    that is spoken. `client_ca`: a PEM file of the authorities whose client certificates are accepted; one
    that is added counts at once, one that is taken out until a restart."""

    certificate: Path | None = None
    key: Path | None = None
    key_password_file: Path | None = None
    client_ca: Path | None = None
    minimum: Literal["1.2", "1.3"] = "1.2"

    @model_validator(mode="after")
    def _served(self) -> Self:
        if self.client_ca is not None and self.certificate is None:
            raise ValueError("client_ca needs certificate: client certificates come over TLS")
        return self


class LimitSettings(Section):
    """What one worker process bears: connections at once, bytes of a request's head, and, where `rate_per_s`
    is set, requests of one caller a second in the long run, and `burst` of them at once."""

    connections: Count = 10_000
    header_bytes: Annotated[int, Field(ge=1024, le=1 << 20)] = 64 * 1024
    rate_per_s: Annotated[float, Field(gt=0, le=1e6)] | None = None
    burst: Count = 100

    def rate(self) -> Rate | None:
        """The limit on requests of one caller, None without one."""
        return None if self.rate_per_s is None else Rate(self.rate_per_s, self.burst)


class StopSettings(Section):
    """How a server stops. For `drain_s` it still takes requests while `/ready` says that it will not for
    long; then it finishes what it has begun, for `grace_s` at most."""

    drain_s: Annotated[float, Field(ge=0, le=600)] = 0.0
    grace_s: Annotated[int, Field(ge=0, le=3600)] = 5


class MetricsSettings(Section):
    """Figures for Prometheus. `/metrics` is for administrators; with a `port`, one of its own at `host` tells
    them, and `/health` and `/ready`, to whoever reaches it."""

    host: str = "127.0.0.1"
    port: Annotated[int, Field(ge=1, le=65535)] | None = None
