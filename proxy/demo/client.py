"""The demo's client: the one that is shipped for TAMS services, with client credentials."""

from __future__ import annotations

import httpx

from store.client import tams
from store.client.tams import ClientCredentials, Refused, path

__all__ = ["Client", "Refused", "path"]


class Client(tams.Client):
    """One client of a TAMS service. Failures to connect are `httpx.TransportError`."""

    def __init__(
        self, url: str, client_id: str, secret: str, transport: httpx.BaseTransport | None = None
    ) -> None:
        self.client_id = client_id
        self._credentials = ClientCredentials(url, client_id, secret, transport=transport)
        super().__init__(url, self._credentials, transport)

    @property
    def expires_in_s(self) -> int:
        """What the token endpoint said last."""
        return self._credentials.expires_in_s

    def login(self) -> None:
        """Get a token. Raises `Refused`."""
        self._credentials.login()
