"""The seam between policy engines and the rest of the proxy."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Protocol

from proxy.identity.principal import Principal


@dataclass(frozen=True, slots=True)
class Permissions:
    """What one principal may do with each class, a snapshot.

    Allowed to do X to a resource of classes C: `C & X` is not empty and `C & denied` is. The engines leave
    the classes of `denied` out of nothing: subtracting is the decision's work. `admin` passes all class
    checks. `policy` is the version of the policy that gave this answer, for the decision record.
    """

    read: frozenset[str]
    write: frozenset[str]
    delete: frozenset[str]
    grant: frozenset[str]
    denied: frozenset[str]
    admin: bool
    creator: bool
    policy: str


class Decisions(Protocol):
    """A policy engine. One contract suite runs on every implementation."""

    @property
    def hits(self) -> int:
        """How often permissions were known."""
        ...

    @property
    def misses(self) -> int:
        """How often they had to be found out."""
        ...

    async def permissions(self, principal: Principal, *, fresh: bool = False) -> Permissions:
        """The principal's permissions, at most 7 s old; `fresh` asks for none of that age.

        Raises `errors.Unavailable` when the engine is down, slow, or gives an answer that may be
        truncated; never answers with fewer denials than there are, nor with an empty set for a failure.
        """
        ...

    async def denying(self) -> frozenset[str]:
        """The classes that deny anyone at all (A5). Raises as `permissions`."""
        ...
