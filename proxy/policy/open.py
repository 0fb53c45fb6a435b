"""Which engine decides, by the settings, for as long as a context lasts."""

from __future__ import annotations

import asyncio
import contextlib
import time
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import TYPE_CHECKING

import httpx

from proxy.policy.folder import FolderPolicy
from proxy.policy.local import LocalDecisions
from proxy.policy.options import OpenFgaOptions
from proxy.policy.protocol import Decisions
from proxy.upstream.credentials import ClientCredentials, Credential, Fixed, Proof
from proxy.upstream.options import secret

if TYPE_CHECKING:
    from proxy.policy.openfga_api import Api


@asynccontextmanager
async def open_decisions(
    options: OpenFgaOptions, policy: FolderPolicy, data: Path, http: httpx.AsyncClient
) -> AsyncIterator[Decisions]:
    """The engine, and the folder watched. Raises `OSError` or ValueError for files that cannot be used."""
    watching = asyncio.create_task(policy.watch())
    try:
        if options.url is None:
            yield LocalDecisions(policy, time.time)
        else:
            async with _server(options, data, http) as decisions:
                yield decisions
    finally:
        watching.cancel()
        with contextlib.suppress(asyncio.CancelledError):
            await watching


@asynccontextmanager
async def _server(options: OpenFgaOptions, data: Path, http: httpx.AsyncClient) -> AsyncIterator[Decisions]:
    # The SDK takes a while to import: who decides inside does not wait for it.
    from proxy.policy.openfga import PIN_NAME, FilePin, ServerDecisions
    from proxy.policy.openfga_api import Pin

    fixed = None if options.model is None else Pin(options.store, options.model)
    follow = FilePin(data / PIN_NAME, time.time) if fixed is None else lambda: fixed
    async with open_api(options, http) as api:
        yield ServerDecisions(api, follow, time.time, timeout_s=options.timeout_s, list_cap=options.list_cap)


@asynccontextmanager
async def open_api(
    options: OpenFgaOptions, http: httpx.AsyncClient, timeout_s: float | None = None
) -> AsyncIterator[Api]:
    """The server's API, as these options log in. Raises `OSError` for a secret that cannot be read."""
    from proxy.policy.openfga_api import Api as Calls

    api = Calls(
        options.url or "",
        _credential(options, http),
        timeout_s=timeout_s or options.timeout_s,
        ca_file=options.ca_file,
    )
    try:
        yield api
    finally:
        await api.close()


def _credential(options: OpenFgaOptions, http: httpx.AsyncClient) -> Credential:
    if options.token_url is not None:
        password = secret(options.client_secret, options.client_secret_file)
        client = (options.client_id or "", password)
        return ClientCredentials(
            http, options.token_url, client, options.scope, time.monotonic, audience=options.audience
        )
    token = secret(options.api_token, options.api_token_file)
    return Fixed(Proof(f"Bearer {token}" if token else None))
