"""How we log in to a real OpenFGA server: a preshared key, client credentials; and over TLS."""

from __future__ import annotations

import time
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import httpx
import pytest

from proxy.errors import Unavailable
from proxy.identity.principal import READ, Principal
from proxy.policy.apply import carry_out, plan
from proxy.policy.files import load
from proxy.policy.folder import FolderPolicy
from proxy.policy.open import open_api, open_decisions
from proxy.policy.openfga import PIN_NAME, dump_pin
from proxy.policy.options import OpenFgaOptions
from proxy.policy.protocol import Decisions
from tests.identity.tokens import Pair, Provider, ec_pair, provider, rsa_pair
from tests.operate.certificates import certificate
from tests.policy.openfga_server import running

pytestmark = pytest.mark.slow

SAMPLE = Path(__file__).resolve().parents[2] / "policies"
NEWSROOM = Principal("local", "newsroom", None, frozenset(), frozenset((READ,)), False, 2**40)
SLOW_S = 20.0
"""Longer than a server on this machine takes, however busy: none of these tests waits for it."""


@asynccontextmanager
async def deciding(options: OpenFgaOptions, data: Path) -> AsyncIterator[Decisions]:
    """The engine as the proxy opens it."""
    async with (
        httpx.AsyncClient(trust_env=False) as http,
        open_decisions(options, FolderPolicy(SAMPLE, time.time), data, http) as decisions,
    ):
        yield decisions


async def apply(options: OpenFgaOptions, data: Path) -> None:
    """What `tams-proxy policy apply` does."""
    policy = load(SAMPLE)
    model = policy.engine.model
    async with httpx.AsyncClient(trust_env=False) as http, open_api(options, http, 30) as api:
        found = await plan(api, options.store, None, model, policy.tuples)
        (data / PIN_NAME).write_bytes(dump_pin(await carry_out(api, options.store, found, model)))


async def readable(options: OpenFgaOptions, data: Path) -> frozenset[str]:
    async with deciding(options, data) as decisions:
        return (await decisions.permissions(NEWSROOM)).read


def options(url: str, **more: Any) -> OpenFgaOptions:
    given = OpenFgaOptions.model_validate({"url": url, **more})
    # More than operators may set.
    return given.model_copy(update={"timeout_s": SLOW_S})


@pytest.fixture(scope="module")
def server() -> Iterator[str]:
    with running("--authn-method", "preshared", "--authn-preshared-keys", "one,two") as url:
        yield url


class TestPresharedKey:
    async def test_each_key_of_the_server_opens_it(self, server: str, tmp_path: Path) -> None:
        await apply(options(server, api_token="one"), tmp_path)
        assert await readable(options(server, api_token="one"), tmp_path) == {"news"}
        (tmp_path / "key").write_text("two\n")
        assert await readable(options(server, api_token_file=tmp_path / "key"), tmp_path) == {"news"}

    @pytest.mark.parametrize("key", [None, "three"])
    async def test_without_one_there_is_no_answer(self, server: str, tmp_path: Path, key: str | None) -> None:
        await apply(options(server, api_token="one"), tmp_path)
        with pytest.raises(Unavailable):
            await readable(options(server, api_token=key), tmp_path)


@dataclass
class Issuer:
    """A token endpoint on loopback, and the server that trusts its tokens."""

    remote: Provider
    key: Pair
    server: str

    def grant(self, key: Pair | None = None, **changes: Any) -> None:
        """What `/token` answers from now on."""
        now_s = int(time.time())
        claims = {"iss": self.remote.url, "sub": "tams", "azp": "tams", "aud": "openfga", "iat": now_s}
        token = (key or self.key).sign({**claims, "exp": now_s + 600, **changes})
        granted = {"access_token": token, "token_type": "Bearer", "expires_in": 600}
        self.remote.documents["/token"] = granted

    def options(self, **more: Any) -> OpenFgaOptions:
        login = {"token_url": f"{self.remote.url}/token", "client_id": "tams", "client_secret": "s3cret"}
        return options(self.server, **login, audience="openfga", scope="fga", **more)


class TestClientCredentials:
    @pytest.fixture
    def issuer(self) -> Iterator[Issuer]:
        key = rsa_pair("signing")
        with provider() as remote:
            remote.publish(key)
            oidc = ("--authn-oidc-issuer", remote.url, "--authn-oidc-audience", "openfga")
            with running("--authn-method", "oidc", *oidc) as server:
                made = Issuer(remote, key, server)
                made.grant()
                yield made

    async def test_a_token_is_asked_for_once_and_opens_the_server(
        self, issuer: Issuer, tmp_path: Path
    ) -> None:
        await apply(issuer.options(), tmp_path)
        issuer.remote.forms.clear()
        async with deciding(issuer.options(), tmp_path) as decisions:
            assert (await decisions.permissions(NEWSROOM)).read == {"news"}
            assert (await decisions.permissions(NEWSROOM, fresh=True)).read == {"news"}
        ((authorization, form),) = issuer.remote.forms
        assert authorization == httpx.BasicAuth("tams", "s3cret")._auth_header
        assert dict(httpx.QueryParams(form.decode())) == {
            "grant_type": "client_credentials",
            "scope": "fga",
            "audience": "openfga",
        }

    @pytest.mark.parametrize("wrong", [{"aud": "another"}, {"exp": 1}, {"key": ec_pair("unknown")}])
    async def test_a_token_that_the_server_refuses_is_fetched_anew(
        self, issuer: Issuer, tmp_path: Path, wrong: dict[str, Any]
    ) -> None:
        await apply(issuer.options(), tmp_path)
        async with deciding(issuer.options(), tmp_path) as decisions:
            issuer.grant(**wrong)
            with pytest.raises(Unavailable):
                await decisions.permissions(NEWSROOM)
            issuer.grant()
            assert (await decisions.permissions(NEWSROOM)).read == {"news"}

    @pytest.mark.parametrize("answer", [b"<html>", {"access_token": ""}, {"error": "invalid_client"}, None])
    async def test_a_token_endpoint_that_gives_none_is_no_answer_and_passes(
        self, issuer: Issuer, tmp_path: Path, answer: Any
    ) -> None:
        await apply(issuer.options(), tmp_path)
        issuer.remote.documents["/token"] = answer
        async with deciding(issuer.options(), tmp_path) as decisions:
            with pytest.raises(Unavailable) as failed:
                await decisions.permissions(NEWSROOM)
            assert failed.value.retry_after_s
            issuer.grant()
            assert (await decisions.permissions(NEWSROOM)).read == {"news"}


class TestTls:
    async def test_only_a_server_whose_certificate_is_trusted_is_asked(self, tmp_path: Path) -> None:
        certificate(tmp_path, "openfga")
        cert, key = tmp_path / "cert.pem", tmp_path / "key.pem"
        tls = ("--http-tls-enabled", "--http-tls-cert", str(cert), "--http-tls-key", str(key))
        with running(*tls) as clear:
            url = clear.replace("http:", "https:")
            await apply(options(url, ca_file=cert), tmp_path)
            assert await readable(options(url, ca_file=cert), tmp_path) == {"news"}
            with pytest.raises(Unavailable):
                await readable(options(url), tmp_path)
            with pytest.raises(Unavailable):
                await readable(options(clear), tmp_path)
