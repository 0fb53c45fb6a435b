"""Where an issuer's endpoints are: OpenID Connect discovery, or RFC 8414 where there is none."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import httpx

from proxy.errors import Unavailable
from proxy.identity.config import IssuerConfig
from proxy.identity.keys import Key, fetch_document, parse_jwks


@dataclass(frozen=True, slots=True)
class Endpoints:
    """What the metadata of an issuer names."""

    jwks_url: str | None
    introspection_url: str | None


class Discovery:
    """Finds an issuer's endpoints and keys. One instance per issuer; remembers the last good metadata."""

    def __init__(self, config: IssuerConfig, client: httpx.AsyncClient) -> None:
        self._config = config
        self._client = client
        self._endpoints: Endpoints | None = None

    async def keys(self) -> tuple[Key, ...]:
        """The issuer's keys. Raises Unavailable."""
        stated = self._config.jwks_url
        url = stated or (await self.endpoints()).jwks_url
        if url is None:
            raise Unavailable(f"The metadata of issuer {self._config.alias} names no key set")
        try:
            return parse_jwks(await fetch_document(self._client, url))
        except Unavailable:
            # The endpoints may have moved: look them up again next time.
            self._endpoints = None
            raise

    async def introspection_url(self) -> str:
        """Where opaque tokens are asked about. Raises Unavailable."""
        stated = self._config.introspection.url if self._config.introspection is not None else None
        url = stated or (await self.endpoints()).introspection_url
        if url is None:
            raise Unavailable(f"The metadata of issuer {self._config.alias} names no introspection endpoint")
        return url

    async def endpoints(self) -> Endpoints:
        """The endpoints, from memory or from the issuer. Raises Unavailable."""
        if self._endpoints is None:
            self._endpoints = await self._discover()
        return self._endpoints

    async def _discover(self) -> Endpoints:
        try:
            document = await fetch_document(self._client, oidc_url(self._config.issuer))
        except Unavailable:
            # The one function drags much in that who has no issuers does not wait for.
            from authlib.oauth2.rfc8414 import get_well_known_url

            url = get_well_known_url(self._config.issuer, external=True)
            document = await fetch_document(self._client, url)
        return parse_metadata(document, self._config.issuer)


def oidc_url(issuer: str) -> str:
    """OpenID Connect Discovery 4: appended to the issuer, whatever path that has."""
    return issuer.removesuffix("/") + "/.well-known/openid-configuration"


def parse_metadata(document: dict[str, Any], issuer: str) -> Endpoints:
    """The endpoints of this issuer's metadata.

    Raises Unavailable when it speaks of another issuer (RFC 8414 3.3), or when an https issuer sends us to a
    place that is not.
    """
    if document.get("issuer") != issuer:
        raise Unavailable("The issuer's metadata is of another issuer")
    urls: list[str | None] = []
    for name in ("jwks_uri", "introspection_endpoint"):
        url = document.get(name)
        if url is not None and not isinstance(url, str):
            raise Unavailable(f"The issuer's metadata has no usable {name}")
        if url is not None and not url.startswith("https://") and issuer.startswith("https://"):
            raise Unavailable(f"The issuer's {name} is not https")
        urls.append(url)
    return Endpoints(*urls)
