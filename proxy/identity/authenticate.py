"""A request's credential becomes a Principal: every accepted way, in one place."""

from __future__ import annotations

import hashlib
import logging
from collections.abc import Mapping, Sequence
from typing import Any

import httpx
from cachetools import LRUCache

from proxy.errors import Unauthenticated, Unavailable
from proxy.identity import certificate
from proxy.identity.apikeys import ApiKey, ApiKeys, parse_keys_file
from proxy.identity.clients import Client, Clients, parse_clients
from proxy.identity.config import ApiKeysConfig, IdentityConfig, LocalConfig
from proxy.identity.credentials import Credential, parse_credential
from proxy.identity.discovery import Discovery
from proxy.identity.endpoint import parse_basic
from proxy.identity.files import Watched
from proxy.identity.fronts import Network, client_of
from proxy.identity.introspection import Introspection, over_http
from proxy.identity.issuer import LocalIssuer, principal_of
from proxy.identity.jwt import RemoteIssuer, TokenVerifier, TrustedIssuer, looks_like_jwt
from proxy.identity.keyring import Keyring
from proxy.identity.keyring import parse as parse_keyring
from proxy.identity.keys import KeySet
from proxy.identity.principal import Principal
from proxy.identity.secrets import Secrets, parse_secrets
from proxy.identity.throttle import Throttle

# A secret without an end still makes its sessions ask again once a day.
SESSION_S = 24 * 3600
CERTIFICATE_CACHE_S = 60
MAX_CERTIFICATES = 1_000
_log = logging.getLogger(__name__)


class Authenticator:
    """Who is calling.

    `credential` parses, `cached` answers at once for what was verified lately, `authenticate` verifies. All
    times are Unix seconds, given by the caller.
    """

    def __init__(
        self,
        config: IdentityConfig,
        tokens: TokenVerifier,
        *,
        local: LocalIssuer | None = None,
        api_keys: ApiKeys | None = None,
        introspections: Sequence[Introspection] = (),
        key_sets: Sequence[KeySet] = (),
        files: Sequence[Watched[Any]] = (),
    ) -> None:
        self.config = config
        self.local = local
        self._tokens = tokens
        self._api_keys = api_keys
        self._introspections = introspections
        self._key_sets = key_sets
        self._files = files
        self._certificates: LRUCache[bytes, tuple[Principal, int]] = LRUCache(MAX_CERTIFICATES)

    def credential(
        self, headers: Sequence[tuple[bytes, bytes]], query: bytes, peer: str, tls: Mapping[str, Any] | None
    ) -> Credential | None:
        """What the request presents; None without anything. `peer`: the address of the connection, whoever a
        front speaks for; `tls`: the ASGI extension of that name. Raises BadRequest or Unauthenticated.

        A certificate counts when the request itself presents nothing: fronts attach theirs to every request.
        """
        found = parse_credential(headers, query, self.config)
        if found is None and self.config.certificates is not None:
            return certificate.presented(headers, peer, tls, self.config.certificates)
        return found

    def client_address(self, headers: Sequence[tuple[bytes, bytes]], peer: str) -> str:
        """Where the request comes from: the connection's address, or whom a trusted front speaks for."""
        return client_of(headers, peer, self.config.fronts)

    def cached(self, credential: Credential, now_s: int) -> Principal | None:
        """The principal, when it is known without waiting; None: call `authenticate`."""
        if credential.kind == "bearer":
            return self._cached_token(credential.value, now_s)
        if credential.kind == "certificate":
            entry = self._certificates.get(_digest(credential.value))
            fresh = entry is not None and 0 <= now_s - entry[1] < CERTIFICATE_CACHE_S
            return entry[0] if fresh and entry is not None and now_s < entry[0].expires_s else None
        if self.local is None or not self.config.allow_basic:
            return None
        client = self.local.clients.cached(*parse_basic(f"Basic {credential.value}"), now_s)
        return self._session(self.local, client, now_s) if client is not None else None

    async def authenticate(self, credential: Credential | None, peer: str, now_s: int) -> Principal:
        """The principal; `peer` is the client's address, by which failures are counted.

        Raises Unauthenticated (with `code` None when nothing was presented), TooManyRequests after many
        failures, Unavailable while the issuer cannot be asked.
        """
        if credential is None:
            raise Unauthenticated("Not authenticated", code=None)
        known = self.cached(credential, now_s)
        if known is not None:
            return known
        if credential.kind == "bearer":
            return await self._token(credential.value, now_s)
        if credential.kind == "certificate":
            return self._certificate(credential.value, now_s)
        if self.local is None or not self.config.allow_basic:
            raise Unauthenticated("This authentication scheme is not accepted")
        name, secret = parse_basic(f"Basic {credential.value}")
        client = await self.local.clients.authenticate(name, secret, peer, now_s)
        return self._session(self.local, client, now_s)

    def problems(self) -> list[str]:
        """What is broken now, one sentence each: files that kept their last good version, issuers that do not
        answer. For health and readiness; names no secret."""
        found = [file.problem for file in self._files] + [keys.problem for keys in self._key_sets]
        return [problem for problem in found if problem is not None]

    async def close(self) -> None:
        """End what runs beside the requests."""
        for keys in self._key_sets:
            await keys.close()

    def _cached_token(self, token: str, now_s: int) -> Principal | None:
        known = self._tokens.cached(token, now_s)
        if known is not None or looks_like_jwt(token):
            return known
        if self._api_keys is not None:
            known = self._api_keys.principal(token, now_s)
            if known is not None:
                return known
        for introspection in self._introspections:
            known = introspection.cached(token, now_s)
            if known is not None:
                return known
        return None

    async def _token(self, token: str, now_s: int) -> Principal:
        if looks_like_jwt(token):
            return await self._tokens.verify(token, now_s)
        failure: Unavailable | None = None
        for introspection in self._introspections:
            try:
                known = await introspection.principal(token, now_s)
            except Unavailable as exc:
                failure = exc
                continue
            if known is not None:
                return known
        if failure is not None:
            # The one that cannot be asked may be the one that knows it.
            raise failure
        raise Unauthenticated("Invalid or missing token")

    def _certificate(self, value: str, now_s: int) -> Principal:
        if self.config.certificates is None:
            raise Unauthenticated("Client certificates are not accepted")
        principal = certificate.principal(value, self.config.certificates, now_s)
        self._certificates[_digest(value)] = (principal, now_s)
        return principal

    @staticmethod
    def _session(local: LocalIssuer, client: Client, now_s: int) -> Principal:
        return principal_of(client, local.local.alias, now_s + SESSION_S)


def create(config: IdentityConfig, client: httpx.AsyncClient) -> Authenticator:
    """The authenticator of this configuration; `client` is used to reach issuers, and stays the caller's.

    Reads the files of the configuration and reaches nobody yet. ValueError with every problem of the
    configuration, or of a file.
    """
    problems = config.problems()
    if problems:
        raise ValueError("; ".join(problems))
    issuers: list[TrustedIssuer] = []
    key_sets: list[KeySet] = []
    introspections: list[Introspection] = []
    for issuer in config.issuers:
        for url in issuer.plain_urls():
            _log.warning("issuer %s: %s is plain HTTP, where its keys can be forged", issuer.alias, url)
        discovery = Discovery(issuer, client)
        key_sets.append(KeySet(discovery.keys, name=issuer.alias))
        issuers.append(RemoteIssuer(issuer, key_sets[-1]))
        if issuer.introspection is not None:
            ask = over_http(issuer.introspection, client, discovery.introspection_url)
            introspections.append(Introspection(issuer, ask))
    files: list[Watched[Any]] = []
    local = _local(config.local, config.fronts, files) if config.local is not None else None
    if local is not None:
        issuers.append(local)
    return Authenticator(
        config,
        TokenVerifier(issuers),
        local=local,
        api_keys=_api_keys(config.api_keys, files) if config.api_keys is not None else None,
        introspections=introspections,
        key_sets=key_sets,
        files=files,
    )


def _local(config: LocalConfig, fronts: tuple[Network, ...], files: list[Watched[Any]]) -> LocalIssuer:
    no_clients: Mapping[str, Client] = {}
    no_secrets: Secrets = {}
    no_keyring: Keyring | None = None
    # The policy folder is in force as a whole: a folder that is gone, or a file of it, leaves it so.
    clients = Watched(config.clients_path, parse_clients, absent=no_clients, private=False, kept=True)
    secrets = Watched(config.secrets_path, parse_secrets, absent=no_secrets, private=True)
    keyring = Watched(config.keyring_path, parse_keyring, absent=no_keyring, private=True)
    files += [clients, secrets, keyring]
    return LocalIssuer(config, Clients(clients, secrets, Throttle()), keyring, fronts)


def _api_keys(config: ApiKeysConfig, files: list[Watched[Any]]) -> ApiKeys:
    no_keys: Mapping[str, ApiKey] = {}
    file = Watched(config.path, parse_keys_file, absent=no_keys, private=False)
    files.append(file)
    return ApiKeys(file, config.alias)


def _digest(value: str) -> bytes:
    return hashlib.sha256(value.encode("utf-8", "surrogatepass")).digest()
