"""A built-in issuer in a folder, and the authenticator that reads it."""

from __future__ import annotations

from collections.abc import AsyncIterator
from pathlib import Path

import httpx
import pytest

from proxy.identity.authenticate import Authenticator, create
from proxy.identity.config import LocalConfig
from proxy.identity.keyring import Keyring
from proxy.identity.secrets import provision
from tests.identity.support import CLIENTS, NOW_S, House


@pytest.fixture
def house(tmp_path: Path) -> House:
    policies, data = tmp_path / "policies", tmp_path / "data"
    policies.mkdir()
    (policies / "clients.yaml").write_text(CLIENTS)
    Keyring.create(data / "keyring.json", NOW_S)
    secrets = provision(data, ["newsroom", "viewer", "admin"], NOW_S)
    local = LocalConfig(
        issuer="https://tams.example.org",
        audience="https://tams.example.org",
        clients_path=policies / "clients.yaml",
        secrets_path=data / "secrets.json",
        keyring_path=data / "keyring.json",
    )
    return House(policies, data, secrets, local)


@pytest.fixture
async def client() -> AsyncIterator[httpx.AsyncClient]:
    async with httpx.AsyncClient(timeout=30, trust_env=False) as session:
        yield session


@pytest.fixture
def authenticator(house: House, client: httpx.AsyncClient) -> Authenticator:
    return create(house.config(), client)
