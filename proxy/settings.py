"""What operators set for the proxy; `app.py` puts them together with the store's."""

from __future__ import annotations

import re
from ipaddress import ip_network
from pathlib import Path
from typing import Annotated, Literal

from pydantic import (
    AfterValidator,
    BaseModel,
    BeforeValidator,
    ConfigDict,
    Field,
    SecretStr,
    ValidationInfo,
    field_validator,
)

from proxy.identity.clients import SCOPES
from proxy.identity.config import (
    ApiKeysConfig,
    CertificateConfig,
    CertificateName,
    ClaimNames,
    IdentityConfig,
    IntrospectionConfig,
    IssuerConfig,
    LocalConfig,
)
from proxy.identity.fronts import Network
from proxy.policy.options import OpenFgaOptions
from proxy.traces import TraceSettings
from proxy.upstream.headers import Base
from proxy.upstream.options import MountedUpstream, UpstreamOptions


class Section(BaseModel):
    """A group of settings; unknown names are refused."""

    model_config = ConfigDict(extra="forbid", frozen=True)


def _network(value: object) -> object:
    """A network from its text: one message, where a union would tell of each of its members."""
    try:
        return ip_network(value) if isinstance(value, str) else value
    except ValueError as exc:
        raise ValueError("must be an address or a network, as 10.0.0.0/8") from exc


def _scope(value: str) -> str:
    if value not in SCOPES:
        raise ValueError(f"must be one of {', '.join(sorted(SCOPES))}")
    return value


def _web_origin(value: str) -> str:
    """An origin as browsers spell it (RFC 6454 6.2), or `*`: any other would match none."""
    if value != "*" and not _ORIGIN.fullmatch(value):
        raise ValueError("must be * or an origin, as https://player.example.org, without a path")
    return value


_ORIGIN = re.compile(r"https?://([a-z0-9._-]+|\[[0-9a-f:.]+\])(:[0-9]{1,5})?")
ScopeName = Annotated[str, AfterValidator(_scope)]
WebOrigin = Annotated[str, AfterValidator(_web_origin)]


class ClaimSettings(Section):
    """Where a token says who its bearer is; dots lead into nested claims."""

    subject: str = "sub"
    client: tuple[str, ...] = ("client_id", "azp")
    groups: tuple[str, ...] = ("groups",)
    scopes: tuple[str, ...] = ("scope", "scp")


class IntrospectionSettings(Section):
    """RFC 7662, for an issuer of opaque tokens."""

    client_id: str
    client_secret: SecretStr
    url: str | None = None

    def config(self) -> IntrospectionConfig:
        """As the identity package takes it."""
        return IntrospectionConfig(self.client_id, self.client_secret.get_secret_value(), self.url)


class IssuerSettings(Section):
    """An OAuth2 or OpenID Connect issuer whose tokens are accepted."""

    alias: str
    issuer: str
    audiences: tuple[str, ...] = ()
    preset: Literal["generic", "keycloak", "cognito", "entra", "auth0"] = "generic"
    jwks_url: str | None = None
    algorithms: tuple[str, ...] | None = None
    types: tuple[str, ...] | None = None
    claims: ClaimSettings | None = None
    groups: dict[str, str] | None = None
    scopes: dict[str, ScopeName] = {}
    carries_scopes: bool = True
    scope_admin: bool = False
    leeway_s: int = 30
    introspection: IntrospectionSettings | None = None

    def config(self) -> IssuerConfig:
        """As the identity package takes it."""
        optional = {name: getattr(self, name) for name in ("algorithms", "types") if getattr(self, name)}
        ask = self.introspection
        return IssuerConfig(
            alias=self.alias,
            issuer=self.issuer,
            audiences=self.audiences,
            preset=self.preset,
            jwks_url=self.jwks_url,
            claims=ClaimNames(**self.claims.model_dump()) if self.claims else None,
            groups=self.groups,
            scopes=self.scopes,
            carries_scopes=self.carries_scopes,
            scope_admin=self.scope_admin,
            leeway_s=self.leeway_s,
            introspection=ask.config() if ask else None,
            **optional,
        )


class CertificateSettings(Section):
    """Client certificates, verified by the server (`TAMS_TLS__CLIENT_CA`) or by a front, which hands them on
    in `header` (RFC 9440, or percent-encoded PEM). `name` is what of one names the caller; `groups` and
    `scopes` are by that name, and who has no scopes there has `default_scopes`."""

    header: str | None = None
    name: CertificateName = "cn"
    groups: dict[str, tuple[str, ...]] = {}
    scopes: dict[str, tuple[ScopeName, ...]] = {}
    default_scopes: tuple[ScopeName, ...] = ()
    alias: str = "mtls"

    def config(self, fronts: tuple[Network, ...]) -> CertificateConfig:
        """As the identity package takes it."""
        return CertificateConfig(
            header=self.header,
            trusted_peers=fronts,
            name=self.name,
            groups=self.groups,
            scopes=self.scopes,
            default_scopes=self.default_scopes,
            alias=self.alias,
        )


class ProxySettings(BaseModel):
    """Settings of the proxy itself."""

    policies: Path = Field(
        default=Path("policies"),
        description="The policy folder; the shipped one where none is named and there is none.",
    )
    openfga: OpenFgaOptions = Field(
        default=OpenFgaOptions(), description="The OpenFGA server that decides, instead of the one inside."
    )
    issuers: tuple[IssuerSettings, ...] = Field(default=(), description="Issuers whose tokens are accepted.")
    token_endpoint: bool = Field(
        default=True, description="Whether the built-in clients can log in at /token."
    )
    token_ttl_s: Annotated[int, Field(ge=60, le=86_400)] = Field(
        default=3600, description="How long tokens of the built-in endpoint live."
    )
    allow_basic: bool = Field(
        default=False, description="Accept HTTP Basic with the built-in clients on every call."
    )
    allow_url_token: bool = Field(default=False, description="Accept ?access_token= in URLs.")
    api_key_header: str | None = Field(
        default=None, description="A header that holds a bare token, for instance x-api-key."
    )
    api_keys: Path | None = Field(default=None, description="The file of opaque API keys.")
    trusted_fronts: tuple[Annotated[Network, BeforeValidator(_network)], ...] = Field(
        default=(),
        description="Networks of reverse proxies whose X-Forwarded-For and client certificates are believed.",
    )
    mtls: CertificateSettings = Field(
        default=CertificateSettings(), description="How client certificates name their holders."
    )
    default_class: Annotated[str, Field(pattern=r"^[A-Za-z0-9_.-]{1,128}$")] | None = Field(
        default=None, description="What untagged resources count as; by default they are for administrators."
    )
    propagate_classes: bool = Field(
        default=False,
        description="Pass changes of a source's or a collection's classes on to its flows or members.",
    )
    bulk_segments: Annotated[int, Field(ge=1, le=10_000)] = Field(
        default=10_000, description="Segments that one request may register."
    )
    documentation: bool = Field(
        default=True, description="Answer /docs, /redoc and /openapi.json, for anyone."
    )
    cors_origins: tuple[WebOrigin, ...] = Field(
        default=(), description="Origins of web pages that may call the API from a browser."
    )
    traces: TraceSettings = Field(default=TraceSettings(), description="Traces by OpenTelemetry.")
    upstream: str | None = Field(
        default=None, description="The URL of a TAMS elsewhere to stand before, instead of the store inside."
    )
    upstream_options: UpstreamOptions = Field(
        default=UpstreamOptions(), description="How to reach that TAMS, and as whom."
    )
    upstreams: tuple[MountedUpstream, ...] = Field(
        default=(), description="More of them, by path prefix or host, each with policies of its own."
    )

    @field_validator("mtls")
    @classmethod
    def _has_fronts(cls, value: CertificateSettings, info: ValidationInfo) -> CertificateSettings:
        if value.header is not None and info.data.get("trusted_fronts") == ():
            raise ValueError("header is believed of TAMS_TRUSTED_FRONTS alone, and there are none")
        return value

    @field_validator("upstream")
    @classmethod
    def _is_url(cls, value: str | None) -> str | None:
        if value is not None:
            Base.of(value)
        return value

    def identity(self, data: Path, policies: Path, public_url: str) -> IdentityConfig:
        """As the identity package takes it."""
        local = LocalConfig(
            issuer=public_url,
            audience=public_url,
            clients_path=policies / "clients.yaml",
            secrets_path=data / "secrets.json",
            keyring_path=data / "keyring.json",
            token_ttl_s=self.token_ttl_s,
        )
        return IdentityConfig(
            issuers=tuple(issuer.config() for issuer in self.issuers),
            local=local if self.token_endpoint else None,
            api_keys=ApiKeysConfig(self.api_keys) if self.api_keys else None,
            certificates=self.mtls.config(self.trusted_fronts),
            fronts=self.trusted_fronts,
            allow_basic=self.allow_basic,
            allow_url_token=self.allow_url_token,
            api_key_header=self.api_key_header,
        )
