"""The built-in clients: who they are (clients.yaml) and how they prove it (secrets.json)."""

from __future__ import annotations

import asyncio
import hashlib
import secrets as random
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from cachetools import LRUCache
from ruamel.yaml import YAML
from ruamel.yaml.error import YAMLError

from proxy.errors import Unauthenticated
from proxy.identity.files import Watched
from proxy.identity.flight import Flights
from proxy.identity.keys import Key, parse_keys
from proxy.identity.principal import ADMIN, DELETE, READ, WRITE
from proxy.identity.secrets import StoredSecret, is_slow, matches
from proxy.identity.throttle import Throttle

SCOPES = frozenset({READ, WRITE, DELETE, ADMIN})
CACHE_S = 10
MAX_CACHED = 1_000
# argon2 takes 64 MiB and a core for each one that runs.
MAX_HASHING = 2
MAX_WAITING = 100
WRONG = "The client or its secret is wrong"


@dataclass(frozen=True, slots=True)
class Client:
    """A client (or user) of the built-in token endpoint. `keys`: its public keys for private_key_jwt."""

    id: str
    groups: frozenset[str]
    scopes: frozenset[str]
    keys: tuple[Key, ...] = ()


def parse_clients(data: bytes) -> Mapping[str, Client]:
    """The clients of a clients.yaml (`clients: {<id>: {groups, scopes, keys, description}}`), by id.

    ValueError naming the entry that is wrong.
    """
    try:
        document = YAML(typ="safe", pure=True).load(data.decode())
    except (YAMLError, UnicodeDecodeError) as exc:
        raise ValueError(f"clients are not readable: {exc}") from exc
    if not isinstance(document, dict) or "clients" not in document:
        raise ValueError("clients: is missing")
    entries = {} if document["clients"] is None else document["clients"]
    if not isinstance(entries, dict):
        raise ValueError("clients: is not a mapping of ids to clients")
    return {client_id: _parse_client(client_id, entry) for client_id, entry in entries.items()}


def check_client_id(client_id: object) -> str:
    """The id, when it is one: printable ASCII without colon and white space. ValueError otherwise."""
    if not isinstance(client_id, str) or not 1 <= len(client_id) <= 128:
        raise ValueError(f"client id {client_id!r} is not a text of 1 to 128 characters")
    if not client_id.isascii() or not client_id.isprintable() or set(client_id) & {":", " "}:
        raise ValueError(f"client id {client_id!r} has characters that are not allowed")
    return client_id


def _parse_client(stated_id: Any, entry: Any) -> Client:
    client_id = check_client_id(stated_id)
    if not isinstance(entry, dict):
        raise ValueError(f"client {client_id!r} is not a mapping")
    unknown = sorted(str(name) for name in set(entry) - {"groups", "scopes", "keys", "description"})
    if unknown:
        raise ValueError(f"client {client_id!r} has unknown members {unknown}")
    groups, scopes = (_texts(client_id, entry, name) for name in ("groups", "scopes"))
    if not scopes <= SCOPES:
        raise ValueError(f"client {client_id!r} has unknown scopes {sorted(scopes - SCOPES)}")
    stated = entry.get("keys") or []
    keys = parse_keys(stated) if isinstance(stated, list) else ()
    if not isinstance(stated, list) or len(keys) != len(stated):
        raise ValueError(f"client {client_id!r} has a key that is not a usable public JWK")
    return Client(client_id, groups, scopes, keys)


def _texts(client_id: str, entry: Mapping[str, Any], name: str) -> frozenset[str]:
    values = entry.get(name) or []
    if not isinstance(values, list) or not all(isinstance(v, str) and v for v in values):
        raise ValueError(f"client {client_id!r}: {name} is not a list of texts")
    return frozenset(values)


class Clients:
    """The clients as the two files have them now, and the proof of their secrets.

    A proven secret is remembered for 10 s under a keyed digest; argon2 runs on a thread. Failures are
    throttled by client and peer.
    """

    def __init__(
        self,
        clients: Watched[Mapping[str, Client]],
        secrets: Watched[Mapping[str, tuple[StoredSecret, ...]]],
        throttle: Throttle,
    ) -> None:
        self._clients = clients
        self._secrets = secrets
        self.throttle = throttle
        self._digest_key = random.token_bytes(32)
        self._proven: LRUCache[bytes, tuple[Client, int, int]] = LRUCache(MAX_CACHED)
        self._hashing = asyncio.Semaphore(MAX_HASHING)
        self._flights: Flights[bool] = Flights(MAX_WAITING)

    def generation(self, now_s: int) -> int:
        """Grows when a client or a secret changes."""
        self._clients.current(now_s)
        self._secrets.current(now_s)
        return self._clients.generation + self._secrets.generation

    def find(self, client_id: str, now_s: int) -> Client | None:
        """The client of that id as the policy has it now."""
        return self._clients.current(now_s).get(client_id)

    def cached(self, client_id: str, secret: str, now_s: int) -> Client | None:
        """The client, when this secret was proven within 10 s and nothing changed since."""
        entry = self._proven.get(self._digest(client_id, secret))
        if entry is None or not 0 <= now_s - entry[1] < CACHE_S or entry[2] != self.generation(now_s):
            return None
        return entry[0]

    async def authenticate(self, client_id: str, secret: str, peer: str, now_s: int) -> Client:
        """The client whose secret it is. Raises Unauthenticated, or TooManyRequests after many failures."""
        known = self.cached(client_id, secret, now_s)
        if known is not None:
            return known
        self.throttle.check(client_id, peer, now_s)
        generation = self.generation(now_s)
        client = self.find(client_id, now_s)
        if client is None or client_id == secret:
            self.throttle.failed(client_id, peer, now_s)
            raise Unauthenticated(WRONG)
        if not await self._prove(client_id, secret, peer, now_s):
            raise Unauthenticated(WRONG)
        self._proven[self._digest(client_id, secret)] = (client, now_s, generation)
        return client

    async def _prove(self, client_id: str, secret: str, peer: str, now_s: int) -> bool:
        stored = self._secrets.current(now_s).get(client_id, ())
        stored = tuple(entry for entry in stored if entry.expires_s is None or now_s < entry.expires_s)
        if any(matches(entry, secret) for entry in stored if not is_slow(entry)):
            return True
        slow = [entry for entry in stored if is_slow(entry)]
        if not slow:
            self.throttle.failed(client_id, peer, now_s)
            return False
        digest = self._digest(f"{peer}\0{client_id}", secret)
        return await self._flights.join(digest, lambda: self._hash(slow, client_id, secret, peer, now_s))

    async def _hash(
        self, slow: list[StoredSecret], client_id: str, secret: str, peer: str, now_s: int
    ) -> bool:
        async with self._hashing:
            # Guesses that arrived together are counted one by one as they are checked.
            self.throttle.check(client_id, peer, now_s)
            proven = await asyncio.to_thread(lambda: any(matches(entry, secret) for entry in slow))
            if not proven:
                self.throttle.failed(client_id, peer, now_s)
            return proven

    def _digest(self, client_id: str, secret: str) -> bytes:
        material = f"{client_id}\0{secret}".encode("utf-8", "surrogatepass")
        return hashlib.blake2b(material, key=self._digest_key, digest_size=32).digest()
