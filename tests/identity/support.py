"""What the tests of identity share: a built-in issuer in a folder."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from proxy.identity.config import ApiKeysConfig, IdentityConfig, LocalConfig

NOW_S = 1_700_000_000
CLIENTS = """\
# who may log in
clients:
  newsroom:
    groups: [news]
    scopes: [tams-api/read, tams-api/write, tams-api/delete]
  # the lobby
  viewer:  # only looks
    groups: [news, sport]
    scopes:
      - tams-api/read
  admin:
    scopes: [tams-api/read, tams-api/write, tams-api/delete, tams-api/admin]

# the end
"""


@dataclass(frozen=True)
class House:
    """A policy and a data folder with the sample clients and their clear secrets."""

    policies: Path
    data: Path
    secrets: dict[str, str]
    local: LocalConfig

    def config(self, **others: object) -> IdentityConfig:
        keys = ApiKeysConfig(self.data / "keys.json")
        return IdentityConfig(
            local=self.local, api_keys=keys, allow_basic=True, allow_url_token=True, **others
        )  # type: ignore[arg-type]
