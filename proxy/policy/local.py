"""Decisions by the embedded evaluator, on the policy folder as it is now."""

from __future__ import annotations

import logging
from bisect import bisect_right
from collections.abc import Callable
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path

from cachetools import LRUCache

from proxy.errors import Unavailable
from proxy.identity.principal import Principal
from proxy.policy.embedded.errors import PolicyError
from proxy.policy.embedded.tuples import Tuple
from proxy.policy.files import InvalidPolicy, Policy, load, signature
from proxy.policy.protocol import Permissions

TTL_S = 7
MAX_PRINCIPALS = 10_000
SERVICE = "service:tams"
_log = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True)
class _Snapshot:
    policy: Policy
    permissions: Permissions
    until_s: float


class FolderPolicy:
    """The policy of a folder, read again when a file changes; an invalid change keeps the last good one.

    `problem` says what is wrong with the files as they stand. `now` gives Unix seconds.
    """

    def __init__(self, folder: Path, now: Callable[[], float]) -> None:
        self.folder = folder
        self.problem: str | None = None
        self._now = now
        self._seen = signature(folder)
        self._policy = load(folder)
        self._checked_s = now()

    def current(self) -> Policy:
        """The policy of now, at most one second old."""
        now = self._now()
        if now - self._checked_s >= 1 or now < self._checked_s:
            self._checked_s = now
            self._check()
        return self._policy

    def _check(self) -> None:
        seen = signature(self.folder)
        if seen == self._seen:
            return
        self._seen = seen
        try:
            self._policy = load(self.folder)
        except InvalidPolicy as exc:
            self.problem = str(exc)
            _log.error("The changed policy is refused, the last good one stays in force: %s", exc)
            return
        self.problem = None
        _log.info("policy %s is in force", self._policy.version)


class LocalDecisions:
    """Decisions that never leave the process. A policy change is seen at once."""

    def __init__(self, policy: FolderPolicy, now: Callable[[], float]) -> None:
        self._policy = policy
        self._now = now
        self._snapshots: LRUCache[Principal, _Snapshot] = LRUCache(MAX_PRINCIPALS)

    async def permissions(self, principal: Principal, *, fresh: bool = False) -> Permissions:
        """As `Decisions.permissions`."""
        now = self._now()
        policy = self._policy.current()
        known = self._snapshots.get(principal)
        if known is not None and known.policy is policy and now < known.until_s and not fresh:
            return known.permissions
        permissions = evaluate(policy, principal, now)
        until_s = min(now + TTL_S, principal.expires_s, _next_boundary(policy, now))
        if known is not None and known.permissions == permissions:
            permissions = known.permissions
        self._snapshots[principal] = _Snapshot(policy, permissions, until_s)
        return permissions

    async def denying(self) -> frozenset[str]:
        """As `Decisions.denying`."""
        return self._policy.current().denying


def _next_boundary(policy: Policy, now: float) -> float:
    at = bisect_right(policy.boundaries, int(now))
    return policy.boundaries[at] if at < len(policy.boundaries) else float("inf")


def evaluate(policy: Policy, principal: Principal, now: float) -> Permissions:
    """The principal's permissions under a policy at a time. Pure.

    Raises `errors.Unavailable` where a condition cannot be evaluated: no answer is not an answer.
    """
    user = principal.user
    groups = sorted(principal.groups & policy.groups)
    contextual = [Tuple(user, "member", f"group:{name}") for name in groups]
    context = {"current_time": datetime.fromtimestamp(now, UTC).isoformat()}

    def classes(relation: str) -> frozenset[str]:
        found = policy.engine.list_objects(
            user, relation, "auth_class", contextual=contextual, context=context
        )
        return frozenset(name.partition(":")[2] for name in found)

    def holds(relation: str) -> bool:
        return policy.engine.check(user, relation, SERVICE, contextual=contextual, context=context)

    try:
        return Permissions(
            read=classes("can_read"),
            write=classes("can_write"),
            delete=classes("can_delete"),
            grant=classes("can_grant"),
            denied=classes("is_denied"),
            admin=principal.is_admin_by_scope or holds("can_administer"),
            creator=holds("can_create"),
            policy=policy.version,
        )
    except PolicyError as exc:
        raise Unavailable("The policy cannot be evaluated.", retry_after_s=5) from exc
