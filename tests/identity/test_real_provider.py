"""One real identity provider end to end: client credentials, signed and opaque tokens, revocation.

It is npm's oidc-provider (OpenID certified), in a folder outside the tree:
`npm install --prefix ~/.cache/tams-tests/oidc-provider oidc-provider@9`, or under $SUITES_CACHE.
"""

from __future__ import annotations

import shutil
import subprocess
import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import httpx
import pytest

from proxy.errors import Unauthenticated
from proxy.identity.authenticate import create
from proxy.identity.config import IdentityConfig, IntrospectionConfig, IssuerConfig
from proxy.identity.credentials import Credential
from tests.installed import CACHE
from tests.ports import free_port

pytestmark = pytest.mark.slow

FOLDER = CACHE / "oidc-provider"
SCRIPT = Path(__file__).with_name("real_provider.mjs")


@dataclass(frozen=True)
class Real:
    url: str

    async def token(self, client: httpx.AsyncClient, resource: str) -> str:
        form = {
            "grant_type": "client_credentials",
            "client_id": "robot",
            "client_secret": "robot-secret-of-the-test",
            "scope": "tams-api/read",
            "resource": resource,
        }
        answer = await client.post(f"{self.url}/token", data=form)
        assert answer.status_code == 200, answer.text
        return str(answer.json()["access_token"])


@pytest.fixture(scope="module")
def real() -> Iterator[Real]:
    node = shutil.which("node")
    if node is None or not (FOLDER / "node_modules" / "oidc-provider").is_dir():
        pytest.skip(f"node or {FOLDER}/node_modules/oidc-provider is not there")
    port = free_port()
    command = [node, str(SCRIPT), str(FOLDER), str(port)]
    with subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, text=True) as process:
        try:
            assert process.stdout is not None
            assert process.stdout.readline().strip() == "listening"
            yield Real(f"http://127.0.0.1:{port}")
        finally:
            process.terminate()


@pytest.mark.parametrize("resource", ["urn:tams:jwt", "urn:tams:ec"])
async def test_a_signed_token_is_verified_by_discovered_keys(
    real: Real, client: httpx.AsyncClient, resource: str
) -> None:
    made = create(IdentityConfig(issuers=(IssuerConfig("idp", real.url, (resource,)),)), client)
    token = Credential("bearer", await real.token(client, resource))
    now_s = int(time.time())
    caller = await made.authenticate(token, "", now_s)
    assert caller.user == "user:idp/robot" and caller.scopes == {"tams-api/read"}
    assert now_s + 290 <= caller.expires_s <= now_s + 310
    assert made.cached(token, now_s) == caller
    with pytest.raises(Unauthenticated):
        await made.authenticate(token, "", caller.expires_s)
    await made.close()


async def test_a_token_for_another_resource_is_refused(real: Real, client: httpx.AsyncClient) -> None:
    made = create(IdentityConfig(issuers=(IssuerConfig("idp", real.url, ("urn:tams:jwt",)),)), client)
    token = Credential("bearer", await real.token(client, "urn:tams:ec"))
    with pytest.raises(Unauthenticated, match="audience"):
        await made.authenticate(token, "", int(time.time()))
    await made.close()


async def test_an_opaque_token_is_introspected_until_it_is_revoked(
    real: Real, client: httpx.AsyncClient
) -> None:
    asking = IntrospectionConfig("tams", "tams-secret-of-the-test")
    issuer = IssuerConfig("idp", real.url, ("urn:tams:opaque",), introspection=asking)
    made = create(IdentityConfig(issuers=(issuer,)), client)
    opaque = await real.token(client, "urn:tams:opaque")
    token, now_s = Credential("bearer", opaque), int(time.time())
    caller = await made.authenticate(token, "", now_s)
    assert caller.user == "user:idp/robot" and caller.scopes == {"tams-api/read"}
    form = {"token": opaque, "client_id": "robot", "client_secret": "robot-secret-of-the-test"}
    assert (await client.post(f"{real.url}/token/revocation", data=form)).status_code == 200
    with pytest.raises(Unauthenticated):
        await made.authenticate(token, "", now_s + 10)
    await made.close()
