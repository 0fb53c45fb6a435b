"""From a principal to what decides for it, kept for as long as its permissions stay the same."""

from __future__ import annotations

from collections.abc import Callable

from proxy.decide import Caller
from proxy.gate import Sight
from proxy.identity.principal import Principal
from proxy.policy.protocol import Decisions, Permissions
from proxy.recent import Recent
from proxy.upstream.protocol import View

MAX_PRINCIPALS = 10_000


class PolicySights:
    """Sights by the policy. `defaults` gives the classes of what a principal creates without naming any."""

    def __init__(
        self,
        decisions: Decisions,
        defaults: Callable[[Principal], frozenset[str]],
        default_class: str | None,
    ) -> None:
        self._decisions = decisions
        self._defaults = defaults
        self._default_class = default_class
        self._kept: Recent[Principal, tuple[Permissions, Sight]] = Recent(MAX_PRINCIPALS)

    async def sight(self, principal: Principal, *, fresh: bool = False) -> Sight:
        """The principal's sight of now. Raises as `Decisions.permissions`."""
        permissions = await self._decisions.permissions(principal, fresh=fresh)
        kept = self._kept.get(principal)
        if kept is not None and kept[0] is permissions:
            return kept[1]
        caller = Caller(permissions, self._default_class, self._defaults(principal))
        sight = sight_of(caller)
        self._kept[principal] = (permissions, sight)
        return sight


def sight_of(caller: Caller) -> Sight:
    """The views that go with a caller."""
    held, default = caller.permissions, caller.default_class
    return Sight(
        caller,
        view=View(held.admin, held.read, held.denied, default),
        any=View(held.admin, held.read | held.write | held.delete, held.denied, default),
    )
