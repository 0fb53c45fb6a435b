"""Decisions by the embedded evaluator, on the policy folder as it is now."""

from __future__ import annotations

import logging
from collections.abc import Callable

from proxy.errors import Unavailable
from proxy.identity.principal import Principal
from proxy.policy.embedded.errors import PolicyError
from proxy.policy.embedded.tuples import Tuple
from proxy.policy.files import ASKED, Policy, time_context
from proxy.policy.folder import FolderPolicy
from proxy.policy.protocol import Permissions
from proxy.policy.slips import SERVICE
from proxy.policy.snapshots import Snapshots, asker

_log = logging.getLogger(__name__)
LISTS = ASKED["auth_class"]
"""What is listed of classes, in the order of `Permissions`."""


class LocalDecisions:
    """Decisions that never leave the process. A policy change is seen at once."""

    def __init__(self, policy: FolderPolicy, now: Callable[[], float]) -> None:
        self._policy = policy
        self._now = now
        self._snapshots = Snapshots(now)
        self._failure = ("", "")

    @property
    def hits(self) -> int:
        """As `Decisions.hits`."""
        return self._snapshots.hits

    @property
    def misses(self) -> int:
        """As `Decisions.misses`."""
        return self._snapshots.misses

    async def permissions(self, principal: Principal, *, fresh: bool = False) -> Permissions:
        """As `Decisions.permissions`."""
        policy = self._policy.current()
        known = None if fresh else self._snapshots.known(principal, policy)
        if known is not None:
            return known
        who = asker(principal, policy.groups)
        known = None if fresh else self._snapshots.shared(principal, who, policy)
        if known is not None:
            return known
        now = self._now()
        permissions = self._evaluate(policy, principal, now)
        return self._snapshots.keep(principal, who, policy, permissions, now, policy.boundaries)

    def _evaluate(self, policy: Policy, principal: Principal, now: float) -> Permissions:
        try:
            return evaluate(policy, principal, now)
        except Unavailable as exc:
            # Every call of all that it concerns fails alike: once says it.
            if self._failure != (policy.version, exc.reason):
                self._failure = (policy.version, exc.reason)
                _log.error("Policy %s has no answer for %s: %s", policy.version, principal.name, exc.reason)
            raise

    async def denying(self) -> frozenset[str]:
        """As `Decisions.denying`."""
        return self._policy.current().denying


def memberships(user: str, groups: tuple[str, ...]) -> list[Tuple]:
    """A token's groups, as contextual tuples."""
    return [Tuple(user, "member", f"group:{name}") for name in groups]


def evaluate(policy: Policy, principal: Principal, now: float) -> Permissions:
    """The principal's permissions under a policy at a time. Pure.

    Raises `errors.Unavailable` where a condition cannot be evaluated: no answer is not an answer. Its
    `reason` names tuple and condition.
    """
    user = principal.user
    contextual = memberships(user, asker(principal, policy.groups).groups)
    try:
        question = policy.engine.question(user, contextual=contextual, context=time_context(now))
        creator = question.holds("can_create", SERVICE)
        if principal.is_admin_by_scope or question.holds("can_administer", SERVICE):
            return administrator(creator, policy.version)
        read, write, delete, grant, denied = (
            frozenset(name.partition(":")[2] for name in found)
            for found in question.objects("auth_class", *LISTS)
        )
        return Permissions(read, write, delete, grant, denied, False, creator, policy.version)
    except PolicyError as exc:
        raise Unavailable("The policy cannot be evaluated.", retry_after_s=5, reason=exc.summary) from exc


def administrator(creator: bool, version: str) -> Permissions:
    """Who passes all class checks; for whom nothing is listed, so that no list can be cut short."""
    nothing = frozenset[str]()
    return Permissions(nothing, nothing, nothing, nothing, nothing, True, creator, version)
