"""Puts a foreign upstream together from what operators set."""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Protocol

import httpx

from proxy.errors import InvalidSettings
from proxy.identity.keyring import Keyring
from proxy.upstream.client import Client
from proxy.upstream.credentials import ClientCredentials, Credential, Fixed, Proof, basic
from proxy.upstream.headers import Base
from proxy.upstream.http import HttpUpstream
from proxy.upstream.ledger import SqliteLedger
from proxy.upstream.options import UpstreamOptions, secret
from proxy.upstream.parts import Clock, Parts
from proxy.upstream.relay import Relay
from proxy.upstream.relayed import RelayedUrls
from proxy.upstream.seal import Sealer

LEDGER = "upstream.sqlite"


@dataclass(frozen=True, slots=True)
class Opened:
    """A foreign upstream, the relay of media that lie on its own origin, and what both are made of."""

    upstream: HttpUpstream
    media: Relay
    parts: Parts


class UpstreamSettings(Protocol):
    """What of the settings makes an upstream. `data` keeps what must be remembered about it."""

    @property
    def upstream(self) -> str | None: ...

    @property
    def upstream_options(self) -> UpstreamOptions: ...

    @property
    def data(self) -> Path: ...

    def base_url(self) -> str: ...


@asynccontextmanager
async def open_upstream(
    settings: UpstreamSettings, keyring: Keyring, http: httpx.AsyncClient, clock: Clock
) -> AsyncIterator[Opened]:
    """An upstream for as long as the context lasts. `http` fetches tokens. It need not be up. Raises
    `InvalidSettings`."""
    url, options, public_url = settings.upstream or "", settings.upstream_options, settings.base_url()
    try:
        base = Base.of(url)
        credential = _credential(options, http, clock)
        tls = options.tls()
        ledger = SqliteLedger(settings.data / LEDGER, url, clock.unix_s)
    except (OSError, ValueError) as exc:
        raise InvalidSettings([f"TAMS_UPSTREAM: {exc}"]) from exc
    async with AsyncExitStack() as stack:
        stack.callback(ledger.close)
        client = Client(base, credential, options.limits(), clock.steady_s, tls)
        stack.push_async_callback(client.close)
        media = Sealer(keyring.secrets("media"), "relayed media")
        urls = RelayedUrls(media, base, public_url, url, options.media_url_s)
        cursors = Sealer(keyring.secrets("cursors"), "upstream cursors")
        parts = Parts(client, ledger, cursors, urls, public_url, clock)
        yield Opened(HttpUpstream(parts, options.deadline_s), Relay(client, urls, clock), parts)


def _credential(options: UpstreamOptions, http: httpx.AsyncClient, clock: Clock) -> Credential:
    if options.token_url is not None and options.client_id is not None:
        client = (options.client_id, secret(options.client_secret, options.client_secret_file))
        return ClientCredentials(http, options.token_url, client, options.scope, clock.steady_s)
    if options.user is not None:
        return basic(options.user, secret(options.password, options.password_file))
    token = secret(options.access_token, options.access_token_file)
    return Fixed(Proof(access_token=token or None))
