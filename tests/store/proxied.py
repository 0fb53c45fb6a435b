"""The same running store with the proxy in front of it, spoken to as an administrator."""

from __future__ import annotations

import shutil
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import httpx
import pytest

import proxy.app
from proxy.app import Settings, run_proxy
from store.app import Running, run_store
from store.settings import parse
from tests.proxy.support import URL, Client, environment, running
from tests.store.harness import Tams, settings_of

ADMIN = {"admin": Client(admin=True, scopes=("read", "write", "delete", "admin"))}


@dataclass(frozen=True)
class Admission:
    """A folder with the keyring and policy that a token of an administrator is good for."""

    folder: Path
    token: str

    @property
    def headers(self) -> dict[str, str]:
        """What a call by the administrator carries."""
        return {"Authorization": f"Bearer {self.token}"}

    def settings(self, folder: Path, **more: Any) -> Settings:
        """The settings of a proxy in another folder that takes the token."""
        if not folder.joinpath("policies").exists():
            shutil.copytree(self.folder / "policies", folder / "policies")
            (folder / "data").mkdir()
            for name in ("keyring.json", "clients.json", "clients.secret"):
                if (self.folder / "data" / name).exists():
                    shutil.copy2(self.folder / "data" / name, folder / "data" / name)
        chosen = settings_of(folder / "data", **more)
        said = {name: getattr(chosen, name) for name in chosen.model_fields_set}
        return parse(Settings, environment(folder)).model_copy(update=said)


async def admitted(folder: Path) -> Admission:
    """Log the administrator in, once."""
    async with running(folder, ADMIN) as found:
        return Admission(folder, await found.token("admin"))


@asynccontextmanager
async def running_behind_proxy(
    folder: Path, admission: Admission, patch: pytest.MonkeyPatch, **more: Any
) -> AsyncIterator[Tams]:
    """A store behind the proxy; background work is done when asked for, as in `harness.running_tams`."""
    opened: list[Running] = []

    @asynccontextmanager
    async def caught(*args: Any, **said: Any) -> AsyncIterator[Running]:
        async with run_store(*args, **said, jobs=()) as found:
            opened.append(found)
            yield found

    patch.setattr(proxy.app, "run_store", caught)
    settings = admission.settings(folder, **more)
    async with run_proxy(settings) as app:
        transport = httpx.ASGITransport(app=app)
        headers = admission.headers
        async with httpx.AsyncClient(transport=transport, base_url=URL, headers=headers) as client:
            yield Tams(opened[-1], client, settings)
