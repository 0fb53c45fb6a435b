"""What an operator says about identity, as plain values: settings build them, everything here reads them."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from ipaddress import ip_address
from pathlib import Path
from typing import Literal
from urllib.parse import urlsplit

from proxy.identity.fronts import Network

RSA_ALGORITHMS = frozenset({"RS256", "RS384", "RS512", "PS256", "PS384", "PS512"})
EC_ALGORITHMS = {"P-256": "ES256", "P-384": "ES384", "P-521": "ES512"}
ALGORITHMS = RSA_ALGORITHMS | frozenset(EC_ALGORITHMS.values()) | {"EdDSA"}
MAX_LEEWAY_S = 60

Preset = Literal["generic", "keycloak", "cognito", "entra", "auth0"]
CertificateName = Literal["cn", "san_uri", "san_dns", "san_email", "sha256"]


@dataclass(frozen=True, slots=True)
class ClaimNames:
    """Where a token says who its bearer is.

    Each name is a claim, or a path to a nested one with dots between the steps ("realm_access.roles"); a
    claim whose own name has dots in it ("https://example.org/groups") is found first. `client` and
    `scopes`: the first that is present counts. `groups`: all that are present count together.
    """

    subject: str = "sub"
    client: tuple[str, ...] = ("client_id", "azp")
    groups: tuple[str, ...] = ("groups",)
    scopes: tuple[str, ...] = ("scope", "scp")


@dataclass(frozen=True, slots=True)
class IntrospectionConfig:
    """RFC 7662 for an issuer whose tokens are opaque. `url` None: discovered."""

    client_id: str
    client_secret: str = field(repr=False)
    url: str | None = None


@dataclass(frozen=True, slots=True)
class IssuerConfig:
    """One issuer of tokens that is trusted."""

    # Names the issuer in principals and policies: user:<alias>/<subject>.
    alias: str
    # The exact `iss`, trailing slash included.
    issuer: str
    # Accepted audiences, one of which the token must carry. For Cognito, whose access tokens have no
    # `aud`, the accepted client ids.
    audiences: tuple[str, ...] = ()
    # Sets the claim names and the further checks of a known product.
    preset: Preset = "generic"
    # Where the public keys are. None: found through the issuer's metadata.
    jwks_url: str | None = None
    # Accepted signature algorithms, never symmetric ones.
    algorithms: tuple[str, ...] = tuple(sorted(ALGORITHMS))
    # Accepted `typ` headers, without case and without "application/". A token without `typ` is accepted.
    types: tuple[str, ...] = ("jwt", "at+jwt")
    # True: a token that looks like an ID token counts too, for products whose access tokens do (Dex).
    accept_id_tokens: bool = False
    # Replaces the claim names of the preset.
    claims: ClaimNames | None = None
    # Group as the token spells it -> group of the policy. None: every group becomes "<alias>/<name>".
    # Given: groups that are not in it are dropped.
    groups: Mapping[str, str] | None = None
    # Scope as the token spells it -> scope of TAMS, for issuers that cannot issue "tams-api/read".
    scopes: Mapping[str, str] = field(default_factory=dict)
    # False: tokens of this issuer need no tams-api/ scope; groups alone decide.
    carries_scopes: bool = True
    # True: the scope tams-api/admin of this issuer makes an administrator.
    scope_admin: bool = False
    # How far into the future `nbf` and `iat` may lie, for clocks that differ.
    leeway_s: int = 30
    # Opaque tokens are asked about there.
    introspection: IntrospectionConfig | None = None

    def problems(self) -> list[str]:
        """Everything wrong with it, one sentence each; empty when it can be used."""
        found = []
        where = f"issuer {self.alias!r}"
        if not self.alias or not self.alias.isascii() or not self.alias.replace("-", "").isalnum():
            found.append(f"{where}: the alias must be letters, digits and dashes")
        if not self.issuer.startswith(("https://", "http://")):
            found.append(f"{where}: issuer {self.issuer!r} is not an http(s) URL")
        if not self.audiences and self.introspection is None:
            what = "client ids" if self.preset == "cognito" else "audiences"
            found.append(f"{where}: no accepted {what}")
        if self.preset == "auth0" and not self.issuer.endswith("/"):
            found.append(f"{where}: the issuer of Auth0 ends in /")
        unknown = sorted(set(self.algorithms) - ALGORITHMS)
        if unknown or not self.algorithms:
            found.append(f"{where}: algorithms {unknown} are not of {sorted(ALGORITHMS)}")
        if not 0 <= self.leeway_s <= MAX_LEEWAY_S:
            found.append(f"{where}: leeway_s must be 0 to {MAX_LEEWAY_S}")
        return found

    def plain_urls(self) -> list[str]:
        """Where it is asked over HTTP on other hosts: whoever is between could answer in its place."""
        asked = [self.jwks_url or self.issuer]
        if self.introspection is not None:
            asked.append(self.introspection.url or self.issuer)
        return [url for url in dict.fromkeys(asked) if url.startswith("http://") and not _is_here(url)]


def _is_here(url: str) -> bool:
    """Whether a URL is of this host, by its loopback."""
    try:
        host = urlsplit(url).hostname or ""
        return host == "localhost" or ip_address(host).is_loopback
    except ValueError:
        return False


@dataclass(frozen=True, slots=True)
class LocalConfig:
    """The built-in token endpoint and the clients it knows."""

    # The `iss` of its tokens and the origin of its metadata: the public URL, without trailing slash.
    issuer: str
    # The `aud` of its tokens.
    audience: str
    # clients.yaml of the policy folder: clients, their groups and scopes.
    clients_path: Path
    # secrets.json of the data folder: hashes only.
    secrets_path: Path
    # keyring.json of the data folder: the signing key pair.
    keyring_path: Path
    # How long its tokens live.
    token_ttl_s: int = 3600
    # Its alias; its groups are those of the policy as they stand.
    alias: str = "local"


@dataclass(frozen=True, slots=True)
class ApiKeysConfig:
    """Opaque keys from a file (`[{name, hash, created_at, expires, scopes}]`)."""

    path: Path
    alias: str = "keys"


@dataclass(frozen=True, slots=True)
class CertificateConfig:
    """Client certificates, already verified by the TLS server or by a front.

    `header`: where a front puts the certificate (RFC 9440 `Client-Cert`, or a percent-encoded PEM as nginx
    writes it), believed from `trusted_peers` only. None: no front is believed. Which authorities may sign is
    the choice of whoever verifies the chain, not made again here.
    """

    header: str | None = None
    trusted_peers: tuple[Network, ...] = ()
    # Which part of the certificate names the subject.
    name: CertificateName = "cn"
    # Name -> groups of the policy; a certificate that is not in it has none.
    groups: Mapping[str, tuple[str, ...]] = field(default_factory=dict)
    # Name -> scopes; a name that is not in it has `default_scopes`.
    scopes: Mapping[str, tuple[str, ...]] = field(default_factory=dict)
    default_scopes: tuple[str, ...] = ()
    alias: str = "mtls"


@dataclass(frozen=True, slots=True)
class IdentityConfig:
    """Every way to log in that is switched on."""

    issuers: tuple[IssuerConfig, ...] = ()
    local: LocalConfig | None = None
    api_keys: ApiKeysConfig | None = None
    certificates: CertificateConfig | None = None
    # HTTP Basic with the clients of `local` (TAMS 8.2 basic_auth).
    allow_basic: bool = False
    # `?access_token=` (TAMS 8.2 url_token_auth).
    allow_url_token: bool = False
    # A header that holds a bare token, for instance "x-api-key". None: there is none.
    api_key_header: str | None = None
    # Reverse proxies whose X-Forwarded-For is believed: failures to log in are counted by what it says.
    fronts: tuple[Network, ...] = ()

    def problems(self) -> list[str]:
        """Everything wrong with it, one sentence each; empty when it can be used."""
        found = [problem for issuer in self.issuers for problem in issuer.problems()]
        aliases = [issuer.alias for issuer in self.issuers]
        urls = [issuer.issuer for issuer in self.issuers]
        parts = (self.local, self.api_keys, self.certificates)
        aliases += [part.alias for part in parts if part is not None]
        urls += [self.local.issuer] if self.local else []
        found += [
            f"two issuers have the alias {a!r}" for a in sorted({a for a in aliases if aliases.count(a) > 1})
        ]
        found += [
            f"the issuer {u!r} is configured twice" for u in sorted({u for u in urls if urls.count(u) > 1})
        ]
        if self.allow_basic and self.local is None:
            found.append("Basic authentication needs the built-in clients")
        return found
