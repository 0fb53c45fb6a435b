"""Permissions by principal, for as long as they are those of now: what every engine keeps alike."""

from __future__ import annotations

from bisect import bisect_right
from collections.abc import Callable, Sequence
from dataclasses import dataclass

from cachetools import LRUCache

from proxy.identity.principal import Principal
from proxy.policy.protocol import Permissions
from proxy.recent import Recent

TTL_S = 7
MAX_PRINCIPALS = 10_000


@dataclass(frozen=True, slots=True)
class Asker:
    """All of a principal that an answer rests on; `groups`: those that the policy names."""

    issuer: str
    subject: str
    groups: tuple[str, ...]
    scopes: frozenset[str] | None
    scope_admin: bool


@dataclass(frozen=True, slots=True)
class _Snapshot:
    version: object
    permissions: Permissions
    until_s: float


def asker(principal: Principal, groups: frozenset[str]) -> Asker:
    """The principal, of a policy that names these groups."""
    held = tuple(sorted(principal.groups & groups))
    return Asker(principal.issuer, principal.subject, held, principal.scopes, principal.scope_admin)


class Snapshots:
    """Answers of one engine. `now` gives Unix seconds.

    An answer counts for 7 s from the start of its question, never past the end of the token, never past the
    next moment at which a condition may turn, and only under the version of the policy that gave it.
    `hits`: how often one was known; `misses`: how often one was kept that was not.
    """

    def __init__(self, now: Callable[[], float]) -> None:
        self._now = now
        self.hits = self.misses = 0
        # By principal, the fast way, and by what an answer rests on: a new token asks nothing anew.
        self._by_principal: Recent[Principal, _Snapshot] = Recent(MAX_PRINCIPALS)
        self._by_asker: LRUCache[Asker, _Snapshot] = LRUCache(MAX_PRINCIPALS)

    def known(self, principal: Principal, version: object) -> Permissions | None:
        """What is known of a principal now."""
        return self._usable(self._by_principal.get(principal), version)

    def shared(self, principal: Principal, who: Asker, version: object) -> Permissions | None:
        """What is known from another token of the same asker."""
        found = self._by_asker.get(who)
        permissions = self._usable(found, version)
        if permissions is None or found is None:
            return None
        return self._of_token(principal, found)

    def keep(
        self,
        principal: Principal,
        who: Asker,
        version: object,
        permissions: Permissions,
        asked_s: float,
        boundaries: Sequence[float],
    ) -> Permissions:
        """Keep an answer to what was asked at `asked_s`. Returns it, or the equal one that was known."""
        self.misses += 1
        at = bisect_right(boundaries, asked_s)
        turn_s = boundaries[at] if at < len(boundaries) else float("inf")
        old = self._by_asker.get(who)
        if old is not None and old.permissions == permissions:
            permissions = old.permissions
        snapshot = _Snapshot(version, permissions, min(asked_s + TTL_S, turn_s))
        self._by_asker[who] = snapshot
        return self._of_token(principal, snapshot)

    def _of_token(self, principal: Principal, found: _Snapshot) -> Permissions:
        until_s = min(found.until_s, principal.expires_s)
        self._by_principal[principal] = _Snapshot(found.version, found.permissions, until_s)
        return found.permissions

    def _usable(self, found: _Snapshot | None, version: object) -> Permissions | None:
        if found is None or found.version is not version or self._now() >= found.until_s:
            return None
        self.hits += 1
        return found.permissions
